//! The lease by which one process refreshes the tokens of a credential.

use super::SealedTokens;
use crate::columns::Millis;
use crate::database::statement;
use crate::{Moment, Result, Store};

/// The right to refresh the tokens of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshLease {
    /// A process before this one asked for the next tokens, and its answer is not known: the refresh
    /// token may be used up.
    pub follows_unknown: bool,
}

/// Tokens that replace those of a generation.
#[derive(Clone, Copy, Debug)]
pub struct RefreshedTokens<'a> {
    pub generation: i64,
    pub tokens: SealedTokens<'a>,
}

impl Store {
    /// Takes the lease of a credential of this generation until `until`. `None` if another process
    /// has it, or there are later tokens: the caller reads again.
    pub async fn lease_refresh(
        &self,
        id: &str,
        generation: i64,
        now: Moment,
        until: Moment,
    ) -> Result<Option<RefreshLease>> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        // The row is locked by the write that changes nothing, so that what is read stays.
        let lock = statement(
            "UPDATE github_credentials SET generation = generation WHERE id = $1 \
             AND generation = $2 AND (refresh_until IS NULL OR refresh_until <= $3)",
        )
        .bind(id.to_owned())
        .bind(generation)
        .bind(Millis(now));
        if transaction.execute(lock).await? == 0 {
            transaction.rollback().await?;
            return Ok(None);
        }
        let query =
            statement("SELECT refresh_until IS NOT NULL FROM github_credentials WHERE id = $1");
        let row: Option<(bool,)> = transaction.row(query.bind(id.to_owned())).await?;
        let take = statement("UPDATE github_credentials SET refresh_until = $2 WHERE id = $1")
            .bind(id.to_owned())
            .bind(Millis(until));
        transaction.execute(take).await?;
        transaction.commit().await?;
        Ok(row.map(|(follows_unknown,)| RefreshLease { follows_unknown }))
    }

    /// Stores the next tokens, and ends the lease. Returns `false` if others are stored already.
    pub async fn finish_refresh(&self, id: &str, refreshed: &RefreshedTokens<'_>) -> Result<bool> {
        let RefreshedTokens { generation, tokens } = *refreshed;
        let update = statement(
            "UPDATE github_credentials SET access_token = $3, refresh_token = $4, \
             access_expires_at = $5, refresh_expires_at = $6, last4 = $7, \
             generation = generation + 1, refresh_until = NULL, \
             state = CASE WHEN state = 'reconnect_needed' THEN 'active' ELSE state END, \
             state_reason = CASE WHEN state = 'reconnect_needed' THEN NULL ELSE state_reason END \
             WHERE id = $1 AND generation = $2 AND state <> 'revoked'",
        )
        .bind(id.to_owned())
        .bind(generation)
        .bind(tokens.access_token)
        .bind(tokens.refresh_token)
        .bind(tokens.access_expires_at.map(Millis))
        .bind(tokens.refresh_expires_at.map(Millis))
        .bind(tokens.last4);
        Ok(self.database.execute(update).await? == 1)
    }

    /// Ends the lease of a refresh that failed. `expired` is `None` if GitHub has surely not
    /// answered it, so that the refresh token is as good as before; else the time since which its
    /// answer is not known.
    pub async fn release_refresh(
        &self,
        id: &str,
        generation: i64,
        expired: Option<Moment>,
    ) -> Result<()> {
        let update = statement(
            "UPDATE github_credentials SET refresh_until = $3 WHERE id = $1 AND generation = $2",
        )
        .bind(id.to_owned())
        .bind(generation)
        .bind(expired.map(Millis));
        self.database.execute(update).await.map(|_| ())
    }
}
