//! Statements about the outbox.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;

use tallyhook_core::domain::notification::{PullRequestStatus, is_worth_notification};
use tallyhook_core::domain::task::TaskId;
use tallyhook_core::github::types::{PrKey, RepoId, Timestamp};

use super::row::{NotifiedRepositoryRow, OutboxRow};
use super::{EventId, OutboxEvent, OutboxPayload, TaskChange, WorktreeKept};
use crate::columns::{Millis, Seconds};
use crate::database::{Lock, Transaction, statement};
use crate::tasks::TaskLinkRow;
use crate::{Moment, PullRequestChange, Result, Store};

/// The number of rows of one statement.
const ROWS: usize = 64;

impl Store {
    /// Returns events after `id`, at most `limit`. A reader that has read up to an event has missed
    /// none before it: none appears there later.
    pub async fn events_after(&self, id: EventId, limit: u32) -> Result<Vec<OutboxEvent>> {
        let query = format!(
            "SELECT {} FROM outbox {} WHERE id > $1 ORDER BY id LIMIT $2",
            OutboxRow::COLUMNS,
            OutboxRow::JOINS
        );
        let query = statement(query).bind(id.0).bind(i64::from(limit));
        let rows: Vec<OutboxRow> = self.database.rows(query).await?;
        rows.into_iter().map(|row| Ok(row.try_into()?)).collect()
    }

    /// Returns the last event, [`EventId::BEGINNING`] if there was never one.
    pub async fn newest_event(&self) -> Result<EventId> {
        let query = statement("SELECT id FROM outbox ORDER BY id DESC LIMIT 1");
        let row = self.database.row::<(i64,)>(query).await?;
        Ok(row.map_or(EventId::BEGINNING, |(id,)| EventId(id)))
    }

    /// Reports whether there is such an event, and with it every later one.
    pub async fn has_event(&self, id: EventId) -> Result<bool> {
        let query = statement("SELECT id FROM outbox WHERE id = $1").bind(id.0);
        Ok(self.database.row::<(i64,)>(query).await?.is_some())
    }

    /// Deletes events recorded before `before` with their notifications, at most `limit`, but never
    /// the last one nor one that is still to be sent to a channel. Returns the number of deleted
    /// events.
    pub async fn purge_events(&self, before: Moment, limit: u32) -> Result<u64> {
        // The last one stays: SQLite would give its id to another, and a reader that has seen it
        // has missed nothing. With an OFFSET PostgreSQL looks at the notifications of the oldest
        // events alone; else it joins them with all there are.
        let delete = statement(
            "DELETE FROM outbox WHERE id IN (\
                 SELECT id FROM (\
                     SELECT id, recorded_at FROM outbox \
                     WHERE NOT EXISTS (\
                         SELECT 1 FROM notifications WHERE event_id = outbox.id \
                         AND state = 'pending' LIMIT 1 OFFSET 0) \
                     ORDER BY id LIMIT $2) AS oldest \
                 WHERE recorded_at < $1 AND id < (SELECT max(id) FROM outbox))",
        )
        .bind(Millis(before))
        .bind(i64::from(limit));
        self.database.execute(delete).await
    }
}

/// An event that is to be written to the outbox.
pub(crate) struct NewOutboxEvent {
    /// `owner/name`; `None` if a person moved a task.
    pub(crate) repo: Option<String>,
    pub(crate) payload: OutboxPayload,
}

/// Selects the changes that are worth a notification, by the domain's rule: none from before its
/// repository was tracked.
pub(crate) async fn notified_changes(
    transaction: &mut Transaction<'_>,
    changes: &[PullRequestChange],
) -> Result<Vec<NewOutboxEvent>> {
    let mut repositories: BTreeMap<RepoId, Option<NotifiedRepositoryRow>> = BTreeMap::new();
    let mut notified = Vec::new();
    for change in changes {
        let repository = match repositories.entry(change.key.repo) {
            MapEntry::Occupied(known) => known.into_mut(),
            MapEntry::Vacant(place) => {
                place.insert(notified_repository(transaction, change.key.repo).await?)
            }
        };
        if let Some(NotifiedRepositoryRow {
            name,
            tracked_since,
        }) = repository
            && is_worth_notification(change.change.at, tracked_since.0.into())
        {
            notified.push((name.clone(), *change));
        }
    }
    let keys: Vec<_> = notified.iter().map(|(_, change)| change.key).collect();
    let tasks = oldest_tasks(transaction, &keys).await?;
    let event = |(name, change): (String, PullRequestChange)| {
        let task = tasks.get(&change.key).copied();
        NewOutboxEvent {
            repo: Some(name),
            payload: OutboxPayload::PullRequest(change, task),
        }
    };
    Ok(notified.into_iter().map(event).collect())
}

/// Looks up the oldest task of each of these pull requests that belongs to any.
async fn oldest_tasks(
    transaction: &mut Transaction<'_>,
    keys: &[PrKey],
) -> Result<BTreeMap<PrKey, TaskId>> {
    let mut oldest = BTreeMap::new();
    for portion in keys.chunks(ROWS) {
        let query = format!(
            "SELECT found.task_id, found.repo_id, found.number FROM ({}) AS found JOIN tasks t \
             ON t.id = found.task_id \
             ORDER BY t.created_at, t.id",
            tasks_by_pull_request(portion.len())
        );
        let query = statement(query).persistent(portion.len() == 1);
        let query = portion.iter().fold(query, |query, key| {
            query.bind(key.repo.0).bind(key.number.0)
        });
        for row in transaction.rows::<TaskLinkRow>(query).await? {
            let (task, key) = row.link();
            oldest.entry(key).or_insert(task);
        }
    }
    Ok(oldest)
}

/// Reads of a repository, if it is known, what notifications about it need.
pub(crate) async fn notified_repository(
    transaction: &mut Transaction<'_>,
    repo: RepoId,
) -> Result<Option<NotifiedRepositoryRow>> {
    let query =
        statement("SELECT name, tracked_since FROM repositories WHERE id = $1").bind(repo.0);
    transaction.row(query).await
}

/// The number of columns of an event, with `recorded_at`.
const COLUMNS: usize = 11;

/// Makes a query for the tasks that so many pull requests, whose repositories and numbers are the
/// arguments, are linked to, or whose keys they name: `task_id`, `repo_id`, `number`.
pub(crate) fn tasks_by_pull_request(pull_requests: usize) -> String {
    let places: Vec<_> = (0..pull_requests)
        .map(|row| format!("(${}, ${})", 2 * row + 1, 2 * row + 2))
        .collect();
    let places = places.join(", ");
    format!(
        "SELECT task_id, repo_id, number FROM task_links \
         WHERE (repo_id, number) IN (VALUES {places}) UNION ALL \
         SELECT named.id, m.repo_id, m.number FROM mentions m JOIN tasks named \
         ON named.task_key = m.task_key \
         WHERE (m.repo_id, m.number) IN (VALUES {places})"
    )
}

/// Writes events in their order, except changes of pull requests that are there already. Returns
/// the number of new ones.
pub(crate) async fn append_events(
    transaction: &mut Transaction<'_>,
    events: &[NewOutboxEvent],
    now: Moment,
) -> Result<u64> {
    if events.is_empty() {
        return Ok(0);
    }
    transaction.lock(Lock::Outbox).await?;
    let mut appended = 0;
    for portion in events.chunks(ROWS) {
        let row = |row: usize| {
            let places: Vec<_> = (1..=COLUMNS)
                .map(|column| format!("${}", row * COLUMNS + column))
                .collect();
            format!("({})", places.join(", "))
        };
        let insert = format!(
            "INSERT INTO outbox (kind, repo_id, repo_name, number, task_id, old_status, \
             new_status, happened_at, \
             sync_source, reason, recorded_at) VALUES {} \
             ON CONFLICT (repo_id, number, new_status, happened_at) \
             WHERE kind = 'pr_status_change' DO NOTHING",
            (0..portion.len()).map(row).collect::<Vec<_>>().join(", ")
        );
        // One change at a time is the rule; of other numbers there are too many to keep each
        // prepared.
        let mut query = statement(insert).persistent(portion.len() == 1);
        for NewOutboxEvent { repo, payload } in portion {
            let row = NewOutboxRow::from(payload);
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
        appended += transaction.execute(query).await?;
    }
    Ok(appended)
}

/// A payload as the columns of a new row.
struct NewOutboxRow<'a> {
    kind: &'static str,
    key: Option<PrKey>,
    task: Option<TaskId>,
    old: Option<&'static str>,
    new: Option<&'static str>,
    at: Timestamp,
    source: Option<&'static str>,
    reason: Option<&'a str>,
}

impl<'a> From<&'a OutboxPayload> for NewOutboxRow<'a> {
    fn from(payload: &'a OutboxPayload) -> Self {
        match payload {
            OutboxPayload::PullRequest(
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
                old: change.old.map(PullRequestStatus::as_str),
                new: Some(change.new.as_str()),
                at: change.at,
                source: Some(source.as_str()),
                reason: None,
            },
            OutboxPayload::Task(TaskChange {
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
            OutboxPayload::WorktreeKept(WorktreeKept {
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
