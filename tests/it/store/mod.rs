//! The guarantees of every store: one suite that runs on each kind of database.

mod changes;
mod condition;
mod delivery_list;
mod facts;
mod inbox;
mod load;
mod migrations;
mod notifications;
mod outbox;
#[cfg(feature = "services")]
mod postgres;
mod reading;
mod renumbering;
mod retention;
mod runs;
mod syncing;
mod tasks;
mod team_repositories;
mod teams;
mod tickets;
mod tokens;
mod waiting;
mod waiting_notifications;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use tallyhook_core::delivery::{DeliveryId, Lane};
use tallyhook_core::domain::join::Dated;
use tallyhook_core::domain::numbers::{NumberRules, numbers};
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::domain::repository::{Repository, RepositoryAccess, RepositoryDetails};
use tallyhook_core::event::ReviewState;
use tallyhook_core::github::types::{InstallationId, PrNumber, RepoId, ReviewId, Timestamp};
use tallyhook_store::{
    AcceptOutcome, BatchWrite, DeliveryState, NewDelivery, NewState, OpenMode, PullRequestRecord,
    RepositoryObservation, Store, StoredBody, StoredPullRequest,
};

use testkit::database::Database;
use testkit::histories::{self, Step};

/// Opens the store of an empty database.
pub(crate) async fn open(database: &Database) -> Store {
    tallyhook_store::open(&database.url, OpenMode::Exclusive)
        .await
        .unwrap()
}

pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_500_000, 0).unwrap()
}

pub(crate) fn later(seconds: i64) -> DateTime<Utc> {
    now() + TimeDelta::seconds(seconds)
}

pub(crate) fn delivery(guid: &str, state: NewState) -> NewDelivery {
    NewDelivery {
        guid: guid.to_owned(),
        body_sha256: [7; 32],
        event: "pull_request".to_owned(),
        action: Some("opened".to_owned()),
        repo: Some((RepoId(7), "acme-corp/api-server".to_owned())),
        pr_number: Some(PrNumber(3)),
        source: Source::Webhook,
        lane: Lane::Live,
        received_at: now(),
        body: StoredBody::compress(b"{\"zen\":1}").unwrap(),
        state,
    }
}

pub(crate) fn pending() -> NewState {
    NewState::Pending { due: now() }
}

pub(crate) async fn accept(store: &Store, guid: &str) -> DeliveryId {
    match store.accept(delivery(guid, pending())).await.unwrap() {
        AcceptOutcome::Stored(id) => id,
        other => panic!("{guid}: {other:?}"),
    }
}

pub(crate) async fn state(store: &Store, id: DeliveryId) -> (DeliveryState, u32) {
    let delivery = store.delivery(id).await.unwrap().unwrap();
    (delivery.state, delivery.attempts)
}

/// Claims deliveries for a minute, with at most five attempts.
pub(crate) async fn claim(store: &Store, ids: &[DeliveryId], at: DateTime<Utc>) -> Vec<DeliveryId> {
    let claim = store
        .claim(ids, at, at + TimeDelta::seconds(60), 5)
        .await
        .unwrap();
    claim
        .claimed
        .into_iter()
        .map(|claimed| claimed.id)
        .collect()
}

/// Applies a history and records it, as a worker does.
pub(crate) async fn write(store: &Store, steps: &[(i64, Step)]) -> StoredPullRequest {
    let mut known = store.load(&[histories::KEY]).await.unwrap().remove(0);
    let mut reviews = BTreeSet::new();
    for event in histories::events(false, Some(500), steps) {
        known.pull_request.apply(&event, Source::Webhook);
        reviews.extend(event.review.map(|review| review.id));
    }
    let recording = recording(known.clone(), reviews);
    store.record(&recording, now()).await.unwrap().unwrap();
    known
}

pub(crate) fn recording(known: StoredPullRequest, reviews: BTreeSet<ReviewId>) -> BatchWrite {
    let numbers = numbers(
        &known.pull_request,
        known.repo_name(),
        &NumberRules::default(),
    );
    BatchWrite {
        pull_requests: vec![PullRequestRecord {
            numbers,
            known,
            reviews,
        }],
        repositories: vec![repository(
            100,
            "acme-corp/api-server",
            RepositoryAccess::Granted,
        )],
        ..BatchWrite::default()
    }
}

/// A repository as a webhook shows it.
pub(crate) fn repository(at: i64, name: &str, access: RepositoryAccess) -> RepositoryObservation {
    let repository = Repository {
        id: histories::KEY.repo,
        seen: Dated {
            at: Timestamp::clamped(at),
            value: RepositoryDetails {
                name: name.to_owned(),
                private: None,
            },
        },
        installation: Some(InstallationId(5)),
        access: Dated {
            at: Timestamp::clamped(at),
            value: access,
        },
    };
    RepositoryObservation {
        repository,
        former_names: BTreeMap::new(),
        last_delivery: Some(now()),
        tracks: Some(now()),
    }
}

pub(crate) const WHOLE_LIFE: [(i64, Step); 9] = [
    (10, Step::Label(1)),
    (10, Step::ConvertToDraft),
    (10, Step::Ready),
    (10, Step::Comment(2)),
    (10, Step::Review(1, ReviewState::ChangesRequested)),
    (10, Step::Dismiss(0)),
    (10, Step::Push),
    (10, Step::Review(1, ReviewState::Approved)),
    (10, Step::Merge),
];

/// Returns true if a condition holds within ten seconds: a server notices the end of a connection
/// only after a while.
pub(crate) async fn eventually(mut holds: impl AsyncFnMut() -> bool) -> bool {
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while tokio::time::Instant::now() < until {
        if holds().await {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}
