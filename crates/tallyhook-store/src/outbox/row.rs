//! The outbox as rows.

use sqlx::FromRow;
use tallyhook_core::domain::notification::{PullRequestStatus, StatusChange, SyncSource};
use tallyhook_core::domain::task::{TaskId, TaskStatus};
use tallyhook_core::domain::waiting_change::WaitingChange;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};

use crate::columns::{Millis, Name, Seconds};
use crate::{
    ChannelDigest, EventId, EventSubject, OutboxEvent, OutboxPayload, PullRequestChange,
    TaskChange, WorktreeKept,
};

/// A row of the outbox. The kind determines which columns are null.
#[derive(FromRow)]
pub(crate) struct OutboxRow {
    id: i64,
    kind: String,
    repo_id: Option<i64>,
    repo_name: Option<String>,
    number: Option<i64>,
    task_id: Option<Name<TaskId>>,
    old_status: Option<String>,
    new_status: Option<String>,
    happened_at: Seconds,
    sync_source: Option<Name<SyncSource>>,
    reason: Option<String>,
    recipient: Option<String>,
    content: Option<String>,
    subject_title: Option<String>,
    subject_url: Option<String>,
    subject_author: Option<String>,
    subject_key: Option<String>,
}

impl OutboxRow {
    pub(crate) const COLUMNS: &'static str = "id, kind, repo_id, repo_name, number, \
         task_id, old_status, \
         new_status, happened_at, sync_source, reason, recipient, content, \
         subject_title, subject_url, subject_author, subject_key";
    /// Joins the outbox with what its events are about. Within, all names differ from those of
    /// other tables of a query.
    pub(crate) const JOINS: &'static str = "\
         LEFT JOIN (SELECT repo_id AS subject_repo, number AS subject_number, \
         title AS subject_title, html_url AS subject_url, author_login AS subject_author \
         FROM pull_requests) AS subject_pr ON subject_repo = repo_id AND subject_number = number \
         LEFT JOIN (SELECT id AS subject_task, task_key AS subject_key FROM tasks) AS subject_tasks \
         ON subject_task = task_id";
    pub(crate) const PULL_REQUEST: &'static str = "pr_status_change";
    pub(crate) const TASK: &'static str = "task_status_change";
    pub(crate) const WORKTREE_KEPT: &'static str = "worktree_kept";
    pub(crate) const WAITING: &'static str = "waiting_change";
    pub(crate) const DIGEST: &'static str = "digest";

    fn payload(self) -> Option<OutboxPayload> {
        let key = self.repo_id.zip(self.number);
        let key = key.map(|(repo, number)| PrKey {
            repo: RepoId(repo),
            number: PrNumber(number),
        });
        let at = self.happened_at.0;
        let task = self.task_id.map(|Name(task)| task);
        match self.kind.as_str() {
            Self::PULL_REQUEST => {
                let (old, new) = (
                    self.old_status.as_deref().map(status),
                    status(self.new_status.as_deref()?)?,
                );
                let change = StatusChange {
                    old: old.flatten(),
                    new,
                    at,
                };
                Some(OutboxPayload::PullRequest(
                    PullRequestChange {
                        key: key?,
                        change,
                        source: self.sync_source?.0,
                    },
                    task,
                ))
            }
            Self::TASK => {
                let (old, new) = (
                    task_status(self.old_status.as_deref()?)?,
                    task_status(self.new_status.as_deref()?)?,
                );
                Some(OutboxPayload::Task(TaskChange {
                    task: task?,
                    old,
                    new,
                    at,
                    because: key,
                }))
            }
            Self::WORKTREE_KEPT => {
                let reason = self.reason.unwrap_or_default();
                Some(OutboxPayload::WorktreeKept(WorktreeKept {
                    task: task?,
                    key: key?,
                    reason,
                    at,
                }))
            }
            Self::WAITING => {
                let change = WaitingChange {
                    key: key?,
                    source: self.sync_source?.0,
                    at,
                    parties: serde_json::from_str(&self.content?).ok()?,
                };
                Some(OutboxPayload::Waiting(change, task))
            }
            Self::DIGEST => Some(OutboxPayload::Digest(ChannelDigest {
                channel: self.recipient?,
                at,
                content: serde_json::from_str(&self.content?).ok()?,
            })),
            _ => None,
        }
    }
}

impl TryFrom<OutboxRow> for OutboxEvent {
    type Error = sqlx::Error;

    /// # Errors
    /// If the row is of no kind that this version knows, or lacks what its kind has.
    fn try_from(mut row: OutboxRow) -> Result<Self, sqlx::Error> {
        let (id, repo) = (EventId(row.id), row.repo_name.take());
        let subject = EventSubject {
            title: row.subject_title.take(),
            html_url: row.subject_url.take(),
            author: row.subject_author.take(),
            task_key: row.subject_key.take(),
        };
        let odd = || {
            sqlx::Error::Decode(
                format!("event {id} of the outbox is of no kind that is known").into(),
            )
        };
        Ok(Self {
            id,
            repo,
            subject,
            payload: row.payload().ok_or_else(odd)?,
        })
    }
}

fn status(text: &str) -> Option<PullRequestStatus> {
    [
        PullRequestStatus::Open,
        PullRequestStatus::Closed,
        PullRequestStatus::Merged,
    ]
    .into_iter()
    .find(|status| status.as_str() == text)
}

fn task_status(text: &str) -> Option<TaskStatus> {
    text.parse().ok()
}

/// The attributes of a repository that notifications about it need.
#[derive(FromRow)]
pub(crate) struct NotifiedRepositoryRow {
    pub(crate) name: String,
    pub(crate) tracked_since: Millis,
}
