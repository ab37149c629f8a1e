//! The workers: claim deliveries, decode them, and write what applying them changed. The rules are
//! in [`tallyhook_core::domain::apply`]; here is I/O only.
//!
//! Every line that is logged about one delivery stands in its span, `delivery{delivery.id
//! delivery.guid event repo pr}`, those of store and queue among them. A line about a batch stands
//! in the span of the batch, which lists the ids.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use metrics::{counter, histogram};
use tallyhook_core::backoff::Backoff;
use tallyhook_core::delivery::{DeliveryId, Moment};
use tallyhook_core::domain::apply::{ApplyRules, DecodedDelivery, apply_batch, keys_of};
use tallyhook_core::domain::recording::FinishedDelivery;
use tallyhook_core::event::{Event, Undecodable};
use tallyhook_core::github::types::PrKey;
use tallyhook_queue::Queue;
use tallyhook_store::{
    BatchWrite, DeadLetterSelection, ExhaustedDelivery, PendingDelivery, PullRequestRecord, Store,
    StoreError, StoredPullRequest, UnfinishedDelivery, VersionConflict, portions,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span, error_span};

use crate::telemetry::{
    APPLY_LAG, DELIVERIES, POLL_MISSED, PROCESS, RETRIES, STALE, metric_label, record_dead_letter,
};
use crate::turns::{DeliveryGroup, WorkerTurns};

/// The most deliveries of one transaction.
const BATCH: usize = 256;
/// The most bytes of their bodies, before compression, unless one body alone is larger.
const BATCH_BYTES: u64 = 32 * 1024 * 1024;
/// The number of failed attempts after which a delivery becomes a dead letter.
const MAX_ATTEMPTS: u32 = 5;
/// The lease of a claimed delivery. A batch takes milliseconds; the deliveries of a dead worker
/// wait for so long.
const CLAIM_LEASE: Duration = Duration::from_mins(1);
/// The number of times that a batch is applied because another process wrote first.
const MAX_CONFLICTS: u32 = 8;
/// The delays between them: about the time of a batch.
const CONFLICT_RETRY: Backoff = Backoff {
    first: Duration::from_millis(10),
    max: Duration::from_millis(160),
};
/// The most repositories of one transaction.
const MOST_REPOSITORIES: usize = 500;
/// The delays between the attempts of one delivery.
const RETRY: Backoff = Backoff {
    first: Duration::from_secs(2),
    max: Duration::from_mins(4),
};
/// The delays between the attempts to reach the database.
const DATABASE_RETRY: Backoff = Backoff {
    first: Duration::from_millis(200),
    max: Duration::from_millis(3200),
};

/// A worker. Several may run, in one process or in many.
pub struct Worker {
    pub store: Store,
    pub queue: Arc<Queue>,
    pub rules: ApplyRules,
    /// Shared by the workers of a process.
    pub turns: Arc<WorkerTurns>,
    /// Raised after every batch, for callers that wait until the work is done.
    pub progress: watch::Sender<u64>,
}

/// A claimed delivery that was decoded.
struct DecodedRow {
    delivery: UnfinishedDelivery,
    event: Event,
}

impl DecodedRow {
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

    fn span(&self) -> Span {
        let span = delivery_span(&self.delivery);
        if let Some(repo) = self.event.repo() {
            span.record("repo", repo.name.as_str());
        }
        if let Some(key) = self.event.pr_key() {
            span.record("pr", key.number.0);
        }
        span
    }
}

/// A claimed delivery that changes no facts.
struct IgnoredRow {
    delivery: UnfinishedDelivery,
    reason: &'static str,
}

impl IgnoredRow {
    fn finished(&self) -> FinishedDelivery {
        FinishedDelivery::Ignored(self.delivery.id, self.reason.to_owned())
    }
}

/// The reason why a batch failed, named by what to do.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    /// Another worker writes the same rows, or has finished one of the deliveries.
    #[error("another worker wrote the same rows")]
    Conflict,
    /// A rule panicked. Applied alone, the delivery that caused it is found.
    #[error("the rules panicked: {0}")]
    Panicked(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BatchError {
    /// Returns whether one delivery of the batch can be the cause, so that it fails alone too.
    fn isolates_to_one(&self) -> bool {
        match self {
            Self::Conflict | Self::Panicked(_) => true,
            Self::Store(error) => error.rejects_data(),
        }
    }

    /// Returns whether the failure counts as an attempt. Neither a failing database nor another
    /// worker is the delivery's fault.
    fn counts_as_attempt(&self) -> bool {
        self.isolates_to_one() && !matches!(self, Self::Conflict)
    }
}

impl Worker {
    /// Applies deliveries until the queue is closed, and finishes the batch in hand.
    pub async fn run(self) {
        while let Some(batch) = self.queue.receive(BATCH).await {
            if !batch.requeued.is_empty() {
                let span = ids_span(&batch.requeued);
                self.requeue(batch.requeued.clone()).instrument(span).await;
            }
            self.process(&batch.ids).await;
            self.queue.acknowledge(batch);
            self.progress.send_modify(|batches| *batches += 1);
        }
    }

    async fn process(&self, ids: &[DeliveryId]) {
        tallyhook_core::crash_point::reached("process.received");
        let started = Instant::now();
        let (attempted, fresh): (Vec<_>, Vec<_>) = self
            .waiting(ids)
            .instrument(ids_span(ids))
            .await
            .into_iter()
            .partition(|delivery| delivery.tried);
        let (turn, free, apart) = self.turns.take_free(fresh);
        self.apply_in_portions(&free).await;
        drop(turn);
        for DeliveryGroup { keys, deliveries } in apart {
            let _turn = self.turns.take(keys).await;
            self.apply_in_portions(&deliveries).await;
        }
        // A delivery that was attempted before is claimed and applied alone: if it kills the
        // process again, no other delivery's attempt is counted, so that none becomes a dead letter
        // with it.
        for delivery in attempted {
            let _exclusive = self.turns.alone.write().await;
            self.claim_and_apply(&[delivery.id]).await;
        }
        histogram!(PROCESS).record(started.elapsed().as_secs_f64());
    }

    async fn apply_in_portions(&self, deliveries: &[PendingDelivery]) {
        for batch in portions(deliveries, BATCH_BYTES) {
            let _shared = self.turns.alone.read().await;
            self.claim_and_apply(&batch).await;
        }
    }

    async fn claim_and_apply(&self, ids: &[DeliveryId]) {
        let claimed = self.claim(ids).instrument(ids_span(ids)).await;
        self.decode_and_apply(claimed).await;
    }

    /// Returns those that are not finished. If the database fails, all count as attempted before.
    async fn waiting(&self, ids: &[DeliveryId]) -> Vec<PendingDelivery> {
        self.store.pending(ids).await.unwrap_or_else(|error| {
            tracing::error!(
                %error,
                "earlier attempts of deliveries {} cannot be read; applying them one by one",
                IdList(ids)
            );
            let attempted = |id: &DeliveryId| PendingDelivery {
                id: *id,
                key: None,
                tried: true,
                body_bytes: 0,
            };
            ids.iter().map(attempted).collect()
        })
    }

    async fn claim(&self, ids: &[DeliveryId]) -> Vec<UnfinishedDelivery> {
        let mut failures = 0;
        let claim = loop {
            let now = Utc::now();
            let claim = self.store.claim(ids, now, now + CLAIM_LEASE, MAX_ATTEMPTS);
            match claim.await {
                Ok(claim) => break claim,
                Err(StoreError::Closed) => return Vec::new(),
                Err(error) => wait_for_database(&mut failures, "claim", ids, &error).await,
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
            record_dead_letter(id.0, &guid, &event, &reason);
        }
        claim.claimed
    }

    /// Requeues dead letters whose copies a person moved back to a lane.
    async fn requeue(&self, ids: Vec<DeliveryId>) {
        let (selection, mut failures) = (DeadLetterSelection::Ids(ids.clone()), 0);
        loop {
            match self.store.requeue(&selection, Utc::now()).await {
                Ok(_) | Err(StoreError::Closed) => return,
                Err(error) => wait_for_database(&mut failures, "requeue", &ids, &error).await,
            }
        }
    }

    async fn decode_and_apply(&self, deliveries: Vec<UnfinishedDelivery>) {
        let mut ignored = Vec::new();
        let mut decoded = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            tallyhook_core::crash_point::handling(&delivery.guid);
            match catch_unwind(AssertUnwindSafe(|| delivery.event())) {
                Ok(Ok(event)) => decoded.push(DecodedRow { delivery, event }),
                Ok(Err(Undecodable::NoPullRequest(reason))) => {
                    ignored.push(IgnoredRow { delivery, reason });
                }
                Ok(Err(error)) => {
                    let reason = format!("cannot be decoded: {error}");
                    self.mark_dead(&delivery, &reason).await;
                }
                Err(panic) => {
                    let error = BatchError::Panicked(panic_text(&*panic));
                    let span = delivery_span(&delivery);
                    self.retry_or_release(&[&delivery], &[], &error)
                        .instrument(span)
                        .await;
                }
            }
        }
        if decoded.is_empty() && ignored.is_empty() {
            return;
        }
        let span = span_of(&decoded, &ignored);
        self.apply_or_retry(decoded, ignored).instrument(span).await;
    }

    async fn apply_or_retry(&self, decoded: Vec<DecodedRow>, ignored: Vec<IgnoredRow>) {
        let Err(error) = self.apply(&decoded, &states(&ignored)).await else {
            return;
        };
        let number = decoded.len() + ignored.len();
        if error.isolates_to_one() && number > 1 {
            tracing::warn!(
                %error,
                "a batch of {number} deliveries failed; applying them one by one"
            );
            self.apply_individually(decoded, ignored).await;
        } else {
            self.retry_or_release(&rows(&decoded), &states(&ignored), &error)
                .await;
        }
    }

    async fn apply_individually(&self, decoded: Vec<DecodedRow>, ignored: Vec<IgnoredRow>) {
        for row in decoded {
            let (span, alone) = (row.span(), [row]);
            let applied = async {
                if let Err(error) = self.apply(&alone, &[]).await {
                    self.retry_or_release(&rows(&alone), &[], &error).await;
                }
            };
            applied.instrument(span).await;
        }
        for row in ignored {
            let finished = [row.finished()];
            let applied = async {
                if let Err(error) = self.apply(&[], &finished).await {
                    self.retry_or_release(&[], &finished, &error).await;
                }
            };
            applied.instrument(delivery_span(&row.delivery)).await;
        }
    }

    /// Applies a batch in one transaction, again from the start if another worker wrote in between.
    async fn apply(
        &self,
        decoded: &[DecodedRow],
        finished: &[FinishedDelivery],
    ) -> Result<(), BatchError> {
        let deliveries: Vec<_> = decoded.iter().map(DecodedRow::delivery).collect();
        let keys: Vec<_> = keys_of(&deliveries).into_iter().collect();
        for conflicts in 1..=MAX_CONFLICTS {
            let stored = self.load(&keys).await?;
            let applied = catch_unwind(AssertUnwindSafe(|| {
                apply_batch(&deliveries, stored, &self.rules)
            }));
            let mut batch = applied.map_err(|panic| BatchError::Panicked(panic_text(&*panic)))?;
            batch.write.finished.extend_from_slice(finished);
            let now = Utc::now();
            if self.record(&mut batch.write, now).await?.is_ok() {
                counter!(STALE).increment(batch.stale);
                for (name, missed) in batch.missed.into_values() {
                    counter!(POLL_MISSED, "repo" => name).increment(missed);
                }
                count(decoded, &batch.write.finished, now);
                let written = batch.write.pull_requests.into_iter();
                let written = written.map(PullRequestRecord::written);
                self.turns.keep(written.chain(batch.unchanged));
                return Ok(());
            }
            if conflicts < MAX_CONFLICTS {
                tokio::time::sleep(delay(CONFLICT_RETRY, conflicts)).await;
            }
        }
        Err(BatchError::Conflict)
    }

    /// Returns the stored state of each key: from memory, where this process was the last to write
    /// it.
    async fn load(&self, keys: &[PrKey]) -> Result<Vec<StoredPullRequest>, StoreError> {
        let mut known = self.store.current(self.turns.kept(keys)).await?;
        let found: BTreeSet<_> = known.iter().map(|known| known.pull_request.key).collect();
        let unknown: Vec<_> = keys
            .iter()
            .filter(|key| !found.contains(key))
            .copied()
            .collect();
        if !unknown.is_empty() {
            known.extend(self.store.load(&unknown).await?);
        }
        Ok(known)
    }

    /// Writes what a batch changed. Of very many repositories, which one event may name, most are
    /// written before, in transactions that no other writer has to wait for.
    async fn record(
        &self,
        write: &mut BatchWrite,
        now: Moment,
    ) -> Result<Result<(), VersionConflict>, StoreError> {
        while let Some(before) = write.repositories.len().checked_sub(MOST_REPOSITORIES)
            && before > 0
        {
            let portion = BatchWrite {
                repositories: write.repositories.split_off(before),
                ..BatchWrite::default()
            };
            if let Err(conflict) = self.store.record(&portion, now).await? {
                return Ok(Err(conflict));
            }
        }
        self.store.record(write, now).await
    }

    async fn mark_dead(&self, delivery: &UnfinishedDelivery, reason: &str) {
        let span = delivery_span(delivery);
        let UnfinishedDelivery {
            id, guid, event, ..
        } = delivery;
        let ids = [*id];
        let marked = self.store.mark_dead(&ids, reason, Utc::now());
        let marked = marked.instrument(span.clone()).await;
        let _entered = span.entered();
        match marked {
            Ok(0) => tracing::debug!("delivery {id} ({guid}) was claimed by another process"),
            Ok(_) => record_dead_letter(id.0, guid, event, reason),
            Err(error) => {
                tracing::error!(
                    reason, %error,
                    "delivery {id} ({guid}) cannot be marked dead; it will be retried"
                );
            }
        }
    }

    /// Returns deliveries to the inbox for a later attempt. One whose failure counts as an attempt
    /// is marked dead after the last; the others keep their number of attempts.
    async fn retry_or_release(
        &self,
        deliveries: &[&UnfinishedDelivery],
        finished: &[FinishedDelivery],
        error: &BatchError,
    ) {
        let counts = error.counts_as_attempt();
        let (exhausted, retried): (Vec<_>, Vec<_>) = deliveries
            .iter()
            .partition(|delivery| counts && delivery.attempts >= MAX_ATTEMPTS);
        for delivery in exhausted {
            let reason = format!("gave up after {MAX_ATTEMPTS} attempts: {error}");
            self.mark_dead(delivery, &reason).await;
        }
        let finished = finished.iter().map(FinishedDelivery::id);
        let ids: Vec<_> = retried.iter().map(|row| row.id).chain(finished).collect();
        if ids.is_empty() {
            return;
        }
        let attempts = retried.iter().map(|row| row.attempts).max().unwrap_or(1);
        tracing::warn!(
            deliveries = ids.len(), attempts, %error,
            "attempt {attempts} of deliveries {} failed; retrying", IdList(&ids)
        );
        counter!(RETRIES).increment(ids.len() as u64);
        self.return_to_inbox(&ids, &error.to_string(), attempts, counts)
            .await;
    }

    /// Makes deliveries due again. Repeats that for as long as the database fails, as it often does
    /// when it failed the attempt: until then no other worker may claim them.
    async fn return_to_inbox(
        &self,
        ids: &[DeliveryId],
        reason: &str,
        attempts: u32,
        counts_as_attempt: bool,
    ) {
        let mut failures = 0;
        loop {
            let now = Utc::now();
            let next_attempt = now + delay(RETRY, attempts);
            let returned = match counts_as_attempt {
                true => self.store.retry(ids, reason, now, next_attempt).await,
                false => self.store.release(ids, reason, now, next_attempt).await,
            };
            match returned {
                Ok(()) | Err(StoreError::Closed) => return,
                Err(error) => wait_for_database(&mut failures, "return", ids, &error).await,
            }
        }
    }
}

fn rows(decoded: &[DecodedRow]) -> Vec<&UnfinishedDelivery> {
    decoded.iter().map(|row| &row.delivery).collect()
}

fn states(ignored: &[IgnoredRow]) -> Vec<FinishedDelivery> {
    ignored.iter().map(IgnoredRow::finished).collect()
}

/// Returns the span of one delivery: a root, since a batch is no part of its story. Its level is
/// that of errors, so that a filter which shows the lines inside shows the span too.
fn delivery_span(delivery: &UnfinishedDelivery) -> Span {
    error_span!(
        parent: None,
        "delivery",
        delivery.id = delivery.id.0,
        delivery.guid = delivery.guid,
        event = delivery.event,
        repo = Empty,
        pr = Empty
    )
}

/// Returns the span of what is applied in one transaction: the delivery's own if it is alone.
fn span_of(decoded: &[DecodedRow], ignored: &[IgnoredRow]) -> Span {
    match (decoded, ignored) {
        ([row], []) => row.span(),
        ([], [row]) => delivery_span(&row.delivery),
        _ => {
            let decoded = decoded.iter().map(|row| row.delivery.id);
            let ignored = ignored.iter().map(|row| row.delivery.id);
            ids_span(&decoded.chain(ignored).collect::<Vec<_>>())
        }
    }
}

/// Returns the span of deliveries of which only the ids are known, or of a batch.
fn ids_span(ids: &[DeliveryId]) -> Span {
    error_span!(parent: None, "batch", delivery.ids = %IdList(ids))
}

/// Ids as a log line shows them: `1, 2, 3`.
struct IdList<'a>(&'a [DeliveryId]);

impl fmt::Display for IdList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, id) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{id}")?;
        }
        Ok(())
    }
}

/// Waits for the database: a claimed delivery is known to this worker and the inbox alone.
async fn wait_for_database(
    failures: &mut u32,
    step: &'static str,
    ids: &[DeliveryId],
    error: &StoreError,
) {
    tracing::error!(%error, "cannot {step} deliveries {}; retrying", IdList(ids));
    *failures += 1;
    tokio::time::sleep(delay(DATABASE_RETRY, *failures)).await;
}

fn delay(backoff: Backoff, failures: u32) -> Duration {
    backoff.jittered(failures, rand::random_range(0.0..1.0))
}

fn count(decoded: &[DecodedRow], finished: &[FinishedDelivery], now: Moment) {
    let outcomes: BTreeMap<DeliveryId, &'static str> = finished
        .iter()
        .map(|one| (one.id(), one.outcome()))
        .collect();
    for DecodedRow { delivery, .. } in decoded {
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
