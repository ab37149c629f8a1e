//! GitHub's answers go wrong by chance while repositories are fetched: nearly all of them come whole at once, the others
//! say what is missing, and come whole when they are asked for again.
//!
//! A run of `TALLYHOOK_FAULTY_SYNCS=N` has so many repositories in place of a few.

#[path = "support/github/mod.rs"]
mod github;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use tallyhook::sync::backfill::{Backfill, Ended, lease};
use tallyhook::sync::fetch::seen;
use tallyhook_core::github::types::RepoId;
use tallyhook_store::{DeliveryFilter, OpenMode, RunOptions, RunState, Store};

use github::acts::Act;
use github::growth::{Growth, people};
use github::{FakeGithub, Fault};
use support::Place;

const NAME: &str = "acme-corp/api-server";
const REPO: RepoId = RepoId(7);
const PULLS: usize = 30;
/// More than one page of them is asked for by itself.
const REVIEWS: usize = 55;
/// The part of the answers that goes wrong, on bad days and on worse ones.
const RATE: f64 = 0.05;
const WORSE: f64 = 0.6;
/// An answer that takes longer comes too late.
const PATIENCE: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 6;

/// How many repositories are fetched.
fn size() -> u64 {
    std::env::var("TALLYHOOK_FAULTY_SYNCS")
        .map_or(40, |told| told.parse().expect("a number of repositories"))
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

/// A repository in which some pull requests have more than is told of at once.
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

/// How a sync ended.
#[derive(Debug, PartialEq)]
enum Outcome {
    Whole,
    /// Some are missing, and named.
    Named(BTreeMap<i64, String>),
    /// It ended before, for this reason.
    Stopped(String),
}

/// A run to its end, or to where it was put off, and when it may be taken again.
async fn sync(store: &Store, github: &FakeGithub, now: DateTime<Utc>) -> (Outcome, DateTime<Utc>) {
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
        .claim_run(Some(REPO), now, lease())
        .await
        .unwrap()
        .unwrap();
    let client = github.client_of_patience(PATIENCE).0;
    match (Backfill {
        client,
        store: store.clone(),
    })
    .run(run, |_| {})
    .await
    .unwrap()
    {
        Ended::Finished(run) if run.state == RunState::Done && run.errors.is_empty() => {
            (Outcome::Whole, now)
        }
        Ended::Finished(run) if run.state == RunState::Done => (
            Outcome::Named(
                run.errors
                    .into_iter()
                    .map(|error| (error.pr, error.error))
                    .collect(),
            ),
            now,
        ),
        Ended::Finished(run) => (Outcome::Stopped(run.error.unwrap()), now),
        Ended::PutOff(run, until) => (
            Outcome::Stopped(run.error.unwrap()),
            until + TimeDelta::seconds(1),
        ),
        Ended::LetGo => panic!("nobody else takes it"),
    }
}

/// The numbers of what is in the inbox, each as often as it is there.
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

/// One repository: how the first sync ended, and how many answers went wrong in it. Whatever is missing then is named,
/// and comes when all is calm.
async fn fetch(seed: u64, rate: f64) -> (Outcome, u64) {
    let (github, place) = (grown(seed).await, Place::embedded());
    let store = tallyhook_store::open(&place.database_url, OpenMode::Exclusive)
        .await
        .unwrap();
    store
        .track(&seen(REPO, NAME.to_owned(), Some(false)), Utc::now())
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
        Outcome::Whole => assert_eq!(missing, BTreeSet::new()),
        // One that is there may have failed when it was asked for once more.
        Outcome::Named(named) => {
            assert!(
                missing.iter().all(|number| named.contains_key(number)),
                "{missing:?} {named:?}"
            )
        }
        Outcome::Stopped(_) => {}
    }
    let told = match &first {
        Outcome::Whole => Vec::new(),
        Outcome::Named(named) => named.values().collect(),
        Outcome::Stopped(error) => vec![error],
    };
    assert!(
        told.iter()
            .all(|error| !error.is_empty() && !error.contains('\n')),
        "{told:?}"
    );

    // One goes on where the first stopped; the other fetches everything, and finds nothing that is not there already.
    for _ in 0..2 {
        assert_eq!(
            sync(&store, &github, later).await.0,
            Outcome::Whole,
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
async fn nearly_all_come_whole() {
    let syncs = size();
    let fetched = stream::iter(0..syncs).map(|seed| async move { (seed, fetch(seed, RATE).await) });
    let (mut whole, mut met, mut spoiled_in_all) = (0, 0, 0);
    let mut fetched = fetched.buffer_unordered(AT_ONCE);
    while let Some((seed, (outcome, spoiled))) = fetched.next().await {
        whole += u64::from(outcome == Outcome::Whole);
        met += u64::from(spoiled > 0);
        spoiled_in_all += spoiled;
        if outcome != Outcome::Whole {
            println!("seed {seed}: {outcome:?}");
        }
    }
    println!(
        "{whole} of {syncs} came whole; {met} of them met a wrong answer, {spoiled_in_all} in all"
    );
    assert!(met > syncs / 5, "hardly anything went wrong");
    assert!(whole * 100 > syncs * 95, "{whole} of {syncs}");
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "how they ended belongs to the result")]
async fn the_others_say_what_is_missing_and_come_whole_when_asked_again() {
    let fetched = stream::iter(0..12)
        .map(|seed| fetch(seed, WORSE))
        .buffer_unordered(AT_ONCE);
    let outcomes: Vec<_> = fetched.map(|(outcome, _)| outcome).collect().await;
    println!("{outcomes:#?}");
    assert!(
        outcomes.iter().any(|outcome| *outcome != Outcome::Whole),
        "nothing is missing that could be named"
    );
}
