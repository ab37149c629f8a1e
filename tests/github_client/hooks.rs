//! Webhooks that are made where there is none, and mended where there is one.

use serde_json::{Value, json};
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::hooks::{HookSecret, Permissions, Registered, RepositoryInfo};
use tallyhook_github_client::{Client, GithubError};

use crate::fake;
use crate::github::Fault;

const REPOSITORY: &str = "acme-corp/api-server";
const URL: &str = "https://tallyhook.example.com/webhooks/github";
const SECRET: &str = "carrot";

async fn create(client: &Client) -> Result<Registered, GithubError> {
    client
        .create_hook(
            REPOSITORY,
            URL,
            &HookSecret::first_of(SECRET).unwrap(),
            &["pull_request", "pull_request_review"],
        )
        .await
}

fn made(id: i64) -> Fault {
    Fault::answer(
        201,
        &[],
        &json!({"id": id, "config": {"url": URL, "secret": "********"}}).to_string(),
    )
}

#[tokio::test]
async fn a_webhook_is_made_where_none_posts_to_the_same_address() {
    let (github, client, _) = fake().await;
    github.add_hook(
        5,
        "repos/acme-corp/api-server",
        "https://ci.example.com/hook",
        "s",
    );
    github.next([Fault::None, made(6)]);
    let registered = create(&client).await.unwrap();
    assert!(
        matches!(&registered, Registered::Made(hook) if hook.id == 6),
        "{registered:?}"
    );
    let requests = github.requests();
    assert_eq!(
        (requests[1].method.as_str(), requests[1].path.as_str()),
        ("POST", "/repos/acme-corp/api-server/hooks")
    );
    let sent: Value = serde_json::from_str(&requests[1].body).unwrap();
    let config = json!({"url": URL, "content_type": "json", "secret": SECRET, "insecure_ssl": "0"});
    let events = ["pull_request", "pull_request_review"];
    assert_eq!(
        sent,
        json!({"name": "web", "active": true, "events": events, "config": config})
    );
    github.stop().await;
}

#[tokio::test]
async fn one_that_is_there_gets_the_events_and_the_secret() {
    let (github, client, _) = fake().await;
    github.add_hook(
        5,
        "repos/acme-corp/api-server",
        "https://ci.example.com/hook",
        "s",
    );
    github.add_hook(6, "repos/acme-corp/api-server", URL, "another");
    github.next([Fault::None, made(6)]);
    let registered = create(&client).await.unwrap();
    assert!(
        matches!(&registered, Registered::Mended(hook) if hook.id == 6),
        "{registered:?}"
    );
    let requests = github.requests();
    assert_eq!(
        (requests[1].method.as_str(), requests[1].path.as_str()),
        ("PATCH", "/repos/acme-corp/api-server/hooks/6")
    );
    let sent: Value = serde_json::from_str(&requests[1].body).unwrap();
    assert_eq!(
        (
            &sent["config"]["secret"],
            &sent["events"][0],
            &sent["active"]
        ),
        (&json!(SECRET), &json!("pull_request"), &json!(true))
    );
    github.stop().await;
}

#[tokio::test]
async fn a_webhook_that_may_have_been_made_is_not_made_twice() {
    let (github, client, _) = fake().await;
    github.next([Fault::None, Fault::status(502)]);
    let error = create(&client).await.unwrap_err();
    assert!(
        matches!(error, GithubError::Unreachable { .. }) && !error.to_string().contains(SECRET),
        "{error}"
    );
    assert_eq!(github.asked().len(), 2);

    let needed = [
        ("X-Accepted-OAuth-Scopes", "admin:repo_hook"),
        ("X-RateLimit-Remaining", "9"),
    ];
    github.next([Fault::message(403, &needed, "Must have admin rights")]);
    let error = create(&client).await.unwrap_err().to_string();
    assert!(
        error.contains("the token or App needs one of the scopes admin:repo_hook"),
        "{error}"
    );

    let error = client
        .create_hook(
            "acme-corp/../x",
            URL,
            &HookSecret::first_of(SECRET).unwrap(),
            &[],
        )
        .await
        .unwrap_err();
    assert!(matches!(error, GithubError::NotFound { .. }), "{error}");
    assert_eq!(github.asked().len(), 1);
    github.stop().await;
}

#[tokio::test]
async fn a_webhook_is_deleted() {
    let (github, client, _) = fake().await;
    github.next([Fault::answer(204, &[], "")]);
    client
        .delete("/repos/acme-corp/api-server/hooks/6")
        .await
        .unwrap();
    assert_eq!(
        github.asked(),
        ["DELETE /repos/acme-corp/api-server/hooks/6"]
    );
    github.stop().await;
}

#[tokio::test]
async fn a_repository_tells_its_name_of_today_and_what_one_may_do() {
    let (github, client, _) = fake().await;
    let told = json!({"id": 7, "full_name": "acme/server", "private": true, "default_branch": "trunk", "archived": true, "permissions": {"admin": true, "pull": true}});
    github.next([Fault::answer(200, &[], &told.to_string())]);
    let permissions = Some(Permissions { admin: true });
    let expected = RepositoryInfo {
        id: RepoId(7),
        full_name: "acme/server".to_owned(),
        private: true,
        default_branch: "trunk".to_owned(),
        archived: true,
        permissions,
    };
    assert_eq!(client.repository(REPOSITORY).await.unwrap(), expected);
    assert_eq!(github.asked(), ["GET /repos/acme-corp/api-server"]);
    assert!(matches!(
        client.repository("acme").await,
        Err(GithubError::NotFound { .. })
    ));
    github.stop().await;
}
