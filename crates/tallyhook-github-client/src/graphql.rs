//! GraphQL queries and mutations.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Result;
use super::classify_graphql::GraphqlEnvelope;
use super::client::{Client, parse_write_response, to_json};
use super::error::{GithubError, GraphqlError};
use super::http::server_time;
use super::request::{ApiKind, ApiRequest};
use super::response::parse_json;

/// The data of a query or mutation, and what is missing from it.
#[derive(Clone, Debug)]
pub struct GraphqlResponse<T> {
    pub data: Option<T>,
    /// The errors of parts: `data` has nulls there.
    pub errors: Vec<GraphqlError>,
    /// A timestamp by GitHub's clock before its execution: the data is not older.
    pub asked_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct GraphqlBody<'a, V> {
    query: &'a str,
    variables: &'a V,
}

impl Client {
    /// Sends a query about `subject`, an `owner/name` or the name of an organization. An App sends
    /// it as its installation there, and errors name it.
    ///
    /// A partial response is `Ok`, and its `errors` name the missing parts.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do; [`GithubError::TooMuch`] if the query has to be split.
    pub async fn graphql<T: DeserializeOwned>(
        &self,
        query: &str,
        variables: &impl Serialize,
        subject: &str,
    ) -> Result<GraphqlResponse<T>> {
        let request = self.graphql_request(query, variables, subject)?;
        let url = self.transport().api.graphql();
        let started = Instant::now();
        let response = self.execute(request, url).await?;
        let duration = TimeDelta::from_std(started.elapsed()).unwrap_or_default();
        let answered_at =
            server_time(&response.headers).unwrap_or_else(|| self.transport().clock.now());
        let GraphqlEnvelope { data, errors, .. } = parse_json(subject, &response.body)?;
        let data = data
            .map(|data| parse_json(subject, data.get().as_bytes()))
            .transpose()?;
        Ok(GraphqlResponse {
            data,
            errors,
            asked_at: answered_at - duration,
        })
    }

    /// Sends a mutation on `subject`, as [`Client::graphql`] sends a query. It keeps the distance
    /// from the previous write, and it is sent a second time only if GitHub certainly did not
    /// process the first: a repeated one would fail with a conflict with itself.
    ///
    /// # Errors
    /// [`GithubError::GraphqlRefused`] with GitHub's own type, message and path if it was refused.
    /// After [`GithubError::Unknown`] it may have happened: read the state before a retry.
    pub async fn mutate<T: DeserializeOwned>(
        &self,
        mutation: &str,
        variables: &impl Serialize,
        subject: &str,
    ) -> Result<GraphqlResponse<T>> {
        let request = ApiRequest {
            repeatable: false,
            ..self.graphql_request(mutation, variables, subject)?
        };
        let url = self.transport().api.graphql();
        let asked_at = self.transport().clock.now();
        let response = self.execute_write(request, url).await?;
        let GraphqlEnvelope { data, errors, .. } = parse_write_response(subject, &response.body)?;
        let data = data
            .map(|data| parse_write_response(subject, data.get().as_bytes()))
            .transpose()?;
        Ok(GraphqlResponse {
            data,
            errors,
            asked_at,
        })
    }

    fn graphql_request(
        &self,
        query: &str,
        variables: &impl Serialize,
        subject: &str,
    ) -> Result<ApiRequest, GithubError> {
        let body = to_json(subject, &GraphqlBody { query, variables })?;
        let owner = if subject.contains('/') {
            "/repos/"
        } else {
            "/orgs/"
        };
        Ok(ApiRequest {
            method: Method::POST,
            body: Some(body),
            api: ApiKind::Graphql {
                subject: subject.to_owned(),
            },
            ..self.get_request(&format!("{owner}{subject}"))
        })
    }
}
