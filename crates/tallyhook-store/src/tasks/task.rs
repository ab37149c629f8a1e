//! Tasks, and what is due of them.

use serde::{Deserialize, Serialize};
use tallyhook_core::domain::task::{TaskId, TaskKey, TaskState, TaskStatus, Transition};
use tallyhook_core::github::types::{PrKey, Timestamp};
use utoipa::ToSchema;

use crate::{Moment, News};

/// A task as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub id: TaskId,
    /// What people call it; of two tasks it is never the same.
    pub key: Option<TaskKey>,
    pub title: String,
    pub state: TaskState,
    pub place: TaskPlace,
    pub created_at: Moment,
    pub updated_at: Moment,
    /// A write must find it.
    pub version: i64,
    pub due: Due,
    /// How often what is due was tried in vain.
    pub tries: u32,
    /// The pull requests that are linked to it or name its key, by key.
    pub prs: Vec<PrKey>,
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

/// What has to be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Something of its pull requests changed.
    pub follow: bool,
    /// Its branch was pushed to.
    pub push: bool,
    /// Its working tree may have had its day.
    pub cleanup: bool,
}

impl Due {
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

/// What a person changes of a task; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct TaskEdit {
    pub title: Option<String>,
    /// Is the last word on it until a pull request says otherwise later.
    pub status: Option<TaskStatus>,
    pub repo: Option<Option<String>>,
    pub branch: Option<Option<String>>,
    pub worktree: Option<Option<String>>,
}

/// Which task is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskRef {
    Id(TaskId),
    Key(TaskKey),
}

/// Why something is in the history of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskCause {
    Created,
    /// A person said so.
    ByHand,
    /// What became of a pull request.
    PullRequest,
    /// A pull request was made for it, or could not be, as the note tells.
    PullRequestMade,
    PullRequestRefused,
    WorktreeRemoved,
    WorktreeKept,
    /// Whoever looked has nothing there; the tree may be on another machine.
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

/// What came of looking at a task.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// What needs no looking at any more.
    pub done: Due,
    /// Where the task goes, which is told unless its cause is older than the tracking of its repository.
    pub moved: Option<Transition>,
    /// What its history is to tell besides.
    pub noted: Option<(TaskCause, Option<PrKey>, String)>,
    /// What somebody is to be told besides.
    pub told: Option<News>,
    /// Its working tree is there no more.
    pub worktree_removed: bool,
    /// What is still due was tried in vain, and is left alone until then.
    pub again: Option<Moment>,
}
