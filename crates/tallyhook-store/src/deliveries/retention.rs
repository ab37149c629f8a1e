//! The time from which retention reckons, remembered across restarts.

use chrono::TimeDelta;
use tallyhook_core::retention::{reckon, remember};

use crate::columns::Millis;
use crate::database::statement;
use crate::{Moment, Result, Store};

impl Store {
    /// Returns the time from which retention reckons now, and remembers it: at most `advance` after
    /// the remembered one, so that a wrong clock deletes little before it is noticed. The first
    /// time it starts at the oldest delivery, since the clock may be wrong then, too.
    pub async fn reckon_retention(&self, now: Moment, advance: TimeDelta) -> Result<Moment> {
        let query = statement(
            "SELECT (SELECT max(received_at) FROM deliveries), \
             coalesce(reckoned_at, (SELECT min(received_at) FROM deliveries)) FROM retention",
        );
        let row: Option<(Option<Millis>, Option<Millis>)> = self.database.row(query).await?;
        let (newest, before) = row.unwrap_or_default();
        let (newest, before) = (newest.map(|at| at.0), before.map(|at| at.0));
        let reckoned = reckon(now, newest, before, advance);
        let update = statement("UPDATE retention SET reckoned_at = $1")
            .bind(Millis(remember(reckoned, newest, before)));
        self.database.execute(update).await?;
        Ok(reckoned)
    }
}
