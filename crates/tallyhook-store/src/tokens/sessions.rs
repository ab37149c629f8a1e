//! Sessions: browsers that signed in with a token. A session has the rights of its token, and ends
//! with it.

use sqlx::FromRow;

use super::role::AccessRole;
use super::token::{GRANT, TeamId, TokenGrant, TokenHash};
use crate::columns::{Millis, Name, storable_text};
use crate::database::statement;
use crate::{Moment, Result, Store};

/// The most sessions of one token; the oldest end first.
const MAX_SESSIONS: i64 = 50;

/// The id of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

/// The times between which a session is in force.
#[derive(Clone, Copy, Debug)]
pub struct SessionTimes {
    pub now: Moment,
    /// A session that was last used before has ended.
    pub idle_since: Moment,
}

/// A session that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    /// The digest of the cookie's value.
    pub hash: &'a TokenHash,
    /// The digest of the token.
    pub token: &'a TokenHash,
    pub expires_at: Moment,
    /// The program that signed in, as it names itself.
    pub agent: Option<&'a str>,
    /// The digest of the cookie that the new one replaces.
    pub replaces: Option<&'a TokenHash>,
}

/// A session in force, without its cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    pub id: SessionId,
    pub created_at: Moment,
    /// The last use, to the minute.
    pub last_used_at: Moment,
    pub expires_at: Moment,
    pub agent: Option<String>,
}

/// The rights of a session in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionGrant {
    pub id: SessionId,
    /// The digest of its token.
    pub token: TokenHash,
    /// `None` if its token is not one of the database in force: it may be the one of the settings.
    pub grant: Option<TokenGrant>,
}

/// A credential that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsedCredential {
    /// The id of a token's row.
    Token(i64),
    Session(SessionId),
}

#[derive(FromRow)]
struct SessionRecordRow {
    id: i64,
    created_at: Millis,
    last_used_at: Millis,
    expires_at: Millis,
    agent: Option<String>,
}

impl From<SessionRecordRow> for SessionRecord {
    fn from(row: SessionRecordRow) -> Self {
        Self {
            id: SessionId(row.id),
            created_at: row.created_at.0,
            last_used_at: row.last_used_at.0,
            expires_at: row.expires_at.0,
            agent: row.agent,
        }
    }
}

#[derive(FromRow)]
struct SessionGrantRow {
    session_id: i64,
    token_sha256: Vec<u8>,
    token_id: Option<i64>,
    team_id: Option<i64>,
    team_name: Option<String>,
    role: Option<Name<AccessRole>>,
    login: Option<String>,
    is_only_team: bool,
}

impl SessionGrantRow {
    /// Returns `None` if the digest is none.
    fn grant(self) -> Option<SessionGrant> {
        let token = match (self.token_id, self.team_id, self.team_name, self.role) {
            (Some(id), Some(team), Some(team_name), Some(Name(role))) => Some(TokenGrant {
                id,
                team: TeamId(team),
                team_name,
                role,
                login: self.login,
                is_only_team: self.is_only_team,
            }),
            _ => None,
        };
        Some(SessionGrant {
            id: SessionId(self.session_id),
            token: self.token_sha256.try_into().ok()?,
            grant: token,
        })
    }
}

impl Store {
    /// Starts a session. Ends the one that it replaces, those that have expired, and of its token
    /// the oldest ones over `MAX_SESSIONS`.
    pub async fn start_session(&self, session: &NewSession<'_>, times: SessionTimes) -> Result<()> {
        let NewSession {
            hash,
            token,
            expires_at,
            agent,
            replaces,
        } = *session;
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let ended = statement(
            "DELETE FROM sessions WHERE expires_at <= $1 OR last_used_at <= $2 OR sha256 = $3",
        )
        .bind(Millis(times.now))
        .bind(Millis(times.idle_since))
        .bind(replaces.unwrap_or(hash).as_slice());
        transaction.execute(ended).await?;
        let oldest = statement(
            "DELETE FROM sessions WHERE token_sha256 = $1 AND id NOT IN \
             (SELECT id FROM sessions WHERE token_sha256 = $1 ORDER BY id DESC LIMIT $2)",
        )
        .bind(token.as_slice())
        .bind(MAX_SESSIONS - 1);
        transaction.execute(oldest).await?;
        let insert = statement(
            "INSERT INTO sessions (sha256, token_sha256, created_at, last_used_at, expires_at, \
             agent) VALUES ($1, $2, $3, $3, $4, $5)",
        )
        .bind(hash.as_slice())
        .bind(token.as_slice())
        .bind(Millis(times.now))
        .bind(Millis(expires_at))
        .bind(agent.map(storable_text));
        transaction.execute(insert).await?;
        transaction.commit().await
    }

    /// Returns the rights of the session whose cookie has this digest, if it is in force.
    pub async fn session_grant(
        &self,
        hash: &TokenHash,
        times: SessionTimes,
    ) -> Result<Option<SessionGrant>> {
        let query = statement(format!(
            "SELECT session.id AS session_id, session.token_sha256, {GRANT} \
             FROM sessions AS session \
             LEFT JOIN api_tokens AS token ON token.sha256 = session.token_sha256 \
             AND token.revoked_at IS NULL AND (token.expires_at IS NULL OR token.expires_at > $2) \
             LEFT JOIN teams AS team ON team.id = token.team_id \
             WHERE session.sha256 = $1 AND session.expires_at > $2 AND session.last_used_at > $3"
        ))
        .bind(hash.as_slice())
        .bind(Millis(times.now))
        .bind(Millis(times.idle_since));
        let row: Option<SessionGrantRow> = self.database.row(query).await?;
        Ok(row.and_then(SessionGrantRow::grant))
    }

    /// Returns the sessions of a token that are in force, the newest first.
    pub async fn sessions(
        &self,
        token: &TokenHash,
        times: SessionTimes,
    ) -> Result<Vec<SessionRecord>> {
        let query = statement(
            "SELECT id, created_at, last_used_at, expires_at, agent FROM sessions \
             WHERE token_sha256 = $1 AND expires_at > $2 AND last_used_at > $3 ORDER BY id DESC",
        )
        .bind(token.as_slice())
        .bind(Millis(times.now))
        .bind(Millis(times.idle_since));
        let rows: Vec<SessionRecordRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(SessionRecord::from).collect())
    }

    /// Ends one session of a token, or all of them. Returns their number.
    pub async fn end_sessions(&self, token: &TokenHash, id: Option<SessionId>) -> Result<u64> {
        let delete =
            statement("DELETE FROM sessions WHERE token_sha256 = $1 AND id = coalesce($2, id)")
                .bind(token.as_slice())
                .bind(id.map(|SessionId(id)| id));
        self.database.execute(delete).await
    }

    /// Stores the last uses of tokens and sessions, unless later ones are stored.
    pub async fn record_uses(&self, uses: &[(UsedCredential, Moment)]) -> Result<()> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        for (used, at) in uses {
            let (sql, id) = match used {
                UsedCredential::Token(id) => (
                    "UPDATE api_tokens SET last_used_at = $1 WHERE id = $2 \
                     AND (last_used_at IS NULL OR last_used_at < $1)",
                    *id,
                ),
                UsedCredential::Session(SessionId(id)) => (
                    "UPDATE sessions SET last_used_at = $1 WHERE id = $2 AND last_used_at < $1",
                    *id,
                ),
            };
            let update = statement(sql).bind(Millis(*at)).bind(id);
            transaction.execute(update).await?;
        }
        transaction.commit().await
    }
}
