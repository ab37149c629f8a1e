//! Tokens in PostgreSQL.

use super::PostgresStore;
use crate::rows::text;
use crate::{Moment, Result, Token, TokenHash, Tokens};

#[async_trait::async_trait]
impl Tokens for PostgresStore {
    async fn create_token(&self, name: &str, hash: &TokenHash, now: Moment) -> Result<bool> {
        let query = sqlx::query(
            "INSERT INTO api_tokens AS known (name, sha256, created_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, created_at = excluded.created_at, \
             revoked_at = NULL WHERE known.revoked_at IS NOT NULL",
        );
        Ok(self
            .connections
            .execute(query.bind(text(name)).bind(hash.as_slice()).bind(now))
            .await?
            == 1)
    }

    async fn tokens(&self) -> Result<Vec<Token>> {
        let query = sqlx::query_as(
            "SELECT name, created_at, revoked_at FROM api_tokens ORDER BY created_at, id",
        );
        let rows: Vec<(String, Moment, Option<Moment>)> = self.connections.fetch_all(query).await?;
        Ok(rows
            .into_iter()
            .map(|(name, created_at, revoked_at)| Token {
                name,
                created_at,
                revoked_at,
            })
            .collect())
    }

    async fn revoke_token(&self, name: &str, now: Moment) -> Result<bool> {
        let query = sqlx::query(
            "UPDATE api_tokens SET revoked_at = $1 WHERE name = $2 AND revoked_at IS NULL",
        );
        Ok(self
            .connections
            .execute(query.bind(now).bind(text(name)))
            .await?
            == 1)
    }

    async fn token_is_valid(&self, hash: &TokenHash) -> Result<bool> {
        let query =
            sqlx::query_as("SELECT true FROM api_tokens WHERE sha256 = $1 AND revoked_at IS NULL");
        Ok(self
            .connections
            .fetch_optional::<(bool,)>(query.bind(hash.as_slice()))
            .await?
            .is_some())
    }
}
