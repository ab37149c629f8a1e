//! The meaning of a GraphQL response, which is mostly in its body and not in its status.

use std::collections::HashMap;

use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::attempt::{AttemptContext, AttemptOutcome, missing_permission};
use super::error::{ForbiddenReason, GithubError, GraphqlError};
use super::rate_limit;
use super::response::{RawResponse, excerpt};

/// The statuses of queries that take longer than GitHub allows.
pub(crate) const QUERY_TIMEOUT: [StatusCode; 2] =
    [StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT];
/// The message of a query that took longer than ten seconds.
const OUT_OF_TIME: &str = "Something went wrong while executing your query";

/// The body of every GraphQL response.
#[derive(Default, Deserialize)]
pub(crate) struct GraphqlEnvelope {
    #[serde(default)]
    pub(crate) data: Option<Box<RawValue>>,
    #[serde(default)]
    pub(crate) errors: Vec<GraphqlError>,
    /// Rate limits have the form of REST errors.
    #[serde(default)]
    message: String,
}

/// Returns the meaning of a response about `subject`, or `None` if it means the same as in REST.
pub(crate) fn classify(
    context: &AttemptContext<'_>,
    subject: &str,
    response: &RawResponse,
) -> Option<AttemptOutcome> {
    let RawResponse {
        status,
        headers,
        body,
    } = response;
    let is_write = !context.request.repeatable;
    if QUERY_TIMEOUT.contains(status) {
        // A mutation goes on at GitHub after the time-out of its response.
        return (!is_write).then(|| too_much(subject, &format!("it answers {status}")));
    }
    if !status.is_success() && *status != StatusCode::FORBIDDEN {
        return None;
    }
    let GraphqlEnvelope {
        data,
        errors,
        message,
    } = serde_json::from_slice(body).unwrap_or_default();
    let has_data = data.is_some_and(|data| has_values(&data));
    let is_limit =
        |error: &GraphqlError| error.is("RATE_LIMIT") || rate_limit::is_secondary(&error.message);
    // A mutation that is limited halfway was not limited before it began.
    let may_repeat = !(is_write && has_data);
    if may_repeat && (errors.iter().any(is_limit) || rate_limit::is_secondary(&message)) {
        let limit = rate_limit::limit_length(headers, context.unspecified, context.now);
        return Some(AttemptOutcome::RateLimited(limit));
    }
    if is_write {
        return classify_mutation(context, subject, response, has_data, errors);
    }
    let exceeds = |error: &&GraphqlError| {
        error.is("RESOURCE_LIMITS")
            || error.is("MAX_NODE_LIMIT_EXCEEDED")
            || !has_data && error.message.starts_with(OUT_OF_TIME)
    };
    if let Some(error) = errors.iter().find(exceeds) {
        return Some(too_much(subject, &error.message));
    }
    if has_data || status == &StatusCode::FORBIDDEN && errors.is_empty() {
        return None;
    }
    let error = match errors.first() {
        Some(error) if error.is_exactly("NOT_FOUND") => GithubError::NotFound {
            path: subject.to_owned(),
        },
        Some(_) if errors.iter().any(GraphqlError::refuses_part) => GithubError::PartRefused {
            subject: subject.to_owned(),
            errors,
        },
        Some(_) => refused(context, subject, response, errors),
        None => GithubError::Unexpected {
            path: subject.to_owned(),
            reason: "neither data nor errors".to_owned(),
        },
    };
    Some(AttemptOutcome::Done(Err(error)))
}

/// Returns the meaning of a mutation's response. Its errors keep GitHub's type: `NOT_FOUND` may be
/// about any of its arguments.
fn classify_mutation(
    context: &AttemptContext<'_>,
    subject: &str,
    response: &RawResponse,
    has_data: bool,
    errors: Vec<GraphqlError>,
) -> Option<AttemptOutcome> {
    if has_data || response.status == StatusCode::FORBIDDEN && errors.is_empty() {
        return None;
    }
    // GitHub stops waiting for its own execution, whose outcome it does not know.
    let interrupted = errors
        .iter()
        .find(|error| error.is("RESOURCE_LIMITS") || error.message.starts_with(OUT_OF_TIME));
    let error = match interrupted {
        Some(error) => unknown(subject, &error.message),
        None if errors.is_empty() => unknown(subject, "neither data nor errors"),
        None => refused(context, subject, response, errors),
    };
    Some(AttemptOutcome::Done(Err(error)))
}

fn refused(
    context: &AttemptContext<'_>,
    subject: &str,
    response: &RawResponse,
    errors: Vec<GraphqlError>,
) -> GithubError {
    let message = |error: &GraphqlError| excerpt(&error.message);
    if let Some(error) = errors.iter().find(|error| error.is_saml_failure()) {
        return context.sso_required(subject.to_owned(), message(error), &response.headers);
    }
    match errors.first() {
        Some(error) if error.is_exactly("FORBIDDEN") || error.is_exactly("INSUFFICIENT_SCOPES") => {
            GithubError::Forbidden {
                path: subject.to_owned(),
                message: message(error),
                reason: ForbiddenReason::of(&error.message, missing_permission(&response.headers)),
            }
        }
        _ => GithubError::GraphqlRefused {
            subject: subject.to_owned(),
            errors,
        },
    }
}

/// Returns the outcome of a query that has to be split.
pub(crate) fn too_much(subject: &str, reason: &str) -> AttemptOutcome {
    AttemptOutcome::Done(Err(GithubError::TooMuch {
        path: subject.to_owned(),
        reason: excerpt(reason),
    }))
}

fn unknown(subject: &str, reason: &str) -> GithubError {
    GithubError::Unknown {
        path: subject.to_owned(),
        reason: excerpt(reason),
    }
}

/// Returns whether `data` has anything but nulls. The cost of a query is there even if it found
/// nothing.
fn has_values(data: &RawValue) -> bool {
    let fields: HashMap<String, Option<IgnoredAny>> =
        serde_json::from_str(data.get()).unwrap_or_default();
    fields
        .iter()
        .any(|(name, value)| name != "rateLimit" && value.is_some())
}
