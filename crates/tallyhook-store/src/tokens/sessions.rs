//! Sessions: browsers that signed in, as a person or with a token. A session has the rights of its
//! holder; one of a token ends with it.

use sqlx::FromRow;

use super::token::{GRANT, GRANT_TABLES, TokenGrant, TokenGrantRow, TokenHash};
use crate::columns::{Millis, storable_text};
use crate::database::{Statement, Value, statement};
use crate::{Membership, Moment, PersonName, Result, Store, TeamId, UserId};

/// The most sessions of one holder; the oldest end first.
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

/// The holder of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOwner {
    /// A token, by its digest.
    Token(TokenHash),
    Person(UserId),
}

impl SessionOwner {
    fn column(&self) -> &'static str {
        match self {
            Self::Token(_) => "token_sha256",
            Self::Person(_) => "user_id",
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Token(hash) => hash.as_slice().into(),
            Self::Person(UserId(id)) => (*id).into(),
        }
    }

    /// Makes a statement in which `OWNER` is the column of this kind of holder and `$1` its value.
    fn statement(&self, sql: &str) -> Statement<'_> {
        statement(sql.replace("OWNER", self.column())).bind(self.value())
    }
}

/// A session that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    /// The digest of the cookie's value.
    pub hash: &'a TokenHash,
    pub owner: SessionOwner,
    /// The team that its holder is to see first, of several.
    pub team: Option<TeamId>,
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
    /// The team that its holder chose; it may have left it since.
    pub team: Option<TeamId>,
    pub holder: SessionHolder,
}

/// The holder of a session, with its rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionHolder {
    Token {
        /// The digest of the token.
        token: TokenHash,
        /// `None` if it is not one of the database in force: it may be the one of the settings.
        grant: Option<TokenGrant>,
    },
    Person(UserGrant),
}

/// The rights of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserGrant {
    pub person: PersonName,
    /// By the slugs of the teams.
    pub memberships: Vec<Membership>,
    /// True while there is one team.
    pub is_only_team: bool,
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
    session_team: Option<i64>,
    token_sha256: Option<Vec<u8>>,
    person_id: Option<i64>,
    person_login: Option<String>,
    person_name: Option<String>,
    has_several_teams: bool,
    #[sqlx(flatten)]
    token: TokenGrantRow,
}

impl Store {
    /// Starts a session. Ends the one that it replaces, those that have expired, and of its holder
    /// the oldest ones over `MAX_SESSIONS`.
    pub async fn start_session(&self, session: &NewSession<'_>, times: SessionTimes) -> Result<()> {
        let NewSession {
            hash,
            ref owner,
            team,
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
        let oldest = owner
            .statement(
                "DELETE FROM sessions WHERE OWNER = $1 AND id NOT IN \
                 (SELECT id FROM sessions WHERE OWNER = $1 ORDER BY id DESC LIMIT $2)",
            )
            .bind(MAX_SESSIONS - 1);
        transaction.execute(oldest).await?;
        let insert = owner
            .statement(
                "INSERT INTO sessions (OWNER, sha256, created_at, last_used_at, expires_at, agent, \
                 team_id) VALUES ($1, $2, $3, $3, $4, $5, $6)",
            )
            .bind(hash.as_slice())
            .bind(Millis(times.now))
            .bind(Millis(expires_at))
            .bind(agent.map(storable_text))
            .bind(team.map(|TeamId(id)| id));
        transaction.execute(insert).await?;
        transaction.commit().await
    }

    /// Returns the rights of the session whose cookie has this digest, if it is in force. A session
    /// of a person who is disabled is not.
    pub async fn session_grant(
        &self,
        hash: &TokenHash,
        times: SessionTimes,
    ) -> Result<Option<SessionGrant>> {
        let query = statement(format!(
            "SELECT session.id AS session_id, session.team_id AS session_team, \
             session.token_sha256, person.id AS person_id, person.login AS person_login, \
             person.name AS person_name, \
             EXISTS (SELECT 1 FROM teams AS one JOIN teams AS two ON two.id > one.id) \
             AS has_several_teams, {GRANT} FROM sessions AS session \
             LEFT JOIN users AS person ON person.id = session.user_id \
             AND person.disabled_at IS NULL \
             LEFT JOIN api_tokens AS token ON token.sha256 = session.token_sha256 \
             AND token.revoked_at IS NULL AND (token.expires_at IS NULL OR token.expires_at > $2) \
             {GRANT_TABLES} \
             WHERE session.sha256 = $1 AND session.expires_at > $2 AND session.last_used_at > $3"
        ))
        .bind(hash.as_slice())
        .bind(Millis(times.now))
        .bind(Millis(times.idle_since));
        let Some(row) = self.database.row::<SessionGrantRow>(query).await? else {
            return Ok(None);
        };
        let person = PersonName::of(row.person_id, row.person_login, row.person_name);
        let holder = match (row.token_sha256, person) {
            (Some(token), _) => match token.try_into() {
                Ok(token) => SessionHolder::Token {
                    token,
                    grant: row.token.grant(),
                },
                Err(_) => return Ok(None),
            },
            (None, Some(person)) => SessionHolder::Person(UserGrant {
                memberships: self.memberships(person.id).await?,
                person,
                is_only_team: !row.has_several_teams,
            }),
            (None, None) => return Ok(None),
        };
        Ok(Some(SessionGrant {
            id: SessionId(row.session_id),
            team: row.session_team.map(TeamId),
            holder,
        }))
    }

    /// Stores the team that the holder of a session chose.
    pub async fn choose_team(
        &self,
        SessionId(session): SessionId,
        TeamId(team): TeamId,
    ) -> Result<()> {
        let update = statement("UPDATE sessions SET team_id = $1 WHERE id = $2")
            .bind(team)
            .bind(session);
        self.database.execute(update).await.map(|_| ())
    }

    /// Returns the sessions of a holder that are in force, the newest first.
    pub async fn sessions(
        &self,
        owner: &SessionOwner,
        times: SessionTimes,
    ) -> Result<Vec<SessionRecord>> {
        let query = owner
            .statement(
                "SELECT id, created_at, last_used_at, expires_at, agent FROM sessions \
                 WHERE OWNER = $1 AND expires_at > $2 AND last_used_at > $3 ORDER BY id DESC",
            )
            .bind(Millis(times.now))
            .bind(Millis(times.idle_since));
        let rows: Vec<SessionRecordRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(SessionRecord::from).collect())
    }

    /// Ends one session of a holder, or all of them. Returns their number.
    pub async fn end_sessions(&self, owner: &SessionOwner, id: Option<SessionId>) -> Result<u64> {
        let delete = owner
            .statement("DELETE FROM sessions WHERE OWNER = $1 AND id = coalesce($2, id)")
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
