//! `tallyhook refetch --replace`: facts that forged or damaged deliveries left, at times that can be,
//! make place for GitHub's.

use std::process::Command;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tallyhook_core::domain::numbers::{NumberRules, numbers};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};

use testkit::TestServer;
use testkit::github::acts::Act;
use testkit::github::growth::people;
use testkit::github::world::{Opening, Webhook};
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN};
use testkit::payloads::HeadRepo;
use testkit::process::{self, Ended, tallyhook, timeless};

const NAME: &str = "acme-corp/api-server";
const REPO: i64 = 7;
const TARGET: &str = "acme-corp/api-server#1";
const KEY: PrKey = PrKey {
    repo: RepoId(REPO),
    number: PrNumber(1),
};

fn ago(minutes: i64) -> Timestamp {
    (Utc::now() - TimeDelta::minutes(minutes)).into()
}

fn act(github: &FakeGithub, minutes_ago: i64, act: &Act) -> Vec<Webhook> {
    let by = people()[1].clone();
    github.world(|world| world.act(NAME, 1, &by, ago(minutes_ago), act))
}

/// Returns a GitHub with one reviewed pull request, and its webhooks.
async fn genuine() -> (FakeGithub, Vec<Webhook>) {
    let github = FakeGithub::start().await;
    github.add_repository(REPO, NAME);
    let author = people()[0].clone();
    let opening = Opening {
        author: &author,
        title: "A genuine change",
        branch: "topic",
        head_repo: HeadRepo::Same,
        draft: false,
        at: ago(600),
        commits: &[(ago(700), ago(690))],
    };
    let mut webhooks = github.world(|world| world.open(NAME, &opening).1);
    webhooks.extend(act(&github, 500, &Act::Review("approved")));
    webhooks.extend(act(&github, 400, &Act::Comment));
    (github, webhooks)
}

async fn post(server: &mut TestServer, webhook: &Webhook) {
    let body = webhook.payload.to_string();
    let (status, answer) = server
        .post(webhook.event, &webhook.guid, body.as_bytes())
        .await;
    assert_eq!(status, 202, "{answer}");
    server.drained().await;
}

/// Posts `payload` under a GUID of its own.
async fn forge(server: &mut TestServer, event: &'static str, guid: &str, payload: Value) {
    let webhook = Webhook {
        event,
        guid: guid.to_owned(),
        at: ago(0),
        payload,
    };
    post(server, &webhook).await;
}

/// Posts deliveries that nothing in them shows to be forged.
async fn poison(server: &mut TestServer, genuine: &[Webhook]) {
    let opened = &genuine[0].payload;
    let mut merged = opened.clone();
    let fields = &mut merged["pull_request"];
    let at = json!(ago(5).to_string());
    for field in ["closed_at", "merged_at", "updated_at"] {
        fields[field] = at.clone();
    }
    fields["created_at"] = json!("2011-01-01T00:00:00Z");
    fields["state"] = json!("closed");
    fields["title"] = json!("poison");
    fields["id"] = json!(i64::MAX);
    merged["action"] = json!("closed");
    forge(server, "pull_request", "merged", merged).await;
    let review = genuine
        .iter()
        .find(|webhook| webhook.event == "pull_request_review");
    let mut review = review.unwrap().payload.clone();
    review["review"]["id"] = json!(999_999);
    review["review"]["state"] = json!("changes_requested");
    forge(server, "pull_request_review", "review", review).await;
    let renamed = json!({
        "action": "renamed",
        "repository": {"id": REPO, "full_name": "evil/other", "private": false},
        "sender": opened["sender"],
    });
    forge(server, "repository", "renamed", renamed).await;
    let mut stranger = opened.clone();
    stranger["repository"]["id"] = json!(666);
    stranger["pull_request"]["title"] = json!("stranger");
    stranger["pull_request"]["updated_at"] = json!(ago(-60).to_string());
    forge(server, "pull_request", "stranger", stranger).await;
}

async fn refetch(server: &TestServer, github: &FakeGithub, arguments: &[&str]) -> Ended {
    let arguments = [&["refetch", "--yes"], arguments].concat();
    let mut command: Command = tallyhook(server.place.path(), &arguments);
    command
        .env("GITHUB_TOKEN", GITHUB_TOKEN)
        .env("GITHUB_API_URL", &github.url);
    tokio::task::spawn_blocking(move || process::run(&mut command))
        .await
        .unwrap()
}

/// Returns everything about the pull request, under its name, but where it was learnt from and when.
async fn facts(server: &TestServer) -> Value {
    let (status, mut shown) = server.get("/api/repos/acme-corp/api-server/prs/1").await;
    assert_eq!(status, 200, "{shown}");
    shown.as_object_mut().unwrap().remove("source");
    timeless(shown)
}

#[tokio::test]
async fn replacing_leaves_nothing_of_forged_deliveries() {
    let (github, webhooks) = genuine().await;
    let mut clean = TestServer::start().await;
    for webhook in &webhooks {
        post(&mut clean, webhook).await;
    }
    refetch(&clean, &github, &["--replace", TARGET]).await.ok();
    let expected = facts(&clean).await;
    assert_eq!(
        (&expected["title"], &expected["state"]),
        (&json!("A genuine change"), &json!("open"))
    );

    let mut server = TestServer::start().await;
    post(&mut server, &webhooks[0]).await;
    poison(&mut server, &webhooks).await;
    for webhook in &webhooks[1..] {
        post(&mut server, webhook).await;
    }
    let (_, poisoned) = server.get("/api/prs?state=merged").await;
    assert_eq!(poisoned["items"][0]["repo"], "evil/other", "{poisoned}");
    assert_eq!(facts(&server).await["title"], "stranger");

    let printed = refetch(&server, &github, &["--replace", TARGET]).await.ok();
    assert!(
        printed.contains(TARGET) && printed.contains("open"),
        "{printed}"
    );
    assert_eq!(facts(&server).await, expected);
    refetch(&server, &github, &["--replace", TARGET]).await.ok();
    assert_eq!(facts(&server).await, expected, "a second time");
    let commits = server.running.store.commits(KEY).await.unwrap();
    assert_eq!(commits.len(), 1, "the list is GitHub's, too");

    // The next genuine events join as ever, on both alike.
    for webhook in act(&github, 0, &Act::Merge) {
        post(&mut server, &webhook).await;
        post(&mut clean, &webhook).await;
    }
    let merged = facts(&server).await;
    assert_eq!(merged["state"], "merged");
    assert_eq!(merged, facts(&clean).await);
}

/// Impossible times that were stored before they were recognised: a guard of the year 9999.
#[tokio::test]
async fn replacing_needs_no_sane_guard() {
    let (github, webhooks) = genuine().await;
    let mut server = TestServer::start().await;
    post(&mut server, &webhooks[0]).await;
    let store = &server.running.store;
    let mut known = store.load(&[KEY]).await.unwrap().remove(0);
    let far = Timestamp::parse("9999-12-31T23:59:59Z").unwrap();
    let conversation = known.pull_request.conversation.as_mut().unwrap();
    conversation.at = far;
    conversation.value.title = Some("poison".to_owned());
    let rules = NumberRules::default();
    let write = tallyhook_store::BatchWrite {
        pull_requests: vec![tallyhook_store::PullRequestRecord {
            numbers: numbers(&known.pull_request, known.repo_name(), &rules),
            reviews: std::collections::BTreeSet::new(),
            known,
        }],
        ..tallyhook_store::BatchWrite::default()
    };
    store.record(&write, Utc::now()).await.unwrap().unwrap();
    post(&mut server, &webhooks[1]).await;
    assert_eq!(facts(&server).await["title"], "poison");
    refetch(&server, &github, &["--replace", TARGET]).await.ok();
    assert_eq!(facts(&server).await["title"], "A genuine change");
}

#[tokio::test]
async fn replacing_without_an_answer_of_github_changes_nothing() {
    let (github, webhooks) = genuine().await;
    let mut server = TestServer::start().await;
    post(&mut server, &webhooks[0]).await;
    let before = facts(&server).await;
    let mut without_token = tallyhook(
        server.place.path(),
        &["refetch", "--yes", "--replace", TARGET],
    );
    let ended = tokio::task::spawn_blocking(move || process::run(&mut without_token))
        .await
        .unwrap();
    ended.failed(2, &["GITHUB_TOKEN is not set", "to read pull requests"]);
    let missing = "acme-corp/api-server#99";
    let ended = refetch(&server, &github, &["--replace", missing]).await;
    ended.failed(1, &[missing]);
    github.next([Fault::status(401)]);
    let ended = refetch(&server, &github, &["--replace", TARGET]).await;
    ended.failed(1, &[]);
    for wrong in [
        "acme-corp/api-server",
        "acme#1",
        "a/b#0",
        "a/b#x",
        "a/b/c#1",
    ] {
        let ended = refetch(&server, &github, &["--replace", wrong]).await;
        ended.failed(2, &[wrong, "OWNER/REPO#N"]);
    }
    let ended = refetch(&server, &github, &[TARGET]).await;
    assert!(ended.code == Some(2) && ended.stderr.contains("--replace"));
    assert_eq!(facts(&server).await, before);
}
