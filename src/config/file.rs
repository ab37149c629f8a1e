//! The configuration file: TOML with the settings' names in lower case, and `[[channel]]` tables.

use std::collections::BTreeMap;
use std::path::Path;

use super::channels::{self, ChannelConfig};
use super::sources::path_setting;
use super::{ConfigError, SECRET_SETTINGS, SETTINGS};

/// The values of a file by setting name, and its channels.
#[derive(Default)]
pub(super) struct FileSettings {
    pub(super) values: BTreeMap<String, String>,
    pub(super) channels: Vec<ChannelConfig>,
}

pub(super) fn read_file(path: &Path) -> Result<FileSettings, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::new(format!(
            "cannot read the configuration file {}: {error}",
            path.display()
        ))
    })?;
    parse_file(&text).map_err(|error| error.at(path.display()))
}

pub(super) fn parse_file(text: &str) -> Result<FileSettings, ConfigError> {
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        ConfigError::new(format!("not TOML: {}", error.message()))
    })?;
    let channels = table
        .remove("channel")
        .map(channels::from_file)
        .transpose()?
        .unwrap_or_default();
    let values = table
        .into_iter()
        .map(|(key, value)| Ok((known_name(&key)?, as_text(&key, value)?)))
        .collect::<Result<_, ConfigError>>()?;
    Ok(FileSettings { values, channels })
}

fn known_name(key: &str) -> Result<String, ConfigError> {
    let names = SETTINGS.iter().map(|setting| setting.name.to_owned());
    let keys: Vec<_> = names
        .chain(SECRET_SETTINGS.map(path_setting))
        .map(|name| name.to_lowercase())
        .collect();
    if keys.iter().any(|known| known == key) {
        return Ok(key.to_uppercase());
    }
    Err(ConfigError::new(format!(
        "unknown key `{key}`; the keys are {}, and tables [[channel]]",
        keys.join(", ")
    )))
}

/// Returns a value as it would be written in the environment; a list becomes lines.
fn as_text(key: &str, value: toml::Value) -> Result<String, ConfigError> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        toml::Value::Array(items) => {
            let items: Result<Vec<_>, _> =
                items.into_iter().map(|item| as_text(key, item)).collect();
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
    fn unknown_keys_and_broken_toml_are_refused_in_one_line() {
        let error = |text| parse_file(text).err().unwrap().to_string();
        let unknown = error("github_webhook_secert = 'x'");
        assert!(unknown.contains("unknown key `github_webhook_secert`") && !unknown.contains('\n'));
        assert!(error("a = = 1").starts_with("not TOML"));
    }
}
