//! The outbox, in SQL that both kinds of database understand.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;

use sqlx::database::HasStatementCache;
use sqlx::{AssertSqlSafe, Database, Encode, FromRow, Type};
use tallyhook_core::domain::notification::{Status, notifies};
use tallyhook_core::domain::task::TaskId;
use tallyhook_core::github::types::{PrKey, RepoId, Timestamp};

use super::rows::{LinkRow, Millis, OutboxRow, Seconds, TellingRow};
use super::sessions::{Lock, Session, Sessions};
use super::{
    EventId, Moment, News, Outbox, OutboxEvent, PullRequestChange, Result, TaskChange, WorktreeKept,
};

/// Rows of one statement.
const ROWS: usize = 64;

#[async_trait::async_trait]
impl<S> Outbox for S
where
    S: Sessions,
    for<'q> i64: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Millis: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'r> (i64,): FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> OutboxRow: FromRow<'r, <S::Kind as Database>::Row>,
{
    async fn events_after(&self, id: EventId, limit: u32) -> Result<Vec<OutboxEvent>> {
        let query = format!(
            "SELECT {} FROM outbox WHERE id > $1 ORDER BY id LIMIT $2",
            OutboxRow::COLUMNS
        );
        let rows = self
            .read(
                sqlx::query(AssertSqlSafe(query))
                    .bind(id.0)
                    .bind(i64::from(limit)),
            )
            .await?;
        rows.iter()
            .map(|row| Ok(OutboxRow::from_row(row)?.try_into()?))
            .collect()
    }

    async fn newest_event(&self) -> Result<EventId> {
        let rows = self
            .read(sqlx::query(
                "SELECT id FROM outbox ORDER BY id DESC LIMIT 1",
            ))
            .await?;
        rows.first().map_or(Ok(EventId::BEGINNING), |row| {
            Ok(EventId(<(i64,)>::from_row(row)?.0))
        })
    }

    async fn remembers_event(&self, id: EventId) -> Result<bool> {
        Ok(!self
            .read(sqlx::query("SELECT id FROM outbox WHERE id = $1").bind(id.0))
            .await?
            .is_empty())
    }

    async fn purge_events(&self, before: Moment, limit: u32) -> Result<u64> {
        // The last one stays: SQLite would give its id to another, and who has seen it has missed nothing. With an OFFSET
        // PostgreSQL looks at the notifications of the oldest events alone; else it joins them with all that there are.
        let delete = sqlx::query(
            "DELETE FROM outbox WHERE id IN (\
                 SELECT id FROM (\
                     SELECT id, recorded_at FROM outbox \
                     WHERE NOT EXISTS (\
                         SELECT 1 FROM notifications WHERE event_id = outbox.id AND state = 'pending' LIMIT 1 OFFSET 0) \
                     ORDER BY id LIMIT $2) AS oldest \
                 WHERE recorded_at < $1 AND id < (SELECT max(id) FROM outbox))",
        );
        self.write(delete.bind(Millis(before)).bind(i64::from(limit)))
            .await
    }
}

/// What is to be entered.
pub(super) struct Entry {
    /// `owner/name`; `None` if a person moved a task.
    pub(super) repo: Option<String>,
    pub(super) news: News,
}

/// Those of `changes` that are worth telling: not what happened before its repository was tracked.
pub(super) async fn worth_telling<DB>(
    session: &mut dyn Session<DB>,
    changes: &[PullRequestChange],
) -> Result<Vec<Entry>>
where
    DB: Database + HasStatementCache,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'r> TellingRow: FromRow<'r, DB::Row>,
    for<'r> LinkRow: FromRow<'r, DB::Row>,
{
    let mut repositories: BTreeMap<RepoId, Option<TellingRow>> = BTreeMap::new();
    let mut told = Vec::new();
    for change in changes {
        let repository = match repositories.entry(change.key.repo) {
            MapEntry::Occupied(known) => known.into_mut(),
            MapEntry::Vacant(place) => place.insert(telling(session, change.key.repo).await?),
        };
        if let Some(TellingRow {
            name,
            tracked_since,
        }) = repository
            && notifies(&change.change, tracked_since.0.into())
        {
            told.push((name.clone(), *change));
        }
    }
    let keys: Vec<_> = told.iter().map(|(_, change)| change.key).collect();
    let tasks = oldest_tasks(session, &keys).await?;
    let entry = |(name, change): (String, PullRequestChange)| {
        let task = tasks.get(&change.key).copied();
        Entry {
            repo: Some(name),
            news: News::PullRequest(change, task),
        }
    };
    Ok(told.into_iter().map(entry).collect())
}

/// The oldest task of each of these pull requests that is of any.
async fn oldest_tasks<DB>(
    session: &mut dyn Session<DB>,
    keys: &[PrKey],
) -> Result<BTreeMap<PrKey, TaskId>>
where
    DB: Database + HasStatementCache,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'r> LinkRow: FromRow<'r, DB::Row>,
{
    let mut oldest = BTreeMap::new();
    for portion in keys.chunks(ROWS) {
        let query = format!(
            "SELECT found.task_id, found.repo_id, found.number FROM ({}) AS found JOIN tasks t ON t.id = found.task_id \
             ORDER BY t.created_at, t.id",
            tasks_of(portion.len())
        );
        let query = sqlx::query(AssertSqlSafe(query)).persistent(portion.len() == 1);
        let query = portion.iter().fold(query, |query, key| {
            query.bind(key.repo.0).bind(key.number.0)
        });
        for row in &session.rows(query).await? {
            let (task, key) = LinkRow::from_row(row)?.link();
            oldest.entry(key).or_insert(task);
        }
    }
    Ok(oldest)
}

/// What changes of a repository are told with, if it is known.
pub(super) async fn telling<DB>(
    session: &mut dyn Session<DB>,
    repo: RepoId,
) -> Result<Option<TellingRow>>
where
    DB: Database,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'r> TellingRow: FromRow<'r, DB::Row>,
{
    let query =
        sqlx::query("SELECT name, tracked_since FROM repositories WHERE id = $1").bind(repo.0);
    Ok(session
        .rows(query)
        .await?
        .first()
        .map(TellingRow::from_row)
        .transpose()?)
}

/// The columns of an entry, with that for `recorded_at`.
const COLUMNS: usize = 11;

/// The tasks that so many pull requests, whose repositories and numbers are the arguments, are linked to, or whose keys they
/// name: `task_id`, `repo_id`, `number`.
pub(super) fn tasks_of(pull_requests: usize) -> String {
    let places: Vec<_> = (0..pull_requests)
        .map(|row| format!("(${}, ${})", 2 * row + 1, 2 * row + 2))
        .collect();
    let places = places.join(", ");
    format!(
        "SELECT task_id, repo_id, number FROM task_links WHERE (repo_id, number) IN (VALUES {places}) UNION ALL \
         SELECT named.id, m.repo_id, m.number FROM mentions m JOIN tasks named ON named.task_key = m.task_key \
         WHERE (m.repo_id, m.number) IN (VALUES {places})"
    )
}

/// Enters news in their order, but no change of a pull request that is there. How many were new.
pub(super) async fn enter<DB>(
    session: &mut dyn Session<DB>,
    entries: &[Entry],
    now: Moment,
) -> Result<u64>
where
    DB: Database + HasStatementCache,
    for<'q> i64: Type<DB>,
    for<'q> Option<i64>: Encode<'q, DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> Option<&'q str>: Encode<'q, DB>,
    for<'q> String: Type<DB>,
    for<'q> Option<String>: Encode<'q, DB>,
    for<'q> Seconds: Encode<'q, DB> + Type<DB>,
    for<'q> Millis: Encode<'q, DB> + Type<DB>,
{
    if entries.is_empty() {
        return Ok(0);
    }
    session.lock(Lock::Outbox).await?;
    let mut entered = 0;
    for portion in entries.chunks(ROWS) {
        let row = |row: usize| {
            let places: Vec<_> = (1..=COLUMNS)
                .map(|column| format!("${}", row * COLUMNS + column))
                .collect();
            format!("({})", places.join(", "))
        };
        let insert = format!(
            "INSERT INTO outbox (kind, repo_id, repo_name, number, task_id, old_status, new_status, happened_at, \
             sync_source, reason, recorded_at) VALUES {} \
             ON CONFLICT (repo_id, number, new_status, happened_at) WHERE kind = 'pr_status_change' DO NOTHING",
            (0..portion.len()).map(row).collect::<Vec<_>>().join(", ")
        );
        // One change at a time is the rule; of other numbers there are too many to keep each prepared.
        let mut query = sqlx::query(AssertSqlSafe(insert)).persistent(portion.len() == 1);
        for Entry { repo, news } in portion {
            let row = Row::of(news);
            query = query
                .bind(row.kind)
                .bind(row.key.map(|key| key.repo.0))
                .bind(repo.as_deref())
                .bind(row.key.map(|key| key.number.0))
                .bind(row.task.map(|task| task.to_string()))
                .bind(row.old)
                .bind(row.new)
                .bind(Seconds(row.at))
                .bind(row.source)
                .bind(row.reason)
                .bind(Millis(now));
        }
        entered += session.execute(query).await?;
    }
    Ok(entered)
}

/// News as a row.
struct Row<'a> {
    kind: &'static str,
    key: Option<PrKey>,
    task: Option<TaskId>,
    old: Option<&'static str>,
    new: Option<&'static str>,
    at: Timestamp,
    source: Option<&'static str>,
    reason: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn of(news: &'a News) -> Self {
        match news {
            News::PullRequest(
                PullRequestChange {
                    key,
                    change,
                    source,
                },
                task,
            ) => Self {
                kind: OutboxRow::PULL_REQUEST,
                key: Some(*key),
                task: *task,
                old: change.old.map(Status::as_str),
                new: Some(change.new.as_str()),
                at: change.at,
                source: Some(source.as_str()),
                reason: None,
            },
            News::Task(TaskChange {
                task,
                old,
                new,
                at,
                because,
            }) => Self {
                kind: OutboxRow::TASK,
                key: *because,
                task: Some(*task),
                old: Some(old.as_str()),
                new: Some(new.as_str()),
                at: *at,
                source: None,
                reason: None,
            },
            News::WorktreeKept(WorktreeKept {
                task,
                key,
                reason,
                at,
            }) => Self {
                kind: OutboxRow::WORKTREE_KEPT,
                key: Some(*key),
                task: Some(*task),
                old: None,
                new: None,
                at: *at,
                source: None,
                reason: Some(reason),
            },
        }
    }
}
