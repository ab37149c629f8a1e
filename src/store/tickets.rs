//! Tickets: what opens a WebSocket once, for those who cannot send a token with it.

use sqlx::{Encode, Type};

use super::rows::Millis;
use super::sessions::Sessions;
use super::{Moment, Result, TokenHash};

/// Use cases of tickets.
#[async_trait::async_trait]
pub trait Tickets: Send + Sync {
    /// Issues a ticket that counts until `expires`. Those whose time is over are cleared away.
    async fn issue_ticket(&self, hash: &TokenHash, now: Moment, expires: Moment) -> Result<()>;

    /// Takes a ticket. Whether there was one that counts; it never does again.
    async fn take_ticket(&self, hash: &TokenHash, now: Moment) -> Result<bool>;
}

#[async_trait::async_trait]
impl<S> Tickets for S
where
    S: Sessions,
    for<'q> String: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Millis: Encode<'q, S::Kind> + Type<S::Kind>,
{
    async fn issue_ticket(&self, hash: &TokenHash, now: Moment, expires: Moment) -> Result<()> {
        self.write(sqlx::query("DELETE FROM ws_tickets WHERE expires_at <= $1").bind(Millis(now))).await?;
        let insert = sqlx::query("INSERT INTO ws_tickets (sha256, expires_at) VALUES ($1, $2)");
        self.write(insert.bind(hex::encode(hash)).bind(Millis(expires))).await.map(|_| ())
    }

    async fn take_ticket(&self, hash: &TokenHash, now: Moment) -> Result<bool> {
        let delete = sqlx::query("DELETE FROM ws_tickets WHERE sha256 = $1 AND expires_at > $2");
        Ok(self.write(delete.bind(hex::encode(hash)).bind(Millis(now))).await? == 1)
    }
}
