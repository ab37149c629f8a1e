//! Tasks as the API shows them.

use serde::Serialize;
use tallyhook_core::domain::task::{TaskId, TaskStatus};
use tallyhook_core::domain::timings::PullRequestState;
use tallyhook_core::github::types::{PrNumber, Timestamp};
use tallyhook_store::TaskCause;
use utoipa::ToSchema;
use uuid::Uuid;

use super::waiting::WaitingItem;

/// A task.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskItem {
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// The key by which pull requests refer to it.
    #[schema(example = "PROJ-123")]
    pub key: Option<String>,
    pub title: String,
    pub status: TaskStatus,
    /// `owner/name` of its repository.
    pub repo: Option<String>,
    pub branch: Option<String>,
    pub worktree: Option<String>,
    #[schema(format = "date-time")]
    pub created_at: String,
    #[schema(format = "date-time")]
    pub updated_at: String,
    /// The pull requests that are linked to it or name its key.
    pub prs: Vec<LinkedPullRequest>,
    /// The status that its pull requests would give it, if a person set another one later.
    pub differs: Option<StatusDifference>,
}

/// A short form of a pull request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskPullRequest)]
pub struct LinkedPullRequest {
    #[schema(value_type = String, format = "uuid")]
    pub pr_id: Uuid,
    /// `owner/name`
    pub repo: String,
    #[schema(value_type = i64)]
    pub number: PrNumber,
    pub title: Option<String>,
    pub state: PullRequestState,
    pub html_url: Option<String>,
    /// Of an open one: the one thing that it waits for.
    pub waiting: Option<WaitingItem>,
}

/// A task with its history.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskDetail {
    #[serde(flatten)]
    pub task: TaskItem,
    /// Its changes and their causes, the newest first.
    pub history: Vec<HistoryItem>,
}

/// The status of a task without the change that a person made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Difference)]
pub struct StatusDifference {
    pub would_be: TaskStatus,
    /// The pull request that gives this status.
    #[schema(value_type = String, format = "uuid")]
    pub pr_id: Uuid,
    #[schema(value_type = i64)]
    pub pr_number: PrNumber,
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryItem {
    /// The time of the cause.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    #[schema(format = "date-time")]
    pub recorded_at: String,
    /// Null for its creation; the same as the new one where the status did not change.
    pub old_status: Option<TaskStatus>,
    pub new_status: TaskStatus,
    pub cause: TaskCause,
    /// The pull request that is the cause.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub pr_id: Option<Uuid>,
    #[schema(value_type = Option<i64>)]
    pub pr_number: Option<PrNumber>,
    pub note: Option<String>,
}
