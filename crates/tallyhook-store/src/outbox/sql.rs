//! Statements about the outbox.

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet};

use tallyhook_core::domain::notification::{PullRequestStatus, is_worth_notification};
use tallyhook_core::domain::task::TaskId;
use tallyhook_core::github::types::{PrKey, RepoId, Timestamp};

use super::row::{NotifiedRepositoryRow, OutboxRow};
use super::{ChannelDigest, EventId, OutboxEvent, OutboxPayload, TaskChange, WorktreeKept};
use crate::columns::{Millis, Seconds, to_json};
use crate::database::{Lock, Transaction, statement};
use crate::tasks::TaskLinkRow;
use crate::{BatchWrite, Moment, PullRequestChange, Result, Store};

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
/// repository was tracked. Those of the status are first.
pub(crate) async fn notified_changes(
    transaction: &mut Transaction<'_>,
    recording: &BatchWrite,
) -> Result<Vec<NewOutboxEvent>> {
    let mut repositories = NotifiedRepositories::default();
    let mut notified = Vec::new();
    for change in &recording.changes {
        let (repo, at) = (change.key.repo, change.change.at);
        if let Some(name) = repositories.notified(transaction, repo, at).await? {
            notified.push((name, OutboxPayload::PullRequest(*change, None)));
        }
    }
    for change in &recording.waits {
        let (repo, at) = (change.key.repo, change.at);
        if let Some(name) = repositories.notified(transaction, repo, at).await? {
            notified.push((name, OutboxPayload::Waiting(change.clone(), None)));
        }
    }
    let keys: BTreeSet<_> = notified
        .iter()
        .filter_map(|(_, payload)| payload.pull_request())
        .collect();
    let tasks = oldest_tasks(transaction, &keys.into_iter().collect::<Vec<_>>()).await?;
    let event = |(name, mut payload): (String, OutboxPayload)| {
        let key = payload.pull_request();
        if let OutboxPayload::PullRequest(_, task) | OutboxPayload::Waiting(_, task) = &mut payload
        {
            *task = key.and_then(|key| tasks.get(&key).copied());
        }
        NewOutboxEvent {
            repo: Some(name),
            payload,
        }
    };
    Ok(notified.into_iter().map(event).collect())
}

/// The repositories of a batch, each read once.
#[derive(Default)]
struct NotifiedRepositories(BTreeMap<RepoId, Option<NotifiedRepositoryRow>>);

impl NotifiedRepositories {
    /// Returns the name of a repository if a change at that time is worth a notification.
    async fn notified(
        &mut self,
        transaction: &mut Transaction<'_>,
        repo: RepoId,
        at: Timestamp,
    ) -> Result<Option<String>> {
        let repository = match self.0.entry(repo) {
            MapEntry::Occupied(known) => known.into_mut(),
            MapEntry::Vacant(place) => place.insert(notified_repository(transaction, repo).await?),
        };
        let repository = repository.as_ref();
        let worth = repository.filter(|row| is_worth_notification(at, row.tracked_since.0.into()));
        Ok(worth.map(|row| row.name.clone()))
    }
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
const COLUMNS: usize = 13;

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
             sync_source, reason, recipient, content, recorded_at) VALUES {} \
             ON CONFLICT (repo_id, number, new_status, happened_at) \
             WHERE kind = 'pr_status_change' DO NOTHING",
            (0..portion.len()).map(row).collect::<Vec<_>>().join(", ")
        );
        // One change at a time is the rule; of other numbers there are too many to keep each
        // prepared.
        let mut query = statement(insert).persistent(portion.len() == 1);
        for NewOutboxEvent { repo, payload } in portion {
            let row = NewOutboxRow::new(payload)?;
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
                .bind(row.recipient)
                .bind(row.content)
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
    recipient: Option<&'a str>,
    /// JSON
    content: Option<String>,
}

impl<'a> NewOutboxRow<'a> {
    fn new(payload: &'a OutboxPayload) -> Result<Self> {
        let empty = |kind, at| Self {
            kind,
            key: payload.pull_request(),
            task: None,
            old: None,
            new: None,
            at,
            source: None,
            reason: None,
            recipient: payload.channel(),
            content: None,
        };
        Ok(match payload {
            OutboxPayload::PullRequest(PullRequestChange { change, source, .. }, task) => Self {
                task: *task,
                old: change.old.map(PullRequestStatus::as_str),
                new: Some(change.new.as_str()),
                source: Some(source.as_str()),
                ..empty(OutboxRow::PULL_REQUEST, change.at)
            },
            OutboxPayload::Task(TaskChange {
                task, old, new, at, ..
            }) => Self {
                task: Some(*task),
                old: Some(old.as_str()),
                new: Some(new.as_str()),
                ..empty(OutboxRow::TASK, *at)
            },
            OutboxPayload::WorktreeKept(WorktreeKept {
                task, reason, at, ..
            }) => Self {
                task: Some(*task),
                reason: Some(reason),
                ..empty(OutboxRow::WORKTREE_KEPT, *at)
            },
            OutboxPayload::Waiting(change, task) => Self {
                task: *task,
                source: Some(change.source.as_str()),
                content: Some(to_json(&change.parties)?),
                ..empty(OutboxRow::WAITING, change.at)
            },
            OutboxPayload::Digest(ChannelDigest { at, content, .. }) => Self {
                content: Some(to_json(content)?),
                ..empty(OutboxRow::DIGEST, *at)
            },
        })
    }
}
