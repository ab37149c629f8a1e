//! The beginning of working hours, and a daily time in them.

use std::collections::BTreeMap;

use jiff::civil::{self, Date};
use jiff::tz::TimeZone;
use tallyhook_core::domain::business_time::{Calendar, DayHours};
use tallyhook_core::github::types::Timestamp;

const NINE: i64 = 9 * 3600;

#[expect(clippy::disallowed_methods, reason = "the test has no settings")]
fn zone() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

/// From Monday to Friday 09-18, but for Christmas.
fn berlin() -> Calendar {
    let worked = DayHours::parse(["09:00-18:00"]).unwrap();
    let week = std::array::from_fn(|day| match day {
        0..5 => worked.clone(),
        _ => DayHours::default(),
    });
    let dates: BTreeMap<Date, DayHours> =
        BTreeMap::from([(civil::date(2026, 12, 25), DayHours::default())]);
    Calendar::new("berlin", "Europe/Berlin", zone(), week, &dates)
}

fn at(text: &str) -> Timestamp {
    let civil: civil::DateTime = text.parse().unwrap();
    Timestamp::clamped(zone().to_timestamp(civil).unwrap().as_second())
}

#[test]
fn next_business_second_is_the_beginning_of_the_hours() {
    let calendar = berlin();
    for (now, next) in [
        ("2026-03-06 17:59:59", "2026-03-06 17:59:59"),
        ("2026-03-06 18:00", "2026-03-09 09:00"),
        ("2026-03-09 08:59:59", "2026-03-09 09:00"),
        ("2026-03-09 09:00", "2026-03-09 09:00"),
        // Over a holiday and a weekend, and over the change to summer time.
        ("2026-12-24 18:00", "2026-12-28 09:00"),
        ("2026-03-27 20:00", "2026-03-30 09:00"),
    ] {
        assert_eq!(calendar.next(at(now)), Some(at(next)), "{now}");
        assert_eq!(calendar.contains(at(now)), now == next, "{now}");
    }
    let empty = Calendar::new(
        "e",
        "UTC",
        TimeZone::UTC,
        Default::default(),
        &BTreeMap::new(),
    );
    assert_eq!(empty.next(at("2026-03-06 18:00")), None);
}

#[test]
fn daily_time_is_reached_once_on_each_day_with_hours() {
    let calendar = berlin();
    for (now, reached) in [
        ("2026-03-06 08:59:59", None),
        ("2026-03-06 09:00", Some("2026-03-06 09:00")),
        ("2026-03-06 23:59:59", Some("2026-03-06 09:00")),
        ("2026-03-07 09:00", None),
        ("2026-12-25 12:00", None),
        ("2026-03-30 09:30", Some("2026-03-30 09:00")),
        ("2026-10-26 09:30", Some("2026-10-26 09:00")),
    ] {
        let found = calendar.daily(at(now), NINE);
        let date = |text: &str| text[..10].parse().unwrap();
        assert_eq!(found, reached.map(|text| (date(text), at(text))), "{now}");
    }
}
