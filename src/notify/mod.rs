//! Notifications: their shape outside, the channels they are delivered to, and the feed of the
//! WebSocket clients.

mod channel;
mod digest;
mod feed;
mod hints;
mod notifier;
mod redact;
mod retry;
mod sending;
mod slack;
mod slack_waiting;
mod ssrf_guard;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::notification::{NotificationKind, PullRequestStatus, SyncSource};
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::task::{TaskId, TaskStatus};
use tallyhook_core::domain::waiting_change::WaitedFor;
use tallyhook_core::github::types::Timestamp;
use tallyhook_store::{DigestItem, EventId, EventSubject, OutboxEvent, OutboxPayload};
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::channel::{Channel, ChannelKind, Channels, team_of_settings};
pub use self::feed::{
    FeedSubscription, NotificationFeed, NotificationFrame, OutboxReader, SubscriptionError,
    open_feed,
};
pub use self::hints::{AddressedHint, CHANGES_KEPT, HintFeed, HintFrame, HintSubscription};
pub use self::notifier::Notifier;
pub use self::retry::RetryPolicy;
pub use self::sending::ChannelTestResult;

/// A change as channels and WebSocket clients receive it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notification {
    PrStatusChange {
        /// The stable id of the pull request: UUID version 5 of its repository's id and its number.
        #[schema(value_type = String, format = "uuid")]
        pr_id: Uuid,
        /// `owner/name`
        repo: String,
        pr_number: i64,
        /// The pull request's title as it is known now.
        title: Option<String>,
        html_url: Option<String>,
        /// The login of its author.
        author: Option<String>,
        /// The key of the task, if it has one.
        task_key: Option<String>,
        /// The task that the pull request is linked to; the oldest one if there are several.
        #[schema(value_type = Option<String>, format = "uuid")]
        task_id: Option<TaskId>,
        /// Null if no status was known before.
        old_status: Option<PullRequestStatus>,
        new_status: PullRequestStatus,
        /// The source that reported the change first.
        sync_source: SyncSource,
        /// The time of the change on GitHub.
        #[schema(value_type = String, format = "date-time")]
        timestamp: Timestamp,
        /// The position in the outbox. Later events have ids that sort after it as text.
        event_id: String,
    },
    TaskStatusChange {
        #[schema(value_type = String, format = "uuid")]
        task_id: TaskId,
        /// The title of the pull request that caused the change; null if a person did.
        title: Option<String>,
        html_url: Option<String>,
        /// The login of the pull request's author.
        author: Option<String>,
        task_key: Option<String>,
        old_status: TaskStatus,
        new_status: TaskStatus,
        /// True if a pull request caused the change, false if a person did.
        pr_trigger: bool,
        /// The time of the cause.
        #[schema(value_type = String, format = "date-time")]
        timestamp: Timestamp,
        event_id: String,
    },
    /// A pull request was merged, but its task's working tree was kept because removing it would
    /// have lost something.
    WorktreeKept {
        #[schema(value_type = String, format = "uuid")]
        task_id: TaskId,
        #[schema(value_type = String, format = "uuid")]
        pr_id: Uuid,
        /// `owner/name`
        repo: String,
        pr_number: i64,
        /// The pull request's title as it is known now.
        title: Option<String>,
        html_url: Option<String>,
        /// The login of its author.
        author: Option<String>,
        task_key: Option<String>,
        /// The reason why the working tree was kept, as a sentence.
        reason: String,
        /// The time of the check.
        #[schema(value_type = String, format = "date-time")]
        timestamp: Timestamp,
        event_id: String,
    },
    /// An open pull request waits for another party than before. Sent where a channel names it.
    WaitingChange {
        #[schema(value_type = String, format = "uuid")]
        pr_id: Uuid,
        /// `owner/name`
        repo: String,
        pr_number: i64,
        /// The pull request's title as it is known now.
        title: Option<String>,
        html_url: Option<String>,
        /// The login of its author.
        author: Option<String>,
        task_key: Option<String>,
        /// The task that the pull request is linked to; the oldest one if there are several.
        #[schema(value_type = Option<String>, format = "uuid")]
        task_id: Option<TaskId>,
        /// Null if it was not open before, or not known.
        old_waiting: Option<WaitedFor>,
        new_waiting: WaitedFor,
        /// The reason, as a sentence.
        because: String,
        /// The source that reported the change first.
        sync_source: SyncSource,
        /// The time from which these parties are waited for, on GitHub.
        #[schema(value_type = String, format = "date-time")]
        timestamp: Timestamp,
        event_id: String,
    },
    /// The daily list of one channel: what waits, and for whom.
    Digest {
        channel: String,
        /// The date in the zone of the channel's calendar.
        #[schema(value_type = String, format = "date")]
        day: NaiveDate,
        /// The number of pull requests that wait. Drafts are left out.
        total: u64,
        /// Those that wait longest, the longest first.
        items: Vec<DigestItem>,
        /// The time of day of the settings, on that day.
        #[schema(value_type = String, format = "date-time")]
        timestamp: Timestamp,
        event_id: String,
    },
}

impl Notification {
    pub fn kind(&self) -> NotificationKind {
        match self {
            Self::PrStatusChange { .. } => NotificationKind::PrStatusChange,
            Self::TaskStatusChange { .. } => NotificationKind::TaskStatusChange,
            Self::WorktreeKept { .. } => NotificationKind::WorktreeKept,
            Self::WaitingChange { .. } => NotificationKind::WaitingChange,
            Self::Digest { .. } => NotificationKind::Digest,
        }
    }

    /// Returns the id of the thing that changed. A later notification with the same subject
    /// supersedes an earlier one.
    pub fn subject(&self) -> Uuid {
        match self {
            Self::PrStatusChange { pr_id, .. } => *pr_id,
            Self::TaskStatusChange { task_id, .. } => task_id.0,
            // Later changes of the task do not make it obsolete, so it is its own subject.
            Self::WorktreeKept { .. } => self.key(),
            Self::WaitingChange { pr_id, .. } => Uuid::new_v5(pr_id, b"waiting"),
            Self::Digest { channel, .. } => Uuid::new_v5(&Uuid::nil(), channel.as_bytes()),
        }
    }

    /// Returns the id of the event, which each channel has a notification of.
    pub fn event_id(&self) -> &str {
        match self {
            Self::PrStatusChange { event_id, .. }
            | Self::TaskStatusChange { event_id, .. }
            | Self::WorktreeKept { event_id, .. }
            | Self::WaitingChange { event_id, .. }
            | Self::Digest { event_id, .. } => event_id,
        }
    }

    /// Returns the change in one line.
    pub fn summary(&self) -> String {
        match self {
            Self::PrStatusChange {
                repo,
                pr_number,
                new_status,
                ..
            } => format!("{repo}#{pr_number} is {new_status}"),
            Self::TaskStatusChange {
                task_id,
                task_key,
                new_status,
                ..
            } => {
                let key = task_key.clone().unwrap_or_else(|| task_id.to_string());
                format!("{key} is {new_status}")
            }
            Self::WorktreeKept { repo, reason, .. } => {
                format!("a working tree of {repo} was kept: {reason}")
            }
            Self::WaitingChange {
                repo,
                pr_number,
                because,
                ..
            } => format!("{repo}#{pr_number}: {because}"),
            Self::Digest { day, total, .. } => format!("the digest of {day}, of {total}"),
        }
    }

    /// Returns the idempotency key: equal for every delivery of one change, on every channel, and
    /// different for every other change.
    pub fn key(&self) -> Uuid {
        let (subject, change) = match self {
            Self::PrStatusChange {
                pr_id,
                new_status,
                timestamp,
                ..
            } => (*pr_id, format!("{new_status} {timestamp}")),
            // The event id, because a task that falls back to the status a person gave it gets an
            // earlier status with an earlier timestamp again.
            Self::TaskStatusChange {
                task_id, event_id, ..
            } => (task_id.0, format!("status {event_id}")),
            Self::WorktreeKept {
                task_id, event_id, ..
            } => (task_id.0, format!("kept {event_id}")),
            Self::WaitingChange {
                pr_id, event_id, ..
            } => (*pr_id, format!("waiting {event_id}")),
            Self::Digest { day, .. } => (self.subject(), format!("digest {day}")),
        };
        Uuid::new_v5(&subject, change.as_bytes())
    }

    /// Returns the JSON text that programs receive.
    pub fn to_json(&self) -> String {
        // Serialization cannot fail: the fields are strings, numbers and enums.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl From<OutboxEvent> for Notification {
    fn from(event: OutboxEvent) -> Self {
        Self::of_event(event.id, event.repo, event.payload, event.subject)
    }
}

impl Notification {
    fn of_event(
        id: EventId,
        repo: Option<String>,
        payload: OutboxPayload,
        subject: EventSubject,
    ) -> Self {
        let EventSubject {
            title,
            html_url,
            author,
            task_key,
        } = subject;
        let (event_id, repo) = (id.to_string(), repo.unwrap_or_default());
        match payload {
            OutboxPayload::PullRequest(made, task_id) => Self::PrStatusChange {
                pr_id: PullRequest::id(made.key),
                repo,
                pr_number: made.key.number.0,
                title,
                html_url,
                author,
                task_key,
                task_id,
                old_status: made.change.old,
                new_status: made.change.new,
                sync_source: made.source,
                timestamp: made.change.at,
                event_id,
            },
            OutboxPayload::Task(made) => Self::TaskStatusChange {
                task_id: made.task,
                title,
                html_url,
                author,
                task_key,
                old_status: made.old,
                new_status: made.new,
                pr_trigger: made.because.is_some(),
                timestamp: made.at,
                event_id,
            },
            OutboxPayload::WorktreeKept(kept) => Self::WorktreeKept {
                task_id: kept.task,
                pr_id: PullRequest::id(kept.key),
                repo,
                pr_number: kept.key.number.0,
                title,
                html_url,
                author,
                task_key,
                reason: kept.reason,
                timestamp: kept.at,
                event_id,
            },
            OutboxPayload::Waiting(made, task_id) => Self::WaitingChange {
                pr_id: PullRequest::id(made.key),
                repo,
                pr_number: made.key.number.0,
                title,
                html_url,
                author,
                task_key,
                task_id,
                old_waiting: made.parties.old,
                new_waiting: made.parties.new,
                because: made.parties.because,
                sync_source: made.source,
                timestamp: made.at,
                event_id,
            },
            OutboxPayload::Digest(digest) => Self::Digest {
                channel: digest.channel,
                day: digest.content.day,
                total: digest.content.total,
                items: digest.content.items,
                timestamp: digest.at,
                event_id,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};
    use tallyhook_store::{TaskChange, WorktreeKept};

    #[test]
    fn idempotency_key_identifies_one_event() {
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
        for payload in [moved, kept] {
            let key = |id| {
                let subject = EventSubject::default();
                Notification::of_event(EventId(id), None, payload.clone(), subject).key()
            };
            assert_eq!(key(1), key(1));
            assert_ne!(key(1), key(2), "{payload:?}");
        }
    }
}
