//! Backfills are complete and cheap, also with failures and changes while they run.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::Value;
use tallyhook::sync::backfill::{BackfillOutcome, BackfillRunner, lease_until};
use tallyhook::sync::fetch::observed_repository;
use tallyhook_core::github::types::{RepoId, Timestamp};
use tallyhook_github_client::Client;
use tallyhook_store::{DEFAULT_TEAM, DeliveryFilter, RunOptions, RunState, SyncRun, SyncStatus};

use testkit::github::acts::Act;
use testkit::github::growth::Growth;
use testkit::github::world::Webhook;
use testkit::github::{FakeGithub, Fault, Sending};
use testkit::payloads::Account;
use testkit::process::timeless;
use testkit::{SECRET, TestServer};

const NAME: &str = "acme-corp/api-server";
const REPO: RepoId = RepoId(7);
const OPTIONS: RunOptions = RunOptions {
    days_back: 90,
    max_prs: 1000,
    commits: false,
};

/// Returns a repository of `pulls` pull requests, all of its webhooks, and a server that received
/// none of them.
async fn grown(pulls: usize) -> (FakeGithub, Vec<Webhook>, TestServer) {
    let github = FakeGithub::start().await;
    github.add_repository(REPO.0, NAME);
    let until = Timestamp::from(Utc::now() - TimeDelta::hours(1));
    let told = github.world(|world| {
        world.grow(
            NAME,
            Growth {
                seed: 7,
                pulls,
                ties: true,
                until,
            },
        )
    });
    let server = TestServer::start().await;
    server
        .running
        .store
        .track(
            &observed_repository(REPO, NAME.to_owned(), Some(false)),
            Utc::now(),
        )
        .await
        .unwrap();
    (github, told, server)
}

/// Requests and leases a run for the server's repository.
async fn leased_run(server: &TestServer, options: RunOptions) -> SyncRun {
    server
        .running
        .store
        .request_run(REPO, &options, Utc::now())
        .await
        .unwrap()
        .unwrap();
    server
        .running
        .store
        .claim_run(Some(REPO), Utc::now(), lease_until())
        .await
        .unwrap()
        .unwrap()
}

async fn backfill(server: &TestServer, client: &Client, options: RunOptions) -> BackfillOutcome {
    let run = leased_run(server, options).await;
    BackfillRunner {
        client: client.clone(),
        store: server.running.store.clone(),
    }
    .run(run, |_| {})
    .await
    .unwrap()
}

fn finished_run(ended: BackfillOutcome) -> SyncRun {
    match ended {
        BackfillOutcome::Finished(run) => run,
        other => panic!("{other:?}"),
    }
}

/// Returns the facts that webhooks and API agree on, by number: all but their source, and what
/// webhooks do not contain.
async fn facts_of(server: &TestServer) -> Vec<Value> {
    let mut facts = Vec::new();
    let mut cursor = String::new();
    loop {
        let (_, page) = server.get(&format!("/api/prs?per_page=100{cursor}")).await;
        for item in page["items"].as_array().unwrap() {
            let (_, mut detail) = server
                .get(&format!("/api/repos/{NAME}/prs/{}", item["number"]))
                .await;
            // Only a webhook shows a push itself, and only a fetch that nothing before it is missing.
            for other in [
                "source",
                "timeline",
                "explain",
                "turns_inferred",
                "whole_until",
            ] {
                detail.as_object_mut().unwrap().remove(other);
            }
            facts.push(timeless(detail));
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    facts.sort_by_key(|fact| fact["number"].as_i64());
    facts
}

#[tokio::test]
async fn hundred_pull_requests_take_six_requests_and_equal_the_webhooks_facts() {
    let (github, told, mut server) = grown(100).await;
    let (client, _) = github.client();
    let run = finished_run(backfill(&server, &client, OPTIONS).await);
    assert_eq!(
        (run.state, run.prs_done, run.prs_total, &run.errors),
        (RunState::Done, 100, Some(100), &Vec::new())
    );
    assert_eq!(run.complete_since, Some(Timestamp::clamped(0)));
    let requests = github.requests();
    assert!(requests.len() <= 6, "{}", requests.len());
    assert_eq!(run.github_requests, requests.len() as u64);
    server.drained().await;

    let mut webhooks = TestServer::start().await;
    github.add_hook(
        1,
        "repos/acme-corp/api-server",
        &format!("{}/webhooks/github", webhooks.url),
        SECRET,
    );
    for webhook in &told {
        assert_eq!(github.send(1, webhook, Sending::Posted).await, 202);
    }
    webhooks.drained().await;
    let (fetched, told) = (facts_of(&server).await, facts_of(&webhooks).await);
    assert_eq!((fetched.len(), told.len()), (100, 100));
    // Webhooks do not determine the order within the last second.
    let fields_apart = |fetched: &Value, told: &Value| -> Vec<String> {
        let fields = fetched.as_object().unwrap().iter();
        let apart = fields.filter(|(name, value)| told[*name] != **value);
        apart
            .map(|(name, value)| format!("{name}: {value}, by webhooks {}", told[name]))
            .collect()
    };
    let differ: Vec<_> = fetched
        .iter()
        .zip(&told)
        .map(|(fetched, told)| fields_apart(fetched, told))
        .filter(|apart| !apart.is_empty())
        .collect();
    assert!(differ.len() <= 5, "{differ:#?}");
    webhooks
        .running
        .store
        .track(
            &observed_repository(REPO, NAME.to_owned(), Some(false)),
            Utc::now(),
        )
        .await
        .unwrap();
    finished_run(backfill(&webhooks, &client, OPTIONS).await);
    webhooks.drained().await;
    assert_eq!(facts_of(&webhooks).await, fetched);
    webhooks.stop().await;
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn thousand_pull_requests_with_reviews_and_commits_take_sixty_requests() {
    let (github, _, mut server) = grown(1000).await;
    let (client, _) = github.client();
    let run = finished_run(
        backfill(
            &server,
            &client,
            RunOptions {
                commits: true,
                ..OPTIONS
            },
        )
        .await,
    );
    assert_eq!((run.prs_done, run.errors.len()), (1000, 0));
    let requests = github.requests();
    assert!(requests.len() <= 60, "{}", requests.len());
    server.drained().await;
    let (_, first) = server.get(&format!("/api/repos/{NAME}/prs/1")).await;
    assert!(first["first_commit_at"].is_string(), "{first}");
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn second_run_changes_nothing() {
    let (github, _, mut server) = grown(60).await;
    let (client, _) = github.client();
    finished_run(backfill(&server, &client, OPTIONS).await);
    server.drained().await;
    let before = facts_of(&server).await;
    let deliveries = server
        .running
        .store
        .deliveries(&DeliveryFilter::default(), 1000)
        .await
        .unwrap()
        .len();
    let again = finished_run(backfill(&server, &client, OPTIONS).await);
    assert_eq!(again.prs_done, 60);
    server.drained().await;
    assert_eq!(facts_of(&server).await, before);
    assert_eq!(
        server
            .running
            .store
            .deliveries(&DeliveryFilter::default(), 1000)
            .await
            .unwrap()
            .len(),
        deliveries
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn run_stops_at_the_maximal_number_and_age() {
    let (github, _, mut server) = grown(60).await;
    let (client, _) = github.client();
    let run = finished_run(
        backfill(
            &server,
            &client,
            RunOptions {
                max_prs: 30,
                ..OPTIONS
            },
        )
        .await,
    );
    assert_eq!((run.prs_done, run.prs_total), (30, Some(30)));
    let oldest = run.complete_since.unwrap();
    server.drained().await;
    let facts = facts_of(&server).await;
    let updated = |fact: &Value| Timestamp::parse(fact["updated_at"].as_str().unwrap()).unwrap();
    assert_eq!(facts.iter().map(updated).min(), Some(oldest));

    let days_back = 20;
    let run = finished_run(
        backfill(
            &server,
            &client,
            RunOptions {
                days_back,
                ..OPTIONS
            },
        )
        .await,
    );
    let back_to = Timestamp::from(Utc::now() - TimeDelta::days(i64::from(days_back)));
    assert!(
        run.complete_since
            .unwrap()
            .epoch()
            .abs_diff(back_to.epoch())
            < 60
    );
    let expected = github.world(|world| {
        world
            .repository(NAME)
            .pulls
            .values()
            .filter(|pull| pull.updated_at() >= back_to)
            .count() as u64
    });
    assert_eq!(run.prs_done, expected);
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn closing_pass_finds_changes_made_during_the_run() {
    let (github, _, mut server) = grown(60).await;
    let (client, _) = github.client();
    // The pull request on the last page moves to the front before that page is requested.
    let last = github.world(|world| {
        let pulls = &world.repository(NAME).pulls;
        *pulls
            .iter()
            .min_by_key(|(_, pull)| pull.updated_at())
            .unwrap()
            .0
    });
    let now = Timestamp::from(Utc::now());
    github.between(3, move |world| {
        let by = Account::user(900_000_011, "member-1");
        world.act(
            NAME,
            last,
            &by,
            now,
            &Act::Retitle("moved to the front".to_owned()),
        );
    });
    let run = finished_run(backfill(&server, &client, OPTIONS).await);
    assert_eq!(run.errors, []);
    server.drained().await;
    let facts = facts_of(&server).await;
    assert_eq!(facts.len(), 60);
    let moved = facts.iter().find(|fact| fact["number"] == last).unwrap();
    assert_eq!(moved["title"], "moved to the front");
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn pages_shrink_where_github_cannot_answer_larger_ones() {
    let (github, _, server) = grown(40).await;
    let (client, _) = github.client();
    github.at_most(10);
    github.next([Fault::status(502)]);
    let run = finished_run(backfill(&server, &client, OPTIONS).await);
    assert_eq!(
        (run.prs_done, run.errors.len(), run.state),
        (40, 0, RunState::Done)
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn failing_pull_request_is_named_and_the_others_are_fetched() {
    let (github, _, mut server) = grown(40).await;
    let (client, _) = github.client();
    github.break_pull(REPO.0, 5);
    let run = finished_run(backfill(&server, &client, OPTIONS).await);
    assert_eq!((run.state, run.error), (RunState::Done, None));
    assert_eq!(
        run.errors.iter().map(|error| error.pr).collect::<Vec<_>>(),
        [5]
    );
    server.drained().await;
    assert_eq!(facts_of(&server).await.len(), 39);
    github.calm();
    let run = finished_run(backfill(&server, &client, OPTIONS).await);
    assert_eq!(run.errors, []);
    server.drained().await;
    assert_eq!(facts_of(&server).await.len(), 40);
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn revoked_token_fails_the_run_and_another_token_continues_it() {
    let (github, _, server) = grown(60).await;
    let (client, _) = github.client();
    github.next([Fault::None, Fault::message(401, &[], "Bad credentials")]);
    let run = finished_run(backfill(&server, &client, OPTIONS).await);
    assert_eq!((run.state, run.prs_done), (RunState::Failed, 25));
    let error = run.error.unwrap();
    assert!(
        error.contains("GITHUB_TOKEN") && !error.contains('\n'),
        "{error}"
    );
    let repository = server
        .running
        .store
        .tracked_repository(REPO)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (repository.sync_status, repository.last_error),
        (SyncStatus::Error, Some(error))
    );
    github.requests();
    let run = finished_run(backfill(&server, &client, OPTIONS).await);
    assert_eq!((run.state, run.prs_done), (RunState::Done, 60));
    assert_eq!(
        github.requests().len(),
        3,
        "two pages that were left, and the closing pass"
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn rate_limit_defers_the_run() {
    let (github, _, server) = grown(60).await;
    let (client, _) = github.client();
    let wait = ("Retry-After", "7200");
    github.next([
        Fault::None,
        Fault::message(403, &[wait], "You have exceeded a secondary rate limit"),
    ]);
    let BackfillOutcome::Deferred(run, until) = backfill(&server, &client, OPTIONS).await else {
        panic!()
    };
    assert_eq!((run.state, run.prs_done), (RunState::Running, 25));
    assert!(
        (until - Utc::now() - TimeDelta::hours(2))
            .num_seconds()
            .abs()
            < 60,
        "{until}"
    );
    let store = &server.running.store;
    assert_eq!(
        store
            .claim_run(None, Utc::now(), lease_until())
            .await
            .unwrap(),
        None
    );
    let later = until + TimeDelta::seconds(1);
    assert_eq!(
        store
            .claim_run(None, later, later)
            .await
            .unwrap()
            .unwrap()
            .prs_done,
        25
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn cancelled_run_stops() {
    let (github, _, server) = grown(60).await;
    let (client, _) = github.client();
    let run = leased_run(&server, OPTIONS).await;
    let (store, id) = (server.running.store.clone(), run.id);
    let (told, mut first_page) = tokio::sync::mpsc::unbounded_channel();
    let cancelling = async {
        first_page.recv().await.unwrap();
        assert!(
            store
                .of_team(DEFAULT_TEAM.0)
                .cancel_run(id, Utc::now())
                .await
                .unwrap()
        );
    };
    // Slow enough for the run to be cancelled before its second page.
    github.slow_down(Duration::from_millis(300));
    let backfill = BackfillRunner {
        client,
        store: store.clone(),
    };
    let (ended, ()) = tokio::join!(
        backfill.run(run, move |_| told.send(()).unwrap()),
        cancelling
    );
    assert!(matches!(ended.unwrap(), BackfillOutcome::LeaseLost));
    let run = server
        .running
        .store
        .of_team(DEFAULT_TEAM.0)
        .sync_run(id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(run.state, RunState::Cancelled);
    server.stop().await;
    github.stop().await;
}
