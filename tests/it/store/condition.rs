//! The condition of a database: its kind, its clock, and that it can be written to.

use chrono::{TimeDelta, Utc};

use super::open;
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    condition_names_the_server_and_that_it_is_writable,
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
