//! What a database tells of itself.

use chrono::{TimeDelta, Utc};

use super::open;
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    a_database_says_what_it_is_and_that_it_can_be_written_to,
}

async fn a_database_says_what_it_is_and_that_it_can_be_written_to(database: Database) {
    let store = open(&database).await;
    let condition = store.describe().await.unwrap();
    let kind = if database.url.starts_with("sqlite") {
        "SQLite 3."
    } else {
        "PostgreSQL "
    };
    assert!(condition.server.starts_with(kind), "{condition:?}");
    assert_eq!(condition.read_only, None);
    // The same machine's clock, or one that is ours.
    assert_eq!(condition.now.is_some(), kind == "PostgreSQL ");
    assert!(
        condition
            .now
            .is_none_or(|now| (Utc::now() - now).abs() < TimeDelta::seconds(10)),
        "{condition:?}"
    );
}
