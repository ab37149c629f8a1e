//! Errors inside a write transaction: the next write finds a connection without one.

use std::path::Path;

use chrono::DateTime;
use sqlx_sqlite::SqliteConnection;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;

use super::SqliteDatabase;
use super::database::WAL_KEPT;
use crate::{AcceptOutcome, Moment, NewDelivery, NewState, OpenMode, Result, StoredBody};

/// Larger than the free pages of a new database.
const BODY: usize = 256 * 1024;

async fn open(folder: &Path) -> SqliteDatabase {
    let url = format!("sqlite://{}", folder.join("test.db").display());
    SqliteDatabase::open(&url, OpenMode::Exclusive)
        .await
        .unwrap()
}

fn now() -> Moment {
    DateTime::from_timestamp(1_772_500_000, 0).unwrap()
}

async fn accept(database: &SqliteDatabase, guid: &str) -> Result<AcceptOutcome> {
    let noise: Vec<u8> = (0..BODY).map(|_| rand::random()).collect();
    let delivery = NewDelivery {
        guid: guid.to_owned(),
        body_sha256: [7; 32],
        event: "pull_request".to_owned(),
        action: None,
        repo: None,
        pr_number: None,
        source: Source::Webhook,
        lane: Lane::Live,
        received_at: now(),
        body: StoredBody::compress(&noise).unwrap(),
        state: NewState::Pending { due: now() },
    };
    database.group_commit.accept(delivery).await
}

/// SQLite rolls the transaction back by itself: the database may not grow.
async fn full(connection: &mut SqliteConnection) {
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let limit = format!("PRAGMA max_page_count = {pages}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(limit))
        .execute(connection)
        .await
        .unwrap();
}

async fn no_longer_full(connection: &mut SqliteConnection) {
    sqlx::raw_sql("PRAGMA max_page_count = 1073741823")
        .execute(connection)
        .await
        .unwrap();
}

/// SQLite rolls the transaction back by itself: a statement is interrupted.
async fn interrupted(connection: &mut SqliteConnection) {
    let mut handle = connection.lock_handle().await.unwrap();
    // Begins are let through.
    let mut steps = 0;
    handle.set_progress_handler(1, move || {
        steps += 1;
        steps < 40
    });
}

/// The commit itself fails and is turned into a rollback.
async fn refused_commit(connection: &mut SqliteConnection) {
    let mut handle = connection.lock_handle().await.unwrap();
    handle.set_commit_hook(|| false);
}

async fn no_longer_broken(connection: &mut SqliteConnection) {
    let mut handle = connection.lock_handle().await.unwrap();
    handle.remove_progress_handler();
    handle.remove_commit_hook();
}

macro_rules! heals_after {
    ($($test:ident: $fault:ident, $repair:ident, $code:literal;)*) => {$(
        #[tokio::test]
        async fn $test() {
            let folder = tempfile::tempdir().unwrap();
            let database = open(folder.path()).await;
            accept(&database, "before").await.unwrap();
            $fault(database.writer.lock().await.connection().unwrap()).await;
            let error = accept(&database, "during").await.unwrap_err().to_string();
            assert!(error.contains($code), "{error}");
            // Of no use while the connection is closed, which is what heals.
            if let Ok(connection) = database.writer.lock().await.connection() {
                $repair(connection).await;
            }
            let healed = accept(&database, "after").await;
            assert!(matches!(healed, Ok(AcceptOutcome::Stored(_))), "{healed:?}");
        }
    )*};
}

heals_after! {
    full_database_takes_the_next_delivery: full, no_longer_full, "(code: 13)";
    interrupted_statement_takes_the_next_delivery: interrupted, no_longer_broken, "(code: 9)";
    failed_commit_takes_the_next_delivery: refused_commit, no_longer_broken, "(code: 531)";
}

#[tokio::test]
async fn dropped_transaction_leaves_nothing_open() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path()).await;
    let mut writer = database.writer().await.unwrap();
    writer.begin().await.unwrap();
    drop(writer);
    assert!(accept(&database, "after").await.is_ok());
}

#[tokio::test]
async fn interrupted_snapshot_is_not_the_view_of_later_reads() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path()).await;
    accept(&database, "before").await.unwrap();
    for _ in 0..8 {
        let mut snapshot = database.snapshot().await.unwrap();
        let count = sqlx::query("SELECT count(*) FROM deliveries");
        count.fetch_one(&mut *snapshot).await.unwrap();
        drop(snapshot);
    }
    accept(&database, "after").await.unwrap();
    for _ in 0..8 {
        let query = sqlx::query_scalar("SELECT count(*) FROM deliveries");
        let count: i64 = query.fetch_one(&database.readers).await.unwrap();
        assert_eq!(count, 2);
    }
}

#[tokio::test]
async fn write_ahead_log_shrinks_once_no_reader_stays() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path()).await;
    let wal = folder.path().join("test.db-wal");
    accept(&database, "before").await.unwrap();
    let mut reader = database.snapshot().await.unwrap();
    let count = sqlx::query("SELECT count(*) FROM deliveries");
    count.fetch_one(&mut *reader).await.unwrap();
    for number in 0..24 {
        accept(&database, &format!("during-{number}"))
            .await
            .unwrap();
    }
    assert!(!database.truncate_wal().await.unwrap());
    assert!(wal.metadata().unwrap().len() > 24 * BODY as u64);
    reader.end().await.unwrap();
    assert!(database.truncate_wal().await.unwrap());
    assert_eq!(wal.metadata().unwrap().len(), 0);
    let limit: i64 = sqlx::query_scalar("PRAGMA journal_size_limit")
        .fetch_one(database.writer.lock().await.connection().unwrap())
        .await
        .unwrap();
    assert_eq!(limit.to_string(), WAL_KEPT);
}
