//! WebSocket tickets: each opens one WebSocket, for clients that cannot send a token with it.

use hex::FromHex;

use super::{TeamId, TokenHash};
use crate::columns::Millis;
use crate::database::statement;
use crate::{Moment, Result, Store};

impl Store {
    /// Issues a ticket of a team to the holder of a token or session; it is valid until `expires`.
    /// Deletes expired ones.
    pub async fn issue_ticket(
        &self,
        hash: &TokenHash,
        (team, token): (TeamId, &TokenHash),
        now: Moment,
        expires: Moment,
    ) -> Result<()> {
        let delete = statement("DELETE FROM ws_tickets WHERE expires_at <= $1").bind(Millis(now));
        self.database.execute(delete).await?;
        let insert = statement(
            "INSERT INTO ws_tickets (sha256, expires_at, token_sha256, team_id) \
             VALUES ($1, $2, $3, $4)",
        )
        .bind(hex::encode(hash))
        .bind(Millis(expires))
        .bind(hex::encode(token))
        .bind(team.0);
        self.database.execute(insert).await.map(|_| ())
    }

    /// Redeems a ticket, which is valid once. Returns the digest of the token or session that it was
    /// issued to, and the team, or `None` if it is unknown, used or expired.
    pub async fn redeem_ticket(
        &self,
        hash: &TokenHash,
        now: Moment,
    ) -> Result<Option<(TokenHash, TeamId)>> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let delete = statement(
            "DELETE FROM ws_tickets WHERE sha256 = $1 AND expires_at > $2 \
             RETURNING token_sha256, team_id",
        )
        .bind(hex::encode(hash))
        .bind(Millis(now));
        let redeemed = transaction.row::<(String, i64)>(delete).await?;
        transaction.commit().await?;
        Ok(redeemed.and_then(|(token, team)| {
            let token = TokenHash::from_hex(token).ok()?;
            Some((token, TeamId(team)))
        }))
    }
}
