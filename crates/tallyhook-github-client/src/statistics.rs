//! What a client did so far, and how it stands with GitHub.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::breaker::BreakerStatus;
use super::budget::Allowance;
use super::{Client, GithubError};

/// Since the client was made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Statistics {
    /// Requests, those that failed or were repeated too.
    pub requests: u64,
    /// Of these: answered with an error, or not at all.
    pub failed: u64,
    /// Requests by the class of their status, as `2xx`; `none` of those without an answer.
    pub by_status: BTreeMap<&'static str, u64>,
    /// What GitHub told last; empty where it has no limits.
    pub allowances: Vec<Allowance>,
    pub breaker: BreakerStatus,
    /// Of the last call that came to nothing.
    pub last_error: Option<String>,
}

#[derive(Default)]
pub(super) struct Tally(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    requests: u64,
    failed: u64,
    by_status: BTreeMap<&'static str, u64>,
    last_error: Option<String>,
}

impl Tally {
    /// One more request, and what it was answered with.
    pub(super) fn count(&self, status: Option<StatusCode>) {
        const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let class = status
            .and_then(|status| CLASSES.get(usize::from(status.as_u16() / 100).wrapping_sub(1)));
        let mut counts = self.counts();
        counts.requests += 1;
        counts.failed += u64::from(
            status.is_none_or(|status| status.is_client_error() || status.is_server_error()),
        );
        *counts
            .by_status
            .entry(class.copied().unwrap_or("none"))
            .or_default() += 1;
    }

    pub(super) fn came_to(&self, error: &GithubError) {
        self.counts().last_error = Some(error.to_string());
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// How many requests were made, those that failed or were repeated too.
    pub fn requests(&self) -> u64 {
        self.shared.tally.counts().requests
    }

    /// How many of them were made by this handle and its clones.
    pub fn requests_of_handle(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// What all handles of this client did together.
    pub fn statistics(&self) -> Statistics {
        let breaker = self.shared.breaker().status(self.shared.clock.now());
        let allowances = self.shared.budget.allowances();
        let Counts {
            requests,
            failed,
            by_status,
            last_error,
        } = &*self.shared.tally.counts();
        Statistics {
            requests: *requests,
            failed: *failed,
            by_status: by_status.clone(),
            allowances,
            breaker,
            last_error: last_error.clone(),
        }
    }
}
