//! The store: one struct over one kind of database.

use std::sync::Arc;

use crate::condition::LastExamination;
use crate::database::{Database, statement};
use crate::postgres::PostgresDatabase;
use crate::pull_requests::AggregationLimit;
use crate::sqlite::SqliteDatabase;
use crate::{LeaderRole, Moment, OutboxListener, Result};

/// All that is kept, in one kind of database. Cheap to clone: clones share the connections.
///
/// Each method is one atomic step. There is no transaction to begin from outside, so none can be
/// left open. The methods of an entity are in the folder of the entity.
#[derive(Clone)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) aggregation: AggregationLimit,
    pub(crate) examined: Arc<LastExamination>,
}

impl From<SqliteDatabase> for Store {
    fn from(database: SqliteDatabase) -> Self {
        Self {
            database: Database::Sqlite(Arc::new(database)),
            aggregation: AggregationLimit::default(),
            examined: Arc::default(),
        }
    }
}

impl From<PostgresDatabase> for Store {
    fn from(database: PostgresDatabase) -> Self {
        Self {
            database: Database::Postgres(Arc::new(database)),
            aggregation: AggregationLimit::default(),
            examined: Arc::default(),
        }
    }
}

impl Store {
    /// Checks that the database answers, can store deliveries and has every migration of this
    /// version.
    pub async fn check(&self) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.check().await,
            Database::Postgres(database) => database.check().await,
        }
    }

    /// Returns the bytes of the database.
    pub async fn database_bytes(&self) -> Result<u64> {
        let query = match self.database.is_sqlite() {
            true => "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
            false => "SELECT pg_database_size(current_database())",
        };
        let row: Option<(i64,)> = self.database.row(statement(query)).await?;
        Ok(row.map_or(0, |(bytes,)| bytes.unsigned_abs()))
    }

    /// Describes the database to its operator.
    pub async fn describe(&self) -> Result<DatabaseInfo> {
        match &self.database {
            Database::Sqlite(database) => database.describe().await,
            Database::Postgres(database) => database.describe().await,
        }
    }

    /// Acquires or renews a role. Returns whether this process holds it. A holder that does not
    /// renew for [`LEASE_DURATION`](crate::LEASE_DURATION) may lose it.
    pub async fn acquire_role(&self, role: LeaderRole) -> Result<bool> {
        match &self.database {
            // One process at a time serves the file.
            Database::Sqlite(_) => Ok(true),
            Database::Postgres(database) => database.acquire_role(role).await,
        }
    }

    /// Releases a role, so that another process can acquire it at once.
    pub async fn release_role(&self, role: LeaderRole) {
        match &self.database {
            Database::Sqlite(_) => {}
            Database::Postgres(database) => database.release_role(role).await,
        }
    }

    /// Begins to listen for events of the outbox, also those that other processes write.
    pub async fn listen(&self) -> Result<OutboxListener> {
        match &self.database {
            Database::Sqlite(database) => Ok(database.listen()),
            Database::Postgres(database) => database.listen().await,
        }
    }

    /// Shrinks SQLite's write-ahead log. Returns false if readers still need a part of it.
    pub async fn truncate_wal(&self) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.truncate_wal().await,
            Database::Postgres(_) => Ok(true),
        }
    }

    /// Finishes work in progress and closes every connection.
    pub async fn close(&self) {
        match &self.database {
            Database::Sqlite(database) => database.close().await,
            Database::Postgres(database) => database.close().await,
        }
    }
}

/// A description of a database, by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Kind and version, as in `SQLite 3.50.1`.
    pub server: String,
    /// By the database server's clock; `None` where it is ours.
    pub now: Option<Moment>,
    /// The reason why nothing can be written to it.
    pub read_only: Option<String>,
}
