//! Statements about deliveries: here those that both kinds of database understand, the others by
//! the kind of database.

use super::list::{push_ids, push_repository};
use super::row::{COLUMNS, DeadGroupRow, DeliveryRow};
use super::{
    AcceptOutcome, ClaimedDeliveries, DeadLetterGroup, DeadLetterMatch, DeadLetterSelection,
    Delivery, DeliveryCounts, DeliveryState, NewDelivery, NewState, PendingDelivery, PurgeCounts,
    StoredBody, UnfinishedDelivery,
};
use crate::columns::{Millis, Name, storable_text};
use crate::database::{Database, StatementBuilder, Value, statement};
use crate::{DeliveryId, Lane, Moment, Result, Store};

/// Awaits a method that each kind of database has in its own way.
macro_rules! by_dialect {
    ($store:ident.$method:ident($($argument:expr),*)) => {
        match &$store.database {
            Database::Sqlite(database) => database.$method($($argument),*).await,
            Database::Postgres(database) => database.$method($($argument),*).await,
        }
    };
}

impl Store {
    /// Stores a delivery, in one commit with others that wait. When this returns, it is on disk.
    pub async fn accept(&self, delivery: NewDelivery) -> Result<AcceptOutcome> {
        let (is_dead, now) = (
            matches!(
                delivery.state,
                NewState::Dead { .. } | NewState::Misnamed { .. }
            ),
            delivery.received_at,
        );
        let outcome = match &self.database {
            Database::Sqlite(database) => database.group_commit.accept(delivery).await,
            Database::Postgres(database) => database.group_commit.accept(delivery).await,
        }?;
        if is_dead {
            self.note_inbox(now).await;
        }
        Ok(outcome)
    }

    /// Returns those of `ids` that are not finished, by id.
    pub async fn pending(&self, ids: &[DeliveryId]) -> Result<Vec<PendingDelivery>> {
        by_dialect!(self.pending(ids))
    }

    /// Claims those of `ids` that are unfinished and not leased: counts an attempt and leases them
    /// until `lease_until`, when they are due again. One that has used up `max_attempts` is marked
    /// dead instead: it took its workers with it.
    pub async fn claim(
        &self,
        ids: &[DeliveryId],
        now: Moment,
        lease_until: Moment,
        max_attempts: u32,
    ) -> Result<ClaimedDeliveries> {
        by_dialect!(self.claim(ids, now, lease_until, max_attempts))
    }

    /// Takes rows of `lane` that are due to be published, longest due first, at most `limit`; they
    /// are due again at `again`.
    pub async fn claim_due_for_publish(
        &self,
        lane: Lane,
        limit: u32,
        now: Moment,
        again: Moment,
    ) -> Result<Vec<DeliveryId>> {
        by_dialect!(self.claim_due_for_publish(lane, limit, now, again))
    }

    /// Releases leases of dead processes and clamps implausible due times, which a skewed clock
    /// wrote. Returns the number of rows.
    pub async fn release_orphaned_leases(&self, now: Moment) -> Result<u64> {
        by_dialect!(self.release_orphaned_leases(now))
    }

    /// Makes everything unfinished and not leased due: the queue lost what was published. Returns
    /// the number of rows that were not due before.
    pub async fn republish_all(&self, now: Moment) -> Result<u64> {
        by_dialect!(self.republish_all(now))
    }

    /// Makes those of `ids` due that are unfinished and not leased: the queue did not confirm them.
    pub async fn mark_unpublished(&self, ids: &[DeliveryId], now: Moment) -> Result<()> {
        by_dialect!(self.mark_unpublished(ids, now))
    }

    /// Returns those of `ids` that are not finished, with their bodies, by id.
    pub async fn unfinished(&self, ids: &[DeliveryId]) -> Result<Vec<UnfinishedDelivery>> {
        by_dialect!(self.unfinished(ids))
    }

    /// Ends the lease of claimed deliveries, to be tried again at `next_attempt`; `error` enters
    /// their history. One whose lease had ended and that another process has claimed since is left
    /// to that process.
    pub async fn retry(
        &self,
        ids: &[DeliveryId],
        error: &str,
        now: Moment,
        next_attempt: Moment,
    ) -> Result<()> {
        by_dialect!(self.end_lease(ids, 0, error, now, next_attempt))
    }

    /// Does the same for failures that are not the deliveries' fault: the attempt does not count.
    pub async fn release(
        &self,
        ids: &[DeliveryId],
        error: &str,
        now: Moment,
        next_attempt: Moment,
    ) -> Result<()> {
        by_dialect!(self.end_lease(ids, 1, error, now, next_attempt))
    }

    /// Marks claimed deliveries dead, except those that another process has claimed since. Returns
    /// their number.
    pub async fn mark_dead(&self, ids: &[DeliveryId], reason: &str, now: Moment) -> Result<u64> {
        let dead = by_dialect!(self.mark_dead(ids, reason, now))?;
        if dead > 0 {
            self.note_inbox(now).await;
        }
        Ok(dead)
    }

    /// Requeues dead letters: they are due again, with all attempts. Returns their number.
    pub async fn requeue(&self, dead: &DeadLetterSelection, now: Moment) -> Result<u64> {
        let mut update = StatementBuilder::new(
            "UPDATE deliveries SET state = 'accepted', reason = NULL, attempts = 0, \
             leased_until = NULL, finished_at = NULL, dead_copied = ",
        );
        update.push_bind(false).push(", next_attempt_at = ");
        update.push_bind(Millis(now));
        self.update_dead(update, dead, now).await
    }

    /// Discards dead letters: they become ignored with `reason`. Returns their number.
    pub async fn discard(
        &self,
        dead: &DeadLetterSelection,
        reason: &str,
        now: Moment,
    ) -> Result<u64> {
        let mut update =
            StatementBuilder::new("UPDATE deliveries SET state = 'ignored', reason = ");
        update
            .push_bind(storable_text(reason))
            .push(", finished_at = ")
            .push_bind(Millis(now));
        self.update_dead(update, dead, now).await
    }

    /// Runs an update of the selected dead letters. Their rows are locked by id.
    async fn update_dead(
        &self,
        mut update: StatementBuilder<'_>,
        dead: &DeadLetterSelection,
        now: Moment,
    ) -> Result<u64> {
        update.push(" WHERE id IN (SELECT id FROM deliveries WHERE state = 'dead'");
        match dead {
            DeadLetterSelection::Ids(ids) => push_ids(&mut update, ids),
            DeadLetterSelection::Like(DeadLetterMatch {
                reason,
                event,
                repo,
            }) => {
                for (column, value) in [("reason", reason), ("event", event)] {
                    if let Some(value) = value {
                        update.push(" AND ").push(column).push(" = ");
                        update.push_bind(storable_text(value));
                    }
                }
                if let Some(repo) = repo {
                    let is_sqlite = matches!(self.database, Database::Sqlite(_));
                    push_repository(&mut update, repo, is_sqlite);
                }
            }
        }
        update.push(match &self.database {
            Database::Sqlite(_) => ")",
            Database::Postgres(_) => " ORDER BY id FOR UPDATE)",
        });
        let updated = self.database.execute(update.build()).await?;
        if updated > 0 {
            self.note_inbox(now).await;
        }
        Ok(updated)
    }

    /// Returns dead letters grouped by reason, event and repository, the largest group first.
    pub async fn dead_groups(&self) -> Result<Vec<DeadLetterGroup>> {
        let query = "SELECT coalesce(reason, '') AS reason, event, repo_name, \
                     count(*) AS deliveries, \
                     min(received_at) AS first_received_at, max(received_at) AS last_received_at \
                     FROM deliveries WHERE state = 'dead' GROUP BY 1, 2, 3 \
                     ORDER BY 4 DESC, 1, 2, 3 NULLS FIRST";
        let rows: Vec<DeadGroupRow> = self.database.rows(statement(query)).await?;
        Ok(rows.into_iter().map(DeadLetterGroup::from).collect())
    }

    /// Returns dead letters of which no copy was published to the queue of dead ones yet, at most
    /// `limit`, oldest first.
    pub async fn dead_without_copy(&self, limit: u32) -> Result<Vec<Delivery>> {
        // In the words of the partial index of each kind of database.
        let uncopied = match &self.database {
            Database::Sqlite(_) => "dead_copied = 0",
            Database::Postgres(_) => "NOT dead_copied",
        };
        let query = format!("WHERE state = 'dead' AND {uncopied} ORDER BY id LIMIT $1");
        self.deliveries_where(&query, i64::from(limit)).await
    }

    /// Marks dead letters as copied to the queue of dead ones.
    pub async fn mark_dead_copied(&self, ids: &[DeliveryId]) -> Result<()> {
        by_dialect!(self.mark_dead_copied(ids))
    }

    /// Counts deliveries by state.
    pub async fn counts(&self) -> Result<DeliveryCounts> {
        let query = statement("SELECT state, count(*) FROM deliveries GROUP BY state");
        let mut counts = DeliveryCounts::default();
        for (Name(state), number) in self
            .database
            .rows::<(Name<DeliveryState>, i64)>(query)
            .await?
        {
            let number = number.unsigned_abs();
            match state {
                DeliveryState::Accepted => counts.accepted = number,
                DeliveryState::Applied => counts.applied = number,
                DeliveryState::Ignored => counts.ignored = number,
                DeliveryState::Dead => counts.dead = number,
            }
        }
        counts.oldest_pending = self.oldest_pending().await?;
        Ok(counts)
    }

    /// Returns the receipt of the oldest delivery that is not finished.
    pub async fn oldest_pending(&self) -> Result<Option<Moment>> {
        // Ids ascend with acceptance, but for those that were accepted at the same time, so that
        // the first unfinished one is the oldest.
        let oldest = match &self.database {
            Database::Sqlite(_) => {
                "SELECT received_at FROM deliveries \
                 WHERE id = (SELECT min(id) FROM deliveries WHERE state = 'accepted')"
            }
            // NULLS FIRST is the order of the index by state, backwards; the primary key would lead
            // past all that is finished.
            Database::Postgres(_) => {
                "SELECT received_at FROM deliveries WHERE state = 'accepted' \
                 ORDER BY id NULLS FIRST LIMIT 1"
            }
        };
        let oldest: Option<(Millis,)> = self.database.row(statement(oldest)).await?;
        Ok(oldest.map(|(Millis(at),)| at))
    }

    /// Returns every delivery of one GUID: more than one only if the bodies differ.
    pub async fn deliveries_by_guid(&self, guid: &str) -> Result<Vec<Delivery>> {
        // As the group commit stores it: SQLite keeps U+0000.
        let guid = match &self.database {
            Database::Sqlite(_) => guid.to_owned(),
            Database::Postgres(_) => storable_text(guid),
        };
        self.deliveries_where("WHERE guid = $1 ORDER BY id", guid)
            .await
    }

    /// Returns the deliveries whose GUID begins with `prefix`, at most `limit`, by id.
    pub async fn deliveries_by_guid_prefix(
        &self,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<Delivery>> {
        let prefix = storable_text(prefix);
        let letters = prefix.chars().count();
        let condition = format!("WHERE substr(guid, 1, {letters}) = $1 ORDER BY id LIMIT {limit}");
        self.deliveries_where(&condition, prefix).await
    }

    /// Returns one delivery.
    pub async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>> {
        Ok(self.deliveries_where("WHERE id = $1", id.0).await?.pop())
    }

    async fn deliveries_where(
        &self,
        condition: &str,
        value: impl Into<Value<'_>>,
    ) -> Result<Vec<Delivery>> {
        let query = statement(format!("SELECT {COLUMNS} FROM deliveries {condition}")).bind(value);
        let rows: Vec<DeliveryRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(Delivery::from).collect())
    }

    /// Returns the stored body, `None` once it was purged.
    pub async fn body(&self, id: DeliveryId) -> Result<Option<StoredBody>> {
        let query = statement(
            "SELECT body, body_bytes FROM delivery_bodies \
             JOIN deliveries ON id = delivery_id WHERE delivery_id = $1",
        )
        .bind(id.0);
        let row: Option<(Vec<u8>, i64)> = self.database.row(query).await?;
        Ok(row.map(|(compressed, bytes)| StoredBody {
            compressed,
            bytes: bytes.unsigned_abs(),
        }))
    }

    /// Deletes bodies of finished deliveries received before `bodies_before`, and whole rows before
    /// `rows_before`. Dead letters stay until they are requeued or discarded. Takes at most `limit`
    /// of each, so that it never delays other writers for long.
    pub async fn purge(
        &self,
        bodies_before: Moment,
        rows_before: Moment,
        limit: u32,
    ) -> Result<PurgeCounts> {
        by_dialect!(self.purge(bodies_before, rows_before, limit))
    }
}
