//! Everything that is kept: the inbox, the facts, the outbox, what is asked of GitHub, the tokens. All SQL is below this module.
//!
//! The traits are sets of use cases, each one atomic step: there is no transaction to begin from outside, so none
//! can be left open. [`Store`] is all of them together; commands and handlers name the part they use.

#![warn(clippy::unwrap_used)]

mod accepting;
mod aggregating;
mod body;
mod facts;
mod inbox;
mod listing;
mod migrations;
mod notifications;
mod notifications_sql;
mod outbox;
mod outbox_sql;
mod postgres;
mod reading;
mod rows;
mod runs_sql;
mod sessions;
pub mod sqlite;
mod syncing;
mod syncing_sql;
mod tasks;
mod tasks_sql;
mod tickets;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
pub use tallyhook_core::delivery::{DeliveryId, Lane, Moment};
pub use tallyhook_core::domain::recording::{
    BatchWrite, FinishedDelivery, PullRequestChange, PullRequestRecord, RepositoryObservation,
    StoredPullRequest, VersionConflict,
};
use thiserror::Error;

pub use self::body::StoredBody;
pub use self::facts::Facts;
pub use self::inbox::{
    Accepted, Claim, Counts, DeadGroup, DeadLike, DeadSelection, Delivery, DeliveryFilter,
    DeliveryState, Exhausted, Failure, Inbox, NewDelivery, NewState, Purged, Unfinished, Waiting,
    portions,
};
pub use self::notifications::{
    Attempt, Backlog, ChannelRecord, ChannelState, Next, NotificationFilter, NotificationRow,
    NotificationState, Notifications, Rest, Told,
};
pub use self::outbox::{EventId, Listening, News, Outbox, OutboxEvent, TaskChange, WorktreeKept};
pub use self::reading::{
    AggregateFilter, Durations, PullRequestFilter, PullRequestRow, Reading, StateFilter,
};
pub use self::syncing::{
    MOST_ERRORS, PollerStats, PrError, RunOptions, RunState, Runs, SyncRun, SyncRunId, SyncState,
    SyncStatus, Syncing, TrackedRepository, WatchCounts, Watched,
};
pub use self::tasks::{
    Due, NewTask, Settled, Task, TaskCause, TaskEdit, TaskEvent, TaskPlace, TaskRef, Tasks,
};
pub use self::tickets::Tickets;
pub use self::tokens::{Token, TokenHash, Tokens};

/// A `DATABASE_URL` that names no database this version knows; the text says what was expected.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct DatabaseUrlError(String);

/// All a caller can do about a failing store is to try again later; the text is for the log.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The failure of a commit that several deliveries shared.
    #[error("{0}")]
    Shared(Arc<StoreError>),
    /// Another process brought the database to another version.
    #[error(
        "the database has {applied} migrations, which is not what this version of tallyhook works with"
    )]
    Version { applied: i64 },
    #[error("the database is closed: this process is stopping")]
    Closed,
    #[error("the database did not answer in time")]
    Unanswered,
}

impl StoreError {
    /// Whether the database refused what it was given, and would refuse it again: the values, not the moment.
    pub fn is_about_data(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else {
            return matches!(self, Self::Shared(error) if error.is_about_data());
        };
        // PostgreSQL's classes of data, constraints and limits; SQLite's "too big", "constraint" and "mismatch", which
        // its extended codes have in their last byte.
        error.code().is_some_and(|code| match code.parse::<u32>() {
            Ok(number) if code.len() < 5 => matches!(number & 0xff, 18..=20),
            _ => ["22", "23", "54"]
                .iter()
                .any(|class| code.starts_with(class)),
        })
    }
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The whole store.
#[async_trait::async_trait]
pub trait Store:
    Inbox + Facts + Outbox + Notifications + Reading + Syncing + Runs + Tasks + Tokens + Tickets
{
    /// Whether the database answers and has every migration of this version.
    async fn check(&self) -> Result<()>;

    /// What the database is like, for whoever looks after it.
    async fn condition(&self) -> Result<Condition>;

    /// Acquires or renews a role. Returns whether this process holds it. A holder that does not renew for
    /// [`LEASE_DURATION`] may lose it.
    async fn acquire_role(&self, role: LeaderRole) -> Result<bool>;

    /// Releases a role, so that another process can acquire it at once.
    async fn release_role(&self, role: LeaderRole);

    /// Begins to listen for events of the outbox, those too that other processes write.
    async fn listen(&self) -> Result<Box<dyn Listening>>;

    /// Finishes what is under way and closes every connection.
    async fn close(&self);
}

/// Why a database that can be reached cannot be used yet; `serve` makes it ready, unless it is of a newer version.
#[derive(Debug, Error)]
pub enum NotReady {
    #[error("there is no database at {}: `tallyhook serve` or `tallyhook migrate` makes one", .0.display())]
    Missing(PathBuf),
    #[error("the database has no tables yet: run `tallyhook migrate` first")]
    Empty,
    #[error(
        "the database has {applied} migrations, this version of tallyhook knows {known}: run `tallyhook migrate` with \
         the newer of the two"
    )]
    OtherVersion { applied: i64, known: i64 },
}

/// What a database tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it is, as in `SQLite 3.50.1`.
    pub server: String,
    /// By the database server's clock; `None` where it is ours.
    pub now: Option<Moment>,
    /// Why nothing can be written to it.
    pub read_only: Option<String>,
}

/// How long after it was acquired or renewed no other process can hold a role.
pub const LEASE_DURATION: Duration = Duration::from_secs(10);

/// A role that one process at a time holds among those of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaderRole {
    /// Hands due rows over and clears away what is old.
    Sweeper,
    /// Asks GitHub for what webhooks missed.
    Poller,
    /// Lets tasks follow their pull requests.
    Follower,
    /// Tells channels of what is in the outbox.
    Notifier,
    /// Opens pull requests of tasks whose branch was pushed to.
    Opener,
    /// Removes working trees of tasks that are done.
    Cleaner,
}

/// How a database is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// By `serve` and `demo`: alone, with migrations.
    Alone,
    /// By `serve --no-migrate`: alone; refuses a database that is not there or of another version.
    AloneAsIs,
    /// By commands, beside a `serve` that may be running; refuses like the one before.
    Beside,
}

/// Opens the store that `url` names.
///
/// # Errors
/// In words that say what to do: a file that cannot be opened, another `serve` on the same file; [`DatabaseUrlError`]
/// if it is no URL or its scheme is not known.
pub async fn open(url: &str, opening: Opening) -> anyhow::Result<Arc<dyn Store>> {
    let Some((scheme, _)) = url.split_once(':') else {
        bail!(DatabaseUrlError(
            "DATABASE_URL is not a URL: expected sqlite://FILE or postgres://USER:PASSWORD@HOST/DATABASE".to_owned()
        ));
    };
    match scheme {
        "sqlite" => {
            let store = sqlite::SqliteStore::open(url, opening)
                .await
                .context("cannot use the database of DATABASE_URL")?;
            Ok(Arc::new(store))
        }
        "postgres" | "postgresql" => {
            let store = postgres::PostgresStore::open(url, opening)
                .await
                .context("cannot use the database of DATABASE_URL")?;
            Ok(Arc::new(store))
        }
        other => bail!(DatabaseUrlError(format!(
            "DATABASE_URL names the database kind `{other}`: expected sqlite://FILE or \
             postgres://USER:PASSWORD@HOST/DATABASE"
        ))),
    }
}
