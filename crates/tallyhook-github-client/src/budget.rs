//! The request budget, in which live work goes before backfill.
//!
//! Backfill has few of the places among the requests in flight, and live work none the fewer for it; of each allowance
//! backfill leaves a part to live work.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;
use serde::Serialize;
use tallyhook_core::github::types::{InstallationId, Timestamp};
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa::ToSchema;

use super::installations::Whose;
use super::limits;

/// Requests in flight. GitHub refuses a hundred at once, and other programs may use the same token.
const LIVE: usize = 8;
const BACKFILL: usize = 2;
/// Backfill leaves one part in so many.
const RESERVED: u64 = 5;

/// Whether somebody waits for what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    Live,
    Backfill,
}

pub(super) struct Budget {
    live: Semaphore,
    backfill: Semaphore,
    allowances: Mutex<BTreeMap<(Whose, &'static str), Allowance>>,
}

/// What GitHub allows within an hour, as it told last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Allowance {
    /// `core` for REST, `graphql`, or another of GitHub's.
    pub resource: &'static str,
    /// Of an App's installation; `null` with a token.
    pub installation: Option<InstallationId>,
    /// Requests, or points for `graphql`.
    pub limit: u64,
    pub remaining: u64,
    /// By this machine's clock.
    pub resets_at: Timestamp,
}

impl Default for Budget {
    fn default() -> Self {
        let (live, backfill) = (Semaphore::new(LIVE), Semaphore::new(BACKFILL));
        Self {
            live,
            backfill,
            allowances: Mutex::default(),
        }
    }
}

impl Budget {
    /// A place among the requests in flight, once there is one; `None` never comes, since nobody closes them.
    pub(super) async fn place(&self, priority: Priority) -> Option<SemaphorePermit<'_>> {
        let places = match priority {
            Priority::Live => &self.live,
            Priority::Backfill => &self.backfill,
        };
        places.acquire().await.ok()
    }

    /// Notes what an answer tells; one that tells nothing counts against nothing.
    pub(super) fn learn(&self, whose: Whose, headers: &HeaderMap, now: DateTime<Utc>) {
        let told = limits::allowed(headers)
            .zip(limits::remaining(headers))
            .zip(limits::until_reset(headers, now));
        if let Some(((limit, remaining), wait)) = told {
            let installation = match whose {
                Whose::Installation(id) => Some(id),
                Whose::Token | Whose::App => None,
            };
            let resource = limits::resource(headers);
            let resets_at = Timestamp::from(now + wait);
            let allowance = Allowance {
                resource,
                installation,
                limit,
                remaining,
                resets_at,
            };
            self.known().insert((whose, resource), allowance);
        }
    }

    /// How long backfill has to wait, where nothing is left of `resource` but what live work may need.
    pub(super) fn reserved_for(
        &self,
        whose: Whose,
        resource: &'static str,
        now: DateTime<Utc>,
    ) -> Option<Duration> {
        let known = self.known();
        let allowance = known.get(&(whose, resource))?;
        let is_reserve = allowance.remaining < allowance.limit / RESERVED;
        (allowance.resets_at.to_utc() - now)
            .to_std()
            .ok()
            .filter(|wait| is_reserve && !wait.is_zero())
    }

    pub(super) fn allowances(&self) -> Vec<Allowance> {
        self.known().values().cloned().collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<(Whose, &'static str), Allowance>> {
        self.allowances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn backfill_takes_no_place_of_live_work() {
        let budget = Budget::default();
        let place = |priority| budget.place(priority).now_or_never().flatten();
        let mut backfill: Vec<_> = std::iter::from_fn(|| place(Priority::Backfill)).collect();
        let live: Vec<_> = std::iter::from_fn(|| place(Priority::Live)).collect();
        assert_eq!((backfill.len(), live.len()), (2, 8));
        backfill.pop();
        assert!(place(Priority::Live).is_none() && place(Priority::Backfill).is_some());
    }

    #[test]
    fn what_is_reserved_is_so_for_whom_and_of_what_it_was_told() {
        let budget = Budget::default();
        let now = DateTime::from_timestamp(1_772_445_600, 0).unwrap();
        let learn = |whose, resource: &str, remaining: &str| {
            let told = [
                ("x-ratelimit-limit", "5000"),
                ("x-ratelimit-remaining", remaining),
                ("x-ratelimit-reset", "1772445900"),
                ("x-ratelimit-resource", resource),
            ];
            let headers = told.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            budget.learn(whose, &headers.into_iter().collect(), now);
        };
        let one = Whose::Installation(InstallationId(1));
        learn(one, "core", "999");
        learn(one, "graphql", "1000");
        learn(Whose::Installation(InstallationId(2)), "core", "4000");
        let wait = |whose, resource, at: i64| {
            budget
                .reserved_for(whose, resource, now + chrono::TimeDelta::seconds(at))
                .map(|wait| wait.as_secs())
        };
        assert_eq!(
            (wait(one, "core", 0), wait(one, "core", 301)),
            (Some(301), None)
        );
        assert_eq!(
            (
                wait(one, "graphql", 0),
                wait(Whose::Installation(InstallationId(2)), "core", 0)
            ),
            (None, None)
        );
        assert_eq!(wait(Whose::Token, "core", 0), None);
    }
}
