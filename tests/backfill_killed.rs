//! `tallyhook backfill` is ended in the midst of it, and goes on where it stopped when it is called again. The server
//! that runs beside it applies what it fetches.

#![cfg(feature = "crash-points")]

#[path = "support/github/mod.rs"]
mod github;
#[path = "support/process.rs"]
mod process;
mod support;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use github::growth::Growth;
use github::{FakeGithub, GITHUB_TOKEN};
use process::{Ended, tallyhook};
use support::{Place, TestServer};

const NAME: &str = "acme-corp/api-server";
/// Four pages of the walk.
const PULLS: usize = 100;
const SIGKILL: i32 = 9;
const SIGABRT: i32 = 6;

async fn grown() -> FakeGithub {
    let github = FakeGithub::start().await;
    github.add_repository(7, NAME);
    let until = (Utc::now() - TimeDelta::hours(1)).into();
    github.world(|world| {
        world.grow(
            NAME,
            Growth {
                seed: 11,
                pulls: PULLS,
                ties: true,
                until,
            },
        )
    });
    github
}

fn backfill(place: &Place, github: &FakeGithub, arguments: &[&str]) -> Command {
    let mut command = tallyhook(place.path(), &[&["backfill", NAME], arguments].concat());
    command
        .env("GITHUB_TOKEN", GITHUB_TOKEN)
        .env("GITHUB_API_URL", &github.url);
    command
}

/// Runs a command to its end, while the servers of the test go on.
async fn run(mut command: Command) -> Ended {
    tokio::task::spawn_blocking(move || process::run(&mut command))
        .await
        .unwrap()
}

/// The same of one that is not to come to its end by itself.
async fn broken_off(mut command: Command) -> ExitStatus {
    let quiet = move || {
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
    };
    tokio::task::spawn_blocking(quiet).await.unwrap()
}

/// How often each page of the walk was asked for, by its cursor.
fn pages(github: &FakeGithub) -> BTreeMap<String, u32> {
    let mut pages = BTreeMap::new();
    for request in github
        .requests()
        .into_iter()
        .filter(|request| request.path.ends_with("graphql"))
    {
        let variables = serde_json::from_str::<Value>(&request.body).unwrap()["variables"].take();
        // The closing pass asks for fewer.
        if variables["first"] == 25 {
            *pages.entry(variables["after"].to_string()).or_default() += 1;
        }
    }
    pages
}

/// Everything is there and applied, as a server tells that fetched it by itself.
async fn assert_whole(server: &mut TestServer, github: &FakeGithub) {
    server.drained().await;
    let (_, list) = server.get("/api/prs?per_page=100").await;
    let mut there: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["number"].as_i64(), one["title"].clone()))
        .collect();
    there.sort_by_key(|(number, _)| *number);
    let expected: Vec<_> = github.world(|world| {
        let pulls = world.repository(NAME).pulls.values();
        pulls
            .map(|pull| (Some(pull.pr.number), json!(pull.pr.title)))
            .collect()
    });
    assert_eq!(there, expected);
    let (_, run) = server.get("/api/sync-runs").await;
    assert_eq!(
        (
            run["items"].as_array().unwrap().len(),
            &run["items"][0]["state"]
        ),
        (1, &json!("done"))
    );
}

#[tokio::test]
async fn ended_before_a_page_is_written_down_it_fetches_that_page_again_and_no_other() {
    let (github, mut server) = (grown().await, TestServer::start().await);
    let mut command = backfill(&server.place, &github, &[]);
    command.env("TALLYHOOK_CRASH_AT", "backfill.page_stored:2");
    assert_eq!(broken_off(command).await.signal(), Some(SIGABRT));

    let ended = run(backfill(&server.place, &github, &["--json"])).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let told =
        ["repo", "state", "prs_done", "errors", "complete_since"].map(|name| report[name].clone());
    assert_eq!(
        told,
        [
            json!(NAME),
            json!("done"),
            json!(PULLS),
            json!([]),
            json!("1970-01-01T00:00:00Z")
        ]
    );
    let mut twice: Vec<_> = pages(&github).into_values().collect();
    twice.sort_unstable();
    assert_eq!(twice, [1, 1, 1, 2]);
    assert_whole(&mut server, &github).await;
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn killed_while_it_waits_for_a_page_it_goes_on_with_that_page() {
    let (github, mut server) = (grown().await, TestServer::start().await);
    // The repository, two pages, and the one that it is killed over.
    let (arrived, arrival) = channel();
    let (killed, killing) = channel();
    github.between(4, move |_| {
        arrived.send(()).unwrap();
        killing.recv().unwrap();
    });
    let mut command = backfill(&server.place, &github, &[]);
    let status = tokio::task::spawn_blocking(move || {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        arrival.recv().unwrap();
        child.kill().unwrap();
        let status = child.wait().unwrap();
        killed.send(()).unwrap();
        status
    });
    assert_eq!(status.await.unwrap().signal(), Some(SIGKILL));

    let ended = run(backfill(&server.place, &github, &[])).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for words in [
        NAME,
        "pull requests",
        "100",
        "its beginning",
        "could not be fetched",
    ] {
        assert!(
            ended.stdout.contains(words),
            "no `{words}` in\n{}",
            ended.stdout
        );
    }
    let mut twice: Vec<_> = pages(&github).into_values().collect();
    twice.sort_unstable();
    assert_eq!(twice, [1, 1, 1, 2]);
    assert_whole(&mut server, &github).await;
    server.stop().await;
    github.stop().await;
}
