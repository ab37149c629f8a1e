//! What is worth telling about a pull request: that it is open, closed or merged now and was not before.
//!
//! A change is the pull request, what it became and when that happened on GitHub. That moment comes from the facts, never
//! from the arrival of a delivery, so that a change which two sources bring is one change to whoever keeps them.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::pull_request::{PullRequest, Source};
use super::timings::last_reopened_at;
use crate::github::types::Timestamp;

/// What a pull request is, in the words of notifications.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    Open,
    /// Without a merge.
    Closed,
    Merged,
}

impl Status {
    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Closed => "CLOSED",
            Self::Merged => "MERGED",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What news are about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    PrStatusChange,
    TaskStatusChange,
    /// A working tree was not removed after its merge.
    WorktreeKept,
}

impl Kind {
    pub const ALL: [Self; 3] = [
        Self::PrStatusChange,
        Self::TaskStatusChange,
        Self::WorktreeKept,
    ];

    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrStatusChange => "pr_status_change",
            Self::TaskStatusChange => "task_status_change",
            Self::WorktreeKept => "worktree_kept",
        }
    }
}

/// Who was the first to tell, in the words of notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncSource {
    Webhook,
    /// Whoever asks GitHub for what webhooks missed.
    Worker,
    Monitor,
}

impl SyncSource {
    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Worker => "worker",
            Self::Monitor => "monitor",
        }
    }
}

impl From<Source> for SyncSource {
    fn from(source: Source) -> Self {
        match source {
            Source::Webhook => Self::Webhook,
            Source::Poller | Source::Backfill => Self::Worker,
            Source::Monitor => Self::Monitor,
        }
    }
}

/// A pull request became something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// `None` if nothing was known of it before.
    pub old: Option<Status>,
    pub new: Status,
    /// When that happened on GitHub.
    pub at: Timestamp,
}

/// What `pull_request` is, and since when on GitHub: its merge, its closing, its latest reopening, its creation. `None` while
/// no snapshot of it was seen.
///
/// A reopening that was missed is dated by the first snapshot that shows it; a later delivery may date it earlier.
pub fn status(pull_request: &PullRequest) -> Option<(Status, Timestamp)> {
    let seen = pull_request.conversation.as_ref()?;
    let created_at = pull_request.created_at?;
    if let Some(merged_at) = pull_request.merged_at {
        return Some((Status::Merged, merged_at));
    }
    let reopened_at = last_reopened_at(pull_request);
    if seen.value.open {
        return Some((Status::Open, reopened_at.unwrap_or(created_at)));
    }
    let closed_at = seen.value.closed_at.unwrap_or(seen.at);
    // Of two snapshots of one second the closed one counts; that it was reopened in that very second, the timeline knows.
    let undone = reopened_at.filter(|reopened_at| *reopened_at >= closed_at.max(seen.at));
    Some(undone.map_or((Status::Closed, closed_at), |at| (Status::Open, at)))
}

/// What an event changed that left `after` of a pull request that was `old`. What was over before anybody learnt of it is
/// no change, nor is what a stale or repeated event tells.
pub fn change(old: Option<Status>, after: &PullRequest) -> Option<StatusChange> {
    let (new, at) = status(after)?;
    (old != Some(new)).then_some(StatusChange { old, new, at })
}

/// Whether anybody is told: not of what happened before its repository was tracked, which a backfill brings in bulk.
pub fn notifies(change: &StatusChange, tracked_since: Timestamp) -> bool {
    change.at >= tracked_since
}
