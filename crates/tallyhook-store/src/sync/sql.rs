//! Statements about tracked repositories, watched pull requests and the poller.

use std::collections::BTreeMap;

use tallyhook_core::domain::repository::Repository;
use tallyhook_core::github::types::{InstallationId, PrKey, PrNumber, RepoId};

use super::row::{GapRow, PollerRow, TrackedRow, WatchCountsRow, WatchedRow};
use super::runs::UNFINISHED;
use super::totals::INCOMPLETE;
use super::{
    PollerStats, RepositoryFilter, RepositoryGap, SyncOutcome, TrackedRepository, WatchCounts,
    WatchedPullRequest,
};
use crate::columns::{Millis, Name, Seconds, storable_text, whole};
use crate::database::{Database, StatementBuilder, Transaction, statement};
use crate::{BatchWrite, Moment, RepositoryObservation, Result, Store, TeamId, TeamStore};

const LISTED: &str = "SELECT r.id, r.name, r.private, \
    CASE WHEN r.access = 'granted' AND i.access = 'revoked' THEN 'revoked' \
    ELSE r.access END AS access, \
    r.tracked, r.tracked_since, r.sync_status, r.last_sync_at, r.last_error, r.last_delivery_at, r.watermark, \
    r.reconciled_at, r.complete_since, r.missed_by_webhook \
    FROM repositories r LEFT JOIN installations i ON i.id = r.installation_id WHERE";

/// The same of the repositories of the team `$1`, as it tracks them.
const LISTED_OF_TEAM: &str = "SELECT r.id, r.name, r.private, \
    CASE WHEN r.access = 'granted' AND i.access = 'revoked' THEN 'revoked' \
    ELSE r.access END AS access, \
    t.tracked, r.tracked_since, \
    CASE WHEN t.tracked THEN r.sync_status ELSE 'pending' END AS sync_status, \
    r.last_sync_at, CASE WHEN t.tracked THEN r.last_error END AS last_error, \
    r.last_delivery_at, r.watermark, r.reconciled_at, r.complete_since, r.missed_by_webhook \
    FROM team_repositories t JOIN repositories r ON r.id = t.repo_id \
    LEFT JOIN installations i ON i.id = r.installation_id WHERE t.team_id = ";

/// The error of the newest backfill of the repository `$1`, which stands until one succeeds.
const LAST_RUN_ERROR: &str = "(SELECT CASE WHEN state <> 'cancelled' THEN error END \
    FROM sync_runs WHERE repo_id = $1 ORDER BY id DESC LIMIT 1)";

/// The most repositories of which something is missing that are named.
const GAPS: u32 = 100;

impl Store {
    /// Tracks a repository from now on, as one that was never fetched, for every team that sees it,
    /// and records its observation. Returns `false` if it was tracked.
    pub async fn track(&self, repository: &Repository, now: Moment) -> Result<bool> {
        self.observe(repository, now).await?;
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let is_new = track(&mut transaction, repository.id, now).await?;
        let update = statement(
            "UPDATE team_repositories SET tracked = true WHERE repo_id = $1 AND NOT tracked",
        );
        transaction.execute(update.bind(repository.id.0)).await?;
        transaction.commit().await?;
        Ok(is_new)
    }

    /// Records the observation of a repository.
    async fn observe(&self, repository: &Repository, now: Moment) -> Result<()> {
        let sighting = RepositoryObservation {
            repository: repository.clone(),
            former_names: BTreeMap::new(),
            last_delivery: None,
            tracks: None,
        };
        let seen = BatchWrite {
            repositories: vec![sighting],
            ..BatchWrite::default()
        };
        while self.record(&seen, now).await?.is_err() {}
        Ok(())
    }

    /// Returns the installations whose access was lost after `since`.
    pub async fn lost_installations(&self, since: Moment) -> Result<Vec<InstallationId>> {
        let query = "SELECT id FROM installations WHERE access = 'revoked' AND access_at > $1";
        let query = statement(query).bind(Seconds(since.into()));
        let rows: Vec<(i64,)> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(|(id,)| InstallationId(id)).collect())
    }

    /// By name.
    pub async fn tracked(&self) -> Result<Vec<TrackedRepository>> {
        let rows = self
            .database
            .rows(statement(format!(
                "{LISTED} r.tracked ORDER BY r.name, r.id"
            )))
            .await?;
        Ok(rows.into_iter().map(|row: TrackedRow| row.into()).collect())
    }
}

impl TeamStore {
    /// Tracks a repository from now on, as [`Store::track`], for this team. The team sees it from
    /// now on. Returns `false` if it tracked it.
    pub async fn track(&self, repository: &Repository, now: Moment) -> Result<bool> {
        self.store.observe(repository, now).await?;
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let is_new = track(&mut transaction, repository.id, now).await?;
        let insert = statement(
            "INSERT INTO team_repositories AS known (team_id, repo_id, tracked) \
             VALUES ($1, $2, true) ON CONFLICT (team_id, repo_id) DO UPDATE SET tracked = true \
             WHERE NOT known.tracked",
        );
        let insert = insert.bind(self.team.0).bind(repository.id.0);
        let is_new_here = transaction.execute(insert).await? == 1;
        transaction.commit().await?;
        Ok(is_new || is_new_here)
    }

    /// Stops tracking a repository for this team. If no other team tracks it, it is tracked no more:
    /// its run is cancelled, and later deliveries do not track it again, but show as its last one.
    /// Facts stay. Returns `false` if the team did not track it.
    pub async fn untrack(&self, repo: RepoId, now: Moment) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        // The repository first, as everywhere, so that two transactions cannot deadlock.
        let lock = statement("UPDATE repositories SET tracked = tracked WHERE id = $1");
        transaction.execute(lock.bind(repo.0)).await?;
        let update = statement(
            "UPDATE team_repositories SET tracked = false WHERE team_id = $1 AND repo_id = $2 \
             AND tracked",
        );
        let update = update.bind(self.team.0).bind(repo.0);
        if transaction.execute(update).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        let update = "UPDATE repositories SET tracked = false, sync_status = 'pending', \
                      last_error = NULL, last_delivery_at = NULL WHERE id = $1 AND tracked \
                      AND NOT EXISTS (SELECT 1 FROM team_repositories other \
                          WHERE other.repo_id = $1 AND other.team_id <> $2 AND other.tracked)";
        let update = statement(update).bind(repo.0).bind(self.team.0);
        if transaction.execute(update).await? == 1 {
            let cancel = format!(
                "UPDATE sync_runs SET state = 'cancelled', finished_at = $2 WHERE repo_id = $1 \
                 AND {UNFINISHED}"
            );
            transaction
                .execute(statement(cancel).bind(repo.0).bind(Millis(now)))
                .await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns those after `after`, at most `limit`, by name and id; without a filter also those that
    /// are no longer tracked and of which webhooks arrived since.
    pub async fn listed_after(
        &self,
        filter: RepositoryFilter,
        after: Option<&(String, RepoId)>,
        limit: u32,
    ) -> Result<Vec<TrackedRepository>> {
        let mut query = StatementBuilder::new(LISTED_OF_TEAM);
        query.push_bind(self.team.0);
        push_filter(&mut query, filter);
        if let Some((name, id)) = after {
            query
                .push(" AND (r.name, r.id) > (")
                .push_bind(name.as_str())
                .push(", ")
                .push_bind(id.0)
                .push(")");
        }
        query
            .push(" ORDER BY r.name, r.id LIMIT ")
            .push_bind(i64::from(limit));
        let rows: Vec<TrackedRow> = self.database.rows(query.build()).await?;
        Ok(rows.into_iter().map(TrackedRepository::from).collect())
    }

    /// Counts the repositories of a list.
    pub async fn count_listed(&self, filter: RepositoryFilter) -> Result<u64> {
        let mut query = StatementBuilder::new(
            "SELECT count(*) FROM team_repositories t JOIN repositories r ON r.id = t.repo_id \
             LEFT JOIN installations i ON i.id = r.installation_id WHERE t.team_id = ",
        );
        query.push_bind(self.team.0);
        push_filter(&mut query, filter);
        let row: Option<(i64,)> = self.database.row(query.build()).await?;
        Ok(row.map_or(0, |(count,)| count.unsigned_abs()))
    }

    /// Returns the earliest of the last synchronisations that went well, `None` if a repository had
    /// none, and the repositories of which something is missing, at most `GAPS`; over the tracked
    /// ones, or of one.
    pub async fn repository_gaps(
        &self,
        repo: Option<RepoId>,
    ) -> Result<(Option<Moment>, Vec<RepositoryGap>)> {
        let repo = repo.map(|repo| repo.0);
        let vouched = statement(
            "SELECT CASE WHEN count(r.last_sync_at) = count(*) THEN min(r.last_sync_at) END \
             FROM team_repositories t JOIN repositories r ON r.id = t.repo_id \
             WHERE t.team_id = $2 AND t.tracked AND ($1 IS NULL OR t.repo_id = $1)",
        );
        let vouched = vouched.bind(repo).bind(self.team.0);
        let vouched: Option<(Option<Millis>,)> = self.database.row(vouched).await?;
        let query = format!(
            "SELECT r.name AS repo, \
             r.access <> 'granted' OR coalesce(i.access = 'revoked', false) AS is_lost, \
             r.access_at, r.last_error, r.last_sync_at, r.complete_since \
             FROM team_repositories t JOIN repositories r ON r.id = t.repo_id \
             LEFT JOIN installations i ON i.id = r.installation_id \
             WHERE t.team_id = $2 AND t.tracked AND ($1 IS NULL OR t.repo_id = $1) \
             AND {INCOMPLETE} ORDER BY repo LIMIT {GAPS}"
        );
        let query = statement(query).bind(repo).bind(self.team.0);
        let rows: Vec<GapRow> = self.database.rows(query).await?;
        let gaps = rows.into_iter().map(RepositoryGap::from).collect();
        let vouched = vouched.and_then(|(at,)| at).map(|Millis(at)| at);
        Ok((vouched, gaps))
    }

    /// Counts the changes that the poller found in tracked repositories and no webhook brought.
    pub async fn missed_by_webhook(&self) -> Result<u64> {
        let query = "SELECT CAST(coalesce(sum(r.missed_by_webhook), 0) AS bigint) \
                     FROM team_repositories t JOIN repositories r ON r.id = t.repo_id \
                     WHERE t.team_id = $1 AND t.tracked";
        let query = statement(query).bind(self.team.0);
        let row: Option<(i64,)> = self.database.row(query).await?;
        Ok(row.map_or(0, |(missed,)| missed.unsigned_abs()))
    }

    /// Returns the reception of the oldest pending delivery of any team: how old an answer may be.
    pub async fn oldest_pending(&self) -> Result<Option<Moment>> {
        self.store.oldest_pending().await
    }

    /// Returns a repository that the team tracks.
    pub async fn tracked_repository(&self, repo: RepoId) -> Result<Option<TrackedRepository>> {
        let query = format!("{LISTED_OF_TEAM} $1 AND t.tracked AND r.id = $2");
        let query = statement(query).bind(self.team.0).bind(repo.0);
        let row: Option<TrackedRow> = self.database.row(query).await?;
        Ok(row.map(TrackedRepository::from))
    }
}

impl Store {
    /// Returns a repository that any team tracks.
    pub async fn tracked_repository(&self, repo: RepoId) -> Result<Option<TrackedRepository>> {
        let query = statement(format!("{LISTED} r.tracked AND r.id = $1")).bind(repo.0);
        let row: Option<TrackedRow> = self.database.row(query).await?;
        Ok(row.map(TrackedRepository::from))
    }

    /// Records the outcome of a synchronisation.
    pub async fn record_sync(&self, repo: RepoId, state: &SyncOutcome, now: Moment) -> Result<()> {
        let update = match state {
            SyncOutcome::Polled {
                watermark,
                reconciled,
            } => statement(format!(
                "UPDATE repositories SET last_sync_at = $2, last_error = {LAST_RUN_ERROR}, \
                 sync_status = CASE WHEN {LAST_RUN_ERROR} IS NOT NULL THEN 'error' \
                     WHEN EXISTS (SELECT 1 FROM sync_runs WHERE repo_id = $1 AND {UNFINISHED}) \
                     THEN 'syncing' ELSE 'synced' END, \
                 watermark = CASE WHEN watermark IS NULL OR watermark < $3 THEN $3 \
                 ELSE watermark END, \
                 reconciled_at = CASE WHEN $4 = 1 THEN $2 ELSE reconciled_at END WHERE id = $1"
            ))
            .bind(repo.0)
            .bind(Millis(now))
            .bind(watermark.map(Seconds))
            .bind(i64::from(*reconciled)),
            SyncOutcome::Failed(error) => statement(
                "UPDATE repositories SET sync_status = 'error', \
                           last_error = $2 WHERE id = $1",
            )
            .bind(repo.0)
            .bind(storable_text(error)),
        };
        self.database.execute(update).await.map(|_| ())
    }

    /// Pull requests of a tracked repository of which only parts were ever seen, or which are open
    /// and have requests for reviews that do not say of what kind the reviewer is; about which GitHub
    /// was not asked since `checked_before`: the oldest check first, before them those without one,
    /// of these the newest first.
    pub async fn incomplete_pull_requests(
        &self,
        repo: RepoId,
        checked_before: Moment,
        limit: u32,
    ) -> Result<Vec<PrNumber>> {
        // SQLite has no statistics that show how few they are.
        let [unfetched, partial] = match self.database {
            Database::Sqlite(_) => [
                "INDEXED BY pull_requests_unfetched",
                "INDEXED BY pull_requests_with_partial_requests",
            ],
            Database::Postgres(_) => ["", ""],
        };
        let query = format!(
            "SELECT p.number FROM (\
                 SELECT number FROM pull_requests {unfetched} \
                 WHERE repo_id = $1 AND full_updated_at IS NULL \
                 UNION SELECT number FROM pull_requests {partial} \
                 WHERE repo_id = $1 AND has_partial_requests AND is_open) AS p \
             LEFT JOIN checks c ON c.repo_id = $1 AND c.number = p.number \
             WHERE (c.checked_at IS NULL OR c.checked_at < $2) \
             AND EXISTS (SELECT 1 FROM repositories WHERE id = $1 AND tracked) \
             ORDER BY c.checked_at NULLS FIRST, p.number DESC LIMIT $3"
        );
        let query = statement(query)
            .bind(repo.0)
            .bind(Millis(checked_before))
            .bind(i64::from(limit));
        let rows: Vec<(i64,)> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(|(number,)| PrNumber(number)).collect())
    }

    /// Records that GitHub was asked about just these, and that its answers are in the inbox.
    pub async fn mark_checked(&self, keys: &[PrKey], at: Moment) -> Result<()> {
        // In key order, so that two transactions cannot deadlock.
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        for key in keys {
            let upsert = "INSERT INTO checks AS known (repo_id, number, checked_at) \
                          VALUES ($1, $2, $3) \
                          ON CONFLICT (repo_id, number) \
                          DO UPDATE SET checked_at = excluded.checked_at \
                          WHERE known.checked_at < excluded.checked_at";
            transaction
                .execute(
                    statement(upsert)
                        .bind(key.repo.0)
                        .bind(key.number.0)
                        .bind(Millis(at)),
                )
                .await?;
        }
        transaction.commit().await
    }

    /// Returns those that were not checked since `due_before`, of any team, each once, the oldest
    /// check first.
    pub async fn watched(&self, due_before: Moment, limit: u32) -> Result<Vec<WatchedPullRequest>> {
        let query = statement(
            "SELECT min(repo_name) AS repo_name, number, min(since) AS since, \
             min(checked_at) AS checked_at, max(failures) AS failures, max(error) AS error \
             FROM monitors WHERE checked_at IS NULL OR checked_at < $1 \
             GROUP BY repo_key, number \
             ORDER BY min(checked_at) NULLS FIRST, repo_key, number LIMIT $2",
        );
        let rows = self
            .database
            .rows(query.bind(Millis(due_before)).bind(i64::from(limit)))
            .await?;
        Ok(rows.into_iter().map(|row: WatchedRow| row.into()).collect())
    }
}

impl TeamStore {
    /// Watches a pull request. Returns `false` if it was watched.
    pub async fn watch(&self, repo_name: &str, number: PrNumber, now: Moment) -> Result<bool> {
        let insert = "INSERT INTO monitors (team_id, repo_key, repo_name, number, since) \
                      VALUES ($1, $2, $3, $4, $5) \
                      ON CONFLICT (team_id, repo_key, number) DO NOTHING";
        let insert = statement(insert)
            .bind(self.team.0)
            .bind(name_key(repo_name))
            .bind(storable_text(repo_name));
        Ok(self
            .database
            .execute(insert.bind(number.0).bind(Millis(now)))
            .await?
            == 1)
    }

    /// `false` if it was not watched.
    pub async fn unwatch(&self, repo_name: &str, number: PrNumber) -> Result<bool> {
        let delete =
            statement("DELETE FROM monitors WHERE team_id = $1 AND repo_key = $2 AND number = $3");
        let delete = delete.bind(self.team.0).bind(name_key(repo_name));
        Ok(self.database.execute(delete.bind(number.0)).await? == 1)
    }

    /// Returns the watch of one pull request; `None` if it is not watched.
    pub async fn watch_of(
        &self,
        repo_name: &str,
        number: PrNumber,
    ) -> Result<Option<WatchedPullRequest>> {
        let query = statement(
            "SELECT repo_name, number, since, checked_at, failures, error FROM monitors \
             WHERE team_id = $1 AND repo_key = $2 AND number = $3",
        );
        let query = query.bind(self.team.0).bind(name_key(repo_name));
        let query = query.bind(number.0);
        let row: Option<WatchedRow> = self.database.row(query).await?;
        Ok(row.map(WatchedPullRequest::from))
    }

    /// Returns those whose last fetch failed, the latest first.
    pub async fn failing_watches(&self, limit: u32) -> Result<Vec<WatchedPullRequest>> {
        failing_watches(&self.database, Some(self.team), limit).await
    }

    /// Counts watched pull requests. Those that were not checked since `due_before` are due.
    pub async fn watch_counts(&self, due_before: Moment) -> Result<WatchCounts> {
        watch_counts(&self.database, Some(self.team), due_before).await
    }
}

impl Store {
    /// Counts the changes that the poller found in tracked repositories and no webhook brought.
    pub async fn missed_by_webhook(&self) -> Result<u64> {
        let query = "SELECT CAST(coalesce(sum(missed_by_webhook), 0) AS bigint) \
                     FROM repositories WHERE tracked";
        let row: Option<(i64,)> = self.database.row(statement(query)).await?;
        Ok(row.map_or(0, |(missed,)| missed.unsigned_abs()))
    }

    /// Returns those of all teams whose last fetch failed, the latest first.
    pub async fn failing_watches(&self, limit: u32) -> Result<Vec<WatchedPullRequest>> {
        failing_watches(&self.database, None, limit).await
    }

    /// Counts watched pull requests of all teams. Those that were not checked since `due_before` are
    /// due.
    pub async fn watch_counts(&self, due_before: Moment) -> Result<WatchCounts> {
        watch_counts(&self.database, None, due_before).await
    }

    /// Ends the watches of a pull request, of every team.
    pub async fn end_watches(&self, repo_name: &str, number: PrNumber) -> Result<()> {
        let delete = statement("DELETE FROM monitors WHERE repo_key = $1 AND number = $2");
        let delete = delete.bind(name_key(repo_name)).bind(number.0);
        self.database.execute(delete).await.map(|_| ())
    }

    /// Records a check of a watched pull request, for every team that watches it, with its error if
    /// it failed.
    pub async fn record_watch_check(
        &self,
        repo_name: &str,
        number: PrNumber,
        now: Moment,
        outcome: std::result::Result<(), &str>,
    ) -> Result<()> {
        let update = statement(
            "UPDATE monitors SET checked_at = $3, error = $4, \
             failures = CASE WHEN $4 IS NULL THEN 0 ELSE failures + 1 END \
             WHERE repo_key = $1 AND number = $2",
        );
        let update = update
            .bind(name_key(repo_name))
            .bind(number.0)
            .bind(Millis(now))
            .bind(outcome.err().map(storable_text));
        self.database.execute(update).await.map(|_| ())
    }

    pub async fn poller_stats(&self) -> Result<PollerStats> {
        let query = "SELECT running_since, last_sync_at, sync_count, error_count, asked_at, \
                     statistics FROM poller WHERE id = 1";
        let rows = self.database.rows(statement(query)).await?;
        rows.into_iter()
            .next()
            .map_or(Ok(PollerStats::default()), |row: PollerRow| row.try_into())
    }

    /// Requests a round of the poller, after the one that may be running.
    pub async fn request_poll(&self, now: Moment) -> Result<()> {
        let update = statement("UPDATE poller SET asked_at = $1 WHERE id = 1");
        self.database
            .execute(update.bind(Millis(now)))
            .await
            .map(|_| ())
    }

    pub async fn start_poll(&self, now: Moment) -> Result<()> {
        let update =
            statement("UPDATE poller SET running_since = $1, asked_at = NULL WHERE id = 1");
        self.database
            .execute(update.bind(Millis(now)))
            .await
            .map(|_| ())
    }

    /// Records the end of a round, in which `errors` repositories failed.
    pub async fn finish_poll(
        &self,
        now: Moment,
        errors: u64,
        statistics: &serde_json::Value,
    ) -> Result<()> {
        let update = statement(
            "UPDATE poller SET running_since = NULL, last_sync_at = $1, \
             sync_count = sync_count + 1, \
             error_count = error_count + $2, statistics = $3 WHERE id = 1",
        );
        self.database
            .execute(
                update
                    .bind(Millis(now))
                    .bind(whole(errors))
                    .bind(statistics.to_string()),
            )
            .await
            .map(|_| ())
    }
}

/// Tracks a repository, as one that was never fetched. Returns `false` if it was tracked.
async fn track(transaction: &mut Transaction<'_>, repo: RepoId, now: Moment) -> Result<bool> {
    // Comparisons from before it was untracked say nothing about the time between.
    let update = "UPDATE repositories SET tracked = true, tracked_since = $1, \
                  complete_since = NULL, \
                  watermark = NULL, reconciled_at = NULL, last_error = NULL WHERE id = $2 \
                  AND NOT tracked";
    let update = statement(update).bind(Millis(now)).bind(repo.0);
    Ok(transaction.execute(update).await? == 1)
}

/// Reads the watched pull requests of a team, or of all, whose last fetch failed.
async fn failing_watches(
    database: &Database,
    team: Option<TeamId>,
    limit: u32,
) -> Result<Vec<WatchedPullRequest>> {
    let query = statement(
        "SELECT repo_name, number, since, checked_at, failures, error FROM monitors \
         WHERE team_id = coalesce($1, team_id) AND error IS NOT NULL \
         ORDER BY checked_at DESC, repo_key, number LIMIT $2",
    );
    let query = query.bind(team.map(|TeamId(id)| id)).bind(i64::from(limit));
    let rows: Vec<WatchedRow> = database.rows(query).await?;
    Ok(rows.into_iter().map(WatchedPullRequest::from).collect())
}

/// Counts the watched pull requests of a team, or of all.
async fn watch_counts(
    database: &Database,
    team: Option<TeamId>,
    due_before: Moment,
) -> Result<WatchCounts> {
    let query = "SELECT count(*) AS watched, count(error) AS failing, \
                 count(CASE WHEN checked_at IS NULL \
                 OR checked_at < $1 THEN 1 END) AS due FROM monitors \
                 WHERE team_id = coalesce($2, team_id)";
    let query = statement(query).bind(Millis(due_before));
    let query = query.bind(team.map(|TeamId(id)| id));
    let row: Option<WatchCountsRow> = database.row(query).await?;
    Ok(row.map(WatchCounts::from).unwrap_or_default())
}

fn push_filter(query: &mut StatementBuilder<'_>, filter: RepositoryFilter) {
    let RepositoryFilter {
        repo,
        status,
        incomplete,
    } = filter;
    query.push(match status.is_some() || incomplete {
        true => " AND t.tracked",
        false => " AND (t.tracked OR r.last_delivery_at IS NOT NULL)",
    });
    if let Some(repo) = repo {
        query.push(" AND r.id = ").push_bind(repo.0);
    }
    if let Some(status) = status {
        query.push(" AND r.sync_status = ");
        query.push_bind(Name(status).to_string());
    }
    if incomplete {
        query.push(" AND ").push(INCOMPLETE);
    }
}

/// A name to compare by. Names on GitHub are ASCII.
fn name_key(name: &str) -> String {
    storable_text(name).to_ascii_lowercase()
}
