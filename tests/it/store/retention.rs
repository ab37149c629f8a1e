//! Retention under a wrong clock: what is young stays.

use chrono::{DateTime, TimeDelta, Utc};
use tallyhook_core::delivery::DeliveryId;
use tallyhook_store::{BatchWrite, FinishedDelivery, NewDelivery, Store};

use super::{delivery, now, open, pending};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    clock_years_ahead_deletes_no_young_delivery_whatever_it_receives,
    clock_years_ahead_deletes_a_day_of_deliveries_an_hour_at_most,
    retention_follows_a_clock_that_was_set_right,
}

const DAY: TimeDelta = TimeDelta::days(1);
const RETENTION: TimeDelta = TimeDelta::days(7);
const YEARS: TimeDelta = TimeDelta::days(5 * 365);

/// Stores an applied delivery that was received at that time.
async fn applied(store: &Store, guid: &str, received_at: DateTime<Utc>) -> DeliveryId {
    let new = NewDelivery {
        received_at,
        ..delivery(guid, pending())
    };
    let accepted = store.accept(new).await.unwrap();
    let tallyhook_store::AcceptOutcome::Stored(id) = accepted else {
        panic!("{accepted:?}");
    };
    let finished = BatchWrite {
        finished: vec![FinishedDelivery::Applied(id)],
        ..BatchWrite::default()
    };
    store.record(&finished, received_at).await.unwrap().unwrap();
    id
}

/// Deletes what is old by a clock that shows `now`, and returns the number of bodies and rows.
async fn purge(store: &Store, now: DateTime<Utc>, advance: TimeDelta) -> (u64, u64) {
    let reckoned = store.reckon_retention(now, advance).await.unwrap();
    let before = reckoned - RETENTION;
    let purged = store.purge(before, before, 1000).await.unwrap();
    (purged.bodies, purged.rows)
}

async fn clock_years_ahead_deletes_no_young_delivery_whatever_it_receives(database: Database) {
    let store = open(&database).await;
    for number in 0..49 {
        let received = now() - DAY * 6 + TimeDelta::hours(number);
        applied(&store, &format!("young-{number}"), received).await;
    }
    assert_eq!(purge(&store, now(), TimeDelta::zero()).await, (0, 0));
    // Five starts, and deliveries that are received by the wrong clock.
    for start in 0..5 {
        let wrong = now() + YEARS + TimeDelta::minutes(start);
        assert_eq!(purge(&store, wrong, TimeDelta::zero()).await, (0, 0));
        applied(&store, &format!("wrong-{start}"), wrong).await;
        assert_eq!(purge(&store, wrong, TimeDelta::zero()).await, (0, 0));
    }
}

async fn clock_years_ahead_deletes_a_day_of_deliveries_an_hour_at_most(database: Database) {
    let store = open(&database).await;
    // Four deliveries on each of seven days.
    for number in (0..28).rev() {
        let received = now() - TimeDelta::hours(6 * number + 1);
        applied(&store, &format!("old-{number}"), received).await;
    }
    assert_eq!(purge(&store, now(), TimeDelta::zero()).await, (0, 0));
    applied(&store, "wrong", now() + YEARS).await;
    let mut deleted = 0;
    for hour in 0..15 {
        let (bodies, rows) = purge(&store, now() + YEARS, DAY).await;
        assert!(
            bodies <= 5 && rows <= 5,
            "{bodies} bodies and {rows} rows in hour {hour}"
        );
        deleted += rows;
    }
    assert_eq!(deleted, 28);
}

async fn retention_follows_a_clock_that_was_set_right(database: Database) {
    let store = open(&database).await;
    applied(&store, "first", now()).await;
    assert_eq!(purge(&store, now() + YEARS, DAY).await, (0, 0));
    assert_eq!(purge(&store, now() - YEARS, DAY).await, (0, 0));
    // Eight days later, with a delivery each day.
    for day in 1..=8 {
        applied(&store, &format!("day-{day}"), now() + DAY * day).await;
        let purged = purge(&store, now() + DAY * day, DAY).await;
        assert_eq!(
            purged,
            if day == 8 { (1, 1) } else { (0, 0) },
            "on day {day}"
        );
    }
}
