//! The loop of the workers that follow the outbox.

use std::convert::Infallible;
use std::time::Duration;

use tallyhook_store::{LeaderRole, Result, Store};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{LeaderWork, Leadership, while_leading};

/// The interval at which a worker runs without a notification.
const TICK: Duration = Duration::from_secs(5);
/// The pause after a failure of the database.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A worker that handles what enters the outbox or becomes due.
#[async_trait::async_trait]
pub trait OutboxWorker: Send {
    /// The log line for a failure of the database.
    const ERROR_MESSAGE: &str;

    /// Handles everything that is new or due. Cancel-safe.
    async fn run_once(&mut self) -> Result<()>;
}

/// Runs a worker in every process, on every notification of the outbox and every few seconds, until `stopping` becomes
/// true.
pub async fn run_worker<W: OutboxWorker>(
    store: &Store,
    mut stopping: watch::Receiver<bool>,
    worker: &mut W,
) {
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = retry_forever(store, worker, || true) => {}
    }
}

/// Runs a worker like [`run_worker`], but only while this process holds `role`.
pub async fn lead_worker<W: OutboxWorker>(
    store: &Store,
    role: LeaderRole,
    stopping: watch::Receiver<bool>,
    worker: &mut W,
) {
    while_leading(store, role, stopping, &mut LeadingWorker { store, worker }).await;
}

/// An outbox worker as the work of a leader role.
struct LeadingWorker<'a, W> {
    store: &'a Store,
    worker: &'a mut W,
}

impl<W: OutboxWorker> LeaderWork for LeadingWorker<'_, W> {
    async fn lead(&mut self, leadership: &Leadership<'_>) {
        leadership
            .run_until_ended(retry_forever(self.store, self.worker, || {
                // A process that was suspended may have lost the role without noticing yet.
                leadership.lease().is_held()
            }))
            .await;
    }
}

async fn retry_forever<W: OutboxWorker>(store: &Store, worker: &mut W, may_run: impl Fn() -> bool) {
    loop {
        let Err(error) = run_until_error(store, worker, &may_run).await;
        tracing::error!(%error, "{}; retrying", W::ERROR_MESSAGE);
        sleep(RETRY_DELAY).await;
    }
}

async fn run_until_error<W: OutboxWorker>(
    store: &Store,
    worker: &mut W,
    may_run: impl Fn() -> bool,
) -> Result<Infallible> {
    // Listening begins before the first run, so that nothing that is written between the two is missed.
    let mut listener = store.clone().listen().await?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = listener.changed() => changed?,
            _ = ticks.tick() => {}
        }
        if may_run() {
            worker.run_once().await?;
        }
    }
}
