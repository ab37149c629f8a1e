//! Settings of business time: calendars, and the repositories, teams and people that they are for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tallyhook_core::domain::business_time::{Calendar, Calendars, DayHours};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::channels::{self, MAX_NAME_LENGTH};
use super::file::FileLine;
use super::{ConfigError, NamedZone, SettingSources, holidays};

/// The key of the calendar of repositories that have no other.
const DEFAULT: &str = "default_calendar";
/// The name of the tables of calendars.
const CALENDARS: &str = "calendars";

/// The keys of the file that are about calendars.
pub(super) const CALENDAR_KEYS: [&str; 5] = [
    DEFAULT,
    CALENDARS,
    "team_calendars",
    "repository_calendars",
    "person_calendars",
];

/// The tables of calendars as the file has them.
#[derive(Default)]
pub(super) struct CalendarTables {
    calendars: Vec<(FileLine, String, CalendarTable)>,
    default: Option<(FileLine, String)>,
    assignments: Vec<CalendarAssignment>,
}

/// A calendar for a repository, a team or a person.
struct CalendarAssignment {
    line: FileLine,
    table: &'static str,
    key: String,
    calendar: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CalendarTable {
    zone: String,
    #[serde(default)]
    week: WeekTable,
    /// By date.
    #[serde(default)]
    dates: BTreeMap<String, Vec<String>>,
    holidays_ical: Option<PathBuf>,
    /// The team that it is of.
    team: Option<String>,
}

/// The hours of each weekday; one that is left out is off.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WeekTable {
    mon: Vec<String>,
    tue: Vec<String>,
    wed: Vec<String>,
    thu: Vec<String>,
    fri: Vec<String>,
    sat: Vec<String>,
    sun: Vec<String>,
}

impl CalendarTables {
    /// Takes in the value of one of [`CALENDAR_KEYS`] in the file, whose text is needed for the
    /// numbers of lines.
    ///
    /// # Errors
    /// The first value of a wrong type, or an unknown key.
    pub(super) fn read(
        &mut self,
        text: &str,
        line: FileLine,
        key: &str,
        value: Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let Some(table) = CALENDAR_KEYS.into_iter().find(|known| *known == key) else {
            return Ok(());
        };
        match table {
            DEFAULT => self.default = Some((line, parsed(text, line, value)?)),
            CALENDARS => {
                let tables: BTreeMap<Spanned<String>, CalendarTable> = parsed(text, line, value)?;
                self.calendars
                    .extend(tables.into_iter().map(|(name, table)| {
                        let line = FileLine::of(text, name.span());
                        (line, name.into_inner(), table)
                    }));
            }
            table => {
                let assigned: BTreeMap<Spanned<String>, String> = parsed(text, line, value)?;
                self.assignments
                    .extend(
                        assigned
                            .into_iter()
                            .map(|(key, calendar)| CalendarAssignment {
                                line: FileLine::of(text, key.span()),
                                table,
                                key: key.into_inner(),
                                calendar,
                            }),
                    );
            }
        }
        Ok(())
    }
}

fn parsed<T: DeserializeOwned>(
    text: &str,
    line: FileLine,
    value: Spanned<DeValue<'_>>,
) -> Result<T, ConfigError> {
    T::deserialize(ValueDeserializer::from(value)).map_err(|error| {
        let line = error.span().map_or(line, |span| FileLine::of(text, span));
        ConfigError::new(error.message()).at(line)
    })
}

/// Makes the calendars of the configuration file, with the files of holidays that it names.
///
/// # Errors
/// The first of them that cannot be used, with its line.
pub(super) fn calendars(sources: &SettingSources) -> Result<Calendars, ConfigError> {
    let file = sources.config_file();
    assigned(&sources.calendars, file).map_err(|error| match file {
        Some(file) => error.at(file.display()),
        None => error,
    })
}

/// Returns the teams of the calendars that name one.
///
/// # Errors
/// The first name that is none, with its line.
pub(super) fn teams(sources: &SettingSources) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut teams = BTreeMap::new();
    for (line, name, table) in &sources.calendars.calendars {
        let wrong = |error: ConfigError| error.at(format_args!("calendar `{name}`")).at(line);
        if let Some(team) = &table.team {
            let team = channels::parse_team(team).map_err(wrong)?;
            teams.insert(name.clone(), team);
        }
    }
    Ok(teams)
}

fn assigned(tables: &CalendarTables, file: Option<&Path>) -> Result<Calendars, ConfigError> {
    let mut made = Vec::new();
    for (line, name, table) in &tables.calendars {
        let wrong = |error: ConfigError| error.at(format_args!("calendar `{name}`")).at(line);
        made.push(calendar(name, table, file).map_err(wrong)?);
    }
    let default = tables.default.as_ref();
    let mut calendars =
        Calendars::new(made, default.map(|(_, name)| name.as_str())).map_err(|error| {
            let wrong = ConfigError::new(format!("{DEFAULT}: {error}"));
            match default {
                Some((line, _)) => wrong.at(line),
                None => wrong,
            }
        })?;
    for CalendarAssignment {
        line,
        table,
        key,
        calendar,
    } in &tables.assignments
    {
        let wrong =
            |why: &dyn std::fmt::Display| ConfigError::new(format!("{table}: {why}")).at(line);
        let assigned = match *table {
            "team_calendars" => calendars.assign_team(key, calendar),
            "person_calendars" => calendars.assign_person(key, calendar),
            _ if channels::repository_pattern(key).is_none() => {
                return Err(wrong(&format_args!(
                    "`{key}` is wrong: expected owner/name or owner/*"
                )));
            }
            _ => calendars.assign_repository(key, calendar),
        };
        assigned.map_err(|error| wrong(&error))?;
    }
    Ok(calendars)
}

fn calendar(
    name: &str,
    table: &CalendarTable,
    file: Option<&Path>,
) -> Result<Calendar, ConfigError> {
    if !channels::is_name(name) {
        return Err(ConfigError::new(format!(
            "the name is wrong: expected at most {MAX_NAME_LENGTH} lower-case letters, digits and \
             dashes"
        )));
    }
    let NamedZone {
        name: zone,
        time_zone,
    } = table
        .zone
        .parse()
        .map_err(|error| ConfigError::new(format!("zone is `{}`: {error}", table.zone)))?;
    let week = table.week.hours()?;
    if week.iter().all(DayHours::is_empty) {
        let message = "its week has no working hours: write some, such as week = { mon = \
                       [\"09:00-17:00\"] }";
        return Err(ConfigError::new(message));
    }
    let mut dates = BTreeMap::new();
    if let Some(path) = &table.holidays_ical {
        let path = match file.and_then(Path::parent) {
            Some(folder) => folder.join(path),
            None => path.clone(),
        };
        let wrong = |error: ConfigError| error.at(format_args!("holidays_ical {}", path.display()));
        let off = holidays::read(&path, &time_zone).map_err(wrong)?;
        for (date, off) in off {
            let regular = &week[weekday(date)];
            let rest = off
                .iter()
                .fold(regular.clone(), |rest, (from, to)| rest.without(*from, *to));
            dates.insert(date, rest);
        }
    }
    for (date, blocks) in &table.dates {
        let day = date
            .parse()
            .ok()
            .filter(|_| date.len() == "2026-12-24".len());
        let day = day.ok_or_else(|| {
            let message = format!("dates: `{date}` is no date: expected one such as 2026-12-24");
            ConfigError::new(message)
        })?;
        // A date of the file beats the holidays.
        dates.insert(day, hours(&format!("dates: {date}"), blocks)?);
    }
    Ok(Calendar::new(name, &zone, time_zone, week, &dates))
}

/// Returns the place of a date in the week, from Monday on.
fn weekday(date: Date) -> usize {
    usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or_default()
}

impl WeekTable {
    fn hours(&self) -> Result<[DayHours; 7], ConfigError> {
        Ok([
            hours("mon", &self.mon)?,
            hours("tue", &self.tue)?,
            hours("wed", &self.wed)?,
            hours("thu", &self.thu)?,
            hours("fri", &self.fri)?,
            hours("sat", &self.sat)?,
            hours("sun", &self.sun)?,
        ])
    }
}

fn hours(day: &str, blocks: &[String]) -> Result<DayHours, ConfigError> {
    DayHours::parse(blocks.iter().map(String::as_str))
        .map_err(|error| ConfigError::new(format!("{day}: {error}")))
}

#[cfg(test)]
mod tests {
    use tallyhook_core::github::types::Timestamp;

    use super::super::testing::sources;
    use super::*;
    use crate::config::Config;

    /// The example of the documentation.
    const EXAMPLE: &str = include_str!("../../docs/concepts/business-time.toml");

    fn configured(file: &str) -> Calendars {
        Config::new(&sources(&[], file))
            .ok()
            .unwrap()
            .numbers
            .calendars
    }

    #[test]
    fn documented_example_is_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/concepts");
        let holidays = folder.join("holidays.ics").display().to_string();
        let calendars = configured(&EXAMPLE.replace("holidays.ics", &holidays));
        let berlin = calendars.of_repository("acme-corp/api-server").unwrap();
        assert_eq!((berlin.name(), berlin.zone()), ("berlin", "Europe/Berlin"));
        assert_eq!(
            calendars.of_person("Ines-Acme").unwrap().zone(),
            "America/New_York"
        );
        assert_eq!(calendars.of_team("backend"), Some(berlin));
        assert_eq!(calendars.of_repository("else/where"), Some(berlin));
        let at = |text| Timestamp::parse(text).unwrap();
        for (from, to, hours) in [
            // A Thursday with lunch.
            ("2026-03-05T00:00:00Z", "2026-03-06T00:00:00Z", 8),
            // Christmas Eve is half a day, by the dates; the next day is one of the holidays.
            ("2026-12-24T00:00:00Z", "2026-12-26T00:00:00Z", 3),
            // Easter Monday is one, too, and a Sunday in December has hours by the dates.
            ("2026-04-06T00:00:00Z", "2026-04-07T00:00:00Z", 0),
            ("2026-12-27T00:00:00Z", "2026-12-28T00:00:00Z", 4),
        ] {
            assert_eq!(berlin.seconds(at(from), at(to)), hours * 3600, "{from}");
        }
    }

    #[test]
    fn path_of_holidays_is_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        let toml = "[calendars.b]\nzone = 'UTC'\nweek = { fri = ['09:00-10:00'] }\n\
                    holidays_ical = 'off.ics'\n[repository_calendars]\n'a/*' = 'b'";
        std::fs::write(&path, toml).unwrap();
        let read = || Config::new(&SettingSources::from_process(Some(&path)).ok().unwrap());
        let error = read().err().unwrap().to_string();
        assert!(error.contains("off.ics: cannot be read"), "{error}");
        let ics = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20260306\r\n\
                   END:VEVENT\r\nEND:VCALENDAR\r\n";
        std::fs::write(folder.path().join("off.ics"), ics).unwrap();
        let calendars = read().ok().unwrap().numbers.calendars;
        let calendar = calendars.of_repository("a/b").unwrap();
        let at = |text| Timestamp::parse(text).unwrap();
        let week = |from, to| calendar.seconds(at(from), at(to));
        assert_eq!(week("2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"), 0);
        assert_eq!(week("2026-03-09T00:00:00Z", "2026-03-16T00:00:00Z"), 3600);
    }

    #[test]
    fn without_tables_there_is_no_calendar() {
        assert!(configured("").is_empty());
    }
}
