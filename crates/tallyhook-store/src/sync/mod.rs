//! Synchronisation with GitHub: tracked repositories, backfills, watched pull requests, the
//! poller's record.

mod row;
mod runs;
mod sql;
mod types;

pub use self::types::{
    MAX_RUN_ERRORS, PollerStats, PullRequestError, RepositoryGap, RunOptions, RunState,
    SyncOutcome, SyncRun, SyncRunId, SyncStatus, TrackedRepository, WatchCounts,
    WatchedPullRequest,
};
