//! The embedded database and its connections.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::query::{Query, QueryAs};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Sqlite};
use tokio::sync::{Mutex, MutexGuard, watch};

use super::group_commit::WriterTarget;
use crate::database::AnyRow;
use crate::deliveries::GroupCommit;
use crate::{
    DatabaseInfo, DatabaseNotReady, Moment, OpenMode, OutboxListener, Result, StoreError,
    migrations,
};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// The time that a statement waits for another process's write, such as that of a command beside a
/// running server.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The time after which a statement of a reader is interrupted, as the server does in PostgreSQL: a
/// list over a large table must not hold a connection for as long as it likes.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// The instructions of SQLite's machine between two looks at the clock, under a millisecond.
const INSTRUCTIONS: i32 = 10_000;

/// Rows per writing statement. Each size is prepared once; what is written is cut into the largest
/// that fit.
pub(crate) const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// The embedded database.
///
/// SQLite lets one connection write at a time, so there is one, behind a fair lock: writers queue
/// here instead of polling the file. Deliveries that wait for it together are committed together.
pub(crate) struct SqliteDatabase {
    writer: std::sync::Arc<Mutex<Option<SqliteConnection>>>,
    pub(crate) readers: SqlitePool,
    /// The readers of workers and relay, which never wait for a client of the API.
    pub(crate) work_readers: SqlitePool,
    pub(crate) group_commit: GroupCommit,
    /// Marks the leases of this process, as opposed to those of an earlier one.
    pub(crate) process: i64,
    pub(crate) orphans_released: AtomicBool,
    /// Notified when the outbox changed.
    outbox_changed: watch::Sender<()>,
    /// Held for as long as the store is open by `serve`; the system releases it when the process
    /// ends in any way.
    _lock: Option<File>,
}

impl SqliteDatabase {
    /// Opens the file that `url` names, creating it if this opening may.
    ///
    /// # Errors
    /// In words that say what to do.
    pub(crate) async fn open(url: &str, opening: OpenMode) -> anyhow::Result<Self> {
        let options: SqliteConnectOptions = url.parse().context("expected sqlite://FILE")?;
        let path = options.get_filename().to_owned();
        if url.contains(":memory:") || url.contains("mode=memory") {
            bail!(
                "a database in memory would lose what was accepted: name a file, as in \
                 sqlite://tallyhook.db"
            );
        }
        if opening != OpenMode::Exclusive && !path.exists() {
            bail!(DatabaseNotReady::Missing(path));
        }
        let lock = match opening {
            OpenMode::Exclusive | OpenMode::ExclusiveUnmigrated => Some(lock(&path)?),
            OpenMode::Shared => None,
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
            // Rows are read by a thread of their own: a whole batch at once, instead of taking
            // turns within it.
            .row_buffer_size(512)
            .disable_statement_logging();
        let writer = open_writer(&path, &options, opening).await?;
        let options = options.read_only(true);
        let cannot_read = || format!("cannot read {}", path.display());
        let readers = SqlitePoolOptions::new()
            .max_connections(3)
            .after_connect(|reader, _| Box::pin(limit_time(reader, READ_LIMIT)))
            .before_acquire(|reader, _| {
                Box::pin(async move { limit_time(reader, READ_LIMIT).await.map(|()| true) })
            })
            .connect_with(options.clone())
            .await
            .with_context(cannot_read)?;
        let work_readers = SqlitePoolOptions::new()
            .max_connections(2)
            .connect_with(options)
            .await
            .with_context(cannot_read)?;
        let writer = std::sync::Arc::new(Mutex::new(Some(writer)));
        let (process, orphans_released) = (rand::random(), AtomicBool::new(false));
        Ok(Self {
            group_commit: GroupCommit::start(WriterTarget(writer.clone()), 1),
            writer,
            readers,
            work_readers,
            process,
            orphans_released,
            outbox_changed: watch::Sender::default(),
            _lock: lock,
        })
    }

    /// Waits for the writing connection.
    pub(crate) async fn writer(&self) -> SqliteWriter<'_> {
        SqliteWriter(self.writer.lock().await)
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
        let mut writer = self.writer().await;
        Ok(query.execute(writer.connection()?).await?.rows_affected())
    }

    pub(crate) fn notify_listeners(&self) {
        self.outbox_changed.send_replace(());
    }

    pub(crate) fn listen(&self) -> OutboxListener {
        OutboxListener(self.outbox_changed.subscribe())
    }

    pub(crate) async fn check(&self) -> Result<()> {
        if !self.group_commit.is_running() {
            return Err(StoreError::Closed);
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
        let written = query.execute(self.writer().await.connection()?).await;
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
        self.work_readers.close().await;
        if let Some(connection) = self.writer.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(
                %error,
                "the database did not close cleanly; nothing that was committed is lost"
            );
        }
    }
}

/// The writing connection while it is ours.
pub(crate) struct SqliteWriter<'a>(MutexGuard<'a, Option<SqliteConnection>>);

impl SqliteWriter<'_> {
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection> {
        self.0.as_mut().ok_or(StoreError::Closed)
    }

    /// Begins a transaction that may write from its first statement on, so that it cannot fail
    /// half-way for a lock.
    pub(crate) async fn begin(&mut self) -> Result<sqlx::Transaction<'_, sqlx::Sqlite>> {
        Ok(self.connection()?.begin_with("BEGIN IMMEDIATE").await?)
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
    if opening == OpenMode::Exclusive {
        create_private(path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let mut writer = SqliteConnection::connect_with(options)
        .await
        .with_context(|| {
            format!(
                "cannot open {}: is its folder there, and may this user write to it?",
                path.display()
            )
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

/// Takes the lock that says "a server is using this file".
fn lock(database: &Path) -> anyhow::Result<File> {
    let path = lock_path(database);
    let file = File::create(&path).with_context(|| {
        format!(
            "cannot create {}: is its folder there, and may this user write to it?",
            path.display()
        )
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another tallyhook is serving {}; stop it, or give this one a DATABASE_URL of its own",
            database.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Payloads of private repositories are for this user alone. SQLite gives its other files the mode
/// of this one.
fn create_private(database: &Path) -> std::io::Result<()> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(database)
    {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn lock_path(database: &Path) -> PathBuf {
    // One file is one lock, by whichever link it is reached.
    let database = database
        .canonicalize()
        .unwrap_or_else(|_| database.to_owned());
    let mut name = database.into_os_string();
    name.push(".lock");
    PathBuf::from(name)
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
