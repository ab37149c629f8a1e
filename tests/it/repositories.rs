//! Repositories that are renamed, transferred, deleted or removed from an App keep their pull
//! requests.

use serde_json::{Value, json};

use testkit::TestServer;
use testkit::payloads::{self, Account, Pr, World, objects};

const INSTALLATION: i64 = 51;

async fn post(server: &mut TestServer, event: &str, body: &Value) {
    let guid = format!(
        "{event}-{}-{}",
        body["action"].as_str().unwrap(),
        body.to_string().len()
    );
    let (status, answer) = server.post(event, &guid, body.to_string().as_bytes()).await;
    assert_eq!(
        (status, answer["status"].as_str()),
        (202, Some("accepted")),
        "{answer}"
    );
    server.drained().await;
}

/// Returns a pull request event that an installation sends.
fn opened(world: &World) -> Value {
    let author = Account::user(501, "mara");
    let pr = Pr::new(
        world,
        1,
        Some(&author),
        "Sort the queue",
        "sort-queue",
        "2026-03-02T09:00:00Z",
    );
    let mut event = payloads::pull_request_event(&pr, "opened", &author, json!({}));
    event["installation"] = json!({"id": INSTALLATION});
    event
}

/// Returns an event of the repository itself, whose dates are as old as the repository.
fn repository_event(world: &World, action: &str) -> Value {
    let sender = objects::account(Some(&Account::user(501, "mara")));
    json!({"action": action, "repository": objects::repository(world), "sender": sender})
}

/// Returns an event of the installation, which GitHub dates by its creation.
fn installation_event(action: &str, extra: &Value) -> Value {
    let account = objects::account(Some(&Account::organization(901, "acme-corp")));
    let installation = json!({"id": INSTALLATION, "account": account, "updated_at": 1_525_109_899});
    let mut event = json!({"action": action, "installation": installation});
    objects::extend(&mut event, extra.clone());
    event
}

async fn access(server: &TestServer, repo: &str) -> Value {
    server.get(&format!("/api/repos/{repo}/prs/1")).await.1["repo_access"].clone()
}

#[tokio::test]
async fn renamed_and_transferred_repository_is_the_same() {
    let mut server = TestServer::start().await;
    let mut world = World::acme();
    post(&mut server, "pull_request", &opened(&world)).await;
    world.repo = "backend".to_owned();
    post(
        &mut server,
        "repository",
        &repository_event(&world, "renamed"),
    )
    .await;
    assert_eq!(access(&server, "acme-corp/backend").await, "granted");

    world.owner = Account::organization(902, "umbrella");
    post(
        &mut server,
        "repository",
        &repository_event(&world, "transferred"),
    )
    .await;
    let (_, found) = server.get("/api/repos/umbrella/backend/prs/1").await;
    assert_eq!(
        (&found["repo"], &found["title"]),
        (&json!("umbrella/backend"), &json!("Sort the queue"))
    );

    // A late delivery from before does not restore the old name.
    let mut late = opened(&World::acme());
    late["action"] = json!("assigned");
    post(&mut server, "pull_request", &late).await;
    assert_eq!(access(&server, "umbrella/backend").await, "granted");

    // Its former names mean it everywhere, until another repository takes one.
    for name in ["acme-corp/api-server", "Acme-Corp/Backend"] {
        for path in [
            format!("/api/repos/{name}/prs/1"),
            format!("/api/prs?repo={name}"),
            format!("/api/metrics/cycle-time?repo={name}"),
            "/api/prs/1".to_owned(),
        ] {
            assert_eq!(server.get(&path).await.0, 200, "{path}");
        }
        let path = format!("/api/deliveries?event=pull_request&repo={name}");
        let deliveries = server.get(&path).await.1;
        assert_eq!(deliveries["items"].as_array().unwrap().len(), 2, "{name}");
    }
    let mut taken = World::acme();
    taken.repo_id += 1;
    post(&mut server, "pull_request", &opened(&taken)).await;
    let (_, other) = server.get("/api/repos/acme-corp/api-server/prs/1").await;
    assert_eq!(other["repo"], "acme-corp/api-server");
    assert_eq!(access(&server, "acme-corp/backend").await, "granted");
    server.stop().await;
}

#[tokio::test]
async fn former_name_is_known_from_the_renaming_alone() {
    let mut server = TestServer::start().await;
    let mut world = World::acme();
    (world.owner, world.repo) = (Account::organization(902, "umbrella"), "backend".to_owned());
    let mut renamed = repository_event(&world, "renamed");
    renamed["changes"] = json!({"repository": {"name": {"from": "api"}}});
    post(&mut server, "repository", &renamed).await;
    let mut moved = repository_event(&world, "transferred");
    let owner = objects::account(Some(&Account::organization(901, "acme-corp")));
    moved["changes"] = json!({"owner": {"from": {"organization": owner}}});
    post(&mut server, "repository", &moved).await;
    for name in ["umbrella/backend", "umbrella/api", "acme-corp/backend"] {
        let path = format!("/api/prs?repo={name}");
        assert_eq!(server.get(&path).await.0, 200, "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn deleted_repository_is_frozen() {
    let mut server = TestServer::start().await;
    let world = World::acme();
    post(&mut server, "pull_request", &opened(&world)).await;
    post(
        &mut server,
        "repository",
        &repository_event(&world, "privatized"),
    )
    .await;
    assert_eq!(access(&server, "acme-corp/api-server").await, "granted");
    post(
        &mut server,
        "repository",
        &repository_event(&world, "deleted"),
    )
    .await;
    assert_eq!(access(&server, "acme-corp/api-server").await, "deleted");
    assert_eq!(
        server.get("/api/prs").await.1["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    server.stop().await;
}

#[tokio::test]
async fn repository_of_a_deleted_installation_is_frozen() {
    let mut server = TestServer::start().await;
    let repo = "acme-corp/api-server";
    post(
        &mut server,
        "installation",
        &installation_event("suspend", &json!({})),
    )
    .await;
    post(&mut server, "pull_request", &opened(&World::acme())).await;
    assert_eq!(access(&server, repo).await, "revoked");
    server.stop().await;
}

#[tokio::test]
async fn repository_removed_from_an_installation_is_frozen() {
    let mut server = TestServer::start().await;
    let repo = "acme-corp/api-server";
    let listed = json!({"id": World::acme().repo_id, "full_name": repo, "private": false});
    let removed = installation_event(
        "removed",
        &json!({"repositories_removed": [listed], "repositories_added": []}),
    );
    post(&mut server, "pull_request", &opened(&World::acme())).await;
    assert_eq!(access(&server, repo).await, "granted");
    post(&mut server, "installation_repositories", &removed).await;
    assert_eq!(access(&server, repo).await, "revoked");
    server.stop().await;
}
