//! The record of requests to GitHub: one row each, also for those that fail.

use reqwest::Method;
use serde_json::json;
use tallyhook::app::{RoleSet, ServerOptions};
use tallyhook_github_client::{Credentials, Token};
use tallyhook_store::{AuditScope, CallFilter, CallOutcome, OpenMode};
use testkit::github::{FakeGithub, GITHUB_TOKEN};
use testkit::{Place, TestServer};

const ALL: CallFilter = CallFilter {
    scope: AuditScope::All,
    from: None,
    to: None,
    actor: None,
    action: None,
};

#[tokio::test]
async fn rows_are_the_requests_that_github_got() {
    let github = FakeGithub::start().await;
    for id in 0..20 {
        github.add_repository(100 + id, &format!("acme-corp/repo-{id}"));
    }
    let place = Place::new().await;
    let mut config = testkit::config(&place);
    config.github_api_url = github.api();
    config.github_credentials = Token::parse(GITHUB_TOKEN).map(Credentials::Token);
    let roles = RoleSet {
        poller: false,
        ..RoleSet::ALL
    };
    let options = ServerOptions {
        roles,
        ..ServerOptions::default()
    };
    let server = TestServer::start_as(&config, place, options).await;
    for id in 0..25 {
        // The last five are not there.
        let body = json!({"repo": format!("acme-corp/repo-{id}")});
        let (status, answer) = server.ask(Method::POST, "/api/repos", &body).await;
        assert_eq!(status, if id < 20 { 201 } else { 404 }, "{answer}");
    }
    let url = server.place.database_url.clone();
    let _place = server.stop().await;
    let store = tallyhook_store::open(&url, OpenMode::Exclusive)
        .await
        .unwrap();
    let rows = store.github_calls(&ALL, None, 1000).await.unwrap();
    assert_eq!(rows.len(), github.requests().len());
    assert!(rows.len() >= 25, "{}", rows.len());
    let of_api = rows.iter().filter(|row| row.call.actor == "api");
    assert!(of_api.clone().count() >= 25);
    assert!(
        of_api
            .clone()
            .all(|row| row.end.outcome == CallOutcome::Done)
    );
    let missing = of_api.filter(|row| row.end.status == Some(404));
    assert!(missing.count() >= 5);
    store.close().await;
}
