//! Numbers and times as pages, and only pages, write them: one way each.

use chrono::DateTime;
use maud::{Markup, html};
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

/// Returns a time as an element that programs read, to the minute, in UTC.
pub(super) fn time(time: Timestamp) -> Markup {
    let utc = time.to_utc();
    html! {
        time datetime=(utc.format("%Y-%m-%dT%H:%M:%SZ")) title=(utc.format("%Y-%m-%d %H:%M:%S UTC")) {
            (utc.format("%Y-%m-%d %H:%M"))
        }
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
