//! The time from receipt to commit of the newest webhooks.

use crate::columns::Millis;
use crate::database::statement;
use crate::{Moment, Result, Store};

/// The newest deliveries that are looked at, so that a busy hour takes no longer to read.
const NEWEST: u32 = 1000;

impl Store {
    /// Returns the milliseconds from receipt to commit of applied webhooks that were received since
    /// `since`, among the newest thousand deliveries, in ascending order.
    pub async fn apply_lags(&self, since: Moment) -> Result<Vec<i64>> {
        let lag = match self.database.is_sqlite() {
            true => "finished_at - received_at",
            false => "CAST(extract(epoch FROM finished_at - received_at) * 1000 AS bigint)",
        };
        let query = format!(
            "SELECT {lag} AS lag FROM (SELECT state, source, received_at, finished_at \
                 FROM deliveries ORDER BY id DESC LIMIT {NEWEST}) AS newest \
             WHERE state = 'applied' AND source = 'webhook' AND received_at >= $1 \
             AND finished_at IS NOT NULL ORDER BY lag"
        );
        let rows: Vec<(i64,)> = self
            .database
            .rows(statement(query).bind(Millis(since)))
            .await?;
        Ok(rows.into_iter().map(|(lag,)| lag).collect())
    }
}
