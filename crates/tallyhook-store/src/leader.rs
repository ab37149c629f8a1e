//! Roles that one process at a time holds.

use std::time::Duration;

/// The time after acquiring or renewing a role in which no other process can hold it.
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
    /// Sends the events of the outbox to channels.
    Notifier,
    /// Opens pull requests of tasks whose branch was pushed to.
    Opener,
    /// Removes working trees of tasks that are done.
    Cleaner,
    /// Computes numbers of an earlier definition again.
    Renumberer,
}
