//! The time that a client goes by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

/// Tells what time it is, and waits.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    /// Passes only by waiting, and then at once: tests wait for hours in no time.
    Virtual(VirtualTime),
}

/// A time that stands still between waits.
#[derive(Clone, Debug)]
pub struct VirtualTime(Arc<Mutex<Passed>>);

#[derive(Debug)]
struct Passed {
    now: DateTime<Utc>,
    waits: Vec<Duration>,
}

impl VirtualTime {
    pub fn starting_at(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(Passed {
            now,
            waits: Vec::new(),
        })))
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.passed().now
    }

    /// Every wait so far, in order.
    pub fn waits(&self) -> Vec<Duration> {
        self.passed().waits.clone()
    }

    /// Lets so much time pass without anybody waiting for it.
    pub fn pass(&self, duration: Duration) {
        self.passed().now += duration;
    }

    fn wait(&self, duration: Duration) {
        self.pass(duration);
        self.passed().waits.push(duration);
    }

    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    pub(super) fn now(&self) -> DateTime<Utc> {
        match self {
            Self::System => Utc::now(),
            Self::Virtual(time) => time.now(),
        }
    }

    pub(super) async fn wait(&self, duration: Duration) {
        match self {
            Self::System => tokio::time::sleep(duration).await,
            Self::Virtual(time) => time.wait(duration),
        }
    }
}
