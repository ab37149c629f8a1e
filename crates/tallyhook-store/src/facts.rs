//! The facts: what is known of pull requests and repositories.

use tallyhook_core::domain::recording::{BatchWrite, StoredPullRequest, VersionConflict};
use tallyhook_core::github::types::PrKey;

use super::{Moment, Result};

/// Use cases of the facts. `record` is the one way in which a fact is written.
#[async_trait::async_trait]
pub trait Facts: Send + Sync {
    /// Returns the stored state of each key, [`PullRequest::unknown`](tallyhook_core::domain::pull_request::PullRequest::unknown)
    /// for one without a row.
    async fn load(&self, keys: &[PrKey]) -> Result<Vec<StoredPullRequest>>;

    /// Writes facts and numbers, and finishes the deliveries they came from, in one transaction.
    async fn record(
        &self,
        write: &BatchWrite,
        now: Moment,
    ) -> Result<std::result::Result<(), VersionConflict>>;

    /// Returns keys after `after` in ascending order, at most `limit`, to page through all pull requests.
    async fn keys_after(&self, after: Option<PrKey>, limit: u32) -> Result<Vec<PrKey>>;
}
