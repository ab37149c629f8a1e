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
    /// An unknown calendar, a digest without one, or one at a time when its hours are over.
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
        if let Some(quiet) = quiet.as_ref().filter(|quiet| quiet.may_be_over(second)) {
            return Err(wrong(ConfigError::new(format!(
                "`digest` is {}, when the hours of its calendar `{}` are over on some weekday, and \
                 would be held until the next: choose an earlier time",
                time.format("%H:%M"),
                quiet.name()
            ))));
        }
        Ok(ChannelSchedule {
            quiet,
            digest: Some(DailyDigest { calendar, second }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::sources;
    use crate::config::Config;

    #[test]
    fn digest_is_within_the_hours_of_its_channel() {
        let file = |calendar: &str, digest: &str| {
            format!(
                "default_calendar = 'office'\n\
                 [calendars.office]\nzone = 'Europe/Berlin'\n\
                 week = {{ mon = ['09:00-12:00', '13:00-17:00'], sat = ['09:00-14:00'] }}\n\
                 [[channel]]\nname = 'ops'\nkind = 'slack'\nurl = 'https://a.example/b'\n\
                 {calendar}digest = '{digest}'\n"
            )
        };
        let own = "calendar = 'office'\n";
        for (calendar, digest, is_taken) in [
            // Before the hours, and between them, it waits for the next of the same day.
            (own, "08:00", true),
            (own, "12:30", true),
            (own, "13:59", true),
            (own, "14:00", false),
            (own, "18:00", false),
            // Without quiet hours it is never held.
            ("", "18:00", true),
        ] {
            let error = Config::new(&sources(&[], &file(calendar, digest))).err();
            assert_eq!(error.is_none(), is_taken, "{calendar} {digest}");
            if let Some(error) = error {
                let error = error.to_string();
                let words = format!("channel `ops`: `digest` is {digest}, when the hours");
                assert!(error.contains(&words) && !error.contains('\n'), "{error}");
            }
        }
    }
}
