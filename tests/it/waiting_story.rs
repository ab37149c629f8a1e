//! One story of a pull request, opened, asked, answered, pushed to and asked again: as webhooks in
//! any order, and by a backfill from GitHub, it waits for the same.

use chrono::{TimeDelta, Utc};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use tallyhook::sync::backfill::{BackfillOutcome, BackfillRunner, lease_until};
use tallyhook::sync::fetch::observed_repository;
use tallyhook_core::github::types::{RepoId, Timestamp};
use tallyhook_store::{RunOptions, RunState};

use testkit::github::FakeGithub;
use testkit::github::acts::Act;
use testkit::github::world::{Opening, Reviewer, Webhook};
use testkit::payloads::{Account, HeadRepo, Team};
use testkit::{Place, TestServer};

const NAME: &str = "acme-corp/api-server";
const REPO: RepoId = RepoId(7);

/// The hours after the opening at which an act happens.
type Hour = i64;

/// The acts of the story with their actors.
fn acts() -> Vec<(Hour, Account, Act)> {
    let (mira, ines, yuki) = people();
    let backend = Reviewer::Team(Team {
        id: 5,
        slug: "backend".to_owned(),
    });
    let ask = || Act::Request(Reviewer::Account(people().1));
    vec![
        (1, mira.clone(), ask()),
        (2, mira.clone(), Act::Request(backend)),
        (3, ines.clone(), Act::Review("changes_requested")),
        (4, yuki.clone(), Act::Review("commented")),
        (5, mira.clone(), Act::Push),
        (6, mira.clone(), ask()),
        (7, ines, Act::Review("changes_requested")),
        (8, mira.clone(), Act::Push),
        (9, mira, ask()),
        (10, yuki, Act::Comment),
    ]
}

fn people() -> (Account, Account, Account) {
    (
        Account::user(101, "mira"),
        Account::user(103, "ines"),
        Account::user(104, "yuki"),
    )
}

/// Plays the story at a fake GitHub, where it begins at `from`. Returns its webhooks in order.
fn play(github: &FakeGithub, from: Timestamp) -> Vec<Webhook> {
    github.add_repository(REPO.0, NAME);
    let at = |hour: Hour| Timestamp::clamped(from.epoch() + hour * 3600);
    github.world(|world| {
        let opening = Opening {
            author: &people().0,
            title: "Sort the queue",
            branch: "sort",
            head_repo: HeadRepo::Same,
            draft: false,
            at: from,
            commits: &[(from, from)],
        };
        let (number, mut webhooks) = world.open(NAME, &opening);
        for (hour, by, act) in acts() {
            let sent = world.act(NAME, number, &by, at(hour), &act);
            assert!(!sent.is_empty(), "{act:?} is impossible");
            webhooks.extend(sent);
        }
        webhooks
    })
}

async fn server() -> TestServer {
    let server = TestServer::start_in(Place::new().await, Default::default()).await;
    let repository = observed_repository(REPO, NAME.to_owned(), Some(false));
    let tracked = server.running.store.track(&repository, Utc::now());
    tracked.await.unwrap();
    server
}

/// Posts webhooks, in an order that the seed chooses, some of them twice; without one as they are.
async fn by_webhooks(webhooks: &[Webhook], seed: Option<u64>) -> Value {
    let mut server = server().await;
    let mut order: Vec<_> = webhooks.iter().collect();
    if let Some(seed) = seed {
        let mut random = StdRng::seed_from_u64(seed);
        order.extend(webhooks.iter().step_by(3));
        order.shuffle(&mut random);
    }
    for webhook in order {
        let body = webhook.payload.to_string();
        let posted = server.post(webhook.event, &webhook.guid, body.as_bytes());
        assert_eq!(posted.await.0, 202);
        // One batch for each, so that every state in between is stored.
        server.drained().await;
    }
    let found = waiting(&server).await;
    server.stop().await;
    found
}

async fn by_backfill(github: &FakeGithub) -> Value {
    let mut server = server().await;
    let store = server.running.store.clone();
    let options = RunOptions {
        days_back: 90,
        max_prs: 1000,
        commits: false,
    };
    let requested = store.request_run(REPO, &options, Utc::now()).await;
    requested.unwrap().unwrap();
    let run = store.claim_run(Some(REPO), Utc::now(), lease_until()).await;
    let runner = BackfillRunner {
        client: github.client().0,
        store: store.clone(),
    };
    let ended = runner.run(run.unwrap().unwrap(), |_| {}).await.unwrap();
    assert!(
        matches!(&ended, BackfillOutcome::Finished(run) if run.state == RunState::Done),
        "{ended:?}"
    );
    server.drained().await;
    let found = waiting(&server).await;
    server.stop().await;
    found
}

/// Returns what the pull request waits for, and the seconds of the turns that have ended.
async fn waiting(server: &TestServer) -> Value {
    let (status, mut found) = server.get(&format!("/api/repos/{NAME}/prs/1")).await;
    assert_eq!(status, 200, "{found}");
    let mut waiting = found["waiting"].take();
    waiting.as_object_mut().unwrap().remove("as_of");
    let mut time_by = found["time_by"].take();
    time_by.as_object_mut().unwrap().remove("reviewers");
    json!({"waiting": waiting, "time_by": time_by})
}

#[tokio::test]
async fn any_order_of_webhooks_and_a_backfill_give_the_same_waiting() {
    let github = FakeGithub::start().await;
    let from = Timestamp::from(Utc::now() - TimeDelta::days(2));
    let webhooks = play(&github, from);
    let at = |hour: Hour| Timestamp::clamped(from.epoch() + hour * 3600).to_string();
    let in_order = by_webhooks(&webhooks, None).await;
    // Ines was handed it by the second push, and asked again an hour later; the team still is.
    let who = json!([
        {"login": null, "team": "backend", "since": at(2)},
        {"login": "ines", "team": null, "since": at(9)},
    ]);
    let mut named = in_order["waiting"]["who"].clone();
    for one in named.as_array_mut().unwrap() {
        one.as_object_mut()
            .unwrap()
            .retain(|name, _| ["login", "team", "since"].contains(&name.as_str()));
    }
    assert_eq!(named, who);
    let waiting = &in_order["waiting"];
    assert_eq!(
        (&waiting["for"], &waiting["since"], &waiting["kind_since"]),
        (&json!("reviewers"), &json!(at(2)), &json!(at(8)))
    );
    // Nobody for an hour; the author for two after the first objection, and for one after the second.
    assert_eq!(
        in_order["time_by"],
        json!({"nobody": 3600, "author": 3 * 3600})
    );
    for seed in 1..=4 {
        assert_eq!(by_webhooks(&webhooks, Some(seed)).await, in_order, "{seed}");
    }
    assert_eq!(by_backfill(&github).await, in_order);
    github.stop().await;
}
