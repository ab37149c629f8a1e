//! Backfills with random failures of GitHub: nearly all are complete in one run. The others name
//! what is missing, and the next run completes them.
//!
//! `TALLYHOOK_FAULTY_SYNCS` sets the number of repositories; the default is a few.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use tallyhook::sync::backfill::{BackfillOutcome, BackfillRunner, lease_until};
use tallyhook::sync::fetch::observed_repository;
use tallyhook_core::github::types::RepoId;
use tallyhook_store::{DeliveryFilter, OpenMode, RunOptions, RunState, Store};

use testkit::Place;
use testkit::github::acts::Act;
use testkit::github::growth::{Growth, people};
use testkit::github::{FakeGithub, Fault};

const NAME: &str = "acme-corp/api-server";
const REPO: RepoId = RepoId(7);
const PULLS: usize = 30;
/// Pull requests of a repository, on more than one page.
const REVIEWS: usize = 55;
/// The share of failing answers, in the two scenarios.
const RATE: f64 = 0.05;
const WORSE: f64 = 0.6;
/// The client's time limit for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 6;

/// Returns the number of repositories.
fn size() -> u64 {
    std::env::var("TALLYHOOK_FAULTY_SYNCS").map_or(40, |setting| {
        setting.parse().expect("a number of repositories")
    })
}

fn faults() -> Vec<Fault> {
    let statuses = [500, 502, 503, 504].map(Fault::status);
    let others = [
        Fault::Slow(PATIENCE * 10),
        Fault::Truncated,
        Fault::Partial(4),
    ];
    statuses.into_iter().chain(others).collect()
}

/// Returns a repository in which some pull requests have more entries than one answer contains.
async fn grown(seed: u64) -> FakeGithub {
    let github = FakeGithub::start().await;
    github.add_repository(REPO.0, NAME);
    let until = (Utc::now() - TimeDelta::hours(1)).into();
    github.world(|world| {
        world.grow(
            NAME,
            Growth {
                seed,
                pulls: PULLS,
                ties: true,
                until,
            },
        );
        let reviewer = &people()[0];
        for number in [4, 13, 27] {
            for _ in 0..REVIEWS {
                world.act(NAME, number, reviewer, until, &Act::Review("commented"));
            }
        }
    });
    github
}

/// The result of a sync.
#[derive(Debug, PartialEq)]
enum SyncResult {
    Whole,
    /// Some pull requests are missing, and named.
    Named(BTreeMap<i64, String>),
    /// It ended early for this reason.
    Stopped(String),
}

/// Continues a run to its end or its deferral. Returns the result and the time of the next attempt.
async fn sync(
    store: &Store,
    github: &FakeGithub,
    now: DateTime<Utc>,
) -> (SyncResult, DateTime<Utc>) {
    let options = RunOptions {
        days_back: 90,
        max_prs: 1000,
        commits: true,
    };
    store
        .request_run(REPO, &options, now)
        .await
        .unwrap()
        .unwrap();
    let run = store
        .claim_run(Some(REPO), now, lease_until())
        .await
        .unwrap()
        .unwrap();
    let client = github.client_of_patience(PATIENCE).0;
    match (BackfillRunner {
        client,
        store: store.clone(),
    })
    .run(run, |_| {})
    .await
    .unwrap()
    {
        BackfillOutcome::Finished(run) if run.state == RunState::Done && run.errors.is_empty() => {
            (SyncResult::Whole, now)
        }
        BackfillOutcome::Finished(run) if run.state == RunState::Done => (
            SyncResult::Named(
                run.errors
                    .into_iter()
                    .map(|error| (error.pr, error.error))
                    .collect(),
            ),
            now,
        ),
        BackfillOutcome::Finished(run) => (SyncResult::Stopped(run.error.unwrap()), now),
        BackfillOutcome::Deferred(run, until) => (
            SyncResult::Stopped(run.error.unwrap()),
            until + TimeDelta::seconds(1),
        ),
        BackfillOutcome::LeaseLost => panic!("no other process takes the run"),
    }
}

/// Returns the numbers of the pull requests in the inbox, with repetitions.
async fn fetched(store: &Store) -> Vec<i64> {
    let stored = store
        .deliveries(&DeliveryFilter::default(), 1000)
        .await
        .unwrap();
    let mut numbers: Vec<_> = stored
        .into_iter()
        .map(|delivery| delivery.pr_number.unwrap().0)
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Fetches one repository. Returns the result of the first sync and the number of failed answers in
/// it. Asserts that missing pull requests are named, and that a sync without failures fetches them.
async fn fetch(seed: u64, rate: f64) -> (SyncResult, u64) {
    let (github, place) = (grown(seed).await, Place::embedded());
    let store = tallyhook_store::open(&place.database_url, OpenMode::Exclusive)
        .await
        .unwrap();
    store
        .track(
            &observed_repository(REPO, NAME.to_owned(), Some(false)),
            Utc::now(),
        )
        .await
        .unwrap();
    github.disturb(seed, rate, faults());
    let (first, later) = sync(&store, &github, Utc::now()).await;
    let spoiled = github.calm();

    let all: Vec<_> = (1..=i64::try_from(PULLS).unwrap()).collect();
    let there: BTreeSet<_> = fetched(&store).await.into_iter().collect();
    let missing: BTreeSet<_> = all
        .iter()
        .copied()
        .filter(|number| !there.contains(number))
        .collect();
    match &first {
        SyncResult::Whole => assert_eq!(missing, BTreeSet::new()),
        // A pull request that is stored may have failed when it was fetched again.
        SyncResult::Named(named) => {
            assert!(
                missing.iter().all(|number| named.contains_key(number)),
                "{missing:?} {named:?}"
            )
        }
        SyncResult::Stopped(_) => {}
    }
    let named = match &first {
        SyncResult::Whole => Vec::new(),
        SyncResult::Named(named) => named.values().collect(),
        SyncResult::Stopped(error) => vec![error],
    };
    assert!(
        named
            .iter()
            .all(|error| !error.is_empty() && !error.contains('\n')),
        "{named:?}"
    );

    // One run continues where the first one stopped; the other fetches everything and finds nothing
    // new.
    for _ in 0..2 {
        assert_eq!(
            sync(&store, &github, later).await.0,
            SyncResult::Whole,
            "seed {seed}, in calm"
        );
    }
    assert_eq!(fetched(&store).await, all);
    store.close().await;
    github.stop().await;
    (first, spoiled)
}

#[tokio::test]
#[allow(
    clippy::print_stdout,
    reason = "how many there were belongs to the result"
)]
async fn nearly_all_repositories_are_complete_after_one_run() {
    let syncs = size();
    let fetched = stream::iter(0..syncs).map(|seed| async move { (seed, fetch(seed, RATE).await) });
    let (mut whole, mut met, mut spoiled_in_all) = (0, 0, 0);
    let mut fetched = fetched.buffer_unordered(AT_ONCE);
    while let Some((seed, (outcome, spoiled))) = fetched.next().await {
        whole += u64::from(outcome == SyncResult::Whole);
        met += u64::from(spoiled > 0);
        spoiled_in_all += spoiled;
        if outcome != SyncResult::Whole {
            println!("seed {seed}: {outcome:?}");
        }
    }
    println!(
        "{whole} of {syncs} were complete; {met} of them had a failed answer, {spoiled_in_all} in all"
    );
    assert!(met > syncs / 5, "hardly anything went wrong");
    assert!(whole * 100 > syncs * 95, "{whole} of {syncs}");
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "how they ended belongs to the result")]
async fn incomplete_repositories_name_what_is_missing_and_the_next_run_completes_them() {
    let fetched = stream::iter(0..12)
        .map(|seed| fetch(seed, WORSE))
        .buffer_unordered(AT_ONCE);
    let outcomes: Vec<_> = fetched.map(|(outcome, _)| outcome).collect().await;
    println!("{outcomes:#?}");
    assert!(
        outcomes.iter().any(|outcome| *outcome != SyncResult::Whole),
        "nothing is missing that could be named"
    );
}
