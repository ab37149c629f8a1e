//! Statements about tasks.

use std::collections::{BTreeMap, BTreeSet};

use tallyhook_core::domain::task::TaskId;
use tallyhook_core::github::types::PrKey;

use super::row::{TaskEventRow, TaskLinkRow, TaskRow};
use super::write::{NewTaskEvent, TaskWriter};
use super::{
    NewTask, PendingWork, Task, TaskCause, TaskEdit, TaskEvent, TaskFilter, TaskRef, TaskUpdate,
};
use crate::columns::{Millis, storable_text};
use crate::database::{Lock, Statement, StatementBuilder, statement};
use crate::outbox::append_events;
use crate::{Moment, Result, Store};

/// The changes to a task whose pull requests or own attributes changed.
pub(super) const FOLLOW: &str = "follow_due = 1, cleanup_due = CASE WHEN worktree IS NULL THEN 0 \
                                 ELSE 1 END, version = version + 1";

impl Store {
    /// Creates a task. Returns `false` if there is one of its key.
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
            "INSERT INTO tasks (id, task_key, title, status, initial_status, repo_name, branch, \
             worktree, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8, $8) ON CONFLICT (task_key) DO NOTHING",
        )
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
            .remember(*id, event, now)
            .await?;
        transaction.commit().await?;
        drop(writer);
        self.database.notify_listeners().await;
        Ok(true)
    }

    pub async fn task(&self, which: &TaskRef) -> Result<Option<Task>> {
        let (column, value) = match which {
            TaskRef::Id(id) => ("id", id.to_string()),
            TaskRef::Key(key) => ("task_key", key.as_str().to_owned()),
        };
        let query = format!("SELECT {} FROM tasks WHERE {column} = $1", TaskRow::COLUMNS);
        let rows = self.database.rows(statement(query).bind(value)).await?;
        Ok(self.with_pull_requests(rows).await?.pop())
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
            .push(" WHERE (created_at, id) < (")
            .push_bind(Millis(at))
            .push(", ")
            .push_bind(id)
            .push(")");
        push_filter(&mut query, filter);
        query
            .push(" ORDER BY created_at DESC, id DESC LIMIT ")
            .push_bind(i64::from(limit));
        let rows = self.database.rows(query.build()).await?;
        self.with_pull_requests(rows).await
    }

    /// Counts tasks.
    pub async fn count_tasks(&self, filter: &TaskFilter) -> Result<u64> {
        let mut query = StatementBuilder::new("SELECT count(*) FROM tasks WHERE true");
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
        let touch = format!("UPDATE tasks SET {FOLLOW}, updated_at = $2 WHERE id = $1");
        if transaction
            .execute(statement(touch).bind(id.to_string()).bind(Millis(now)))
            .await?
            == 0
        {
            transaction.rollback().await?;
            return Ok(false);
        }
        TaskWriter(&mut transaction).edit(id, edit, now).await?;
        if edit.worktree.is_some() {
            let mark = format!("UPDATE tasks SET {FOLLOW} WHERE id = $1");
            transaction
                .execute(statement(mark).bind(id.to_string()))
                .await?;
        }
        transaction.commit().await?;
        drop(writer);
        self.database.notify_listeners().await;
        Ok(true)
    }

    /// Links a pull request to a task. Returns `false` if it is linked already.
    pub async fn link_task(&self, id: TaskId, pull_request: PrKey, now: Moment) -> Result<bool> {
        let insert = "INSERT INTO task_links (task_id, repo_id, number, linked_at) \
                      VALUES ($1, $2, $3, $4) \
                      ON CONFLICT (task_id, repo_id, number) DO NOTHING";
        let insert = statement(insert)
            .bind(id.to_string())
            .bind(pull_request.repo.0)
            .bind(pull_request.number.0);
        self.relink(id, insert.bind(Millis(now)), now).await
    }

    /// Removes a link. Returns `false` if there is none. A task key that the pull request names
    /// still counts.
    pub async fn unlink_task(&self, id: TaskId, pull_request: PrKey, now: Moment) -> Result<bool> {
        let delete =
            statement("DELETE FROM task_links WHERE task_id = $1 AND repo_id = $2 AND number = $3");
        let delete = delete
            .bind(id.to_string())
            .bind(pull_request.repo.0)
            .bind(pull_request.number.0);
        self.relink(id, delete, now).await
    }

    /// Returns the history of a task, the newest first, at most `limit` entries.
    pub async fn task_history(&self, id: TaskId, limit: u32) -> Result<Vec<TaskEvent>> {
        let query = "SELECT happened_at, recorded_at, old_status, new_status, cause, \
                     repo_id, number, note \
                     FROM task_history WHERE task_id = $1 ORDER BY id DESC LIMIT $2";
        let rows = self
            .database
            .rows(statement(query).bind(id.to_string()).bind(i64::from(limit)))
            .await?;
        Ok(rows
            .into_iter()
            .map(|row: TaskEventRow| row.into())
            .collect())
    }

    /// Returns tasks with any work of `wanted` due, at most `limit`.
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
        self.with_pull_requests(rows).await
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
        let mut writing = TaskWriter(&mut transaction);
        let mut events = Vec::new();
        if let Some(moved) = moved {
            events.extend(writing.follow_up(task.id, moved, now).await?);
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
            writing.remember(task.id, event, now).await?;
        }
        if let Some(payload) = &settled.payload {
            events.push(writing.with_repository_name(payload).await?);
        }
        let has_new_events = append_events(&mut transaction, &events, now).await? > 0;
        transaction.commit().await?;
        drop(writer);
        if has_new_events {
            self.database.notify_listeners().await;
        }
        Ok(true)
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
        let mark = format!("UPDATE tasks SET {FOLLOW}, updated_at = $2 WHERE id = $1");
        let mark = statement(mark).bind(id.to_string()).bind(Millis(now));
        transaction.execute(mark).await?;
        transaction.commit().await?;
        drop(writer);
        self.database.notify_listeners().await;
        Ok(true)
    }

    /// Adds to tasks the pull requests that belong to them.
    async fn with_pull_requests(&self, rows: Vec<TaskRow>) -> Result<Vec<Task>> {
        let mut tasks: Vec<Task> = rows.into_iter().map(Task::from).collect();
        if tasks.is_empty() {
            return Ok(tasks);
        }
        let ids = (1..=tasks.len())
            .map(|place| format!("${place}"))
            .collect::<Vec<_>>()
            .join(", ");
        let query = statement(format!(
            "SELECT task_id, repo_id, number FROM task_links WHERE task_id IN ({ids}) UNION \
             SELECT t.id, m.repo_id, m.number FROM tasks t \
             JOIN mentions m ON m.task_key = t.task_key WHERE t.id IN ({ids})"
        ));
        let query = tasks
            .iter()
            .fold(query, |query, task| query.bind(task.id.to_string()));
        let mut links: BTreeMap<TaskId, BTreeSet<PrKey>> = BTreeMap::new();
        for row in self.database.rows::<TaskLinkRow>(query).await? {
            let (task, key) = row.link();
            links.entry(task).or_default().insert(key);
        }
        for task in &mut tasks {
            let keys = links.remove(&task.id).unwrap_or_default();
            task.prs = keys.into_iter().collect();
        }
        Ok(tasks)
    }
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
         AND version = $2",
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
}
