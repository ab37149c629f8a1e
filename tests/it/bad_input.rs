//! Failures of GitHub are reported in one clear line, by the commands and for the repository, and
//! other repositories are not affected.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use chrono::{TimeDelta, Utc};
use serde_json::Value;
use tallyhook::sync::fetch::observed_repository;
use tallyhook::sync::poller::Poller;
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::VirtualTime;
use tallyhook_store::{RunOptions, RunState, SyncStatus};

use testkit::github::app::{APP_ID, private_key};
use testkit::github::growth::Growth;
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN, Rights};
use testkit::process::{self, Ended, tallyhook};
use testkit::{Place, TestServer, config};

/// In the order of reports; the last one belongs to another owner.
const NAMES: [&str; 3] = ["acme-corp/api-server", "acme-corp/site", "umbrella/backend"];
const PULLS: usize = 30;

/// Returns a fake GitHub with these repositories, all private, and a server without a token that
/// tracks them.
async fn tracked() -> (FakeGithub, TestServer) {
    let (github, server) = (FakeGithub::start().await, TestServer::start().await);
    let until = (Utc::now() - TimeDelta::hours(1)).into();
    for (id, name) in (1..).zip(NAMES) {
        github.add_repository(id, name);
        github.world(|world| {
            world.repository(name).place.private = true;
            world.grow(
                name,
                Growth {
                    seed: id.unsigned_abs(),
                    pulls: PULLS,
                    ties: false,
                    until,
                },
            );
        });
        // From before the first of its pull requests on.
        let since = Utc::now() - TimeDelta::days(61);
        server
            .running
            .store
            .track(
                &observed_repository(RepoId(id), name.to_owned(), Some(true)),
                since,
            )
            .await
            .unwrap();
    }
    (github, server)
}

fn command(place: &Place, github: &FakeGithub, arguments: &[&str]) -> Command {
    let mut command = tallyhook(place.path(), arguments);
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

async fn backfill(server: &TestServer, github: &FakeGithub, repo: &str) -> Ended {
    run(command(&server.place, github, &["backfill", repo])).await
}

/// Returns the reported error of each repository, if there is one.
async fn errors(server: &TestServer) -> [Option<String>; 3] {
    let tracked = server.running.store.tracked().await.unwrap();
    assert_eq!(
        tracked
            .iter()
            .map(|repository| repository.name.as_str())
            .collect::<Vec<_>>(),
        NAMES
    );
    for repository in &tracked {
        assert_eq!(
            repository.sync_status == SyncStatus::Error,
            repository.last_error.is_some(),
            "{repository:?}"
        );
        assert!(
            repository
                .last_error
                .as_ref()
                .is_none_or(|error| !error.contains('\n')),
            "{repository:?}"
        );
    }
    tracked
        .into_iter()
        .map(|repository| repository.last_error)
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

/// Asserts that only the repository at this place has an error, and that it contains each of these
/// words.
#[track_caller]
fn assert_only(errors: &[Option<String>; 3], place: usize, words: &[&str]) {
    for (other, error) in errors.iter().enumerate() {
        match error {
            Some(error) if other == place => {
                assert!(words.iter().all(|word| error.contains(word)), "{error}")
            }
            None if other != place => {}
            unexpected => panic!("{}: {unexpected:?}", NAMES[other]),
        }
    }
}

#[tokio::test]
async fn invalid_arguments_are_reported_before_any_request() {
    let (github, server) = tracked().await;
    for wrong in [
        "acme-corp",
        "acme-corp/../x",
        "a/b/c",
        "/x",
        "x/",
        "acme-corp/a b",
        "https://github.com/a/b",
    ] {
        backfill(&server, &github, wrong)
            .await
            .failed(2, &["OWNER/REPO", wrong]);
    }
    for arguments in [&["backfill", NAMES[0]][..], &["poll", "--once"]] {
        let mut without = command(&server.place, &github, arguments);
        without.env_remove("GITHUB_TOKEN");
        run(without).await.failed(
            2,
            &[
                "GITHUB_TOKEN is not set",
                "to read pull requests",
                "GITHUB_APP_ID",
            ],
        );
    }
    assert_eq!(github.requests(), []);
    assert_eq!(errors(&server).await, [const { None }; 3]);
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn backfill_of_a_missing_or_private_repository_says_so() {
    let (github, server) = tracked().await;
    backfill(&server, &github, "acme-corp/none")
        .await
        .failed(1, &["acme-corp/none", "may not see it"]);
    assert_eq!(errors(&server).await, [const { None }; 3]);

    // Without access, a private repository looks like a missing one.
    github.give(GITHUB_TOKEN, Rights::Public);
    backfill(&server, &github, NAMES[1])
        .await
        .failed(1, &[NAMES[1], "may not see it"]);
    assert_only(&errors(&server).await, 1, &[NAMES[1], "may not see it"]);
    github.give(GITHUB_TOKEN, Rights::Read);
    assert_eq!(backfill(&server, &github, NAMES[1]).await.code, Some(0));
    assert_eq!(errors(&server).await, [const { None }; 3]);

    github.revoke(GITHUB_TOKEN);
    backfill(&server, &github, NAMES[2])
        .await
        .failed(1, &["Bad credentials", "GITHUB_TOKEN"]);
    assert_only(
        &errors(&server).await,
        2,
        &["Bad credentials", "GITHUB_TOKEN"],
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn token_revoked_during_a_backfill_ends_it_and_another_token_continues_it() {
    let (github, server) = tracked().await;
    // The repository, a page, and then the revocation.
    github.next([
        Fault::None,
        Fault::None,
        Fault::message(401, &[], "Bad credentials"),
    ]);
    let ended = run(command(
        &server.place,
        &github,
        &["backfill", NAMES[0], "--json"],
    ))
    .await;
    ended.failed_after_output(1, &["Bad credentials", "GITHUB_TOKEN"]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (report["state"].as_str(), report["prs_done"].as_u64()),
        (Some("failed"), Some(25))
    );
    assert_only(
        &errors(&server).await,
        0,
        &["Bad credentials", "GITHUB_TOKEN"],
    );

    github.requests();
    assert_eq!(backfill(&server, &github, NAMES[0]).await.code, Some(0));
    assert_eq!(
        github.requests().len(),
        3,
        "the repository, the page that was left, and the closing pass"
    );
    assert_eq!(errors(&server).await, [const { None }; 3]);
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn round_names_the_failed_repository_and_fetches_the_others() {
    let (github, mut server) = tracked().await;
    github.world(|world| {
        world
            .repositories
            .retain(|repository| repository.place.full_name() != NAMES[1])
    });
    let ended = run(command(
        &server.place,
        &github,
        &["poll", "--once", "--json"],
    ))
    .await;
    ended.failed_after_output(1, &[NAMES[1], "may not see it"]);
    let round: Value = serde_json::from_str(&ended.stdout).unwrap();
    let told = round["repositories"].as_array().unwrap().iter();
    let told: Vec<_> = told
        .map(|polled| {
            (
                polled["fetched"].as_u64().unwrap(),
                polled["error"].is_string(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [(PULLS as u64, false), (0, true), (PULLS as u64, false)]
    );
    assert_only(&errors(&server).await, 1, &[NAMES[1], "may not see it"]);
    server.drained().await;
    assert_eq!(
        server.get("/api/prs?per_page=100").await.1["items"]
            .as_array()
            .unwrap()
            .len(),
        2 * PULLS
    );

    let table = run(command(&server.place, &github, &["poll", "--once"])).await;
    table.failed_after_output(1, &[NAMES[1], "may not see it"]);
    assert!(
        NAMES.iter().all(|name| table.stdout.contains(name)),
        "{}",
        table.stdout
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn missing_default_repository_fails_the_command_which_lists_the_others() {
    let (github, server) = tracked().await;
    let mut poll = command(&server.place, &github, &["poll", "--once"]);
    poll.env("GITHUB_REPO_OWNER", "acme-corp")
        .env("GITHUB_REPO_NAME", "none");
    let ended = run(poll).await;
    ended.failed_after_output(1, &["acme-corp/none", "may not see it"]);
    assert!(
        NAMES.iter().all(|name| ended.stdout.contains(name)),
        "{}",
        ended.stdout
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn token_revoked_during_a_round_is_reported_for_the_remaining_repositories() {
    let (github, server) = tracked().await;
    let mut settings = config(&server.place).sync;
    settings.max_concurrent = 1;
    let (client, store) = (github.client().0, server.running.store.clone());
    let poller = Poller {
        client,
        store,
        settings,
        default_repository: None,
    };
    // A list and three batches for each of two repositories.
    let refused = Fault::message(401, &[], "Bad credentials");
    github.next(std::iter::repeat_n(Fault::None, 8).chain([refused]));
    let round = poller.round(false).await.unwrap();
    let fetched: Vec<_> = round
        .repositories
        .iter()
        .map(|polled| polled.fetched)
        .collect();
    assert_eq!(fetched, [PULLS as u64, PULLS as u64, 0]);
    assert_only(
        &errors(&server).await,
        2,
        &["Bad credentials", "GITHUB_TOKEN"],
    );
    assert_eq!(
        poller.round(false).await.unwrap().repositories[2].fetched,
        PULLS as u64
    );
    assert_eq!(errors(&server).await, [const { None }; 3]);
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn failure_of_an_app_is_reported_where_it_applies() {
    let (github, server) = tracked().await;
    let as_app = |arguments: &[&str]| {
        let mut command = command(&server.place, &github, arguments);
        command
            .env_remove("GITHUB_TOKEN")
            .env("GITHUB_APP_ID", APP_ID);
        command.env("GITHUB_APP_PRIVATE_KEY", private_key().replace('\n', "\\n"));
        run(command)
    };
    github.add_app(&VirtualTime::starting_at(
        Utc::now() + TimeDelta::minutes(20),
    ));
    github.install("acme-corp", 9);
    let clock = ["'exp'", "check this machine's clock", "behind GitHub's"];
    as_app(&["backfill", NAMES[0]]).await.failed(1, &clock);
    assert_only(&errors(&server).await, 0, &clock);
    as_app(&["poll", "--once"])
        .await
        .failed_after_output(1, &[&clock[..], &["and 2 more failed"]].concat());
    assert!(
        errors(&server)
            .await
            .iter()
            .all(|error| error.as_ref().is_some_and(|error| error.contains(clock[1])))
    );

    // With the right clock it has access to one of the owners.
    github.add_app(&VirtualTime::starting_at(Utc::now()));
    github.install("acme-corp", 9);
    as_app(&["backfill", NAMES[2]])
        .await
        .failed(1, &["not installed on umbrella/backend"]);
    as_app(&["poll", "--once"])
        .await
        .failed_after_output(1, &["not installed on umbrella/backend"]);
    assert_only(
        &errors(&server).await,
        2,
        &["not installed on umbrella/backend", "install it there"],
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn backfill_waits_for_the_process_that_holds_the_lease() {
    let (github, server) = tracked().await;
    let (store, now) = (&server.running.store, Utc::now());
    let others = RunOptions {
        days_back: 7,
        max_prs: 9,
        commits: false,
    };
    store
        .request_run(RepoId(1), &others, now)
        .await
        .unwrap()
        .unwrap();
    let mut run = store
        .claim_run(None, now, now + TimeDelta::hours(1))
        .await
        .unwrap()
        .unwrap();
    let mut command = command(&server.place, &github, &["backfill", NAMES[0], "--json"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(child.stderr.take().unwrap());
    let waiting = tokio::task::spawn_blocking(move || {
        let mut told = told.lines().map(Result::unwrap);
        let before = told
            .by_ref()
            .take_while(|line| !line.contains("waiting for it"))
            .collect::<Vec<_>>();
        (before, told)
    });
    let (before, rest) = waiting.await.unwrap();
    assert!(
        before.len() == 1
            && before[0].contains("unfinished backfill continues")
            && before[0].contains('7'),
        "{before:?}"
    );
    (run.state, run.prs_done, run.complete_since) = (RunState::Done, 9, Some(now.into()));
    assert!(store.save_run(&run, now, now).await.unwrap());
    let ended = tokio::task::spawn_blocking(move || {
        (rest.collect::<Vec<_>>(), child.wait_with_output().unwrap())
    });
    let (rest, output) = ended.await.unwrap();
    assert!(output.status.success() && rest.is_empty(), "{rest:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["state"], &report["prs_done"]),
        (&Value::from("done"), &Value::from(9))
    );
    server.stop().await;
    github.stop().await;
}
