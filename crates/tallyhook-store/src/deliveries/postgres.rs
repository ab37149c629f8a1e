//! The inbox in PostgreSQL. Each use case is one statement, which is a transaction by itself.

use sqlx::FromRow;
use tallyhook_core::domain::pull_request::Source;

use super::delivery::{HISTORY, IMPLAUSIBLE};
use super::row::pull_request_key;
use super::{
    ClaimedDeliveries, ExhaustedDelivery, PendingDelivery, PurgeCounts, StoredBody,
    UnfinishedDelivery,
};
use crate::columns::{Millis, Name, storable_text};
use crate::postgres::{INSTANCES, PostgresDatabase, ids};
use crate::{DeliveryId, Lane, Moment, Result};

// Rows that a statement changes are locked by their ids first, so that statements about the same
// rows wait for each other in one order.

/// Rows that one statement makes due again; many more may be waiting.
const PORTION: i64 = 10_000;

/// Id, whether it was attempted, bytes of its body, repository, number of its pull request.
type PendingRow = (i64, bool, i64, Option<i64>, Option<i64>);

impl PostgresDatabase {
    pub(crate) async fn pending(&self, of: &[DeliveryId]) -> Result<Vec<PendingDelivery>> {
        let query = sqlx::query_as(
            "SELECT id, attempts > 0, body_bytes, repo_id, pr_number FROM deliveries \
             WHERE id = ANY($1) AND state = 'accepted' ORDER BY id",
        );
        let rows: Vec<PendingRow> = self.connections.fetch_all(query.bind(ids(of))).await?;
        let waiting = rows
            .into_iter()
            .map(|(id, tried, bytes, repo, number)| PendingDelivery {
                id: DeliveryId(id),
                key: pull_request_key(repo, number),
                tried,
                body_bytes: bytes.unsigned_abs(),
            });
        Ok(waiting.collect())
    }

    pub(crate) async fn claim(
        &self,
        of: &[DeliveryId],
        now: Moment,
        lease_until: Moment,
        max_attempts: u32,
    ) -> Result<ClaimedDeliveries> {
        let query = sqlx::query_as(
            "WITH free AS (\
                 SELECT id, attempts FROM deliveries WHERE id = ANY($1) AND state = 'accepted' \
                 AND (leased_until IS NULL OR leased_until <= $2) ORDER BY id FOR UPDATE), \
             exhausted AS (\
                 UPDATE deliveries d SET state = 'dead', finished_at = $2, leased_until = NULL, \
                 reason = 'gave up after ' || d.attempts || ' attempts, \
                 the last of which ended its worker', \
                 history = history || jsonb_build_object('at', $3::text, 'attempt', d.attempts, \
                     'error', 'it ended its worker or never came back') \
                 FROM free WHERE d.id = free.id AND free.attempts >= $4 RETURNING d.*), \
             claimed AS (\
                 UPDATE deliveries d \
                 SET attempts = d.attempts + 1, leased_until = $5, leased_by = $6, \
                 leased_at = clock_timestamp(), next_attempt_at = $5 \
                 FROM free WHERE d.id = free.id AND free.attempts < $4 RETURNING d.*) \
             SELECT id, guid, event, source, received_at, attempts, body_bytes, \
             body, NULL AS reason \
             FROM claimed LEFT JOIN delivery_bodies ON delivery_id = id UNION ALL \
             SELECT id, guid, event, source, received_at, attempts, body_bytes, NULL, \
             reason FROM exhausted \
             ORDER BY id",
        )
        .bind(ids(of))
        .bind(now)
        .bind(now.to_rfc3339())
        .bind(i64::from(max_attempts))
        .bind(lease_until)
        .bind(self.connections.instance);
        let mut claim = ClaimedDeliveries::default();
        for row in self.connections.fetch_all::<ClaimedRow>(query).await? {
            match row.reason {
                Some(reason) => {
                    let UnfinishedRow {
                        id, guid, event, ..
                    } = row.delivery;
                    claim.exhausted.push(ExhaustedDelivery {
                        id: DeliveryId(id),
                        guid,
                        event,
                        reason,
                    });
                }
                None => claim.claimed.push(row.delivery.into()),
            }
        }
        Ok(claim)
    }

    pub(crate) async fn claim_due_for_publish(
        &self,
        lane: Lane,
        limit: u32,
        now: Moment,
        again: Moment,
    ) -> Result<Vec<DeliveryId>> {
        // Rows that another transaction is changing are not waited for: those are being worked on.
        let query = sqlx::query_as(
            "WITH due AS (\
                 SELECT id FROM deliveries WHERE state = 'accepted' AND lane = $1 \
                 AND next_attempt_at <= $2 \
                 ORDER BY next_attempt_at, id LIMIT $3 FOR UPDATE SKIP LOCKED) \
             UPDATE deliveries d SET next_attempt_at = $4 FROM due \
             WHERE d.id = due.id RETURNING d.id",
        );
        let query = query
            .bind(lane.as_str())
            .bind(now)
            .bind(i64::from(limit))
            .bind(again);
        let mut due: Vec<(i64,)> = self.connections.fetch_all(query).await?;
        due.sort_unstable();
        Ok(due.into_iter().map(|(id,)| DeliveryId(id)).collect())
    }

    pub(crate) async fn release_orphaned_leases(&self, now: Moment) -> Result<u64> {
        // A process that claimed a row held its advisory lock then. After a restart of the server
        // all locks are gone, and living processes take theirs again with their next connection;
        // older leases are left to them for a while.
        let query = sqlx::query(
            "WITH orphans AS (\
                 SELECT id FROM deliveries WHERE state = 'accepted' AND leased_until IS NOT NULL \
                 AND leased_by NOT IN (\
                     SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' \
                     AND classid = $2::bigint::oid \
                     AND objsubid = 2 \
                     AND database = (SELECT oid FROM pg_database \
                     WHERE datname = current_database())) \
                 AND greatest(leased_at, \
                 clock_timestamp() - interval '15 s') > pg_postmaster_start_time() \
                 ORDER BY id FOR UPDATE) \
             UPDATE deliveries d \
             SET leased_until = NULL, next_attempt_at = least(next_attempt_at, $1) \
             FROM orphans WHERE d.id = orphans.id",
        );
        let orphans = self
            .connections
            .execute(query.bind(now).bind(i64::from(INSTANCES)))
            .await?;
        let query = sqlx::query(
            "WITH late AS (\
                 SELECT id FROM deliveries WHERE state = 'accepted' \
                 AND lane IN ('live', 'backfill') \
                 AND next_attempt_at > $2 ORDER BY id FOR UPDATE SKIP LOCKED) \
             UPDATE deliveries d SET next_attempt_at = $1 FROM late WHERE d.id = late.id",
        );
        let late = self
            .connections
            .execute(query.bind(now).bind(now + IMPLAUSIBLE))
            .await?;
        Ok(orphans + late)
    }

    pub(crate) async fn republish_all(&self, now: Moment) -> Result<u64> {
        let mut due = 0;
        loop {
            let query = sqlx::query(
                "WITH waiting AS (\
                     SELECT id FROM deliveries WHERE state = 'accepted' AND next_attempt_at > $1 \
                     AND (leased_until IS NULL OR leased_until <= $1) ORDER BY id \
                     LIMIT $2 FOR UPDATE) \
                 UPDATE deliveries d SET next_attempt_at = $1 FROM waiting WHERE d.id = waiting.id",
            );
            match self
                .connections
                .execute(query.bind(now).bind(PORTION))
                .await?
            {
                0 => return Ok(due),
                portion => due += portion,
            }
        }
    }

    pub(crate) async fn mark_unpublished(&self, of: &[DeliveryId], now: Moment) -> Result<()> {
        let query = sqlx::query(
            "WITH untaken AS (\
                 SELECT id FROM deliveries WHERE id = ANY($1) AND state = 'accepted' \
                 AND next_attempt_at > $2 \
                 AND (leased_until IS NULL OR leased_until <= $2) ORDER BY id FOR UPDATE) \
             UPDATE deliveries d SET next_attempt_at = $2 FROM untaken WHERE d.id = untaken.id",
        );
        self.connections
            .execute(query.bind(ids(of)).bind(now))
            .await
            .map(|_| ())
    }

    pub(crate) async fn unfinished(&self, of: &[DeliveryId]) -> Result<Vec<UnfinishedDelivery>> {
        let query = sqlx::query_as(
            "SELECT id, guid, event, source, received_at, attempts, body_bytes, body \
             FROM deliveries LEFT JOIN delivery_bodies ON delivery_id = id \
             WHERE id = ANY($1) AND state = 'accepted' ORDER BY id",
        );
        let rows: Vec<UnfinishedRow> = self.connections.fetch_all(query.bind(ids(of))).await?;
        Ok(rows.into_iter().map(UnfinishedDelivery::from).collect())
    }

    pub(crate) async fn mark_dead(
        &self,
        of: &[DeliveryId],
        reason: &str,
        now: Moment,
    ) -> Result<u64> {
        let query = sqlx::query(
            "WITH selected AS (\
                 SELECT id FROM deliveries WHERE id = ANY($1) AND state = 'accepted' \
                 AND (leased_until IS NULL OR leased_by = $5) ORDER BY id FOR UPDATE) \
             UPDATE deliveries d \
             SET state = 'dead', reason = $2, finished_at = $3, leased_until = NULL, \
             history = history || jsonb_build_object('at', $4::text, 'attempt', attempts, \
             'error', $2::text) \
             FROM selected WHERE d.id = selected.id",
        );
        let query = query
            .bind(ids(of))
            .bind(storable_text(reason))
            .bind(now)
            .bind(now.to_rfc3339());
        self.connections
            .execute(query.bind(self.connections.instance))
            .await
    }

    pub(crate) async fn mark_dead_copied(&self, of: &[DeliveryId]) -> Result<()> {
        let query = sqlx::query(
            "WITH copied AS (SELECT id FROM deliveries WHERE id = ANY($1) AND state = 'dead' \
             ORDER BY id FOR UPDATE) \
             UPDATE deliveries d SET dead_copied = true FROM copied WHERE d.id = copied.id",
        );
        self.connections
            .execute(query.bind(ids(of)))
            .await
            .map(|_| ())
    }

    pub(crate) async fn purge(
        &self,
        bodies_before: Moment,
        rows_before: Moment,
        limit: u32,
    ) -> Result<PurgeCounts> {
        // No writer makes a finished delivery unfinished, so that the rows found are still to be
        // deleted. Ids ascend with the time of receipt, so that the walk over bodies ends where
        // those to be kept begin.
        let query = sqlx::query_as(
            "WITH old AS (\
                 SELECT id FROM deliveries WHERE received_at < $1 \
                 AND state IN ('applied', 'ignored') \
                 ORDER BY received_at, id LIMIT $3), \
             old_bodies AS (\
                 SELECT delivery_id FROM delivery_bodies JOIN deliveries ON id = delivery_id \
                 WHERE delivery_id <= (\
                     SELECT id FROM deliveries WHERE received_at < $2 \
                     ORDER BY received_at DESC, id DESC LIMIT 1) \
                 AND received_at < $2 AND state IN ('applied', 'ignored') \
                 ORDER BY delivery_id LIMIT $3), \
             bodies AS (\
                 DELETE FROM delivery_bodies \
                 WHERE delivery_id IN (SELECT delivery_id FROM old_bodies) \
                 RETURNING delivery_id), \
             rows AS (DELETE FROM deliveries WHERE id IN (SELECT id FROM old) RETURNING id) \
             SELECT (SELECT count(*) FROM bodies), (SELECT count(*) FROM rows)",
        );
        let query = query
            .bind(rows_before)
            .bind(bodies_before)
            .bind(i64::from(limit));
        let purged: Option<(i64, i64)> = self.connections.fetch_optional(query).await?;
        let (bodies, rows) = purged.unwrap_or_default();
        Ok(PurgeCounts {
            bodies: bodies.unsigned_abs(),
            rows: rows.unsigned_abs(),
        })
    }
}

impl PostgresDatabase {
    /// Ends leases, takes `uncounted` attempts back and records the error, except for deliveries
    /// that another process has claimed since.
    pub(crate) async fn end_lease(
        &self,
        of: &[DeliveryId],
        uncounted: i32,
        error: &str,
        now: Moment,
        next_attempt: Moment,
    ) -> Result<()> {
        let query = sqlx::query(
            "WITH given_back AS (\
                 SELECT id FROM deliveries WHERE id = ANY($1) AND state = 'accepted' \
                 AND (leased_until IS NULL OR leased_by = $7) ORDER BY id FOR UPDATE) \
             UPDATE deliveries d \
             SET leased_until = NULL, next_attempt_at = $2, attempts = greatest(attempts - $3, 0), \
             history = CASE WHEN jsonb_array_length(history) < $6 THEN history \
                 || jsonb_build_object('at', $4::text, 'attempt', attempts, 'error', $5::text) \
                 ELSE history END \
             FROM given_back WHERE d.id = given_back.id",
        );
        let query = query
            .bind(ids(of))
            .bind(next_attempt)
            .bind(uncounted)
            .bind(now.to_rfc3339())
            .bind(storable_text(error));
        let query = query
            .bind(i32::try_from(HISTORY).unwrap_or(i32::MAX))
            .bind(self.connections.instance);
        self.connections.execute(query).await.map(|_| ())
    }
}

/// A delivery that is still to be done.
#[derive(FromRow)]
struct UnfinishedRow {
    id: i64,
    guid: String,
    event: String,
    source: Name<Source>,
    received_at: Millis,
    attempts: i32,
    body_bytes: i64,
    body: Option<Vec<u8>>,
}

/// The outcome of one delivery of a claim.
#[derive(FromRow)]
struct ClaimedRow {
    #[sqlx(flatten)]
    delivery: UnfinishedRow,
    /// The reason why it is dead; null where it was claimed.
    reason: Option<String>,
}

impl From<UnfinishedRow> for UnfinishedDelivery {
    fn from(row: UnfinishedRow) -> Self {
        let bytes = row.body_bytes.unsigned_abs();
        Self {
            id: DeliveryId(row.id),
            guid: row.guid,
            event: row.event,
            source: row.source.0,
            received_at: row.received_at.0,
            attempts: row.attempts.unsigned_abs(),
            body: row.body.map(|compressed| StoredBody { compressed, bytes }),
        }
    }
}
