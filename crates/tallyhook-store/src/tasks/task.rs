//! Tasks, and what is due of them.

use serde::{Deserialize, Serialize};
use tallyhook_core::domain::task::{TaskId, TaskKey, TaskState, TaskStatus, Transition};
use tallyhook_core::github::types::{PrKey, Timestamp};
use utoipa::ToSchema;

use crate::{Moment, OutboxPayload, TeamId};

/// A task as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub team: TeamId,
    pub id: TaskId,
    /// The key that people use; unique in its team.
    pub key: Option<TaskKey>,
    pub title: String,
    pub state: TaskState,
    pub place: TaskPlace,
    pub created_at: Moment,
    pub updated_at: Moment,
    /// A write must find it.
    pub version: i64,
    pub due: PendingWork,
    /// The number of failed attempts at the work that is due.
    pub tries: u32,
    /// The pull requests that are linked to it or name its key, by key; of repositories that its team
    /// sees.
    pub prs: Vec<PrKey>,
}

/// A filter of tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    pub status: Option<TaskStatus>,
    /// `owner/name`, in any case.
    pub repo: Option<String>,
    /// A part of the title or of the key, in any case.
    pub text: Option<String>,
}

/// Where a task is worked on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskPlace {
    /// `owner/name`
    pub repo: Option<String>,
    pub branch: Option<String>,
    /// Below the root of working trees, or absolute.
    pub worktree: Option<String>,
}

/// The work on a task that is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingWork {
    /// Something of its pull requests changed.
    pub follow: bool,
    /// Its branch was pushed to.
    pub push: bool,
    /// Its working tree may have had its day.
    pub cleanup: bool,
}

impl PendingWork {
    pub const FOLLOW: Self = Self {
        follow: true,
        push: false,
        cleanup: false,
    };
    pub const PUSH: Self = Self {
        follow: false,
        push: true,
        cleanup: false,
    };
    pub const CLEANUP: Self = Self {
        follow: false,
        push: false,
        cleanup: true,
    };
    pub const ALL: Self = Self {
        follow: true,
        push: true,
        cleanup: true,
    };
}

/// A task to be made.
#[derive(Clone, Debug)]
pub struct NewTask {
    pub id: TaskId,
    pub key: Option<TaskKey>,
    pub title: String,
    pub status: TaskStatus,
    pub place: TaskPlace,
}

/// A person's edit of a task; `None` leaves an attribute as it is.
#[derive(Clone, Debug, Default)]
pub struct TaskEdit {
    pub title: Option<String>,
    /// Is the last word on it until a pull request says otherwise later.
    pub status: Option<TaskStatus>,
    pub repo: Option<Option<String>>,
    pub branch: Option<Option<String>>,
    pub worktree: Option<Option<String>>,
}

/// A reference to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskRef {
    Id(TaskId),
    Key(TaskKey),
}

/// The cause of an entry in a task's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskCause {
    Created,
    /// An edit by a person.
    ByHand,
    /// A change of a pull request.
    PullRequest,
    /// The pull request that had moved it belongs to it no more, or is a draft, and it has no other.
    PullRequestUnlinked,
    /// A pull request was opened for it, or could not be; the note has the reason.
    PullRequestMade,
    PullRequestRefused,
    WorktreeRemoved,
    WorktreeKept,
    /// The process that looked has nothing there; the tree may be on another machine.
    WorktreeMissing,
}

/// An entry of a task's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEvent {
    /// When the cause happened.
    pub at: Timestamp,
    pub recorded_at: Moment,
    /// `None` for its creation; the same as the new one where the status did not change.
    pub old: Option<TaskStatus>,
    pub new: TaskStatus,
    pub cause: TaskCause,
    pub pull_request: Option<PrKey>,
    pub note: Option<String>,
}

/// The result of the work on a task.
#[derive(Clone, Debug, Default)]
pub struct TaskUpdate {
    /// The work that is done.
    pub done: PendingWork,
    /// The transition, which enters the outbox unless its cause is older than the tracking of its
    /// repository.
    pub moved: Option<Transition>,
    /// A further entry for its history.
    pub noted: Option<(TaskCause, Option<PrKey>, String)>,
    /// A further event for the outbox.
    pub payload: Option<OutboxPayload>,
    /// Its working tree was removed.
    pub worktree_removed: bool,
    /// The time of the next attempt at work that failed.
    pub again: Option<Moment>,
}
