//! Tasks as rows.

use sqlx::FromRow;
use tallyhook_core::domain::task::{ManualStatus, TaskId, TaskKey, TaskState, TaskStatus};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};

use crate::columns::{Millis, Name, Seconds};
use crate::{PendingWork, Task, TaskCause, TaskEvent, TaskPlace, TeamId};

#[derive(FromRow)]
pub(crate) struct TaskRow {
    team_id: i64,
    id: Name<TaskId>,
    task_key: Option<String>,
    title: String,
    status: Name<TaskStatus>,
    initial_status: Option<Name<TaskStatus>>,
    said: Option<Name<TaskStatus>>,
    said_at: Option<Seconds>,
    repo_name: Option<String>,
    branch: Option<String>,
    worktree: Option<String>,
    created_at: Millis,
    updated_at: Millis,
    version: i64,
    follow_due: i64,
    push_due: i64,
    cleanup_due: i64,
    tries: i64,
}

impl TaskRow {
    pub(crate) const COLUMNS: &'static str = "team_id, id, task_key, title, status, initial_status, said, said_at, \
         repo_name, branch, \
         worktree, created_at, updated_at, version, follow_due, push_due, cleanup_due, tries";
}

impl From<TaskRow> for Task {
    /// But for its pull requests.
    fn from(row: TaskRow) -> Self {
        let by_hand = row
            .said
            .zip(row.said_at)
            .map(|(Name(status), Seconds(at))| ManualStatus { status, at });
        Self {
            team: TeamId(row.team_id),
            id: row.id.0,
            key: row.task_key.as_deref().and_then(TaskKey::parse),
            title: row.title,
            state: TaskState {
                status: row.status.0,
                // Null in the row of a process of an earlier version.
                initial: row
                    .initial_status
                    .map_or(row.status.0, |Name(initial)| initial),
                by_hand,
            },
            place: TaskPlace {
                repo: row.repo_name,
                branch: row.branch,
                worktree: row.worktree,
            },
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
            version: row.version,
            due: PendingWork {
                follow: row.follow_due == 1,
                push: row.push_due == 1,
                cleanup: row.cleanup_due == 1,
            },
            tries: u32::try_from(row.tries).unwrap_or(u32::MAX),
            prs: Vec::new(),
        }
    }
}

/// The id of a team and that of one of its tasks.
pub(crate) type TeamTask = (i64, TaskId);

/// That a pull request belongs to a task.
#[derive(FromRow)]
pub(crate) struct TaskLinkRow {
    team_id: i64,
    task_id: Name<TaskId>,
    repo_id: i64,
    number: i64,
}

impl TaskLinkRow {
    pub(crate) fn link(&self) -> (TeamTask, PrKey) {
        (
            (self.team_id, self.task_id.0),
            PrKey {
                repo: RepoId(self.repo_id),
                number: PrNumber(self.number),
            },
        )
    }
}

#[derive(FromRow)]
pub(crate) struct TaskEventRow {
    happened_at: Seconds,
    recorded_at: Millis,
    old_status: Option<Name<TaskStatus>>,
    new_status: Name<TaskStatus>,
    cause: Name<TaskCause>,
    repo_id: Option<i64>,
    number: Option<i64>,
    note: Option<String>,
}

impl From<TaskEventRow> for TaskEvent {
    fn from(row: TaskEventRow) -> Self {
        let key = row.repo_id.zip(row.number);
        Self {
            at: row.happened_at.0,
            recorded_at: row.recorded_at.0,
            old: row.old_status.map(|Name(old)| old),
            new: row.new_status.0,
            cause: row.cause.0,
            pull_request: key.map(|(repo, number)| PrKey {
                repo: RepoId(repo),
                number: PrNumber(number),
            }),
            note: row.note,
        }
    }
}
