//! Statements about the outbox.

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet};

use tallyhook_core::domain::notification::{PullRequestStatus, is_worth_notification};
use tallyhook_core::domain::task::TaskId;
use tallyhook_core::github::types::{PrKey, RepoId, Timestamp};

use super::row::{NotifiedRepositoryRow, OutboxRow};
use super::{ChannelDigest, EventId, OutboxEvent, OutboxPayload, TaskChange, WorktreeKept};
use crate::columns::{Millis, Name, Seconds, to_json};
use crate::database::{Database, Lock, Transaction, statement};
use crate::tasks::{TaskLinkRow, TeamTask};
use crate::teams_of_repositories::teams_of_repositories;
use crate::{BatchWrite, Moment, PullRequestChange, Result, Store, TeamId, TeamStore};

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
        let repos: Vec<_> = rows.iter().map(OutboxRow::shared_repository).collect();
        let known = repos.iter().flatten().copied().collect();
        let teams = teams_of_repositories(&self.database, &known).await?;
        let mut events = Vec::with_capacity(rows.len());
        for (row, repo) in rows.into_iter().zip(repos) {
            let mut event = OutboxEvent::try_from(row)?;
            if let Some(repo) = repo {
                event.teams = teams.get(&repo).cloned().unwrap_or_default();
            }
            events.push(event);
        }
        add_task_keys(&self.database, events.iter_mut()).await?;
        Ok(events)
    }

    /// Returns the last event, [`EventId::BEGINNING`] if there was never one.
    pub async fn newest_event(&self) -> Result<EventId> {
        let query = statement("SELECT id FROM outbox ORDER BY id DESC LIMIT 1");
        let row = self.database.row::<(i64,)>(query).await?;
        Ok(row.map_or(EventId::BEGINNING, |(id,)| EventId(id)))
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

impl TeamStore {
    /// Reports whether there is such an event that the team may be notified of, and with it every
    /// later one.
    pub async fn has_event(&self, id: EventId) -> Result<bool> {
        let query = format!(
            "SELECT id FROM outbox WHERE id = $1 AND {}",
            OutboxRow::visible_to("$2")
        );
        let query = statement(query).bind(id.0).bind(self.team.0);
        Ok(self.database.row::<(i64,)>(query).await?.is_some())
    }
}

/// Adds the keys of the tasks of events about pull requests.
pub(crate) async fn add_task_keys(
    database: &Database,
    events: impl Iterator<Item = &mut OutboxEvent>,
) -> Result<()> {
    let mut tasks: Vec<_> = events.flat_map(|event| &mut event.tasks).collect();
    for portion in tasks.chunks_mut(ROWS) {
        let wanted: Vec<_> = (1..=portion.len())
            .map(|place| format!("(${}, ${})", 2 * place - 1, 2 * place))
            .collect();
        let query = format!(
            "SELECT t.team_id, t.id, t.task_key FROM (VALUES {}) AS wanted CROSS JOIN tasks t \
             WHERE t.team_id = wanted.column1 AND t.id = wanted.column2",
            wanted.join(", ")
        );
        let query = statement(query).persistent(portion.len() == 1);
        let query = portion.iter().fold(query, |query, task| {
            query.bind(task.team.0).bind(task.id.to_string())
        });
        let rows: Vec<(i64, Name<TaskId>, Option<String>)> = database.rows(query).await?;
        let keys: BTreeMap<TeamTask, Option<String>> = rows
            .into_iter()
            .map(|(team, Name(id), key)| ((team, id), key))
            .collect();
        for task in portion {
            task.key = keys.get(&(task.team.0, task.id)).cloned().flatten();
        }
    }
    Ok(())
}

/// An event that is to be written to the outbox.
pub(crate) struct NewOutboxEvent {
    /// `owner/name`; `None` if a person moved a task.
    repo: Option<String>,
    /// The team whose event it is; `None` if it is of every team that sees the repository.
    team: Option<TeamId>,
    payload: OutboxPayload,
    /// Of a pull request, its oldest task in each team that has one.
    tasks: Vec<TeamTask>,
}

impl NewOutboxEvent {
    /// Returns an event of one team.
    pub(crate) fn of_team(team: TeamId, repo: Option<String>, payload: OutboxPayload) -> Self {
        Self {
            repo,
            team: Some(team),
            payload,
            tasks: Vec::new(),
        }
    }
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
    let event = |(name, payload): (String, OutboxPayload)| {
        let tasks = payload.pull_request().and_then(|key| tasks.get(&key));
        NewOutboxEvent {
            repo: Some(name),
            team: None,
            tasks: tasks.cloned().unwrap_or_default(),
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

/// Looks up the oldest task, in each team, of each of these pull requests that belongs to any.
async fn oldest_tasks(
    transaction: &mut Transaction<'_>,
    keys: &[PrKey],
) -> Result<BTreeMap<PrKey, Vec<TeamTask>>> {
    let mut oldest: BTreeMap<PrKey, Vec<TeamTask>> = BTreeMap::new();
    for portion in keys.chunks(ROWS) {
        let query = format!(
            "SELECT found.team_id, found.task_id, found.repo_id, found.number \
             FROM ({}) AS found JOIN tasks t \
             ON t.team_id = found.team_id AND t.id = found.task_id ORDER BY t.created_at, t.id",
            tasks_by_pull_request(portion.len())
        );
        let query = statement(query).persistent(portion.len() == 1);
        let query = portion.iter().fold(query, |query, key| {
            query.bind(key.repo.0).bind(key.number.0)
        });
        for row in transaction.rows::<TaskLinkRow>(query).await? {
            let (task, key) = row.link();
            let known = oldest.entry(key).or_default();
            if known.iter().all(|(team, _)| *team != task.0) {
                known.push(task);
            }
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
const COLUMNS: usize = 15;

/// Makes a query for the tasks that so many pull requests, whose repositories and numbers are the
/// arguments, are linked to, or whose keys they name, in teams that see the repository: `team_id`,
/// `task_id`, `repo_id`, `number`.
pub(crate) fn tasks_by_pull_request(pull_requests: usize) -> String {
    let places: Vec<_> = (0..pull_requests)
        .map(|row| format!("(${}, ${})", 2 * row + 1, 2 * row + 2))
        .collect();
    let places = places.join(", ");
    format!(
        "SELECT l.team_id, l.task_id, l.repo_id, l.number FROM task_links l \
         JOIN team_repositories seen ON seen.team_id = l.team_id AND seen.repo_id = l.repo_id \
         WHERE (l.repo_id, l.number) IN (VALUES {places}) UNION ALL \
         SELECT named.team_id, named.id, m.repo_id, m.number FROM mentions m JOIN tasks named \
         ON named.task_key = m.task_key JOIN team_repositories mine \
         ON mine.team_id = named.team_id AND mine.repo_id = m.repo_id \
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
             sync_source, reason, recipient, content, recorded_at, team_id, tasks) VALUES {} \
             ON CONFLICT (repo_id, number, new_status, happened_at) \
             WHERE kind = 'pr_status_change' DO NOTHING",
            (0..portion.len()).map(row).collect::<Vec<_>>().join(", ")
        );
        // One change at a time is the rule; of other numbers there are too many to keep each
        // prepared.
        let mut query = statement(insert).persistent(portion.len() == 1);
        for event in portion {
            let row = NewOutboxRow::new(&event.payload)?;
            let tasks = (!event.tasks.is_empty()).then(|| to_json(&event.tasks));
            query = query
                .bind(row.kind)
                .bind(row.key.map(|key| key.repo.0))
                .bind(event.repo.as_deref())
                .bind(row.key.map(|key| key.number.0))
                .bind(row.task.map(|task| task.to_string()))
                .bind(row.old)
                .bind(row.new)
                .bind(Seconds(row.at))
                .bind(row.source)
                .bind(row.reason)
                .bind(row.recipient)
                .bind(row.content)
                .bind(Millis(now))
                .bind(event.team.map(|TeamId(id)| id))
                .bind(tasks.transpose()?);
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
            OutboxPayload::PullRequest(PullRequestChange { change, source, .. }, _) => Self {
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
            OutboxPayload::Waiting(change, _) => Self {
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
