//! The configuration file: TOML with the settings' names in lower case, and `[[channel]]` tables.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::calendars::{CALENDAR_KEYS, CalendarTables};
use super::channels::{self, ChannelConfig};
use super::nearest::nearest;
use super::sources::{SourceValue, SourceValues, path_setting};
use super::waiting::{self, DEFAULT_REVIEWERS, DefaultReviewers};
use super::{ConfigError, SECRET_SETTINGS, SETTINGS};

/// The name of the tables of channels.
const CHANNEL: &str = "channel";

/// The values of a file by setting name, and its channels.
#[derive(Default)]
pub(super) struct FileSettings {
    /// `None` if there is no file.
    pub(super) path: Option<PathBuf>,
    pub(super) values: SourceValues,
    pub(super) channels: Vec<ChannelConfig>,
    pub(super) calendars: CalendarTables,
    pub(super) default_reviewers: DefaultReviewers,
}

/// A line of the file, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileLine(usize);

impl FileLine {
    /// Returns the line in which `span` of `text` begins.
    pub(super) fn of(text: &str, span: Range<usize>) -> Self {
        let before = text.as_bytes().iter().take(span.start);
        Self(1 + before.filter(|byte| **byte == b'\n').count())
    }
}

impl fmt::Display for FileLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.0)
    }
}

pub(super) fn read_file(path: &Path) -> Result<FileSettings, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound => "; `tallyhook init` creates one",
            _ => "",
        };
        ConfigError::new(format!(
            "cannot read the configuration file {}: {error}{advice}",
            path.display()
        ))
    })?;
    let settings = parse_file(&text).map_err(|error| error.at(path.display()))?;
    Ok(FileSettings {
        path: Some(path.to_owned()),
        ..settings
    })
}

pub(super) fn parse_file(text: &str) -> Result<FileSettings, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let wrong = ConfigError::new(format!("not TOML: {}", error.message()));
        match error.span() {
            Some(span) => wrong.at(FileLine::of(text, span)),
            None => wrong,
        }
    })?;
    let mut entries: Vec<_> = table.into_inner().into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut settings = FileSettings::default();
    for (key, value) in entries {
        let line = FileLine::of(text, key.span());
        let key = key.into_inner();
        if key == CHANNEL {
            settings.channels = channels::from_file(text, &value)?;
            continue;
        }
        if key == DEFAULT_REVIEWERS {
            settings.default_reviewers = waiting::default_reviewers(text, line, value)?;
            continue;
        }
        if CALENDAR_KEYS.contains(&key.as_ref()) {
            settings.calendars.read(text, line, &key, value)?;
            continue;
        }
        let value = value.into_inner();
        let name = known_name(&key, &value).map_err(|error| error.at(line))?;
        let value = SourceValue {
            text: as_text(&key, value).map_err(|error| error.at(line))?,
            line: Some(line),
            secret_file: None,
        };
        settings.values.insert(name, value);
    }
    Ok(settings)
}

/// Returns the keys of the file, but for the tables of channels, calendars and reviewers.
pub(super) fn keys() -> Vec<String> {
    let names = SETTINGS.iter().map(|setting| setting.name.to_owned());
    names
        .chain(SECRET_SETTINGS.map(path_setting))
        .map(|name| name.to_lowercase())
        .collect()
}

fn known_name(key: &str, value: &DeValue<'_>) -> Result<String, ConfigError> {
    let keys = keys();
    if keys.iter().any(|known| known == key) {
        return Ok(key.to_uppercase());
    }
    let is_table = value.is_table();
    let is_tables = value
        .as_array()
        .is_some_and(|items| items.iter().any(|item| item.get_ref().is_table()));
    let tables = [CHANNEL, DEFAULT_REVIEWERS]
        .into_iter()
        .chain(CALENDAR_KEYS);
    let message = match nearest(key, keys.iter().map(String::as_str).chain(tables)) {
        Some("calendars") => {
            format!("unknown table `{key}`: did you mean [calendars.NAME]?")
        }
        Some(DEFAULT_REVIEWERS) => {
            format!("unknown table `{key}`: did you mean [{DEFAULT_REVIEWERS}]?")
        }
        Some(CHANNEL) => format!("unknown table `{key}`: did you mean [[{CHANNEL}]]?"),
        _ if is_table || is_tables => format!(
            "unknown table `{key}`: the file has keys such as sync_interval = \"60s\", and tables \
             [[{CHANNEL}]] below them"
        ),
        Some(known) => format!("unknown key `{key}`: did you mean `{known}`?"),
        None => format!(
            "unknown key `{key}`: `tallyhook config show` lists the settings; a key is the name \
             in lower case"
        ),
    };
    Err(ConfigError::new(message))
}

/// Returns a value as it would be written in the environment; a list becomes lines.
fn as_text(key: &str, value: DeValue<'_>) -> Result<String, ConfigError> {
    match value {
        DeValue::String(text) => Ok(text.into_owned()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Array(items) => {
            let items = items.into_iter().map(Spanned::into_inner);
            let items: Result<Vec<_>, _> = items.map(|item| as_text(key, item)).collect();
            Ok(items?.join("\n"))
        }
        _ => Err(ConfigError::new(format!(
            "the value of `{key}` must be a text, a number or a list of texts"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_files_are_refused_in_one_line_with_its_number_and_what_was_meant() {
        for (text, words) in [
            (
                "\n\ngithub_webhook_secert = 'x'",
                "line 3: unknown key `github_webhook_secert`: did you mean `github_webhook_secret`?",
            ),
            ("GITHUB_TOKEN = 'x'", "did you mean `github_token`?"),
            (
                "nothing_like_it = 1",
                "line 1: unknown key `nothing_like_it`",
            ),
            ("a = = 1", "line 1: not TOML"),
            ("bot_logins = []\nx = 'unclosed", "line 2: not TOML"),
            ("[[chanel]]\nname = 'ops'", "did you mean [[channel]]?"),
            ("[github]\ntoken = 'x'", "line 1: unknown table `github`"),
            ("bot_logins = 1.5", "line 1: the value of `bot_logins`"),
        ] {
            let error = parse_file(text).err().unwrap().to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        }
    }
}
