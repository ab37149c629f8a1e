//! Leadership in PostgreSQL: a role is an advisory lock on a connection of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx_postgres::PgConnection;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::connections::{Connections, ROLES, within};
use super::database::PostgresDatabase;
use crate::{LEASE_DURATION, LeaderRole, Result, StoreError};

/// The connection that holds the advisory locks of the roles of this process. They are lost with
/// it.
pub(super) struct LeaderConnection {
    connection: PgConnection,
    roles: BTreeSet<i32>,
}

impl PostgresDatabase {
    pub(crate) async fn acquire_role(&self, role: LeaderRole) -> Result<bool> {
        // In a task of its own, so that a cancelled caller does not break the connection, which
        // also holds other roles.
        let asked = tokio::spawn(acquire(
            self.connections.clone(),
            self.leading.clone(),
            number(role),
        ));
        asked.await.map_err(|_| StoreError::Closed)?
    }

    pub(crate) async fn release_role(&self, role: LeaderRole) {
        let mut place = self.leading.lock().await;
        let Some(mut leading) = place.take_if(|leading| leading.roles.remove(&number(role))) else {
            return;
        };
        if !leading.roles.is_empty() {
            let query = sqlx::query("SELECT pg_advisory_unlock($1, $2)")
                .bind(ROLES)
                .bind(number(role));
            if within(query.execute(&mut leading.connection)).await.is_ok() {
                *place = Some(leading);
                return;
            }
        }
        // Locks end with their connection.
        drop(timeout(Duration::from_secs(1), leading.connection.close()).await);
    }

    /// Releases every role.
    pub(super) async fn release_roles(&self) {
        if let Some(leading) = self.leading.lock().await.take() {
            // A server that does not answer notices the end of the connection by itself.
            drop(timeout(Duration::from_secs(1), leading.connection.close()).await);
        }
    }
}

impl LeaderConnection {
    /// Acquires or confirms a role on this connection. Returns whether it is held.
    async fn try_acquire(&mut self, role: i32) -> Result<bool> {
        if self.roles.contains(&role) {
            // The lock is there as long as the connection is.
            within(self.connection.ping()).await?;
            return Ok(true);
        }
        let query = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
            .bind(ROLES)
            .bind(role);
        let taken = within(query.fetch_one(&mut self.connection)).await?;
        if taken {
            self.roles.insert(role);
        }
        Ok(taken)
    }
}

/// Acquires or renews a role.
async fn acquire(
    connections: Arc<Connections>,
    leading: Arc<Mutex<Option<LeaderConnection>>>,
    role: i32,
) -> Result<bool> {
    let mut place = leading.lock().await;
    // Taken out while the server is asked: if the connection broke, its roles are lost and are
    // acquired again on another.
    let mut leading = match place.take() {
        Some(leading) => leading,
        None => {
            let mut connection = connections.extra().await?;
            within(end_when_silent(&mut connection)).await?;
            LeaderConnection {
                connection,
                roles: BTreeSet::new(),
            }
        }
    };
    let leads = leading.try_acquire(role).await?;
    *place = Some(leading);
    Ok(leads)
}

/// The second half of a role's advisory lock.
const fn number(role: LeaderRole) -> i32 {
    match role {
        LeaderRole::Sweeper => 1,
        LeaderRole::Poller => 2,
        LeaderRole::Follower => 3,
        LeaderRole::Notifier => 4,
        LeaderRole::Opener => 5,
        LeaderRole::Cleaner => 6,
        LeaderRole::Renumberer => 7,
    }
}

/// Lets the server end a session that is silent for longer than a leader is: one on a machine that
/// lost its power, or was paused, is a leader no more. Servers before version 14 know no such time.
async fn end_when_silent(connection: &mut PgConnection) -> sqlx::Result<()> {
    // Work that begins while a lease is held has time to end.
    let silence = format!("{}ms", (LEASE_DURATION + LEASE_DURATION / 2).as_millis());
    let query =
        "SELECT set_config(name, $1, false) FROM pg_settings WHERE name = 'idle_session_timeout'";
    sqlx::query(query)
        .bind(silence)
        .execute(connection)
        .await
        .map(|_| ())
}
