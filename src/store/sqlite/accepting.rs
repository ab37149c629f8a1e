//! Group commit: deliveries that arrive while a commit is under way share the next one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock};

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row, Sqlite, Transaction};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{CHUNKS, chunks, millis};
use crate::store::{Accepted, DeliveryId, DeliveryState, NewDelivery, NewState, Result, StoreError};

/// The most deliveries of one commit, and as many that wait for the next.
const GROUP: usize = 256;

/// Compressed bodies over this are large.
const LARGE: usize = 1024 * 1024;

type Answer = oneshot::Sender<Result<Accepted>>;
type Key = (String, [u8; 32]);

/// The task that commits accepted deliveries.
pub(super) struct Accepting {
    waiting: Mutex<Option<mpsc::Sender<(NewDelivery, Answer)>>>,
    sender: mpsc::WeakSender<(NewDelivery, Answer)>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Accepting {
    pub(super) fn start(writer: Arc<Mutex<Option<SqliteConnection>>>) -> Self {
        let (sender, receiver) = mpsc::channel(GROUP);
        Self {
            sender: sender.downgrade(),
            waiting: Mutex::new(Some(sender)),
            task: Mutex::new(Some(tokio::spawn(run(writer, receiver)))),
        }
    }

    /// Stores one delivery together with whichever others are waiting.
    pub(super) async fn accept(&self, delivery: NewDelivery) -> Result<Accepted> {
        let (answer, answered) = oneshot::channel();
        let sender = self.sender.upgrade().ok_or(StoreError::Closed)?;
        sender.send((delivery, answer)).await.map_err(|_| StoreError::Closed)?;
        drop(sender);
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Whether deliveries can still be stored; no more once the task broke.
    pub(super) fn is_running(&self) -> bool {
        self.sender.upgrade().is_some_and(|sender| !sender.is_closed())
    }

    /// Commits what waits and ends the task.
    pub(super) async fn finish(&self) {
        drop(self.waiting.lock().await.take());
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the task that stores deliveries broke");
        }
    }
}

async fn run(writer: Arc<Mutex<Option<SqliteConnection>>>, mut waiting: mpsc::Receiver<(NewDelivery, Answer)>) {
    let mut group = Vec::with_capacity(GROUP);
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        let mut writer = writer.lock().await;
        // Those that came while the lock was held by another go along.
        while group.len() < GROUP
            && let Ok(more) = waiting.try_recv()
        {
            group.push(more);
        }
        let (deliveries, answers): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        let stored = match writer.as_mut() {
            Some(connection) => store(connection, &deliveries).await,
            None => Err(StoreError::Closed),
        };
        drop(writer);
        answer(answers, stored);
    }
}

fn answer(answers: Vec<Answer>, stored: Result<Vec<Accepted>>) {
    match stored {
        Ok(accepted) => {
            for (answer, accepted) in answers.into_iter().zip(accepted) {
                // Whoever gave up waiting gets no answer; the delivery is stored all the same.
                drop(answer.send(Ok(accepted)));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for answer in answers {
                drop(answer.send(Err(StoreError::Shared(error.clone()))));
            }
        }
    }
}

async fn store(connection: &mut SqliteConnection, deliveries: &[NewDelivery]) -> Result<Vec<Accepted>> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut inserted = insert(&mut transaction, deliveries).await?;
    let mut bodies = Vec::with_capacity(inserted.len());
    let mut accepted = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        // The first of a group takes the row's id, a repetition of it within the group finds none.
        match inserted.entry((delivery.guid.clone(), delivery.body_sha256)) {
            Entry::Occupied(entry) => {
                let id = entry.remove();
                bodies.push((id, &delivery.body.compressed));
                accepted.push(Accepted::Stored(id));
            }
            Entry::Vacant(_) => accepted.push(revive(&mut transaction, delivery).await?),
        }
    }
    insert_bodies(&mut transaction, &bodies).await?;
    crate::crash_point!("accept.before_commit");
    transaction.commit().await?;
    crate::crash_point!("accept.committed");
    Ok(accepted)
}

static INSERT: LazyLock<[String; CHUNKS.len()]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        let row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        format!(
            "INSERT INTO deliveries (guid, body_sha256, event, action, repo_id, repo_name, pr_number, source, lane, state, \
             reason, received_ms, next_attempt_ms, finished_ms, body_bytes) VALUES {} \
             ON CONFLICT (guid, body_sha256) DO NOTHING RETURNING id, guid, body_sha256",
            vec![row; rows].join(", ")
        )
    })
});

static INSERT_BODIES: LazyLock<[String; CHUNKS.len()]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        format!("INSERT INTO delivery_bodies (delivery_id, body) VALUES {}", vec!["(?, ?)"; rows].join(", "))
    })
});

/// Inserts those that are not there yet, and tells their ids.
async fn insert(
    transaction: &mut Transaction<'_, Sqlite>,
    deliveries: &[NewDelivery],
) -> Result<HashMap<Key, DeliveryId>> {
    let mut inserted = HashMap::with_capacity(deliveries.len());
    for (place, chunk) in chunks(deliveries) {
        let mut query = sqlx::query(AssertSqlSafe(INSERT[place].as_str()));
        for delivery in chunk {
            let received = millis(delivery.received_at);
            let (state, reason, next_attempt, finished) = match &delivery.state {
                NewState::Pending { due } => (DeliveryState::Accepted, None, millis(*due), None),
                NewState::Ignored { reason } => (DeliveryState::Ignored, Some(reason), received, Some(received)),
                NewState::Dead { reason } => (DeliveryState::Dead, Some(reason), received, Some(received)),
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
                .bind(i64::try_from(delivery.body.bytes).unwrap_or(i64::MAX));
        }
        for row in query.fetch_all(&mut **transaction).await? {
            let (key, id) = inserted_row(&row)?;
            inserted.insert(key, id);
        }
    }
    Ok(inserted)
}

fn inserted_row(row: &SqliteRow) -> Result<(Key, DeliveryId)> {
    let sha256: &[u8] = row.try_get(2)?;
    let sha256 = sha256.try_into().map_err(|_| sqlx::Error::Decode("a digest of another length".into()))?;
    Ok(((row.try_get(1)?, sha256), DeliveryId(row.try_get(0)?)))
}

async fn insert_bodies(transaction: &mut Transaction<'_, Sqlite>, bodies: &[(DeliveryId, &Vec<u8>)]) -> Result<()> {
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

/// A repetition: GitHub's "Redeliver" of a dead letter brings it back, any other changes nothing.
async fn revive(transaction: &mut Transaction<'_, Sqlite>, delivery: &NewDelivery) -> Result<Accepted> {
    let revived: Option<i64> = sqlx::query_scalar(
        "UPDATE deliveries SET state = 'accepted', reason = NULL, attempts = 0, dead_copied = 0, next_attempt_ms = $1, \
         leased_until_ms = 0, finished_ms = NULL \
         WHERE guid = $2 AND body_sha256 = $3 AND state = 'dead' RETURNING id",
    )
    .bind(millis(delivery.received_at))
    .bind(&delivery.guid)
    .bind(delivery.body_sha256.as_slice())
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(revived.map_or(Accepted::Duplicate, |id| Accepted::Requeued(DeliveryId(id))))
}
