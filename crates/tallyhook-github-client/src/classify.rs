//! The meaning of a response: a result, an error, or a reason for another attempt.

use std::iter;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::attempt::{AttemptContext, AttemptOutcome, SSO, missing_permission};
use super::classify_graphql;
use super::error::{DetectedSecret, FieldError, ForbiddenReason, GithubError};
use super::http::{retry_after, server_time};
use super::rate_limit::rate_limit;
use super::request::{ApiKind, Principal};
use super::response::{FinalResponse, RawResponse, excerpt, unexpected};
use super::route::shown_path;

/// The body of an error.
#[derive(Deserialize)]
struct GithubErrorBody {
    message: String,
    #[serde(default)]
    errors: Value,
    #[serde(default)]
    metadata: Option<ErrorMetadata>,
}

#[derive(Deserialize)]
struct ErrorMetadata {
    #[serde(default)]
    secret_scanning: Option<SecretScanning>,
}

#[derive(Deserialize)]
struct SecretScanning {
    #[serde(default)]
    bypass_placeholders: Vec<DetectedSecret>,
}

/// Returns the meaning of `response`.
pub(crate) fn classify(context: &AttemptContext<'_>, response: RawResponse) -> AttemptOutcome {
    if let ApiKind::Graphql { subject } = &context.request.api
        && let Some(attempt) = classify_graphql::classify(context, subject, &response)
    {
        return attempt;
    }
    context.classify_rest(response)
}

impl AttemptContext<'_> {
    fn classify_rest(&self, response: RawResponse) -> AttemptOutcome {
        let RawResponse {
            status,
            headers,
            body,
        } = response;
        let message = error_message(&body).0;
        // A client that took these for a rate limit would be silent for an hour.
        let is_by_rule = status == StatusCode::FORBIDDEN
            && ForbiddenReason::of(&full_message(&body), None).is_by_rule();
        if is_by_rule {
            return AttemptOutcome::Done(Err(self.refused(status, &headers, &body)));
        }
        if let Some(limit) = rate_limit(status, &headers, &message, self.unspecified, self.now) {
            return AttemptOutcome::RateLimited(limit);
        }
        let unchanged =
            status == StatusCode::NOT_MODIFIED && self.request.etag(self.auth).is_some();
        if status.is_success() || unchanged {
            return AttemptOutcome::Done(Ok(FinalResponse {
                url: self.url.clone(),
                headers,
                body,
                generation: self.auth.generation,
                unchanged,
            }));
        }
        if status.is_redirection() {
            return self.redirect(status, &headers);
        }
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            return AttemptOutcome::Failed {
                reason: format!("it answers {status}"),
                not_sent: false,
                retry_after: retry_after(&headers, self.now),
            };
        }
        if status == StatusCode::UNAUTHORIZED {
            return self.unauthorized(message, &headers);
        }
        AttemptOutcome::Done(Err(self.refused(status, &headers, &body)))
    }

    fn path(&self) -> String {
        shown_path(self.url)
    }

    fn unauthorized(&self, message: String, headers: &HeaderMap) -> AttemptOutcome {
        match self.auth.principal {
            Principal::App => AttemptOutcome::Done(Err(app_refused(message, headers, self.now))),
            Principal::Installation(_) => AttemptOutcome::TokenRefused(GithubError::AppRefused {
                message,
                advice:
                    "even a new token of its installation is refused, check that it still exists"
                        .to_owned(),
            }),
            Principal::Token | Principal::Anonymous | Principal::OauthClient => {
                AttemptOutcome::Done(Err(GithubError::Unauthorized {
                    message,
                    owner: self.auth.owner.clone(),
                }))
            }
        }
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> GithubError {
        let path = self.path();
        let (message, errors) = error_message(body);
        match status {
            // GitHub answers some of them as if there were nothing.
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND if requires_sso(headers) => {
                self.sso_required(path, message, headers)
            }
            StatusCode::FORBIDDEN => GithubError::Forbidden {
                path,
                reason: ForbiddenReason::of(&full_message(body), missing_permission(headers)),
                message,
            },
            StatusCode::NOT_FOUND => GithubError::NotFound { path },
            StatusCode::GONE => GithubError::Gone { path },
            status => match detected_secrets(body) {
                Some(secrets) => GithubError::SecretDetected {
                    path,
                    message,
                    secrets,
                },
                None => GithubError::Refused {
                    path,
                    status: status.as_u16(),
                    message,
                    errors,
                },
            },
        }
    }

    fn redirect(&self, status: StatusCode, headers: &HeaderMap) -> AttemptOutcome {
        let keeps_method = [
            StatusCode::TEMPORARY_REDIRECT,
            StatusCode::PERMANENT_REDIRECT,
        ]
        .contains(&status);
        let may_follow = keeps_method
            || self.request.method == Method::GET
                && [StatusCode::MOVED_PERMANENTLY, StatusCode::FOUND].contains(&status);
        if !may_follow {
            return AttemptOutcome::Done(Err(unexpected(
                self.url,
                &format!("it answers {status}"),
            )));
        }
        let location = headers
            .get(LOCATION)
            .and_then(|location| location.to_str().ok());
        // The form of the token endpoint has secrets in it, which go to no other address.
        let location = location.filter(|_| !matches!(self.request.api, ApiKind::Oauth));
        match location.and_then(|location| self.api.follow(self.url, location)) {
            Some(to) => AttemptOutcome::Redirected(to),
            None => AttemptOutcome::Done(Err(unexpected(self.url, "it leads to another origin"))),
        }
    }
}

/// Returns the error of a refused App signature of `now`, with advice.
fn app_refused(message: String, headers: &HeaderMap, now: DateTime<Utc>) -> GithubError {
    let is_about_time = ["('exp')", "('iat')"]
        .into_iter()
        .any(|claim| message.contains(claim));
    let advice = match server_time(headers).map(|date| (now - date).num_seconds()) {
        Some(ahead) if is_about_time => {
            let side = if ahead < 0 { "behind" } else { "ahead of" };
            format!(
                "check this machine's clock, which is {} s {side} GitHub's",
                ahead.abs()
            )
        }
        None if is_about_time => "check this machine's clock".to_owned(),
        _ => "check that GITHUB_APP_PRIVATE_KEY is the key of the App that GITHUB_APP_ID names"
            .to_owned(),
    };
    GithubError::AppRefused { message, advice }
}

/// Returns the message of an error body on one line, with its field errors appended, and the field
/// errors.
fn error_message(body: &[u8]) -> (String, Vec<FieldError>) {
    let Ok(GithubErrorBody {
        message, errors, ..
    }) = serde_json::from_slice(body)
    else {
        return ("without a reason".to_owned(), Vec::new());
    };
    let errors = field_errors(errors);
    let messages: Vec<_> = iter::once(message)
        .chain(errors.iter().map(FieldError::to_string))
        .collect();
    (excerpt(&messages.join(": ")), errors)
}

/// Returns the message of an error body as it is. The reason may stand behind the part that is shown.
fn full_message(body: &[u8]) -> String {
    let body: Result<GithubErrorBody, _> = serde_json::from_slice(body);
    body.map(|body| body.message).unwrap_or_default()
}

/// Returns whether a response refuses for want of single sign-on, as a list with partial results
/// does not.
fn requires_sso(headers: &HeaderMap) -> bool {
    let value = headers.get(SSO).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| !value.starts_with("partial-results"))
}

/// Reads `errors`: a list of objects and texts, or one text alone.
fn field_errors(errors: Value) -> Vec<FieldError> {
    match errors {
        Value::Array(errors) => errors.into_iter().flat_map(field_errors).collect(),
        Value::String(message) => vec![FieldError {
            message: Some(message),
            ..FieldError::default()
        }],
        Value::Object(_) => FieldError::deserialize(errors).into_iter().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// Returns the secrets that push protection found, if the error is one of its.
fn detected_secrets(body: &[u8]) -> Option<Vec<DetectedSecret>> {
    let body: GithubErrorBody = serde_json::from_slice(body).ok()?;
    Some(body.metadata?.secret_scanning?.bypass_placeholders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_errors_are_read_in_every_form() {
        let read = |errors: &str| {
            error_message(
                format!(r#"{{"message":"Validation Failed","errors":{errors}}}"#).as_bytes(),
            )
        };
        let (message, errors) =
            read(r#"[{"resource":"PullRequest","field":"base","code":"invalid"},"No\nway"]"#);
        assert_eq!(message, "Validation Failed: base: invalid: No way");
        assert_eq!(errors[0].field.as_deref(), Some("base"));
        assert_eq!(errors[1].message.as_deref(), Some("No\nway"));
        assert_eq!(read(r#""Not so""#).0, "Validation Failed: Not so");
        for none in ["null", "[]", "[7]", r#"[{"message":7}]"#] {
            assert_eq!(
                read(none),
                ("Validation Failed".to_owned(), vec![]),
                "{none}"
            );
        }
        assert_eq!(error_message(b"<html>").0, "without a reason");
    }
}
