//! Telling: what a change is called outside, and who is told of it.

mod channel;
mod feed;
mod notifier;
mod sending;
mod slack;
pub mod target;

use serde::{Deserialize, Serialize};
use tallyhook_core::domain::notification::{Kind, Status, SyncSource};
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::task::{TaskId, TaskStatus};
use tallyhook_core::github::types::Timestamp;
use tallyhook_store::{OutboxEvent, OutboxPayload, PullRequestChange, TaskChange, WorktreeKept};
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::channel::{Channel, ChannelKind, Channels};
pub use self::feed::{Closed, Feed, Frame, Reader, Subscription, feed};
pub use self::notifier::{Notifier, Pace};
pub use self::sending::Tried;

/// What somebody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notification {
    PrStatusChange {
        /// The same for a pull request everywhere and always.
        #[schema(value_type = String, format = "uuid")]
        pr_id: Uuid,
        /// `owner/name`
        repo: String,
        pr_number: i64,
        /// The task that it belongs to, the oldest if it is of several.
        #[schema(value_type = Option<String>, format = "uuid")]
        task_id: Option<TaskId>,
        /// Null if nothing was known of it before.
        old_status: Option<Status>,
        new_status: Status,
        /// Who was the first to tell.
        sync_source: SyncSource,
        /// When that happened on GitHub.
        #[schema(value_type = String, format = "date-time")]
        timestamp: Timestamp,
        /// Of later events it is greater, as a text.
        event_id: String,
    },
    TaskStatusChange {
        #[schema(value_type = String, format = "uuid")]
        task_id: TaskId,
        old_status: TaskStatus,
        new_status: TaskStatus,
        /// Whether a pull request is the cause, and not a person.
        pr_trigger: bool,
        /// When the cause happened.
        #[schema(value_type = String, format = "date-time")]
        timestamp: Timestamp,
        event_id: String,
    },
    /// A pull request was merged, and the working tree of its task could not be removed without losing something.
    WorktreeKept {
        #[schema(value_type = String, format = "uuid")]
        task_id: TaskId,
        #[schema(value_type = String, format = "uuid")]
        pr_id: Uuid,
        /// `owner/name`
        repo: String,
        pr_number: i64,
        /// What would be lost, in words.
        reason: String,
        /// When it was looked at.
        #[schema(value_type = String, format = "date-time")]
        timestamp: Timestamp,
        event_id: String,
    },
}

impl Notification {
    pub fn kind(&self) -> Kind {
        match self {
            Self::PrStatusChange { .. } => Kind::PrStatusChange,
            Self::TaskStatusChange { .. } => Kind::TaskStatusChange,
            Self::WorktreeKept { .. } => Kind::WorktreeKept,
        }
    }

    /// What it is about: of two notifications about the same the later one makes the earlier one old.
    pub fn subject(&self) -> Uuid {
        match self {
            Self::PrStatusChange { pr_id, .. } => *pr_id,
            Self::TaskStatusChange { task_id, .. } => task_id.0,
            // Nothing that happens later to the task makes it less true.
            Self::WorktreeKept { .. } => self.key(),
        }
    }

    /// The same for a change however often and by whatever way it is told, and of no other.
    pub fn key(&self) -> Uuid {
        let (subject, change) = match self {
            Self::PrStatusChange {
                pr_id,
                new_status,
                timestamp,
                ..
            } => (*pr_id, format!("{new_status} {timestamp}")),
            // A task that falls back to what a person said becomes again what it was, as of the same moment.
            Self::TaskStatusChange {
                task_id, event_id, ..
            } => (task_id.0, format!("status {event_id}")),
            Self::WorktreeKept {
                task_id, event_id, ..
            } => (task_id.0, format!("kept {event_id}")),
        };
        Uuid::new_v5(&subject, change.as_bytes())
    }

    /// As it is told to programs.
    pub fn to_text(&self) -> String {
        // Names, numbers and texts always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl From<OutboxEvent> for Notification {
    fn from(event: OutboxEvent) -> Self {
        let OutboxEvent { id, repo, news } = event;
        let (event_id, repo) = (id.to_string(), repo.unwrap_or_default());
        match news {
            OutboxPayload::PullRequest(
                PullRequestChange {
                    key,
                    change,
                    source,
                },
                task_id,
            ) => Self::PrStatusChange {
                pr_id: PullRequest::id(key),
                repo,
                pr_number: key.number.0,
                task_id,
                old_status: change.old,
                new_status: change.new,
                sync_source: source,
                timestamp: change.at,
                event_id,
            },
            OutboxPayload::Task(TaskChange {
                task,
                old,
                new,
                at,
                because,
            }) => Self::TaskStatusChange {
                task_id: task,
                old_status: old,
                new_status: new,
                pr_trigger: because.is_some(),
                timestamp: at,
                event_id,
            },
            OutboxPayload::WorktreeKept(WorktreeKept {
                task,
                key,
                reason,
                at,
            }) => Self::WorktreeKept {
                task_id: task,
                pr_id: PullRequest::id(key),
                repo,
                pr_number: key.number.0,
                reason,
                timestamp: at,
                event_id,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};
    use tallyhook_store::EventId;

    #[test]
    fn a_key_is_of_one_change() {
        let (task, at) = (TaskId(Uuid::nil()), Timestamp::clamped(1));
        let key = PrKey {
            repo: RepoId(1),
            number: PrNumber(1),
        };
        let (old, new) = (TaskStatus::Todo, TaskStatus::Implementing);
        let moved = OutboxPayload::Task(TaskChange {
            task,
            old,
            new,
            at,
            because: None,
        });
        let kept = OutboxPayload::WorktreeKept(WorktreeKept {
            task,
            key,
            reason: String::new(),
            at,
        });
        for news in [moved, kept] {
            let key = |id| {
                Notification::from(OutboxEvent {
                    id: EventId(id),
                    repo: None,
                    news: news.clone(),
                })
                .key()
            };
            assert_eq!(key(1), key(1));
            assert_ne!(key(1), key(2), "{news:?}");
        }
    }
}
