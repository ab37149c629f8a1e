//! The commits of a pull request in the API's form.

use serde::{Deserialize, Serialize};
use tallyhook_core::event::FetchedCommit;
use tallyhook_core::github::types::Timestamp;
use utoipa::ToSchema;

/// A commit of a pull request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CommitItem {
    pub sha: String,
    /// Null for an author without an account at GitHub.
    #[schema(example = "mira")]
    pub author: Option<String>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub authored_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub committed_at: Option<Timestamp>,
}

impl From<FetchedCommit> for CommitItem {
    fn from(commit: FetchedCommit) -> Self {
        Self {
            sha: commit.sha,
            author: commit.author.map(|author| author.login),
            authored_at: commit.authored_at,
            committed_at: commit.committed_at,
        }
    }
}
