//! Counts of a client's requests, as the API shows them.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use reqwest::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::budget::RateAllowance;
use super::circuit_breaker::BreakerStatus;
use super::error::GithubError;

/// Requests since the client was made, and the state of its limits.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Statistics)]
pub struct ClientStatistics {
    /// All requests, with those that failed or were retried.
    pub requests: u64,
    /// Requests that were answered with an error, or not at all.
    pub failed: u64,
    /// Requests by the class of their status, such as `2xx`; `none` of those without a response.
    pub by_status: BTreeMap<&'static str, u64>,
    /// The hourly allowances, as GitHub announced them last; empty where it has no limits.
    pub allowances: Vec<RateAllowance>,
    pub breaker: BreakerStatus,
    /// The error of the last call that failed.
    pub last_error: Option<String>,
}

/// Counts the requests of a client.
#[derive(Default)]
pub(crate) struct RequestCounter(Mutex<RequestCounts>);

#[derive(Default)]
struct RequestCounts {
    requests: u64,
    failed: u64,
    by_status: BTreeMap<&'static str, u64>,
    last_error: Option<String>,
}

impl RequestCounter {
    /// Counts one request with its status; `None` without a response.
    pub(crate) fn record(&self, status: Option<StatusCode>) {
        const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let class = status
            .and_then(|status| CLASSES.get(usize::from(status.as_u16() / 100).wrapping_sub(1)));
        let mut counts = self.0.lock();
        counts.requests += 1;
        counts.failed += u64::from(
            status.is_none_or(|status| status.is_client_error() || status.is_server_error()),
        );
        *counts
            .by_status
            .entry(class.copied().unwrap_or("none"))
            .or_default() += 1;
    }

    pub(crate) fn record_error(&self, error: &GithubError) {
        self.0.lock().last_error = Some(error.to_string());
    }

    /// Returns the number of requests, with those that failed or were retried.
    pub(crate) fn requests(&self) -> u64 {
        self.0.lock().requests
    }

    pub(crate) fn statistics(
        &self,
        allowances: Vec<RateAllowance>,
        breaker: BreakerStatus,
    ) -> ClientStatistics {
        let RequestCounts {
            requests,
            failed,
            by_status,
            last_error,
        } = &*self.0.lock();
        ClientStatistics {
            requests: *requests,
            failed: *failed,
            by_status: by_status.clone(),
            allowances,
            breaker,
            last_error: last_error.clone(),
        }
    }
}
