//! The request budget, in which live work has precedence over backfill.
//!
//! Live work and backfill have separate limits of requests in flight, and backfill leaves a part of
//! each hourly allowance to live work.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use reqwest::header::HeaderMap;
use serde::Serialize;
use tallyhook_core::github::types::{InstallationId, Timestamp};
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa::ToSchema;

use super::rate_limit;
use super::request::Principal;

/// Limits of requests in flight. GitHub refuses a hundred at once, and other programs may use the
/// same token.
const LIVE: usize = 8;
const BACKFILL: usize = 2;
/// Backfill leaves a fifth of an allowance to live work.
const RESERVED: u64 = 5;

/// The priority of a request: a person or a deadline waits for live work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestPriority {
    Live,
    Backfill,
}

pub(crate) struct RequestBudget {
    live: Semaphore,
    backfill: Semaphore,
    allowances: Mutex<BTreeMap<(Principal, &'static str), RateAllowance>>,
}

/// An hourly allowance of GitHub's, as its last response announced it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Allowance)]
pub struct RateAllowance {
    /// `core` for REST, `graphql`, or another of GitHub's.
    pub resource: &'static str,
    /// The App's installation that the allowance is of; `null` with a token.
    pub installation: Option<InstallationId>,
    /// Requests, or points for `graphql`.
    pub limit: u64,
    pub remaining: u64,
    /// By this machine's clock.
    pub resets_at: Timestamp,
}

impl Default for RequestBudget {
    fn default() -> Self {
        let (live, backfill) = (Semaphore::new(LIVE), Semaphore::new(BACKFILL));
        Self {
            live,
            backfill,
            allowances: Mutex::default(),
        }
    }
}

impl RequestBudget {
    /// Waits for a permit for one request in flight. Never `None`, since the semaphores are never
    /// closed.
    pub(crate) async fn permit(&self, priority: RequestPriority) -> Option<SemaphorePermit<'_>> {
        let places = match priority {
            RequestPriority::Live => &self.live,
            RequestPriority::Backfill => &self.backfill,
        };
        places.acquire().await.ok()
    }

    /// Records the allowance that a response announces. One without the headers counts against
    /// none.
    pub(crate) fn record_headers(
        &self,
        principal: Principal,
        headers: &HeaderMap,
        now: DateTime<Utc>,
    ) {
        let announced = rate_limit::limit(headers)
            .zip(rate_limit::remaining(headers))
            .zip(rate_limit::until_reset(headers, now));
        if let Some(((limit, remaining), wait)) = announced {
            let installation = match principal {
                Principal::Installation(id) => Some(id),
                Principal::Token
                | Principal::App
                | Principal::Anonymous
                | Principal::OauthClient => None,
            };
            let resource = rate_limit::resource(headers);
            let resets_at = Timestamp::from(now + wait);
            let allowance = RateAllowance {
                resource,
                installation,
                limit,
                remaining,
                resets_at,
            };
            self.allowances
                .lock()
                .insert((principal, resource), allowance);
        }
    }

    /// Returns the time that backfill has to wait because the rest of `resource` is reserved for
    /// live work.
    pub(crate) fn reserve_wait(
        &self,
        principal: Principal,
        resource: &'static str,
        now: DateTime<Utc>,
    ) -> Option<Duration> {
        let allowances = self.allowances.lock();
        let allowance = allowances.get(&(principal, resource))?;
        let is_reserve = allowance.remaining < allowance.limit / RESERVED;
        (allowance.resets_at.to_utc() - now)
            .to_std()
            .ok()
            .filter(|wait| is_reserve && !wait.is_zero())
    }

    pub(crate) fn allowances(&self) -> Vec<RateAllowance> {
        self.allowances.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn backfill_takes_no_permit_of_live_work() {
        let budget = RequestBudget::default();
        let permit = |priority| budget.permit(priority).now_or_never().flatten();
        let mut backfill: Vec<_> =
            std::iter::from_fn(|| permit(RequestPriority::Backfill)).collect();
        let live: Vec<_> = std::iter::from_fn(|| permit(RequestPriority::Live)).collect();
        assert_eq!((backfill.len(), live.len()), (2, 8));
        backfill.pop();
        assert!(
            permit(RequestPriority::Live).is_none() && permit(RequestPriority::Backfill).is_some()
        );
    }

    #[test]
    fn reserve_is_kept_per_principal_and_resource() {
        let budget = RequestBudget::default();
        let now = DateTime::from_timestamp(1_772_445_600, 0).unwrap();
        let record = |principal, resource: &str, remaining: &str| {
            let announced = [
                ("x-ratelimit-limit", "5000"),
                ("x-ratelimit-remaining", remaining),
                ("x-ratelimit-reset", "1772445900"),
                ("x-ratelimit-resource", resource),
            ];
            let headers =
                announced.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            budget.record_headers(principal, &headers.into_iter().collect(), now);
        };
        let one = Principal::Installation(InstallationId(1));
        record(one, "core", "999");
        record(one, "graphql", "1000");
        record(Principal::Installation(InstallationId(2)), "core", "4000");
        let wait = |principal, resource, at: i64| {
            budget
                .reserve_wait(principal, resource, now + chrono::TimeDelta::seconds(at))
                .map(|wait| wait.as_secs())
        };
        assert_eq!(
            (wait(one, "core", 0), wait(one, "core", 301)),
            (Some(301), None)
        );
        assert_eq!(
            (
                wait(one, "graphql", 0),
                wait(Principal::Installation(InstallationId(2)), "core", 0)
            ),
            (None, None)
        );
        assert_eq!(wait(Principal::Token, "core", 0), None);
    }
}
