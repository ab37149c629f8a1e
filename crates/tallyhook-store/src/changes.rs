//! Changes of the last minutes, as hints for pages that are open. Facts are noted by their batch,
//! in its transaction, and dead letters beside theirs; everything else by triggers of the database.
//!
//! A batch writes one row, however many pull requests it has: a row for each of them, or an index
//! by which changed rows are found, costs a tenth more of such a transaction in SQLite, and a
//! counter for each kind is one row in PostgreSQL that all workers wait for. Readers look now and
//! then; a notification for each batch would make all commits in PostgreSQL wait for each other.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::FromRow;
use tallyhook_core::github::types::PrNumber;

use crate::columns::{Millis, from_json, to_json};
use crate::database::{StatementBuilder, Transaction, statement};
use crate::teams_of_repositories::teams_of_repositories;
use crate::{BatchWrite, Moment, Result, Store, TeamId};

/// The most pull requests that a batch names; one with more names their repositories, and one with
/// more of these says that any may have changed.
const MOST_NAMED: usize = 64;
/// The kind of a row that a batch wrote.
pub(crate) const BATCH: &str = "batch";

/// The kind of a thing that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    PullRequest,
    Repository,
    SyncRun,
    Inbox,
    Task,
    Channel,
    Notification,
}

impl ChangeKind {
    pub const ALL: [Self; 7] = [
        Self::PullRequest,
        Self::Repository,
        Self::SyncRun,
        Self::Inbox,
        Self::Task,
        Self::Channel,
        Self::Notification,
    ];

    /// Returns its name outside.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PullRequest => "pr",
            Self::Repository => "repo",
            Self::SyncRun => "sync_run",
            Self::Inbox => "inbox",
            Self::Task => "task",
            Self::Channel => "channel",
            Self::Notification => "notification",
        }
    }
}

/// The place of a change in the order of writing. In PostgreSQL one may appear a little after a
/// later one.
pub type ChangeId = i64;

/// A thing that changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangedThing {
    pub kind: ChangeKind,
    /// `owner/name`; `None` if it may be any, or is of none.
    pub repo: Option<String>,
    /// Of a pull request; `None` if it may be any.
    pub number: Option<PrNumber>,
    pub audience: ChangeAudience,
}

/// The readers who may learn of a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeAudience {
    /// Those of any team, since it says nothing of any.
    Everyone,
    /// Those of these teams, by id.
    Teams(Vec<i64>),
    Operators,
}

impl ChangeAudience {
    /// Returns true for a reader of a team, who may be an operator.
    pub fn includes(&self, team: TeamId, is_operator: bool) -> bool {
        match self {
            Self::Everyone => true,
            Self::Teams(teams) => teams.contains(&team.0),
            Self::Operators => is_operator,
        }
    }
}

impl ChangedThing {
    /// Returns a thing of this kind that may be any. The inbox is for operators.
    pub const fn any(kind: ChangeKind) -> Self {
        Self {
            kind,
            repo: None,
            number: None,
            audience: match kind {
                ChangeKind::Inbox => ChangeAudience::Operators,
                _ => ChangeAudience::Everyone,
            },
        }
    }
}

/// The things that one write changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChange {
    pub id: ChangeId,
    pub at: Moment,
    pub things: Vec<ChangedThing>,
}

#[derive(FromRow)]
struct ChangeRow {
    id: i64,
    at: Millis,
    kind: String,
    repo_id: Option<i64>,
    repo_name: Option<String>,
    team_id: Option<i64>,
    pull_requests: Option<String>,
}

#[derive(FromRow)]
struct NameRow {
    id: i64,
    name: String,
}

impl Store {
    /// Returns the last change, 0 if there was none.
    pub async fn newest_change(&self) -> Result<ChangeId> {
        let query = statement("SELECT id FROM changes ORDER BY id DESC LIMIT 1");
        let row = self.database.row::<(i64,)>(query).await?;
        Ok(row.map_or(0, |(id,)| id))
    }

    /// Returns the changes after `id`, at most `limit`.
    pub async fn changes_after(&self, id: ChangeId, limit: u32) -> Result<Vec<StoredChange>> {
        let query = statement(
            "SELECT changes.id, at, kind, repo_id, name AS repo_name, team_id, pull_requests \
             FROM changes LEFT JOIN repositories ON repositories.id = repo_id \
             WHERE changes.id > $1 ORDER BY changes.id LIMIT $2",
        );
        let query = query.bind(id).bind(i64::from(limit));
        let rows: Vec<ChangeRow> = self.database.rows(query).await?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            let named = row.pull_requests.as_deref();
            keys.push(
                named
                    .map(from_json::<Vec<(i64, Option<i64>)>>)
                    .transpose()?,
            );
        }
        let repos = keys.iter().flatten().flatten().map(|(repo, _)| *repo);
        let repos: BTreeSet<_> = repos.collect();
        let names = self.names_of(&repos).await?;
        let of_rows = rows.iter().filter_map(|row| row.repo_id);
        let repos = repos.into_iter().chain(of_rows).collect();
        let teams = teams_of_repositories(&self.database, &repos).await?;
        let known = KnownRepositories { names, teams };
        let changes = rows.into_iter().zip(keys);
        Ok(changes
            .map(|(row, keys)| StoredChange {
                id: row.id,
                at: row.at.0,
                things: things(&row, keys, &known),
            })
            .collect())
    }

    async fn names_of(&self, repos: &BTreeSet<i64>) -> Result<BTreeMap<i64, String>> {
        if repos.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut query = StatementBuilder::new("SELECT id, name FROM repositories WHERE id IN (");
        for (place, repo) in repos.iter().enumerate() {
            query.push(if place == 0 { "" } else { ", " });
            query.push_bind(*repo);
        }
        query.push(")");
        let query = query.build().persistent(repos.len() == 1);
        let rows: Vec<NameRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
    }

    /// Deletes changes from before `before`, at most `limit`. Returns the number of deleted ones.
    pub async fn purge_changes(&self, before: Moment, limit: u32) -> Result<u64> {
        // The last one stays: SQLite would give its id to another.
        let delete = statement(
            "DELETE FROM changes WHERE id IN (\
                 SELECT id FROM (SELECT id, at FROM changes ORDER BY id LIMIT $2) AS oldest \
                 WHERE at < $1) AND id < (SELECT max(id) FROM changes)",
        );
        let delete = delete.bind(Millis(before)).bind(i64::from(limit));
        self.database.execute(delete).await
    }
}

/// The names and the teams of repositories, by id.
struct KnownRepositories {
    names: BTreeMap<i64, String>,
    teams: BTreeMap<i64, Vec<TeamId>>,
}

impl KnownRepositories {
    fn audience(&self, repo: i64) -> ChangeAudience {
        let teams = self.teams.get(&repo).into_iter().flatten();
        ChangeAudience::Teams(teams.map(|team| team.0).collect())
    }
}

fn things(
    row: &ChangeRow,
    keys: Option<Vec<(i64, Option<i64>)>>,
    known: &KnownRepositories,
) -> Vec<ChangedThing> {
    if row.kind == BATCH {
        let inbox = ChangedThing::any(ChangeKind::Inbox);
        let named = keys.map(|keys| {
            let thing = |(repo, number): (i64, Option<i64>)| ChangedThing {
                kind: ChangeKind::PullRequest,
                repo: known.names.get(&repo).cloned(),
                number: number.map(PrNumber),
                audience: known.audience(repo),
            };
            keys.into_iter().map(thing).collect()
        });
        let mut things: Vec<_> =
            named.unwrap_or_else(|| vec![ChangedThing::any(ChangeKind::PullRequest)]);
        things.push(inbox);
        return things;
    }
    let kind = ChangeKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == row.kind);
    let thing = |kind| ChangedThing {
        repo: row.repo_name.clone(),
        audience: match (row.team_id, row.repo_id) {
            (Some(team), _) => ChangeAudience::Teams(vec![team]),
            (None, Some(repo)) => known.audience(repo),
            (None, None) => ChangeAudience::Operators,
        },
        ..ChangedThing::any(kind)
    };
    kind.map(thing).into_iter().collect()
}

/// Returns the pull requests of a batch as its change names them.
pub(crate) fn named_pull_requests(recording: &BatchWrite) -> Result<Option<String>> {
    let keys = recording.pull_requests.iter().map(|record| {
        let key = record.known.pull_request.key;
        (key.repo.0, key.number.0)
    });
    let mut keys: BTreeSet<_> = keys.map(|(repo, number)| (repo, Some(number))).collect();
    if keys.len() > MOST_NAMED {
        keys = keys.into_iter().map(|(repo, _)| (repo, None)).collect();
    }
    match keys.len() {
        ..=MOST_NAMED => to_json(&keys).map(Some),
        _ => Ok(None),
    }
}

impl Store {
    /// Notes that dead letters changed, after they did. A hint that is lost makes a page late, and
    /// no change fails for it.
    pub(crate) async fn note_inbox(&self, now: Moment) {
        let insert = statement("INSERT INTO changes (at, kind) VALUES ($1, 'inbox')");
        if let Err(error) = self.database.execute(insert.bind(Millis(now))).await {
            tracing::warn!(%error, "open pages get no hint of a dead letter: {error}");
        }
    }
}

/// Notes what a batch changed, if anything.
pub(crate) async fn note_batch(
    transaction: &mut Transaction<'_>,
    recording: &BatchWrite,
    now: Moment,
) -> Result<()> {
    if recording.pull_requests.is_empty() && recording.finished.is_empty() {
        return Ok(());
    }
    let insert =
        statement("INSERT INTO changes (at, kind, pull_requests) VALUES ($1, 'batch', $2)")
            .bind(Millis(now))
            .bind(named_pull_requests(recording)?);
    transaction.execute(insert).await.map(|_| ())
}
