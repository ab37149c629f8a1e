//! Accepted deliveries in SQLite: each group is one transaction of the one writing connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock};

use sqlx::{AssertSqlSafe, Row};
use sqlx_sqlite::SqliteRow;
use tokio::sync::Mutex;

use super::database::{CHUNKS, chunks, millis};
use super::writer::{SqliteTransaction, SqliteWriter, WriterSlot};
use crate::columns::whole;
use crate::deliveries::CommitTarget;
use crate::{AcceptOutcome, DeliveryId, DeliveryState, NewDelivery, NewState, Result};

/// Compressed bodies over this are large.
const LARGE: usize = 1024 * 1024;

type OwnedDeliveryKey = (String, [u8; 32]);

/// The writing connection, which groups share with every other write.
pub(crate) struct WriterTarget(pub(crate) Arc<Mutex<WriterSlot>>);

impl CommitTarget for WriterTarget {
    type Slot = SqliteWriter;

    async fn slot(&self) -> Result<Self::Slot> {
        SqliteWriter::acquire(&self.0).await
    }

    async fn store(
        &self,
        mut writer: SqliteWriter,
        group: &[NewDelivery],
    ) -> Result<Vec<AcceptOutcome>> {
        let accepted = store(&mut writer, group).await?;
        // Before the answer, so that no delivery is answered for that is in a removed file.
        writer.check_file()?;
        Ok(accepted)
    }
}

async fn store(
    writer: &mut SqliteWriter,
    deliveries: &[NewDelivery],
) -> Result<Vec<AcceptOutcome>> {
    let mut transaction = writer.begin().await?;
    let mut inserted = insert(&mut transaction, deliveries).await?;
    let mut bodies = Vec::with_capacity(inserted.len());
    let mut accepted = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        // The first of a group takes the row's id, a repetition of it within the group finds none.
        match inserted.entry((delivery.guid.clone(), delivery.body_sha256)) {
            Entry::Occupied(entry) => {
                let id = entry.remove();
                bodies.push((id, &delivery.body.compressed));
                accepted.push(AcceptOutcome::Stored(id));
            }
            Entry::Vacant(_) => {
                let outcome = requeue(&mut transaction, delivery).await?;
                if let AcceptOutcome::Requeued(id) = outcome {
                    bodies.push((id, &delivery.body.compressed));
                }
                accepted.push(outcome);
            }
        }
    }
    insert_bodies(&mut transaction, &bodies).await?;
    tallyhook_core::crash_point::reached("accept.before_commit");
    transaction.commit().await?;
    tallyhook_core::crash_point::reached("accept.committed");
    Ok(accepted)
}

static INSERT: LazyLock<[String; CHUNKS.len()]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        let row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        format!(
            "INSERT INTO deliveries (guid, body_sha256, event, action, repo_id, repo_name, \
             pr_number, source, lane, state, \
             reason, received_at, next_attempt_at, finished_at, body_bytes) VALUES {} \
             ON CONFLICT (guid, body_sha256) DO NOTHING RETURNING id, guid, body_sha256",
            vec![row; rows].join(", ")
        )
    })
});

static INSERT_BODIES: LazyLock<[String; CHUNKS.len()]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        format!(
            "INSERT INTO delivery_bodies (delivery_id, body) VALUES {} \
             ON CONFLICT (delivery_id) DO NOTHING",
            vec!["(?, ?)"; rows].join(", ")
        )
    })
});

/// Inserts those that are not there yet, and returns their ids.
async fn insert(
    transaction: &mut SqliteTransaction<'_>,
    deliveries: &[NewDelivery],
) -> Result<HashMap<OwnedDeliveryKey, DeliveryId>> {
    let mut inserted = HashMap::with_capacity(deliveries.len());
    for (place, chunk) in chunks(deliveries) {
        let mut query = sqlx::query(AssertSqlSafe(INSERT[place].as_str()));
        for delivery in chunk {
            let received = millis(delivery.received_at);
            let (state, reason, next_attempt, finished) = match &delivery.state {
                NewState::Pending { due } => (DeliveryState::Accepted, None, millis(*due), None),
                NewState::Ignored { reason } => (
                    DeliveryState::Ignored,
                    Some(reason),
                    received,
                    Some(received),
                ),
                NewState::Dead { reason } | NewState::Misnamed { reason } => {
                    (DeliveryState::Dead, Some(reason), received, Some(received))
                }
            };
            query = query
                .bind(&delivery.guid)
                .bind(delivery.body_sha256.as_slice())
                .bind(&delivery.event)
                .bind(&delivery.action)
                .bind(delivery.repo.as_ref().map(|(id, _)| id.0))
                .bind(delivery.repo.as_ref().map(|(_, name)| name))
                .bind(delivery.pr_number.map(|number| number.0))
                .bind(delivery.source.as_str())
                .bind(delivery.lane.as_str())
                .bind(state.as_str())
                .bind(reason)
                .bind(received)
                .bind(next_attempt)
                .bind(finished)
                .bind(whole(delivery.body.bytes));
        }
        for row in query.fetch_all(&mut **transaction).await? {
            let (key, id) = inserted_row(&row)?;
            inserted.insert(key, id);
        }
    }
    Ok(inserted)
}

fn inserted_row(row: &SqliteRow) -> Result<(OwnedDeliveryKey, DeliveryId)> {
    let sha256: &[u8] = row.try_get(2)?;
    let sha256 = sha256
        .try_into()
        .map_err(|_| sqlx::Error::Decode("a digest of another length".into()))?;
    Ok(((row.try_get(1)?, sha256), DeliveryId(row.try_get(0)?)))
}

async fn insert_bodies(
    transaction: &mut SqliteTransaction<'_>,
    bodies: &[(DeliveryId, &Vec<u8>)],
) -> Result<()> {
    // A statement holds copies of all that it binds, so that a large body has one of its own.
    let (large, usual): (Vec<_>, Vec<_>) = bodies.iter().partition(|(_, body)| body.len() > LARGE);
    for (place, chunk) in chunks(&usual).chain(large.chunks(1).map(|one| (CHUNKS.len() - 1, one))) {
        let mut query = sqlx::query(AssertSqlSafe(INSERT_BODIES[place].as_str()));
        for (id, body) in chunk {
            query = query.bind(id.0).bind(body.as_slice());
        }
        query.execute(&mut **transaction).await?;
    }
    Ok(())
}

/// Requeues a dead letter that GitHub redelivers, or a row under the name of another event, with
/// the attributes of the redelivery. Any other repetition changes nothing.
async fn requeue(
    transaction: &mut SqliteTransaction<'_>,
    delivery: &NewDelivery,
) -> Result<AcceptOutcome> {
    if matches!(delivery.state, NewState::Misnamed { .. }) {
        return Ok(AcceptOutcome::Duplicate);
    }
    let requeued: Option<i64> = sqlx::query_scalar(
        "UPDATE deliveries SET state = 'accepted', reason = NULL, attempts = 0, dead_copied = 0, \
         next_attempt_at = $1, leased_until = NULL, finished_at = NULL, \
         event = $4, action = $5, repo_id = $6, repo_name = $7, pr_number = $8 \
         WHERE guid = $2 AND body_sha256 = $3 AND (state = 'dead' OR event <> $4) RETURNING id",
    )
    .bind(millis(delivery.received_at))
    .bind(&delivery.guid)
    .bind(delivery.body_sha256.as_slice())
    .bind(&delivery.event)
    .bind(&delivery.action)
    .bind(delivery.repo.as_ref().map(|(id, _)| id.0))
    .bind(delivery.repo.as_ref().map(|(_, name)| name))
    .bind(delivery.pr_number.map(|number| number.0))
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(requeued.map_or(AcceptOutcome::Duplicate, |id| {
        AcceptOutcome::Requeued(DeliveryId(id))
    }))
}
