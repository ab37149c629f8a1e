//! The clock of a client.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

/// The source of time and of waiting.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    /// Advances only by waiting, and then at once: tests wait for hours in no time.
    Virtual(VirtualTime),
}

/// A time that stands still between waits.
#[derive(Clone, Debug)]
pub struct VirtualTime(Arc<Mutex<VirtualState>>);

#[derive(Debug)]
struct VirtualState {
    now: DateTime<Utc>,
    waits: Vec<Duration>,
}

impl VirtualTime {
    pub fn starting_at(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(VirtualState {
            now,
            waits: Vec::new(),
        })))
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.0.lock().now
    }

    /// Returns every wait so far, in order.
    pub fn waits(&self) -> Vec<Duration> {
        self.0.lock().waits.clone()
    }

    /// Advances the time without recording a wait.
    pub fn pass(&self, duration: Duration) {
        self.0.lock().now += duration;
    }

    fn wait(&self, duration: Duration) {
        let mut state = self.0.lock();
        state.now += duration;
        state.waits.push(duration);
    }
}

impl Clock {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        match self {
            Self::System => Utc::now(),
            Self::Virtual(time) => time.now(),
        }
    }

    pub(crate) async fn wait(&self, duration: Duration) {
        match self {
            Self::System => tokio::time::sleep(duration).await,
            Self::Virtual(time) => time.wait(duration),
        }
    }
}
