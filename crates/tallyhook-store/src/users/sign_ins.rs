//! Recent sign-ins with GitHub, of which only so many an hour are free of consequences there.

use chrono::TimeDelta;

use super::UserId;
use crate::columns::Millis;
use crate::database::statement;
use crate::{Moment, Result, Store, TokenHash};

/// The time for which GitHub counts.
const COUNTED: TimeDelta = TimeDelta::hours(1);

impl Store {
    /// Stores that GitHub issued a token for a sign-in. Deletes those that are no longer counted.
    pub async fn record_sign_in(
        &self,
        UserId(user): UserId,
        browser: &TokenHash,
        now: Moment,
    ) -> Result<()> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let delete = statement("DELETE FROM sign_ins WHERE at <= $1").bind(Millis(now - COUNTED));
        transaction.execute(delete).await?;
        let insert =
            statement("INSERT INTO sign_ins (user_id, browser_hash, at) VALUES ($1, $2, $3)")
                .bind(user)
                .bind(hex::encode(browser))
                .bind(Millis(now));
        transaction.execute(insert).await?;
        transaction.commit().await
    }

    /// Returns the times at which the sign-ins of the last hour are no longer counted, the earliest
    /// first: those of the people who signed in with this browser, by any browser.
    pub async fn sign_ins_of_browser(
        &self,
        browser: &TokenHash,
        now: Moment,
    ) -> Result<Vec<Moment>> {
        let query = statement(
            "SELECT at FROM sign_ins WHERE at > $2 AND user_id IN \
             (SELECT user_id FROM sign_ins WHERE browser_hash = $1 AND at > $2) ORDER BY at",
        )
        .bind(hex::encode(browser))
        .bind(Millis(now - COUNTED));
        let rows: Vec<(Millis,)> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(|(Millis(at),)| at + COUNTED).collect())
    }
}
