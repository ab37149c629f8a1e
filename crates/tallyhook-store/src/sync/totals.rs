//! Totals of tracked repositories and of backfills.

use sqlx::FromRow;

use super::{BackfillCounts, RepositoryCounts, RunState, SyncStatus};
use crate::columns::Name;
use crate::database::{Database, StatementBuilder, statement};
use crate::team_store::TeamScope;
use crate::{Result, Store, TeamId, TeamStore};

/// The condition on a repository `r` with its installation `i` that something is missing: access is
/// lost, the last synchronisation failed, its history was never fetched, or pull requests failed in
/// its last backfill that ended.
pub(super) const INCOMPLETE: &str = "(r.access <> 'granted' \
    OR coalesce(i.access = 'revoked', false) OR r.last_error IS NOT NULL \
    OR r.complete_since IS NULL OR EXISTS (SELECT 1 FROM sync_runs s WHERE s.repo_id = r.id \
        AND s.errors <> '[]' AND s.id = (SELECT max(id) FROM sync_runs \
            WHERE repo_id = r.id AND state IN ('done', 'failed'))))";

#[derive(FromRow)]
struct StatusRow {
    sync_status: Name<SyncStatus>,
    repositories: i64,
    incomplete: i64,
}

#[derive(FromRow)]
struct RunStateRow {
    state: Name<RunState>,
    runs: i64,
    pull_requests: i64,
    millis: i64,
}

impl Store {
    /// Counts the tracked repositories.
    pub async fn repository_counts(&self) -> Result<RepositoryCounts> {
        repository_counts(&self.database, "r.tracked", None).await
    }

    /// Counts the backfills that are kept: of each repository the last twenty, and one under way.
    pub async fn backfill_counts(&self) -> Result<BackfillCounts> {
        let scope = TeamScope::everything(self.database.is_sqlite());
        backfill_counts(&self.database, scope).await
    }
}

impl TeamStore {
    /// Counts the repositories that the team tracks.
    pub async fn repository_counts(&self) -> Result<RepositoryCounts> {
        let mine = "EXISTS (SELECT 1 FROM team_repositories t WHERE t.team_id = $1 \
                    AND t.repo_id = r.id AND t.tracked)";
        repository_counts(&self.database, mine, Some(self.team)).await
    }

    /// The same of the team's repositories.
    pub async fn backfill_counts(&self) -> Result<BackfillCounts> {
        backfill_counts(&self.database, self.plain_scope()).await
    }
}

/// Counts the repositories `r` with a condition, whose argument is the team.
async fn repository_counts(
    database: &Database,
    condition: &str,
    team: Option<TeamId>,
) -> Result<RepositoryCounts> {
    let query = statement(format!(
        "SELECT r.sync_status, count(*) AS repositories, \
         count(CASE WHEN {INCOMPLETE} THEN 1 END) AS incomplete FROM repositories r \
         LEFT JOIN installations i ON i.id = r.installation_id \
         WHERE {condition} GROUP BY r.sync_status"
    ));
    let query = team
        .into_iter()
        .fold(query, |query, team| query.bind(team.0));
    let rows: Vec<StatusRow> = database.rows(query).await?;
    let mut counts = RepositoryCounts::default();
    for row in rows {
        *counts.of_status(row.sync_status.0) += row.repositories.unsigned_abs();
        counts.incomplete += row.incomplete.unsigned_abs();
    }
    Ok(counts)
}

async fn backfill_counts(database: &Database, scope: TeamScope) -> Result<BackfillCounts> {
    let millis = match database.is_sqlite() {
        true => "finished_at - started_at",
        false => "extract(epoch FROM finished_at - started_at) * 1000",
    };
    let mut query = StatementBuilder::new(format!(
        "SELECT state, count(*) AS runs, \
         CAST(coalesce(sum(prs_done), 0) AS bigint) AS pull_requests, \
         CAST(coalesce(sum({millis}), 0) AS bigint) AS millis FROM sync_runs WHERE true"
    ));
    scope.push_each(&mut query, "sync_runs.repo_id");
    query.push(" GROUP BY state");
    let rows: Vec<RunStateRow> = database.rows(query.build()).await?;
    let mut counts = BackfillCounts::default();
    for row in rows {
        let state = row.state.0;
        *counts.of_state(state) += row.runs.unsigned_abs();
        if state == RunState::Done {
            counts.pull_requests = row.pull_requests.unsigned_abs();
            counts.seconds = row.millis.unsigned_abs() / 1000;
        }
    }
    Ok(counts)
}
