//! The page of the installation's health, and the doctor's.

use serde_json::Value;
use tallyhook_store::AccessRole;
use testkit::{TOKEN, TestServer, assert_refused};

use super::bearer::{assert_has, form_as, page, page_as};

#[tokio::test]
async fn health_says_what_works_and_what_piles_up() {
    let mut server = TestServer::start().await;
    for fixture in testkit::fixtures().iter().take(5) {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server
        .post("pull_request", "dead", br#"{"action":"opened"}"#)
        .await;
    server.drained().await;
    let (status, health) = server.get("/api/health").await;
    assert_eq!((status, &health["status"]), (200, &Value::from("ready")));
    let inbox = &health["inbox"];
    assert_eq!((&inbox["dead"], &inbox["accepted"]), (&1.into(), &0.into()));
    let (p50, p99) = (&inbox["lag_p50_seconds"], &inbox["lag_p99_seconds"]);
    assert!(p50.as_f64().unwrap() <= p99.as_f64().unwrap() && inbox["lag_n"].as_u64() > Some(0));
    assert!(
        health["database"]["bytes"].as_u64() > Some(10_000),
        "{health}"
    );
    assert_eq!(health["sync"]["backfills"]["goal"], 0.95);
    let shown = page(&server, "/health").await;
    assert_has(
        &shown,
        &[
            "It works.",
            "99 % within",
            "there is no access to GitHub",
            "Run doctor",
        ],
    );
    let admin = server.create_token("admin", AccessRole::Member).await;
    for path in ["/health", "/api/health"] {
        assert_eq!(page_as(&server, &admin, path).await.0, 403, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn doctor_of_a_server_names_each_check_with_its_advice_and_no_secret() {
    let server = TestServer::start().await;
    let (status, _, shown) = form_as(&server, TOKEN, "/health/doctor", &[]).await;
    assert_eq!(status, 200, "{shown}");
    let (status, report) = server
        .ask(reqwest::Method::POST, "/api/doctor", &Value::Null)
        .await;
    assert_eq!(status, 200, "{report}");
    let items = report["items"].as_array().unwrap();
    let checks: Vec<_> = items
        .iter()
        .map(|item| item["check"].as_str().unwrap())
        .collect();
    for check in [
        "settings", "database", "inbox", "broker", "channel", "GitHub",
    ] {
        assert!(
            checks.contains(&check) && shown.contains(check),
            "{check}: {report}"
        );
    }
    for item in items {
        assert_eq!(item["state"] == "ok", item["advice"] == "", "{item}");
    }
    let count = |state: &str| items.iter().filter(|item| item["state"] == state).count();
    assert_eq!(report["wrong"], count("wrong"));
    assert_eq!(report["warnings"], count("warning"));
    for text in [shown, report.to_string()] {
        assert!(
            !text.contains(TOKEN) && !text.contains(testkit::SECRET),
            "{text}"
        );
    }
    let member = server.create_token("member", AccessRole::Member).await;
    let request = server
        .http
        .post(format!("{}/api/doctor", server.url))
        .bearer_auth(member);
    let answer = request.send().await.unwrap();
    let refused = (answer.status().as_u16(), answer.json().await.unwrap());
    assert_refused(&refused, 403, "forbidden");
    server.stop().await;
}
