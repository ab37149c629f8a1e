//! What webhooks missed is found by asking, and what did not change costs nothing.

#[path = "support/github/mod.rs"]
mod github;
mod support;

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tallyhook::app::Options;
use tallyhook::config::Sync;
use tallyhook::sync::fetch::seen;
use tallyhook::sync::poller::{Poller, Round};
use tallyhook_core::github::types::{RepoId, Timestamp};
use tallyhook_github_client::{Client, Clock, Credentials, Token, VirtualTime};
use tallyhook_store::{RunState, SyncStatus};

use github::acts::Act;
use github::growth::{Growth, people};
use github::world::Opening;
use github::{FakeGithub, Fault, GITHUB_TOKEN, Rights, Sending};
use support::payloads::{HeadRepo, pull_request_event};
use support::{Place, SECRET, TestServer, config};

const NAME: &str = "acme-corp/api-server";
const REPO: RepoId = RepoId(7);

/// The server works by itself, and is not to be kept from it by being asked all the time.
const ASKED_AGAIN: Duration = Duration::from_millis(20);

fn ago(minutes: i64) -> Timestamp {
    (Utc::now() - TimeDelta::minutes(minutes)).into()
}

fn settings() -> Sync {
    config(&Place::embedded()).sync
}

/// A GitHub with one repository, and a server that tracks it since two hours ago and is told nothing.
async fn tracked() -> (FakeGithub, TestServer, Poller) {
    let github = FakeGithub::start().await;
    github.add_repository(REPO.0, NAME);
    let server = TestServer::start().await;
    let since = Utc::now() - TimeDelta::hours(2);
    server
        .running
        .store
        .track(&seen(REPO, NAME.to_owned(), Some(false)), since)
        .await
        .unwrap();
    let (client, _) = github.client();
    let store = server.running.store.clone();
    (
        github,
        server,
        Poller {
            client,
            store,
            settings: settings(),
            default_repository: None,
        },
    )
}

/// Opens a pull request an hour ago: its number.
fn open(github: &FakeGithub) -> i64 {
    let author = people().remove(0);
    let commits = [(ago(70), ago(65))];
    let opening = Opening {
        author: &author,
        title: "A change",
        branch: "topic",
        head_repo: HeadRepo::Same,
        draft: false,
        at: ago(60),
        commits: &commits,
    };
    github.world(|world| world.open(NAME, &opening).0)
}

fn act(github: &FakeGithub, number: i64, minutes_ago: i64, act: &Act) {
    let by = people().remove(1);
    github.world(|world| world.act(NAME, number, &by, ago(minutes_ago), act));
}

async fn round(server: &mut TestServer, poller: &Poller) -> Round {
    let round = poller.round(false).await.unwrap();
    server.drained().await;
    round
}

async fn shown(server: &TestServer, number: i64) -> Value {
    let (status, shown) = server.get(&format!("/api/repos/{NAME}/prs/{number}")).await;
    assert_eq!(status, 200, "{shown}");
    shown
}

#[tokio::test]
async fn what_no_webhook_told_is_found_and_counted() {
    let (github, mut server, poller) = tracked().await;
    let number = open(&github);
    act(&github, number, 50, &Act::Review("approved"));
    let first = round(&mut server, &poller).await;
    assert_eq!(
        first.repositories[0]
            .missed
            .iter()
            .map(|number| number.0)
            .collect::<Vec<_>>(),
        [number]
    );
    let found = shown(&server, number).await;
    assert_eq!(
        (&found["state"], &found["source"]),
        (&json!("open"), &json!("poller"))
    );
    assert_eq!(found["reviews"].as_array().unwrap().len(), 1);

    act(&github, number, 40, &Act::Merge);
    round(&mut server, &poller).await;
    let found = shown(&server, number).await;
    assert_eq!(found["state"], "merged");
    assert!(
        (found["cycle_time_hours"].as_f64().unwrap() - 20.0 / 60.0).abs() < 0.01,
        "{found}"
    );
    let (_, repos) = server.get("/api/repos").await;
    assert_eq!(repos["items"][0]["missed_by_webhook"], 2);
    assert_eq!(
        repos["items"][0]["sync_status"], "syncing",
        "its backfill is asked for"
    );
    let (_, stats) = server.get("/api/sync/stats").await;
    assert_eq!(
        (&stats["sync_count"], &stats["missed_by_webhook"]),
        (&json!(2), &json!(2))
    );
    let nothing = round(&mut server, &poller).await;
    assert_eq!(
        (nothing.repositories[0].fetched, nothing.github_requests),
        (0, 1)
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn what_a_webhook_told_is_not_missed() {
    let (github, mut server, poller) = tracked().await;
    let number = open(&github);
    github.add_hook(
        1,
        "repos/acme-corp/api-server",
        &format!("{}/webhooks/github", server.url),
        SECRET,
    );
    let by = people().remove(1);
    let told =
        github.world(|world| world.act(NAME, number, &by, ago(30), &Act::Label("bug".to_owned())));
    for webhook in &told {
        assert_eq!(github.send(1, webhook, Sending::Posted).await, 202);
    }
    server.drained().await;
    let round = round(&mut server, &poller).await;
    assert_eq!(
        (
            round.repositories[0].fetched,
            round.repositories[0].missed.len()
        ),
        (1, 0)
    );
    // It was opened before the webhook that was told, which says nothing of its draft.
    assert!(
        !shown(&server, number).await["flags"]
            .as_array()
            .unwrap()
            .contains(&json!("history_incomplete"))
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn one_repository_that_fails_stops_no_other() {
    let (github, mut server, poller) = tracked().await;
    let gone = seen(RepoId(8), "acme-corp/gone".to_owned(), None);
    server.running.store.track(&gone, Utc::now()).await.unwrap();
    let number = open(&github);
    let round = round(&mut server, &poller).await;
    let told: Vec<_> = round
        .repositories
        .iter()
        .map(|polled| (polled.repo.as_str(), polled.failure()))
        .collect();
    assert_eq!(told[0], (NAME, None));
    let failure = told[1].1.clone().unwrap();
    assert!(
        failure.contains("acme-corp/gone") && !failure.contains('\n'),
        "{failure}"
    );
    shown(&server, number).await;
    let status = |id| {
        let store = server.running.store.clone();
        async move { store.tracked_repository(id).await.unwrap().unwrap() }
    };
    assert_eq!(status(RepoId(8)).await.sync_status, SyncStatus::Error);
    assert_eq!(status(RepoId(8)).await.last_error, Some(failure));
    assert_eq!(status(REPO).await.last_error, None);
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn a_name_that_went_to_another_repository_is_not_mixed_up() {
    let (github, mut server, poller) = tracked().await;
    open(&github);
    // The one that is tracked as 7 is gone, and another has its name.
    server
        .running
        .store
        .untrack(REPO, Utc::now())
        .await
        .unwrap();
    server
        .running
        .store
        .track(&seen(RepoId(6), NAME.to_owned(), None), ago(120).to_utc())
        .await
        .unwrap();
    let round = round(&mut server, &poller).await;
    let failure = round.repositories[0].failure().unwrap();
    assert!(failure.contains("another repository"), "{failure}");
    assert_eq!(server.get("/api/prs").await.1["items"], json!([]));
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn a_renamed_repository_is_followed() {
    let (github, mut server, poller) = tracked().await;
    let number = open(&github);
    github.rename(NAME, "acme-corp/renamed");
    round(&mut server, &poller).await;
    let (status, found) = server
        .get(&format!("/api/repos/acme-corp/renamed/prs/{number}"))
        .await;
    assert_eq!((status, &found["repo"]), (200, &json!("acme-corp/renamed")));
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn an_outage_is_waited_out_and_a_pull_request_that_fails_is_asked_for_again() {
    let (github, mut server, poller) = tracked().await;
    let number = open(&github);
    let other = open(&github);
    github.break_pull(REPO.0, number);
    github.next([500, 502, 503].map(Fault::status));
    let first = round(&mut server, &poller).await;
    let failure = first.repositories[0].failure().unwrap();
    assert!(
        failure.starts_with(&format!("#{number} could not be fetched")),
        "{failure}"
    );
    shown(&server, other).await;
    github.calm();
    let second = round(&mut server, &poller).await;
    assert_eq!(
        (
            second.repositories[0].failure(),
            second.repositories[0].fetched
        ),
        (None, 1)
    );
    shown(&server, number).await;
    server.stop().await;
    github.stop().await;
}

/// What is known by a review alone, as an older delivery would tell it, has no counts.
#[tokio::test]
async fn a_pull_request_of_which_only_parts_were_seen_is_fetched() {
    let (github, mut server, poller) = tracked().await;
    let number = open(&github);
    round(&mut server, &poller).await;
    let by = people().remove(1);
    let pr = github.world(|world| world.repository(NAME).pulls[&number].pr.clone());
    let mut payload = pull_request_event(
        &pr,
        "labeled",
        &by,
        json!({"label": {"id": 1, "name": "bug"}}),
    );
    for counts in ["additions", "deletions", "changed_files", "commits"] {
        payload["pull_request"]
            .as_object_mut()
            .unwrap()
            .remove(counts);
    }
    payload["pull_request"]["number"] = json!(number + 1);
    payload["number"] = json!(number + 1);
    // The world has it, too, but as of long before what is listed.
    github.world(|world| {
        let mut copy = world.repository(NAME).pulls[&number].clone();
        copy.pr.number = number + 1;
        world.repository(NAME).pulls.insert(number + 1, copy);
    });
    assert_eq!(
        server
            .post(
                "pull_request",
                "a-guid",
                &serde_json::to_vec(&payload).unwrap()
            )
            .await
            .0,
        202
    );
    server.drained().await;
    assert!(
        shown(&server, number + 1).await["flags"]
            .as_array()
            .unwrap()
            .contains(&json!("stub"))
    );
    round(&mut server, &poller).await;
    assert!(
        !shown(&server, number + 1).await["flags"]
            .as_array()
            .unwrap()
            .contains(&json!("stub"))
    );
    server.stop().await;
    github.stop().await;
}

/// A server that polls by itself, as often as can be.
async fn polling(github: &FakeGithub, sync: Sync) -> TestServer {
    let place = Place::new().await;
    let mut config = config(&place);
    config.github_api_url = github.api();
    config.github_credentials = Some(Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap()));
    config.sync = sync;
    TestServer::start_as(&config, place, Options::default()).await
}

/// Asks until it is as expected; after half a minute it fails instead.
async fn until(server: &TestServer, path: &str, expected: impl Fn(&Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let (_, answer) = server.get(path).await;
        if expected(&answer) {
            return answer;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{path} never was as expected: {answer}"
        );
        tokio::time::sleep(ASKED_AGAIN).await;
    }
}

#[tokio::test]
async fn a_server_tracks_its_default_repository_and_brings_its_history() {
    let github = FakeGithub::start().await;
    github.add_repository(REPO.0, NAME);
    github.world(|world| {
        world.grow(
            NAME,
            Growth {
                seed: 3,
                pulls: 30,
                ties: true,
                until: ago(600),
            },
        )
    });
    let server = polling(&github, settings()).await;
    let repos = until(&server, "/api/repos", |repos| {
        repos["items"][0]["sync_status"] == "synced"
    })
    .await;
    let repository = &repos["items"][0];
    assert_eq!(
        repository["completeness"]["missing"],
        json!([]),
        "{repository}"
    );
    let run = server
        .get(&format!("/api/sync-runs/{}", repository["sync_run"]))
        .await
        .1;
    assert_eq!(
        (&run["state"], &run["prs_done"], &run["errors"]),
        (&json!("done"), &json!(30), &json!([]))
    );
    until(&server, "/api/prs?per_page=100", |prs| {
        prs["items"].as_array().unwrap().len() == 30
    })
    .await;
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn a_repository_that_a_webhook_made_known_gets_its_history_too() {
    let github = FakeGithub::start().await;
    github.add_repository(9, "other/place");
    let told = github.world(|world| {
        world.grow(
            "other/place",
            Growth {
                seed: 3,
                pulls: 8,
                ties: true,
                until: ago(600),
            },
        )
    });
    let sync = Sync {
        interval: Duration::from_secs(1),
        ..settings()
    };
    let server = polling(&github, sync).await;
    github.add_hook(
        1,
        "repos/other/place",
        &format!("{}/webhooks/github", server.url),
        SECRET,
    );
    assert_eq!(
        github.send(1, told.last().unwrap(), Sending::Posted).await,
        202
    );
    let is_whole = |repos: &Value| {
        let items = repos["items"].as_array().unwrap();
        items.iter().any(|item| {
            item["repo"] == "other/place" && item["completeness"]["missing"] == json!([])
        })
    };
    until(&server, "/api/repos", is_whole).await;
    until(&server, "/api/prs?repo=other/place", |prs| {
        prs["items"].as_array().unwrap().len() == 8
    })
    .await;
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn a_round_that_is_asked_for_comes_at_once_and_a_watched_pull_request_is_watched() {
    let github = FakeGithub::start().await;
    for (id, name) in [(REPO.0, NAME), (9, "other/place")] {
        github.add_repository(id, name);
    }
    let server = polling(&github, settings()).await;
    until(&server, "/api/sync/stats", |stats| {
        stats["sync_count"] == 1 && stats["running"] == false
    })
    .await;
    let number = open(&github);
    let asked = server
        .http
        .post(format!("{}/api/sync", server.url))
        .bearer_auth(support::TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status().as_u16(), 202);
    until(
        &server,
        &format!("/api/repos/{NAME}/prs/{number}"),
        |found| found["state"] == "open",
    )
    .await;

    let watched = github.world(|world| {
        let told = world.grow(
            "other/place",
            Growth {
                seed: 5,
                pulls: 1,
                ties: true,
                until: ago(600),
            },
        );
        told[0].payload["number"].as_i64().unwrap()
    });
    let path = format!("/api/repos/other/place/prs/{watched}");
    let monitor = format!("{}{path}/monitor", server.url);
    let asked = server
        .http
        .post(monitor)
        .bearer_auth(support::TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status().as_u16(), 202);
    let found = until(&server, &path, |found| found["source"] == "monitor").await;
    assert_eq!(found["number"], watched);
    let names: Vec<_> = server.get("/api/repos").await.1["items"]
        .as_array()
        .unwrap()
        .to_vec();
    assert_eq!(
        names.len(),
        1,
        "what is watched alone is not tracked: {names:?}"
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn whoever_wants_the_latest_gets_it_and_pays_only_for_what_changed() {
    let github = FakeGithub::start().await;
    github.add_repository(REPO.0, NAME);
    let number = open(&github);
    let server = polling(
        &github,
        Sync {
            interval: Duration::from_hours(24),
            ..settings()
        },
    )
    .await;
    let path = format!("/api/repos/{NAME}/prs/{number}");
    until(&server, &path, |found| found["state"] == "open").await;
    act(&github, number, 20, &Act::Merge);
    assert_eq!(server.get(&path).await.1["state"], "open");
    let fresh = server.get(&format!("{path}?fresh=true")).await;
    assert_eq!(
        (fresh.0, &fresh.1["state"]),
        (200, &json!("merged")),
        "{}",
        fresh.1
    );
    let as_of = |answer: &Value| Timestamp::parse(answer["as_of"].as_str().unwrap()).unwrap();
    assert!(as_of(&fresh.1) >= ago(1));
    github.requests();
    let again = server.get(&format!("{path}?fresh=true")).await;
    assert!(as_of(&again.1) >= as_of(&fresh.1));
    let requests = github.requests();
    assert_eq!(
        requests
            .iter()
            .map(|request| (request.status, request.cost))
            .collect::<Vec<_>>(),
        [(304, 0)]
    );
    let unknown = server
        .get(&format!("/api/repos/{NAME}/prs/999?fresh=true"))
        .await;
    support::assert_refused(&unknown, 404, "not_found");
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn without_access_to_github_that_is_said() {
    let mut server = TestServer::start().await;
    let (event, guid, payload) = {
        let fixture = support::fixtures()
            .into_iter()
            .find(|fixture| fixture.event == "pull_request")
            .unwrap();
        (fixture.event, fixture.guid, fixture.payload)
    };
    server.post(&event, &guid, &payload).await;
    server.drained().await;
    let number = serde_json::from_slice::<Value>(&payload).unwrap()["number"].clone();
    let fresh = server
        .get(&format!("/api/repos/{NAME}/prs/{number}?fresh=true"))
        .await;
    support::assert_refused(&fresh, 409, "github_access_missing");
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_old_is_refreshed_behind_it() {
    let github = FakeGithub::start().await;
    github.add_repository(REPO.0, NAME);
    let number = open(&github);
    let sync = Sync {
        interval: Duration::from_hours(24),
        cache_ttl: Duration::ZERO,
        ..settings()
    };
    let server = polling(&github, sync).await;
    let path = format!("/api/repos/{NAME}/prs/{number}");
    until(&server, &path, |found| found["state"] == "open").await;
    act(&github, number, 20, &Act::Merge);
    until(&server, &path, |found| found["state"] == "merged").await;
    server.stop().await;
    github.stop().await;
}

/// A client with a token of its own.
fn client_of(github: &FakeGithub, token: &str) -> Client {
    let time = VirtualTime::starting_at(Utc::now());
    let token = Credentials::Token(Token::parse(token).unwrap());
    Client::with(
        github.api(),
        token,
        Clock::Virtual(time),
        Duration::from_secs(30),
    )
    .unwrap()
}

#[tokio::test]
async fn a_token_that_is_revoked_is_told_of_every_repository() {
    let (github, mut server, mut poller) = tracked().await;
    github.give("ghp_another", Rights::Read);
    poller.client = client_of(&github, "ghp_another");
    assert_eq!(
        round(&mut server, &poller).await.repositories[0].failure(),
        None
    );
    github.revoke("ghp_another");
    let failure = round(&mut server, &poller).await.repositories[0]
        .failure()
        .unwrap();
    assert!(
        failure.contains("GITHUB_TOKEN") && !failure.contains("ghp_another"),
        "{failure}"
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn a_backfill_that_failed_is_asked_for_again_an_hour_later() {
    let (github, mut server, poller) = tracked().await;
    let store = server.running.store.clone();
    round(&mut server, &poller).await;
    let fail = |at| {
        let store = store.clone();
        async move {
            let mut run = store.claim_run(Some(REPO), at, at).await.unwrap().unwrap();
            (run.state, run.walk, run.error) = (
                RunState::Failed,
                Some("{}".to_owned()),
                Some("a reason".to_owned()),
            );
            assert!(store.save_run(&run, at, at).await.unwrap());
        }
    };
    fail(Utc::now()).await;
    round(&mut server, &poller).await;
    let state = || async {
        store
            .sync_runs(Some(REPO), None, 1)
            .await
            .unwrap()
            .remove(0)
            .state
    };
    assert_eq!(state().await, RunState::Failed, "it failed just now");
    // As if that had been two hours ago.
    store
        .request_run(REPO, &settings().backfill.into(), Utc::now())
        .await
        .unwrap()
        .unwrap();
    fail(Utc::now() - TimeDelta::hours(2)).await;
    round(&mut server, &poller).await;
    assert_eq!(state().await, RunState::Queued);
    server.stop().await;
    github.stop().await;
}
