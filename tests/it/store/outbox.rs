//! The outbox: every change enters it once, in the order of commits.

use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::future::{join_all, maybe_done};
use tallyhook_core::domain::notification::{PullRequestStatus, StatusChange, SyncSource};
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_store::{
    BatchWrite, DEFAULT_TEAM, DeliveryId, EventId, FinishedDelivery, OutboxEvent, OutboxPayload,
    PullRequestChange, Store, VersionConflict,
};

use super::{histories, later, now, open, repository};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    change_of_a_tracked_repository_enters_once_and_in_order,
    refused_batch_publishes_no_event,
    changes_of_a_large_batch_enter_in_order,
    every_listener_is_notified,
    reader_misses_no_event_of_concurrent_writers,
    old_events_are_purged_except_the_newest,
}

pub(super) fn change(
    number: i64,
    old: Option<PullRequestStatus>,
    new: PullRequestStatus,
    at: i64,
) -> PullRequestChange {
    let at = Timestamp::clamped(now().timestamp() + at);
    let key = PrKey {
        repo: histories::KEY.repo,
        number: PrNumber(number),
    };
    PullRequestChange {
        key,
        change: StatusChange { old, new, at },
        source: SyncSource::Webhook,
    }
}

pub(super) fn recording(changes: Vec<PullRequestChange>) -> BatchWrite {
    let repositories = vec![repository(
        100,
        "acme-corp/api-server",
        RepositoryAccess::Granted,
    )];
    BatchWrite {
        repositories,
        changes,
        ..BatchWrite::default()
    }
}

pub(super) async fn record(store: &Store, changes: Vec<PullRequestChange>) {
    while store
        .record(&recording(changes.clone()), now())
        .await
        .unwrap()
        .is_err()
    {}
}

fn changes(events: &[OutboxEvent]) -> Vec<PullRequestChange> {
    let change = |event: &OutboxEvent| match event.payload {
        OutboxPayload::PullRequest(change, None) => change,
        _ => panic!("{event:?} is no change of a pull request without a task"),
    };
    events.iter().map(change).collect()
}

async fn change_of_a_tracked_repository_enters_once_and_in_order(database: Database) {
    let store = open(&database).await;
    assert_eq!(store.newest_event().await.unwrap(), EventId::BEGINNING);
    let opened = change(3, None, PullRequestStatus::Open, 0);
    let merged = PullRequestChange {
        source: SyncSource::Monitor,
        ..change(
            3,
            Some(PullRequestStatus::Open),
            PullRequestStatus::Merged,
            60,
        )
    };
    // The repository is tracked from now on, and GitHub's clock may be five minutes behind.
    record(
        &store,
        vec![
            change(2, None, PullRequestStatus::Closed, -301),
            opened,
            merged,
        ],
    )
    .await;
    record(
        &store,
        vec![
            opened,
            PullRequestChange {
                source: SyncSource::Worker,
                ..merged
            },
        ],
    )
    .await;
    let elsewhere = PrKey {
        repo: RepoId(999),
        number: PrNumber(1),
    };
    record(
        &store,
        vec![PullRequestChange {
            key: elsewhere,
            ..opened
        }],
    )
    .await;

    let events = store.events_after(EventId::BEGINNING, 9).await.unwrap();
    assert_eq!(changes(&events), [opened, merged]);
    assert_eq!(events[0].repo.as_deref(), Some("acme-corp/api-server"));
    assert!(events.is_sorted_by_key(|event| event.id) && events[0].id > EventId::BEGINNING);
    assert_eq!(store.newest_event().await.unwrap(), events[1].id);
    assert_eq!(
        store.events_after(EventId::BEGINNING, 1).await.unwrap(),
        events[..1]
    );
    assert_eq!(
        store.events_after(events[0].id, 9).await.unwrap(),
        events[1..]
    );
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .has_event(events[1].id)
            .await
            .unwrap()
    );
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .has_event(EventId(events[1].id.0 + 9))
            .await
            .unwrap()
    );
}

async fn refused_batch_publishes_no_event(database: Database) {
    let store = open(&database).await;
    let refused = BatchWrite {
        finished: vec![FinishedDelivery::Applied(DeliveryId(1))],
        ..recording(vec![change(3, None, PullRequestStatus::Open, 0)])
    };
    assert_eq!(
        store.record(&refused, now()).await.unwrap(),
        Err(VersionConflict)
    );
    assert_eq!(store.newest_event().await.unwrap(), EventId::BEGINNING);
}

async fn changes_of_a_large_batch_enter_in_order(database: Database) {
    let store = open(&database).await;
    let many: Vec<_> = (0..200)
        .map(|number| {
            change(
                number,
                Some(PullRequestStatus::Merged),
                PullRequestStatus::Closed,
                number,
            )
        })
        .collect();
    record(&store, many.clone()).await;
    assert_eq!(
        changes(&store.events_after(EventId::BEGINNING, 999).await.unwrap()),
        many
    );
}

async fn every_listener_is_notified(database: Database) {
    let store = open(&database).await;
    let mut listeners = vec![store.listen().await.unwrap(), store.listen().await.unwrap()];
    record(&store, vec![change(3, None, PullRequestStatus::Open, 0)]).await;
    for listener in &mut listeners {
        listener.changed().await.unwrap();
    }
    record(&store, vec![change(4, None, PullRequestStatus::Open, 0)]).await;
    listeners[0].changed().await.unwrap();
    assert_eq!(
        store
            .events_after(EventId::BEGINNING, 9)
            .await
            .unwrap()
            .len(),
        2
    );
}

async fn reader_misses_no_event_of_concurrent_writers(database: Database) {
    const WRITERS: i64 = 6;
    const EACH: i64 = 15;
    let store = open(&database).await;
    record(&store, Vec::new()).await;
    // The batch has no repository, whose row lock would serialize the writers.
    let write = async |writer: i64| {
        for number in 0..EACH {
            let changes = vec![change(
                writer * EACH + number,
                None,
                PullRequestStatus::Open,
                number,
            )];
            let recording = BatchWrite {
                changes,
                ..BatchWrite::default()
            };
            store.record(&recording, now()).await.unwrap().unwrap();
        }
    };
    let (mut seen, mut place) = (BTreeSet::new(), EventId::BEGINNING);
    let mut writing = pin!(maybe_done(join_all((0..WRITERS).map(write))));
    loop {
        let is_written = futures_util::poll!(&mut writing).is_ready();
        let events = store.events_after(place, 9).await.unwrap();
        place = events.last().map_or(place, |event| event.id);
        seen.extend(changes(&events).iter().map(|change| change.key.number.0));
        if is_written && events.is_empty() {
            break;
        }
    }
    assert!(seen.into_iter().eq(0..WRITERS * EACH));
}

async fn old_events_are_purged_except_the_newest(database: Database) {
    let store = open(&database).await;
    record(
        &store,
        (0..5)
            .map(|number| change(number, None, PullRequestStatus::Open, 0))
            .collect(),
    )
    .await;
    let ids: Vec<_> = store
        .events_after(EventId::BEGINNING, 9)
        .await
        .unwrap()
        .iter()
        .map(|event| event.id)
        .collect();
    assert_eq!(store.purge_events(now(), 9).await.unwrap(), 0);
    assert_eq!(store.purge_events(later(1), 2).await.unwrap(), 2);
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .has_event(ids[1])
            .await
            .unwrap()
            && store
                .of_team(DEFAULT_TEAM.0)
                .has_event(ids[2])
                .await
                .unwrap()
    );
    assert_eq!(store.purge_events(later(1), 9).await.unwrap(), 2);
    assert_eq!(store.purge_events(later(1), 9).await.unwrap(), 0);
    assert_eq!(store.newest_event().await.unwrap(), ids[4]);
    record(&store, vec![change(9, None, PullRequestStatus::Open, 0)]).await;
    assert!(store.newest_event().await.unwrap() > ids[4]);
}
