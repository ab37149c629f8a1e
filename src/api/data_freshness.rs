//! The completeness of what an answer rests on.

use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::github::types::{RepoId, Timestamp};
use tallyhook_store::{RepositoryGap, TeamStore};
use utoipa::ToSchema;

use super::error::ApiError;

/// The completeness of the data of an answer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DataFreshness {
    /// Every delivery that was received before is applied.
    pub applied_until: Timestamp,
    /// The age of the oldest delivery that is not applied; 0 if all are.
    #[schema(example = 0.4)]
    pub oldest_pending_seconds: f64,
    /// The earliest, over the repositories, of the poller's last round that ended well; null if one
    /// had none.
    pub vouched_until: Option<Timestamp>,
    /// The tracked repositories of which something is missing; at most 100.
    pub incomplete: Vec<IncompleteRepository>,
    /// Pull requests that the answer leaves out: their numbers are not computed yet after an
    /// upgrade, or GitHub's times of them cannot be.
    pub not_computed: u64,
}

/// A repository of which something is missing.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct IncompleteRepository {
    /// `owner/name`
    pub repo: String,
    /// The time from which its data is complete, or until which, where access is lost; null if it
    /// is unknown.
    pub since: Option<Timestamp>,
    pub why: String,
}

impl DataFreshness {
    pub(super) async fn read(
        store: &TeamStore,
        repo: Option<RepoId>,
        not_computed: u64,
    ) -> Result<Self, ApiError> {
        let now = Utc::now();
        let oldest = store.oldest_pending().await?;
        let (vouched_until, gaps) = store.repository_gaps(repo).await?;
        let age = oldest.and_then(|at| (now - at).to_std().ok());
        Ok(Self {
            applied_until: oldest.unwrap_or(now).into(),
            oldest_pending_seconds: age.unwrap_or_default().as_secs_f64(),
            vouched_until: vouched_until.map(Timestamp::from),
            incomplete: gaps.into_iter().map(IncompleteRepository::from).collect(),
            not_computed,
        })
    }
}

impl From<RepositoryGap> for IncompleteRepository {
    fn from(gap: RepositoryGap) -> Self {
        let (since, why) = if gap.is_lost {
            let why = "GitHub does not show it to us any more";
            (Some(gap.access_at), why.to_owned())
        } else if let Some(error) = gap.last_error {
            let last = gap.last_sync_at.map(Timestamp::from);
            (last, format!("the last look at GitHub failed: {error}"))
        } else if let Some(since) = gap.complete_since {
            let why = "pull requests failed in its last backfill, which names them";
            (Some(since), why.to_owned())
        } else {
            let why = "only what webhooks brought is known: it was not fetched by a backfill";
            (None, why.to_owned())
        };
        Self {
            repo: gap.repo,
            since,
            why,
        }
    }
}
