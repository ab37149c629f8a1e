//! Sources of settings: flags, environment, file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use super::channels::{
    ChannelConfig, NOTIFY_WEBHOOK_SECRET, NOTIFY_WEBHOOK_URL, SLACK_WEBHOOK_URL,
};
use super::file::{FileSettings, read_file};
use super::http::{TALLYHOOK_ADMIN_TOKEN, TALLYHOOK_TOKEN};
use super::settings::default_of;
use super::{
    AMQP_URL, ConfigError, DATABASE_URL, GITHUB_APP_PRIVATE_KEY, GITHUB_TOKEN,
    GITHUB_WEBHOOK_SECRET,
};

/// The settings that are secrets. Each can be read from a file, whose path is the value of the
/// setting with `_FILE` after its name, so that it is in no environment.
pub const SECRET_SETTINGS: [&str; 10] = [
    GITHUB_WEBHOOK_SECRET,
    GITHUB_TOKEN,
    GITHUB_APP_PRIVATE_KEY,
    DATABASE_URL,
    AMQP_URL,
    TALLYHOOK_ADMIN_TOKEN,
    TALLYHOOK_TOKEN,
    SLACK_WEBHOOK_URL,
    NOTIFY_WEBHOOK_URL,
    NOTIFY_WEBHOOK_SECRET,
];

/// Returns the name under which the path of a secret's file is set.
pub(super) fn path_setting(secret: &str) -> String {
    format!("{secret}_FILE")
}

/// Sets the secrets of one source that are in files. An error shows neither content nor path, since
/// the path may be a secret that was pasted into the wrong setting.
fn read_secret_files(values: &mut BTreeMap<String, String>) -> Result<(), ConfigError> {
    let is_set = |text: &&String| !text.trim().is_empty();
    for secret in SECRET_SETTINGS {
        let path_setting = path_setting(secret);
        let Some(path) = values.get(&path_setting).filter(is_set) else {
            continue;
        };
        if values.get(secret).filter(is_set).is_some() {
            return Err(ConfigError::new(format!(
                "{secret} and {path_setting} are both set: unset one of them"
            )));
        }
        let text = std::fs::read_to_string(path.trim()).map_err(|error| {
            let kind = error.kind();
            ConfigError::new(format!(
                "{path_setting} is not the path of a readable file: {kind}"
            ))
        })?;
        if text.trim().is_empty() {
            return Err(ConfigError::new(format!(
                "the file that {path_setting} names is empty"
            )));
        }
        values.insert(secret.to_owned(), text);
    }
    Ok(())
}

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
        Self::new(environment, super::file::parse_file(file).ok().unwrap())
            .ok()
            .unwrap()
    }

    fn new(
        mut environment: BTreeMap<String, String>,
        file: FileSettings,
    ) -> Result<Self, ConfigError> {
        let FileSettings {
            mut values,
            channels,
        } = file;
        read_secret_files(&mut environment)?;
        read_secret_files(&mut values)?;
        Ok(Self {
            flags: BTreeMap::new(),
            environment,
            file: values,
            channels,
        })
    }

    /// Reads the process's environment, and `file` if there is one.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML or has an unknown key, or if the file of a secret
    /// cannot be read.
    pub fn from_process(file: Option<&Path>) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::new(
            environment,
            file.map(read_file).transpose()?.unwrap_or_default(),
        )
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

    use super::super::file::parse_file;
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

    /// Returns the sources of an environment that names files.
    fn with_files(environment: &[(&str, &str)], file: &str) -> Result<SettingSources, ConfigError> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        SettingSources::new(environment.collect(), parse_file(file)?)
    }

    #[test]
    fn every_secret_is_read_from_the_file_that_its_setting_names() {
        let folder = tempfile::tempdir().unwrap();
        for secret in SECRET_SETTINGS {
            let path = folder.path().join(secret);
            std::fs::write(&path, format!("  content of {secret}\r\n")).unwrap();
            let path = path.to_str().unwrap();
            let (setting, key) = (format!("{secret}_FILE"), secret.to_lowercase());
            for sources in [
                with_files(&[(&setting, path)], ""),
                with_files(&[], &format!("{key}_file = '{path}'")),
                // An empty variable counts as not set.
                with_files(&[(&setting, path), (secret, " ")], ""),
                // The environment beats the file.
                with_files(&[(&setting, path)], &format!("{key} = 'other'")),
            ] {
                let wanted = format!("content of {secret}");
                assert_eq!(sources.ok().unwrap().value(secret), Some(wanted.as_str()));
            }
            let both = with_files(&[(&setting, path), (secret, "carrot")], "");
            let both = both.err().unwrap().to_string();
            let wanted = format!("{secret} and {setting} are both set: unset one of them");
            assert_eq!(both, wanted);
            let both = format!("{key} = 'carrot'\n{key}_file = '{path}'");
            assert_eq!(with_files(&[], &both).err().unwrap().to_string(), wanted);
        }
    }

    #[test]
    fn errors_of_files_of_secrets_name_the_setting_and_show_nothing_of_them() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        for (path, words) in [
            (
                "carrot-that-is-missing",
                "not the path of a readable file: entity not found",
            ),
            ("/", "not the path of a readable file: is a directory"),
            (empty.path().to_str().unwrap(), "names is empty"),
        ] {
            let error = with_files(&[("GITHUB_TOKEN_FILE", path)], "");
            let error = error.err().unwrap().to_string();
            assert!(
                error.contains("GITHUB_TOKEN_FILE") && error.contains(words),
                "{error}"
            );
            assert!(path == "/" || !error.contains(path), "{error}");
        }
        // Other settings are no secrets.
        assert!(parse_file("bot_logins_file = 'x'").is_err());
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
