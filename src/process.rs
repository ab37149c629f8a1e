//! The workers: take deliveries, decode them, apply them, write what changed.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use metrics::{counter, histogram};
use tallyhook_core::delivery::{DeliveryId, Moment};
use tallyhook_core::domain::apply::{ApplyRules, DecodedDelivery, apply_batch, keys_of};
use tallyhook_core::domain::recording::FinishedDelivery;
use tallyhook_core::event::{Event, Undecodable};
use tallyhook_queue::Queue;
use tallyhook_store::{
    DeadLetterSelection, ExhaustedDelivery, PendingDelivery, Store, StoreError, UnfinishedDelivery,
    portions,
};
use tokio::sync::{RwLock, watch};
use tokio::time::Instant;

use crate::telemetry::{
    APPLY_LAG, DELIVERIES, POLL_MISSED, PROCESS, RETRIES, STALE, metric_label, tell_dead,
};

/// Deliveries of one transaction.
const BATCH: usize = 256;
/// And of their bodies, before they are compressed, unless one alone is larger.
const BATCH_BYTES: u64 = 32 * 1024 * 1024;
/// A delivery that failed this often is a dead letter.
const MAX_ATTEMPTS: u32 = 5;
/// How long a claimed delivery is this worker's. Batches take milliseconds; a worker that died is waited for so long.
const LEASE: Duration = Duration::from_mins(1);
/// How often a batch is begun again because somebody else wrote first.
const CONFLICTS: usize = 3;

/// A worker. Several may run, in one process or in many.
pub struct Worker {
    pub store: Store,
    pub queue: Arc<Queue>,
    pub rules: ApplyRules,
    /// Shared by the workers of a process: batches read it together, a delivery that was tried before writes it alone.
    pub turns: Arc<RwLock<()>>,
    /// Raised after every batch, for whoever waits until the work is done.
    pub progress: watch::Sender<u64>,
}

/// A delivery that was decoded.
struct Decoded {
    delivery: UnfinishedDelivery,
    event: Event,
}

impl Decoded {
    fn delivery(&self) -> DecodedDelivery<'_> {
        let UnfinishedDelivery {
            id,
            source,
            received_at,
            ..
        } = self.delivery;
        DecodedDelivery {
            id,
            source,
            received_at,
            event: &self.event,
        }
    }
}

/// Why a batch did not go through, named by what to do.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// Somebody else writes the same rows, or has finished one of them.
    #[error("another worker wrote the same rows")]
    Conflict,
    /// A rule broke on it; on its own a delivery can be told to be the one.
    #[error("the rules panicked: {0}")]
    Panicked(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failed {
    /// Whether one delivery of the batch can be the reason, which then fails by itself too.
    fn is_of_one(&self) -> bool {
        match self {
            Self::Conflict | Self::Panicked(_) => true,
            Self::Store(error) => error.rejects_data(),
        }
    }
}

impl Worker {
    /// Works until the queue is closed, and finishes what it has begun.
    pub async fn run(self) {
        while let Some(batch) = self.queue.receive(BATCH).await {
            if !batch.revived.is_empty() {
                self.revive(batch.revived.clone()).await;
            }
            self.work(&batch.ids).await;
            self.queue.done(batch);
            self.progress.send_modify(|batches| *batches += 1);
        }
    }

    async fn work(&self, ids: &[DeliveryId]) {
        tallyhook_core::crash_point::reached("process.received");
        let started = Instant::now();
        let (tried, fresh): (Vec<_>, Vec<_>) = self
            .waiting(ids)
            .await
            .into_iter()
            .partition(|delivery| delivery.tried);
        for batch in portions(&fresh, BATCH_BYTES) {
            let _together = self.turns.read().await;
            self.handle(self.claim(&batch).await).await;
        }
        // Whatever was tried before is claimed and handled alone: if it ends the process again, nobody else's attempt
        // is counted, so that nobody else becomes a dead letter with it.
        for delivery in tried {
            let _alone = self.turns.write().await;
            self.handle(self.claim(&[delivery.id]).await).await;
        }
        histogram!(PROCESS).record(started.elapsed().as_secs_f64());
    }

    /// Those still to be done; as if all were tried before, if the database does not tell.
    async fn waiting(&self, ids: &[DeliveryId]) -> Vec<PendingDelivery> {
        self.store.pending(ids).await.unwrap_or_else(|error| {
            tracing::error!(%error, "earlier attempts could not be read; deliveries are handled one by one");
            ids.iter().map(|id| PendingDelivery { id: *id, tried: true, body_bytes: 0 }).collect()
        })
    }

    async fn claim(&self, ids: &[DeliveryId]) -> Vec<UnfinishedDelivery> {
        let mut tries = 0;
        let claim = loop {
            let now = Utc::now();
            match self.store.claim(ids, now, now + LEASE, MAX_ATTEMPTS).await {
                Ok(claim) => break claim,
                Err(StoreError::Closed) => return Vec::new(),
                Err(error) => wait_for_database(&mut tries, "taken up", &error).await,
            }
        };
        tallyhook_core::crash_point::reached("process.claimed");
        for ExhaustedDelivery {
            id,
            guid,
            event,
            reason,
        } in claim.exhausted
        {
            tell_dead(id.0, &guid, &event, &reason);
        }
        claim.claimed
    }

    /// Takes dead letters up again whose copies somebody moved back.
    async fn revive(&self, ids: Vec<DeliveryId>) {
        let (selection, mut tries) = (DeadLetterSelection::Ids(ids), 0);
        loop {
            match self.store.requeue(&selection, Utc::now()).await {
                Ok(_) | Err(StoreError::Closed) => return,
                Err(error) => wait_for_database(&mut tries, "taken up", &error).await,
            }
        }
    }

    async fn handle(&self, deliveries: Vec<UnfinishedDelivery>) {
        let mut finished = Vec::new();
        let mut decoded = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            tallyhook_core::crash_point::handling(&delivery.guid);
            match catch_unwind(AssertUnwindSafe(|| delivery.event())) {
                Ok(Ok(event)) => decoded.push(Decoded { delivery, event }),
                Ok(Err(Undecodable::NoPullRequest(reason))) => {
                    finished.push(FinishedDelivery::Ignored(delivery.id, reason.to_owned()));
                }
                Ok(Err(error)) => {
                    self.bury(&delivery, &format!("cannot be decoded: {error}"))
                        .await
                }
                Err(panic) => {
                    self.give_back(&[&delivery], &[], &Failed::Panicked(panic_text(&*panic)))
                        .await
                }
            }
        }
        if decoded.is_empty() && finished.is_empty() {
            return;
        }
        match self.apply(&decoded, &finished).await {
            Ok(()) => {}
            Err(failed) if failed.is_of_one() && decoded.len() + finished.len() > 1 => {
                tracing::warn!(error = %failed, "a batch is taken apart");
                self.handle_each(decoded, &finished).await;
            }
            Err(failed) => {
                self.give_back(&deliveries_of(&decoded), &finished, &failed)
                    .await
            }
        }
    }

    async fn handle_each(&self, decoded: Vec<Decoded>, finished: &[FinishedDelivery]) {
        for one in decoded {
            let alone = [one];
            if let Err(failed) = self.apply(&alone, &[]).await {
                self.give_back(&deliveries_of(&alone), &[], &failed).await;
            }
        }
        if let Err(failed) = self.apply(&[], finished).await {
            self.give_back(&[], finished, &failed).await;
        }
    }

    /// Applies a batch in one transaction, again from the start if another worker wrote in between.
    async fn apply(
        &self,
        decoded: &[Decoded],
        finished: &[FinishedDelivery],
    ) -> Result<(), Failed> {
        let deliveries: Vec<_> = decoded.iter().map(Decoded::delivery).collect();
        let keys: Vec<_> = keys_of(&deliveries).into_iter().collect();
        for _ in 0..CONFLICTS {
            let stored = self.store.load(&keys).await?;
            let applied = catch_unwind(AssertUnwindSafe(|| {
                apply_batch(&deliveries, stored, &self.rules)
            }));
            let mut batch = applied.map_err(|panic| Failed::Panicked(panic_text(&*panic)))?;
            batch.write.finished.extend_from_slice(finished);
            let now = Utc::now();
            if self.store.record(&batch.write, now).await?.is_ok() {
                counter!(STALE).increment(batch.stale);
                for (name, missed) in batch.missed.into_values() {
                    counter!(POLL_MISSED, "repo" => name).increment(missed);
                }
                count(decoded, &batch.write.finished, now);
                return Ok(());
            }
        }
        Err(Failed::Conflict)
    }

    async fn bury(&self, delivery: &UnfinishedDelivery, reason: &str) {
        match self
            .store
            .mark_dead(&[delivery.id], reason, Utc::now())
            .await
        {
            Ok(0) => tracing::debug!(delivery.id = delivery.id.0, "another process has it by now"),
            Ok(_) => tell_dead(delivery.id.0, &delivery.guid, &delivery.event, reason),
            Err(error) => {
                tracing::error!(delivery.id = delivery.id.0, reason, %error, "a dead letter could not be stored; it will be tried again");
            }
        }
    }

    /// Gives deliveries back for a later attempt. Only one that broke the rules, or that the database refuses, is given up
    /// in the end: for a failing database no delivery is to blame, so that attempt is not counted.
    async fn give_back(
        &self,
        deliveries: &[&UnfinishedDelivery],
        finished: &[FinishedDelivery],
        failed: &Failed,
    ) {
        let to_blame = failed.is_of_one() && !matches!(failed, Failed::Conflict);
        let (last, again): (Vec<_>, Vec<_>) = deliveries
            .iter()
            .partition(|delivery| to_blame && delivery.attempts >= MAX_ATTEMPTS);
        for delivery in last {
            self.bury(
                delivery,
                &format!("gave up after {MAX_ATTEMPTS} attempts: {failed}"),
            )
            .await;
        }
        let ids: Vec<_> = again
            .iter()
            .map(|delivery| delivery.id)
            .chain(finished.iter().map(FinishedDelivery::id))
            .collect();
        if ids.is_empty() {
            return;
        }
        let attempts = again
            .iter()
            .map(|delivery| delivery.attempts)
            .max()
            .unwrap_or(1);
        tracing::warn!(deliveries = ids.len(), attempts, error = %failed, "an attempt failed and will be made again");
        counter!(RETRIES).increment(ids.len() as u64);
        let (reason, mut tries) = (failed.to_string(), 0);
        // The database that failed the attempt often fails this as well, and nobody else may take them up meanwhile.
        loop {
            let now = Utc::now();
            let next_attempt = now + backoff(attempts);
            let given_back = match to_blame {
                true => self.store.retry(&ids, &reason, now, next_attempt).await,
                false => self.store.release(&ids, &reason, now, next_attempt).await,
            };
            match given_back {
                Ok(()) | Err(StoreError::Closed) => return,
                Err(error) => wait_for_database(&mut tries, "given back", &error).await,
            }
        }
    }
}

fn deliveries_of(decoded: &[Decoded]) -> Vec<&UnfinishedDelivery> {
    decoded.iter().map(|one| &one.delivery).collect()
}

/// Lets the database come back: what a worker took is in no other place than here and the inbox.
async fn wait_for_database(tries: &mut u32, what: &'static str, error: &StoreError) {
    tracing::error!(%error, "deliveries could not be {what}; trying again");
    let wait = Duration::from_millis(200 << (*tries).min(4));
    *tries += 1;
    tokio::time::sleep(jittered(wait)).await;
}

/// Waits 2, 4, 8, 16 seconds after the first, second, ... attempt, a little more or less.
fn backoff(attempts: u32) -> Duration {
    jittered(Duration::from_secs(1 << attempts.min(8)))
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.75..1.25))
}

fn count(decoded: &[Decoded], finished: &[FinishedDelivery], now: Moment) {
    let outcomes: BTreeMap<DeliveryId, &'static str> = finished
        .iter()
        .map(|one| (one.id(), one.outcome()))
        .collect();
    for Decoded { delivery, .. } in decoded {
        let outcome = outcomes.get(&delivery.id).copied().unwrap_or("applied");
        counter!(DELIVERIES, "event" => metric_label(&delivery.event), "outcome" => outcome)
            .increment(1);
        let lag = (now - delivery.received_at).to_std().unwrap_or_default();
        histogram!(APPLY_LAG).record(lag.as_secs_f64());
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
