//! Leader election among the processes of one database, and the loop of the workers that follow the outbox.

mod lease;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tallyhook_store::{LeaderRole, Result, Store};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub use self::lease::LeaderLease;

/// How often a worker runs without a notification, and how often it renews its role, which expires after ten seconds.
const TICK: Duration = Duration::from_secs(5);
/// The pause after a failure of the database.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A worker that handles what enters the outbox or becomes due.
#[async_trait::async_trait]
pub trait OutboxWorker: Send {
    /// The log line for a failure of the database.
    const ERROR_MESSAGE: &str;
    /// The role that one process at a time holds; `None` if the workers of all processes run.
    const ROLE: Option<LeaderRole> = None;

    /// Handles everything that is new or due. Cancel-safe.
    async fn run_once(&mut self) -> Result<()>;
}

/// Runs a worker on every notification of the outbox and every few seconds, until `stopping` becomes true. A worker with a
/// role runs only while this process holds it.
pub async fn run_worker<W: OutboxWorker>(
    store: &Arc<dyn Store>,
    mut stopping: watch::Receiver<bool>,
    worker: &mut W,
) {
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        never = retry_forever(store, worker) => match never {},
    }
    if let Some(role) = W::ROLE {
        store.release_role(role).await;
    }
}

async fn retry_forever<W: OutboxWorker>(store: &Arc<dyn Store>, worker: &mut W) -> Infallible {
    loop {
        let Err(error) = run_until_error(store, worker).await;
        tracing::error!(%error, "{}; trying again", W::ERROR_MESSAGE);
        sleep(RETRY_DELAY).await;
    }
}

async fn run_until_error<W: OutboxWorker>(
    store: &Arc<dyn Store>,
    worker: &mut W,
) -> Result<Infallible> {
    let mut listener = store.clone().listen().await?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = listener.heard() => changed?,
            _ = ticks.tick() => {}
        }
        let is_leader = match W::ROLE {
            Some(role) => store.acquire_role(role).await?,
            None => true,
        };
        if is_leader {
            worker.run_once().await?;
        }
    }
}
