//! Sources of settings: flags, environment, file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::calendars::CalendarTables;
use super::channels::{
    ChannelConfig, NOTIFY_WEBHOOK_SECRET, NOTIFY_WEBHOOK_URL, SLACK_WEBHOOK_URL,
};
use super::encryption::{TALLYHOOK_ENCRYPTION_KEYS, check_file};
use super::file::{FileLine, FileSettings, read_file};
use super::http::{METRICS_TOKEN, TALLYHOOK_ADMIN_TOKEN, TALLYHOOK_TOKEN};
use super::nearest::{meant_value, nearest};
use super::settings::default_of;
use super::waiting::DefaultReviewers;
use super::{
    AMQP_URL, ConfigError, DATABASE_URL, GITHUB_APP_PRIVATE_KEY, GITHUB_CLIENT_SECRET,
    GITHUB_TOKEN, GITHUB_WEBHOOK_SECRET, SETTINGS,
};

/// The settings that are secrets. Each can be read from a file, whose path is the value of the
/// setting with `_FILE` after its name, so that it is in no environment.
pub const SECRET_SETTINGS: [&str; 13] = [
    GITHUB_WEBHOOK_SECRET,
    GITHUB_TOKEN,
    GITHUB_APP_PRIVATE_KEY,
    GITHUB_CLIENT_SECRET,
    DATABASE_URL,
    AMQP_URL,
    TALLYHOOK_ADMIN_TOKEN,
    TALLYHOOK_TOKEN,
    TALLYHOOK_ENCRYPTION_KEYS,
    METRICS_TOKEN,
    SLACK_WEBHOOK_URL,
    NOTIFY_WEBHOOK_URL,
    NOTIFY_WEBHOOK_SECRET,
];

/// Returns the name under which the path of a secret's file is set.
pub(super) fn path_setting(secret: &str) -> String {
    format!("{secret}_FILE")
}

/// The text of a setting, as one source has it.
pub(super) struct SourceValue {
    pub(super) text: String,
    /// The line of the configuration file.
    pub(super) line: Option<FileLine>,
    /// The file that has the text, of which the source has the path only.
    pub(super) secret_file: Option<PathBuf>,
}

impl SourceValue {
    fn of(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            line: None,
            secret_file: None,
        }
    }

    /// Returns true if there is more than white space in it. Shells and compose files leave a
    /// variable out by setting it to nothing.
    fn is_set(&self) -> bool {
        !self.text.trim().is_empty()
    }
}

/// The values of one source, by setting name.
pub(super) type SourceValues = BTreeMap<String, SourceValue>;

/// Sets the secrets of one source that are in files. An error shows neither content nor path, since
/// the path may be a secret that was pasted into the wrong setting.
fn read_secret_files(values: &mut SourceValues) -> Result<(), ConfigError> {
    for secret in SECRET_SETTINGS {
        let path_setting = path_setting(secret);
        let Some(path) = values.get(&path_setting).filter(|path| path.is_set()) else {
            continue;
        };
        let line = path.line;
        let wrong = |message: String| match line {
            Some(line) => ConfigError::new(message).at(line),
            None => ConfigError::new(message),
        };
        if values.get(secret).is_some_and(SourceValue::is_set) {
            return Err(wrong(format!(
                "{secret} and {path_setting} are both set: unset one of them"
            )));
        }
        let path = PathBuf::from(path.text.trim());
        if secret == TALLYHOOK_ENCRYPTION_KEYS {
            check_file(&path).map_err(wrong)?;
        }
        let unreadable = format!("{path_setting} is not the path of a readable file");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| wrong(format!("{unreadable}: {}", error.kind())))?;
        if text.trim().is_empty() {
            return Err(wrong(format!(
                "the file that {path_setting} names is empty"
            )));
        }
        let value = SourceValue {
            text,
            line,
            secret_file: Some(path),
        };
        values.insert(secret.to_owned(), value);
    }
    Ok(())
}

/// The kind of source that a value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceKind {
    Flag,
    Environment,
    File,
}

/// A file that has a secret.
#[derive(Clone, Debug)]
pub struct SecretFile {
    pub setting: &'static str,
    pub path: PathBuf,
}

/// A setting that a flag, the environment or the file sets.
#[derive(Clone, Debug)]
pub struct SetSetting {
    pub name: &'static str,
    /// Its source in words.
    pub from: String,
}

/// The sources of the settings in force, without their values.
#[derive(Clone, Debug, Default)]
pub struct SettingOrigins {
    /// The settings that are not at their defaults, in the order of `--help`.
    pub set: Vec<SetSetting>,
    pub config_file: Option<PathBuf>,
    pub config_file_has_secrets: bool,
    pub secret_files: Vec<SecretFile>,
    /// The names that are misspelt, and the values in quotation marks.
    pub warnings: Vec<String>,
}

/// The values of settings by source, the strongest first.
#[derive(Default)]
pub struct SettingSources {
    flags: SourceValues,
    environment: SourceValues,
    file: SourceValues,
    /// The path of the configuration file.
    path: Option<PathBuf>,
    /// Only a file can define channels with names of their own.
    pub(super) channels: Vec<ChannelConfig>,
    /// Only a file can define calendars.
    pub(super) calendars: CalendarTables,
    /// Only a file can name the reviewers of single repositories.
    pub(super) default_reviewers: DefaultReviewers,
}

impl SettingSources {
    /// Returns sources of a test, which reads no real environment.
    #[cfg(test)]
    pub(super) fn for_tests(environment: BTreeMap<String, String>, file: &str) -> Self {
        Self::new(environment, super::file::parse_file(file).ok().unwrap())
            .ok()
            .unwrap()
    }

    fn new(environment: BTreeMap<String, String>, file: FileSettings) -> Result<Self, ConfigError> {
        let FileSettings {
            path,
            values: mut file,
            channels,
            calendars,
            default_reviewers,
        } = file;
        let values = environment.into_iter();
        let mut environment = values
            .map(|(name, text)| (name, SourceValue::of(text)))
            .collect();
        read_secret_files(&mut environment)?;
        read_secret_files(&mut file).map_err(|error| match &path {
            Some(path) => error.at(path.display()),
            None => error,
        })?;
        Ok(Self {
            flags: BTreeMap::new(),
            environment,
            file,
            path,
            channels,
            calendars,
            default_reviewers,
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
            self.flags.insert(name.to_owned(), SourceValue::of(value));
        }
        self
    }

    /// Keeps the value of `name` and drops every other one.
    #[must_use]
    pub fn keep_only(self, name: &'static str) -> Self {
        Self::default().with_flag(name, self.text(name))
    }

    /// Returns true if a flag, the environment or the file sets `name`.
    pub fn is_set(&self, name: &str) -> bool {
        self.lookup(name).is_some()
    }

    /// Returns the path of the configuration file, if there is one.
    pub fn config_file(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns true if the configuration file itself has a secret in it.
    pub fn config_file_has_secrets(&self) -> bool {
        let mut secrets = SECRET_SETTINGS
            .iter()
            .filter_map(|name| self.file.get(*name).map(|value| (*name, value)));
        let has_secret = secrets.any(|(name, value)| {
            // A file of SQLite has no password.
            let is_path = name == DATABASE_URL && value.text.trim().starts_with("sqlite:");
            value.is_set() && value.secret_file.is_none() && !is_path
        });
        has_secret || !self.channels.is_empty()
    }

    /// Returns the files of the secrets in force.
    pub fn secret_files(&self) -> Vec<SecretFile> {
        let files = SECRET_SETTINGS.into_iter().filter_map(|setting| {
            let (_, value) = self.lookup(setting)?;
            let path = match &value.secret_file {
                Some(path) => path.clone(),
                // The one setting whose value may be a path itself.
                None if setting == GITHUB_APP_PRIVATE_KEY && !value.text.contains("-----BEGIN") => {
                    PathBuf::from(value.text.trim())
                }
                None => return None,
            };
            Some(SecretFile { setting, path })
        });
        files.collect()
    }

    /// Returns the sources without the values.
    pub fn origins(&self) -> SettingOrigins {
        let set = SETTINGS.iter().filter(|setting| self.is_set(setting.name));
        let set = set.filter_map(|setting| {
            let (name, from) = (setting.name, self.origin(setting.name)?);
            Some(SetSetting { name, from })
        });
        SettingOrigins {
            set: set.collect(),
            config_file: self.path.clone(),
            config_file_has_secrets: self.config_file_has_secrets(),
            secret_files: self.secret_files(),
            warnings: self.warnings(),
        }
    }

    /// Returns the source of the value of `name` in words; `None` if it has no value.
    pub(super) fn origin(&self, name: &str) -> Option<String> {
        let Some((kind, value)) = self.lookup(name) else {
            return default_of(name).map(|_| "default".to_owned());
        };
        let source = match kind {
            SourceKind::Flag => "flag".to_owned(),
            SourceKind::Environment => "environment".to_owned(),
            SourceKind::File => self.place(value),
        };
        Some(match &value.secret_file {
            Some(path) => format!("{source}, in {}", path.display()),
            None => source,
        })
    }

    /// Returns the place of a value in the configuration file.
    fn place(&self, value: &SourceValue) -> String {
        let path = self.path.as_deref().map(|path| path.display().to_string());
        let line = value.line.map(|line| line.to_string());
        path.into_iter().chain(line).collect::<Vec<_>>().join(" ")
    }

    /// Puts the place of a wrong value before an error, if the configuration file has it.
    pub(super) fn located(&self, error: ConfigError) -> ConfigError {
        match error.setting.and_then(|name| self.lookup(name)) {
            Some((SourceKind::File, value)) => {
                let place = self.place(value);
                error.at(place)
            }
            _ => error,
        }
    }

    /// Returns what looks wrong among the sources, although nothing refuses it: variables with a
    /// misspelt name, which silently do nothing, and values in quotation marks.
    pub fn warnings(&self) -> Vec<String> {
        let names = || SETTINGS.iter().map(|setting| setting.name);
        let paths = SECRET_SETTINGS.map(path_setting);
        let known = || names().chain(paths.iter().map(String::as_str));
        let variables = self.environment.keys();
        let unknown = variables.filter(|name| !known().any(|known| known == *name));
        let misspelt = unknown.filter_map(|name| {
            let bare = name.strip_prefix("TALLYHOOK_").unwrap_or(name);
            let meant = known().find(|known| *known == bare);
            let meant = meant.or_else(|| nearest(name, known()))?;
            Some(format!(
                "the environment has {name}, which is no setting: did you mean {meant}?"
            ))
        });
        let quoted = names().filter(|name| {
            let text = self.text(name).unwrap_or_default();
            let is_in = |mark| text.len() > 1 && text.starts_with(mark) && text.ends_with(mark);
            is_in('"') || is_in('\'')
        });
        let quoted = quoted.map(|name| {
            format!(
                "the value of {name} is in quotation marks, which are part of it, as in Docker's \
                 files of variables: leave them out"
            )
        });
        misspelt.chain(quoted).collect()
    }

    fn lookup(&self, name: &str) -> Option<(SourceKind, &SourceValue)> {
        let sources = [
            (SourceKind::Flag, &self.flags),
            (SourceKind::Environment, &self.environment),
            (SourceKind::File, &self.file),
        ];
        sources
            .into_iter()
            .filter_map(|(kind, values)| Some((kind, values.get(name)?)))
            .find(|(_, value)| value.is_set())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.lookup(name).map(|(_, value)| value.text.trim())
    }

    /// Returns the configured value, or else the default.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.text(name).or(default_of(name))
    }

    pub(super) fn parsed<T: FromStr>(
        &self,
        name: &'static str,
        expected: &str,
    ) -> Result<T, ConfigError> {
        self.parsed_if(name, expected, |_| true)
    }

    pub(super) fn within<T>(
        &self,
        name: &'static str,
        range: RangeInclusive<T>,
    ) -> Result<T, ConfigError>
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
        name: &'static str,
        expected: &str,
        is_good: impl Fn(&T) -> bool,
    ) -> Result<T, ConfigError> {
        let text = self.value(name).unwrap_or_default();
        let parse = |text: &str| text.parse().ok().filter(&is_good);
        parse(text).ok_or_else(|| {
            let meant = meant_value(text, |form| parse(form).is_some())
                .map(|form| format!("; did you mean `{form}`?"))
                .unwrap_or_default();
            ConfigError::of(
                name,
                format!("{name} is `{text}`, expected {expected}{meant}"),
            )
        })
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
        assert_eq!(config.numbers.bots, Bots::new(["one", "two"]));
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
            let in_file = with_files(&[], &both).err().unwrap().to_string();
            assert_eq!(in_file, format!("line 2: {wanted}"));
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
    fn wrong_value_is_named_with_its_line_and_the_value_that_was_meant() {
        for (file, expected) in [
            (
                "\nsync_interval = 60",
                "line 2: SYNC_INTERVAL is `60`, expected one from 1s to 1day such as 60s; did you \
                 mean `60s`?",
            ),
            ("github_sync_commits = 'yes'", "did you mean `true`?"),
            (
                "tallyhook_listen = 'localhost:80'",
                "did you mean `127.0.0.1:80`?",
            ),
            ("tallyhook_listen = 9000", "did you mean `127.0.0.1:9000`?"),
            (
                "tallyhook_listen = ':9000'",
                "did you mean `127.0.0.1:9000`?",
            ),
            (
                "tallyhook_listen = '0.0.0.0'",
                "did you mean `0.0.0.0:8080`?",
            ),
            ("delivery_retention_days = '7d'", "did you mean `7`?"),
            (
                "github_token = 'two words'",
                "line 1: GITHUB_TOKEN is not a token",
            ),
            (
                "github_repo_name = 'acme/api'\ngithub_repo_owner = 'acme'",
                "line 1: ",
            ),
            (
                "task_key_patterns = ['a(']",
                "line 1: TASK_KEY_PATTERNS is wrong",
            ),
        ] {
            let error = Config::new(&sources(&[], file)).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
        // The environment has no lines.
        let error = Config::new(&sources(&[("SYNC_INTERVAL", "60")], "sync_interval = '1s'"));
        assert!(
            error
                .err()
                .unwrap()
                .to_string()
                .starts_with("SYNC_INTERVAL")
        );
    }

    #[test]
    fn misspelt_variables_and_values_in_quotation_marks_are_warned_of() {
        let warnings = |environment: &[(&str, &str)]| sources(environment, "").warnings();
        for (name, meant) in [
            ("AMPQ_URL", "AMQP_URL"),
            ("GITHUB_WEBHOOK_SECRETS", "GITHUB_WEBHOOK_SECRET"),
            ("SYNC_INTERVALL", "SYNC_INTERVAL"),
            ("TALLYHOOK_DATABASE_URL", "DATABASE_URL"),
            ("sync_interval", "SYNC_INTERVAL"),
        ] {
            let found = warnings(&[(name, "carrot")]);
            let words = format!("{name}, which is no setting: did you mean {meant}?");
            assert!(
                matches!(&found[..], [one] if one.contains(&words) && !one.contains("carrot")),
                "{found:?}"
            );
        }
        let usual = [
            ("PATH", "/bin"),
            ("GITHUB_REPOSITORY", "acme/api"),
            ("GITHUB_TOKEN_FILE", ""),
            ("TALLYHOOK_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("SYNC_INTERVAL", "60s"),
        ];
        assert_eq!(warnings(&usual), Vec::<String>::new());
        let quoted = warnings(&[("GITHUB_TOKEN", "\"carrot\"")]);
        assert!(
            quoted[0].contains("GITHUB_TOKEN is in quotation marks"),
            "{quoted:?}"
        );
        assert!(!quoted[0].contains("carrot"));
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
