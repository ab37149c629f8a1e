//! The error of a setting that cannot be used.

use std::fmt;

/// An invalid setting, with the expected form of its value. Never contains a secret.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    message: String,
    /// The setting whose value is invalid.
    pub(super) setting: Option<&'static str>,
}

impl ConfigError {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            setting: None,
        }
    }

    /// Returns the error of one setting, whose name `message` contains.
    pub(super) fn of(setting: &'static str, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            setting: Some(setting),
        }
    }

    /// Puts `place`, such as the path of the file, before the message.
    pub(super) fn at(self, place: impl fmt::Display) -> Self {
        Self {
            message: format!("{place}: {}", self.message),
            ..self
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}
