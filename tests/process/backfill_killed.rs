//! `tallyhook backfill` is killed while it runs, and continues where it stopped when it is called
//! again. A server that runs beside it applies what it fetches.

#![cfg(feature = "crash-points")]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use testkit::github::growth::Growth;
use testkit::github::{FakeGithub, GITHUB_TOKEN};
use testkit::process::{self, Ended, tallyhook};
use testkit::{Place, TestServer};

const NAME: &str = "acme-corp/api-server";
/// Pull requests on four pages.
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

/// Runs a command to its end, while the servers of the test keep running.
async fn run(mut command: Command) -> Ended {
    tokio::task::spawn_blocking(move || process::run(&mut command))
        .await
        .unwrap()
}

/// Runs a command that must not end by itself.
async fn killed(mut command: Command) -> ExitStatus {
    let quiet = move || {
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
    };
    tokio::task::spawn_blocking(quiet).await.unwrap()
}

/// Returns the number of requests for each page, by its cursor.
fn pages(github: &FakeGithub) -> BTreeMap<String, u32> {
    let mut pages = BTreeMap::new();
    for request in github
        .requests()
        .into_iter()
        .filter(|request| request.path.ends_with("graphql"))
    {
        let variables = serde_json::from_str::<Value>(&request.body).unwrap()["variables"].take();
        // The closing pass requests smaller pages.
        if variables["first"] == 25 {
            *pages.entry(variables["after"].to_string()).or_default() += 1;
        }
    }
    pages
}

/// Asserts that every pull request is stored and applied, by comparison with a server that fetched
/// them itself.
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
async fn backfill_killed_before_a_page_is_stored_fetches_only_that_page_again() {
    let (github, mut server) = (grown().await, TestServer::start().await);
    let mut command = backfill(&server.place, &github, &[]);
    command.env("TALLYHOOK_CRASH_AT", "backfill.page_stored:2");
    assert_eq!(killed(command).await.signal(), Some(SIGABRT));

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
async fn backfill_killed_while_it_waits_for_a_page_continues_with_that_page() {
    let (github, mut server) = (grown().await, TestServer::start().await);
    // The repository, two pages, and the page that it is killed at.
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
