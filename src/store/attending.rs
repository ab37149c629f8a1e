//! Attending to what enters the outbox or becomes due, for as long as a process runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Part, Result, Store};

/// How often it is looked for what nothing was heard of, and who plays a part, which is lost after ten seconds.
const TICK: Duration = Duration::from_secs(5);
/// How long a database that failed is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// Who attends.
#[async_trait::async_trait]
pub trait Attendant: Send {
    /// What the log says if the database fails.
    const TROUBLE: &str;
    /// What one process at a time plays; `None` if all may act.
    const PART: Option<Part> = None;

    /// Takes care of everything that is new or due. May be cut off at any point.
    async fn act(&mut self) -> Result<()>;
}

/// Lets somebody act at once, whenever there may be something new, and every few seconds, until `stopping` becomes true. Who
/// has a part acts while it is this process's.
pub async fn attend<A: Attendant>(store: &Arc<dyn Store>, mut stopping: watch::Receiver<bool>, attendant: &mut A) {
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        never = go_on(store, attendant) => match never {},
    }
    if let Some(part) = A::PART {
        store.resign(part).await;
    }
}

async fn go_on<A: Attendant>(store: &Arc<dyn Store>, attendant: &mut A) -> Infallible {
    loop {
        let Err(error) = listen(store, attendant).await;
        tracing::error!(%error, "{}; trying again", A::TROUBLE);
        sleep(AGAIN).await;
    }
}

async fn listen<A: Attendant>(store: &Arc<dyn Store>, attendant: &mut A) -> Result<Infallible> {
    let mut ears = store.clone().listen().await?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = ears.heard() => heard?,
            _ = ticks.tick() => {}
        }
        let acts = match A::PART {
            Some(part) => store.lead(part).await?,
            None => true,
        };
        if acts {
            attendant.act().await?;
        }
    }
}
