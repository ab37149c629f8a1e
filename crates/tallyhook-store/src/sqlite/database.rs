//! The embedded database and its connections.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::query::{Query, QueryAs};
use sqlx::{ConnectOptions, Connection};
use sqlx_sqlite::{
    Sqlite, SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteSynchronous,
};
use tokio::sync::{Mutex, watch};

use super::file::{DatabaseFile, ReplacedPart};
use super::group_commit::WriterTarget;
use super::scanner::Scanner;
use super::writer::{SqliteSnapshot, SqliteWriter, WriterSlot, checkpoint};
use crate::condition::{NO_SPACE, StorageFault, StorageReport};
use crate::database::AnyRow;
use crate::deliveries::GroupCommit;
use crate::{
    DatabaseInfo, DatabaseNotReady, Moment, OpenMode, OutboxListener, Result, StoreError,
    migrations,
};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// The time that a statement waits for another process's write, such as that of a command beside a
/// running server.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of the write-ahead log that stay allocated: sixteen times what starts a checkpoint.
pub(super) const WAL_KEPT: &str = "67108864";

/// The time after which a statement of a reader is interrupted, as the server does in PostgreSQL: a
/// list over a large table must not hold a connection for as long as it likes.
pub(super) const READ_LIMIT: Duration = Duration::from_secs(30);
/// The instructions of SQLite's machine between two looks at the clock, under a millisecond.
pub(super) const INSTRUCTIONS: i32 = 10_000;

/// SQLite's code of a file that something else has written.
const NOT_A_DATABASE: &str = "26";

/// Rows per writing statement. Each size is prepared once; what is written is cut into the largest
/// that fit.
pub(crate) const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// The embedded database.
///
/// SQLite lets one connection write at a time, so there is one, behind a fair lock: writers queue
/// here instead of polling the file. Deliveries that wait for it together are committed together.
pub(crate) struct SqliteDatabase {
    pub(super) writer: Arc<Mutex<WriterSlot>>,
    pub(crate) readers: SqlitePool,
    /// The reader of aggregates.
    pub(crate) scanner: Scanner,
    /// The readers of workers and relay, which never wait for a client of the API.
    pub(crate) work_readers: SqlitePool,
    pub(crate) group_commit: GroupCommit,
    /// Marks the leases of this process, as opposed to those of an earlier one.
    pub(crate) process: i64,
    pub(crate) orphans_released: AtomicBool,
    /// Notified when the outbox changed.
    outbox_changed: watch::Sender<()>,
    rescued: AtomicBool,
    /// Keeps the write-ahead log in use: SQLite deletes it when the last connection is closed, and
    /// those for writing and reading may be closed at any time.
    anchor: Mutex<Option<SqliteConnection>>,
    /// `None` for a command beside a server.
    file: Option<Arc<DatabaseFile>>,
}

impl SqliteDatabase {
    /// Opens the file that `url` names, creating it if this opening may.
    ///
    /// # Errors
    /// In words that say what to do.
    pub(crate) async fn open(url: &str, opening: OpenMode) -> anyhow::Result<Self> {
        let options = super::url::parse(url, opening)?;
        let path = options.get_filename().to_owned();
        if opening != OpenMode::Exclusive && !path.exists() {
            bail!(DatabaseNotReady::Missing(path));
        }
        let file = match opening {
            OpenMode::Shared => None,
            OpenMode::Exclusive | OpenMode::ExclusiveUnmigrated => {
                let create = opening == OpenMode::Exclusive;
                Some(Arc::new(DatabaseFile::lock(&path, create)?))
            }
        };
        let options = options
            .create_if_missing(opening == OpenMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was answered for survives a crash of the machine, not only of the
            // process.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("temp_store", "memory")
            // After a time of slow readers the write-ahead log shrinks to this, and not only grows.
            .pragma("journal_size_limit", WAL_KEPT)
            // Rows are read by a thread of their own: a whole batch at once, instead of taking
            // turns within it.
            .row_buffer_size(512)
            .disable_statement_logging();
        let writer = open_writer(&path, &options, opening).await?;
        let reading = options.clone().read_only(true);
        let cannot_read = || format!("cannot read {}", path.display());
        let readers = SqlitePoolOptions::new()
            .max_connections(3)
            .after_connect(|reader, _| Box::pin(limit_time(reader, READ_LIMIT)))
            .before_acquire(|reader, _| {
                Box::pin(async move { limit_time(reader, READ_LIMIT).await.map(|()| true) })
            })
            .connect_with(reading.clone())
            .await
            .with_context(cannot_read)?;
        let work_readers = SqlitePoolOptions::new()
            .max_connections(2)
            .connect_with(reading.clone())
            .await
            .with_context(cannot_read)?;
        let anchor = match &file {
            Some(file) => {
                let anchor = reading.connect().await?;
                file.compare();
                Some(anchor)
            }
            None => None,
        };
        let slot = WriterSlot::new(writer, options, file.clone());
        let writer = Arc::new(Mutex::new(slot));
        let (process, orphans_released) = (rand::random(), AtomicBool::new(false));
        Ok(Self {
            group_commit: GroupCommit::start(WriterTarget(writer.clone()), 1),
            writer,
            readers,
            scanner: Scanner::new(path),
            work_readers,
            process,
            orphans_released,
            outbox_changed: watch::Sender::default(),
            rescued: AtomicBool::new(false),
            anchor: Mutex::new(anchor),
            file,
        })
    }

    /// Waits for the writing connection.
    pub(crate) async fn writer(&self) -> Result<SqliteWriter> {
        SqliteWriter::acquire(&self.writer).await
    }

    /// Begins a transaction of a worker that only reads.
    pub(crate) async fn snapshot(&self) -> Result<SqliteSnapshot> {
        SqliteSnapshot::begin(&self.work_readers).await
    }

    /// Returns the rows of a statement that only reads.
    pub(crate) async fn fetch_all<R: AnyRow>(
        &self,
        query: QueryAs<'_, Sqlite, R, SqliteArguments>,
    ) -> Result<Vec<R>> {
        Ok(query.fetch_all(&self.readers).await?)
    }

    /// Runs a statement that is a transaction by itself. Returns the number of rows it touched.
    pub(crate) async fn execute(&self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<u64> {
        self.writer().await?.execute(query).await
    }

    pub(crate) fn notify_listeners(&self) {
        self.outbox_changed.send_replace(());
    }

    pub(crate) fn listen(&self) -> OutboxListener {
        OutboxListener(self.outbox_changed.subscribe())
    }

    /// Compares the files with those in use and reads the free space.
    pub(crate) async fn examine_file(&self) -> StorageReport {
        let Some(file) = self.file.clone() else {
            return StorageReport::default();
        };
        let looking = {
            let file = file.clone();
            // A network disk may be slow to answer.
            move || (file.compare(), file.free_bytes(), file.wal_bytes())
        };
        let (replaced, free_bytes, wal_bytes) = match tokio::task::spawn_blocking(looking).await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::error!(%error, "the database file could not be examined: {error}");
                return StorageReport::default();
            }
        };
        if replaced == Some(ReplacedPart::Log) && !self.rescued.swap(true, Ordering::AcqRel) {
            self.rescue(file.path()).await;
        }
        let fault = if replaced.is_some() {
            let error = StoreError::Replaced(file.path().to_owned());
            Some((StorageFault::Replaced, error.to_string()))
        } else {
            let free = free_bytes.filter(|free| *free < NO_SPACE);
            free.map(|free| {
                let place = file.path().display();
                let text = format!(
                    "{} MiB are free on the disk of {place}: make room",
                    free >> 20
                );
                (StorageFault::NoSpace, text)
            })
        };
        StorageReport {
            fault,
            free_bytes,
            wal_bytes: Some(wal_bytes),
        }
    }

    /// Brings what was committed into the database: the log that it is in has lost its name, and
    /// would be gone with this process.
    async fn rescue(&self, path: &Path) {
        let place = path.display();
        match self.writer.lock().await.checkpoint().await {
            Ok(true) => tracing::warn!(
                path = %place,
                "the -wal or -shm file of {place} was removed; everything committed is in the \
                 database itself now"
            ),
            Ok(false) => tracing::error!(
                path = %place,
                "the -wal or -shm file of {place} was removed, and readers keep a part of it: stop \
                 this process with SIGTERM, which saves it"
            ),
            Err(error) => tracing::error!(
                path = %place,
                %error,
                "the -wal or -shm file of {place} was removed, and the log cannot be saved: {error}"
            ),
        }
    }

    /// Brings the write-ahead log into the database and makes it empty again. Returns false if
    /// readers still need a part of it. Writers wait for 100 ms at most, readers not at all.
    /// A command beside a server does nothing.
    pub(crate) async fn truncate_wal(&self) -> Result<bool> {
        const WAIT: Duration = Duration::from_millis(100);
        let Some(file) = &self.file else {
            return Ok(true);
        };
        file.check()?;
        let options = self.writer.lock().await.options().busy_timeout(WAIT);
        let mut connection = options.connect().await?;
        // The first does the work beside all others, so that there is little left for the second.
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
            .execute(&mut connection)
            .await?;
        let done = checkpoint(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await?;
        connection.close().await?;
        Ok(done)
    }

    pub(crate) async fn check(&self) -> Result<()> {
        if !self.group_commit.is_running() {
            return Err(StoreError::Closed);
        }
        if let Some(file) = &self.file {
            file.check()?;
        }
        match sqlx::query_scalar(migrations::APPLIED)
            .fetch_one(&self.readers)
            .await?
        {
            applied if applied == migrations::known(&MIGRATIONS) => Ok(()),
            applied => Err(StoreError::Version { applied }),
        }
    }

    pub(crate) async fn describe(&self) -> Result<DatabaseInfo> {
        let version: String = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(&self.readers)
            .await?;
        // Takes the lock of a writer, which is refused to a process that may not write, and writes
        // nothing.
        let query = sqlx::query("UPDATE _sqlx_migrations SET success = success WHERE false");
        let written = self.writer().await?.execute(query).await;
        let read_only = written.err().map(|error| error.to_string());
        Ok(DatabaseInfo {
            server: format!("SQLite {version}"),
            now: None,
            read_only,
        })
    }

    pub(crate) async fn close(&self) {
        self.group_commit.finish().await;
        self.readers.close().await;
        self.scanner.close();
        self.work_readers.close().await;
        // The writer is the last, which brings the write-ahead log into the database.
        if let Some(anchor) = self.anchor.lock().await.take() {
            // It holds nothing that could be lost.
            drop(anchor.close().await);
        }
        if let Err(error) = self.writer.lock().await.close().await {
            tracing::warn!(
                %error,
                "the database did not close cleanly; nothing that was committed is lost"
            );
        }
        if let Some(file) = &self.file {
            file.unlock();
        }
    }
}

/// Interrupts every statement of `reader` that runs when `limit` from now is over.
async fn limit_time(reader: &mut SqliteConnection, limit: Duration) -> sqlx::Result<()> {
    let end = Instant::now() + limit;
    let mut handle = reader.lock_handle().await?;
    handle.set_progress_handler(INSTRUCTIONS, move || Instant::now() < end);
    Ok(())
}

/// Opens the writing connection, and migrates the database or checks that it is migrated.
async fn open_writer(
    path: &Path,
    options: &SqliteConnectOptions,
    opening: OpenMode,
) -> anyhow::Result<SqliteConnection> {
    let mut writer = SqliteConnection::connect_with(options)
        .await
        .map_err(|error| {
            let text = match error.as_database_error().and_then(|error| error.code()) {
                Some(code) if code == NOT_A_DATABASE => format!(
                    "{} is no SQLite database: set DATABASE_URL to another file",
                    path.display()
                ),
                _ => format!(
                    "cannot open {}: may this user read and write it?",
                    path.display()
                ),
            };
            anyhow::Error::new(error).context(text)
        })?;
    match opening {
        OpenMode::Exclusive => MIGRATIONS
            .run(&mut writer)
            .await
            .map_err(migrations::failed)?,
        OpenMode::ExclusiveUnmigrated | OpenMode::Shared => {
            let applied = sqlx::query_scalar(migrations::APPLIED)
                .fetch_one(&mut writer)
                .await;
            migrations::check(applied, &MIGRATIONS)?;
        }
    }
    Ok(writer)
}

pub(crate) fn millis(moment: Moment) -> i64 {
    moment.timestamp_millis()
}

pub(crate) fn moment(millis: i64) -> Moment {
    DateTime::<Utc>::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
}

/// A list of ids for `json_each`, which is how a statement takes any number of them.
pub(crate) fn ids_json(ids: impl IntoIterator<Item = i64>) -> String {
    let mut json = String::from("[");
    for (place, id) in ids.into_iter().enumerate() {
        if place > 0 {
            json.push(',');
        }
        json.push_str(&id.to_string());
    }
    json.push(']');
    json
}

/// Cuts `rows` into chunks of the prepared sizes, with the place of each size.
pub(crate) fn chunks<T>(rows: &[T]) -> impl Iterator<Item = (usize, &[T])> {
    let mut rest = rows;
    chunk_sizes(rows.len()).map(move |(place, size)| {
        let (chunk, after) = rest.split_at(size);
        rest = after;
        (place, chunk)
    })
}

/// The sizes of the chunks of `rows` rows, with their places among the prepared sizes.
pub(crate) fn chunk_sizes(mut rows: usize) -> impl Iterator<Item = (usize, usize)> {
    std::iter::from_fn(move || {
        let (place, size) = CHUNKS.iter().enumerate().find(|(_, size)| **size <= rows)?;
        rows -= size;
        Some((place, *size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_statement_of_a_reader_is_interrupted_and_its_connection_is_free() {
        let mut reader = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        limit_time(&mut reader, Duration::from_millis(20))
            .await
            .unwrap();
        let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT count(*) FROM n";
        let counted = sqlx::query_scalar::<_, i64>(endless)
            .fetch_one(&mut reader)
            .await;
        assert!(counted.unwrap_err().to_string().contains("interrupted"));
        limit_time(&mut reader, READ_LIMIT).await.unwrap();
        let one = sqlx::query_scalar::<_, i64>("SELECT 1")
            .fetch_one(&mut reader)
            .await;
        assert_eq!(one.unwrap(), 1);
    }
}
