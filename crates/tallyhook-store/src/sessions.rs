//! What one SQL text for both kinds of database is run on.

use sqlx::Database;
use sqlx::query::Query;

use super::Result;

/// A statement with its arguments.
pub(super) type Statement<'q, DB> = Query<'q, DB, <DB as Database>::Arguments>;

/// A store of one kind of database.
#[async_trait::async_trait]
pub(super) trait Sessions: Send + Sync {
    type Kind: Database;

    /// The rows of a statement that only reads.
    async fn read(
        &self,
        statement: Statement<'_, Self::Kind>,
    ) -> Result<Vec<<Self::Kind as Database>::Row>>;

    /// How many rows a statement touched, which is a transaction by itself.
    async fn write(&self, statement: Statement<'_, Self::Kind>) -> Result<u64>;

    /// Lets whoever listens look whether there is something new or due. Who does not hear of it looks some
    /// seconds later.
    async fn wake(&self);

    /// A connection that may write.
    async fn writer(&self) -> Result<Box<dyn Writer<Self::Kind> + '_>>;
}

#[async_trait::async_trait]
pub(super) trait Writer<DB: Database>: Send {
    async fn begin(&mut self) -> Result<Box<dyn Session<DB> + '_>>;
}

/// A transaction, undone unless it is committed.
#[async_trait::async_trait]
pub(super) trait Session<DB: Database>: Send {
    async fn rows(&mut self, statement: Statement<'_, DB>) -> Result<Vec<DB::Row>>;

    /// How many rows were touched.
    async fn execute(&mut self, statement: Statement<'_, DB>) -> Result<u64>;

    /// Holds a lock until the end of the transaction. Waits for whoever has it.
    async fn lock(&mut self, lock: Lock) -> Result<()>;

    async fn commit(self: Box<Self>) -> Result<()>;

    /// Undoes it, as does who drops it; but then its connection may be used on.
    async fn rollback(self: Box<Self>) -> Result<()>;
}

/// What writers of several processes do one after the other. One database with one writer needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// Entering the outbox: events get their ids and are committed one transaction after the other, so that none appears
    /// before one that was read already. The last that a transaction takes.
    Outbox,
    /// Making it so that a pull request belongs to a task, where it did not.
    Tasks,
    /// Looking for the tasks of a pull request. Many may have it at once, but not together with the one above.
    TasksOfPullRequests,
}
