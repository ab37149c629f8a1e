//! The watch over the database: examines each second whether it can store, and keeps SQLite's
//! write-ahead log small.

use std::time::Duration;

use metrics::gauge;
use tallyhook_store::{StorageReport, Store};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::telemetry::{DATABASE_FREE, DATABASE_WAL, DATABASE_WRITABLE};

const TICK: Duration = Duration::from_secs(1);
const TRUNCATE_INTERVAL: Duration = Duration::from_hours(1);
/// The pause after a reader was in the way.
const TRUNCATE_RETRY: Duration = Duration::from_mins(1);

pub(super) struct StorageWatch {
    store: Store,
    /// The last examination found a fault, which was logged.
    is_failing: bool,
    is_low: bool,
    next_truncation: Instant,
}

impl StorageWatch {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            is_failing: false,
            is_low: false,
            next_truncation: Instant::now() + TRUNCATE_INTERVAL,
        }
    }

    pub(super) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let rounds = async {
            loop {
                ticks.tick().await;
                let report = self.store.examine().await;
                self.log(&report);
                set_gauges(&report);
                if Instant::now() >= self.next_truncation {
                    self.truncate_wal().await;
                }
            }
        };
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => {}
            () = rounds => {}
        }
    }

    /// Logs changes: a fault may last for days.
    fn log(&mut self, report: &StorageReport) {
        match &report.fault {
            Some((fault, why)) if !self.is_failing => tracing::error!(
                fault = fault.as_str(),
                "the database cannot store now, /readyz answers 503: {why}"
            ),
            None if self.is_failing => tracing::info!("the database can store again"),
            _ => {}
        }
        if report.is_low() && !self.is_low && report.fault.is_none() {
            let free = report.free_bytes.unwrap_or(0) >> 20;
            tracing::warn!(
                free,
                "only {free} MiB are free on the disk of the database: free some space, or lower \
                 DELIVERY_RETENTION_DAYS"
            );
        }
        self.is_failing = report.fault.is_some();
        self.is_low = report.is_low();
    }

    async fn truncate_wal(&mut self) {
        let pause = match self.store.truncate_wal().await {
            Ok(true) => TRUNCATE_INTERVAL,
            Ok(false) => TRUNCATE_RETRY,
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log cannot be shortened now: {error}");
                TRUNCATE_RETRY
            }
        };
        self.next_truncation = Instant::now() + pause;
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "gauges are f64, exact up to 2^53 bytes"
)]
fn set_gauges(report: &StorageReport) {
    gauge!(DATABASE_WRITABLE).set(if report.fault.is_none() { 1.0 } else { 0.0 });
    if let Some(free) = report.free_bytes {
        gauge!(DATABASE_FREE).set(free as f64);
    }
    if let Some(bytes) = report.wal_bytes {
        gauge!(DATABASE_WAL).set(bytes as f64);
    }
}
