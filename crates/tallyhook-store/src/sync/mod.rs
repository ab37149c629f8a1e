//! Synchronisation with GitHub: tracked repositories, backfills, watched pull requests, the poller's record.

mod row;
mod runs;
mod sql;
mod types;

pub use self::types::{
    MOST_ERRORS, PollerStats, PrError, RunOptions, RunState, SyncRun, SyncRunId, SyncState,
    SyncStatus, TrackedRepository, WatchCounts, Watched,
};
