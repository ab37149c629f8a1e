//! GitHub's rate limits, as its answers tell of them.
//!
//! A limit is answered with 403 or 429. `Retry-After` tells how long to wait; else `X-RateLimit-Remaining: 0` tells
//! that the hour's allowance is used up, until `X-RateLimit-Reset`; else it is a secondary limit, after which one
//! waits for a minute, then for two, then for four. A 403 without any of these signs is about rights.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// GitHub's windows last an hour: a reset that is further away was not told in seconds.
pub(super) const LONGEST: Duration = Duration::from_hours(1);
/// An answer of the next second is of the same second by GitHub's clock.
const SHORTEST: Duration = Duration::from_secs(1);
/// After a secondary limit that does not tell how long; doubled each time.
const UNTOLD: Duration = Duration::from_mins(1);
/// Whatever `Retry-After` tells, it can be reckoned with.
const YEAR: Duration = Duration::from_hours(24 * 366);

/// A limit that an answer tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) wait: Duration,
    /// A secondary limit that did not tell for how long.
    pub(super) untold: bool,
}

/// The limit that an answer tells of, if it does. `untold` counts the answers before it that did not tell how long.
pub(super) fn limit(
    status: StatusCode,
    headers: &HeaderMap,
    message: &str,
    untold: u32,
    now: DateTime<Utc>,
) -> Option<Limit> {
    if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let is_limit = retry_after(headers, now).is_some()
        || remaining(headers) == Some(0)
        || status == StatusCode::TOO_MANY_REQUESTS
        || headers.contains_key("gh-limited-by")
        || is_secondary(message);
    is_limit.then(|| met(headers, untold, now))
}

/// A limit of which is known that it was met.
pub(super) fn met(headers: &HeaderMap, untold: u32, now: DateTime<Utc>) -> Limit {
    let used_up = || {
        if remaining(headers) == Some(0) {
            until_reset(headers, now)
        } else {
            None
        }
    };
    match retry_after(headers, now).or_else(used_up) {
        Some(wait) => Limit {
            wait,
            untold: false,
        },
        None => Limit {
            wait: UNTOLD * 2_u32.saturating_pow(untold),
            untold: true,
        },
    }
}

/// Whether an error's message tells of a secondary limit.
pub(super) fn is_secondary(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("secondary rate limit") || message.contains("abuse detection")
}

/// What is left of the allowance; `None` where there is no limit.
pub(super) fn remaining(headers: &HeaderMap) -> Option<u64> {
    number(headers, "x-ratelimit-remaining")
}

/// The whole allowance.
pub(super) fn allowed(headers: &HeaderMap) -> Option<u64> {
    number(headers, "x-ratelimit-limit")
}

/// The allowance that an answer counted against, as far as it is one that is known: a label's values must not be the
/// server's choice.
pub(super) fn resource(headers: &HeaderMap) -> &'static str {
    const KNOWN: [&str; 4] = ["core", "graphql", "search", "code_search"];
    let told = text(headers, "x-ratelimit-resource").unwrap_or("core");
    KNOWN
        .into_iter()
        .find(|known| *known == told)
        .unwrap_or("other")
}

/// What `Retry-After` tells, be it seconds or a date; at least a second, so that nobody is asked in a circle.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let told = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match told.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = DateTime::<Utc>::from(httpdate::parse_http_date(told).ok()?);
            (date - server_now(headers, now))
                .to_std()
                .unwrap_or_default()
        }
    };
    Some(wait.clamp(SHORTEST, YEAR))
}

/// How long until the allowance comes back, at least a second and at most an hour.
pub(super) fn until_reset(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let reset = number(headers, "x-ratelimit-reset")?;
    // Beyond what a date can be: milliseconds, or nonsense.
    let reset =
        DateTime::from_timestamp(i64::try_from(reset).ok()?, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    // The reset is told in whole seconds, and may lie within the one that it names.
    let wait = (reset - server_now(headers, now))
        .checked_add(&TimeDelta::seconds(1))
        .unwrap_or(TimeDelta::MAX);
    Some(wait.to_std().unwrap_or_default().clamp(SHORTEST, LONGEST))
}

/// The time by the clock that made the dates in the answer; ours may be wrong by minutes.
fn server_now(headers: &HeaderMap, now: DateTime<Utc>) -> DateTime<Utc> {
    date(headers).unwrap_or(now)
}

/// When GitHub answered, by its own clock.
pub(super) fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    text_of(headers.get(DATE))
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .map(DateTime::from)
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    text_of(headers.get(name))
}

fn text_of(value: Option<&reqwest::header::HeaderValue>) -> Option<&str> {
    Some(value?.to_str().ok()?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_772_445_600;

    fn wait(
        status: u16,
        headers: &[(&'static str, &str)],
        message: &str,
        untold: u32,
    ) -> Option<u64> {
        let headers = headers.iter().map(|(name, value)| {
            (
                reqwest::header::HeaderName::from_static(name),
                reqwest::header::HeaderValue::from_str(value).unwrap(),
            )
        });
        let now = DateTime::from_timestamp(NOW, 0).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        limit(status, &headers.collect(), message, untold, now).map(|limit| limit.wait.as_secs())
    }

    #[test]
    fn retry_after_comes_first_as_seconds_or_as_a_date_by_the_server_s_clock() {
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
        // What is no time at all is as if it were not there.
        assert_eq!(wait(429, &[("retry-after", "soon")], "", 0), Some(60));
    }

    #[test]
    fn an_allowance_that_is_used_up_comes_back_at_its_reset_within_the_hour() {
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
    fn a_secondary_limit_that_tells_no_time_is_waited_out_longer_and_longer() {
        let message = "You have exceeded a secondary rate limit. Please wait a few minutes";
        let left = ("x-ratelimit-remaining", "4000");
        for untold in 0..3 {
            assert_eq!(wait(403, &[left], message, untold), Some(60 << untold));
            assert_eq!(
                wait(403, &[left, ("gh-limited-by", "search")], "", untold),
                Some(60 << untold)
            );
            assert_eq!(wait(429, &[], "", untold), Some(60 << untold));
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
    fn anything_else_is_no_limit() {
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
