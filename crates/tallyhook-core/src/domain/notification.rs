//! The changes of a pull request that are worth a notification: to open, closed or merged.
//!
//! A change is the pull request, its new status and the time of it on GitHub. The time is computed
//! from the facts, never from the arrival of a delivery, so that a change which two sources bring
//! is stored once.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::pull_request::{PullRequest, Source};
use super::timings::last_reopened_at;
use crate::github::types::Timestamp;

/// The status of a pull request as notifications name it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
#[schema(as = Status)]
pub enum PullRequestStatus {
    Open,
    /// Without a merge.
    Closed,
    Merged,
}

impl PullRequestStatus {
    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

impl fmt::Display for PullRequestStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kind of a notification.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
#[schema(as = Kind)]
pub enum NotificationKind {
    PrStatusChange,
    TaskStatusChange,
    /// A working tree was not removed after its merge.
    WorktreeKept,
    /// An open pull request waits for another party than before.
    WaitingChange,
    /// The daily list of a channel: what waits, and for whom.
    Digest,
}

impl NotificationKind {
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Returns whether a channel that names no kinds goes without this one.
    pub const fn is_sent_on_request_only(self) -> bool {
        matches!(self, Self::WaitingChange | Self::Digest)
    }

    /// Returns whether a channel can name it. A digest is asked for by its time of day.
    pub const fn is_selectable(self) -> bool {
        !matches!(self, Self::Digest)
    }
}

/// The first source of a change, as notifications name it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum SyncSource {
    Webhook,
    /// Poller, recovery and backfill, which ask GitHub for what webhooks missed.
    Worker,
    Monitor,
}

impl SyncSource {
    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
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

/// A change of a pull request's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// `None` if the pull request was unknown before.
    pub old: Option<PullRequestStatus>,
    pub new: PullRequestStatus,
    /// The time of the change on GitHub.
    pub at: Timestamp,
}

/// Returns the status of `pull_request` and the start of it on GitHub: the merge, the closing, the
/// latest reopening or the creation. `None` while no snapshot of it is known.
///
/// A reopening that was missed is dated by the first snapshot that shows it; a later delivery may
/// date it earlier.
pub fn status(pull_request: &PullRequest) -> Option<(PullRequestStatus, Timestamp)> {
    let seen = pull_request.conversation.as_ref()?;
    let created_at = pull_request.created_at?;
    if let Some(merged_at) = pull_request.merged_at {
        return Some((PullRequestStatus::Merged, merged_at));
    }
    if pull_request.is_merged() {
        let merged_at = seen.value.closed_at.unwrap_or(seen.at);
        return Some((PullRequestStatus::Merged, merged_at));
    }
    let reopened_at = last_reopened_at(pull_request);
    if seen.value.open {
        return Some((PullRequestStatus::Open, reopened_at.unwrap_or(created_at)));
    }
    let closed_at = seen.value.closed_at.unwrap_or(seen.at);
    // Of two snapshots of one second the closed one counts; a reopening within that second is in
    // the timeline.
    let undone = reopened_at.filter(|reopened_at| *reopened_at >= closed_at.max(seen.at));
    Some(undone.map_or((PullRequestStatus::Closed, closed_at), |at| {
        (PullRequestStatus::Open, at)
    }))
}

/// Returns the status change of an event that turned a pull request of status `old` into `after`. A
/// status that had ended before it was learnt is no change, nor is the status of a stale or
/// repeated event.
pub fn change(old: Option<PullRequestStatus>, after: &PullRequest) -> Option<StatusChange> {
    let (new, at) = status(after)?;
    (old != Some(new)).then_some(StatusChange { old, new, at })
}

/// The seconds by which GitHub's clock may be behind ours.
const CLOCK_GRACE: i64 = 5 * 60;

/// Returns whether a change at `at` is worth a notification: not if it is older than the tracking of
/// its repository, since a backfill brings such changes in bulk.
pub fn is_worth_notification(at: Timestamp, tracked_since: Timestamp) -> bool {
    at.epoch() >= tracked_since.epoch() - CLOCK_GRACE
}
