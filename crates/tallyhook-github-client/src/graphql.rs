//! GraphQL: what its answers mean, which is mostly not told by their status.

use std::collections::HashMap;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, StatusCode};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::installations::Access;
use super::meaning::{Ended, needed, shortened};
use super::sending::{Answered, Call, Kind};
use super::{Client, GithubError, Result, limits, parse, unwritable};

/// With which queries are cut off that take longer than GitHub allows.
pub(super) const TOO_LONG: [StatusCode; 2] = [StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT];
/// What GitHub says when a query took it longer than ten seconds.
const OUT_OF_TIME: &str = "Something went wrong while executing your query";

/// An answer to a query.
#[derive(Clone, Debug)]
pub struct Graphql<T> {
    pub data: Option<T>,
    /// What could not be had: `data` has nulls there.
    pub errors: Vec<GraphqlError>,
    /// A moment by GitHub's clock before which it did not look: what it shows is not older.
    pub asked_at: DateTime<Utc>,
}

/// Why a part of a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GraphqlError {
    /// GitHub's word for it, as in `NOT_FOUND`.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// Where in `data`: names of fields, and indices of lists as text.
    #[serde(default, deserialize_with = "path")]
    pub path: Vec<String>,
    #[serde(default)]
    pub message: String,
}

/// Any answer of GraphQL's.
#[derive(Default, Deserialize)]
struct Envelope {
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    errors: Vec<GraphqlError>,
    /// Limits are told in the shape of REST's errors.
    #[serde(default)]
    message: String,
}

impl Client {
    /// Asks a query about `of`, an `owner/name` or the name of an organisation: an App asks as its installation there,
    /// and errors name it.
    ///
    /// What could be answered in part is `Ok`, and tells in its `errors` what is missing.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do; [`GithubError::TooMuch`] if less has to be asked for at once.
    pub async fn graphql<T: DeserializeOwned>(
        &self,
        query: &str,
        variables: &impl Serialize,
        of: &str,
    ) -> Result<Graphql<T>> {
        let url = self.shared.api.graphql();
        let variables = serde_json::to_value(variables).map_err(|error| unwritable(of, &error))?;
        let body = json!({"query": query, "variables": variables})
            .to_string()
            .into_bytes();
        let kind = Kind::Graphql { of: of.to_owned() };
        let access = Access::to(&format!(
            "{}{of}",
            if of.contains('/') {
                "/repos/"
            } else {
                "/orgs/"
            }
        ));
        let call = Call {
            method: Method::POST,
            body: Some(body),
            kind,
            ..Call::get(access)
        };
        let started = Instant::now();
        let answer = self.execute(call, url).await?;
        let took = TimeDelta::from_std(started.elapsed()).unwrap_or_default();
        let asked_at =
            limits::date(&answer.headers).unwrap_or_else(|| self.shared.clock.now()) - took;
        let Envelope { data, errors, .. } = parse(of, &answer.body)?;
        let data = data
            .map(|data| parse(of, data.get().as_bytes()))
            .transpose()?;
        Ok(Graphql {
            data,
            errors,
            asked_at,
        })
    }
}

/// What `answered` means, if GraphQL has a meaning of its own for it.
pub(super) fn meaning(
    of: &str,
    answered: &Answered,
    untold: u32,
    now: DateTime<Utc>,
) -> Option<Ended> {
    let Answered {
        status,
        headers,
        body,
    } = answered;
    if TOO_LONG.contains(status) {
        return Some(too_much(of, &format!("it answers {status}")));
    }
    if !status.is_success() && *status != StatusCode::FORBIDDEN {
        return None;
    }
    let Envelope {
        data,
        errors,
        message,
    } = serde_json::from_slice(body).unwrap_or_default();
    let limited =
        |error: &GraphqlError| error.is("RATE_LIMIT") || limits::is_secondary(&error.message);
    if errors.iter().any(limited) || limits::is_secondary(&message) {
        return Some(Ended::Limited(limits::met(headers, untold, now)));
    }
    let has_data = data.is_some_and(|data| is_of_use(&data));
    let exceeds = |error: &&GraphqlError| {
        error.is("RESOURCE_LIMITS")
            || error.is("MAX_NODE_LIMIT_EXCEEDED")
            || !has_data && error.message.starts_with(OUT_OF_TIME)
    };
    if let Some(error) = errors.iter().find(exceeds) {
        return Some(too_much(of, &error.message));
    }
    if has_data || status == &StatusCode::FORBIDDEN && errors.is_empty() {
        return None;
    }
    let error = errors.first().map(|error| {
        (
            error.kind.as_deref().unwrap_or_default(),
            shortened(&error.message),
        )
    });
    Some(Ended::For(Err(match error {
        Some(("NOT_FOUND", _)) => GithubError::NotFound {
            path: of.to_owned(),
        },
        Some(("FORBIDDEN" | "INSUFFICIENT_SCOPES", message)) => GithubError::Forbidden {
            path: of.to_owned(),
            message,
            needed: needed(headers),
        },
        Some((_, reason)) => GithubError::Unexpected {
            path: of.to_owned(),
            reason,
        },
        None => GithubError::Unexpected {
            path: of.to_owned(),
            reason: "neither data nor errors".to_owned(),
        },
    })))
}

pub(super) fn too_much(of: &str, reason: &str) -> Ended {
    Ended::For(Err(GithubError::TooMuch {
        path: of.to_owned(),
        reason: shortened(reason),
    }))
}

/// Whether there is anything in it but nulls. What the query cost is told even where it found nothing.
fn is_of_use(data: &RawValue) -> bool {
    let fields: HashMap<String, Option<IgnoredAny>> =
        serde_json::from_str(data.get()).unwrap_or_default();
    fields
        .iter()
        .any(|(name, value)| name != "rateLimit" && value.is_some())
}

impl GraphqlError {
    fn is(&self, kind: &str) -> bool {
        self.kind
            .as_deref()
            .is_some_and(|told| told.starts_with(kind))
    }
}

/// Names and indices alike as text.
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
