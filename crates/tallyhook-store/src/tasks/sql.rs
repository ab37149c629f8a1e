//! Statements about tasks.

use std::collections::{BTreeMap, BTreeSet};

use tallyhook_core::domain::task::TaskId;
use tallyhook_core::github::types::PrKey;

use super::row::{TaskEventRow, TaskLinkRow, TaskRow, TeamTask};
use super::write::{NewTaskEvent, TaskWriter};
use super::{
    NewTask, PendingWork, Task, TaskCause, TaskEdit, TaskEvent, TaskFilter, TaskRef, TaskUpdate,
};
use crate::columns::{Millis, storable_text};
use crate::database::{Database, Lock, Statement, StatementBuilder, Transaction, statement};
use crate::outbox::append_events;
use crate::planted_leaks::PlantedLeak;
use crate::{Moment, Result, Store, TeamStore};

/// The changes to a task whose pull requests or own attributes changed.
pub(crate) const FOLLOW: &str = "follow_due = 1, cleanup_due = CASE WHEN worktree IS NULL THEN 0 \
                                 ELSE 1 END, version = version + 1";

impl TeamStore {
    /// Creates a task. Returns `false` if the team has one of its key.
    pub async fn create_task(&self, task: &NewTask, now: Moment) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        // From now on pull requests that name its key are its own.
        transaction.lock(Lock::Tasks).await?;
        let NewTask {
            id,
            key,
            title,
            status,
            place,
        } = task;
        let insert = statement(
            "INSERT INTO tasks (team_id, id, task_key, title, status, initial_status, repo_name, \
             branch, worktree, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9, $9) \
             ON CONFLICT (team_id, task_key) DO NOTHING",
        )
        .bind(self.team.0)
        .bind(id.to_string())
        .bind(key.as_ref().map(|key| key.as_str()))
        .bind(storable_text(title))
        .bind(status.as_str())
        .bind(place.repo.as_deref().map(storable_text))
        .bind(place.branch.as_deref().map(storable_text))
        .bind(place.worktree.as_deref().map(storable_text))
        .bind(Millis(now));
        if transaction.execute(insert).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        let at = now.into();
        let event = NewTaskEvent {
            at,
            old: None,
            new: *status,
            cause: TaskCause::Created,
            pull_request: None,
            note: None,
        };
        TaskWriter(&mut transaction)
            .remember((self.team.0, *id), event, now)
            .await?;
        transaction.commit().await?;
        drop(writer);
        self.database.notify_listeners().await;
        Ok(true)
    }

    /// Returns a task of the team.
    pub async fn task(&self, which: &TaskRef) -> Result<Option<Task>> {
        let (column, value) = match which {
            TaskRef::Id(id) => ("id", id.to_string()),
            TaskRef::Key(key) => ("task_key", key.as_str().to_owned()),
        };
        let query = format!(
            "SELECT {} FROM tasks WHERE team_id = $1 AND {column} = $2",
            TaskRow::COLUMNS
        );
        let query = statement(query).bind(self.team.0).bind(value);
        let rows = self.database.rows(query).await?;
        Ok(with_pull_requests(&self.database, rows).await?.pop())
    }

    /// Returns tasks created before `before`, at most `limit`, the newest first.
    pub async fn tasks(
        &self,
        filter: &TaskFilter,
        before: Option<(Moment, TaskId)>,
        limit: u32,
    ) -> Result<Vec<Task>> {
        let select = format!("SELECT {} FROM tasks", TaskRow::COLUMNS);
        let mut query = StatementBuilder::new(select);
        // No id is greater than this sign, and no task is made later than the year 9999.
        let (at, id) = before.map_or((FAR, "~".to_owned()), |(at, id)| (at, id.to_string()));
        query
            .push(match PlantedLeak::Tasks.is_planted() {
                true => " WHERE team_id <> -",
                false => " WHERE team_id = ",
            })
            .push_bind(self.team.0)
            .push(" AND (created_at, id) < (")
            .push_bind(Millis(at))
            .push(", ")
            .push_bind(id)
            .push(")");
        push_filter(&mut query, filter);
        query
            .push(" ORDER BY created_at DESC, id DESC LIMIT ")
            .push_bind(i64::from(limit));
        let rows = self.database.rows(query.build()).await?;
        with_pull_requests(&self.database, rows).await
    }

    /// Counts tasks.
    pub async fn count_tasks(&self, filter: &TaskFilter) -> Result<u64> {
        let mut query = StatementBuilder::new("SELECT count(*) FROM tasks WHERE team_id = ");
        query.push_bind(self.team.0);
        push_filter(&mut query, filter);
        let row: Option<(i64,)> = self.database.row(query.build()).await?;
        Ok(row.map_or(0, |(count,)| count.unsigned_abs()))
    }

    /// Edits a task on behalf of a person. Returns `false` if there is none. A new status enters
    /// the outbox.
    pub async fn edit_task(&self, id: TaskId, edit: &TaskEdit, now: Moment) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        // First, so that no other writer gets between reading and writing.
        let task = (self.team.0, id);
        if touch(&mut transaction, task, now).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        TaskWriter(&mut transaction).edit(task, edit, now).await?;
        if edit.worktree.is_some() {
            touch(&mut transaction, task, now).await?;
        }
        transaction.commit().await?;
        drop(writer);
        self.database.notify_listeners().await;
        Ok(true)
    }

    /// Links a pull request to a task. Returns `false` if it is linked already.
    pub async fn link_task(&self, id: TaskId, pull_request: PrKey, now: Moment) -> Result<bool> {
        let insert = "INSERT INTO task_links (team_id, task_id, repo_id, number, linked_at) \
                      VALUES ($1, $2, $3, $4, $5) \
                      ON CONFLICT (team_id, task_id, repo_id, number) DO NOTHING";
        let insert = statement(insert)
            .bind(self.team.0)
            .bind(id.to_string())
            .bind(pull_request.repo.0)
            .bind(pull_request.number.0);
        self.relink(id, insert.bind(Millis(now)), now).await
    }

    /// Removes a link. Returns `false` if there is none. A task key that the pull request names
    /// still counts.
    pub async fn unlink_task(&self, id: TaskId, pull_request: PrKey, now: Moment) -> Result<bool> {
        let delete = statement(
            "DELETE FROM task_links WHERE team_id = $1 AND task_id = $2 AND repo_id = $3 \
             AND number = $4",
        );
        let delete = delete
            .bind(self.team.0)
            .bind(id.to_string())
            .bind(pull_request.repo.0)
            .bind(pull_request.number.0);
        self.relink(id, delete, now).await
    }

    /// Returns the history of a task, the newest first, at most `limit` entries.
    pub async fn task_history(&self, id: TaskId, limit: u32) -> Result<Vec<TaskEvent>> {
        let query = "SELECT happened_at, recorded_at, old_status, new_status, cause, \
                     repo_id, number, note \
                     FROM task_history WHERE team_id = $1 AND task_id = $2 \
                     ORDER BY id DESC LIMIT $3";
        let query = statement(query).bind(self.team.0).bind(id.to_string());
        let rows = self.database.rows(query.bind(i64::from(limit))).await?;
        Ok(rows
            .into_iter()
            .map(|row: TaskEventRow| row.into())
            .collect())
    }

    /// Adds a link or removes one, and lets the task follow. Returns whether that changed anything.
    async fn relink(&self, id: TaskId, change: Statement<'_>, now: Moment) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        transaction.lock(Lock::Tasks).await?;
        if transaction.execute(change).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        touch(&mut transaction, (self.team.0, id), now).await?;
        transaction.commit().await?;
        drop(writer);
        self.database.notify_listeners().await;
        Ok(true)
    }
}

impl Store {
    /// Returns tasks of all teams with any work of `wanted` due, at most `limit`.
    pub async fn due_tasks(
        &self,
        wanted: PendingWork,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<Task>> {
        // Each mark in words of its own, so that each has an index that holds nothing else.
        let patient = "(not_before IS NULL OR not_before <= $1)";
        let marks = [
            (wanted.follow, "follow_due = 1".to_owned()),
            (wanted.push, format!("push_due = 1 AND {patient}")),
            (wanted.cleanup, format!("cleanup_due = 1 AND {patient}")),
        ];
        let marks: Vec<_> = marks
            .into_iter()
            .filter_map(|(is_wanted, mark)| is_wanted.then_some(mark))
            .collect();
        let query = format!(
            "SELECT {} FROM tasks WHERE {} ORDER BY id LIMIT $2",
            TaskRow::COLUMNS,
            marks.join(" OR ")
        );
        let query = statement(query).bind(Millis(now)).bind(i64::from(limit));
        let rows = self.database.rows(query).await?;
        with_pull_requests(&self.database, rows).await
    }

    /// Updates a task, if it is still at the version that was read. Returns `false` if it was
    /// written or marked since then: the caller reads it again.
    pub async fn update_task_if_current(
        &self,
        task: &Task,
        settled: &TaskUpdate,
        now: Moment,
    ) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let moved = settled.moved.as_ref();
        let update = task_update_statement(task, settled, now);
        if transaction.execute(update).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        let (mut writing, which) = (TaskWriter(&mut transaction), (task.team.0, task.id));
        let mut events = Vec::new();
        if let Some(moved) = moved {
            events.extend(writing.follow_up(which, moved, now).await?);
        }
        if let Some((cause, pull_request, note)) = &settled.noted {
            let new = moved.map_or(task.state.status, |moved| moved.to);
            let (at, pull_request, note) = (now.into(), *pull_request, Some(storable_text(note)));
            let event = NewTaskEvent {
                at,
                old: Some(new),
                new,
                cause: *cause,
                pull_request,
                note,
            };
            writing.remember(which, event, now).await?;
        }
        if let Some(payload) = &settled.payload {
            events.push(writing.with_repository_name(task.team, payload).await?);
        }
        let has_new_events = append_events(&mut transaction, &events, now).await? > 0;
        transaction.commit().await?;
        drop(writer);
        if has_new_events {
            self.database.notify_listeners().await;
        }
        Ok(true)
    }
}

/// Marks a task as changed now, and to follow its pull requests. Returns the number of tasks that
/// there were.
async fn touch(transaction: &mut Transaction<'_>, task: TeamTask, now: Moment) -> Result<u64> {
    let touch =
        format!("UPDATE tasks SET {FOLLOW}, updated_at = $3 WHERE team_id = $1 AND id = $2");
    let touch = statement(touch).bind(task.0).bind(task.1.to_string());
    transaction.execute(touch.bind(Millis(now))).await
}

/// Adds to tasks the pull requests that belong to them, of repositories that their team sees.
async fn with_pull_requests(database: &Database, rows: Vec<TaskRow>) -> Result<Vec<Task>> {
    let mut tasks: Vec<Task> = rows.into_iter().map(Task::from).collect();
    if tasks.is_empty() {
        return Ok(tasks);
    }
    let wanted = (1..=tasks.len())
        .map(|place| format!("(${}, ${})", 2 * place - 1, 2 * place))
        .collect::<Vec<_>>()
        .join(", ");
    let query = statement(format!(
        "SELECT l.team_id, l.task_id, l.repo_id, l.number FROM (VALUES {wanted}) AS wanted \
         CROSS JOIN task_links l \
         JOIN team_repositories seen ON seen.team_id = l.team_id AND seen.repo_id = l.repo_id \
         WHERE l.team_id = wanted.column1 AND l.task_id = wanted.column2 UNION \
         SELECT t.team_id, t.id, m.repo_id, m.number FROM (VALUES {wanted}) AS wanted \
         CROSS JOIN tasks t JOIN mentions m ON m.task_key = t.task_key \
         JOIN team_repositories seen ON seen.team_id = t.team_id AND seen.repo_id = m.repo_id \
         WHERE t.team_id = wanted.column1 AND t.id = wanted.column2"
    ));
    let query = tasks.iter().fold(query, |query, task| {
        query.bind(task.team.0).bind(task.id.to_string())
    });
    let mut links: BTreeMap<TeamTask, BTreeSet<PrKey>> = BTreeMap::new();
    for row in database.rows::<TaskLinkRow>(query).await? {
        let (task, key) = row.link();
        links.entry(task).or_default().insert(key);
    }
    for task in &mut tasks {
        let keys = links.remove(&(task.team.0, task.id)).unwrap_or_default();
        task.prs = keys.into_iter().collect();
    }
    Ok(tasks)
}

/// Later than any task.
const FAR: Moment = Moment::from_naive_utc_and_offset(
    chrono::NaiveDate::from_ymd_opt(9999, 1, 1)
        .unwrap()
        .and_time(chrono::NaiveTime::MIN),
    chrono::Utc,
);

fn push_filter(query: &mut StatementBuilder<'_>, filter: &TaskFilter) {
    let TaskFilter { status, repo, text } = filter;
    if let Some(status) = status {
        query.push(" AND status = ");
        query.push_bind(status.as_str());
    }
    if let Some(repo) = repo {
        query.push(" AND lower(repo_name) = ");
        query.push_bind(storable_text(repo).to_lowercase());
    }
    if let Some(text) = text {
        let text = storable_text(text).to_lowercase();
        let signs = ['!', '%', '_'];
        let literal: String = text
            .chars()
            .flat_map(|sign| {
                signs
                    .contains(&sign)
                    .then_some('!')
                    .into_iter()
                    .chain([sign])
            })
            .collect();
        let pattern = format!("%{literal}%");
        query.push(" AND (lower(title) LIKE ");
        query.push_bind(pattern.clone());
        query.push(" ESCAPE '!' OR lower(task_key) LIKE ");
        query.push_bind(pattern).push(" ESCAPE '!')");
    }
}

/// Makes the statement of [`Store::update_task_if_current`].
fn task_update_statement(task: &Task, settled: &TaskUpdate, now: Moment) -> Statement<'static> {
    let moved = settled.moved.as_ref();
    let PendingWork {
        follow,
        push,
        cleanup: cleaned,
    } = settled.done;
    let left = |due: bool, done: bool| i64::from(due && !done);
    statement(
        "UPDATE tasks SET version = version + 1, status = $3, follow_due = $4, push_due = $5, \
         cleanup_due = $6, \
         tries = $7, not_before = CASE WHEN $12 = 1 THEN $8 ELSE not_before END, \
         updated_at = CASE WHEN $9 = 1 THEN $10 ELSE updated_at END, \
         worktree = CASE WHEN $11 = 1 THEN NULL ELSE worktree END WHERE id = $1 \
         AND version = $2 AND team_id = $13",
    )
    .bind(task.id.to_string())
    .bind(task.version)
    .bind(moved.map_or(task.state.status, |moved| moved.to).as_str())
    .bind(left(task.due.follow, follow))
    .bind(left(task.due.push, push))
    .bind(left(task.due.cleanup, cleaned))
    .bind(match settled.again {
        Some(_) => i64::from(task.tries) + 1,
        None if push || cleaned => 0,
        None => i64::from(task.tries),
    })
    .bind(settled.again.map(Millis))
    .bind(i64::from(moved.is_some()))
    .bind(Millis(now))
    .bind(i64::from(settled.worktree_removed))
    .bind(i64::from(settled.again.is_some() || push || cleaned))
    .bind(task.team.0)
}
