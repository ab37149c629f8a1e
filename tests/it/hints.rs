//! Hints for open pages over `/ws?hints=1`: from a change in this or another process to a frame.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tallyhook_store::{DEFAULT_TEAM, OpenMode, RunOptions};
use testkit::payloads::{self, Account, Pr, World};
use testkit::socket::{Socket, connect, frame, request, with_header, with_token};
use testkit::{TestServer, assert_refused, repo_id};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

const REPO: &str = "acme-corp/api-server";

async fn start() -> TestServer {
    let server = TestServer::start().await;
    server.track(repo_id(), REPO, DateTime::UNIX_EPOCH).await;
    server
}

async fn post(server: &TestServer, number: i64) {
    let mira = Account::user(900_000_101, "mira");
    let at = "2026-03-02T09:00:00Z";
    let pr = Pr::new(&World::acme(), number, Some(&mira), "Title", "branch", at);
    let body = payloads::pull_request_event(&pr, "opened", &mira, json!({}));
    let guid = uuid::Uuid::new_v4().to_string();
    let answer = server
        .post("pull_request", &guid, body.to_string().as_bytes())
        .await;
    assert_eq!(answer.0, 202);
}

/// Waits for a hint of this kind, repository and number.
async fn hint(socket: &mut Socket, of: &str, repo: Option<&str>, number: Option<i64>) {
    let wanted = (json!("hint"), json!(of), json!(repo), json!(number));
    let found = async {
        loop {
            let frame = frame(socket).await;
            let fields = ["type", "of", "repo", "number"].map(|name| frame[name].clone());
            let [kind, of, repo, number] = fields;
            if (kind, of, repo, number) == wanted {
                assert!(DateTime::parse_from_rfc3339(frame["at"].as_str().unwrap()).is_ok());
                return;
            }
        }
    };
    let found = timeout(Duration::from_secs(10), found).await;
    assert!(found.is_ok(), "no hint {wanted:?}");
}

#[tokio::test]
async fn each_webhook_becomes_a_hint() {
    let server = start().await;
    let mut socket = connect(&server, "?hints=1").await;
    for number in 1..=20 {
        post(&server, number).await;
        hint(&mut socket, "pr", Some(REPO), Some(number)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn change_of_another_process_becomes_a_hint() {
    let server = start().await;
    post(&server, 1).await;
    let mut socket = connect(&server, "?hints=1").await;
    // As a command beside the server, or as a worker elsewhere: with a database connection of its
    // own, and no word to this process.
    let other = tallyhook_store::open(&server.place.database_url, OpenMode::Shared);
    let other = other.await.unwrap();
    let options = RunOptions {
        days_back: 1,
        max_prs: 1,
        commits: false,
    };
    other
        .request_run(repo_id(), &options, Utc::now())
        .await
        .unwrap()
        .unwrap();
    hint(&mut socket, "sync_run", Some(REPO), None).await;
    let team = other.of_team(DEFAULT_TEAM.0);
    assert!(team.untrack(repo_id(), Utc::now()).await.unwrap());
    hint(&mut socket, "repo", Some(REPO), None).await;
    other.close().await;
    server.stop().await;
}

#[tokio::test]
async fn client_gets_hints_only_if_it_asks_and_only_of_its_repository() {
    let mut server = start().await;
    let mut without = connect(&server, "").await;
    let mut of_another = connect(&server, "?hints=1&repo=acme-corp/web").await;
    let mut all = connect(&server, "?hints=1").await;
    post(&server, 1).await;
    server.drained().await;
    let types = |frame: &Value| frame["type"].as_str().unwrap().to_owned();
    assert_eq!(types(&frame(&mut without).await), "pr_status_change");
    // Beside the notifications of before.
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        seen.insert(types(&frame(&mut all).await));
    }
    assert_eq!(
        seen,
        BTreeSet::from(["hint".to_owned(), "pr_status_change".to_owned()])
    );
    // That of the inbox is of no repository.
    let first = frame(&mut of_another).await;
    assert_eq!(
        (&first["of"], &first["repo"]),
        (&json!("inbox"), &Value::Null)
    );
    post(&server, 2).await;
    server.drained().await;
    assert_eq!(types(&frame(&mut without).await), "pr_status_change");
    server.stop().await;
}

#[tokio::test]
async fn client_that_was_away_gets_the_hints_since_or_is_to_ask_for_everything() {
    let mut server = start().await;
    post(&server, 1).await;
    server.drained().await;
    let since = |minutes| {
        let at = Utc::now() - TimeDelta::minutes(minutes);
        format!("?hints=1&since={}", at.format("%Y-%m-%dT%H:%M:%SZ"))
    };
    let mut recent = connect(&server, &since(1)).await;
    hint(&mut recent, "pr", Some(REPO), Some(1)).await;
    let mut old = connect(&server, &since(60)).await;
    let mut kinds = BTreeSet::new();
    while kinds.len() < 7 {
        let frame = frame(&mut old).await;
        assert_eq!(
            (&frame["repo"], &frame["number"]),
            (&Value::Null, &Value::Null)
        );
        kinds.insert(frame["of"].as_str().unwrap().to_owned());
    }
    server.stop().await;
}

#[tokio::test]
async fn hints_are_for_callers_and_pages_of_this_server() {
    let server = start().await;
    let refused = async |request| match tokio_tungstenite::connect_async(request).await {
        Err(tungstenite::Error::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            (
                answer.status().as_u16(),
                serde_json::from_slice(body).unwrap(),
            )
        }
        other => panic!("{other:?}"),
    };
    let of = |query: &str| request(&server, query);
    assert_refused(&refused(of("?hints=1")).await, 401, "unauthorized");
    assert_refused(
        &refused(with_token(of("?hints=2"))).await,
        400,
        "bad_request",
    );
    let foreign = with_header(
        with_token(of("?hints=1")),
        "origin",
        "https://evil.example.net",
    );
    assert_refused(&refused(foreign).await, 403, "forbidden");
    server.stop().await;
}
