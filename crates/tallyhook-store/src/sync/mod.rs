//! Synchronisation with GitHub: tracked repositories, backfills, watched pull requests, the
//! poller's record.

mod row;
mod runs;
mod sql;
mod totals;
mod types;

pub use self::types::{
    BackfillCounts, MAX_RUN_ERRORS, PollerStats, PullRequestError, RepositoryCounts,
    RepositoryFilter, RepositoryGap, RunFilter, RunOptions, RunState, SyncOutcome, SyncRun,
    SyncRunId, SyncStatus, TrackedRepository, WatchCounts, WatchedPullRequest,
};
