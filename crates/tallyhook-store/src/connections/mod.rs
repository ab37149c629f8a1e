//! Connections: the use of a credential by a team.

use sqlx::FromRow;

use crate::columns::Millis;
use crate::credentials::{CredentialRow, NewRevocation, insert_revocation};
use crate::database::{Transaction, statement};
use crate::{Credential, Moment, Result, Store, TeamId};

/// A connection in force, with its credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamConnection {
    pub id: String,
    pub team: TeamId,
    /// The id of the user who made it.
    pub created_by: Option<i64>,
    pub created_at: Moment,
    pub credential: Credential,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedConnection {
    /// The team has none of this id.
    Missing,
    /// Another team still uses the credential.
    InUse,
    /// Nothing uses the credential any more: its tokens are gone from it.
    Revoked,
    /// Nothing uses the credential any more, and it is not the one that was read.
    Changed,
}

#[derive(FromRow)]
struct ConnectionRow {
    connection_id: String,
    team_id: i64,
    created_by: Option<i64>,
    connected_at: Millis,
    #[sqlx(flatten)]
    credential: CredentialRow,
}

impl TryFrom<ConnectionRow> for TeamConnection {
    type Error = crate::StoreError;

    fn try_from(row: ConnectionRow) -> Result<Self> {
        Ok(Self {
            id: row.connection_id,
            team: TeamId(row.team_id),
            created_by: row.created_by,
            created_at: row.connected_at.0,
            credential: row.credential.try_into()?,
        })
    }
}

impl Store {
    /// Lets a team use a credential. Returns `id`, or that of the connection that it has already.
    pub async fn connect_team(
        &self,
        id: &str,
        team: TeamId,
        credential: &str,
        created_by: Option<i64>,
        now: Moment,
    ) -> Result<String> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let insert = statement(
            "INSERT INTO github_connections (id, team_id, credential_id, created_by, created_at) \
             VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (team_id, credential_id) WHERE ended_at IS NULL DO NOTHING",
        )
        .bind(id.to_owned())
        .bind(team.0)
        .bind(credential.to_owned())
        .bind(created_by)
        .bind(Millis(now));
        transaction.execute(insert).await?;
        let query = statement(
            "SELECT id FROM github_connections \
             WHERE team_id = $1 AND credential_id = $2 AND ended_at IS NULL",
        )
        .bind(team.0)
        .bind(credential.to_owned());
        let row: Option<(String,)> = transaction.row(query).await?;
        transaction.commit().await?;
        Ok(row.map_or_else(|| id.to_owned(), |(id,)| id))
    }

    /// Returns the connections of a team that are in force, the oldest first.
    pub async fn connections(&self, team: TeamId) -> Result<Vec<TeamConnection>> {
        let query = statement(format!(
            "SELECT connection.id AS connection_id, connection.team_id, connection.created_by, \
             connection.created_at AS connected_at, {} FROM github_connections AS connection \
             JOIN github_credentials AS credential ON credential.id = connection.credential_id \
             WHERE connection.team_id = $1 AND connection.ended_at IS NULL \
             ORDER BY connection.created_at, connection.id",
            CredentialRow::COLUMNS
        ))
        .bind(team.0);
        let rows: Vec<ConnectionRow> = self.database.rows(query).await?;
        rows.into_iter().map(TeamConnection::try_from).collect()
    }

    /// Returns a connection of a team that is in force.
    pub async fn connection(&self, team: TeamId, id: &str) -> Result<Option<TeamConnection>> {
        let all = self.connections(team).await?;
        Ok(all.into_iter().find(|connection| connection.id == id))
    }

    /// Ends a connection of a team. If no other uses the credential, its tokens are removed in the
    /// same transaction, which also stores the revocation of those of this `generation`.
    pub async fn end_connection(
        &self,
        team: TeamId,
        id: &str,
        generation: i64,
        revocation: Option<&NewRevocation<'_>>,
        now: Moment,
    ) -> Result<EndedConnection> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let Some(credential) = lock_credential(&mut transaction, team, id).await? else {
            transaction.rollback().await?;
            return Ok(EndedConnection::Missing);
        };
        let end = statement(
            "UPDATE github_connections SET ended_at = $3 \
             WHERE id = $1 AND team_id = $2 AND ended_at IS NULL",
        )
        .bind(id.to_owned())
        .bind(team.0)
        .bind(Millis(now));
        if transaction.execute(end).await? == 0 {
            transaction.rollback().await?;
            return Ok(EndedConnection::Missing);
        }
        let others = statement(
            "SELECT count(*) FROM github_connections \
             WHERE credential_id = $1 AND ended_at IS NULL",
        )
        .bind(credential.clone());
        let others: Option<(i64,)> = transaction.row(others).await?;
        if others.is_some_and(|(others,)| others > 0) {
            transaction.commit().await?;
            return Ok(EndedConnection::InUse);
        }
        let revoke = statement(
            "UPDATE github_credentials SET state = 'revoked', state_reason = 'disconnected', \
             access_token = NULL, refresh_token = NULL, refresh_until = NULL, \
             generation = generation + 1 WHERE id = $1 AND generation = $2",
        )
        .bind(credential)
        .bind(generation);
        if transaction.execute(revoke).await? == 0 {
            transaction.rollback().await?;
            return Ok(EndedConnection::Changed);
        }
        if let Some(revocation) = revocation {
            insert_revocation(&mut transaction, revocation, now).await?;
        }
        transaction.commit().await?;
        Ok(EndedConnection::Revoked)
    }
}

/// Locks the credential of a connection, so that of two that end at the same time the second sees
/// the end of the first. Returns its id.
async fn lock_credential(
    transaction: &mut Transaction<'_>,
    team: TeamId,
    connection: &str,
) -> Result<Option<String>> {
    let lock = statement(
        "UPDATE github_credentials SET generation = generation WHERE id = \
         (SELECT credential_id FROM github_connections \
         WHERE id = $1 AND team_id = $2 AND ended_at IS NULL) RETURNING id",
    )
    .bind(connection.to_owned())
    .bind(team.0);
    let row: Option<(String,)> = transaction.row(lock).await?;
    Ok(row.map(|(id,)| id))
}
