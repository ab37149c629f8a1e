//! Days off from a file in the format of iCalendar (RFC 5545). Nothing is fetched.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use icalendar::parser::{Component, Property, read_components, unfold};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan};
use tallyhook_core::domain::business_time::DAY;
use tallyhook_core::text::one_line;

use super::{ConfigError, NamedZone};

/// The most bytes of a file.
const MOST_BYTES: u64 = 1024 * 1024;
/// The most days off of a file.
const MOST_DAYS: usize = 50_000;
/// The first year of which days off are kept: no commit is older than git.
const FIRST_YEAR: i16 = 2005;
/// The last year in which a yearly event is repeated.
const LAST_YEAR: i16 = 2100;

/// The hours that are off on each date, in seconds since midnight.
pub(super) type DaysOff = BTreeMap<Date, Vec<(i64, i64)>>;

/// Reads the days off of a file. An event with times of its own takes its hours off, by the clocks
/// of `time_zone`.
///
/// # Errors
/// If the file cannot be read, or has something that cannot be understood.
pub(super) fn read(path: &Path, time_zone: &TimeZone) -> Result<DaysOff, ConfigError> {
    let unreadable = |error| ConfigError::new(format!("cannot be read: {error}"));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bounded = file.take(MOST_BYTES + 1);
    bounded.read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(ConfigError::new("is larger than 1 MiB"));
    }
    days_off(&text, time_zone)
}

fn days_off(text: &str, time_zone: &TimeZone) -> Result<DaysOff, ConfigError> {
    let text = unfold(text.trim_start_matches('\u{feff}'));
    let no_calendar =
        || ConfigError::new("is no iCalendar file: expected BEGIN:VCALENDAR .. END:VCALENDAR");
    let components = read_components(&text).map_err(|_| no_calendar())?;
    let is_calendar = |component: &&Component<'_>| component.name == "VCALENDAR";
    let calendars: Vec<_> = components.iter().filter(is_calendar).collect();
    if calendars.is_empty() {
        return Err(no_calendar());
    }
    let events = calendars.iter().flat_map(|calendar| &calendar.components);
    let events: Vec<_> = events.filter(|event| event.name == "VEVENT").collect();
    let begun = text
        .lines()
        .filter(|line| line.trim_end() == "BEGIN:VEVENT");
    if begun.count() != events.len() {
        return Err(ConfigError::new(
            "an event cannot be read: it is cut off, or no iCalendar",
        ));
    }
    // Some publishers mark their holidays so: nothing would be off, and nothing would show it.
    if !events.is_empty() && events.iter().all(|event| is_free(event)) {
        return Err(ConfigError::new(
            "gives no day off: each of its events is TRANSPARENT or CANCELLED; remove \
             TRANSP:TRANSPARENT from those that are days off",
        ));
    }
    let mut off = DaysOff::new();
    for event in events {
        let taken = add_event(event, time_zone, &mut off);
        taken.map_err(|error| error.at(format_args!("event `{}`", title(event))))?;
        if off.len() > MOST_DAYS {
            return Err(ConfigError::new(format!(
                "has more than {MOST_DAYS} days off"
            )));
        }
    }
    Ok(off)
}

/// Returns words by which a person finds the event.
fn title(event: &Component<'_>) -> String {
    let found = ["SUMMARY", "UID", "DTSTART"]
        .into_iter()
        .find_map(|name| event.find_prop(name));
    found.map_or_else(String::new, |property| one_line(property.val.as_str(), 60))
}

/// Returns whether an event takes no time of its day.
fn is_free(event: &Component<'_>) -> bool {
    let is = |name, value: &str| {
        let property = event.find_prop(name);
        property.is_some_and(|property| property.val.as_str().eq_ignore_ascii_case(value))
    };
    is("STATUS", "CANCELLED") || is("TRANSP", "TRANSPARENT")
}

fn add_event(
    event: &Component<'_>,
    time_zone: &TimeZone,
    off: &mut DaysOff,
) -> Result<(), ConfigError> {
    if is_free(event) {
        return Ok(());
    }
    for name in ["RDATE", "EXDATE", "EXRULE", "RECURRENCE-ID"] {
        if event.find_prop(name).is_some() {
            return Err(not_understood(
                name,
                "write each date as an event of its own",
            ));
        }
    }
    let start = event.find_prop("DTSTART").map(EventTime::of).transpose()?;
    let start = start.ok_or_else(|| ConfigError::new("has no DTSTART"))?;
    let length = event_length(event, &start)?;
    if length.get_days() > 366 {
        return Err(ConfigError::new("lasts longer than a year"));
    }
    for start in occurrences(event, start)? {
        let end = EventTime {
            reading: start.reading.saturating_add(length),
            zone: start.zone.clone(),
        };
        take_off(
            start.reading_in(time_zone)?,
            end.reading_in(time_zone)?,
            off,
        );
    }
    Ok(())
}

fn not_understood(property: &str, advice: &str) -> ConfigError {
    ConfigError::new(format!("{property} is not understood: {advice}"))
}

/// A time of an event.
#[derive(Clone)]
struct EventTime {
    /// Of the wall clock; midnight for a whole day.
    reading: DateTime,
    /// `None` is the calendar's own.
    zone: Option<TimeZone>,
}

impl EventTime {
    fn of(property: &Property<'_>) -> Result<Self, ConfigError> {
        let value = property.val.as_str().trim();
        let wrong = || {
            let value = one_line(value, 60);
            ConfigError::new(format!(
                "`{value}` is no date: expected one such as 20261224"
            ))
        };
        let (text, is_utc) = match value.strip_suffix('Z') {
            Some(text) => (text, true),
            None => (value, false),
        };
        let reading = match text.len() {
            8 => Date::strptime("%Y%m%d", text).map(|date| date.to_datetime(Time::midnight())),
            _ => DateTime::strptime("%Y%m%dT%H%M%S", text),
        };
        let zone = property
            .params
            .iter()
            .find(|parameter| parameter.key == "TZID");
        let zone = zone.and_then(|parameter| parameter.val.as_ref());
        let named = |name: &str| -> Result<TimeZone, ConfigError> {
            let zone: Result<NamedZone, _> = name.trim_matches('"').parse();
            let wrong = |error| ConfigError::new(format!("TZID is `{name}`: {error}"));
            Ok(zone.map_err(wrong)?.time_zone)
        };
        Ok(Self {
            reading: reading.map_err(|_| wrong())?,
            zone: match (is_utc, zone) {
                (true, _) => Some(TimeZone::UTC),
                (false, Some(name)) if text.len() > 8 => Some(named(name.as_str())?),
                (false, _) => None,
            },
        })
    }

    /// Returns true if it has no time of day.
    fn is_whole_day(property: &Property<'_>) -> bool {
        property.val.as_str().trim().len() == 8
    }

    /// Returns what the clocks of `time_zone` show then.
    fn reading_in(&self, time_zone: &TimeZone) -> Result<DateTime, ConfigError> {
        let Some(zone) = &self.zone else {
            return Ok(self.reading);
        };
        let at = zone.to_timestamp(self.reading);
        let at = at.map_err(|_| ConfigError::new("is at a time that cannot be"))?;
        Ok(time_zone.to_datetime(at))
    }
}

/// Returns the length of an event by its own clocks; its end is not part of it.
fn event_length(event: &Component<'_>, start: &EventTime) -> Result<Span, ConfigError> {
    let length = match (event.find_prop("DTEND"), event.find_prop("DURATION")) {
        (Some(end), _) => {
            let end = EventTime::of(end)?;
            let end = match (&start.zone, &end.zone) {
                (Some(zone), Some(_)) => end.reading_in(zone)?,
                _ => end.reading,
            };
            start.reading.until((jiff::Unit::Day, end)).ok()
        }
        (None, Some(length)) => {
            let length: Option<Span> = length.val.as_str().trim().parse().ok();
            length.and_then(|length| {
                let end = start.reading.checked_add(length).ok()?;
                start.reading.until((jiff::Unit::Day, end)).ok()
            })
        }
        (None, None) => {
            let date = event
                .find_prop("DTSTART")
                .is_some_and(EventTime::is_whole_day);
            Some(i64::from(date).days())
        }
    };
    let length = length.filter(|length| !length.is_negative());
    length.ok_or_else(|| ConfigError::new("its end is before its start, or is no date"))
}

/// Returns the starts of an event: one, or one in each year.
fn occurrences(event: &Component<'_>, start: EventTime) -> Result<Vec<EventTime>, ConfigError> {
    let Some(rule) = event.find_prop("RRULE") else {
        return Ok(vec![start]);
    };
    let rule = rule.val.as_str();
    let refused = || {
        let rule = one_line(rule, 60);
        not_understood(
            &format!("RRULE `{rule}`"),
            "only FREQ=YEARLY on the same date is, with COUNT or UNTIL; write other dates as \
             events of their own",
        )
    };
    let first = start.reading;
    let (mut is_yearly, mut count, mut until) = (false, usize::MAX, None);
    for part in rule.trim().split(';').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or_else(refused)?;
        match (name.to_ascii_uppercase().as_str(), value) {
            ("FREQ", value) if value.eq_ignore_ascii_case("YEARLY") => is_yearly = true,
            ("COUNT", value) => count = value.parse().map_err(|_| refused())?,
            ("UNTIL", value) => {
                let date = value
                    .get(..8)
                    .and_then(|date| Date::strptime("%Y%m%d", date).ok());
                until = Some(date.ok_or_else(refused)?);
            }
            ("INTERVAL", "1") | ("WKST", _) => {}
            ("BYMONTH", month) if month.parse() == Ok(first.month()) => {}
            ("BYMONTHDAY", day) if day.parse() == Ok(first.day()) => {}
            _ => return Err(refused()),
        }
    }
    if !is_yearly {
        return Err(refused());
    }
    // The 29th of February is a date of leap years alone.
    let of_year = |year| first.with().year(year).build().ok();
    let starts = (first.year()..=LAST_YEAR).filter_map(of_year);
    let starts = starts.take_while(|start| until.is_none_or(|until| start.date() <= until));
    let starts = starts.take(count).map(|reading| EventTime {
        reading,
        ..start.clone()
    });
    Ok(starts.collect())
}

/// Adds the hours between two readings of the wall clock.
fn take_off(start: DateTime, end: DateTime, off: &mut DaysOff) {
    let second = |at: DateTime| {
        let time = at.time();
        i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second())
    };
    let mut date = start.date();
    while date <= end.date() {
        let from = if date == start.date() {
            second(start)
        } else {
            0
        };
        let to = if date == end.date() { second(end) } else { DAY };
        if from < to && date.year() >= FIRST_YEAR {
            off.entry(date).or_default().push((from, to));
        }
        let Ok(next) = date.tomorrow() else { return };
        date = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(events: &[&str]) -> String {
        let events: Vec<_> = events
            .iter()
            .map(|lines| format!("BEGIN:VEVENT\r\nSUMMARY:Day\r\n{lines}\r\nEND:VEVENT\r\n"))
            .collect();
        let head = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//EN\r\n";
        format!("{head}{}END:VCALENDAR\r\n", events.concat()).replace(" | ", "\r\n")
    }

    fn read_text(text: &str) -> Result<DaysOff, ConfigError> {
        days_off(
            text,
            &"Europe/Berlin".parse::<NamedZone>().unwrap().time_zone,
        )
    }

    /// Returns the hours off as `DATE FROM-TO`, in hours.
    fn off(event: &str) -> Vec<String> {
        let off = read_text(&file(&[event])).ok().unwrap();
        let of_date = |(date, hours): (Date, Vec<(i64, i64)>)| {
            hours
                .into_iter()
                .map(move |(from, to)| format!("{date} {}-{}", from / 3600, to / 3600))
        };
        off.into_iter().flat_map(of_date).collect()
    }

    #[test]
    fn events_take_days_or_hours_off() {
        for (event, expected) in [
            ("DTSTART;VALUE=DATE:20261225", &["2026-12-25 0-24"][..]),
            // The end is not part of it.
            (
                "DTSTART;VALUE=DATE:20261225 | DTEND;VALUE=DATE:20261227",
                &["2026-12-25 0-24", "2026-12-26 0-24"],
            ),
            (
                "DTSTART;VALUE=DATE:20261231 | DURATION:P2D",
                &["2026-12-31 0-24", "2027-01-01 0-24"],
            ),
            (
                "DTSTART;VALUE=DATE:20261225 | TRANSP:OPAQUE",
                &["2026-12-25 0-24"],
            ),
            // By the clocks of Berlin, an hour before UTC in winter.
            (
                "DTSTART:20261224T120000Z | DTEND:20261224T230000Z",
                &["2026-12-24 13-24"],
            ),
            (
                "DTSTART:20261224T120000 | DURATION:PT4H",
                &["2026-12-24 12-16"],
            ),
            (
                "DTSTART;TZID=America/New_York:20261224T160000 | \
                 DTEND;TZID=America/New_York:20261225T040000",
                &["2026-12-24 22-24", "2026-12-25 0-10"],
            ),
            // Without an end it takes no time.
            ("DTSTART:20261224T120000Z", &[]),
            (
                "DTSTART;VALUE=DATE:20240229 | RRULE:FREQ=YEARLY;UNTIL=20291231",
                &["2024-02-29 0-24", "2028-02-29 0-24"],
            ),
            (
                "DTSTART;VALUE=DATE:20261003 | RRULE:FREQ=YEARLY;BYMONTH=10;BYMONTHDAY=3;COUNT=2",
                &["2026-10-03 0-24", "2027-10-03 0-24"],
            ),
            // Nothing before git counts.
            (
                "DTSTART;VALUE=DATE:19901003 | RRULE:FREQ=YEARLY;COUNT=16",
                &["2005-10-03 0-24"],
            ),
        ] {
            assert_eq!(off(event), expected, "{event}");
        }
        let yearly = off("DTSTART;VALUE=DATE:19901003 | RRULE:FREQ=YEARLY;INTERVAL=1");
        assert_eq!(yearly.len(), 96);
        let day = "DTSTART;VALUE=DATE:20261225";
        for free in ["STATUS:CANCELLED", "TRANSP:TRANSPARENT"] {
            let free = format!("DTSTART;VALUE=DATE:20261228 | {free}");
            let off = read_text(&file(&[day, &free])).ok().unwrap();
            assert_eq!(off.len(), 1, "{free}");
        }
        // A long line is folded.
        let folded = "DTSTART;VALUE=DATE:2026\r\n 1225";
        assert_eq!(off(folded), ["2026-12-25 0-24"]);
    }

    #[test]
    fn files_that_are_not_understood_are_refused_in_one_line() {
        for (event, words) in [
            (
                "DTSTART;VALUE=DATE:20261325",
                "event `Day`: `20261325` is no date",
            ),
            ("DTEND;VALUE=DATE:20261225", "has no DTSTART"),
            (
                "DTSTART;VALUE=DATE:20261225 | DTEND;VALUE=DATE:20261224",
                "end is before its start",
            ),
            (
                "DTSTART;VALUE=DATE:20261225 | DURATION:soon",
                "end is before its start, or is no",
            ),
            (
                "DTSTART;VALUE=DATE:20201225 | DTEND;VALUE=DATE:20261225",
                "longer than a year",
            ),
            (
                "DTSTART;VALUE=DATE:20261225 | RRULE:FREQ=WEEKLY",
                "RRULE `FREQ=WEEKLY` is not",
            ),
            (
                "DTSTART;VALUE=DATE:20261126 | RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
                "BYDAY=4TH` is not understood: only FREQ=YEARLY on the same date",
            ),
            (
                "DTSTART;VALUE=DATE:20261225 | RRULE:COUNT=3",
                "is not understood",
            ),
            (
                "DTSTART;VALUE=DATE:20261225 | RDATE:20271225",
                "RDATE is not understood",
            ),
            (
                "DTSTART;VALUE=DATE:20261225 | TRANSP:TRANSPARENT",
                "gives no day off: each of its events is TRANSPARENT or CANCELLED",
            ),
            (
                "DTSTART;TZID=Mars/Base:20261225T100000 | DURATION:PT1H",
                "TZID is `Mars/Base`",
            ),
        ] {
            let error = read_text(&file(&[event])).err().unwrap().to_string();
            assert!(
                error.contains(words) && !error.contains('\n'),
                "{event}: {error}"
            );
        }
        let cut = file(&["DTSTART;VALUE=DATE:20261225", "DTSTART;VALUE=DATE:20261226"]);
        let cut_off = &cut[..cut.len() - 40];
        for text in ["", "BEGIN:", "{}", "<html>", "BEGIN:VCALENDAR", cut_off] {
            assert!(read_text(text).is_err(), "{text}");
        }
    }
}
