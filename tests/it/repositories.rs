//! Repositories that are renamed, transferred, deleted or removed from an App keep their pull
//! requests.

use chrono::{SecondsFormat, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use testkit::payloads::{self, Account, Pr, World, objects};
use testkit::{TestServer, assert_refused};

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

/// A repository of an installation of its own.
#[derive(Clone, Copy)]
struct Installed(i64);

impl Installed {
    fn world(self) -> World {
        World {
            repo: format!("server-{}", self.0),
            repo_id: 7_000 + self.0,
            ..World::acme()
        }
    }

    /// Returns an event of its installation as GitHub shows it so many minutes ago.
    fn event(self, action: &str, minutes: i64) -> (&'static str, Value) {
        let at =
            (Utc::now() - TimeDelta::minutes(minutes)).to_rfc3339_opts(SecondsFormat::Secs, true);
        let is_suspended = action == "suspend";
        let installation = json!({
            "id": INSTALLATION + self.0,
            "account": objects::account(Some(&Account::organization(901, "acme-corp"))),
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": at,
            "suspended_at": is_suspended.then_some(&at),
        });
        let (full_name, id) = (self.world().full_name(), self.world().repo_id);
        let listed = json!([{"id": id, "full_name": full_name, "private": false}]);
        let (name, lists) = match action {
            "added" => (
                "installation_repositories",
                json!({"repositories_added": listed}),
            ),
            "removed" => (
                "installation_repositories",
                json!({"repositories_removed": listed}),
            ),
            _ => ("installation", json!({"repositories": listed})),
        };
        let mut event = json!({"action": action, "installation": installation});
        objects::extend(&mut event, lists);
        (name, event)
    }

    /// Returns an event of its pull request so many minutes ago.
    fn live(self, minutes: i64) -> (&'static str, Value) {
        let at = Utc::now() - TimeDelta::minutes(minutes);
        let mut event = opened(&self.world());
        event["installation"]["id"] = json!(INSTALLATION + self.0);
        event["pull_request"]["updated_at"] = json!(at.to_rfc3339_opts(SecondsFormat::Secs, true));
        ("pull_request", event)
    }
}

#[tokio::test]
async fn access_is_what_github_dates_last_in_any_order_and_repetition() {
    let mut server = TestServer::start().await;
    // The actions, minutes ago; one without an action is an event of a pull request.
    let cases = [
        ("suspend", 60, "unsuspend", 1),
        // As in recorded payloads: the time of the suspension is still that of the installation.
        ("suspend", 60, "unsuspend", 60),
        ("removed", 60, "added", 1),
        ("deleted", 60, "created", 1),
        ("suspend", 60, "", 1),
        ("removed", 60, "", 1),
    ];
    let orders = [
        vec![0, 1, 0],
        vec![1, 0, 1],
        vec![0, 0, 1],
        vec![1, 0, 0],
        vec![0],
    ];
    let mut expected = Vec::new();
    for (lost, lost_at, regained, regained_at) in cases {
        for order in &orders {
            let installed = Installed(i64::try_from(expected.len()).unwrap());
            let events = [
                installed.event(lost, lost_at),
                match regained {
                    "" => installed.live(regained_at),
                    action => installed.event(action, regained_at),
                },
            ];
            let first = installed.live(24 * 60);
            for (place, (event, body)) in std::iter::once(&first)
                .chain(order.iter().map(|number| &events[*number]))
                .enumerate()
            {
                let guid = format!("{}-{place}", installed.0);
                let (status, answer) = server.post(event, &guid, body.to_string().as_bytes()).await;
                assert_eq!(status, 202, "{answer}");
            }
            // Without what followed it is lost.
            let access = if order.len() == 1 {
                "revoked"
            } else {
                "granted"
            };
            expected.push((
                format!("{lost} {regained} {order:?}"),
                installed.world().full_name(),
                access,
            ));
        }
    }
    server.drained().await;
    for (name, repo, expected) in expected {
        assert_eq!(access(&server, &repo).await, expected, "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn untracked_repository_shows_its_webhooks_and_is_tracked_again_without_github() {
    let mut server = TestServer::start().await;
    let name = "acme-corp/server-1";
    let repositories =
        async |server: &TestServer| server.get("/api/repos").await.1["items"].clone();
    let track = async |server: &TestServer, repo: &str| {
        server
            .ask(Method::POST, "/api/repos", &json!({"repo": repo}))
            .await
    };
    // GitHub is not asked, so that it has to be known from a webhook.
    assert_refused(&track(&server, name).await, 409, "github_access_missing");
    let (event, body) = Installed(1).live(60);
    post(&mut server, event, &body).await;
    assert_eq!(repositories(&server).await[0]["tracked"], true);

    let path = format!("/api/repos/{name}");
    assert_eq!(server.ask(Method::DELETE, &path, &Value::Null).await.0, 204);
    assert_eq!(repositories(&server).await, json!([]));
    let (event, body) = Installed(1).event("created", 1);
    post(&mut server, event, &body).await;
    let shown = repositories(&server).await[0].clone();
    assert_eq!(
        (&shown["repo"], &shown["tracked"]),
        (&json!(name), &json!(false))
    );
    assert!(shown["last_delivery_at"].is_string(), "{shown}");
    let missing = shown["completeness"]["missing"].to_string();
    assert!(missing.contains("POST /api/repos tracks it"), "{missing}");

    let (status, tracked) = track(&server, name).await;
    assert_eq!(
        (status, &tracked["tracked"]),
        (201, &json!(true)),
        "{tracked}"
    );
    assert_eq!(
        tracked["sync_run"],
        Value::Null,
        "nothing could work on a backfill"
    );
    let (status, again) = track(&server, name).await;
    assert_eq!((status, &again["tracked"]), (200, &json!(true)), "{again}");
    server.stop().await;
}
