//! What can go wrong with a request to GitHub, named by what to do about it.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use thiserror::Error;

/// A request that came to nothing. The text is for people and holds neither token nor body.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GithubError {
    /// Set another token.
    #[error("GitHub does not accept the token ({message}): set GITHUB_TOKEN to one that is valid")]
    Unauthorized { message: String },
    /// Mend what the App signs with, or this machine's clock.
    #[error("GitHub does not accept the App ({message}): {advice}")]
    AppRefused { message: String, advice: String },
    /// Install the App there.
    #[error(
        "the GitHub App is not installed on {on}: install it there, or set GITHUB_APP_ID to the App that is"
    )]
    AppNotInstalled { on: String },
    /// Give the token or the App more rights. Asking again is of no use.
    #[error("GitHub forbids {path} ({message}){}", needs(needed.as_deref()))]
    Forbidden {
        path: String,
        message: String,
        /// The scopes or permissions that GitHub names.
        needed: Option<String>,
    },
    /// It is not there, or this token may not know that it is.
    #[error("GitHub has no {path}, or this token may not see it")]
    NotFound { path: String },
    /// It was there, and is no more.
    #[error("{path} is gone from GitHub")]
    Gone { path: String },
    /// Ask again then, and not before. It was waited for already as long as is sensible.
    #[error("GitHub's rate limit is used up until {}", until.to_rfc3339_opts(SecondsFormat::Secs, true))]
    Limited { until: DateTime<Utc> },
    /// The request itself is wrong; the same again gets the same answer. The message has the complaints in it.
    #[error("GitHub refused {path} with {status} ({message})")]
    Refused {
        path: String,
        status: u16,
        message: String,
        complaints: Vec<Complaint>,
    },
    /// Try again later: it was tried several times, unless that might have done something twice.
    #[error("GitHub cannot be reached at {origin} ({reason}); try again later")]
    Unreachable { origin: String, reason: String },
    /// The answer is larger than any that is expected; leave it out.
    #[error("GitHub's answer to {path} is larger than {limit_mib} MiB")]
    TooLarge { path: String, limit_mib: usize },
    /// Ask for less at once.
    #[error("GitHub cannot answer so much about {path} at once ({reason})")]
    TooMuch { path: String, reason: String },
    /// This is not GitHub's API, or it has changed.
    #[error("{path} was not answered as GitHub's API does ({reason}): check GITHUB_API_URL")]
    Unexpected { path: String, reason: String },
}

/// What GitHub finds wrong with a part of what it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Complaint {
    pub field: Option<String>,
    /// One word, such as `invalid` or `missing_field`; `custom` where the message says it.
    pub code: Option<String>,
    pub message: Option<String>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self {
                message: Some(message),
                ..
            } => f.write_str(message),
            Self { field, code, .. } => {
                write!(
                    f,
                    "{}: {}",
                    field.as_deref().unwrap_or("it"),
                    code.as_deref().unwrap_or("invalid")
                )
            }
        }
    }
}

impl GithubError {
    /// Whether it concerns the one thing that was asked for, so that others may still be got.
    pub fn is_about_one(&self) -> bool {
        match self {
            Self::AppNotInstalled { .. }
            | Self::NotFound { .. }
            | Self::Gone { .. }
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::TooMuch { .. }
            | Self::Unexpected { .. } => true,
            Self::Unauthorized { .. }
            | Self::AppRefused { .. }
            | Self::Forbidden { .. }
            | Self::Limited { .. }
            | Self::Unreachable { .. } => false,
        }
    }
}

fn needs(needed: Option<&str>) -> String {
    match needed {
        Some(needed) => format!(": the token or App needs {needed}"),
        None => ": give the token or App the right to it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_line_that_names_what_it_is_about() {
        let text = |text: &str| text.to_owned();
        let (path, message, reason, origin) =
            (text("/a/b"), text("M"), text("R"), text("https://o"));
        let until = DateTime::from_timestamp(1_772_445_600, 0).unwrap();
        let forbidden = |needed: Option<&str>| GithubError::Forbidden {
            path: path.clone(),
            message: message.clone(),
            needed: needed.map(text),
        };
        for (error, words) in [
            (
                GithubError::Unauthorized {
                    message: message.clone(),
                },
                &["(M)", "set GITHUB_TOKEN"][..],
            ),
            (
                GithubError::AppRefused {
                    message: message.clone(),
                    advice: text("do this"),
                },
                &["(M): do this"][..],
            ),
            (
                GithubError::AppNotInstalled { on: text("a/b") },
                &["not installed on a/b", "install it there"][..],
            ),
            (forbidden(None), &["/a/b (M)", "the right to it"][..]),
            (
                forbidden(Some("the permission x=read")),
                &["/a/b (M)", "needs the permission x=read"][..],
            ),
            (
                GithubError::NotFound { path: path.clone() },
                &["no /a/b", "may not see it"][..],
            ),
            (
                GithubError::Gone { path: path.clone() },
                &["/a/b is gone"][..],
            ),
            (
                GithubError::Limited { until },
                &["until 2026-03-02T10:00:00Z"][..],
            ),
            (
                GithubError::Refused {
                    path: path.clone(),
                    status: 422,
                    message,
                    complaints: vec![],
                },
                &["/a/b with 422 (M)"][..],
            ),
            (
                GithubError::Unreachable {
                    origin,
                    reason: reason.clone(),
                },
                &["https://o (R)", "try again later"][..],
            ),
            (
                GithubError::TooLarge {
                    path: path.clone(),
                    limit_mib: 16,
                },
                &["/a/b", "16 MiB"][..],
            ),
            (
                GithubError::TooMuch {
                    path: path.clone(),
                    reason: reason.clone(),
                },
                &["/a/b", "at once (R)"][..],
            ),
            (
                GithubError::Unexpected {
                    path: path.clone(),
                    reason,
                },
                &["/a/b", "(R)", "check GITHUB_API_URL"][..],
            ),
        ] {
            let told = error.to_string();
            assert!(
                words.iter().all(|word| told.contains(word)) && !told.contains('\n'),
                "{told}"
            );
        }
    }
}
