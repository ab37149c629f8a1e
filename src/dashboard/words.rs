//! Numbers and times as pages, and only pages, write them: one way each.

use chrono::DateTime;
use maud::{Markup, html};
use tallyhook_core::domain::timings::Stage;
use tallyhook_core::domain::waiting::Turn;
use tallyhook_core::github::types::Timestamp;

/// The place of a value that is not known.
pub(super) const UNKNOWN: &str = "–";

/// Returns seconds in the two largest units that they have, such as `3 d 4 h`.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
    ];
    let first = units.iter().position(|(count, _)| *count > 0);
    let Some(first) = first else {
        return format!("{seconds} s");
    };
    let shown: Vec<_> = units[first..]
        .iter()
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    shown.join(" ")
}

/// Returns hours with two decimals for a table, or the sign of the unknown.
pub(super) fn hours(hours: Option<f64>) -> String {
    hours.map_or_else(|| UNKNOWN.to_owned(), |hours| format!("{hours:.2}"))
}

/// Returns seconds as hours with two decimals, rounded to the nearest.
pub(super) fn hours_of(seconds: i64) -> String {
    let hundredths = (seconds.max(0) * 100 + 1_800) / 3_600;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Returns a count with its noun, such as `1 pull request` and `2 pull requests`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

/// Returns a number with its thousands apart, such as `1,234`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a size such as `8.2 kB`.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [(1_000_000_u64, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = bytes.saturating_mul(10) / unit;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// Returns a short time such as `0.25 s`, and a long one as [`span`] does.
pub(super) fn milliseconds(milliseconds: i64) -> String {
    let milliseconds = milliseconds.max(0);
    if milliseconds < 60_000 {
        format!(
            "{}.{:02} s",
            milliseconds / 1_000,
            milliseconds % 1_000 / 10
        )
    } else {
        span(milliseconds / 1_000)
    }
}

/// Returns a time as an element that programs read, to the minute, in UTC.
pub(super) fn time(time: Timestamp) -> Markup {
    time_as(time, "%Y-%m-%d %H:%M")
}

/// Returns a time of today as an element that programs read: its hour and minute, in UTC.
pub(super) fn clock(time: Timestamp) -> Markup {
    time_as(time, "%H:%M")
}

fn time_as(time: Timestamp, form: &str) -> Markup {
    let utc = time.to_utc();
    html! {
        time datetime=(utc.format("%Y-%m-%dT%H:%M:%SZ")) title=(utc.format("%Y-%m-%d %H:%M:%S UTC")) {
            (utc.format(form))
        }
    }
}

/// Returns the day of a time in UTC, such as `2026-03-16`.
pub(super) fn day(time: Timestamp) -> String {
    time.to_utc().format("%Y-%m-%d").to_string()
}

/// Returns a time to the minute in UTC, as plain text.
pub(super) fn minute(time: Timestamp) -> String {
    time.to_utc().format("%Y-%m-%d %H:%M").to_string()
}

/// Returns a part of a whole in percent, or the sign of the unknown where there is no whole.
#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
pub(super) fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => UNKNOWN.to_owned(),
        whole => format!("{:.0} %", part as f64 / whole as f64 * 100.0),
    }
}

/// Returns the words for the party whose turn it is.
pub(super) const fn turn(turn: Turn) -> &'static str {
    match turn {
        Turn::Author => "author",
        Turn::Reviewers => "reviewers",
        Turn::Nobody => "no one asked",
        Turn::Ci => "checks",
        Turn::MergeQueue => "merge queue",
        Turn::Maintainers => "maintainers",
        Turn::Closed => "closed",
    }
}

/// Returns the words of a stage.
pub(super) const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Coding => "coding",
        Stage::Pickup => "pickup",
        Stage::Review => "review",
        Stage::MergeWait => "merge wait",
        Stage::Redraft => "redraft",
        Stage::Closed => "closed",
    }
}

/// Returns the time since `then` as an element that programs read.
pub(super) fn since(then: Timestamp, now: Timestamp) -> Markup {
    let utc = then.to_utc();
    html! {
        time datetime=(utc.format("%Y-%m-%dT%H:%M:%SZ")) title=(utc.format("%Y-%m-%d %H:%M:%S UTC")) {
            (span(now.epoch() - then.epoch()))
        }
    }
}

/// Returns a time as the API writes it as an element that programs read.
pub(super) fn stated(text: Option<&str>) -> Markup {
    match text.and_then(read) {
        Some(at) => time(at),
        None => html! { (UNKNOWN) },
    }
}

/// Returns the time since one that the API wrote as an element that programs read.
pub(super) fn stated_since(text: Option<&str>, now: Timestamp) -> Markup {
    match text.and_then(read) {
        Some(then) => since(then, now),
        None => html! { (UNKNOWN) },
    }
}

/// Reads a time that the API wrote.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    let at = DateTime::parse_from_rfc3339(text).ok()?;
    Some(at.to_utc().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_their_two_largest_units() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_600, "1 h"),
            (3_660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
            (86_460, "1 d"),
            (273_600, "3 d 4 h"),
            (-5, "0 s"),
        ] {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn sizes_and_short_times_have_their_unit() {
        for (size, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (8_250, "8.2 kB"),
            (3_100_000, "3.1 MB"),
        ] {
            assert_eq!(bytes(size), expected);
        }
        for (time, expected) in [
            (-3, "0.00 s"),
            (257, "0.25 s"),
            (59_990, "59.99 s"),
            (61_000, "1 min"),
        ] {
            assert_eq!(milliseconds(time), expected);
        }
    }

    #[test]
    fn thousands_stand_apart() {
        let numbers = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ];
        for (number, expected) in numbers {
            assert_eq!(grouped(number), expected);
        }
    }
}
