//! The PostgreSQL database and its parts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::migrate::Migrator;
use sqlx::query::{Query, QueryAs};
use sqlx::{Connection, Executor};
use sqlx_postgres::{PgArguments, PgConnectOptions, PgConnection, Postgres};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::connections::{self, Connections, OUTBOX_CHANNEL, PgRecord, PooledSession};
use super::group_commit::PoolTarget;
use super::leader::LeaderConnection;
use super::listen::PgListenerHub;
use crate::deliveries::GroupCommit;
use crate::{
    DatabaseInfo, DeliveryId, Moment, OpenMode, OutboxListener, Result, StoreError, migrations,
};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// The number of groups of accepted deliveries that are committed at the same time.
const GROUPS: usize = 2;
/// The time-out of a health check, shorter than that of a statement.
const CHECKING: Duration = Duration::from_secs(4);

/// A PostgreSQL database.
pub(crate) struct PostgresDatabase {
    pub(crate) connections: Arc<Connections>,
    pub(crate) group_commit: GroupCommit,
    pub(super) leading: Arc<Mutex<Option<LeaderConnection>>>,
    listeners: PgListenerHub,
}

impl PostgresDatabase {
    /// Connects to the database that `url` names.
    ///
    /// # Errors
    /// In words that say what to do, and never what the password is.
    pub(crate) async fn open(url: &str, opening: OpenMode) -> anyhow::Result<Self> {
        let options = connections::options(url)?;
        let mut connection = connections::connect(&options)
            .await
            .with_context(|| unreachable(&options))?;
        check_encoding(&mut connection).await?;
        match opening {
            OpenMode::Exclusive => migrate(&mut connection).await?,
            OpenMode::ExclusiveUnmigrated | OpenMode::Shared => {
                let applied = sqlx::query_scalar(migrations::APPLIED)
                    .fetch_one(&mut connection)
                    .await;
                migrations::check(applied, &MIGRATIONS)?;
            }
        }
        // An error of closing is of no interest: the work is done.
        drop(connection.close().await);
        let connections = Arc::new(Connections::new(options));
        let group_commit = GroupCommit::start(PoolTarget(connections.clone()), GROUPS);
        Ok(Self {
            connections,
            group_commit,
            leading: Arc::default(),
            listeners: PgListenerHub::default(),
        })
    }

    /// Takes a connection out of the pool.
    pub(crate) async fn session(&self) -> Result<PooledSession> {
        self.connections.session().await
    }

    /// Returns the rows of one statement, which is a transaction by itself.
    pub(crate) async fn fetch_all<R: PgRecord>(
        &self,
        query: QueryAs<'_, Postgres, R, PgArguments>,
    ) -> Result<Vec<R>> {
        self.connections.fetch_all(query).await
    }

    /// Runs one statement, which is a transaction by itself. Returns the number of rows it touched.
    pub(crate) async fn execute(&self, query: Query<'_, Postgres, PgArguments>) -> Result<u64> {
        self.connections.execute(query).await
    }

    pub(crate) async fn notify_listeners(&self) {
        let notify = sqlx::query("SELECT pg_notify($1, '')").bind(OUTBOX_CHANNEL);
        if let Err(error) = self.connections.execute(notify).await {
            // The commit stands; listeners look again some seconds later.
            tracing::debug!(%error, "listeners of the outbox could not be notified");
        }
    }

    pub(crate) async fn check(&self) -> Result<()> {
        if !self.group_commit.is_running() {
            return Err(StoreError::Closed);
        }
        let query = sqlx::query_as(migrations::APPLIED);
        let counted = timeout(CHECKING, self.connections.fetch_optional(query));
        match counted.await.map_err(|_| StoreError::Unanswered)?? {
            Some((applied,)) if applied == migrations::known(&MIGRATIONS) => Ok(()),
            applied => Err(StoreError::Version {
                applied: applied.map_or(0, |(applied,)| applied),
            }),
        }
    }

    pub(crate) async fn describe(&self) -> Result<DatabaseInfo> {
        let query = "SELECT current_setting('server_version'), clock_timestamp(), \
                     current_setting('transaction_read_only') = 'on'";
        let (version, now, read_only): (String, Moment, bool) = self
            .connections
            .fetch_optional(sqlx::query_as(query))
            .await?
            .ok_or(sqlx::Error::RowNotFound)?;
        let read_only =
            read_only.then(|| "the server is a standby, or is set to read only".to_owned());
        Ok(DatabaseInfo {
            server: format!("PostgreSQL {version}"),
            now: Some(now),
            read_only,
        })
    }

    pub(crate) async fn listen(&self) -> Result<OutboxListener> {
        self.listeners.subscribe(&self.connections).await
    }

    pub(crate) async fn close(&self) {
        self.group_commit.finish().await;
        self.release_roles().await;
        self.listeners.close().await;
        self.connections.close().await;
    }
}

/// Describes a server that cannot be reached, without its password.
fn unreachable(options: &PgConnectOptions) -> String {
    let place = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    format!(
        "cannot connect to PostgreSQL at {place} as user {} (start it, or fix DATABASE_URL)",
        options.get_username()
    )
}

/// Titles are in every script, and a text that cannot be stored would be retried for ever.
async fn check_encoding(connection: &mut PgConnection) -> anyhow::Result<()> {
    let encoding: String = sqlx::query_scalar("SHOW server_encoding")
        .fetch_one(connection)
        .await?;
    if encoding != "UTF8" {
        bail!(
            "the database's encoding is {encoding}: create one with ENCODING 'UTF8' TEMPLATE \
             template0"
        );
    }
    Ok(())
}

/// Brings the database to this version. Of processes that start at the same time one does it: sqlx
/// takes an advisory lock, for which the others wait as long as it takes.
async fn migrate(connection: &mut PgConnection) -> anyhow::Result<()> {
    connection
        .execute("SET statement_timeout = 0; SET lock_timeout = 0")
        .await?;
    MIGRATIONS.run(connection).await.map_err(migrations::failed)
}

pub(crate) fn ids(ids: &[DeliveryId]) -> Vec<i64> {
    ids.iter().map(|id| id.0).collect()
}
