//! One calendar: a time zone and the working hours in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{NaiveDate, TimeDelta};
use jiff::civil::{self, Date};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::DayHours;
use crate::github::types::Timestamp;

/// Seconds of a day on the wall clock.
pub const DAY: i64 = 86_400;
/// Seconds of a week on the wall clock.
const WEEK: i64 = 7 * DAY;
/// The Monday before 1970-01-01, a Thursday, in days of the epoch.
const MONDAY: i64 = -3;

/// The identity of a calendar, as it is stored with the numbers that follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Calendar)]
pub struct CalendarStamp {
    #[schema(example = "berlin")]
    pub name: String,
    /// The IANA name of its time zone.
    #[schema(example = "Europe/Berlin")]
    pub zone: String,
    /// Of its zone, week and dates: another hash is another definition of working hours.
    #[schema(example = "5bd0ff2c0b1a6f4e")]
    pub hash: String,
}

/// A time zone, with the working hours of each weekday, and of the dates that differ from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    stamp: CalendarStamp,
    time_zone: TimeZone,
    /// From Monday on.
    week: [DayHours; 7],
    /// The working seconds of a week before each of its days, and of a whole week.
    week_before: [i64; 8],
    /// By day.
    dates: Vec<DateHours>,
}

/// A date whose hours take the place of its weekday's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DateHours {
    /// Days since the epoch.
    day: i64,
    hours: DayHours,
    /// The working seconds that all dates up to this one have more than their weekdays.
    surplus: i64,
}

/// A stretch of one UTC offset, in seconds since the epoch; its end is not part of it.
struct OffsetStretch {
    from: i64,
    to: i64,
    offset: i64,
}

impl Calendar {
    /// Makes a calendar of working hours from Monday on in `time_zone`, whose IANA name is `zone`.
    pub fn new(
        name: &str,
        zone: &str,
        time_zone: TimeZone,
        week: [DayHours; 7],
        dates: &BTreeMap<Date, DayHours>,
    ) -> Self {
        let mut week_before = [0; 8];
        for (weekday, hours) in week.iter().enumerate() {
            week_before[weekday + 1] = week_before[weekday] + hours.total();
        }
        let mut surplus = 0;
        let dates_hours = dates.iter().map(|(date, hours)| {
            let day = i64::from((*date - civil::date(1970, 1, 1)).get_days());
            surplus += hours.total() - week[weekday_of(day)].total();
            DateHours {
                day,
                hours: hours.clone(),
                surplus,
            }
        });
        let dates_hours: Vec<_> = dates_hours.collect();
        Self {
            stamp: CalendarStamp {
                name: name.to_owned(),
                zone: zone.to_owned(),
                hash: content_hash(zone, &week, dates),
            },
            time_zone,
            week,
            week_before,
            dates: dates_hours,
        }
    }

    pub fn name(&self) -> &str {
        &self.stamp.name
    }

    /// Returns the IANA name of the time zone.
    pub fn zone(&self) -> &str {
        &self.stamp.zone
    }

    pub fn hash(&self) -> &str {
        &self.stamp.hash
    }

    /// Returns the hours of the weekdays, from Monday on.
    pub fn week(&self) -> &[DayHours; 7] {
        &self.week
    }

    /// Returns the number of dates with hours of their own.
    pub fn dates(&self) -> usize {
        self.dates.len()
    }

    pub fn stamp(&self) -> &CalendarStamp {
        &self.stamp
    }

    /// Returns the business seconds from `from` to `to`, the end not included; 0 if the end is
    /// before the start.
    pub fn seconds(&self, from: Timestamp, to: Timestamp) -> i64 {
        let to = to.epoch();
        let stretches = self.stretches(from.epoch());
        let stretches = stretches.take_while(|stretch| stretch.from < to);
        let worked = stretches.map(|stretch| self.worked_in(&stretch, to.min(stretch.to)));
        worked.sum()
    }

    /// Returns the earliest time by which `seconds` of business time have passed since `from`;
    /// `None` if they never do.
    pub fn due(&self, from: Timestamp, seconds: i64) -> Option<Timestamp> {
        if seconds <= 0 {
            return Some(from);
        }
        let mut missing = seconds;
        for stretch in self.stretches(from.epoch()) {
            let worked = self.worked_in(&stretch, stretch.to);
            if worked < missing {
                missing -= worked;
                continue;
            }
            // The business seconds never decrease, so that halving finds the first time.
            let (mut low, mut high) = (stretch.from, stretch.to);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                match self.worked_in(&stretch, middle) < missing {
                    true => low = middle,
                    false => high = middle,
                }
            }
            return Timestamp::from_epoch(high);
        }
        None
    }

    /// Returns true if the second that begins at `at` is business time.
    pub fn contains(&self, at: Timestamp) -> bool {
        let at = at.epoch();
        let offset = offset_at(&self.time_zone, at);
        self.worked_before(at + offset) < self.worked_before(at + offset + 1)
    }

    /// Returns the time of the first business second at or after `at`; `None` if there is none.
    pub fn next(&self, at: Timestamp) -> Option<Timestamp> {
        let passed = self.due(at, 1)?;
        Timestamp::from_epoch(passed.epoch() - 1)
    }

    /// Returns today's date and the time at which the wall clock read `second` of the day, if `now`
    /// is not before it and the date has working hours.
    pub fn daily(&self, now: Timestamp, second: i64) -> Option<(NaiveDate, Timestamp)> {
        let local = now.epoch() + offset_at(&self.time_zone, now.epoch());
        let (day, passed) = (local.div_euclid(DAY), local.rem_euclid(DAY) - second);
        let is_worked = self.worked_before(day * DAY) < self.worked_before((day + 1) * DAY);
        let date = NaiveDate::default().checked_add_signed(TimeDelta::try_days(day)?)?;
        let at = Timestamp::from_epoch(now.epoch() - passed)?;
        (passed >= 0 && is_worked).then_some((date, at))
    }

    /// Returns true if on some weekday all working hours are over at `second` of the day.
    pub fn may_be_over(&self, second: i64) -> bool {
        let is_over = |hours: &DayHours| hours.before(second) == hours.total();
        self.week
            .iter()
            .any(|hours| !hours.is_empty() && is_over(hours))
    }

    /// Returns the business seconds of a stretch until `to`.
    fn worked_in(&self, stretch: &OffsetStretch, to: i64) -> i64 {
        self.worked_before(to + stretch.offset) - self.worked_before(stretch.from + stretch.offset)
    }

    /// Returns the working seconds between a fixed Monday and the reading `local` of the wall
    /// clock, in seconds, as if no clock ever changed. A difference of two is exact within a
    /// stretch of one offset, and its cost does not depend on how long that is.
    fn worked_before(&self, local: i64) -> i64 {
        let (day, second) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        let weekday = weekday_of(day);
        let weeks = (local - MONDAY * DAY).div_euclid(WEEK);
        let place = self.dates.partition_point(|date| date.day < day);
        let (before, after) = self.dates.split_at(place);
        let surplus = before.last().map_or(0, |date| date.surplus);
        let hours = match after.first() {
            Some(date) if date.day == day => &date.hours,
            _ => &self.week[weekday],
        };
        weeks * self.week_before[7] + self.week_before[weekday] + surplus + hours.before(second)
    }

    /// Returns the stretches of one UTC offset from `from` to the end of all times.
    fn stretches(&self, from: i64) -> impl Iterator<Item = OffsetStretch> + '_ {
        let end = Timestamp::clamped(i64::MAX).epoch();
        let mut changes = self.time_zone.following(zoned_timestamp(from));
        let mut next = Some((from, offset_at(&self.time_zone, from)));
        std::iter::from_fn(move || {
            let (from, offset) = next.take()?;
            next = changes.next().map(|change| {
                let offset = change.offset().seconds();
                (change.timestamp().as_second(), i64::from(offset))
            });
            let to = next.map_or(end, |(at, _)| at);
            Some(OffsetStretch { from, to, offset })
        })
    }
}

/// Returns the place of a day in the week, from Monday on.
fn weekday_of(day: i64) -> usize {
    usize::try_from((day - MONDAY).rem_euclid(7)).unwrap_or_default()
}

/// Returns the nearest time for which a zone has an offset: its last day is not quite over at the
/// end of the year 9999.
fn zoned_timestamp(at: i64) -> jiff::Timestamp {
    let (low, high) = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
    jiff::Timestamp::from_second(at.clamp(low.as_second(), high.as_second())).unwrap_or(high)
}

fn offset_at(time_zone: &TimeZone, at: i64) -> i64 {
    i64::from(time_zone.to_offset(zoned_timestamp(at)).seconds())
}

fn content_hash(zone: &str, week: &[DayHours; 7], dates: &BTreeMap<Date, DayHours>) -> String {
    let mut content = format!("{zone}\n");
    for hours in week {
        // Writing to a string cannot fail.
        let _ = writeln!(content, "{hours}");
    }
    for (date, hours) in dates {
        let _ = writeln!(content, "{date} {hours}");
    }
    hex::encode(&Sha256::digest(content)[..8])
}
