//! Writes about tasks that are part of a larger transaction.

use std::collections::BTreeSet;

use tallyhook_core::domain::notification::is_worth_notification;
use tallyhook_core::domain::task::{TaskId, TaskKey, TaskStatus, Transition, TransitionCause};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};

use super::row::{TaskLinkRow, TaskRow, TeamTask};
use super::sql::FOLLOW;
use super::{Task, TaskCause, TaskEdit};
use crate::columns::{Millis, Name, Seconds, storable_text};
use crate::database::{Lock, Transaction, statement};
use crate::outbox::{NewOutboxEvent, append_events, notified_repository, tasks_by_pull_request};
use crate::repository_names::RepositoryNamesRow;
use crate::{BatchWrite, Moment, OutboxPayload, Result, TaskChange, TeamId};

/// The number of pull requests of one statement.
const ROWS: usize = 64;

/// A transaction that writes tasks.
pub(crate) struct TaskWriter<'a, 't>(pub(crate) &'a mut Transaction<'t>);

/// An entry for the history of a task.
pub(super) struct NewTaskEvent {
    pub(super) at: Timestamp,
    pub(super) old: Option<TaskStatus>,
    pub(super) new: TaskStatus,
    pub(super) cause: TaskCause,
    pub(super) pull_request: Option<PrKey>,
    pub(super) note: Option<String>,
}

impl TaskWriter<'_, '_> {
    /// Records the task keys that pull requests name, and marks the tasks that have to follow the
    /// changes of a batch. Returns the number of marked tasks.
    pub(crate) async fn mark(&mut self, recording: &BatchWrite) -> Result<u64> {
        let BatchWrite {
            moved,
            mentions,
            pushes,
            ..
        } = recording;
        let (mut following, mut pushed) = (BTreeSet::new(), BTreeSet::new());
        if !moved.is_empty() || !mentions.is_empty() {
            self.0.lock(Lock::TasksOfPullRequests).await?;
            let mentioning: Vec<_> = mentions.iter().map(|(key, _)| *key).collect();
            // Those whose key is named no more have lost a pull request.
            self.find(&mentioning, &mut following).await?;
            for (key, keys) in mentions {
                self.mention(*key, keys).await?;
            }
            let moved: BTreeSet<_> = moved.iter().chain(&mentioning).copied().collect();
            self.find(&moved.into_iter().collect::<Vec<_>>(), &mut following)
                .await?;
        }
        for (repo, branch) in pushes {
            pushed.extend(self.on_branch(*repo, branch).await?);
        }
        let mut marked = 0;
        // One by one in id order, so that two transactions cannot deadlock.
        for task in following.union(&pushed) {
            let (team, id) = task;
            if following.contains(task) {
                let update = format!("UPDATE tasks SET {FOLLOW} WHERE team_id = $1 AND id = $2");
                let update = statement(update).bind(*team).bind(id.to_string());
                marked += self.0.execute(update).await?;
            }
            if pushed.contains(task) {
                let update = statement(
                    "UPDATE tasks SET push_due = 1, tries = 0, not_before = NULL, \
                     version = version + 1 \
                     WHERE team_id = $1 AND id = $2 AND status = 'IMPLEMENTING'",
                );
                let update = update.bind(*team).bind(id.to_string());
                marked += self.0.execute(update).await?;
            }
        }
        Ok(marked)
    }

    /// Returns the tasks that are worked on on a branch, by any name that its repository has had, of
    /// teams that see the repository.
    async fn on_branch(&mut self, repo: RepoId, branch: &str) -> Result<Vec<TeamTask>> {
        let query = statement(RepositoryNamesRow::QUERY).bind(repo.0);
        let row: Option<RepositoryNamesRow> = self.0.row(query).await?;
        let names: Vec<_> = row
            .into_iter()
            .flat_map(RepositoryNamesRow::names)
            .collect();
        let query = "SELECT team_id, id, repo_name FROM tasks WHERE branch = $1 \
                     AND status = 'IMPLEMENTING' AND repo_name IS NOT NULL \
                     AND EXISTS (SELECT 1 FROM team_repositories seen \
                         WHERE seen.team_id = tasks.team_id AND seen.repo_id = $2)";
        let query = statement(query).bind(storable_text(branch)).bind(repo.0);
        let tasks: Vec<(i64, Name<TaskId>, String)> = self.0.rows(query).await?;
        let is_of = |of: &str| names.iter().any(|name| name.eq_ignore_ascii_case(of));
        let tasks = tasks.into_iter().filter(|(_, _, of)| is_of(of));
        Ok(tasks.map(|(team, Name(task), _)| (team, task)).collect())
    }

    /// Adds the tasks of pull requests.
    async fn find(&mut self, keys: &[PrKey], found: &mut BTreeSet<TeamTask>) -> Result<()> {
        for portion in keys.chunks(ROWS) {
            let query =
                statement(tasks_by_pull_request(portion.len())).persistent(portion.len() == 1);
            let query = portion.iter().fold(query, |query, key| {
                query.bind(key.repo.0).bind(key.number.0)
            });
            for row in self.0.rows::<TaskLinkRow>(query).await? {
                found.insert(row.link().0);
            }
        }
        Ok(())
    }

    async fn mention(&mut self, key: PrKey, keys: &BTreeSet<TaskKey>) -> Result<()> {
        let delete = statement("DELETE FROM mentions WHERE repo_id = $1 AND number = $2");
        self.0
            .execute(delete.bind(key.repo.0).bind(key.number.0))
            .await?;
        for task_key in keys {
            let insert = "INSERT INTO mentions (task_key, repo_id, number) VALUES ($1, $2, $3) \
                          ON CONFLICT DO NOTHING";
            let insert = statement(insert)
                .bind(task_key.as_str())
                .bind(key.repo.0)
                .bind(key.number.0);
            self.0.execute(insert).await?;
        }
        Ok(())
    }

    pub(super) async fn remember(
        &mut self,
        task: TeamTask,
        event: NewTaskEvent,
        now: Moment,
    ) -> Result<()> {
        let NewTaskEvent {
            at,
            old,
            new,
            cause,
            pull_request,
            note,
        } = event;
        let insert = statement(
            "INSERT INTO task_history (team_id, task_id, happened_at, recorded_at, old_status, \
             new_status, cause, repo_id, number, note) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(task.0)
        .bind(task.1.to_string())
        .bind(Seconds(at))
        .bind(Millis(now))
        .bind(old.map(TaskStatus::as_str))
        .bind(new.as_str())
        .bind(Name(cause).to_string())
        .bind(pull_request.map(|key| key.repo.0))
        .bind(pull_request.map(|key| key.number.0))
        .bind(note);
        self.0.execute(insert).await.map(|_| ())
    }

    /// Edits a task on behalf of a person.
    pub(super) async fn edit(
        &mut self,
        task: TeamTask,
        edit: &TaskEdit,
        now: Moment,
    ) -> Result<()> {
        let title = edit.title.clone().map(Some);
        let columns = [
            ("title", &title),
            ("repo_name", &edit.repo),
            ("branch", &edit.branch),
            ("worktree", &edit.worktree),
        ];
        for (column, value) in columns {
            let Some(value) = value else { continue };
            let update = format!("UPDATE tasks SET {column} = $3 WHERE team_id = $1 AND id = $2");
            let update = statement(update).bind(task.0).bind(task.1.to_string());
            self.0
                .execute(update.bind(value.as_deref().map(storable_text)))
                .await?;
        }
        match edit.status {
            Some(new) => self.set_status_by_hand(task, new, now).await,
            None => Ok(()),
        }
    }

    /// Sets the status that a person chose, and records the change in the history and the outbox.
    async fn set_status_by_hand(
        &mut self,
        task: TeamTask,
        new: TaskStatus,
        now: Moment,
    ) -> Result<()> {
        let (team, id) = task;
        let query = format!(
            "SELECT {} FROM tasks WHERE team_id = $1 AND id = $2",
            TaskRow::COLUMNS
        );
        let query = statement(query).bind(team).bind(id.to_string());
        let Some(row) = self.0.row::<TaskRow>(query).await? else {
            return Ok(());
        };
        let old = Task::from(row).state.status;
        let update = statement(
            "UPDATE tasks SET status = $3, said = $3, said_at = $4 \
             WHERE team_id = $1 AND id = $2",
        );
        self.0
            .execute(
                update
                    .bind(team)
                    .bind(id.to_string())
                    .bind(new.as_str())
                    .bind(Seconds(now.into())),
            )
            .await?;
        if old != new {
            let at = now.into();
            let event = NewTaskEvent {
                at,
                old: Some(old),
                new,
                cause: TaskCause::ByHand,
                pull_request: None,
                note: None,
            };
            self.remember(task, event, now).await?;
            let payload = OutboxPayload::Task(TaskChange {
                task: id,
                old,
                new,
                at,
                because: None,
            });
            append_events(
                self.0,
                &[NewOutboxEvent::of_team(TeamId(team), None, payload)],
                now,
            )
            .await?;
        }
        Ok(())
    }

    /// Records a transition of a task. Returns its event for the outbox, unless its cause is older
    /// than the tracking of its repository.
    pub(super) async fn follow_up(
        &mut self,
        task: TeamTask,
        moved: &Transition,
        now: Moment,
    ) -> Result<Option<NewOutboxEvent>> {
        let (team, id) = task;
        let Transition {
            from,
            to,
            at,
            cause,
        } = *moved;
        let (cause, pull_request) = match cause {
            TransitionCause::PullRequest(key) => (TaskCause::PullRequest, Some(key)),
            TransitionCause::ByHand => (TaskCause::ByHand, None),
            TransitionCause::Unlinked => {
                (TaskCause::PullRequestUnlinked, self.last_mover(task).await?)
            }
        };
        self.remember(
            task,
            NewTaskEvent {
                at,
                old: Some(from),
                new: to,
                cause,
                pull_request,
                note: None,
            },
            now,
        )
        .await?;
        let payload = OutboxPayload::Task(TaskChange {
            task: id,
            old: from,
            new: to,
            at,
            because: pull_request,
        });
        let Some(key) = pull_request else {
            let event = NewOutboxEvent::of_team(TeamId(team), None, payload);
            return Ok(Some(event));
        };
        let repository = notified_repository(self.0, key.repo).await?;
        let repository = repository
            .filter(|repository| is_worth_notification(at, repository.tracked_since.0.into()));
        Ok(repository.map(|repository| {
            NewOutboxEvent::of_team(TeamId(team), Some(repository.name), payload)
        }))
    }

    /// Returns the last pull request that moved a task.
    async fn last_mover(&mut self, task: TeamTask) -> Result<Option<PrKey>> {
        let query = "SELECT repo_id, number FROM task_history WHERE team_id = $1 \
                     AND task_id = $2 AND cause = $3 ORDER BY id DESC LIMIT 1";
        let query = statement(query)
            .bind(task.0)
            .bind(task.1.to_string())
            .bind(Name(TaskCause::PullRequest).to_string());
        let row: Option<(i64, i64)> = self.0.row(query).await?;
        Ok(row.map(|(repo, number)| PrKey {
            repo: RepoId(repo),
            number: PrNumber(number),
        }))
    }

    /// Adds the name of the repository to an event.
    pub(super) async fn with_repository_name(
        &mut self,
        team: TeamId,
        payload: &OutboxPayload,
    ) -> Result<NewOutboxEvent> {
        let repository = match payload.pull_request() {
            Some(key) => notified_repository(self.0, key.repo).await?,
            None => None,
        };
        let name = repository.map(|repository| repository.name);
        Ok(NewOutboxEvent::of_team(team, name, payload.clone()))
    }
}
