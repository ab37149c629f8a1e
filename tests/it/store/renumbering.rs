//! Numbers of an earlier definition, which are computed again beside everything else.

use std::collections::BTreeSet;
use std::time::Duration;

use tallyhook::renumbering::{Renumbering, write_again};
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::github::types::{PrKey, PrNumber};
use tokio::sync::watch;

use super::{WHOLE_LIFE, eventually, histories, now, open, recording, write};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    a_row_that_cannot_be_read_holds_up_no_other,
    numbers_that_an_earlier_version_writes_later_are_found,
}

const KEYS: [PrKey; 3] = [key(3), key(4), key(5)];

const fn key(number: i64) -> PrKey {
    PrKey {
        number: PrNumber(number),
        ..histories::KEY
    }
}

/// Opens a store with three pull requests whose numbers are of an earlier definition, and whose
/// second one cannot be read.
async fn outdated(database: &Database) -> tallyhook_store::Store {
    let store = open(database).await;
    let mut copy = write(&store, &WHOLE_LIFE).await;
    for key in &KEYS[1..] {
        (copy.version, copy.pull_request.key) = (0, *key);
        let write = recording(copy.clone(), BTreeSet::new());
        store.record(&write, now()).await.unwrap().unwrap();
    }
    database
        .execute(
            "UPDATE pull_requests SET definition = 1; \
             UPDATE pull_requests SET timeline = '{}' WHERE number = 4",
        )
        .await;
    store
}

async fn a_row_that_cannot_be_read_holds_up_no_other(database: Database) {
    let store = outdated(&database).await;
    let left = write_again(&store, &KEYS, &NumberRules::default(), None).await;
    assert_eq!(left.unwrap(), [KEYS[1]]);
    assert_eq!(store.outdated_after(None, 9).await.unwrap(), [KEYS[1]]);
}

async fn numbers_that_an_earlier_version_writes_later_are_found(database: Database) {
    let store = outdated(&database).await;
    let (stop, stopping) = watch::channel(false);
    let renumbering = Renumbering::new(store.clone(), NumberRules::default())
        .looking_every(Duration::from_millis(1))
        .run(stopping);
    let work = tokio::spawn(renumbering);
    for _ in 0..2 {
        let is_left = async || store.outdated_after(None, 9).await.unwrap() == [KEYS[1]];
        assert!(eventually(is_left).await);
        let old = "UPDATE pull_requests SET definition = 1 WHERE number = 3";
        database.execute(old).await;
    }
    stop.send_replace(true);
    work.await.unwrap();
}
