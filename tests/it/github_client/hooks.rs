//! The registration of webhooks: created where there is none, updated where there is one.

use serde_json::{Value, json};
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::hooks::{
    HookSecret, RepositoryInfo, RepositoryPermissions, WebhookRegistration,
};
use tallyhook_github_client::{Client, GithubError};

use super::fake;
use testkit::github::Fault;

const REPOSITORY: &str = "acme-corp/api-server";
const URL: &str = "https://tallyhook.example.com/webhooks/github";
const SECRET: &str = "carrot";

async fn register(client: &Client) -> Result<WebhookRegistration, GithubError> {
    client
        .register_webhook(
            REPOSITORY,
            URL,
            &HookSecret::first_of(SECRET).unwrap(),
            &["pull_request", "pull_request_review"],
        )
        .await
}

fn created(id: i64) -> Fault {
    Fault::answer(
        201,
        &[],
        &json!({"id": id, "config": {"url": URL, "secret": "********"}}).to_string(),
    )
}

#[tokio::test]
async fn webhook_is_created_where_none_posts_to_the_same_address() {
    let (github, client, _) = fake().await;
    github.add_hook(
        5,
        "repos/acme-corp/api-server",
        "https://ci.example.com/hook",
        "s",
    );
    github.next([Fault::None, created(6)]);
    let registered = register(&client).await.unwrap();
    assert!(
        matches!(&registered, WebhookRegistration::Created(hook) if hook.id == 6),
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
async fn existing_webhook_gets_the_events_and_the_secret() {
    let (github, client, _) = fake().await;
    github.add_hook(
        5,
        "repos/acme-corp/api-server",
        "https://ci.example.com/hook",
        "s",
    );
    github.add_hook(6, "repos/acme-corp/api-server", URL, "another");
    github.next([Fault::None, created(6)]);
    let registered = register(&client).await.unwrap();
    assert!(
        matches!(&registered, WebhookRegistration::Updated(hook) if hook.id == 6),
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
async fn webhook_that_may_have_been_created_is_not_created_twice() {
    let (github, client, _) = fake().await;
    github.next([Fault::None, Fault::status(502)]);
    let error = register(&client).await.unwrap_err();
    assert!(
        matches!(error, GithubError::Unknown { .. }) && !error.to_string().contains(SECRET),
        "{error}"
    );
    assert_eq!(github.asked().len(), 2);

    let scopes = [
        ("X-Accepted-OAuth-Scopes", "admin:repo_hook"),
        ("X-RateLimit-Remaining", "9"),
    ];
    github.next([Fault::message(403, &scopes, "Must have admin rights")]);
    let error = register(&client).await.unwrap_err().to_string();
    assert!(
        error.contains("the token or App needs one of the scopes admin:repo_hook"),
        "{error}"
    );

    let error = client
        .register_webhook(
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
async fn webhook_is_deleted() {
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
async fn repository_has_its_present_name_and_the_permissions_of_the_token() {
    let (github, client, _) = fake().await;
    let body = json!({
        "id": 7,
        "full_name": "acme/server",
        "private": true,
        "default_branch": "trunk",
        "archived": true,
        "permissions": {"admin": true, "pull": true},
    });
    github.next([Fault::answer(200, &[], &body.to_string())]);
    let permissions = Some(RepositoryPermissions { admin: true });
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
