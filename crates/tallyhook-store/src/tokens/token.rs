//! API tokens, of which only a digest is stored.

use sqlx::FromRow;

use super::role::AccessRole;
use crate::columns::{Millis, Name, storable_text};
use crate::database::statement;
use crate::{Moment, Result, Store};

/// SHA-256 of a token, or of the value of a session's cookie. Both are 256 random bits, so a plain
/// digest is as good as a slow one.
pub type TokenHash = [u8; 32];

/// The id of a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TeamId(pub i64);

/// The team to which everything belongs while there is one.
pub const DEFAULT_TEAM: (TeamId, &str) = (TeamId(1), "default");

/// The record of an API token, without the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub name: String,
    pub team: String,
    pub role: AccessRole,
    /// The login that "me" means to its holder.
    pub login: Option<String>,
    pub created_at: Moment,
    /// `None` is a token without an end.
    pub expires_at: Option<Moment>,
    /// The last use, to the minute.
    pub last_used_at: Option<Moment>,
    pub revoked_at: Option<Moment>,
}

/// A token that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    pub name: &'a str,
    pub hash: &'a TokenHash,
    pub team: TeamId,
    pub role: AccessRole,
    pub login: Option<&'a str>,
    pub created_at: Moment,
    pub expires_at: Option<Moment>,
}

/// The rights that a token in force gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    /// The id of its row.
    pub id: i64,
    pub team: TeamId,
    pub team_name: String,
    pub role: AccessRole,
    /// The login that "me" means to its holder.
    pub login: Option<String>,
    /// True while there is no other team.
    pub is_only_team: bool,
}

#[derive(FromRow)]
struct ApiTokenRow {
    name: String,
    team: String,
    role: Name<AccessRole>,
    login: Option<String>,
    created_at: Millis,
    expires_at: Option<Millis>,
    last_used_at: Option<Millis>,
    revoked_at: Option<Millis>,
}

impl From<ApiTokenRow> for ApiToken {
    fn from(row: ApiTokenRow) -> Self {
        let moment = |at: Option<Millis>| at.map(|Millis(at)| at);
        Self {
            name: row.name,
            team: row.team,
            role: row.role.0,
            login: row.login,
            created_at: row.created_at.0,
            expires_at: moment(row.expires_at),
            last_used_at: moment(row.last_used_at),
            revoked_at: moment(row.revoked_at),
        }
    }
}

/// The columns of a [`TokenGrantRow`], of a token and its team.
pub(super) const GRANT: &str = "token.id AS token_id, token.team_id, team.name AS team_name, \
     token.role, token.login, NOT EXISTS (SELECT 1 FROM teams AS other WHERE other.id <> token.team_id) \
     AS is_only_team";

#[derive(FromRow)]
struct TokenGrantRow {
    token_id: i64,
    team_id: i64,
    team_name: String,
    role: Name<AccessRole>,
    login: Option<String>,
    is_only_team: bool,
}

impl From<TokenGrantRow> for TokenGrant {
    fn from(row: TokenGrantRow) -> Self {
        Self {
            id: row.token_id,
            team: TeamId(row.team_id),
            team_name: row.team_name,
            role: row.role.0,
            login: row.login,
            is_only_team: row.is_only_team,
        }
    }
}

impl Store {
    /// Stores a token's digest under its name, in place of a revoked one of that name. Returns
    /// `false` if the name is taken.
    pub async fn create_token(&self, token: &NewToken<'_>) -> Result<bool> {
        let insert = statement(
            "INSERT INTO api_tokens AS known (name, sha256, team_id, role, created_at, expires_at, \
             login) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) \
             DO UPDATE SET sha256 = excluded.sha256, team_id = excluded.team_id, \
             role = excluded.role, created_at = excluded.created_at, \
             expires_at = excluded.expires_at, login = excluded.login, last_used_at = NULL, revoked_at = NULL \
             WHERE known.revoked_at IS NOT NULL",
        )
        .bind(storable_text(token.name))
        .bind(token.hash.as_slice())
        .bind(token.team.0)
        .bind(token.role.as_str())
        .bind(Millis(token.created_at))
        .bind(token.expires_at.map(Millis))
        .bind(token.login.map(storable_text));
        Ok(self.database.execute(insert).await? == 1)
    }

    /// Returns the tokens of a team, or of all teams, the oldest first.
    pub async fn tokens(&self, team: Option<TeamId>) -> Result<Vec<ApiToken>> {
        let query = statement(
            "SELECT token.name, team.name AS team, token.role, token.login, token.created_at, \
             token.expires_at, token.last_used_at, token.revoked_at \
             FROM api_tokens AS token JOIN teams AS team ON team.id = token.team_id \
             WHERE token.team_id = coalesce($1, token.team_id) \
             ORDER BY token.created_at, token.id",
        )
        .bind(team.map(|TeamId(id)| id));
        let rows: Vec<ApiTokenRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(ApiToken::from).collect())
    }

    /// Revokes the token of that name, of a team or of any, and ends its sessions. Returns `false`
    /// if there is none in force.
    pub async fn revoke_token(
        &self,
        team: Option<TeamId>,
        name: &str,
        now: Moment,
    ) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let update = statement(
            "UPDATE api_tokens SET revoked_at = $1 WHERE name = $2 AND revoked_at IS NULL \
             AND team_id = coalesce($3, team_id)",
        )
        .bind(Millis(now))
        .bind(storable_text(name))
        .bind(team.map(|TeamId(id)| id));
        let is_revoked = transaction.execute(update).await? == 1;
        if is_revoked {
            let delete = statement(
                "DELETE FROM sessions WHERE token_sha256 = \
                 (SELECT sha256 FROM api_tokens WHERE name = $1)",
            )
            .bind(storable_text(name));
            transaction.execute(delete).await?;
        }
        transaction.commit().await?;
        Ok(is_revoked)
    }

    /// Returns the rights of the token with this digest, if it is in force.
    pub async fn token_grant(&self, hash: &TokenHash, now: Moment) -> Result<Option<TokenGrant>> {
        let query = statement(format!(
            "SELECT {GRANT} FROM api_tokens AS token JOIN teams AS team ON team.id = token.team_id \
             WHERE token.sha256 = $1 AND token.revoked_at IS NULL \
             AND (token.expires_at IS NULL OR token.expires_at > $2)"
        ))
        .bind(hash.as_slice())
        .bind(Millis(now));
        let row: Option<TokenGrantRow> = self.database.row(query).await?;
        Ok(row.map(TokenGrant::from))
    }
}
