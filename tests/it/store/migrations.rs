//! Migrations of databases of earlier versions.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::event::ReviewState;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_store::{DeliveryState, OpenMode};

use testkit::database::{Backend, Database, database};

/// Rows of a database whose time columns still end in `_ms`: a leased delivery, one without a
/// lease, a dead and an applied one, their bodies, a valid and a revoked token.
const ROWS: &str = "
    INSERT INTO deliveries (id, guid, body_sha256, event, source, lane, state, received_ms,
        next_attempt_ms, leased_until_ms, finished_ms, body_bytes, leased_by) VALUES
    (1, 'a', x'01', 'push', 'webhook', 'live', 'accepted', 1000, 2000, 3000, NULL, 9, 77),
    (2, 'b', x'02', 'push', 'webhook', 'live', 'accepted', 1001, 2001, 0, NULL, 9, 0),
    (3, 'c', x'03', 'push', 'poller', 'backfill', 'dead', 1002, 2002, 0, 5000, 9, 0),
    (4, 'd', x'04', 'push', 'poller', 'backfill', 'applied', 1003, 2003, 4000, 5001, 9, 0);
    INSERT INTO delivery_bodies VALUES (1, x'aa'), (2, x'bb'), (3, x'cc'), (4, x'dd');
    INSERT INTO api_tokens (name, sha256, created_ms, revoked_ms) VALUES
    ('ci', x'05', 7000, NULL), ('old', x'06', 7001, 7002);";

fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap()
}

#[tokio::test]
async fn renaming_the_time_columns_of_sqlite_loses_no_row_and_no_lease() {
    let database = database(Backend::Sqlite);
    let url = format!("{}?mode=rwc", database.url);
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let migrator = sqlx::migrate!("migrations/sqlite");
    migrator.run_to(9, &mut connection).await.unwrap();
    sqlx::raw_sql(ROWS).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let store = tallyhook_store::open(&database.url, OpenMode::Exclusive)
        .await
        .unwrap();
    let mut found = Vec::new();
    for id in 1..=4 {
        let delivery = store.delivery(DeliveryId(id)).await.unwrap().unwrap();
        let body = store.body(DeliveryId(id)).await.unwrap().unwrap();
        assert_eq!(body.stored_bytes(), 1);
        found.push((
            delivery.state,
            delivery.received_at,
            delivery.next_attempt_at,
            delivery.finished_at,
        ));
    }
    assert_eq!(
        found,
        [
            (DeliveryState::Accepted, at(1000), Some(at(2000)), None),
            (DeliveryState::Accepted, at(1001), Some(at(2001)), None),
            (DeliveryState::Dead, at(1002), None, Some(at(5000))),
            (DeliveryState::Applied, at(1003), None, Some(at(5001))),
        ]
    );
    let tokens = store.tokens().await.unwrap();
    let tokens: Vec<_> = tokens
        .iter()
        .map(|token| (&*token.name, token.created_at, token.revoked_at))
        .collect();
    assert_eq!(
        tokens,
        [("ci", at(7000), None), ("old", at(7001), Some(at(7002)))]
    );
    // The lease holds until its end; a delivery without one is free at once.
    let ids = [DeliveryId(1), DeliveryId(2)];
    assert_eq!(super::claim(&store, &ids, at(2999)).await, [DeliveryId(2)]);
    assert_eq!(super::claim(&store, &ids, at(3000)).await, [DeliveryId(1)]);
    store.close().await;
}

/// Reviews of two pull requests, and of one that has none of its own.
const REVIEWS: &str = "
    INSERT INTO reviews (github_review_id, repo_id, number, reviewer_id, reviewer_login, reviewer_type,
        original_state, submitted_at, commit_id, dismissed, dismissed_at) VALUES
    (30, 7, 3, 501, 'mara', 'User', 'approved', {at}, 'c0ffee', {no}, NULL),
    (20, 8, 1, 502, 'noel', 'Bot', NULL, {at}, NULL, {yes}, {at}),
    (10, 7, 3, 502, 'noel', 'User', 'commented', {at}, NULL, {no}, NULL);
    INSERT INTO pull_requests (repo_id, number, version, pr_id, timeline, observed) VALUES
    (7, 3, 1, 'a', '[]', '{{}}'), (8, 1, 1, 'b', '[]', '{{}}');";

/// Opens a database with the rows of [`REVIEWS`] and asserts that each is there.
async fn assert_reviews_are_kept(database: &Database) {
    let store = tallyhook_store::open(&database.url, OpenMode::Exclusive)
        .await
        .unwrap();
    let keys = [(7, 3), (8, 1)].map(|(repo, number)| PrKey {
        repo: RepoId(repo),
        number: PrNumber(number),
    });
    let mut found = Vec::new();
    for known in store.load(&keys).await.unwrap() {
        for review in known.pull_request.reviews.into_values() {
            assert_eq!(review.submitted_at, Timestamp::clamped(1_772_445_600));
            found.push((
                known.pull_request.key.repo.0,
                review.id.0,
                review.author.login,
                review.original_state,
                review.commit_id,
                review.dismissed && review.dismissed_at.is_some(),
            ));
        }
    }
    let (mara, noel) = ("mara".to_owned(), "noel".to_owned());
    let commented = Some(ReviewState::Commented);
    let approved = Some(ReviewState::Approved);
    assert_eq!(
        found,
        [
            (7, 10, noel.clone(), commented, None, false),
            (7, 30, mara, approved, Some("c0ffee".to_owned()), false),
            (8, 20, noel, None, None, true),
        ]
    );
    store.close().await;
}

#[tokio::test]
async fn reviews_get_the_key_of_their_pull_request_in_sqlite_and_none_is_lost() {
    let database = database(Backend::Sqlite);
    let url = format!("{}?mode=rwc", database.url);
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let migrator = sqlx::migrate!("migrations/sqlite");
    migrator.run_to(10, &mut connection).await.unwrap();
    let rows = REVIEWS.replace("{at}", "1772445600");
    let rows = rows.replace("{no}", "0").replace("{yes}", "1");
    let rows = rows.replace("{{}}", "{}");
    sqlx::raw_sql(AssertSqlSafe(rows))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert_reviews_are_kept(&database).await;
}

#[cfg(feature = "services")]
#[tokio::test]
async fn reviews_get_the_key_of_their_pull_request_in_postgresql_and_none_is_lost() {
    let database = database(Backend::Postgres);
    let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
    let migrator = sqlx::migrate!("migrations/postgres");
    migrator.run_to(7, &mut connection).await.unwrap();
    let rows = REVIEWS.replace("{at}", "'2026-03-02T10:00:00Z'");
    let rows = rows.replace("{no}", "false").replace("{yes}", "true");
    let rows = rows
        .replace("{{}}", "{}")
        .replace("'a'", "gen_random_uuid()");
    let rows = rows.replace("'b'", "gen_random_uuid()");
    sqlx::raw_sql(AssertSqlSafe(rows))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert_reviews_are_kept(&database).await;
}
