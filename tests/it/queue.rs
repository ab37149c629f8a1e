//! The contract of a queue together with the inbox. One suite for each kind of queue.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use tallyhook::app::{RoleSet as Roles, ServerOptions};
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_store::{
    DeadLetterMatch, DeadLetterSelection, Delivery, DeliveryFilter, DeliveryState, NewDelivery,
    NewState, StoredBody,
};

use testkit::{Fixture, Place, TestServer};

/// A server at `place`, with workers or without.
async fn start(place: Place, worker: bool) -> TestServer {
    TestServer::start_in(
        place,
        ServerOptions {
            roles: Roles {
                worker,
                ..Roles::ALL
            },
            ..ServerOptions::default()
        },
    )
    .await
}

async fn post(server: &TestServer, deliveries: &[Fixture]) {
    let posts =
        stream::iter(deliveries).map(|one| server.post(&one.event, &one.guid, &one.payload));
    let answers: Vec<_> = posts.buffer_unordered(16).collect().await;
    assert!(
        answers
            .iter()
            .all(|(status, _)| (200..300).contains(status))
    );
}

/// Every stored delivery.
async fn stored(server: &TestServer) -> Vec<Delivery> {
    server
        .running
        .store
        .deliveries(&DeliveryFilter::default(), 100_000)
        .await
        .unwrap()
}

async fn assert_all_finished(server: &TestServer, attempts: u32) {
    let stored = stored(server).await;
    assert!(!stored.is_empty());
    for delivery in stored {
        assert!(
            matches!(
                delivery.state,
                DeliveryState::Applied | DeliveryState::Ignored
            ),
            "{delivery:?}"
        );
        assert!(delivery.attempts <= attempts, "{delivery:?}");
    }
}

/// Deliveries that a backfill would bring.
fn backfilled(count: usize) -> impl Iterator<Item = NewDelivery> {
    let fixture = testkit::fixtures()
        .into_iter()
        .find(|one| one.event == "pull_request")
        .unwrap();
    (0..count).map(move |number| NewDelivery {
        guid: format!("backfill-{number}"),
        body_sha256: [1; 32],
        event: fixture.event.clone(),
        action: None,
        repo: None,
        pr_number: None,
        source: Source::Backfill,
        lane: Lane::Backfill,
        received_at: Utc::now(),
        body: StoredBody::compress(&fixture.payload).unwrap(),
        state: NewState::Pending {
            due: DateTime::UNIX_EPOCH,
        },
    })
}

async fn every_delivery_goes_through_once(place: Place) {
    let fixtures = testkit::fixtures();
    let mut server = start(place, true).await;
    post(&server, &fixtures).await;
    server.drained().await;
    assert_all_finished(&server, 1).await;
    server.stop().await;
}

async fn a_backlog_of_the_inbox_is_handed_over(place: Place) {
    let fixtures = testkit::fixtures();
    let server = start(place, false).await;
    post(&server, &fixtures).await;
    assert!(
        stored(&server)
            .await
            .iter()
            .any(|one| one.state == DeliveryState::Accepted)
    );
    let place = server.stop().await;
    let mut server = start(place, true).await;
    server.drained().await;
    assert_all_finished(&server, 1).await;
    server.stop().await;
}

async fn deliveries_of_a_dead_worker_are_claimed_again(place: Place) {
    let fixtures = testkit::fixtures();
    let server = start(place, false).await;
    post(&server, &fixtures).await;
    let ids: Vec<_> = stored(&server).await.iter().map(|one| one.id).collect();
    let lease = Utc::now() + TimeDelta::minutes(5);
    let claim = server
        .running
        .store
        .claim(&ids, Utc::now(), lease, 5)
        .await
        .unwrap();
    assert!(claim.claimed.len() > 20);
    // The process ends with its claims.
    let place = server.stop().await;
    let mut server = start(place, true).await;
    server.drained().await;
    assert_all_finished(&server, 2).await;
    server.stop().await;
}

async fn a_failed_attempt_is_made_again_when_it_is_time(place: Place) {
    let fixtures = testkit::fixtures();
    let server = start(place, false).await;
    post(&server, &fixtures[..8]).await;
    let ids: Vec<_> = stored(&server).await.iter().map(|one| one.id).collect();
    let store = &server.running.store;
    let now = Utc::now();
    store
        .claim(&ids, now, now + TimeDelta::minutes(5), 5)
        .await
        .unwrap();
    store
        .retry(&ids, "made by a test", now, now + TimeDelta::seconds(1))
        .await
        .unwrap();
    let place = server.stop().await;
    let mut server = start(place, true).await;
    server.drained().await;
    assert_all_finished(&server, 2).await;
    assert!(
        stored(&server)
            .await
            .iter()
            .all(|one| one.history.len() == 1 || one.state == DeliveryState::Ignored)
    );
    server.stop().await;
}

async fn a_dead_letter_is_parked_requeued_or_let_go(place: Place) {
    let fixtures = testkit::fixtures();
    let mut server = start(place, true).await;
    post(&server, &fixtures[..8]).await;
    for guid in ["one", "two"] {
        server
            .post("pull_request", guid, br#"{"action":"opened"}"#)
            .await;
    }
    server.drained().await;
    let store = server.running.store.clone();
    let dead = DeliveryFilter {
        state: Some(DeliveryState::Dead),
        ..DeliveryFilter::default()
    };
    let parked = store.deliveries(&dead, 100).await.unwrap();
    assert_eq!(
        parked
            .iter()
            .map(|one| one.guid.as_str())
            .collect::<Vec<_>>(),
        ["two", "one"]
    );
    let newest = DeadLetterSelection::Ids(vec![parked[0].id]);
    let discarded = store.discard(&newest, "discarded: by a test", Utc::now());
    assert_eq!(discarded.await.unwrap(), 1);
    assert_eq!(
        store
            .requeue(
                &DeadLetterSelection::Like(DeadLetterMatch::default()),
                Utc::now()
            )
            .await
            .unwrap(),
        1
    );
    server.drained().await;
    let again = store.deliveries(&dead, 100).await.unwrap();
    assert_eq!(
        again
            .iter()
            .map(|one| (one.guid.as_str(), one.attempts))
            .collect::<Vec<_>>(),
        [("one", 1)]
    );
    server.stop().await;
}

async fn backfill_does_not_delay_live_deliveries(place: Place) {
    let server = start(place, false).await;
    let accepted = stream::iter(backfilled(6000)).map(|one| server.running.store.accept(one));
    assert_eq!(accepted.buffer_unordered(256).count().await, 6000);
    let place = server.stop().await;
    let mut server = start(place, true).await;
    let mut progress = server.running.progress.clone();
    // The workers have begun with it.
    progress.changed().await.unwrap();
    let live = &testkit::fixtures()
        .into_iter()
        .find(|one| one.event == "pull_request")
        .unwrap();
    post(&server, std::slice::from_ref(live)).await;
    loop {
        let found = server
            .running
            .store
            .deliveries_by_guid(&live.guid)
            .await
            .unwrap();
        if found[0].state != DeliveryState::Accepted {
            break;
        }
        progress.changed().await.unwrap();
    }
    let waiting = server.running.store.counts().await.unwrap().accepted;
    assert!(waiting > 0, "the live delivery came last");
    server.drained().await;
    assert_all_finished(&server, 1).await;
    server.stop().await;
}

async fn stopping_finishes_the_batch_in_hand(mut place: Place) {
    let mut fixtures = testkit::fixtures();
    let guids: BTreeSet<_> = fixtures.iter().map(|one| one.guid.clone()).collect();
    while !fixtures.is_empty() {
        let portion: Vec<_> = fixtures.drain(..fixtures.len().min(30)).collect();
        let server = start(place, true).await;
        post(&server, &portion).await;
        // Without waiting for the workers.
        place = server.stop().await;
    }
    let mut server = start(place, true).await;
    server.drained().await;
    // No attempt was cut off.
    assert_all_finished(&server, 1).await;
    assert!(
        stored(&server)
            .await
            .iter()
            .all(|one| guids.contains(&one.guid))
    );
    server.stop().await;
}

/// Runs every test of the suite at places of one kind.
macro_rules! suite {
    ($kind:ident, $place:expr) => {
        suite!($kind, $place,
            every_delivery_goes_through_once,
            a_backlog_of_the_inbox_is_handed_over,
            deliveries_of_a_dead_worker_are_claimed_again,
            a_failed_attempt_is_made_again_when_it_is_time,
            a_dead_letter_is_parked_requeued_or_let_go,
            backfill_does_not_delay_live_deliveries,
            stopping_finishes_the_batch_in_hand,
        );
    };
    ($kind:ident, $place:expr, $($test:ident,)+) => {
        mod $kind {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($place).await;
                }
            )+
        }
    };
}

suite!(in_process_and_sqlite, super::Place::embedded());

#[cfg(feature = "services")]
suite!(
    rabbitmq_and_sqlite,
    super::Place::embedded_with_broker().await
);

#[cfg(feature = "services")]
suite!(in_process_and_postgres, super::Place::on_postgres());

#[cfg(feature = "services")]
suite!(rabbitmq_and_postgres, super::Place::on_services().await);
