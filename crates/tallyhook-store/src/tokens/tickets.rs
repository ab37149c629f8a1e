//! WebSocket tickets: each opens one WebSocket, for clients that cannot send a token with it.

use hex::FromHex;

use super::TokenHash;
use crate::columns::Millis;
use crate::database::statement;
use crate::{Moment, Result, Store, TeamId};

impl Store {
    /// Issues a ticket for a team to the holder of a token or session; it is valid until `expires`.
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

    /// Redeems a ticket, which is valid once. Returns its team and the digest of the token or session
    /// that it was issued to, or `None` if it is unknown, used or expired.
    pub async fn redeem_ticket(
        &self,
        hash: &TokenHash,
        now: Moment,
    ) -> Result<Option<(TeamId, TokenHash)>> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let delete = statement(
            "DELETE FROM ws_tickets WHERE sha256 = $1 AND expires_at > $2 \
             RETURNING team_id, token_sha256",
        )
        .bind(hex::encode(hash))
        .bind(Millis(now));
        let redeemed = transaction.row::<(i64, String)>(delete).await?;
        transaction.commit().await?;
        Ok(redeemed.and_then(|(team, token)| {
            let token = TokenHash::from_hex(token).ok()?;
            Some((TeamId(team), token))
        }))
    }
}
