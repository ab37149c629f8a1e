//! Tickets: what opens a WebSocket once, for those who cannot send a token with it.

use hex::FromHex;
use sqlx::{Database, Encode, FromRow, Type};

use super::rows::Millis;
use super::sessions::Sessions;
use super::{Moment, Result, TokenHash};

/// Use cases of tickets.
#[async_trait::async_trait]
pub trait Tickets: Send + Sync {
    /// Issues a ticket to whoever has this token; it counts until `expires`. Those whose time is over are cleared away.
    async fn issue_ticket(
        &self,
        hash: &TokenHash,
        token: &TokenHash,
        now: Moment,
        expires: Moment,
    ) -> Result<()>;

    /// Takes a ticket: the token that it was issued to, if there was one that counts; it never does again.
    async fn take_ticket(&self, hash: &TokenHash, now: Moment) -> Result<Option<TokenHash>>;
}

#[async_trait::async_trait]
impl<S> Tickets for S
where
    S: Sessions,
    for<'q> String: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Millis: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'r> (String,): FromRow<'r, <S::Kind as Database>::Row>,
{
    async fn issue_ticket(
        &self,
        hash: &TokenHash,
        token: &TokenHash,
        now: Moment,
        expires: Moment,
    ) -> Result<()> {
        self.write(sqlx::query("DELETE FROM ws_tickets WHERE expires_at <= $1").bind(Millis(now)))
            .await?;
        let insert = sqlx::query(
            "INSERT INTO ws_tickets (sha256, expires_at, token_sha256) VALUES ($1, $2, $3)",
        );
        self.write(
            insert
                .bind(hex::encode(hash))
                .bind(Millis(expires))
                .bind(hex::encode(token)),
        )
        .await
        .map(|_| ())
    }

    async fn take_ticket(&self, hash: &TokenHash, now: Moment) -> Result<Option<TokenHash>> {
        let mut writer = self.writer().await?;
        let mut session = writer.begin().await?;
        let delete = sqlx::query(
            "DELETE FROM ws_tickets WHERE sha256 = $1 AND expires_at > $2 RETURNING token_sha256",
        );
        let rows = session
            .rows(delete.bind(hex::encode(hash)).bind(Millis(now)))
            .await?;
        session.commit().await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let (token,) = <(String,)>::from_row(row)?;
        Ok(TokenHash::from_hex(token).ok())
    }
}
