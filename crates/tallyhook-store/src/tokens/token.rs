//! API tokens, of which only a digest is stored.

use sqlx::FromRow;

use super::role::AccessRole;
use crate::columns::{Millis, Name, storable_text};
use crate::database::statement;
use crate::{Moment, PersonName, Result, Store, TeamId, UserId};

/// SHA-256 of a token, or of the value of a session's cookie. Both are 256 random bits, so a plain
/// digest is as good as a slow one.
pub type TokenHash = [u8; 32];

/// The record of an API token, without the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub name: String,
    pub team: String,
    pub role: AccessRole,
    /// The login that "me" means to its holder.
    pub login: Option<String>,
    /// The person who made it; `None` if it was made on the server or by a token of no person.
    pub created_by: Option<PersonName>,
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
    /// The person without whose membership it has no force.
    pub created_by: Option<UserId>,
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
    /// The lesser of its own role and the one that its maker has now.
    pub role: AccessRole,
    /// The login that "me" means to its holder.
    pub login: Option<String>,
    /// The person who made it.
    pub maker: Option<PersonName>,
    /// True while there is no other team.
    pub is_only_team: bool,
}

#[derive(FromRow)]
struct ApiTokenRow {
    name: String,
    team: String,
    role: Name<AccessRole>,
    login: Option<String>,
    created_by: Option<i64>,
    maker_login: Option<String>,
    maker_name: Option<String>,
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
            created_by: PersonName::of(row.created_by, row.maker_login, row.maker_name),
            created_at: row.created_at.0,
            expires_at: moment(row.expires_at),
            last_used_at: moment(row.last_used_at),
            revoked_at: moment(row.revoked_at),
        }
    }
}

/// The columns of a [`TokenGrantRow`], of [`GRANT_TABLES`].
pub(super) const GRANT: &str = "token.id AS token_id, token.team_id, team.name AS team_name, \
    token.role, token.login, token.created_by, maker.login AS maker_login, \
    maker.name AS maker_name, member.role AS maker_role, \
    NOT EXISTS (SELECT 1 FROM teams AS other WHERE other.id <> token.team_id) AS is_only_team";

/// The tables beside a token that its rights depend on: its team, and its maker's membership now.
pub(super) const GRANT_TABLES: &str = "LEFT JOIN teams AS team ON team.id = token.team_id \
    LEFT JOIN users AS maker ON maker.id = token.created_by AND maker.disabled_at IS NULL \
    LEFT JOIN team_members AS member ON member.team_id = token.team_id \
    AND member.user_id = maker.id";

/// A token with its rights; without values where a session's token is not in force.
#[derive(FromRow)]
pub(super) struct TokenGrantRow {
    token_id: Option<i64>,
    team_id: Option<i64>,
    team_name: Option<String>,
    role: Option<Name<AccessRole>>,
    login: Option<String>,
    created_by: Option<i64>,
    maker_login: Option<String>,
    maker_name: Option<String>,
    maker_role: Option<Name<AccessRole>>,
    is_only_team: bool,
}

impl TokenGrantRow {
    /// Returns the rights, unless there is no token or its maker has left the team.
    pub(super) fn grant(self) -> Option<TokenGrant> {
        let (id, Name(own)) = (self.token_id?, self.role?);
        let maker = PersonName::of(self.created_by, self.maker_login, self.maker_name);
        let role = match maker {
            Some(_) => self.maker_role?.0.min(own),
            None => own,
        };
        Some(TokenGrant {
            id,
            team: TeamId(self.team_id?),
            team_name: self.team_name?,
            role,
            login: self
                .login
                .or_else(|| maker.as_ref().and_then(|maker| maker.login.clone())),
            maker,
            is_only_team: self.is_only_team,
        })
    }
}

impl Store {
    /// Stores a token's digest under its name, in place of a revoked one of the team that had it.
    /// Returns `false` if the name is taken.
    pub async fn create_token(&self, token: &NewToken<'_>) -> Result<bool> {
        let insert = statement(
            "INSERT INTO api_tokens AS known (name, sha256, team_id, role, created_at, expires_at, \
             login, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (team_id, name) \
             DO UPDATE SET sha256 = excluded.sha256, role = excluded.role, \
             created_at = excluded.created_at, expires_at = excluded.expires_at, \
             login = excluded.login, created_by = excluded.created_by, last_used_at = NULL, \
             revoked_at = NULL WHERE known.revoked_at IS NOT NULL",
        )
        .bind(storable_text(token.name))
        .bind(token.hash.as_slice())
        .bind(token.team.0)
        .bind(token.role.as_str())
        .bind(Millis(token.created_at))
        .bind(token.expires_at.map(Millis))
        .bind(token.login.map(storable_text))
        .bind(token.created_by.map(|UserId(id)| id));
        Ok(self.database.execute(insert).await? == 1)
    }

    /// Returns the tokens of a team, or of all teams, the oldest first.
    pub async fn tokens(&self, team: Option<TeamId>) -> Result<Vec<ApiToken>> {
        let query = statement(
            "SELECT token.name, team.name AS team, token.role, token.login, token.created_by, \
             maker.login AS maker_login, maker.name AS maker_name, token.created_at, \
             token.expires_at, token.last_used_at, token.revoked_at \
             FROM api_tokens AS token JOIN teams AS team ON team.id = token.team_id \
             LEFT JOIN users AS maker ON maker.id = token.created_by \
             WHERE token.team_id = coalesce($1, token.team_id) \
             ORDER BY token.created_at, token.id",
        )
        .bind(team.map(|TeamId(id)| id));
        let rows: Vec<ApiTokenRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(ApiToken::from).collect())
    }

    /// Revokes the token of that name of a team, and ends its sessions. Returns `false` if there is
    /// none in force.
    pub async fn revoke_token(
        &self,
        TeamId(team): TeamId,
        name: &str,
        now: Moment,
    ) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let update = statement(
            "UPDATE api_tokens SET revoked_at = $1 WHERE name = $2 AND revoked_at IS NULL \
             AND team_id = $3",
        )
        .bind(Millis(now))
        .bind(storable_text(name))
        .bind(team);
        let is_revoked = transaction.execute(update).await? == 1;
        if is_revoked {
            let delete = statement(
                "DELETE FROM sessions WHERE token_sha256 = \
                 (SELECT sha256 FROM api_tokens WHERE name = $1 AND team_id = $2)",
            )
            .bind(storable_text(name))
            .bind(team);
            transaction.execute(delete).await?;
        }
        transaction.commit().await?;
        Ok(is_revoked)
    }

    /// Returns the rights of the token with this digest, if it is in force.
    pub async fn token_grant(&self, hash: &TokenHash, now: Moment) -> Result<Option<TokenGrant>> {
        let query = statement(format!(
            "SELECT {GRANT} FROM api_tokens AS token {GRANT_TABLES} \
             WHERE token.sha256 = $1 AND token.revoked_at IS NULL \
             AND (token.expires_at IS NULL OR token.expires_at > $2)"
        ))
        .bind(hash.as_slice())
        .bind(Millis(now));
        let row: Option<TokenGrantRow> = self.database.row(query).await?;
        Ok(row.and_then(TokenGrantRow::grant))
    }
}
