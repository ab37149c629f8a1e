//! The report views for readers of SQL: their columns, their documentation, and that their numbers
//! are those of the API.

mod columns;
mod one_truth;
mod queries;

use serde_json::{Value, json};
use testkit::TestServer;
use testkit::payloads::{Account, Pr, Review, World, pull_request_event, review_event};

/// Returns a server with the fixtures and with what they lack: a pull request upon another open one,
/// a stub, one whose times cannot be, and a merged one of an agent.
async fn with_facts() -> TestServer {
    let mut server = TestServer::start().await;
    for fixture in testkit::fixtures() {
        let (status, answer) = server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
        assert!(status == 202 || status == 200, "{answer}");
    }
    let (rosa, sven) = (
        Account::user(911, "rosa-acme"),
        Account::user(912, "sven-acme"),
    );
    let created = "2026-03-16T09:00:00Z";
    for (number, head, base) in [(901, "below", "main"), (902, "above", "below")] {
        let mut pr = pull_request(number, head, &rosa);
        base.clone_into(&mut pr.base_ref);
        send(
            &server,
            &pull_request_event(&pr, "opened", &rosa, json!({})),
        )
        .await;
        pr.touch("2026-03-16T10:00:00Z");
        send(&server, &approval(&pr, &sven, "2026-03-16T10:00:00Z")).await;
    }
    let mut stub = pull_request(903, "stub", &rosa);
    stub.merge(&rosa, "2026-03-17T09:00:00Z");
    send(&server, &approval(&stub, &sven, "2026-03-16T11:00:00Z")).await;
    let mut impossible = pull_request(904, "impossible", &rosa);
    impossible.merge(&rosa, created);
    impossible.created_at = "2026-03-18T09:00:00Z".to_owned();
    impossible.touch("2026-03-18T09:00:00Z");
    send(
        &server,
        &pull_request_event(&impossible, "closed", &rosa, json!({})),
    )
    .await;
    let mut of_agent = pull_request(905, "codex/fix", &rosa);
    of_agent.merge(&rosa, "2026-03-16T15:00:00Z");
    send(
        &server,
        &pull_request_event(&of_agent, "closed", &rosa, json!({})),
    )
    .await;
    server.drained().await;
    server
}

fn pull_request(number: i64, head: &str, author: &Account) -> Pr {
    let created = "2026-03-16T09:00:00Z";
    Pr::new(
        &World::acme(),
        number,
        Some(author),
        "Change",
        head,
        created,
    )
}

fn approval(pr: &Pr, reviewer: &Account, at: &str) -> Value {
    let review = Review {
        id: 7000 + pr.number,
        reviewer: Some(reviewer.clone()),
        state: "approved".to_owned(),
        body: None,
        commit_id: pr.head_sha.clone(),
        submitted_at: at.to_owned(),
    };
    review_event(pr, "submitted", &review, reviewer)
}

async fn send(server: &TestServer, payload: &Value) {
    let event = match payload.get("review") {
        Some(_) => "pull_request_review",
        None => "pull_request",
    };
    let guid = format!(
        "{}-{}",
        payload["pull_request"]["number"], payload["action"]
    );
    let body = payload.to_string().into_bytes();
    let (status, answer) = server.post(event, &guid, &body).await;
    assert_eq!(status, 202, "{answer}");
}

/// Returns the rows of a query in PostgreSQL's words, from the database of the server.
async fn report(server: &TestServer, sql: &str) -> Vec<Value> {
    testkit::database::report_rows(&server.place.database_url, sql).await
}

async fn ask(server: &TestServer, path: &str) -> Value {
    let (status, answer) = server.get(&format!("/api/{path}")).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}
