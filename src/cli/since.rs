//! Times of arguments.

use chrono::{NaiveDate, NaiveTime, SecondsFormat, TimeDelta, Utc};
use tallyhook_core::github::types::Timestamp;

/// Reads RFC 3339, a date (its midnight in UTC) or a span before now such as `30d`, and returns
/// RFC 3339.
pub(super) fn time(text: &str) -> Result<String, String> {
    let text = text.trim();
    if let Some(time) = Timestamp::parse(text) {
        return Ok(time.to_string());
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(rfc3339(date.and_time(NaiveTime::MIN).and_utc()));
    }
    let span = humantime::parse_duration(text).ok();
    let before = span
        .and_then(|span| TimeDelta::from_std(span).ok())
        .and_then(|span| Utc::now().checked_sub_signed(span));
    before.map(rfc3339).ok_or_else(|| {
        "expected a time such as 2026-03-01T09:00:00Z, a date such as 2026-03-01 or a span such \
         as 30d"
            .to_owned()
    })
}

fn rfc3339(time: chrono::DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
