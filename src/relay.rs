//! The sweeper: hands rows that are due to the queue, and clears away what is old.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::queue::{HANDED_OVER_AGAIN, Lane, Permit, Queue};
use crate::store::{Purged, Store, StoreError};
use crate::telemetry;

/// How often rows that became due are looked for, when nothing else says that there are some.
const TICK: Duration = Duration::from_secs(1);
/// The most rows of one sweep.
const SWEEP: usize = 512;
const CLEANING: Duration = Duration::from_hours(1);
/// Keys outlive bodies, so that a late repetition is still known as one.
const KEY_DAYS: i64 = 30;
const PURGE: u32 = 500;

/// The sweeper of one process.
pub struct Relay {
    pub store: Arc<dyn Store>,
    pub queue: Arc<Queue>,
    pub retention_days: u32,
    /// Becomes true when it is to end.
    pub stopping: watch::Receiver<bool>,
}

impl Relay {
    pub async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_cleaning = Instant::now() + TICK;
        // Whether the inbox may hold more than the queue had room for.
        let mut more = true;
        loop {
            let ticked = tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
                _ = ticks.tick() => true,
                () = self.queue.taken() => false,
            };
            if ticked {
                // Histograms hold every sample until this is called, whether or not anybody reads /metrics.
                telemetry::prometheus().run_upkeep();
            }
            more |= self.queue.take_left_behind();
            if ticked || more {
                more = self.sweep().await;
            }
            if Instant::now() >= next_cleaning {
                next_cleaning = Instant::now() + if self.clean().await { TICK } else { CLEANING };
            }
        }
    }

    /// Fills the queue from the inbox. Whether there may be more.
    async fn sweep(&self) -> bool {
        let mut more = false;
        for lane in [Lane::Live, Lane::Backfill] {
            match self.sweep_lane(lane).await {
                Ok(left) => more |= left,
                Err(StoreError::Closed) => return false,
                Err(error) => tracing::error!(%error, "the inbox could not be swept; trying again"),
            }
        }
        more
    }

    async fn sweep_lane(&self, lane: Lane) -> Result<bool, StoreError> {
        // A queue that is half full is left alone: one larger sweep is cheaper than many small ones.
        if self.queue.room(lane) < SWEEP {
            return Ok(true);
        }
        let room: Vec<Permit> = std::iter::from_fn(|| self.queue.try_reserve(lane)).take(SWEEP).collect();
        let now = Utc::now();
        let limit = u32::try_from(room.len()).unwrap_or(u32::MAX);
        let due = self.store.take_due(lane, limit, now, now + HANDED_OVER_AGAIN).await?;
        crate::crash_point!("relay.swept");
        let full = due.len() == room.len();
        for (permit, id) in room.into_iter().zip(due) {
            permit.send(id);
        }
        Ok(full)
    }

    /// Clears away one portion. Whether there may be more.
    async fn clean(&self) -> bool {
        let now = Utc::now();
        let bodies_before = now - TimeDelta::days(self.retention_days.into());
        let rows_before = (now - TimeDelta::days(KEY_DAYS)).min(bodies_before);
        match self.store.purge(bodies_before, rows_before, PURGE).await {
            Ok(Purged { bodies: 0, rows: 0 }) => false,
            Ok(Purged { bodies, rows }) => {
                tracing::info!(bodies, rows, "old deliveries were cleared away");
                true
            }
            Err(error) => {
                tracing::error!(%error, "old deliveries could not be cleared away; trying again in an hour");
                false
            }
        }
    }
}
