//! The store in PostgreSQL, which many processes share.
//!
//! Rows that several processes write are locked in one order by all of them (by key within a table; pull requests,
//! deliveries, reviews, repositories, installations, tasks, the outbox among the tables; of backfills, the repository before the run), so that none waits for another in a circle.

mod accepting;
mod connections;
mod facts;
mod inbox;
mod listening;
mod reading;
mod sessions;
mod tokens;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use tokio::sync::Mutex;
use tokio::time::timeout;

use self::accepting::Pooled;
use self::connections::{Connections, PARTS, within};
use self::listening::Ears;
use super::accepting::Accepting;
use super::aggregating::Aggregating;
use super::{
    Condition, DeliveryId, LEASE_DURATION, LeaderRole, Listening, Moment, Opening, Result, Store,
    StoreError, migrations,
};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// How many groups of accepted deliveries are committed at the same time.
const GROUPS: usize = 2;
/// Whoever asks whether the database is there wants to know it soon.
const CHECKING: Duration = Duration::from_secs(4);

/// The store in PostgreSQL.
pub(super) struct PostgresStore {
    connections: Arc<Connections>,
    accepting: Accepting,
    aggregating: Aggregating,
    leading: Arc<Mutex<Option<Leading>>>,
    ears: Ears,
}

/// A connection that holds the advisory locks of the parts this process plays. They are lost with it.
struct Leading {
    connection: PgConnection,
    parts: BTreeSet<i32>,
}

impl PostgresStore {
    /// Connects to the database that `url` names.
    ///
    /// # Errors
    /// In words that say what to do, and never what the password is.
    pub(super) async fn open(url: &str, opening: Opening) -> anyhow::Result<Self> {
        let options = connections::options(url)?;
        let mut connection = connections::connect(&options)
            .await
            .with_context(|| unreachable(&options))?;
        check_encoding(&mut connection).await?;
        match opening {
            Opening::Alone => migrate(&mut connection).await?,
            Opening::AloneAsIs | Opening::Beside => {
                let applied = sqlx::query_scalar(migrations::APPLIED)
                    .fetch_one(&mut connection)
                    .await;
                migrations::check(applied, &MIGRATIONS)?;
            }
        }
        // Whatever it may say in parting, the work is done.
        drop(connection.close().await);
        let connections = Arc::new(Connections::new(options));
        let accepting = Accepting::start(Pooled(connections.clone()), GROUPS);
        Ok(Self {
            connections,
            accepting,
            aggregating: Aggregating::default(),
            leading: Arc::default(),
            ears: Ears::default(),
        })
    }
}

impl Leading {
    /// Asks the server for a part, on the connection that holds the parts.
    async fn try_part(&mut self, part: i32) -> Result<bool> {
        if self.parts.contains(&part) {
            // The lock is there as long as the connection is.
            within(self.connection.ping()).await?;
            return Ok(true);
        }
        let query = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
            .bind(PARTS)
            .bind(part);
        let taken = within(query.fetch_one(&mut self.connection)).await?;
        if taken {
            self.parts.insert(part);
        }
        Ok(taken)
    }
}

/// Takes or keeps a part.
async fn lead(
    connections: Arc<Connections>,
    leading: Arc<Mutex<Option<Leading>>>,
    part: i32,
) -> Result<bool> {
    let mut place = leading.lock().await;
    // Taken out while the server is asked: if the connection broke, the parts are lost and are asked for again on
    // another one.
    let mut leading = match place.take() {
        Some(leading) => leading,
        None => {
            let mut connection = connections.extra().await?;
            within(end_when_silent(&mut connection)).await?;
            Leading {
                connection,
                parts: BTreeSet::new(),
            }
        }
    };
    let leads = leading.try_part(part).await?;
    *place = Some(leading);
    Ok(leads)
}

#[async_trait::async_trait]
impl Store for PostgresStore {
    async fn check(&self) -> Result<()> {
        if !self.accepting.is_running() {
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

    async fn condition(&self) -> Result<Condition> {
        let query = "SELECT current_setting('server_version'), clock_timestamp(), \
                     current_setting('transaction_read_only') = 'on'";
        let (version, now, read_only): (String, Moment, bool) = self
            .connections
            .fetch_optional(sqlx::query_as(query))
            .await?
            .ok_or(sqlx::Error::RowNotFound)?;
        let read_only =
            read_only.then(|| "the server is a standby, or is set to read only".to_owned());
        Ok(Condition {
            server: format!("PostgreSQL {version}"),
            now: Some(now),
            read_only,
        })
    }

    async fn acquire_role(&self, role: LeaderRole) -> Result<bool> {
        // To its end whatever becomes of the caller: on this connection are the parts of others, too.
        let asked = tokio::spawn(lead(
            self.connections.clone(),
            self.leading.clone(),
            number(role),
        ));
        asked.await.map_err(|_| StoreError::Closed)?
    }

    async fn release_role(&self, role: LeaderRole) {
        let mut place = self.leading.lock().await;
        let Some(mut leading) = place.take_if(|leading| leading.parts.remove(&number(role))) else {
            return;
        };
        if !leading.parts.is_empty() {
            let query = sqlx::query("SELECT pg_advisory_unlock($1, $2)")
                .bind(PARTS)
                .bind(number(role));
            if within(query.execute(&mut leading.connection)).await.is_ok() {
                *place = Some(leading);
                return;
            }
        }
        // Locks end with their connection.
        drop(timeout(Duration::from_secs(1), leading.connection.close()).await);
    }

    async fn listen(&self) -> Result<Box<dyn Listening>> {
        Ok(Box::new(self.ears.open(&self.connections).await?))
    }

    async fn close(&self) {
        self.accepting.finish().await;
        if let Some(leading) = self.leading.lock().await.take() {
            // A server that does not answer notices the end of the connection by itself.
            drop(timeout(Duration::from_secs(1), leading.connection.close()).await);
        }
        self.ears.close().await;
        self.connections.close().await;
    }
}

/// The second half of a part's advisory lock.
const fn number(role: LeaderRole) -> i32 {
    match role {
        LeaderRole::Sweeper => 1,
        LeaderRole::Poller => 2,
        LeaderRole::Follower => 3,
        LeaderRole::Notifier => 4,
        LeaderRole::Opener => 5,
        LeaderRole::Cleaner => 6,
    }
}

/// Lets the server end a session that is silent for longer than a leader is: one on a machine that lost its power, or
/// was paused, is a leader no more. Servers before version 14 know no such time.
async fn end_when_silent(connection: &mut PgConnection) -> sqlx::Result<()> {
    // What begins while a part is sure has time to end.
    let silence = format!("{}ms", (LEASE_DURATION + LEASE_DURATION / 2).as_millis());
    let query =
        "SELECT set_config(name, $1, false) FROM pg_settings WHERE name = 'idle_session_timeout'";
    sqlx::query(query)
        .bind(silence)
        .execute(connection)
        .await
        .map(|_| ())
}

/// What may be told of a server that cannot be reached.
fn unreachable(options: &PgConnectOptions) -> String {
    let place = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    format!(
        "cannot connect to PostgreSQL at {place} as user {}",
        options.get_username()
    )
}

/// Titles come in every script, and what cannot be stored would be tried for ever.
async fn check_encoding(connection: &mut PgConnection) -> anyhow::Result<()> {
    let encoding: String = sqlx::query_scalar("SHOW server_encoding")
        .fetch_one(connection)
        .await?;
    if encoding != "UTF8" {
        bail!(
            "the database's encoding is {encoding}: create one with ENCODING 'UTF8' TEMPLATE template0"
        );
    }
    Ok(())
}

/// Brings the database to this version. Of processes that start at the same time one does it: sqlx takes an advisory
/// lock, for which the others wait as long as it takes.
async fn migrate(connection: &mut PgConnection) -> anyhow::Result<()> {
    connection
        .execute("SET statement_timeout = 0; SET lock_timeout = 0")
        .await?;
    MIGRATIONS.run(connection).await.map_err(migrations::failed)
}

fn ids(ids: &[DeliveryId]) -> Vec<i64> {
    ids.iter().map(|id| id.0).collect()
}
