//! Queries about a repository that go on without the parts that GitHub refuses.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tallyhook_core::github::graphql::{OmittedParts, OptionalPart};

use super::Result;
use super::client::Client;
use super::error::{GithubError, GraphqlError};
use super::graphql::GraphqlResponse;
use super::response::excerpt;

/// The parts that GitHub refuses to a client, with its reasons. They stay refused as long as the
/// process has the same token.
pub(crate) type RefusedParts = BTreeMap<OptionalPart, String>;

/// The response to a query about one repository.
pub(crate) struct RepositoryResponse<T> {
    pub(crate) repository: T,
    pub(crate) errors: Vec<GraphqlError>,
    pub(crate) asked_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct RepositoryData<T> {
    repository: Option<T>,
}

impl Client {
    /// Returns the facts that GitHub refuses to this client, each with GitHub's reason. Empty before
    /// the first query.
    pub fn unknown_facts(&self) -> Vec<String> {
        let refused = self.refused_parts().lock();
        refused
            .iter()
            .map(|(part, reason)| format!("{} ({reason})", part.unknown()))
            .collect()
    }

    /// Sends a query about one repository, without the parts that GitHub refuses.
    pub(crate) async fn query_repository<T: DeserializeOwned>(
        &self,
        repo: &str,
        query: impl Fn(&OmittedParts) -> String,
        variables: &Value,
    ) -> Result<RepositoryResponse<T>> {
        let mut refused = self.refused_parts().lock().clone();
        let GraphqlResponse {
            data,
            errors,
            asked_at,
        } = loop {
            let omitted = refused.keys().copied().collect();
            match self
                .graphql::<RepositoryData<T>>(&query(&omitted), variables, repo)
                .await
            {
                Err(GithubError::PartRefused { errors, .. }) if add(&mut refused, &errors) => {}
                answer => break answer?,
            }
        };
        self.remember(repo, refused);
        match data.and_then(|data| data.repository) {
            Some(repository) => Ok(RepositoryResponse {
                repository,
                errors,
                asked_at,
            }),
            None => Err(GithubError::NotFound {
                path: format!("repository {repo}"),
            }),
        }
    }

    /// Remembers the parts without which a query was answered, and logs those that are new.
    fn remember(&self, repo: &str, refused: RefusedParts) {
        let mut known = self.refused_parts().lock();
        for (part, reason) in refused {
            let unknown = part.unknown();
            if known.insert(part, reason.clone()).is_none() {
                tracing::warn!(
                    repo.name = repo,
                    unknown,
                    reason,
                    "GitHub refuses a part of the queries, first about {repo}: pull requests are \
                     fetched without {unknown} ({reason})"
                );
            }
        }
    }
}

/// Adds the parts that the errors are about; if they are about no part that is still asked for, all
/// of them. Returns false if nothing is left to do without.
fn add(refused: &mut RefusedParts, errors: &[GraphqlError]) -> bool {
    let before = refused.len();
    for error in errors {
        let text = format!("{} {}", error.path.join(" "), error.message);
        if let Some(part) = OptionalPart::of_error(&text) {
            refused
                .entry(part)
                .or_insert_with(|| excerpt(&error.message));
        }
    }
    if refused.len() == before {
        let reason = errors.first().map(|error| excerpt(&error.message));
        for part in OptionalPart::ALL {
            let reason = || reason.clone().unwrap_or_default();
            refused.entry(*part).or_insert_with(reason);
        }
    }
    refused.len() > before
}
