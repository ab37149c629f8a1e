//! A signed body is one event under any unsigned header: posted under the name of another event it
//! changes nothing, and it never suppresses the genuine delivery.

use std::collections::BTreeMap;

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use tallyhook::sync::poller::Poller;
use tallyhook_core::event::NAMES;

use testkit::github::FakeGithub;
use testkit::github::app::private_key;
use testkit::payloads::{self, Account, Comment, Pr, Review, ReviewComment, World, objects};
use testkit::{TestServer, assert_refused, config, eventually};

const INSTALLATION: i64 = 51;
const INSTALLATIONS: &str = "GET /app/installations?per_page=100";

fn mira() -> Account {
    Account::user(900_000_101, "mira")
}

fn world(repo: i64) -> World {
    World {
        repo_id: 700_000 + repo,
        repo: format!("server-{repo}"),
        ..World::acme()
    }
}

fn pull_request(world: &World, number: i64, at: &str) -> Pr {
    Pr::new(
        world,
        number,
        Some(&mira()),
        "Sort the queue",
        "sort-queue",
        at,
    )
}

/// An event of a GitHub App's webhook: it names the installation, and no account of it.
fn by_installation(mut event: Value) -> Value {
    event["installation"] = json!({"id": INSTALLATION, "node_id": "MDIz"});
    event
}

fn opened(world: &World, number: i64, at: &str) -> Value {
    let pr = pull_request(world, number, at);
    by_installation(payloads::pull_request_event(
        &pr,
        "opened",
        &mira(),
        json!({}),
    ))
}

fn line_comment() -> ReviewComment {
    ReviewComment {
        id: 31,
        review_id: 30,
        author: Some(mira()),
        body: "Here.".to_owned(),
        commit_id: payloads::sha("a"),
        created_at: "2026-03-02T09:30:00Z".to_owned(),
        updated_at: "2026-03-02T09:30:00Z".to_owned(),
    }
}

fn installation_event(action: &str, extra: &Value) -> Value {
    let account = objects::account(Some(&mira()));
    let mut event = json!({
        "action": action,
        "installation": {"id": INSTALLATION, "account": account, "updated_at": 1_525_109_899},
        "sender": account,
    });
    objects::extend(&mut event, extra.clone());
    event
}

/// A genuine body of each event that is used here.
fn genuine(number: i64) -> BTreeMap<&'static str, Value> {
    let (world, at) = (World::acme(), "2026-03-02T09:00:00Z");
    let pr = pull_request(&world, number, at);
    let comment = Comment {
        id: 21,
        author: Some(mira()),
        body: "+1".to_owned(),
        created_at: at.to_owned(),
    };
    let review = Review {
        id: 30,
        reviewer: Some(mira()),
        state: "approved".to_owned(),
        body: None,
        commit_id: pr.head_sha.clone(),
        submitted_at: at.to_owned(),
    };
    let pushed = (&*payloads::sha("before"), &*payloads::sha("after"));
    let queue = "refs/heads/gh-readonly-queue/main";
    let sender = objects::account(Some(&mira()));
    let listed = json!([{"id": world.repo_id, "full_name": world.full_name(), "private": false}]);
    BTreeMap::from([
        (
            "pull_request",
            payloads::pull_request_event(&pr, "opened", &mira(), json!({})),
        ),
        (
            "pull_request_review",
            payloads::review_event(&pr, "submitted", &review, &mira()),
        ),
        (
            "pull_request_review_comment",
            payloads::review_comment_event(&pr, "created", &line_comment(), &mira()),
        ),
        (
            "pull_request_review_thread",
            payloads::review_thread_event(&pr, "resolved", &[line_comment()], &mira()),
        ),
        (
            "issue_comment",
            payloads::issue_comment_event(&pr, "created", &comment, &mira()),
        ),
        (
            "merge_group",
            json!({
                "action": "checks_requested",
                "merge_group": {
                    "head_ref": format!("{queue}/pr-{number}-{}", payloads::sha("head")),
                    "head_commit": {"timestamp": at},
                },
                "repository": objects::repository(&world),
                "sender": sender,
            }),
        ),
        (
            "push",
            payloads::push_event(&world, "main", pushed, &mira(), at),
        ),
        (
            "repository",
            json!({
                "action": "publicized",
                "repository": objects::repository(&world),
                "sender": sender,
            }),
        ),
        (
            "installation",
            installation_event("created", &json!({"repositories": listed})),
        ),
        (
            "installation_repositories",
            installation_event(
                "added",
                &json!({
                    "repository_selection": "selected", "requester": null,
                    "repositories_added": listed, "repositories_removed": [],
                }),
            ),
        ),
    ])
}

async fn post(server: &TestServer, event: &str, guid: &str, body: &Value) -> Value {
    let (status, answer) = server.post(event, guid, body.to_string().as_bytes()).await;
    assert_eq!(status, 202, "{event} {guid}: {answer}");
    answer["status"].clone()
}

async fn deliveries(server: &TestServer, guid: &str) -> Vec<Value> {
    let (_, found) = server.get(&format!("/api/deliveries/{guid}")).await;
    found["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn body_posted_first_under_each_other_name_never_suppresses_the_genuine_delivery() {
    let mut server = TestServer::start().await;
    let (mut number, mut suppressed, mut pairs) = (0, Vec::new(), 0);
    for genuine_name in NAMES {
        for first in NAMES.iter().filter(|name| *name != genuine_name) {
            number += 1;
            pairs += 1;
            let body = &genuine(number)[genuine_name];
            let guid = format!("pair-{number}");
            post(&server, first, &guid, body).await;
            if number % 2 == 0 {
                // In half of the cases the first row is finished before the genuine one is posted.
                server.drained().await;
            }
            post(&server, genuine_name, &guid, body).await;
            server.drained().await;
            let rows = deliveries(&server, &guid).await;
            let expected = if *genuine_name == "push" {
                "ignored"
            } else {
                "applied"
            };
            let is_applied = rows.len() == 1
                && rows[0]["event"] == *genuine_name
                && rows[0]["state"] == expected;
            if !is_applied {
                suppressed.push(format!("{genuine_name} after {first}"));
            }
            if *genuine_name == "pull_request" {
                let path = format!("/api/repos/{}/prs/{number}", World::acme().full_name());
                let (status, found) = server.get(&path).await;
                if status != 200 || found["timeline"][0]["type"] != "opened" {
                    suppressed.push(format!("the pull request after {first}"));
                }
            }
            if post(&server, genuine_name, &guid, body).await != "duplicate" {
                suppressed.push(format!("a repetition of {genuine_name} after {first}"));
            }
        }
    }
    assert_eq!((pairs, suppressed), (90, Vec::<String>::new()));
    let (_, dead) = server.get("/api/dead-letters").await;
    assert_eq!(dead["items"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn misnamed_repetition_changes_nothing() {
    let mut server = TestServer::start().await;
    // Genuine, and without a field that this version asks for.
    let mut broken = genuine(1)["pull_request"].clone();
    broken["pull_request"]["head"].take();
    assert_eq!(
        post(&server, "pull_request", "g", &broken).await,
        "accepted"
    );
    let before = deliveries(&server, "g").await;
    assert_eq!(before[0]["state"], "dead");
    assert_eq!(post(&server, "push", "g", &broken).await, "duplicate");
    server.drained().await;
    assert_eq!(deliveries(&server, "g").await, before);
    assert_eq!(
        post(&server, "pull_request", "g", &broken).await,
        "requeued"
    );
    server.stop().await;
}

/// Bodies of other events whose action ends an access, or would be taken for a new name.
fn bodies_of_other_events(repo: i64) -> Vec<Value> {
    let world = world(repo);
    let pr = pull_request(&world, 1, "2026-03-02T09:00:00Z");
    let renamed = {
        let mut world = world.clone();
        world.repo = "an-old-name".to_owned();
        world
    };
    let comment = Comment {
        id: 21,
        author: Some(mira()),
        body: "+1".to_owned(),
        created_at: "2026-03-02T09:00:00Z".to_owned(),
    };
    let account = objects::account(Some(&mira()));
    let of_repository = |world: &World, action: &str, extra: Value| {
        let repository = objects::repository(world);
        let mut event = json!({"action": action, "repository": repository, "sender": account});
        objects::extend(&mut event, extra);
        event
    };
    let organization = json!({"id": 902, "login": "acme-corp"});
    let bodies = vec![
        payloads::review_comment_event(&pr, "deleted", &line_comment(), &mira()),
        payloads::issue_comment_event(&pr, "deleted", &comment, &mira()),
        of_repository(&world, "deleted", json!({"starred_at": null})),
        of_repository(
            &world,
            "deleted",
            json!({"label": {"id": 1, "name": "bug"}}),
        ),
        of_repository(
            &world,
            "deleted",
            json!({"milestone": {"id": 1, "title": "1.0"}}),
        ),
        of_repository(&world, "deleted", json!({"release": {"id": 1}})),
        of_repository(&world, "deleted", json!({"issue": {"id": 1, "number": 9}})),
        of_repository(&world, "deleted", json!({"package": {"id": 1}})),
        of_repository(&world, "deleted", json!({"an_event_of_tomorrow": null})),
        of_repository(&renamed, "started", json!({"organization": organization})),
        of_repository(
            &renamed,
            "created",
            json!({"label": {"id": 1, "name": "bug"}}),
        ),
        opened(&renamed, 1, "2026-03-02T09:00:00Z"),
        json!({"action": "deleted", "organization": organization, "sender": account}),
        json!({"action": "removed", "scope": "team", "team": {"id": 1}, "sender": account}),
    ];
    bodies.into_iter().map(by_installation).collect()
}

#[tokio::test]
async fn body_of_another_event_never_changes_access_or_name() {
    let mut server = TestServer::start().await;
    for repo in 1..=3 {
        let opened = opened(&world(repo), 1, "2026-03-02T09:00:00Z");
        post(&server, "pull_request", &format!("opened-{repo}"), &opened).await;
    }
    server.drained().await;
    let (mut changed, mut posts) = (Vec::new(), 0);
    for (place, body) in bodies_of_other_events(2).iter().enumerate() {
        for name in ["repository", "installation", "installation_repositories"] {
            posts += 1;
            post(&server, name, &format!("{name}-{place}"), body).await;
            server.drained().await;
            for repo in 1..=3 {
                let path = format!("/api/repos/acme-corp/server-{repo}/prs/1");
                if server.get(&path).await.1["repo_access"] != "granted" {
                    changed.push(format!("{} as {name}: server-{repo}", body["action"]));
                }
            }
        }
    }
    assert_eq!((posts, changed), (42, Vec::<String>::new()));
    server.stop().await;
}

/// Returns a server with a pull request of a repository of an App, and its poller, which has the
/// App's credentials.
async fn with_app() -> (FakeGithub, TestServer, Poller) {
    let github = FakeGithub::start().await;
    let (client, time) = github.app_client(&private_key());
    github.add_app(&time);
    let mut server = TestServer::start().await;
    let opened = opened(&world(1), 1, "2026-03-02T09:00:00Z");
    post(&server, "pull_request", "opened", &opened).await;
    let lost = installation_event("deleted", &json!({}));
    post(&server, "installation", "lost", &lost).await;
    server.drained().await;
    let poller = Poller {
        client,
        store: server.running.store.clone(),
        settings: config(&server.place).sync,
        default_repository: None,
    };
    (github, server, poller)
}

#[tokio::test]
async fn app_confirms_a_lost_installation_with_github() {
    let (github, server, poller) = with_app().await;
    let access =
        async || server.get("/api/repos/acme-corp/server-1/prs/1").await.1["repo_access"].clone();
    assert_eq!(access().await, "revoked");
    // GitHub lists another installation only.
    github.install("umbrella", INSTALLATION + 1);
    poller.round(false).await.unwrap();
    assert_eq!(github.asked(), [INSTALLATIONS]);
    assert_eq!(access().await, "revoked");

    github.install("acme-corp", INSTALLATION);
    eventually("the next second", async || {
        poller.round(false).await.unwrap();
        access().await == "granted"
    })
    .await;
    github.asked();
    // Nothing is lost, and nothing is asked about it.
    poller.round(false).await.unwrap();
    assert!(!github.asked().contains(&INSTALLATIONS.to_owned()));
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn body_that_is_not_utf8_is_refused() {
    let server = TestServer::start().await;
    for (genuine_name, body) in genuine(1) {
        let body = body.to_string();
        for odd in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80"] {
            let unused = [b"{\"unused\":\"", odd, b"\",", &body.as_bytes()[1..]].concat();
            for name in [genuine_name, "push", "star", "ping"] {
                let answer = server.post(name, "odd", &unused).await;
                assert_refused(&answer, 400, "not_json");
            }
        }
    }
    let (_, stored) = server.get("/api/deliveries").await;
    assert_eq!(stored["items"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn lost_installation_is_undone_by_a_later_event_of_it() {
    for action in ["suspend", "deleted"] {
        let mut server = TestServer::start().await;
        let access = async |server: &TestServer| {
            let mut found = Vec::new();
            for repo in 1..=3 {
                let path = format!("/api/repos/acme-corp/server-{repo}/prs/1");
                found.push(server.get(&path).await.1["repo_access"].clone());
            }
            found
        };
        for repo in 1..=3 {
            let opened = opened(&world(repo), 1, "2026-03-02T09:00:00Z");
            post(&server, "pull_request", &format!("opened-{repo}"), &opened).await;
        }
        let listed: Vec<_> = (1..=3)
            .map(world)
            .map(|world| json!({"id": world.repo_id, "full_name": world.full_name()}))
            .collect();
        let lost = installation_event(action, &json!({"repositories": listed}));
        post(&server, "installation", "lost", &lost).await;
        server.drained().await;
        assert_eq!(access(&server).await, ["revoked"; 3], "{action}");

        // One that happened before the loss and arrives late undoes nothing.
        let late = opened(&world(1), 2, "2026-03-02T10:00:00Z");
        post(&server, "pull_request", "late", &late).await;
        server.drained().await;
        assert_eq!(access(&server).await, ["revoked"; 3], "{action}");

        let soon = Utc::now() + TimeDelta::minutes(5);
        let soon = soon.to_rfc3339_opts(SecondsFormat::Secs, true);
        let later = opened(&world(1), 3, &soon);
        post(&server, "pull_request", "later", &later).await;
        server.drained().await;
        assert_eq!(access(&server).await, ["granted"; 3], "{action}");

        // The same events in another order: the loss is from before the later event.
        post(&server, "installation", "lost-again", &lost).await;
        server.drained().await;
        assert_eq!(access(&server).await, ["granted"; 3], "{action}");
        server.stop().await;
    }
}
