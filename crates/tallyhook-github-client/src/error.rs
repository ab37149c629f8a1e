//! The errors of a request to GitHub, named by what to do about them.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tallyhook_core::text::one_line;
use thiserror::Error;

/// A request without a usable result. The text is for people and holds neither token nor body.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GithubError {
    /// GitHub refuses the credentials. Replace them: repeated attempts with a wrong token end in a
    /// block of all requests.
    #[error("{}", owner.refused(message))]
    Unauthorized {
        message: String,
        owner: CredentialOwner,
    },
    /// GitHub refuses the signature of the App. Correct its key, its id, or this machine's clock.
    #[error("GitHub does not accept the App ({message}): {advice}")]
    AppRefused { message: String, advice: String },
    /// The App has no installation there. Install it.
    #[error(
        "the GitHub App is not installed on {account}: install it there, \
         or set GITHUB_APP_ID to the App that is"
    )]
    AppNotInstalled { account: String },
    /// The token or the App lacks a right, or the organization does not admit it. A retry is of no
    /// use before that is changed.
    #[error("GitHub forbids {path} ({message}): {}", reason.advice())]
    Forbidden {
        path: String,
        message: String,
        reason: ForbiddenReason,
    },
    /// The organization wants the token to be authorized for its single sign-on.
    #[error(
        "GitHub answers {path} only after single sign-on ({message}): \
         authorize the token for the organization{}",
        at_url(url.as_deref())
    )]
    SsoRequired {
        path: String,
        message: String,
        /// The page that authorizes the token, valid for an hour. It is always of GitHub's own web
        /// site.
        url: Option<String>,
    },
    /// It does not exist, or this token may not know that it does.
    #[error("GitHub has no {path}, or this token may not see it")]
    NotFound { path: String },
    /// It existed, and was deleted.
    #[error("{path} is gone from GitHub")]
    Gone { path: String },
    /// A rate limit lasts longer than is sensible to wait. Retry then, and not before.
    #[error("GitHub's rate limit is used up until {}", seconds(until))]
    Limited { until: DateTime<Utc> },
    /// The request itself is wrong: the same again gets the same response. The message has the
    /// field errors in it.
    #[error("GitHub refused {path} with {status} ({message})")]
    Refused {
        path: String,
        status: u16,
        message: String,
        errors: Vec<FieldError>,
    },
    /// Push protection found secrets in the content. Remove them from it.
    #[error(
        "GitHub refused {path} since the content has a secret in it ({}): \
         remove it, or exclude the file",
        secret_types(secrets)
    )]
    SecretDetected {
        path: String,
        message: String,
        secrets: Vec<DetectedSecret>,
    },
    /// GraphQL refused the query or mutation about `subject`. Nothing was changed. Never empty.
    #[error("GitHub refused the query about {subject} ({})", first_message(errors))]
    GraphqlRefused {
        subject: String,
        errors: Vec<GraphqlError>,
    },
    /// GraphQL refused the query for a part of it: the token lacks a scope, or the server's schema
    /// the field. Ask without the part. Never empty.
    #[error(
        "GitHub forbids a part of the query about {subject} ({}): give the token the scope for it, \
         or update the server if its schema lacks it",
        first_message(errors)
    )]
    PartRefused {
        subject: String,
        errors: Vec<GraphqlError>,
    },
    /// GitHub did not process it, in several attempts. Retry later.
    #[error("GitHub cannot be reached at {origin} ({reason}); try again later")]
    Unreachable { origin: String, reason: String },
    /// A write was sent, and no usable response arrived: it may have happened. Read the state at
    /// GitHub before a retry.
    #[error(
        "{path} may have happened at GitHub or not ({reason}): \
         look at GitHub before it is sent again"
    )]
    Unknown { path: String, reason: String },
    /// The response is larger than any that is expected. Skip it.
    #[error("GitHub's answer to {path} is larger than {limit_mib} MiB")]
    TooLarge { path: String, limit_mib: usize },
    /// The query costs GitHub too much. Ask for less at once.
    #[error("GitHub cannot answer so much about {path} at once ({reason})")]
    TooMuch { path: String, reason: String },
    /// A change was not sent, since no record of it could be stored before.
    #[error(
        "{path} was not sent to GitHub, since the audit could not record it: look at the database"
    )]
    NotRecorded { path: String },
    /// The server is not GitHub's API, or the API has changed.
    #[error("{path} was not answered as GitHub's API does ({reason}): check GITHUB_API_URL")]
    Unexpected { path: String, reason: String },
}

/// The setting or connection that credentials are read from, and that has to be corrected if GitHub
/// refuses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialOwner {
    /// `GITHUB_TOKEN`.
    Setting,
    /// A connection, by its name.
    Connection(String),
    /// A person, who has just entered the token.
    Entered,
    /// The App's client id and client secret.
    OauthClient,
    /// The request has no credentials.
    Anonymous,
}

/// The reason for which GitHub forbids something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForbiddenReason {
    /// A right is missing: the scopes or permissions of which one is needed, where GitHub names
    /// them.
    Permission(Option<String>),
    /// The organization admits certain addresses only, and this machine's is none of them.
    IpAllowList,
    /// The organization has not approved the OAuth App.
    OauthRestriction,
    /// The installation of the App, or the account, is suspended.
    Suspended,
}

impl ForbiddenReason {
    /// Returns the reason that a message and the headers of a response name.
    pub(crate) fn of(message: &str, permission: Option<String>) -> Self {
        let says = |words: &str| message.contains(words);
        if says("has an IP allow list enabled") {
            Self::IpAllowList
        } else if says("has enabled OAuth App access restrictions") {
            Self::OauthRestriction
        } else if says("installation has been suspended") || says("account was suspended") {
            Self::Suspended
        } else {
            Self::Permission(permission)
        }
    }

    /// Returns whether the organization or GitHub's staff has to act, whatever rights the token has.
    pub(crate) fn is_by_rule(&self) -> bool {
        !matches!(self, Self::Permission(_))
    }

    fn advice(&self) -> String {
        let advice = match self {
            Self::Permission(Some(permission)) => {
                return format!("the token or App needs {permission}");
            }
            Self::Permission(None) => "give the token or App the right to it",
            Self::IpAllowList => {
                "ask an owner of the organization to add the address of this server to its IP \
                 allow list"
            }
            Self::OauthRestriction => {
                "ask an owner of the organization to approve the OAuth App in its settings, below \
                 Third-party access"
            }
            Self::Suspended => {
                "unsuspend the installation of the App, or the account, in GitHub's settings"
            }
        };
        advice.to_owned()
    }
}

impl CredentialOwner {
    /// Returns the text of [`GithubError::Unauthorized`].
    fn refused(&self, message: &str) -> String {
        match self {
            Self::Setting => format!(
                "GitHub does not accept the token ({message}): \
                 set GITHUB_TOKEN to one that is valid"
            ),
            Self::Connection(name) => format!(
                "GitHub does not accept the token of the connection {name} ({message}): \
                 connect it again"
            ),
            Self::Entered => format!(
                "GitHub does not accept the token that was entered ({message}): \
                 copy it once more, or create another"
            ),
            Self::OauthClient => format!(
                "GitHub does not accept the App's client id and client secret ({message}): \
                 set them to those of the App"
            ),
            Self::Anonymous => {
                format!("GitHub refused a request without credentials ({message}): try again later")
            }
        }
    }
}

/// An error of GitHub's about one field of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct FieldError {
    pub field: Option<String>,
    /// One word, such as `invalid` or `missing_field`; `custom` where the message has the reason.
    pub code: Option<String>,
    pub message: Option<String>,
}

impl fmt::Display for FieldError {
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

/// A secret that push protection found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DetectedSecret {
    /// GitHub's word for its kind, such as `github_personal_access_token`.
    #[serde(default)]
    pub token_type: String,
}

/// The reason why a part of a GraphQL query has no value, or why a mutation was refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GraphqlError {
    /// GitHub's word for it, such as `NOT_FOUND` or `STALE_DATA`.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// The place in `data`: names of fields, and indices of lists as text.
    #[serde(default, deserialize_with = "path")]
    pub path: Vec<String>,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    extensions: Option<GraphqlExtensions>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct GraphqlExtensions {
    #[serde(default)]
    saml_failure: bool,
    /// The rule of GraphQL that the query breaks, such as `undefinedField`.
    #[serde(default)]
    code: Option<String>,
}

impl GraphqlError {
    /// Returns whether the error's type begins with `kind`.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind
            .as_deref()
            .is_some_and(|known| known.starts_with(kind))
    }

    pub(crate) fn is_exactly(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// Returns whether it refuses the query for a part of it: for a scope that the token lacks, or
    /// for something that the schema lacks. Older servers name the latter in the message only.
    pub(crate) fn refuses_part(&self) -> bool {
        let breaks_rule = |extensions: &GraphqlExtensions| extensions.code.is_some();
        self.is_exactly("INSUFFICIENT_SCOPES")
            || self.is_exactly("undefinedField")
            || self.extensions.as_ref().is_some_and(breaks_rule)
            || ["Field '", "Fragment on ", "No such type ", "Argument '"]
                .iter()
                .any(|words| self.message.starts_with(words))
    }

    /// Returns whether the organization wants single sign-on first.
    pub(crate) fn is_saml_failure(&self) -> bool {
        self.extensions
            .as_ref()
            .is_some_and(|extensions| extensions.saml_failure)
    }
}

/// Reads names and indices alike as text.
fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let steps = Option::<Vec<Value>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(steps
        .into_iter()
        .map(|step| {
            step.as_str()
                .map_or_else(|| step.to_string(), str::to_owned)
        })
        .collect())
}

impl GithubError {
    /// Returns whether it concerns only the item that was asked for, so that other items may still
    /// be fetched.
    pub fn concerns_one_item(&self) -> bool {
        match self {
            Self::AppNotInstalled { .. }
            | Self::NotFound { .. }
            | Self::Gone { .. }
            | Self::Refused { .. }
            | Self::SecretDetected { .. }
            | Self::GraphqlRefused { .. }
            | Self::TooLarge { .. }
            | Self::TooMuch { .. }
            | Self::Unexpected { .. } => true,
            Self::Unauthorized { .. }
            | Self::AppRefused { .. }
            | Self::Forbidden { .. }
            | Self::SsoRequired { .. }
            | Self::PartRefused { .. }
            | Self::Limited { .. }
            | Self::Unreachable { .. }
            | Self::NotRecorded { .. }
            | Self::Unknown { .. } => false,
        }
    }
}

fn seconds(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn at_url(url: Option<&str>) -> String {
    url.map(|url| format!(" at {url}")).unwrap_or_default()
}

fn secret_types(secrets: &[DetectedSecret]) -> String {
    let types: Vec<_> = secrets
        .iter()
        .map(|secret| one_line(&secret.token_type, 60))
        .collect();
    if types.is_empty() {
        "of unknown type".to_owned()
    } else {
        types.join(", ")
    }
}

fn first_message(errors: &[GraphqlError]) -> String {
    let message = errors
        .first()
        .map_or("without a reason", |error| &error.message);
    let kind = errors.first().and_then(|error| error.kind.as_deref());
    let text = match kind {
        Some(kind) => format!("{kind}: {message}"),
        None => message.to_owned(),
    };
    one_line(&text, 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_text_is_one_line_that_names_its_subject_and_the_next_step() {
        let text = |text: &str| text.to_owned();
        let (path, message, reason, origin) =
            (text("/a/b"), text("M"), text("R"), text("https://o"));
        let until = DateTime::from_timestamp(1_772_445_600, 0).unwrap();
        let forbidden = |permission: Option<&str>| GithubError::Forbidden {
            path: path.clone(),
            message: message.clone(),
            reason: ForbiddenReason::Permission(permission.map(text)),
        };
        let ruled_out = |reason| GithubError::Forbidden {
            path: path.clone(),
            message: message.clone(),
            reason,
        };
        let unauthorized = |owner| GithubError::Unauthorized {
            message: message.clone(),
            owner,
        };
        let sso = |url: Option<&str>| GithubError::SsoRequired {
            path: path.clone(),
            message: message.clone(),
            url: url.map(text),
        };
        for (error, words) in [
            (
                unauthorized(CredentialOwner::Setting),
                &["(M)", "set GITHUB_TOKEN"][..],
            ),
            (
                unauthorized(CredentialOwner::Connection(text("acme"))),
                &["connection acme (M)", "connect it again"][..],
            ),
            (
                unauthorized(CredentialOwner::OauthClient),
                &["client secret (M)"][..],
            ),
            (
                unauthorized(CredentialOwner::Anonymous),
                &["without credentials (M)"][..],
            ),
            (
                GithubError::AppRefused {
                    message: message.clone(),
                    advice: text("do this"),
                },
                &["(M): do this"][..],
            ),
            (
                GithubError::AppNotInstalled {
                    account: text("a/b"),
                },
                &["not installed on a/b", "install it there"][..],
            ),
            (
                unauthorized(CredentialOwner::Entered),
                &["was entered (M)", "create another"][..],
            ),
            (
                ruled_out(ForbiddenReason::IpAllowList),
                &["/a/b (M)", "address of this server"][..],
            ),
            (
                ruled_out(ForbiddenReason::OauthRestriction),
                &["/a/b (M)", "approve the OAuth App"][..],
            ),
            (
                ruled_out(ForbiddenReason::Suspended),
                &["/a/b (M)", "unsuspend"][..],
            ),
            (
                GithubError::NotRecorded { path: path.clone() },
                &["/a/b was not sent", "look at the database"][..],
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
                    message: message.clone(),
                    errors: vec![],
                },
                &["/a/b with 422 (M)"][..],
            ),
            (
                sso(Some("https://github.com/sso")),
                &["/a/b", "(M)", "at https://github.com/sso"][..],
            ),
            (sso(None), &["/a/b", "authorize the token"][..]),
            (
                GithubError::SecretDetected {
                    path: path.clone(),
                    message: message.clone(),
                    secrets: vec![DetectedSecret {
                        token_type: text("some_key"),
                    }],
                },
                &["/a/b", "(some_key)", "remove it"][..],
            ),
            (
                GithubError::GraphqlRefused {
                    subject: text("a/b"),
                    errors: vec![GraphqlError {
                        kind: Some(text("STALE_DATA")),
                        path: vec![],
                        message: text("Expected\nother"),
                        extensions: None,
                    }],
                },
                &["a/b", "(STALE_DATA: Expected other)"][..],
            ),
            (
                GithubError::PartRefused {
                    subject: text("a/b"),
                    errors: vec![GraphqlError {
                        kind: None,
                        path: vec![],
                        message: text("Field\n'x'"),
                        extensions: None,
                    }],
                },
                &["a/b (Field 'x')", "give the token the scope"][..],
            ),
            (
                GithubError::Unknown {
                    path: path.clone(),
                    reason: reason.clone(),
                },
                &["/a/b may have happened", "(R)", "look at GitHub"][..],
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
            let text = error.to_string();
            assert!(
                words.iter().all(|word| text.contains(word)) && !text.contains('\n'),
                "{text}"
            );
        }
    }
}
