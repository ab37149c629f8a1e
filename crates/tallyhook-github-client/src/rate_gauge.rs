//! The gauge of the remaining rate. A process has many accounts, and the one that is closest to its
//! limit is the one to look at.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::gauge;
use parking_lot::Mutex;
use reqwest::header::HeaderMap;

use super::rate_limit;
use super::request::Principal;

/// The rest of the allowance, by resource: the least over all accounts.
pub const RATE_REMAINING: &str = "tallyhook_github_rate_remaining";

/// The time for which a value counts that has no reset.
const WITHOUT_RESET: Duration = Duration::from_hours(1);

/// The number of an account within its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GaugeKey(u64);

/// The latest remaining rates of every account.
#[derive(Default)]
pub(crate) struct RateGauge {
    keys: AtomicU64,
    rates: Mutex<BTreeMap<(GaugeKey, Principal, &'static str), RemainingRate>>,
}

struct RemainingRate {
    remaining: u64,
    /// The account has its whole allowance again after that.
    until: DateTime<Utc>,
}

impl RateGauge {
    /// Returns a number that no other account has.
    pub(crate) fn key(&self) -> GaugeKey {
        GaugeKey(self.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// Records the rate that a response announces, and sets the gauge to the least one. Returns the
    /// announced one.
    ///
    /// The limits of requests without an account, such as 60 an hour, are not among them.
    pub(crate) fn record(
        &self,
        key: GaugeKey,
        principal: Principal,
        headers: &HeaderMap,
        now: DateTime<Utc>,
    ) -> Option<u64> {
        let remaining = rate_limit::remaining(headers)?;
        if matches!(principal, Principal::Anonymous | Principal::OauthClient) {
            return Some(remaining);
        }
        let resource = rate_limit::resource(headers);
        let until = now + rate_limit::until_reset(headers, now).unwrap_or(WITHOUT_RESET);
        let rate = RemainingRate { remaining, until };
        self.rates.lock().insert((key, principal, resource), rate);
        let least = self.least(resource, now).unwrap_or(remaining);
        gauge!(RATE_REMAINING, "resource" => resource)
            .set(f64::from(u32::try_from(least).unwrap_or(u32::MAX)));
        Some(remaining)
    }

    /// Forgets the rates of an account that has ended.
    pub(crate) fn forget(&self, key: GaugeKey) {
        self.rates.lock().retain(|(known, ..), _| *known != key);
    }

    /// Returns the least of the rates that still count.
    fn least(&self, resource: &str, now: DateTime<Utc>) -> Option<u64> {
        let mut rates = self.rates.lock();
        rates.retain(|_, rate| rate.until > now);
        let of_resource = rates
            .iter()
            .filter(|((.., known), _)| *known == resource)
            .map(|(_, rate)| rate.remaining);
        of_resource.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauge_is_the_least_over_all_accounts_that_have_not_been_reset_or_ended() {
        let gauge = RateGauge::default();
        let now = DateTime::from_timestamp(1_772_445_600, 0).unwrap();
        let record = |key, principal, remaining: &str, reset: &str| {
            let announced = [
                ("x-ratelimit-remaining", remaining),
                ("x-ratelimit-reset", reset),
            ];
            let headers =
                announced.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            gauge.record(key, principal, &headers.into_iter().collect(), now);
            gauge.least("core", now)
        };
        let (one, two) = (gauge.key(), gauge.key());
        let (soon, late) = ("1772445900", "1772447400");
        assert_eq!(record(one, Principal::Token, "100", late), Some(100));
        assert_eq!(record(two, Principal::Token, "4000", late), Some(100));
        assert_eq!(record(two, Principal::App, "20", soon), Some(20));
        assert_eq!(record(two, Principal::Anonymous, "3", late), Some(20));
        assert_eq!(record(two, Principal::OauthClient, "4", late), Some(20));
        assert_eq!(gauge.least("graphql", now), None);
        let later = now + chrono::TimeDelta::seconds(301);
        assert_eq!(gauge.least("core", later), Some(100));
        gauge.forget(one);
        assert_eq!(gauge.least("core", later), Some(4000));
    }
}
