//! What is asked of GitHub, and how far that has come: tracked repositories, backfills, watched pull requests, the
//! poller's record.

use serde::{Deserialize, Serialize};
use tallyhook_core::domain::repository::{Access, Repository};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use utoipa::ToSchema;

use super::{Moment, Result};

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

/// Use cases of what is asked of GitHub. Names compare without regard to case.
#[async_trait::async_trait]
pub trait Syncing: Send + Sync {
    /// Tracks a repository from now on, as one of which nothing was asked for yet, and notes what was seen of it; `false`
    /// if it was tracked.
    async fn track(&self, repository: &Repository, now: Moment) -> Result<bool>;

    /// Facts stay, deliveries that come later do not track it again, and its run is cancelled; `false` if it was not
    /// tracked.
    async fn untrack(&self, repo: RepoId, now: Moment) -> Result<bool>;

    /// By name.
    async fn tracked(&self) -> Result<Vec<TrackedRepository>>;

    async fn tracked_repository(&self, repo: RepoId) -> Result<Option<TrackedRepository>>;

    /// Notes what asking for a repository came to.
    async fn sync_state(&self, repo: RepoId, state: &SyncState, now: Moment) -> Result<()>;

    /// Pull requests of a tracked repository of which only parts were ever seen, and about which GitHub was not asked
    /// since `checked_before`: the oldest check first, before them those without one, of these the newest first.
    async fn unfetched(
        &self,
        repo: RepoId,
        checked_before: Moment,
        limit: u32,
    ) -> Result<Vec<PrNumber>>;

    /// Notes that GitHub was asked about just these, and that what it said is in the inbox.
    async fn checked(&self, keys: &[PrKey], at: Moment) -> Result<()>;

    /// Watches a pull request; `false` if it was watched.
    async fn watch(&self, repo_name: &str, number: PrNumber, now: Moment) -> Result<bool>;

    /// `false` if it was not watched.
    async fn unwatch(&self, repo_name: &str, number: PrNumber) -> Result<bool>;

    /// Those that were not checked since `due_before`, the oldest check first.
    async fn watched(&self, due_before: Moment, limit: u32) -> Result<Vec<Watched>>;

    /// Those that could not be got when they were asked for last, the latest first.
    async fn failing_watches(&self, limit: u32) -> Result<Vec<Watched>>;

    /// Those that were not checked since `due_before` are due.
    async fn watch_counts(&self, due_before: Moment) -> Result<WatchCounts>;

    /// Notes that a watched pull request was asked for, and what went wrong if anything did.
    async fn watch_checked(
        &self,
        repo_name: &str,
        number: PrNumber,
        now: Moment,
        outcome: std::result::Result<(), &str>,
    ) -> Result<()>;

    async fn poller_stats(&self) -> Result<PollerStats>;

    /// Asks for a round of the poller now, after the one that may be under way.
    async fn ask_for_poll(&self, now: Moment) -> Result<()>;

    async fn poll_began(&self, now: Moment) -> Result<()>;

    /// Notes the end of a round, in which `errors` repositories failed.
    async fn poll_ended(
        &self,
        now: Moment,
        errors: u64,
        statistics: &serde_json::Value,
    ) -> Result<()>;
}

/// Use cases of backfills.
#[async_trait::async_trait]
pub trait Runs: Send + Sync {
    /// Asks for a run: the unfinished one of the repository if there is one; the last one, to go on where it stopped, if
    /// it failed with the same options; else a new one. `None` if the repository is not known.
    async fn ask_for_run(
        &self,
        repo: RepoId,
        options: &RunOptions,
        now: Moment,
    ) -> Result<Option<SyncRun>>;

    /// Takes the oldest run, of `only` if told, that nobody works on.
    async fn take_run(
        &self,
        only: Option<RepoId>,
        now: Moment,
        lease_until: Moment,
    ) -> Result<Option<SyncRun>>;

    /// Writes a run that was taken; in a finished state, or queued for somebody else to take, it is let go. `false` if
    /// it was cancelled or somebody else has taken it: nothing was written, stop.
    async fn save_run(&self, run: &SyncRun, now: Moment, lease_until: Moment) -> Result<bool>;

    /// Keeps a run that was taken. `false` as with [`save_run`](Self::save_run).
    async fn renew_run(&self, run: &SyncRun, lease_until: Moment) -> Result<bool>;

    /// `false` if it is finished or not known.
    async fn cancel_run(&self, run: SyncRunId, now: Moment) -> Result<bool>;

    async fn sync_run(&self, run: SyncRunId) -> Result<Option<SyncRun>>;

    /// The newest first; those before `before` in that order, if told.
    async fn sync_runs(
        &self,
        repo: Option<RepoId>,
        before: Option<SyncRunId>,
        limit: u32,
    ) -> Result<Vec<SyncRun>>;

    /// The newest one of each repository.
    async fn latest_runs(&self) -> Result<Vec<SyncRun>>;
}
