//! API tokens, of which only a digest is stored.

use sqlx::FromRow;

use crate::columns::{Millis, storable_text};
use crate::database::statement;
use crate::{Moment, Result, Store};

/// SHA-256 of a token. Tokens are 256 random bits, so a plain digest is as good as a slow one.
pub type TokenHash = [u8; 32];

/// The record of an API token, without the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub name: String,
    /// The login that "me" means to its holder.
    pub login: Option<String>,
    pub created_at: Moment,
    pub revoked_at: Option<Moment>,
}

#[derive(FromRow)]
struct ApiTokenRow {
    name: String,
    login: Option<String>,
    created_at: Millis,
    revoked_at: Option<Millis>,
}

impl From<ApiTokenRow> for ApiToken {
    fn from(row: ApiTokenRow) -> Self {
        Self {
            name: row.name,
            login: row.login,
            created_at: row.created_at.0,
            revoked_at: row.revoked_at.map(|Millis(at)| at),
        }
    }
}

impl Store {
    /// Stores a token's digest under `name`, in place of a revoked one of that name. Returns
    /// `false` if the name is taken.
    pub async fn create_token(
        &self,
        name: &str,
        login: Option<&str>,
        hash: &TokenHash,
        now: Moment,
    ) -> Result<bool> {
        let insert = statement(
            "INSERT INTO api_tokens AS known (name, sha256, created_at, login) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (name) \
             DO UPDATE SET sha256 = excluded.sha256, created_at = excluded.created_at, \
             login = excluded.login, revoked_at = NULL WHERE known.revoked_at IS NOT NULL",
        )
        .bind(storable_text(name))
        .bind(hash.as_slice())
        .bind(Millis(now))
        .bind(login.map(storable_text));
        Ok(self.database.execute(insert).await? == 1)
    }

    /// Returns all tokens, the oldest first.
    pub async fn tokens(&self) -> Result<Vec<ApiToken>> {
        let query =
            "SELECT name, login, created_at, revoked_at FROM api_tokens ORDER BY created_at, id";
        let rows: Vec<ApiTokenRow> = self.database.rows(statement(query)).await?;
        Ok(rows.into_iter().map(ApiToken::from).collect())
    }

    /// Revokes the token of that name. Returns `false` if there is none in force.
    pub async fn revoke_token(&self, name: &str, now: Moment) -> Result<bool> {
        let update = statement(
            "UPDATE api_tokens SET revoked_at = $1 WHERE name = $2 AND revoked_at IS NULL",
        )
        .bind(Millis(now))
        .bind(storable_text(name));
        Ok(self.database.execute(update).await? == 1)
    }

    /// Reports whether a token with this digest is in force.
    pub async fn token_is_valid(&self, hash: &TokenHash) -> Result<bool> {
        let query = statement("SELECT id FROM api_tokens WHERE sha256 = $1 AND revoked_at IS NULL")
            .bind(hash.as_slice());
        Ok(self.database.row::<(i64,)>(query).await?.is_some())
    }

    /// Returns the login of the token with this digest, if it is in force and has one.
    pub async fn token_login(&self, hash: &TokenHash) -> Result<Option<String>> {
        let query =
            statement("SELECT login FROM api_tokens WHERE sha256 = $1 AND revoked_at IS NULL")
                .bind(hash.as_slice());
        let row = self.database.row::<(Option<String>,)>(query).await?;
        Ok(row.and_then(|(login,)| login))
    }
}
