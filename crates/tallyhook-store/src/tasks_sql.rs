//! Tasks, in SQL that both kinds of database understand.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::database::HasStatementCache;
use sqlx::{AssertSqlSafe, Database, Encode, FromRow, Type};
use tallyhook_core::domain::task::{Cause, TaskId, TaskKey, TaskStatus, Transition};
use tallyhook_core::github::types::{PrKey, Timestamp};

use super::outbox_sql::{self, Entry};
use super::rows::{LinkRow, Millis, Name, Seconds, TaskEventRow, TaskRow, TellingRow, text};
use super::sessions::{Lock, Session, Sessions, Statement};
use super::{
    BatchWrite, Due, Moment, NewTask, News, Result, Settled, Task, TaskCause, TaskChange, TaskEdit,
    TaskEvent, TaskRef, Tasks,
};

/// Pull requests of one statement.
const ROWS: usize = 64;
/// What becomes of a task whose pull requests, or what it says of itself, changed.
const FOLLOW: &str = "follow_due = 1, cleanup_due = CASE WHEN worktree IS NULL THEN 0 ELSE 1 END, version = version + 1";

#[async_trait::async_trait]
impl<S> Tasks for S
where
    S: Sessions,
    S::Kind: HasStatementCache,
    for<'q> i64: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Option<i64>: Encode<'q, S::Kind>,
    for<'q> &'q str: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Option<&'q str>: Encode<'q, S::Kind>,
    for<'q> String: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Option<String>: Encode<'q, S::Kind>,
    for<'q> Seconds: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Millis: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Option<Millis>: Encode<'q, S::Kind>,
    for<'r> (Name<TaskId>,): FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> TaskRow: FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> LinkRow: FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> TaskEventRow: FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> TellingRow: FromRow<'r, <S::Kind as Database>::Row>,
{
    async fn create_task(&self, task: &NewTask, now: Moment) -> Result<bool> {
        let mut writer = self.writer().await?;
        let mut session = writer.begin().await?;
        // From now on pull requests that name its key are its own.
        session.lock(Lock::Tasks).await?;
        let NewTask {
            id,
            key,
            title,
            status,
            place,
        } = task;
        let insert = sqlx::query(
            "INSERT INTO tasks (id, task_key, title, status, repo_name, branch, worktree, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (task_key) DO NOTHING",
        )
        .bind(id.to_string())
        .bind(key.as_ref().map(|key| key.as_str()))
        .bind(text(title))
        .bind(status.as_str())
        .bind(place.repo.as_deref().map(text))
        .bind(place.branch.as_deref().map(text))
        .bind(place.worktree.as_deref().map(text))
        .bind(Millis(now));
        if session.execute(insert).await? == 0 {
            session.rollback().await?;
            return Ok(false);
        }
        let at = now.into();
        let event = Event {
            at,
            old: None,
            new: *status,
            cause: TaskCause::Created,
            pull_request: None,
            note: None,
        };
        Writing(&mut *session).remember(*id, event, now).await?;
        session.commit().await?;
        drop(writer);
        self.wake().await;
        Ok(true)
    }

    async fn task(&self, which: &TaskRef) -> Result<Option<Task>> {
        let (column, value) = match which {
            TaskRef::Id(id) => ("id", id.to_string()),
            TaskRef::Key(key) => ("task_key", key.as_str().to_owned()),
        };
        let query = format!("SELECT {} FROM tasks WHERE {column} = $1", TaskRow::COLUMNS);
        let rows = self
            .read(sqlx::query(AssertSqlSafe(query)).bind(value))
            .await?;
        Ok(with_pull_requests(self, &rows).await?.pop())
    }

    async fn tasks(
        &self,
        status: Option<TaskStatus>,
        before: Option<(Moment, TaskId)>,
        limit: u32,
    ) -> Result<Vec<Task>> {
        let wanted = status.map_or("", |_| "AND status = $4");
        let query = format!(
            "SELECT {} FROM tasks WHERE (created_at, id) < ($1, $2) {wanted} ORDER BY created_at DESC, id DESC LIMIT $3",
            TaskRow::COLUMNS
        );
        // No id is greater than this sign, and no task is made later than the year 9999.
        let (at, id) = before.map_or((FAR, "~".to_owned()), |(at, id)| (at, id.to_string()));
        let query = sqlx::query(AssertSqlSafe(query))
            .bind(Millis(at))
            .bind(id)
            .bind(i64::from(limit));
        let query = match status {
            Some(status) => query.bind(status.as_str()),
            None => query,
        };
        let rows = self.read(query).await?;
        with_pull_requests(self, &rows).await
    }

    async fn edit_task(&self, id: TaskId, edit: &TaskEdit, now: Moment) -> Result<bool> {
        let mut writer = self.writer().await?;
        let mut session = writer.begin().await?;
        // First of all, so that nobody else gets between what is read and what is written.
        let touch = format!("UPDATE tasks SET {FOLLOW}, updated_at = $2 WHERE id = $1");
        if session
            .execute(
                sqlx::query(AssertSqlSafe(touch))
                    .bind(id.to_string())
                    .bind(Millis(now)),
            )
            .await?
            == 0
        {
            session.rollback().await?;
            return Ok(false);
        }
        Writing(&mut *session).edit(id, edit, now).await?;
        if edit.worktree.is_some() {
            let mark = format!("UPDATE tasks SET {FOLLOW} WHERE id = $1");
            session
                .execute(sqlx::query(AssertSqlSafe(mark)).bind(id.to_string()))
                .await?;
        }
        session.commit().await?;
        drop(writer);
        self.wake().await;
        Ok(true)
    }

    async fn link_task(&self, id: TaskId, pull_request: PrKey, now: Moment) -> Result<bool> {
        let insert = "INSERT INTO task_links (task_id, repo_id, number, linked_at) VALUES ($1, $2, $3, $4) \
                      ON CONFLICT (task_id, repo_id, number) DO NOTHING";
        let insert = sqlx::query(insert)
            .bind(id.to_string())
            .bind(pull_request.repo.0)
            .bind(pull_request.number.0);
        relink(self, id, insert.bind(Millis(now)), now).await
    }

    async fn unlink_task(&self, id: TaskId, pull_request: PrKey, now: Moment) -> Result<bool> {
        let delete = sqlx::query(
            "DELETE FROM task_links WHERE task_id = $1 AND repo_id = $2 AND number = $3",
        );
        let delete = delete
            .bind(id.to_string())
            .bind(pull_request.repo.0)
            .bind(pull_request.number.0);
        relink(self, id, delete, now).await
    }

    async fn task_history(&self, id: TaskId, limit: u32) -> Result<Vec<TaskEvent>> {
        let query = "SELECT happened_at, recorded_at, old_status, new_status, cause, repo_id, number, note \
                     FROM task_history WHERE task_id = $1 ORDER BY id DESC LIMIT $2";
        let rows = self
            .read(
                sqlx::query(query)
                    .bind(id.to_string())
                    .bind(i64::from(limit)),
            )
            .await?;
        rows.iter()
            .map(|row| Ok(TaskEventRow::from_row(row)?.into()))
            .collect()
    }

    async fn due_tasks(&self, wanted: Due, now: Moment, limit: u32) -> Result<Vec<Task>> {
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
        let query = sqlx::query(AssertSqlSafe(query))
            .bind(Millis(now))
            .bind(i64::from(limit));
        let rows = self.read(query).await?;
        with_pull_requests(self, &rows).await
    }

    async fn settle_task(&self, task: &Task, settled: &Settled, now: Moment) -> Result<bool> {
        let mut writer = self.writer().await?;
        let mut session = writer.begin().await?;
        let moved = settled.moved.as_ref();
        let Due {
            follow,
            push,
            cleanup: cleaned,
        } = settled.done;
        let left = |due: bool, done: bool| i64::from(due && !done);
        let update = sqlx::query(
            "UPDATE tasks SET version = version + 1, status = $3, follow_due = $4, push_due = $5, cleanup_due = $6, \
             tries = $7, not_before = CASE WHEN $12 = 1 THEN $8 ELSE not_before END, \
             updated_at = CASE WHEN $9 = 1 THEN $10 ELSE updated_at END, \
             worktree = CASE WHEN $11 = 1 THEN NULL ELSE worktree END WHERE id = $1 AND version = $2",
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
        .bind(i64::from(settled.again.is_some() || push || cleaned));
        if session.execute(update).await? == 0 {
            session.rollback().await?;
            return Ok(false);
        }
        let mut writing = Writing(&mut *session);
        let mut news = Vec::new();
        if let Some(moved) = moved {
            news.extend(writing.follow_up(task.id, moved, now).await?);
        }
        if let Some((cause, pull_request, note)) = &settled.noted {
            let new = moved.map_or(task.state.status, |moved| moved.to);
            let (at, pull_request, note) = (now.into(), *pull_request, Some(text(note)));
            let event = Event {
                at,
                old: Some(new),
                new,
                cause: *cause,
                pull_request,
                note,
            };
            writing.remember(task.id, event, now).await?;
        }
        if let Some(told) = &settled.told {
            news.push(writing.named(told).await?);
        }
        let tells = outbox_sql::enter(&mut *session, &news, now).await? > 0;
        session.commit().await?;
        drop(writer);
        if tells {
            self.wake().await;
        }
        Ok(true)
    }
}

/// Later than any task.
const FAR: Moment = Moment::from_naive_utc_and_offset(
    chrono::NaiveDate::from_ymd_opt(9999, 1, 1)
        .unwrap()
        .and_time(chrono::NaiveTime::MIN),
    chrono::Utc,
);

/// A transaction that writes tasks.
pub(super) struct Writing<'a, DB: Database>(pub(super) &'a mut dyn Session<DB>);

/// What is to be remembered of a task.
struct Event {
    at: Timestamp,
    old: Option<TaskStatus>,
    new: TaskStatus,
    cause: TaskCause,
    pull_request: Option<PrKey>,
    note: Option<String>,
}

impl<DB> Writing<'_, DB>
where
    DB: Database + HasStatementCache,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> Option<i64>: Encode<'q, DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> Option<&'q str>: Encode<'q, DB>,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Option<String>: Encode<'q, DB>,
    for<'q> Seconds: Encode<'q, DB> + Type<DB>,
    for<'q> Millis: Encode<'q, DB> + Type<DB>,
    for<'r> (Name<TaskId>,): FromRow<'r, DB::Row>,
    for<'r> LinkRow: FromRow<'r, DB::Row>,
    for<'r> TaskRow: FromRow<'r, DB::Row>,
    for<'r> TellingRow: FromRow<'r, DB::Row>,
{
    /// Notes what pull requests name, and marks the tasks that have to follow what a batch changed. How many were marked.
    pub(super) async fn mark(&mut self, recording: &BatchWrite) -> Result<u64> {
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
            let query = sqlx::query(
                "SELECT id FROM tasks WHERE branch = $2 AND status = 'IMPLEMENTING' \
                 AND lower(repo_name) = (SELECT lower(name) FROM repositories WHERE id = $1)",
            );
            for row in &self.0.rows(query.bind(repo.0).bind(text(branch))).await? {
                pushed.insert(<(Name<TaskId>,)>::from_row(row)?.0.0);
            }
        }
        let mut marked = 0;
        // One by one, and by everybody in this order, so that no two wait for each other.
        for id in following.union(&pushed) {
            if following.contains(id) {
                let update = format!("UPDATE tasks SET {FOLLOW} WHERE id = $1");
                marked += self
                    .0
                    .execute(sqlx::query(AssertSqlSafe(update)).bind(id.to_string()))
                    .await?;
            }
            if pushed.contains(id) {
                let update = sqlx::query(
                    "UPDATE tasks SET push_due = 1, tries = 0, not_before = NULL, version = version + 1 \
                     WHERE id = $1 AND status = 'IMPLEMENTING'",
                );
                marked += self.0.execute(update.bind(id.to_string())).await?;
            }
        }
        Ok(marked)
    }

    /// Adds the tasks of pull requests.
    async fn find(&mut self, keys: &[PrKey], found: &mut BTreeSet<TaskId>) -> Result<()> {
        for portion in keys.chunks(ROWS) {
            let query = sqlx::query(AssertSqlSafe(outbox_sql::tasks_of(portion.len())))
                .persistent(portion.len() == 1);
            let query = portion.iter().fold(query, |query, key| {
                query.bind(key.repo.0).bind(key.number.0)
            });
            for row in &self.0.rows(query).await? {
                found.insert(LinkRow::from_row(row)?.link().0);
            }
        }
        Ok(())
    }

    async fn mention(&mut self, key: PrKey, keys: &BTreeSet<TaskKey>) -> Result<()> {
        let delete = sqlx::query("DELETE FROM mentions WHERE repo_id = $1 AND number = $2");
        self.0
            .execute(delete.bind(key.repo.0).bind(key.number.0))
            .await?;
        for task_key in keys {
            let insert = "INSERT INTO mentions (task_key, repo_id, number) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            let insert = sqlx::query(insert)
                .bind(task_key.as_str())
                .bind(key.repo.0)
                .bind(key.number.0);
            self.0.execute(insert).await?;
        }
        Ok(())
    }

    async fn remember(&mut self, id: TaskId, event: Event, now: Moment) -> Result<()> {
        let Event {
            at,
            old,
            new,
            cause,
            pull_request,
            note,
        } = event;
        let insert = sqlx::query(
            "INSERT INTO task_history (task_id, happened_at, recorded_at, old_status, new_status, cause, repo_id, \
             number, note) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(id.to_string())
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

    /// Changes a task as a person says.
    async fn edit(&mut self, id: TaskId, edit: &TaskEdit, now: Moment) -> Result<()> {
        let title = edit.title.clone().map(Some);
        let columns = [
            ("title", &title),
            ("repo_name", &edit.repo),
            ("branch", &edit.branch),
            ("worktree", &edit.worktree),
        ];
        for (column, value) in columns {
            let Some(value) = value else { continue };
            let update = format!("UPDATE tasks SET {column} = $2 WHERE id = $1");
            let update = sqlx::query(AssertSqlSafe(update)).bind(id.to_string());
            self.0
                .execute(update.bind(value.as_deref().map(text)))
                .await?;
        }
        let Some(new) = edit.status else {
            return Ok(());
        };
        let query = format!("SELECT {} FROM tasks WHERE id = $1", TaskRow::COLUMNS);
        let rows = self
            .0
            .rows(sqlx::query(AssertSqlSafe(query)).bind(id.to_string()))
            .await?;
        let Some(row) = rows.first() else {
            return Ok(());
        };
        let old = Task::from(TaskRow::from_row(row)?).state.status;
        let update =
            sqlx::query("UPDATE tasks SET status = $2, said = $2, said_at = $3 WHERE id = $1");
        self.0
            .execute(
                update
                    .bind(id.to_string())
                    .bind(new.as_str())
                    .bind(Seconds(now.into())),
            )
            .await?;
        if old != new {
            let at = now.into();
            let event = Event {
                at,
                old: Some(old),
                new,
                cause: TaskCause::ByHand,
                pull_request: None,
                note: None,
            };
            self.remember(id, event, now).await?;
            let news = News::Task(TaskChange {
                task: id,
                old,
                new,
                at,
                because: None,
            });
            outbox_sql::enter(self.0, &[Entry { repo: None, news }], now).await?;
        }
        Ok(())
    }

    /// Remembers where a task goes. What is told of it, unless its cause is older than the tracking of its repository.
    async fn follow_up(
        &mut self,
        id: TaskId,
        moved: &Transition,
        now: Moment,
    ) -> Result<Option<Entry>> {
        let Transition {
            from,
            to,
            at,
            cause,
        } = *moved;
        let (cause, pull_request) = match cause {
            Cause::PullRequest(key) => (TaskCause::PullRequest, Some(key)),
            Cause::ByHand => (TaskCause::ByHand, None),
        };
        self.remember(
            id,
            Event {
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
        let news = News::Task(TaskChange {
            task: id,
            old: from,
            new: to,
            at,
            because: pull_request,
        });
        let Some(key) = pull_request else {
            return Ok(Some(Entry { repo: None, news }));
        };
        let repository = outbox_sql::telling(self.0, key.repo).await?;
        let repository = repository.filter(|repository| at >= repository.tracked_since.0.into());
        Ok(repository.map(|repository| Entry {
            repo: Some(repository.name),
            news,
        }))
    }

    /// With the name of the repository that it is about.
    async fn named(&mut self, news: &News) -> Result<Entry> {
        let key = match news {
            News::PullRequest(change, _) => Some(change.key),
            News::Task(change) => change.because,
            News::WorktreeKept(kept) => Some(kept.key),
        };
        let repository = match key {
            Some(key) => outbox_sql::telling(self.0, key.repo).await?,
            None => None,
        };
        Ok(Entry {
            repo: repository.map(|repository| repository.name),
            news: news.clone(),
        })
    }
}

/// Writes a link or takes one away, and lets the task follow. Whether that changed anything.
async fn relink<S: Sessions>(
    store: &S,
    id: TaskId,
    change: Statement<'_, S::Kind>,
    now: Moment,
) -> Result<bool>
where
    for<'q> String: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Millis: Encode<'q, S::Kind> + Type<S::Kind>,
{
    let mut writer = store.writer().await?;
    let mut session = writer.begin().await?;
    session.lock(Lock::Tasks).await?;
    if session.execute(change).await? == 0 {
        session.rollback().await?;
        return Ok(false);
    }
    let mark = format!("UPDATE tasks SET {FOLLOW}, updated_at = $2 WHERE id = $1");
    session
        .execute(
            sqlx::query(AssertSqlSafe(mark))
                .bind(id.to_string())
                .bind(Millis(now)),
        )
        .await?;
    session.commit().await?;
    drop(writer);
    store.wake().await;
    Ok(true)
}

/// Tasks with the pull requests that belong to them.
async fn with_pull_requests<S: Sessions>(
    store: &S,
    rows: &[<S::Kind as Database>::Row],
) -> Result<Vec<Task>>
where
    for<'q> String: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'r> TaskRow: FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> LinkRow: FromRow<'r, <S::Kind as Database>::Row>,
{
    let mut tasks: Vec<Task> = rows
        .iter()
        .map(|row| Ok(TaskRow::from_row(row)?.into()))
        .collect::<Result<_>>()?;
    if tasks.is_empty() {
        return Ok(tasks);
    }
    let ids = (1..=tasks.len())
        .map(|place| format!("${place}"))
        .collect::<Vec<_>>()
        .join(", ");
    let query = format!(
        "SELECT task_id, repo_id, number FROM task_links WHERE task_id IN ({ids}) UNION \
         SELECT t.id, m.repo_id, m.number FROM tasks t JOIN mentions m ON m.task_key = t.task_key WHERE t.id IN ({ids})"
    );
    let query = sqlx::query(AssertSqlSafe(query));
    let rows = store
        .read(
            tasks
                .iter()
                .fold(query, |query, task| query.bind(task.id.to_string())),
        )
        .await?;
    let mut links: BTreeMap<TaskId, BTreeSet<PrKey>> = BTreeMap::new();
    for row in &rows {
        let (task, key) = LinkRow::from_row(row)?.link();
        links.entry(task).or_default().insert(key);
    }
    for task in &mut tasks {
        task.prs = links
            .remove(&task.id)
            .unwrap_or_default()
            .into_iter()
            .collect();
    }
    Ok(tasks)
}
