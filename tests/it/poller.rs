//! The poller finds changes that webhooks missed, and unchanged repositories cost nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tallyhook::app::ServerOptions;
use tallyhook::config::SyncConfig as Sync;
use tallyhook::sync::fetch::observed_repository;
use tallyhook::sync::poller::{PollRound, Poller};
use tallyhook_core::domain::numbers::{NumberRules, numbers};
use tallyhook_core::event::Fact;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_github_client::{Client, Clock, Credentials, Token, VirtualTime};
use tallyhook_store::{
    BatchWrite, DEFAULT_TEAM, PullRequestRecord, RunFilter, RunState, SyncStatus,
};

use testkit::github::acts::Act;
use testkit::github::growth::{Growth, people};
use testkit::github::world::{Opening, Reviewer};
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN, Rights, Sending};
use testkit::payloads::{HeadRepo, Team, pull_request_event};
use testkit::{Place, SECRET, TestServer, config};

const NAME: &str = "acme-corp/api-server";
const REPO: RepoId = RepoId(7);

/// The interval of requests to a server that works in the background; frequent requests would slow
/// it down.
const ASKED_AGAIN: Duration = Duration::from_millis(20);

fn ago(minutes: i64) -> Timestamp {
    (Utc::now() - TimeDelta::minutes(minutes)).into()
}

fn settings() -> Sync {
    config(&Place::embedded()).sync
}

/// Returns a fake GitHub with one repository, and a server that has tracked it for two hours
/// without webhooks.
async fn tracked() -> (FakeGithub, TestServer, Poller) {
    let github = FakeGithub::start().await;
    github.add_repository(REPO.0, NAME);
    let server = TestServer::start().await;
    let since = Utc::now() - TimeDelta::hours(2);
    server
        .running
        .store
        .track(
            &observed_repository(REPO, NAME.to_owned(), Some(false)),
            since,
        )
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

/// Opens a pull request an hour ago and returns its number.
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

async fn round(server: &mut TestServer, poller: &Poller) -> PollRound {
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
async fn change_without_webhook_is_found_and_counted_as_missed() {
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
async fn change_with_webhook_is_not_counted_as_missed() {
    let (github, mut server, poller) = tracked().await;
    let number = open(&github);
    github.add_hook(
        1,
        "repos/acme-corp/api-server",
        &format!("{}/webhooks/github", server.url),
        SECRET,
    );
    let by = people().remove(1);
    let webhooks =
        github.world(|world| world.act(NAME, number, &by, ago(30), &Act::Label("bug".to_owned())));
    for webhook in &webhooks {
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
    // It was opened before the delivered webhook, which does not contain its draft state.
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
async fn failing_repository_stops_no_other() {
    let (github, mut server, poller) = tracked().await;
    let gone = observed_repository(RepoId(8), "acme-corp/gone".to_owned(), None);
    server.running.store.track(&gone, Utc::now()).await.unwrap();
    let number = open(&github);
    let round = round(&mut server, &poller).await;
    let reported: Vec<_> = round
        .repositories
        .iter()
        .map(|polled| (polled.repo.as_str(), polled.failure()))
        .collect();
    assert_eq!(reported[0], (NAME, None));
    let failure = reported[1].1.clone().unwrap();
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
async fn reused_repository_name_is_not_mixed_up() {
    let (github, mut server, poller) = tracked().await;
    open(&github);
    // The repository that is tracked as 7 is deleted, and another one has its name.
    server
        .running
        .store
        .of_team(DEFAULT_TEAM.0)
        .untrack(REPO, Utc::now())
        .await
        .unwrap();
    server
        .running
        .store
        .track(
            &observed_repository(RepoId(6), NAME.to_owned(), None),
            ago(120).to_utc(),
        )
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
async fn renamed_repository_is_followed() {
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
async fn outage_is_retried_and_a_failed_pull_request_is_fetched_again() {
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

/// A pull request known only from a review, as after an older delivery, has no counts.
#[tokio::test]
async fn partially_known_pull_request_is_fetched() {
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
    // GitHub has it, too, but its last update is older than the listing's range.
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

#[tokio::test]
async fn request_of_an_unknown_kind_is_fetched_again_once() {
    let (github, mut server, mut poller) = tracked().await;
    poller.settings.backfill.commits = true;
    let number = open(&github);
    let team = Team {
        id: 5,
        slug: "backend".to_owned(),
    };
    act(&github, number, 50, &Act::Request(Reviewer::Team(team)));
    round(&mut server, &poller).await;
    round(&mut server, &poller).await;
    // As an earlier version stored it.
    let store = server.running.store.clone();
    let repo = store.repository_id(NAME).await.unwrap().unwrap();
    let key = PrKey {
        repo,
        number: PrNumber(number),
    };
    let mut known = store.load(&[key]).await.unwrap().remove(0);
    let facts: Vec<_> = known.pull_request.timeline.iter().collect();
    known.pull_request.timeline = facts
        .into_iter()
        .map(|fact| Fact {
            subject_kind: None,
            ..fact
        })
        .collect();
    let record = PullRequestRecord {
        numbers: numbers(&known.pull_request, None, &NumberRules::default()),
        known,
        reviews: BTreeSet::new(),
    };
    let recording = BatchWrite {
        pull_requests: vec![record],
        ..BatchWrite::default()
    };
    store.record(&recording, Utc::now()).await.unwrap().unwrap();
    let kind = async |server: &TestServer| {
        let shown = shown(server, number).await;
        let entries = shown["timeline"].as_array().unwrap().clone();
        let is_request = |entry: &&Value| entry["type"] == "review_requested";
        let requests: Vec<_> = entries.iter().filter(is_request).collect();
        assert_eq!(requests.len(), 1, "{entries:?}");
        assert_eq!(requests[0]["detail"], "backend");
        requests[0]["subject_kind"].clone()
    };
    assert_eq!(kind(&server).await, json!(null));
    // GitHub has tried the merge since, without an update: the same answer would be a repetition.
    github.world(|world| {
        let pull = world.repository(NAME).pulls.get_mut(&number).unwrap();
        pull.conflicting = Some(false);
    });
    let fetched = round(&mut server, &poller).await.repositories[0].fetched;
    assert_eq!((fetched, kind(&server).await), (1, json!("team")));
    let fetched = round(&mut server, &poller).await.repositories[0].fetched;
    assert_eq!(fetched, 0);
    let shown = shown(&server, number).await;
    let commits = shown["commit_list"].as_array().unwrap();
    assert_eq!((commits.len(), &shown["commits"]), (1, &json!(1)));
    assert_eq!(commits[0]["author"], shown["author"]);
    for (name, minutes) in [("authored_at", 70), ("committed_at", 65)] {
        let at = commits[0][name]
            .as_str()
            .and_then(Timestamp::parse)
            .unwrap();
        assert!(
            (ago(minutes).epoch() - at.epoch()).abs() < 600,
            "{commits:?}"
        );
    }
    server.stop().await;
    github.stop().await;
}

/// Starts a server that polls in the background at the shortest interval.
async fn polling(github: &FakeGithub, sync: Sync) -> TestServer {
    let place = Place::new().await;
    let mut config = config(&place);
    config.github_api_url = github.api();
    config.github_credentials = Some(Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap()));
    config.sync = sync;
    TestServer::start_as(&config, place, ServerOptions::default()).await
}

/// Requests a path until its answer is as expected. Fails after half a minute.
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
async fn server_tracks_its_default_repository_and_backfills_it() {
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
async fn repository_introduced_by_a_webhook_is_backfilled() {
    let github = FakeGithub::start().await;
    github.add_repository(9, "other/place");
    let webhooks = github.world(|world| {
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
        github
            .send(1, webhooks.last().unwrap(), Sending::Posted)
            .await,
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
async fn requested_round_runs_at_once_and_a_watched_pull_request_is_polled() {
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
        .bearer_auth(testkit::TOKEN)
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
        let webhooks = world.grow(
            "other/place",
            Growth {
                seed: 5,
                pulls: 1,
                ties: true,
                until: ago(600),
            },
        );
        webhooks[0].payload["number"].as_i64().unwrap()
    });
    let path = format!("/api/repos/other/place/prs/{watched}");
    let monitor = format!("{}{path}/monitor", server.url);
    let asked = server
        .http
        .post(monitor)
        .bearer_auth(testkit::TOKEN)
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
async fn fresh_answer_is_current_and_costs_requests_only_after_a_change() {
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
    testkit::assert_refused(&unknown, 404, "not_found");
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn missing_github_access_is_reported() {
    let mut server = TestServer::start().await;
    let (event, guid, payload) = {
        let fixture = testkit::fixtures()
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
    testkit::assert_refused(&fresh, 409, "github_access_missing");
    server.stop().await;
}

#[tokio::test]
async fn stale_answer_is_refreshed_in_the_background() {
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

/// Returns a client with its own token.
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
async fn revoked_token_is_reported_for_every_repository() {
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
async fn failed_backfill_is_requested_again_after_an_hour() {
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
            .of_team(DEFAULT_TEAM.0)
            .sync_runs(
                &RunFilter {
                    repo: Some(REPO),
                    ..RunFilter::default()
                },
                None,
                1,
            )
            .await
            .unwrap()
            .remove(0)
            .state
    };
    assert_eq!(state().await, RunState::Failed, "it failed just now");
    // As if the failure were two hours old.
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
