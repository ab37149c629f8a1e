//! Synchronisation with GitHub: tracked repositories, backfills, watched pull requests, the
//! poller's record.

use serde::{Deserialize, Serialize};
use tallyhook_core::domain::repository::RepositoryAccess;
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
    pub access: RepositoryAccess,
    /// False of one that was untracked, and of which webhooks arrive.
    pub is_tracked: bool,
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
    /// Every pull request that was updated since then was fetched once, but for those that its runs
    /// name as failed.
    pub complete_since: Option<Timestamp>,
    /// Changes that were found by asking.
    pub missed_by_webhook: u64,
}

/// The synchronisation status of a repository.
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

impl SyncStatus {
    pub const ALL: [Self; 4] = [Self::Pending, Self::Syncing, Self::Synced, Self::Error];

    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Syncing => "syncing",
            Self::Synced => "synced",
            Self::Error => "error",
        }
    }
}

/// A filter of listed repositories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepositoryFilter {
    pub repo: Option<RepoId>,
    /// Tracked ones of this status.
    pub status: Option<SyncStatus>,
    /// Tracked ones of which something is missing.
    pub incomplete: bool,
}

/// The number of tracked repositories by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepositoryCounts {
    pub pending: u64,
    pub syncing: u64,
    pub synced: u64,
    pub error: u64,
    /// Of all: those of which something is missing.
    pub incomplete: u64,
}

impl RepositoryCounts {
    pub fn all(&self) -> u64 {
        self.pending + self.syncing + self.synced + self.error
    }

    pub(super) fn of_status(&mut self, status: SyncStatus) -> &mut u64 {
        match status {
            SyncStatus::Pending => &mut self.pending,
            SyncStatus::Syncing => &mut self.syncing,
            SyncStatus::Synced => &mut self.synced,
            SyncStatus::Error => &mut self.error,
        }
    }
}

/// The number of backfills by state, and the work of those that are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackfillCounts {
    pub queued: u64,
    pub running: u64,
    pub done: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Pull requests that the done ones fetched.
    pub pull_requests: u64,
    /// Time from the beginning to the end of the done ones, waits for GitHub's limits included.
    pub seconds: u64,
}

impl BackfillCounts {
    /// Returns the number of those that ended by themselves.
    pub fn attempted(&self) -> u64 {
        self.done + self.failed
    }

    /// Returns the seconds of 100 pull requests; `None` before any was fetched.
    #[allow(
        clippy::cast_precision_loss,
        reason = "sums of seconds and counts are far below 2^53"
    )]
    pub fn seconds_per_100(&self) -> Option<f64> {
        (self.pull_requests > 0).then(|| self.seconds as f64 * 100.0 / self.pull_requests as f64)
    }

    pub(super) fn of_state(&mut self, state: RunState) -> &mut u64 {
        match state {
            RunState::Queued => &mut self.queued,
            RunState::Running => &mut self.running,
            RunState::Done => &mut self.done,
            RunState::Failed => &mut self.failed,
            RunState::Cancelled => &mut self.cancelled,
        }
    }
}

/// A tracked repository of which something is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryGap {
    /// `owner/name`.
    pub repo: String,
    /// GitHub does not show it to us any more, since `access_at`.
    pub is_lost: bool,
    pub access_at: Timestamp,
    /// Set if the last synchronisation failed.
    pub last_error: Option<String>,
    pub last_sync_at: Option<Moment>,
    /// Set if its history was fetched once.
    pub complete_since: Option<Timestamp>,
}

/// The outcome of a synchronisation of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncOutcome {
    /// The changes are in the inbox.
    Polled {
        /// The newest `updated_at` of the listing; one that is older than the last is not taken.
        watermark: Option<Timestamp>,
        /// All of it was compared.
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
    /// The cursor, as JSON of the backfill.
    pub walk: Option<String>,
    pub prs_done: u64,
    pub prs_total: Option<u64>,
    pub reviews_synced: u64,
    /// Those that failed by themselves; the first [`MAX_RUN_ERRORS`] are kept.
    pub errors: Vec<PullRequestError>,
    /// The error that ended it or that it waits for; of a finished one the facts that GitHub
    /// withholds.
    pub error: Option<String>,
    pub github_requests: u64,
    /// Set when it is done: every pull request that was updated since then was fetched.
    pub complete_since: Option<Timestamp>,
    pub asked_at: Moment,
    /// When it was first taken.
    pub started_at: Option<Moment>,
    pub finished_at: Option<Moment>,
    /// Identifies this lease.
    pub(super) lease: i64,
}

/// The number of errors of a run that are kept.
pub const MAX_RUN_ERRORS: usize = 1000;
/// The number of finished runs of a repository that are kept.
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
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A filter of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    pub repo: Option<RepoId>,
    /// Empty for all.
    pub states: Vec<RunState>,
}

/// The range of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunOptions {
    pub days_back: u32,
    pub max_prs: u32,
    /// The dates of commits are fetched too.
    pub commits: bool,
}

/// A pull request that could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PrError)]
pub struct PullRequestError {
    pub pr: i64,
    pub error: String,
}

/// A pull request that is watched by asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedPullRequest {
    /// `owner/name`, as it was given.
    pub repo_name: String,
    pub number: PrNumber,
    pub since: Moment,
    pub checked_at: Option<Moment>,
    /// Since it last went well.
    pub failures: u64,
    pub error: Option<String>,
}

/// The number of watched pull requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    pub watched: u64,
    /// Of all: those whose turn it is.
    pub due: u64,
    /// Of all: those that could not be got when they were asked for last.
    pub failing: u64,
}

/// The record of the poller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PollerStats {
    /// Set while a round is under way, and after one that broke off until the next begins.
    pub running_since: Option<Moment>,
    pub last_sync_at: Option<Moment>,
    pub sync_count: u64,
    pub error_count: u64,
    /// The time at which a round was requested that has not begun.
    pub asked_at: Option<Moment>,
    /// JSON of the poller.
    pub statistics: Option<serde_json::Value>,
}
