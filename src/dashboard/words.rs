//! Numbers and times as pages, and only pages, write them: one way each.

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

/// Returns a time as an element that programs read, to the minute, in UTC.
pub(super) fn time(time: Timestamp) -> Markup {
    let utc = time.to_utc();
    html! {
        time datetime=(utc.format("%Y-%m-%dT%H:%M:%SZ")) title=(utc.format("%Y-%m-%d %H:%M:%S UTC")) {
            (utc.format("%Y-%m-%d %H:%M"))
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
