//! What an answer means.

use std::iter;
use std::time::Duration;

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::error::Complaint;
use super::installations::{Bearer, Whose};
use super::sending::{Answer, Answered, Call, Kind};
use super::{Client, GithubError, Result, app, graphql, limits};

/// Of GitHub's own words in ours.
const WORDS: usize = 200;

/// How one try ended.
pub(super) enum Ended {
    For(Result<Answer>),
    Moved(Url),
    /// The token of an installation is accepted no more: with another it may be.
    TokenRefused(GithubError),
    Limited(limits::Limit),
    Failed {
        reason: String,
        /// Nothing has been done by it, whatever it was.
        harmless: bool,
        wait: Option<Duration>,
    },
}

/// What an error's body says.
#[derive(Deserialize)]
struct Words {
    message: String,
    #[serde(default)]
    errors: Value,
}

impl Client {
    /// What `answered` means. `untold` counts the limits before it that did not tell how long they last.
    pub(super) fn meaning(
        &self,
        call: &Call,
        url: &Url,
        answered: Answered,
        bearer: &Bearer,
        untold: u32,
    ) -> Ended {
        let now = self.shared.clock.now();
        if let Kind::Graphql { of } = &call.kind
            && let Some(ended) = graphql::meaning(of, &answered, untold, now)
        {
            return ended;
        }
        let Answered {
            status,
            headers,
            body,
        } = answered;
        let path = || url.path().to_owned();
        let message = || words(&body).0;
        if let Some(limit) = limits::limit(status, &headers, &message(), untold, now) {
            return Ended::Limited(limit);
        }
        let unchanged = status == StatusCode::NOT_MODIFIED && call.etag(bearer).is_some();
        Ended::For(match status {
            status if status.is_success() || unchanged => Ok(Answer {
                url: url.clone(),
                headers,
                body,
                grant: bearer.grant,
                unchanged,
            }),
            status if status.is_redirection() => return self.redirect(call, url, status, &headers),
            StatusCode::UNAUTHORIZED => match bearer.whose {
                Whose::Token => Err(GithubError::Unauthorized { message: message() }),
                Whose::App => Err(app::refused(message(), &headers, now)),
                Whose::Installation(_) => {
                    let advice = "even a new token of its installation is refused, check that it is still there";
                    let refused = GithubError::AppRefused {
                        message: message(),
                        advice: advice.to_owned(),
                    };
                    return Ended::TokenRefused(refused);
                }
            },
            StatusCode::FORBIDDEN => Err(GithubError::Forbidden {
                path: path(),
                message: message(),
                needed: needed(&headers),
            }),
            StatusCode::NOT_FOUND => Err(GithubError::NotFound { path: path() }),
            StatusCode::GONE => Err(GithubError::Gone { path: path() }),
            status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                let wait = limits::retry_after(&headers, now);
                return Ended::Failed {
                    reason: format!("it answers {status}"),
                    harmless: false,
                    wait,
                };
            }
            status => {
                let (message, complaints) = words(&body);
                Err(GithubError::Refused {
                    path: path(),
                    status: status.as_u16(),
                    message,
                    complaints,
                })
            }
        })
    }

    fn redirect(&self, call: &Call, url: &Url, status: StatusCode, headers: &HeaderMap) -> Ended {
        let keeps_method = [
            StatusCode::TEMPORARY_REDIRECT,
            StatusCode::PERMANENT_REDIRECT,
        ]
        .contains(&status);
        let may_follow = keeps_method
            || call.method == Method::GET
                && [StatusCode::MOVED_PERMANENTLY, StatusCode::FOUND].contains(&status);
        if !may_follow {
            return Ended::For(Err(unexpected(url, &format!("it answers {status}"))));
        }
        let told = headers
            .get(LOCATION)
            .and_then(|location| location.to_str().ok());
        match told.and_then(|told| self.shared.api.follow(url, told)) {
            Some(to) => Ended::Moved(to),
            None => Ended::For(Err(unexpected(url, "it leads to another origin"))),
        }
    }
}

/// What an error's body says, on one line and not too long, and the complaints that are in it.
fn words(body: &[u8]) -> (String, Vec<Complaint>) {
    let Ok(Words { message, errors }) = serde_json::from_slice(body) else {
        return ("without a reason".to_owned(), Vec::new());
    };
    let complaints = complaints(errors);
    let told: Vec<_> = iter::once(message)
        .chain(complaints.iter().map(Complaint::to_string))
        .collect();
    (shortened(&told.join(": ")), complaints)
}

/// GitHub has a list of them, each an object or a text, or one text alone.
fn complaints(errors: Value) -> Vec<Complaint> {
    let text = |message| Complaint {
        message: Some(message),
        ..Complaint::default()
    };
    match errors {
        Value::Array(errors) => errors.into_iter().flat_map(complaints).collect(),
        Value::String(message) => vec![text(message)],
        Value::Object(_) => Complaint::deserialize(errors).into_iter().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

pub(super) fn shortened(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(WORDS)
        .collect()
}

/// What GitHub says the token lacks.
pub(super) fn needed(headers: &HeaderMap) -> Option<String> {
    let told = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .filter(|told| !told.is_empty())
    };
    let permissions = told("x-accepted-github-permissions")
        .map(|told| format!("the permission {}", shortened(told)));
    permissions.or_else(|| {
        told("x-accepted-oauth-scopes").map(|told| format!("one of the scopes {}", shortened(told)))
    })
}

pub(super) fn unexpected(url: &Url, reason: &str) -> GithubError {
    GithubError::Unexpected {
        path: url.path().to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_in_whatever_form_they_come() {
        let told = |errors: &str| {
            words(format!(r#"{{"message":"Validation Failed","errors":{errors}}}"#).as_bytes())
        };
        let (message, complaints) =
            told(r#"[{"resource":"PullRequest","field":"base","code":"invalid"},"No\nway"]"#);
        assert_eq!(message, "Validation Failed: base: invalid: No way");
        assert_eq!(complaints[0].field.as_deref(), Some("base"));
        assert_eq!(complaints[1].message.as_deref(), Some("No\nway"));
        assert_eq!(told(r#""Not so""#).0, "Validation Failed: Not so");
        for nothing in ["null", "[]", "[7]", r#"[{"message":7}]"#] {
            assert_eq!(
                told(nothing),
                ("Validation Failed".to_owned(), vec![]),
                "{nothing}"
            );
        }
        assert_eq!(words(b"<html>").0, "without a reason");
    }
}
