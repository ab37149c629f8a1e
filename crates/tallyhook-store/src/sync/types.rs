//! What is asked of GitHub, and how far that has come: tracked repositories, backfills, watched pull requests, the
//! poller's record.

use serde::{Deserialize, Serialize};
use tallyhook_core::domain::repository::Access;
use tallyhook_core::github::types::{PrNumber, RepoId, Timestamp};
use utoipa::ToSchema;

use crate::Moment;

/// A repository whose pull requests are asked for at GitHub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedRepository {
    pub id: RepoId,
    /// `owner/name`.
    pub name: String,
    pub private: Option<bool>,
    pub access: Access,
    pub tracked_since: Moment,
    pub sync_status: SyncStatus,
    pub last_sync_at: Option<Moment>,
    pub last_error: Option<String>,
    /// The newest webhook that was applied.
    pub last_delivery_at: Option<Moment>,
    /// The newest `updated_at` that a listing showed and that is in the inbox.
    pub watermark: Option<Timestamp>,
    /// When all of it was last compared with GitHub's.
    pub reconciled_at: Option<Moment>,
    /// Every pull request that was updated since then was fetched once, but for those that its runs name as failed.
    pub complete_since: Option<Timestamp>,
    /// Changes that were found by asking.
    pub missed_by_webhook: u64,
}

/// How a repository stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncStatus {
    /// It was not asked for yet, or a backfill waits for its turn.
    Pending,
    Syncing,
    Synced,
    /// `last_error` says which.
    Error,
}

/// What asking for a repository came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// What changed is in the inbox.
    Polled {
        /// The newest `updated_at` of the listing; one that is older than the last is not taken.
        watermark: Option<Timestamp>,
        /// Whether all of it was compared.
        reconciled: bool,
    },
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncRunId(pub i64);

/// A backfill of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRun {
    pub id: SyncRunId,
    pub repo: RepoId,
    /// `owner/name`, as it is now.
    pub repo_name: String,
    pub state: RunState,
    pub options: RunOptions,
    /// Where it goes on, as JSON in words of whoever walks.
    pub walk: Option<String>,
    pub prs_done: u64,
    pub prs_total: Option<u64>,
    pub reviews_synced: u64,
    /// Those that failed by themselves; the first [`MOST_ERRORS`] are kept.
    pub errors: Vec<PrError>,
    /// What ended it.
    pub error: Option<String>,
    pub github_requests: u64,
    /// Set when it is done: every pull request that was updated since then was fetched.
    pub complete_since: Option<Timestamp>,
    pub asked_at: Moment,
    /// When it was first taken.
    pub started_at: Option<Moment>,
    pub finished_at: Option<Moment>,
    /// Tells this taking from any other.
    pub(super) lease: i64,
}

/// How many errors of a run are kept.
pub const MOST_ERRORS: usize = 1000;
/// How many finished runs of a repository are kept.
pub(super) const KEPT_RUNS: i64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl RunState {
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// How far a run goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunOptions {
    pub days_back: u32,
    pub max_prs: u32,
    /// Whether the dates of commits are asked for.
    pub commits: bool,
}

/// A pull request that could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrError {
    pub pr: i64,
    pub error: String,
}

/// A pull request that is watched by asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// `owner/name`, as it was told.
    pub repo_name: String,
    pub number: PrNumber,
    pub since: Moment,
    pub checked_at: Option<Moment>,
    /// Since it last went well.
    pub failures: u64,
    pub error: Option<String>,
}

/// How many pull requests are watched by asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    pub watched: u64,
    /// Of all: those whose turn it is.
    pub due: u64,
    /// Of all: those that could not be got when they were asked for last.
    pub failing: u64,
}

/// What the poller did so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PollerStats {
    /// Set while a round is under way, and after one that broke off until the next begins.
    pub running_since: Option<Moment>,
    pub last_sync_at: Option<Moment>,
    pub sync_count: u64,
    pub error_count: u64,
    /// Somebody asked for a round that has not begun.
    pub asked_at: Option<Moment>,
    /// In words of whoever polls.
    pub statistics: Option<serde_json::Value>,
}
