//! The writing connection, which is used again only after a write whose end is proven.
//!
//! SQLite may roll a transaction back by itself: on a full disk, a failed read or write, a lack of
//! memory, an interrupt. sqlx does not notice and counts that transaction as open for ever after.
//! So no transaction here is sqlx's, and a connection whose last write did not end as it should
//! (an error, a dropped future) is closed, and the next writer opens another.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::query::{Query, QueryAs};
use sqlx::{ConnectOptions, Connection, FromRow};
use sqlx_sqlite::{
    Sqlite, SqliteArguments, SqliteConnectOptions, SqliteConnection, SqlitePool, SqliteRow,
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::file::DatabaseFile;
use crate::{Result, StoreError};

/// The place of the writing connection.
pub(crate) struct WriterSlot {
    /// `None` after a write that failed, until the next one.
    connection: Option<SqliteConnection>,
    options: SqliteConnectOptions,
    /// The file as it is served; `None` for a command beside a server.
    file: Option<Arc<DatabaseFile>>,
    closed: bool,
}

impl WriterSlot {
    /// `options` are those of later connections, which never create the file.
    pub(super) fn new(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        file: Option<Arc<DatabaseFile>>,
    ) -> Self {
        Self {
            connection: Some(connection),
            options: options.create_if_missing(false),
            file,
            closed: false,
        }
    }

    /// Returns the open connection.
    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection> {
        self.connection.as_mut().ok_or(StoreError::Closed)
    }

    /// Returns the options of further connections that may write.
    pub(super) fn options(&self) -> SqliteConnectOptions {
        self.options.clone()
    }

    /// Brings the write-ahead log into the database. Returns false if readers keep a part of it.
    pub(super) async fn checkpoint(&mut self) -> Result<bool> {
        checkpoint(self.connection()?, "PRAGMA wal_checkpoint(FULL)").await
    }

    /// Closes the connection for good.
    pub(super) async fn close(&mut self) -> Result<()> {
        self.closed = true;
        match self.connection.take() {
            Some(connection) => Ok(connection.close().await?),
            None => Ok(()),
        }
    }
}

/// Runs a checkpoint. Returns true if it brought all of the log into the database.
pub(super) async fn checkpoint(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<bool> {
    let (busy, pages, moved): (i64, i64, i64) =
        sqlx::query_as(statement).fetch_one(connection).await?;
    Ok(busy == 0 && pages == moved)
}

/// The writing connection while it is ours.
pub(crate) struct SqliteWriter {
    slot: OwnedMutexGuard<WriterSlot>,
    /// Nothing is open on the connection.
    settled: bool,
}

impl SqliteWriter {
    /// Waits for the connection, and opens one if the last was closed for a failure.
    pub(super) async fn acquire(slot: &Arc<Mutex<WriterSlot>>) -> Result<Self> {
        let mut slot = slot.clone().lock_owned().await;
        if slot.closed {
            return Err(StoreError::Closed);
        }
        if let Some(file) = &slot.file {
            if slot.connection.is_none() {
                // Not to open another file than the one that is locked.
                file.compare();
            }
            file.check()?;
        }
        if slot.connection.is_none() {
            slot.connection = Some(slot.options.connect().await?);
        }
        Ok(Self {
            slot,
            settled: true,
        })
    }

    /// Refuses what was committed into a file that is no longer at its path.
    pub(super) fn check_file(&self) -> Result<()> {
        match &self.slot.file {
            Some(file) => {
                file.compare();
                file.check()
            }
            None => Ok(()),
        }
    }

    /// Runs a statement that is a transaction by itself. Returns the number of rows it touched.
    pub(crate) async fn execute(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<u64> {
        self.settled = false;
        let done = query.execute(self.slot.connection()?).await?;
        self.settled = true;
        Ok(done.rows_affected())
    }

    /// Returns the rows of a statement that is a transaction by itself.
    pub(crate) async fn fetch_all<R>(
        &mut self,
        query: QueryAs<'_, Sqlite, R, SqliteArguments>,
    ) -> Result<Vec<R>>
    where
        R: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        self.settled = false;
        let rows = query.fetch_all(self.slot.connection()?).await?;
        self.settled = true;
        Ok(rows)
    }

    /// Begins a transaction that may write from its first statement on, so that it cannot fail
    /// half-way for a lock.
    pub(crate) async fn begin(&mut self) -> Result<SqliteTransaction<'_>> {
        let Self { slot, settled } = self;
        *settled = false;
        let connection = slot.connection()?;
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut *connection)
            .await?;
        Ok(SqliteTransaction {
            connection,
            settled,
        })
    }
}

impl Drop for SqliteWriter {
    fn drop(&mut self) {
        if !self.settled {
            self.slot.connection = None;
        }
    }
}

/// A transaction, undone together with its connection unless its end was confirmed.
pub(crate) struct SqliteTransaction<'a> {
    connection: &'a mut SqliteConnection,
    settled: &'a mut bool,
}

impl SqliteTransaction<'_> {
    pub(crate) async fn commit(self) -> Result<()> {
        self.end("COMMIT").await
    }

    pub(crate) async fn rollback(self) -> Result<()> {
        self.end("ROLLBACK").await
    }

    async fn end(self, statement: &'static str) -> Result<()> {
        sqlx::query(statement).execute(self.connection).await?;
        *self.settled = true;
        Ok(())
    }
}

impl Deref for SqliteTransaction<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.connection
    }
}

impl DerefMut for SqliteTransaction<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.connection
    }
}

/// One snapshot for several reading statements. Its connection goes back to the pool only after the
/// end was confirmed: in a transaction that stays open, every later read would be of that snapshot.
pub(crate) struct SqliteSnapshot {
    connection: PoolConnection<Sqlite>,
    settled: bool,
}

impl SqliteSnapshot {
    pub(super) async fn begin(readers: &SqlitePool) -> Result<Self> {
        let mut snapshot = Self {
            connection: readers.acquire().await?,
            settled: false,
        };
        sqlx::query("BEGIN").execute(&mut *snapshot).await?;
        Ok(snapshot)
    }

    pub(crate) async fn end(mut self) -> Result<()> {
        sqlx::query("COMMIT").execute(&mut *self).await?;
        self.settled = true;
        Ok(())
    }
}

impl Drop for SqliteSnapshot {
    fn drop(&mut self) {
        if !self.settled {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for SqliteSnapshot {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for SqliteSnapshot {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}
