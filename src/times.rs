//! Points in time as people write them: one parser for the parameters of the API and of commands.

use std::fmt;
use std::str::FromStr;

use chrono::{NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, de};
use tallyhook_core::github::types::Timestamp;

/// The forms that [`TimePoint`] reads, for error messages.
pub const TIME_FORMS: &str = "a time such as 2026-03-01T09:00:00Z or 2026-03-01T10:00:00+01:00, a \
                              date such as 2026-03-01 (midnight UTC), or a span before now such \
                              as 30d or 12h";

/// A point in time: RFC 3339 with any offset, a date (its midnight in UTC), or a span before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimePoint(pub Timestamp);

/// An error for a text that is no [`TimePoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {TIME_FORMS}")]
pub struct TimePointError;

impl TimePoint {
    /// Reads a text, with spans counted back from `now`.
    fn parse(text: &str, now: Timestamp) -> Option<Self> {
        let text = text.trim();
        // The length, because the parser also takes years of two digits.
        if text.len() == 10
            && let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d")
        {
            let midnight = date.and_time(NaiveTime::MIN).and_utc().timestamp();
            return Timestamp::from_epoch(midnight).map(Self);
        }
        let time = Timestamp::parse(text).or_else(|| Timestamp::parse(&with_plus(text)?));
        time.or_else(|| before(text, now)).map(Self)
    }
}

/// Returns the time with the `+` of its offset, which a form decoder reads as a space.
fn with_plus(text: &str) -> Option<String> {
    let (time, offset) = text.rsplit_once(' ')?;
    time.contains(['T', 't', ' '])
        .then(|| format!("{time}+{offset}"))
}

/// Returns the time a span before `now`; none before the year 1.
fn before(text: &str, now: Timestamp) -> Option<Timestamp> {
    let span = TimeDelta::from_std(humantime::parse_duration(text).ok()?).ok()?;
    Timestamp::from_epoch(now.epoch().checked_sub(span.num_seconds())?)
}

impl FromStr for TimePoint {
    type Err = TimePointError;

    fn from_str(text: &str) -> Result<Self, TimePointError> {
        Self::parse(text, Utc::now().into()).ok_or(TimePointError)
    }
}

impl fmt::Display for TimePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for TimePoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_spans_are_read() {
        let now = Timestamp::parse("2026-03-31T12:00:00Z").unwrap();
        for (text, expected) in [
            ("2026-03-01T09:00:00Z", "2026-03-01T09:00:00Z"),
            ("2026-03-01t09:00:00.9z", "2026-03-01T09:00:00Z"),
            ("2026-03-01T09:00:00+02:00", "2026-03-01T07:00:00Z"),
            ("2026-03-01T09:00:00 02:00", "2026-03-01T07:00:00Z"),
            ("2026-03-01T09:00:00-11:30", "2026-03-01T20:30:00Z"),
            ("2026-03-01", "2026-03-01T00:00:00Z"),
            ("0001-01-01", "0001-01-01T00:00:00Z"),
            (" 2026-03-01 ", "2026-03-01T00:00:00Z"),
            ("30d", "2026-03-01T12:00:00Z"),
            ("2w", "2026-03-17T12:00:00Z"),
            ("12h", "2026-03-31T00:00:00Z"),
            ("1day 12h", "2026-03-30T00:00:00Z"),
        ] {
            let read = TimePoint::parse(text, now).map(|TimePoint(at)| at.to_string());
            assert_eq!(read.as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            " ",
            "yesterday",
            "now",
            "30",
            "d",
            "-30d",
            "3000y",
            "2026-13-01",
            "2026-02-30",
            "2026-03",
            "26-03-01",
            "2026-03-01T09:00",
            "0000-01-01",
            "10000-01-01",
            "1772445600",
            "1e9",
            "99999999999999999999d",
        ] {
            assert_eq!(TimePoint::parse(text, now), None, "{text}");
        }
    }
}
