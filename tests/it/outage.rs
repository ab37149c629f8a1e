//! Outages of GitHub: few log lines, a health that names it, and no state that outlasts them.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tallyhook::app::ServerOptions;
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::{Credentials, Token};
use tracing_subscriber::layer::SubscriberExt;

use crate::worker_log::LogBuffer;
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN};
use testkit::{Place, TestServer, config};

const REPOSITORIES: i64 = 20;
/// The interval of requests to the server.
const ASKED_AGAIN: Duration = Duration::from_millis(50);

/// Returns a fake GitHub with repositories, and a server that tracks and polls them.
async fn started() -> (FakeGithub, TestServer) {
    let github = FakeGithub::start().await;
    let place = Place::new().await;
    let mut config = config(&place);
    config.github_api_url = github.api();
    config.github_credentials = Token::parse(GITHUB_TOKEN).map(Credentials::Token);
    config.default_repository = None;
    config.sync.interval = Duration::from_secs(1);
    let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    let since = Utc::now() - TimeDelta::hours(2);
    for id in 1..=REPOSITORIES {
        let name = format!("acme-corp/repository-{id}");
        github.add_repository(id, &name);
        server.track(RepoId(id), &name, since).await;
    }
    (github, server)
}

/// Waits until the sync statuses of the repositories are as `expected`.
async fn statuses_are(server: &TestServer, expected: impl Fn(&[&str]) -> bool) -> Vec<Value> {
    let until = Instant::now() + testkit::PATIENCE;
    loop {
        let (_, repositories) = server.get("/api/repos").await;
        let items = repositories["items"].as_array().unwrap();
        let statuses = items
            .iter()
            .map(|item| item["sync_status"].as_str().unwrap());
        if expected(&statuses.collect::<Vec<_>>()) {
            return items.clone();
        }
        assert!(Instant::now() < until, "{items:#?}");
        tokio::time::sleep(ASKED_AGAIN).await;
    }
}

fn are_synced(statuses: &[&str]) -> bool {
    statuses.iter().all(|status| *status == "synced")
}

/// The round in which an outage begins may have polled some repositories before: these stay synced,
/// as of then.
fn are_in_outage(statuses: &[&str]) -> bool {
    statuses.contains(&"error") && !statuses.contains(&"syncing")
}

/// Waits until `/readyz` shows this state of GitHub.
async fn github_is(server: &TestServer, state: &str) -> (u16, Value) {
    let until = Instant::now() + testkit::PATIENCE;
    loop {
        let (status, ready) = server.get("/readyz").await;
        if ready["github"] == state {
            return (status, ready);
        }
        assert!(Instant::now() < until, "GitHub is not {state}: {ready}");
        tokio::time::sleep(ASKED_AGAIN).await;
    }
}

#[tokio::test]
async fn outage_of_github_is_named_logged_once_and_over_with_the_first_answer() {
    let (github, server) = started().await;
    statuses_are(&server, are_synced).await;
    assert_eq!(github_is(&server, "ok").await.1["status"], "ready");

    // The poller runs on this thread, whose log this is.
    let log = LogBuffer::default();
    let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
    let subscriber = tracing_subscriber::registry().with(layer.with_writer(log.clone()));
    let guard = tracing::subscriber::set_default(subscriber);
    github.disturb(1, 1.0, vec![Fault::status(503)]);
    github.asked();
    let (status, ready) = github_is(&server, "degraded").await;
    assert_eq!(
        (status, &ready["status"]),
        (200, &json!("degraded")),
        "{ready}"
    );
    assert_eq!(ready["reason"], "github_unavailable");
    let repositories = statuses_are(&server, are_in_outage).await;
    for error in repositories
        .iter()
        .filter_map(|repository| repository["last_error"].as_str())
    {
        assert!(error.contains("GitHub cannot be reached"), "{error}");
    }
    let at_outage = github.asked().len();

    github.calm();
    let calm = Instant::now();
    statuses_are(&server, are_synced).await;
    assert!(
        calm.elapsed() < Duration::from_secs(30),
        "{:?}",
        calm.elapsed()
    );
    let (status, ready) = github_is(&server, "ok").await;
    assert_eq!(
        (status, &ready["status"]),
        (200, &json!("ready")),
        "{ready}"
    );
    drop(guard);
    let lines: Vec<Value> = log
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let shown =
        |line: &&Value| ["WARN", "ERROR", "INFO"].contains(&line["level"].as_str().unwrap());
    let shown: Vec<_> = lines
        .iter()
        .filter(shown)
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(shown.len(), 2, "{shown:#?}");
    assert!(
        shown[0].starts_with("GitHub does not answer (it answers 503"),
        "{shown:#?}"
    );
    assert!(
        shown[1].starts_with("GitHub answers again after"),
        "{shown:#?}"
    );
    assert!(at_outage < 30, "{at_outage} requests");
    server.stop().await;
    github.stop().await;
}
