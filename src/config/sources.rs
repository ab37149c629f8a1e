//! Sources of settings: flags, environment, file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use super::ConfigError;
use super::channels::ChannelConfig;
use super::file::{FileSettings, read_file};
use super::settings::default_of;

/// The values of settings by source, the strongest first.
#[derive(Default)]
pub struct SettingSources {
    flags: BTreeMap<&'static str, String>,
    environment: BTreeMap<String, String>,
    file: BTreeMap<String, String>,
    /// Only a file can define channels with names of their own.
    pub(super) channels: Vec<ChannelConfig>,
}

impl SettingSources {
    /// Returns sources of a test, which reads no real environment.
    #[cfg(test)]
    pub(super) fn for_tests(environment: BTreeMap<String, String>, file: &str) -> Self {
        let FileSettings { values, channels } = super::file::parse_file(file).ok().unwrap();
        Self {
            flags: BTreeMap::new(),
            environment,
            file: values,
            channels,
        }
    }

    /// Reads the process's environment, and `file` if there is one.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML or has an unknown key.
    pub fn from_process(file: Option<&Path>) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let FileSettings { values, channels } =
            file.map(read_file).transpose()?.unwrap_or_default();
        Ok(Self {
            flags: BTreeMap::new(),
            environment,
            file: values,
            channels,
        })
    }

    /// Overrides a setting by a flag of the command line, if the flag was given.
    #[must_use]
    pub fn with_flag(mut self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        if let Some(value) = value {
            self.flags.insert(name, value.into());
        }
        self
    }

    /// Keeps the value of `name` and drops every other one.
    #[must_use]
    pub fn keep_only(self, name: &'static str) -> Self {
        Self::default().with_flag(name, self.lookup(name))
    }

    /// Returns true if a flag, the environment or the file sets `name`.
    pub fn is_set(&self, name: &str) -> bool {
        self.lookup(name).is_some()
    }

    fn lookup(&self, name: &str) -> Option<&str> {
        let sources = [
            self.flags.get(name),
            self.environment.get(name),
            self.file.get(name),
        ];
        // Shells and compose files leave a variable out by setting it to nothing.
        sources
            .into_iter()
            .flatten()
            .map(|text| text.trim())
            .find(|text| !text.is_empty())
    }

    /// Returns the configured value, or else the default.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.lookup(name).or(default_of(name))
    }

    pub(super) fn parsed<T: FromStr>(&self, name: &str, expected: &str) -> Result<T, ConfigError> {
        self.parsed_if(name, expected, |_| true)
    }

    pub(super) fn within<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let default = default_of(name).unwrap_or_default();
        let expected = format!(
            "one from {} to {} such as {default}",
            range.start(),
            range.end()
        );
        self.parsed_if(name, &expected, |value| range.contains(value))
    }

    fn parsed_if<T: FromStr>(
        &self,
        name: &str,
        expected: &str,
        is_good: impl FnOnce(&T) -> bool,
    ) -> Result<T, ConfigError> {
        let text = self.value(name).unwrap_or_default();
        let value = text.parse().ok().filter(is_good);
        value.ok_or_else(|| ConfigError::new(format!("{name} is `{text}`, expected {expected}")))
    }
}

#[cfg(test)]
mod tests {
    use tallyhook_core::domain::people::Bots;

    use super::super::testing::sources;
    use super::*;
    use crate::config::{Config, TALLYHOOK_LISTEN};

    #[test]
    fn flag_beats_environment_and_environment_beats_file() {
        let file = "tallyhook_listen = '127.0.0.1:1'\ndelivery_retention_days = 3\nbot_logins = ['one', 'two']";
        let both = || {
            sources(
                &[(TALLYHOOK_LISTEN, "127.0.0.1:2"), ("BOT_LOGINS", "")],
                file,
            )
        };
        let config = Config::new(&both()).ok().unwrap();
        assert_eq!((config.listen.port(), config.retention_days), (2, 3));
        assert_eq!(config.bots, Bots::new(["one", "two"]));
        let config = Config::new(&both().with_flag(TALLYHOOK_LISTEN, Some("127.0.0.1:3")))
            .ok()
            .unwrap();
        assert_eq!(config.listen.port(), 3);
    }

    #[test]
    fn every_setting_but_the_secret_of_serve_has_a_default() {
        let config = Config::new(&SettingSources::default()).ok().unwrap();
        assert!(config.webhook_secrets.is_none());
        assert_eq!(config.database_url, "sqlite://tallyhook.db");
        assert_eq!(
            config.admin_token_path(),
            Path::new("tallyhook-admin-token")
        );
    }
}
