//! The last uses of tokens and sessions: noted in memory, and stored once a minute, so that no
//! request waits for a write.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tallyhook_store::{Moment, Store, StoreError, UsedCredential};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// The interval between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);

/// The uses since the last write. There is one entry for each token or session in force that was
/// used, so that the database bounds their number.
#[derive(Debug, Default)]
pub struct RecentUses(Mutex<BTreeMap<UsedCredential, Moment>>);

impl RecentUses {
    pub(super) fn note(&self, used: UsedCredential, at: Moment) {
        self.0.lock().insert(used, at);
    }

    /// Stores the uses once a minute and at the end.
    pub async fn run(&self, store: &Store, mut stopping: watch::Receiver<bool>) {
        let mut ticks = interval(WRITE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stops = tokio::select! {
                _ = ticks.tick() => false,
                _ = stopping.wait_for(|stops| *stops) => true,
            };
            self.write(store).await;
            if stops {
                return;
            }
        }
    }

    async fn write(&self, store: &Store) {
        let uses: Vec<_> = std::mem::take(&mut *self.0.lock()).into_iter().collect();
        if uses.is_empty() {
            return;
        }
        match store.record_uses(&uses).await {
            Ok(()) | Err(StoreError::Closed) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot store the last uses of tokens; retrying: {error}");
                let mut recent = self.0.lock();
                for (used, at) in uses {
                    recent.entry(used).or_insert(at);
                }
            }
        }
    }
}
