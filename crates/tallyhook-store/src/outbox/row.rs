//! The outbox as rows.

use sqlx::FromRow;
use tallyhook_core::domain::notification::{PullRequestStatus, StatusChange, SyncSource};
use tallyhook_core::domain::task::{TaskId, TaskStatus};
use tallyhook_core::domain::waiting_change::WaitingChange;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};

use super::event::EventTask;
use crate::columns::{Millis, Name, Seconds};
use crate::{
    ChannelDigest, EventId, EventSubject, OutboxEvent, OutboxPayload, PullRequestChange,
    TaskChange, TeamId, WorktreeKept,
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
    event_team: Option<i64>,
    tasks: Option<String>,
    subject_title: Option<String>,
    subject_url: Option<String>,
    subject_author: Option<String>,
    subject_key: Option<String>,
}

impl OutboxRow {
    pub(crate) const COLUMNS: &'static str = "id, kind, repo_id, repo_name, number, \
         task_id, old_status, \
         new_status, happened_at, sync_source, reason, recipient, content, \
         outbox.team_id AS event_team, tasks, \
         subject_title, subject_url, subject_author, subject_key";
    /// Joins the outbox with what its events are about. Within, all names differ from those of
    /// other tables of a query.
    pub(crate) const JOINS: &'static str = "\
         LEFT JOIN (SELECT repo_id AS subject_repo, number AS subject_number, \
         title AS subject_title, html_url AS subject_url, author_login AS subject_author \
         FROM pull_requests) AS subject_pr ON subject_repo = repo_id AND subject_number = number \
         LEFT JOIN (SELECT team_id AS subject_team, id AS subject_task, task_key AS subject_key \
         FROM tasks) AS subject_tasks ON subject_team = outbox.team_id AND subject_task = task_id";
    /// The condition that the team `$n` may be notified of an event.
    pub(crate) fn visible_to(place: &str) -> String {
        format!(
            "(outbox.team_id = {place} OR outbox.team_id IS NULL AND EXISTS (\
                 SELECT 1 FROM team_repositories seen WHERE seen.team_id = {place} \
                 AND seen.repo_id = outbox.repo_id))"
        )
    }

    /// Returns the repository of an event that every team is notified of which sees it.
    pub(crate) fn shared_repository(&self) -> Option<i64> {
        self.repo_id.filter(|_| self.event_team.is_none())
    }
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
        let teams = row.event_team.map(TeamId).into_iter().collect();
        let tasks = row.tasks.take().unwrap_or_else(|| "[]".to_owned());
        let tasks: Vec<(i64, TaskId)> =
            serde_json::from_str(&tasks).map_err(|error| sqlx::Error::Decode(error.into()))?;
        let task = |(team, id)| EventTask {
            team: TeamId(team),
            id,
            key: None,
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
            teams,
            tasks: tasks.into_iter().map(task).collect(),
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
