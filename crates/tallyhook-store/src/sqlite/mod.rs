//! The embedded store: one SQLite file, one writing connection, several reading ones.

mod accepting;
mod facts;
mod inbox;
mod reading;
mod sessions;
mod tokens;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Mutex, MutexGuard, watch};

use self::accepting::Writing;
use super::accepting::Accepting;
use super::aggregating::Aggregating;
use super::{
    Condition, LeaderRole, Listening, Moment, NotReady, Opening, Result, Store, StoreError,
    migrations,
};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// How long a statement waits for another process's write, such as a command beside a running server.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Rows per writing statement. Each size is prepared once; what is written is cut into the largest that fit.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// The embedded store.
///
/// SQLite lets one connection write at a time, so there is one, behind a fair lock: whoever waits for it queues
/// here instead of polling the file. Deliveries that wait for it together are committed together.
pub struct SqliteStore {
    writer: std::sync::Arc<Mutex<Option<SqliteConnection>>>,
    readers: SqlitePool,
    accepting: Accepting,
    aggregating: Aggregating,
    /// Tells what this process claimed from what an earlier one did.
    process: i64,
    orphans_released: AtomicBool,
    /// Raised when something entered the outbox.
    told: watch::Sender<()>,
    /// Held for as long as the store is open by `serve`; the system gives it back whatever becomes of the process.
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens the file that `url` names, creating it if this opening may.
    ///
    /// # Errors
    /// In words that say what to do.
    pub async fn open(url: &str, opening: Opening) -> anyhow::Result<Self> {
        let options: SqliteConnectOptions = url.parse().context("expected sqlite://FILE")?;
        let path = options.get_filename().to_owned();
        if url.contains(":memory:") || url.contains("mode=memory") {
            bail!(
                "a database in memory would lose what was accepted: name a file, as in sqlite://tallyhook.db"
            );
        }
        if opening != Opening::Alone && !path.exists() {
            bail!(NotReady::Missing(path));
        }
        let lock = match opening {
            Opening::Alone | Opening::AloneAsIs => Some(lock(&path)?),
            Opening::Beside => None,
        };
        let options = options
            .create_if_missing(opening == Opening::Alone)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was answered for survives a crash of the machine, not only of the process.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("temp_store", "memory")
            // Rows come from a thread of their own: a whole batch at once, instead of taking turns within it.
            .row_buffer_size(512)
            .disable_statement_logging();
        if opening == Opening::Alone {
            create_private(&path).with_context(|| format!("cannot create {}", path.display()))?;
        }
        let mut writer = SqliteConnection::connect_with(&options)
            .await
            .with_context(|| {
                format!(
                    "cannot open {}: is its folder there, and may this user write to it?",
                    path.display()
                )
            })?;
        match opening {
            Opening::Alone => MIGRATIONS
                .run(&mut writer)
                .await
                .map_err(migrations::failed)?,
            Opening::AloneAsIs | Opening::Beside => {
                let applied = sqlx::query_scalar(migrations::APPLIED)
                    .fetch_one(&mut writer)
                    .await;
                migrations::check(applied, &MIGRATIONS)?;
            }
        }
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options.read_only(true))
            .await
            .with_context(|| format!("cannot read {}", path.display()))?;
        let writer = std::sync::Arc::new(Mutex::new(Some(writer)));
        let (process, orphans_released) = (rand::random(), AtomicBool::new(false));
        Ok(Self {
            accepting: Accepting::start(Writing(writer.clone()), 1),
            aggregating: Aggregating::default(),
            writer,
            readers,
            process,
            orphans_released,
            told: watch::Sender::default(),
            _lock: lock,
        })
    }

    async fn writer(&self) -> Writer<'_> {
        Writer(self.writer.lock().await)
    }
}

/// The writing connection while it is ours.
struct Writer<'a>(MutexGuard<'a, Option<SqliteConnection>>);

impl Writer<'_> {
    fn connection(&mut self) -> Result<&mut SqliteConnection> {
        self.0.as_mut().ok_or(StoreError::Closed)
    }

    /// Begins a transaction that may write from its first statement on, so that it cannot fail half-way for a lock.
    async fn begin(&mut self) -> Result<sqlx::Transaction<'_, sqlx::Sqlite>> {
        Ok(self.connection()?.begin_with("BEGIN IMMEDIATE").await?)
    }
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn check(&self) -> Result<()> {
        if !self.accepting.is_running() {
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

    async fn condition(&self) -> Result<Condition> {
        let version: String = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(&self.readers)
            .await?;
        // It takes the lock of a writer, which is refused to whoever may not write, and writes nothing.
        let query = sqlx::query("UPDATE _sqlx_migrations SET success = success WHERE false");
        let written = query.execute(self.writer().await.connection()?).await;
        let read_only = written.err().map(|error| error.to_string());
        Ok(Condition {
            server: format!("SQLite {version}"),
            now: None,
            read_only,
        })
    }

    async fn acquire_role(&self, _role: LeaderRole) -> Result<bool> {
        // One process at a time serves the file.
        Ok(true)
    }

    async fn release_role(&self, _role: LeaderRole) {}

    async fn listen(&self) -> Result<Box<dyn Listening>> {
        Ok(Box::new(self.told.subscribe()))
    }

    async fn close(&self) {
        self.accepting.finish().await;
        self.readers.close().await;
        if let Some(connection) = self.writer.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database did not close cleanly; nothing that was committed is lost");
        }
    }
}

#[async_trait::async_trait]
impl Listening for watch::Receiver<()> {
    async fn heard(&mut self) -> Result<()> {
        self.changed().await.map_err(|_| StoreError::Closed)
    }
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

/// Payloads of private repositories are nobody else's business. SQLite gives its other files the mode of this one.
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

fn millis(moment: Moment) -> i64 {
    moment.timestamp_millis()
}

fn moment(millis: i64) -> Moment {
    DateTime::<Utc>::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
}

/// A list of ids for `json_each`, which is how a statement takes any number of them.
fn ids_json(ids: impl IntoIterator<Item = i64>) -> String {
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
fn chunks<T>(rows: &[T]) -> impl Iterator<Item = (usize, &[T])> {
    let mut rest = rows;
    chunk_sizes(rows.len()).map(move |(place, size)| {
        let (chunk, after) = rest.split_at(size);
        rest = after;
        (place, chunk)
    })
}

/// The sizes of the chunks of `rows` rows, with their places among the prepared sizes.
fn chunk_sizes(mut rows: usize) -> impl Iterator<Item = (usize, usize)> {
    std::iter::from_fn(move || {
        let (place, size) = CHUNKS.iter().enumerate().find(|(_, size)| **size <= rows)?;
        rows -= size;
        Some((place, *size))
    })
}
