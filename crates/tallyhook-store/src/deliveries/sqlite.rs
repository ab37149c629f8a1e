//! The inbox in SQLite.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use sqlx::Row;
use sqlx_sqlite::{SqliteConnection, SqliteRow};

use super::delivery::{HISTORY, IMPLAUSIBLE};
use super::row::pull_request_key;
use super::{
    ClaimedDeliveries, ExhaustedDelivery, PendingDelivery, PurgeCounts, StoredBody,
    UnfinishedDelivery,
};
use crate::columns::Name;
use crate::sqlite::{SqliteDatabase, ids_json, millis, moment};
use crate::{DeliveryId, Lane, Moment, Result};

// A plus before a column keeps SQLite from its index. Deliveries that are named by id are found by
// id: the index over states would lead through the whole backlog for every batch of it.

impl SqliteDatabase {
    pub(crate) async fn pending(&self, ids: &[DeliveryId]) -> Result<Vec<PendingDelivery>> {
        let rows = sqlx::query(
            "SELECT id, attempts > 0, body_bytes, repo_id, pr_number FROM deliveries \
             WHERE id IN (SELECT value FROM json_each($1)) AND +state = 'accepted' ORDER BY id",
        )
        .bind(ids_json(ids.iter().map(|id| id.0)))
        .fetch_all(&self.work_readers)
        .await?;
        let waiting = rows.iter().map(|row| {
            Ok(PendingDelivery {
                id: DeliveryId(row.try_get(0)?),
                key: pull_request_key(row.try_get(3)?, row.try_get(4)?),
                tried: row.try_get(1)?,
                body_bytes: unsigned(row, 2)?,
            })
        });
        waiting.collect()
    }

    pub(crate) async fn claim(
        &self,
        ids: &[DeliveryId],
        now: Moment,
        lease_until: Moment,
        max_attempts: u32,
    ) -> Result<ClaimedDeliveries> {
        let ids = ids_json(ids.iter().map(|id| id.0));
        let mut writer = self.writer().await?;
        let mut transaction = writer.begin().await?;
        let exhausted = sqlx::query(
            "UPDATE deliveries SET state = 'dead', finished_at = $1, \
             reason = 'gave up after ' || attempts || ' attempts, \
             the last of which ended its worker', \
             history = json_insert(history, '$[#]', \
                 json_object('at', $2, 'attempt', attempts, 'error', \
                 'it ended its worker or never came back')) \
             WHERE id IN (SELECT value FROM json_each($3)) AND +state = 'accepted' \
             AND (leased_until IS NULL OR leased_until <= $1) \
             AND attempts >= $4 RETURNING id, guid, event, reason",
        )
        .bind(millis(now))
        .bind(now.to_rfc3339())
        .bind(&ids)
        .bind(max_attempts)
        .fetch_all(&mut *transaction)
        .await?;
        let rows = sqlx::query(
            "UPDATE deliveries SET attempts = attempts + 1, leased_until = $1, leased_by = $4, \
             next_attempt_at = $1 \
             WHERE id IN (SELECT value FROM json_each($2)) AND +state = 'accepted' \
             AND (leased_until IS NULL OR leased_until <= $3) \
             RETURNING id, guid, event, source, received_at, attempts, body_bytes",
        )
        .bind(millis(lease_until))
        .bind(&ids)
        .bind(millis(now))
        .bind(self.process)
        .fetch_all(&mut *transaction)
        .await?;
        // Before the commit: attempts that cannot begin for want of a body are not counted.
        let claimed = with_bodies(&mut transaction, &rows).await?;
        transaction.commit().await?;
        Ok(ClaimedDeliveries {
            claimed,
            exhausted: exhausted.iter().map(exhausted_row).collect::<Result<_>>()?,
        })
    }

    pub(crate) async fn claim_due_for_publish(
        &self,
        lane: Lane,
        limit: u32,
        now: Moment,
        again: Moment,
    ) -> Result<Vec<DeliveryId>> {
        let mut writer = self.writer().await?;
        let query = sqlx::query_as(
            "UPDATE deliveries SET next_attempt_at = $1 WHERE id IN (\
             SELECT id FROM deliveries WHERE state = 'accepted' AND lane = $2 \
             AND next_attempt_at <= $3 \
             ORDER BY next_attempt_at, id LIMIT $4) RETURNING id",
        )
        .bind(millis(again))
        .bind(lane.as_str())
        .bind(millis(now))
        .bind(limit);
        let mut due: Vec<(i64,)> = writer.fetch_all(query).await?;
        due.sort_unstable();
        Ok(due.into_iter().map(|(id,)| DeliveryId(id)).collect())
    }

    pub(crate) async fn release_orphaned_leases(&self, now: Moment) -> Result<u64> {
        let mut writer = self.writer().await?;
        let query = sqlx::query(
            "UPDATE deliveries SET next_attempt_at = $1 \
             WHERE state = 'accepted' AND lane IN ('live', 'backfill') AND next_attempt_at > $2",
        )
        .bind(millis(now))
        .bind(millis(now + IMPLAUSIBLE));
        let late = writer.execute(query).await?;
        // One process at a time serves the file: other lease holders are dead, and this needs to be
        // done only once.
        if self.orphans_released.load(Ordering::Acquire) {
            return Ok(late);
        }
        let query = sqlx::query(
            "UPDATE deliveries SET leased_until = NULL, next_attempt_at = min(next_attempt_at, $1) \
             WHERE state = 'accepted' AND leased_until IS NOT NULL AND leased_by <> $2",
        )
        .bind(millis(now))
        .bind(self.process);
        let released = writer.execute(query).await?;
        self.orphans_released.store(true, Ordering::Release);
        Ok(late + released)
    }

    pub(crate) async fn republish_all(&self, now: Moment) -> Result<u64> {
        let mut writer = self.writer().await?;
        let query = sqlx::query(
            "UPDATE deliveries SET next_attempt_at = $1 \
             WHERE state = 'accepted' AND (leased_until IS NULL OR leased_until <= $1) \
             AND next_attempt_at > $1",
        )
        .bind(millis(now));
        writer.execute(query).await
    }

    pub(crate) async fn mark_unpublished(&self, ids: &[DeliveryId], now: Moment) -> Result<()> {
        let mut writer = self.writer().await?;
        let query = sqlx::query(
            "UPDATE deliveries SET next_attempt_at = $1 \
             WHERE id IN (SELECT value FROM json_each($2)) \
             AND +state = 'accepted' AND (leased_until IS NULL OR leased_until <= $1) \
             AND next_attempt_at > $1",
        )
        .bind(millis(now))
        .bind(ids_json(ids.iter().map(|id| id.0)));
        writer.execute(query).await.map(|_| ())
    }

    pub(crate) async fn unfinished(&self, ids: &[DeliveryId]) -> Result<Vec<UnfinishedDelivery>> {
        let mut snapshot = self.snapshot().await?;
        let rows = sqlx::query(
            "SELECT id, guid, event, source, received_at, attempts, body_bytes FROM deliveries \
             WHERE id IN (SELECT value FROM json_each($1)) AND +state = 'accepted'",
        )
        .bind(ids_json(ids.iter().map(|id| id.0)))
        .fetch_all(&mut *snapshot)
        .await?;
        let unfinished = with_bodies(&mut snapshot, &rows).await?;
        snapshot.end().await?;
        Ok(unfinished)
    }

    pub(crate) async fn mark_dead(
        &self,
        ids: &[DeliveryId],
        reason: &str,
        now: Moment,
    ) -> Result<u64> {
        let mut writer = self.writer().await?;
        let query = sqlx::query(
            "UPDATE deliveries SET state = 'dead', reason = $1, finished_at = $2, \
             leased_until = NULL, \
             history = json_insert(history, '$[#]', \
             json_object('at', $3, 'attempt', attempts, 'error', $1)) \
             WHERE id IN (SELECT value FROM json_each($4)) AND +state = 'accepted'",
        )
        .bind(reason)
        .bind(millis(now))
        .bind(now.to_rfc3339())
        .bind(ids_json(ids.iter().map(|id| id.0)));
        writer.execute(query).await
    }

    pub(crate) async fn mark_dead_copied(&self, ids: &[DeliveryId]) -> Result<()> {
        let mut writer = self.writer().await?;
        let query = sqlx::query(
            "UPDATE deliveries SET dead_copied = 1 WHERE id IN (SELECT value FROM json_each($1)) \
             AND +state = 'dead'",
        )
        .bind(ids_json(ids.iter().map(|id| id.0)));
        writer.execute(query).await.map(|_| ())
    }

    pub(crate) async fn purge(
        &self,
        bodies_before: Moment,
        rows_before: Moment,
        limit: u32,
    ) -> Result<PurgeCounts> {
        // Old rows are looked up beside the writer, which is held for the deletion alone.
        let rows: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM deliveries WHERE received_at < $1 AND +state IN ('applied', 'ignored') \
             ORDER BY received_at LIMIT $2",
        )
        .bind(millis(rows_before))
        .bind(limit)
        .fetch_all(&self.work_readers)
        .await?;
        // Ids ascend with the time of receipt, so that the walk over bodies ends where those to be
        // kept begin.
        let bodies: Vec<i64> = sqlx::query_scalar(
            "SELECT delivery_id FROM delivery_bodies CROSS JOIN deliveries ON id = delivery_id \
             WHERE delivery_id <= (SELECT max(id) FROM deliveries WHERE received_at < $1) \
             AND received_at < $1 AND +state IN ('applied', 'ignored') \
             ORDER BY delivery_id LIMIT $2",
        )
        .bind(millis(bodies_before))
        .bind(limit)
        .fetch_all(&self.work_readers)
        .await?;
        if rows.is_empty() && bodies.is_empty() {
            return Ok(PurgeCounts::default());
        }
        let mut writer = self.writer().await?;
        let mut transaction = writer.begin().await?;
        // No writer makes a finished delivery unfinished, so that the rows found are still to be
        // deleted.
        let bodies = sqlx::query(
            "DELETE FROM delivery_bodies WHERE delivery_id IN (SELECT value FROM json_each($1))",
        )
        .bind(ids_json(bodies))
        .execute(&mut *transaction)
        .await?;
        let rows =
            sqlx::query("DELETE FROM deliveries WHERE id IN (SELECT value FROM json_each($1))")
                .bind(ids_json(rows))
                .execute(&mut *transaction)
                .await?;
        transaction.commit().await?;
        Ok(PurgeCounts {
            bodies: bodies.rows_affected(),
            rows: rows.rows_affected(),
        })
    }
}

impl SqliteDatabase {
    /// Ends leases, takes `uncounted` attempts back and records the error.
    pub(crate) async fn end_lease(
        &self,
        ids: &[DeliveryId],
        uncounted: u32,
        error: &str,
        now: Moment,
        next_attempt: Moment,
    ) -> Result<()> {
        let mut writer = self.writer().await?;
        let query = sqlx::query(
            "UPDATE deliveries SET leased_until = NULL, next_attempt_at = $1, \
             attempts = max(attempts - $2, 0), \
             history = CASE WHEN json_array_length(history) < $6 THEN json_insert(history, '$[#]', \
                 json_object('at', $3, 'attempt', attempts, 'error', $4)) ELSE history END \
             WHERE id IN (SELECT value FROM json_each($5)) AND +state = 'accepted'",
        )
        .bind(millis(next_attempt))
        .bind(uncounted)
        .bind(now.to_rfc3339())
        .bind(error)
        .bind(ids_json(ids.iter().map(|id| id.0)))
        .bind(HISTORY);
        writer.execute(query).await.map(|_| ())
    }
}

/// The rows with their bodies, by id.
async fn with_bodies(
    connection: &mut SqliteConnection,
    rows: &[SqliteRow],
) -> Result<Vec<UnfinishedDelivery>> {
    let mut unfinished = rows
        .iter()
        .map(unfinished_row)
        .collect::<Result<Vec<_>>>()?;
    let bodies = sqlx::query(
        "SELECT delivery_id, body FROM delivery_bodies \
         WHERE delivery_id IN (SELECT value FROM json_each($1))",
    )
    .bind(ids_json(unfinished.iter().map(|delivery| delivery.id.0)))
    .fetch_all(connection)
    .await?;
    let bodies = bodies
        .iter()
        .map(|row| Ok((row.try_get::<i64, _>(0)?, row.try_get::<Vec<u8>, _>(1)?)));
    let mut bodies = bodies.collect::<Result<HashMap<_, _>>>()?;
    for (delivery, row) in unfinished.iter_mut().zip(rows) {
        let bytes = unsigned(row, 6)?;
        delivery.body = bodies
            .remove(&delivery.id.0)
            .map(|compressed| StoredBody { compressed, bytes });
    }
    unfinished.sort_unstable_by_key(|delivery| delivery.id);
    Ok(unfinished)
}

fn exhausted_row(row: &SqliteRow) -> Result<ExhaustedDelivery> {
    Ok(ExhaustedDelivery {
        id: DeliveryId(row.try_get(0)?),
        guid: row.try_get(1)?,
        event: row.try_get(2)?,
        reason: row.try_get(3)?,
    })
}

fn unfinished_row(row: &SqliteRow) -> Result<UnfinishedDelivery> {
    Ok(UnfinishedDelivery {
        id: DeliveryId(row.try_get(0)?),
        guid: row.try_get(1)?,
        event: row.try_get(2)?,
        source: row.try_get::<Name<_>, _>(3)?.0,
        received_at: moment(row.try_get(4)?),
        attempts: row.try_get(5)?,
        body: None,
    })
}

fn unsigned(row: &SqliteRow, column: usize) -> Result<u64> {
    Ok(row.try_get::<i64, _>(column)?.unsigned_abs())
}
