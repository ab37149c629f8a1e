//! The condition of a database: its kind, its clock, and that it can be written to.

use chrono::{TimeDelta, Utc};

use super::{accept, open};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    condition_names_the_server_and_that_it_is_writable,
    working_database_has_no_fault_and_keeps_nothing_of_a_probe,
}

async fn condition_names_the_server_and_that_it_is_writable(database: Database) {
    let store = open(&database).await;
    let condition = store.describe().await.unwrap();
    let kind = if database.url.starts_with("sqlite") {
        "SQLite 3."
    } else {
        "PostgreSQL "
    };
    assert!(condition.server.starts_with(kind), "{condition:?}");
    assert_eq!(condition.read_only, None);
    // PostgreSQL runs on this machine, with the same clock; SQLite has none of its own.
    assert_eq!(condition.now.is_some(), kind == "PostgreSQL ");
    assert!(
        condition
            .now
            .is_none_or(|now| (Utc::now() - now).abs() < TimeDelta::seconds(10)),
        "{condition:?}"
    );
}

async fn working_database_has_no_fault_and_keeps_nothing_of_a_probe(database: Database) {
    let store = open(&database).await;
    assert_eq!(store.examine().await.fault, None);
    accept(&store, "one").await;
    for _ in 0..3 {
        let report = store.examine().await;
        assert_eq!((&report.fault, &store.condition().fault), (&None, &None));
        let is_file = database.url.starts_with("sqlite");
        assert_eq!(
            (report.free_bytes.is_some(), report.wal_bytes.is_some()),
            (is_file, is_file)
        );
    }
    assert_eq!(store.counts().await.unwrap().accepted, 1);
    assert!(store.truncate_wal().await.unwrap());
}
