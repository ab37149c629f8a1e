//! GitHub's rate limits, as its responses announce them.
//!
//! A limit is a response with 403 or 429. `Retry-After` has the time to wait; else
//! `X-RateLimit-Remaining: 0` means that the hour's allowance is used up until `X-RateLimit-Reset`;
//! else it is a secondary limit of unspecified length, after which the client waits for a minute,
//! then for two, then for four. A 403 without any of these signs is about rights.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use tallyhook_core::backoff::Backoff;

use super::http::{retry_after, server_time};
use super::request::Principal;

/// The longest wait for a limit. GitHub's windows last an hour: a reset that is further away is not
/// in seconds.
pub(crate) const MAX_WAIT: Duration = Duration::from_hours(1);
/// A response of the next second is of the same second by GitHub's clock.
const MIN_WAIT: Duration = Duration::from_secs(1);
/// The waits after secondary limits of unspecified length.
const UNSPECIFIED: Backoff = Backoff {
    first: Duration::from_mins(1),
    max: MAX_WAIT,
};

/// A rate limit that a response announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateLimit {
    pub(crate) wait: Duration,
    /// A secondary limit whose length the response does not specify.
    pub(crate) unspecified: bool,
}

/// The limits of an account that were hit, and the requests that wait for them.
#[derive(Default)]
pub(crate) struct RateLimitBlocks(Mutex<BTreeMap<BlockScope, DateTime<Utc>>>);

/// The requests that one limit blocks. Requests without the client's own credentials have limits of
/// their own, which are far lower and must not stop everything else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum BlockScope {
    Own,
    Anonymous,
    OauthClient,
}

impl RateLimitBlocks {
    /// Blocks the principal's requests for `wait`, or longer if they are blocked for longer
    /// already. Returns the end.
    pub(crate) fn block(
        &self,
        principal: Principal,
        wait: Duration,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let mut blocks = self.0.lock();
        let until = blocks.entry(scope(principal)).or_insert(now);
        *until = (*until).max(now + wait);
        *until
    }

    /// Returns the end of the block of the principal's requests, if they are blocked.
    pub(crate) fn blocked_until(
        &self,
        principal: Principal,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let until = self.0.lock().get(&scope(principal)).copied();
        until.filter(|until| *until > now)
    }
}

const fn scope(principal: Principal) -> BlockScope {
    match principal {
        Principal::Token | Principal::App | Principal::Installation(_) => BlockScope::Own,
        Principal::Anonymous => BlockScope::Anonymous,
        Principal::OauthClient => BlockScope::OauthClient,
    }
}

/// Returns the limit that a REST response announces, if it is one. `unspecified` counts the limits
/// of unspecified length before it.
pub(crate) fn rate_limit(
    status: StatusCode,
    headers: &HeaderMap,
    message: &str,
    unspecified: u32,
    now: DateTime<Utc>,
) -> Option<RateLimit> {
    if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let is_limit = retry_after(headers, now).is_some()
        || remaining(headers) == Some(0)
        || status == StatusCode::TOO_MANY_REQUESTS
        || headers.contains_key("gh-limited-by")
        || is_secondary(message);
    is_limit.then(|| limit_length(headers, unspecified, now))
}

/// Returns the length of a limit, for a response that is known to be one.
pub(crate) fn limit_length(headers: &HeaderMap, unspecified: u32, now: DateTime<Utc>) -> RateLimit {
    let used_up = || {
        if remaining(headers) == Some(0) {
            until_reset(headers, now)
        } else {
            None
        }
    };
    match retry_after(headers, now).or_else(used_up) {
        Some(wait) => RateLimit {
            wait,
            unspecified: false,
        },
        None => RateLimit {
            wait: UNSPECIFIED.delay(unspecified + 1),
            unspecified: true,
        },
    }
}

/// Returns whether an error message is that of a secondary limit.
pub(crate) fn is_secondary(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("secondary rate limit")
        || message.contains("abuse detection")
        // After many refused tokens, of whichever account.
        || message.contains("number of login attempts exceeded")
}

/// Returns the rest of the hour's allowance; `None` where there is no limit.
pub(crate) fn remaining(headers: &HeaderMap) -> Option<u64> {
    number(headers, "x-ratelimit-remaining")
}

/// Returns the whole allowance of an hour.
pub(crate) fn limit(headers: &HeaderMap) -> Option<u64> {
    number(headers, "x-ratelimit-limit")
}

/// Returns the allowance that a response counted against. An unknown one is `other`: the values of
/// a metric label must not be the server's choice.
pub(crate) fn resource(headers: &HeaderMap) -> &'static str {
    const KNOWN: [&str; 4] = ["core", "graphql", "search", "code_search"];
    let named = text(headers, "x-ratelimit-resource").unwrap_or("core");
    KNOWN
        .into_iter()
        .find(|known| *known == named)
        .unwrap_or("other")
}

/// Returns the time until the allowance is full again, at least a second and at most an hour.
pub(crate) fn until_reset(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let reset = number(headers, "x-ratelimit-reset")?;
    // Beyond the largest date: milliseconds, or nonsense.
    let reset =
        DateTime::from_timestamp(i64::try_from(reset).ok()?, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    // The reset is in whole seconds, and may lie within the second that it names.
    let wait = (reset - server_time(headers).unwrap_or(now))
        .checked_add(&TimeDelta::seconds(1))
        .unwrap_or(TimeDelta::MAX);
    Some(wait.to_std().unwrap_or_default().clamp(MIN_WAIT, MAX_WAIT))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_772_445_600;

    fn wait(
        status: u16,
        headers: &[(&'static str, &str)],
        message: &str,
        unspecified: u32,
    ) -> Option<u64> {
        let headers = headers.iter().map(|(name, value)| {
            (
                reqwest::header::HeaderName::from_static(name),
                reqwest::header::HeaderValue::from_str(value).unwrap(),
            )
        });
        let now = DateTime::from_timestamp(NOW, 0).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        rate_limit(status, &headers.collect(), message, unspecified, now)
            .map(|limit| limit.wait.as_secs())
    }

    #[test]
    fn retry_after_takes_precedence_over_the_reset() {
        let used_up = [
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1772447400"),
            ("retry-after", "8"),
        ];
        assert_eq!(wait(403, &used_up, "", 0), Some(8));
        assert_eq!(wait(429, &[("retry-after", "0")], "", 0), Some(1));
        let date = ("retry-after", "Mon, 02 Mar 2026 10:00:30 GMT");
        assert_eq!(wait(429, &[date], "", 0), Some(30));
        assert_eq!(
            wait(
                429,
                &[date, ("date", "Mon, 02 Mar 2026 10:00:10 GMT")],
                "",
                0
            ),
            Some(20)
        );
        assert_eq!(
            wait(
                429,
                &[("retry-after", "Mon, 02 Mar 2026 09:00:00 GMT")],
                "",
                0
            ),
            Some(1)
        );
        // A value that is no time counts as absent.
        assert_eq!(wait(429, &[("retry-after", "soon")], "", 0), Some(60));
    }

    #[test]
    fn used_up_allowance_is_waited_for_until_its_reset_within_the_hour() {
        let at = |reset: &str, date: Option<&str>| {
            let mut headers = vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)];
            headers.extend(date.map(|date| ("date", date)));
            wait(403, &headers, "API rate limit exceeded", 0)
        };
        assert_eq!(at("1772445900", None), Some(301));
        assert_eq!(
            at("1772445900", Some("Mon, 02 Mar 2026 10:04:00 GMT")),
            Some(61)
        );
        assert_eq!(at("1772445000", None), Some(1));
        assert_eq!(at("1772445900000", None), Some(3600));
        assert_eq!(at("9223372036854775807", None), Some(3600));
        assert_eq!(at("never", None), Some(60));
    }

    #[test]
    fn secondary_limit_of_unspecified_length_doubles_the_wait() {
        let message = "You have exceeded a secondary rate limit. Please wait a few minutes";
        let left = ("x-ratelimit-remaining", "4000");
        for unspecified in 0..3 {
            assert_eq!(
                wait(403, &[left], message, unspecified),
                Some(60 << unspecified)
            );
            assert_eq!(
                wait(403, &[left, ("gh-limited-by", "search")], "", unspecified),
                Some(60 << unspecified)
            );
            assert_eq!(wait(429, &[], "", unspecified), Some(60 << unspecified));
        }
        assert_eq!(
            wait(
                403,
                &[],
                "You have triggered an abuse detection mechanism",
                0
            ),
            Some(60)
        );
    }

    #[test]
    fn response_about_rights_or_of_another_status_is_no_limit() {
        assert_eq!(
            wait(
                403,
                &[("x-ratelimit-remaining", "4000")],
                "Must have admin rights",
                0
            ),
            None
        );
        assert_eq!(
            wait(
                403,
                &[],
                "Resource not accessible by personal access token",
                0
            ),
            None
        );
        for status in [200, 401, 404, 422, 503] {
            assert_eq!(
                wait(status, &[("retry-after", "8")], "secondary rate limit", 0),
                None
            );
        }
    }
}
