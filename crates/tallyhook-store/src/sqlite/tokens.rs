//! Tokens in SQLite.

use sqlx::Row;

use super::{SqliteStore, millis, moment};
use crate::{Moment, Result, Token, TokenHash, Tokens};

#[async_trait::async_trait]
impl Tokens for SqliteStore {
    async fn create_token(&self, name: &str, hash: &TokenHash, now: Moment) -> Result<bool> {
        let mut writer = self.writer().await;
        let created = sqlx::query(
            "INSERT INTO api_tokens (name, sha256, created_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, created_ms = excluded.created_ms, \
             revoked_ms = NULL WHERE revoked_ms IS NOT NULL",
        )
        .bind(name)
        .bind(hash.as_slice())
        .bind(millis(now))
        .execute(writer.connection()?)
        .await?;
        Ok(created.rows_affected() == 1)
    }

    async fn tokens(&self) -> Result<Vec<Token>> {
        let rows = sqlx::query(
            "SELECT name, created_ms, revoked_ms FROM api_tokens ORDER BY created_ms, id",
        )
        .fetch_all(&self.readers)
        .await?;
        let tokens = rows.iter().map(|row| {
            Ok(Token {
                name: row.try_get(0)?,
                created_at: moment(row.try_get(1)?),
                revoked_at: row.try_get::<Option<i64>, _>(2)?.map(moment),
            })
        });
        tokens.collect()
    }

    async fn revoke_token(&self, name: &str, now: Moment) -> Result<bool> {
        let mut writer = self.writer().await;
        let revoked = sqlx::query(
            "UPDATE api_tokens SET revoked_ms = $1 WHERE name = $2 AND revoked_ms IS NULL",
        )
        .bind(millis(now))
        .bind(name)
        .execute(writer.connection()?)
        .await?;
        Ok(revoked.rows_affected() == 1)
    }

    async fn token_is_valid(&self, hash: &TokenHash) -> Result<bool> {
        let valid: i64 = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM api_tokens WHERE sha256 = $1 AND revoked_ms IS NULL)",
        )
        .bind(hash.as_slice())
        .fetch_one(&self.readers)
        .await?;
        Ok(valid == 1)
    }
}
