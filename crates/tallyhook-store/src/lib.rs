//! The store: deliveries, facts, outbox, notifications, tasks, tokens and the record of what was asked of GitHub. All SQL of
//! the workspace is in this crate.
//!
//! [`Store`] has a method for each use case; each is one atomic step. A folder holds an entity: its types, its SQL, its
//! rows. `database` runs one text of SQL on either kind of database; `sqlite` and `postgres` hold connections, and an
//! entity has files of those names where the dialects differ for a reason.

#![warn(clippy::unwrap_used)]

mod columns;
mod database;
mod deliveries;
mod error;
mod facts;
mod leader;
mod migrations;
mod notifications;
mod open;
mod outbox;
mod postgres;
mod pull_requests;
mod sqlite;
mod store;
mod sync;
mod tasks;
mod tokens;

pub use tallyhook_core::delivery::{DeliveryId, Lane, Moment};
pub use tallyhook_core::domain::recording::{
    BatchWrite, FinishedDelivery, PullRequestChange, PullRequestRecord, RepositoryObservation,
    StoredPullRequest, VersionConflict,
};

pub use self::deliveries::{
    Accepted, Claim, Counts, DeadGroup, DeadLike, DeadSelection, Delivery, DeliveryFilter,
    DeliveryState, Exhausted, Failure, NewDelivery, NewState, Purged, StoredBody, Unfinished,
    Waiting, portions,
};
pub use self::error::{DatabaseUrlError, NotReady, Result, StoreError};
pub use self::leader::{LEASE_DURATION, LeaderRole};
pub use self::notifications::{
    Attempt, Backlog, ChannelRecord, ChannelState, Next, NotificationFilter, NotificationRow,
    NotificationState, Rest, Told,
};
pub use self::open::{Opening, open};
pub use self::outbox::{EventId, News, OutboxEvent, OutboxListener, TaskChange, WorktreeKept};
pub use self::pull_requests::{
    AggregateFilter, Durations, PullRequestFilter, PullRequestRow, StateFilter,
};
pub use self::store::{Condition, Store};
pub use self::sync::{
    MOST_ERRORS, PollerStats, PrError, RunOptions, RunState, SyncRun, SyncRunId, SyncState,
    SyncStatus, TrackedRepository, WatchCounts, Watched,
};
pub use self::tasks::{
    Due, NewTask, Settled, Task, TaskCause, TaskEdit, TaskEvent, TaskPlace, TaskRef,
};
pub use self::tokens::{ApiToken as Token, TokenHash};
