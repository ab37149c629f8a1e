//! The hours of channels: their quiet hours, and the time of their daily digest.

use chrono::{NaiveTime, Timelike};
use tallyhook_core::domain::business_time::{Calendar, Calendars};
use toml::de::DeTable;

use super::ConfigError;
use super::channels::{ChannelConfig, text};

/// The hours of a channel, as the file names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelHours {
    /// The name of a calendar: outside its hours nothing is sent.
    pub calendar: Option<String>,
    /// The time of day of the daily digest, in the zone of the calendar; without `calendar` in that
    /// of the default calendar.
    pub digest: Option<NaiveTime>,
}

impl ChannelHours {
    /// Reads the keys of a `[[channel]]`.
    ///
    /// # Errors
    /// A value of another form.
    pub(super) fn parse(table: &DeTable<'_>) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::new("`digest` must be a time of day such as 09:00".to_owned());
        let time = |text: &str| {
            let is_short = text.len() == "09:00".len();
            let time = NaiveTime::parse_from_str(text, "%H:%M").ok();
            time.filter(|_| is_short).ok_or_else(wrong)
        };
        Ok(Self {
            calendar: text(table, "calendar")?.map(str::to_owned),
            digest: text(table, "digest")?.map(time).transpose()?,
        })
    }
}

/// The hours of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelSchedule {
    /// Outside its hours nothing is sent.
    pub quiet: Option<Calendar>,
    pub digest: Option<DailyDigest>,
}

/// The time of a daily digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DailyDigest {
    /// It is sent on the days on which this calendar has hours.
    pub calendar: Calendar,
    /// The time of day in its zone, in seconds since midnight.
    pub second: i64,
}

impl ChannelConfig {
    /// Looks up the calendars of the channel.
    ///
    /// # Errors
    /// An unknown calendar, or a digest without one.
    pub fn schedule(&self, calendars: &Calendars) -> Result<ChannelSchedule, ConfigError> {
        let wrong = |error: ConfigError| error.at(format_args!("channel `{}`", self.name));
        let named = |name: &String| {
            let unknown = || {
                let known: Vec<_> = calendars.iter().map(Calendar::name).collect();
                let advice = match known.is_empty() {
                    true => "write a table [calendars.NAME]".to_owned(),
                    false => format!("the calendars are {}", known.join(", ")),
                };
                wrong(ConfigError::new(format!(
                    "there is no calendar `{name}`: {advice}"
                )))
            };
            calendars.named(name).cloned().ok_or_else(unknown)
        };
        let quiet = self.hours.calendar.as_ref().map(named).transpose()?;
        let Some(time) = self.hours.digest else {
            return Ok(ChannelSchedule {
                quiet,
                digest: None,
            });
        };
        let calendar = quiet
            .clone()
            .or_else(|| calendars.default_calendar().cloned());
        let calendar = calendar.ok_or_else(|| {
            wrong(ConfigError::new(
                "`digest` is a time of day in the zone of a calendar: set the channel's \
                 `calendar`, or `default_calendar`",
            ))
        })?;
        let second = i64::from(time.num_seconds_from_midnight());
        Ok(ChannelSchedule {
            quiet,
            digest: Some(DailyDigest { calendar, second }),
        })
    }
}
