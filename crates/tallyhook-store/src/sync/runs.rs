//! Statements about backfills. A transaction that writes a run and its repository locks the
//! repository first.

use tallyhook_core::github::types::RepoId;

use super::row::RunRow;
use super::types::KEPT_RUNS;
use super::{MAX_RUN_ERRORS, RunFilter, RunOptions, RunState, SyncRun, SyncRunId};
use crate::columns::{Millis, Name, Seconds, storable_text, to_json, whole};
use crate::database::{StatementBuilder, Transaction, statement};
use crate::planted_leaks::PlantedLeak;
use crate::team_store::TeamScope;
use crate::{Moment, Result, Store, TeamStore};

const RUN: &str = "SELECT s.id, s.repo_id, r.name AS repo_name, s.state, s.options, s.walk, \
    s.prs_done, s.prs_total, \
    s.reviews_synced, s.errors, s.error, s.github_requests, s.complete_since, s.asked_at, \
    s.started_at, s.finished_at, \
    s.lease FROM sync_runs s JOIN repositories r ON r.id = s.repo_id";

pub(super) const UNFINISHED: &str = "state IN ('queued', 'running')";

/// The status of a repository after the end of its run: as it was before.
const STATUS_BEFORE: &str = "CASE WHEN last_error IS NOT NULL THEN 'error' \
                             WHEN last_sync_at IS NOT NULL THEN 'synced' ELSE 'pending' END";

impl Store {
    /// Requests a run: the unfinished one of the repository if there is one; the last one, to go on
    /// where it stopped, if it failed with the same options; else a new one. `None` if the
    /// repository is not known.
    pub async fn request_run(
        &self,
        repo: RepoId,
        options: &RunOptions,
        now: Moment,
    ) -> Result<Option<SyncRun>> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        // Other requests for the same repository wait here.
        let lock = statement("UPDATE repositories SET sync_status = sync_status WHERE id = $1");
        if transaction.execute(lock.bind(repo.0)).await? == 0 {
            transaction.rollback().await?;
            return Ok(None);
        }
        let last = one(
            &mut transaction,
            " WHERE s.repo_id = $1 ORDER BY s.id DESC LIMIT 1",
            repo.0,
        )
        .await?;
        match last {
            Some(run) if !run.state.is_finished() => {
                transaction.rollback().await?;
                return Ok(Some(run));
            }
            Some(run)
                if run.state == RunState::Failed
                    && run.walk.is_some()
                    && run.options == *options =>
            {
                // Its error stands until it succeeds.
                let again = "UPDATE sync_runs SET state = 'queued', asked_at = $2, \
                             finished_at = NULL, \
                             lease = 0, leased_until = NULL WHERE id = $1";
                transaction
                    .execute(statement(again).bind(run.id.0).bind(Millis(now)))
                    .await?;
            }
            _ => {
                let new = "INSERT INTO sync_runs (repo_id, state, options, asked_at) \
                           VALUES ($1, 'queued', $2, $3)";
                let new = statement(new)
                    .bind(repo.0)
                    .bind(to_json(options)?)
                    .bind(Millis(now));
                transaction.execute(new).await?;
            }
        }
        set_status(&mut transaction, repo, "'pending'").await?;
        let run = one(
            &mut transaction,
            " WHERE s.repo_id = $1 ORDER BY s.id DESC LIMIT 1",
            repo.0,
        )
        .await?;
        transaction.commit().await?;
        Ok(run)
    }

    /// Claims the oldest run, of `only` if given, that is not leased.
    pub async fn claim_run(
        &self,
        only: Option<RepoId>,
        now: Moment,
        lease_until: Moment,
    ) -> Result<Option<SyncRun>> {
        let free = "(state = 'queued' OR state = 'running' AND leased_until <= $1)";
        let candidates = format!(
            "{RUN} WHERE s.{UNFINISHED} AND {free} AND ($2 = -1 OR s.repo_id = $2) \
             ORDER BY s.asked_at, s.id LIMIT 1"
        );
        let take = format!(
            "UPDATE sync_runs SET state = 'running', \
             started_at = coalesce(started_at, $1), lease = $3, \
             leased_until = $4 WHERE id = $2 AND {free}"
        );
        // Again if another process was faster.
        loop {
            let query = statement(candidates.clone()).bind(Millis(now));
            let rows = self
                .database
                .rows(query.bind(only.map_or(-1, |repo| repo.0)))
                .await?;
            let run = rows
                .into_iter()
                .next()
                .map(|row: RunRow| row.try_into())
                .transpose()?;
            let Some(run): Option<SyncRun> = run else {
                return Ok(None);
            };
            let mut writer = self.database.writer().await?;
            let mut transaction = writer.begin().await?;
            set_status(&mut transaction, run.repo, "'syncing'").await?;
            let lease: i64 = rand::random();
            let take = statement(take.clone()).bind(Millis(now)).bind(run.id.0);
            if transaction
                .execute(take.bind(lease).bind(Millis(lease_until)))
                .await?
                == 1
            {
                let taken = one(&mut transaction, " WHERE s.id = $1", run.id.0).await?;
                transaction.commit().await?;
                return Ok(taken);
            }
            transaction.rollback().await?;
        }
    }

    /// Saves a claimed run; in a finished state, or queued again, its lease ends. Returns `false`
    /// if it was cancelled or claimed by another process: nothing was written, and the caller
    /// stops.
    pub async fn save_run(&self, run: &SyncRun, now: Moment, lease_until: Moment) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        save_repository_status(&mut transaction, run, now).await?;
        let update = statement(
            "UPDATE sync_runs SET state = $3, walk = $4, prs_done = $5, prs_total = $6, \
             reviews_synced = $7, \
             errors = $8, error = $9, github_requests = $10, complete_since = $11, \
             finished_at = $12, \
             leased_until = $13 WHERE id = $1 AND lease = $2 AND state = 'running'",
        )
        .bind(run.id.0)
        .bind(run.lease)
        .bind(Name(run.state).to_string())
        .bind(run.walk.clone())
        .bind(whole(run.prs_done))
        .bind(run.prs_total.map(whole))
        .bind(whole(run.reviews_synced))
        .bind(to_json(
            &run.errors[..run.errors.len().min(MAX_RUN_ERRORS)],
        )?)
        .bind(run.error.as_deref().map(storable_text))
        .bind(whole(run.github_requests))
        .bind(run.complete_since.map(Seconds))
        .bind(run.state.is_finished().then_some(Millis(now)))
        .bind((run.state == RunState::Running).then_some(Millis(lease_until)));
        if transaction.execute(update).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        if run.state.is_finished() {
            let old = format!(
                "DELETE FROM sync_runs WHERE repo_id = $1 AND NOT {UNFINISHED} AND id NOT IN (\
                 SELECT id FROM sync_runs WHERE repo_id = $1 AND NOT {UNFINISHED} \
                 ORDER BY id DESC LIMIT $2)"
            );
            transaction
                .execute(statement(old).bind(run.repo.0).bind(KEPT_RUNS))
                .await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Renews the lease of a claimed run. Returns `false` as [`save_run`](Self::save_run).
    pub async fn renew_run(&self, run: &SyncRun, lease_until: Moment) -> Result<bool> {
        let renew = "UPDATE sync_runs SET leased_until = $3 WHERE id = $1 AND lease = $2 \
                     AND state = 'running'";
        let renew = statement(renew)
            .bind(run.id.0)
            .bind(run.lease)
            .bind(Millis(lease_until));
        Ok(self.database.execute(renew).await? == 1)
    }
}

impl TeamStore {
    /// Cancels a run. Returns `false` if it is finished or not known.
    pub async fn cancel_run(&self, run: SyncRunId, now: Moment) -> Result<bool> {
        let Some(SyncRun { repo, .. }) = self.sync_run(run).await? else {
            return Ok(false);
        };
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        set_status(&mut transaction, repo, STATUS_BEFORE).await?;
        let cancel = format!(
            "UPDATE sync_runs SET state = 'cancelled', finished_at = $2 WHERE id = $1 \
             AND {UNFINISHED}"
        );
        if transaction
            .execute(statement(cancel).bind(run.0).bind(Millis(now)))
            .await?
            == 0
        {
            transaction.rollback().await?;
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns a run of one of the team's repositories.
    pub async fn sync_run(&self, run: SyncRunId) -> Result<Option<SyncRun>> {
        let mut query = StatementBuilder::new(format!("{RUN} WHERE s.id = "));
        query.push_bind(run.0);
        self.plain_scope().push_each(&mut query, "s.repo_id");
        let row: Option<RunRow> = self.database.row(query.build()).await?;
        row.map(RunRow::try_into).transpose()
    }

    /// Returns runs, the newest first; those before `before` in that order, if given.
    pub async fn sync_runs(
        &self,
        filter: &RunFilter,
        before: Option<SyncRunId>,
        limit: u32,
    ) -> Result<Vec<SyncRun>> {
        let mut query = StatementBuilder::new(RUN);
        push_filter(&mut query, filter, self.plain_scope());
        if let Some(before) = before {
            query.push(" AND s.id < ").push_bind(before.0);
        }
        query.push(" ORDER BY s.id DESC LIMIT ");
        query.push_bind(i64::from(limit));
        let rows = self.database.rows(query.build()).await?;
        rows.into_iter().map(|row: RunRow| row.try_into()).collect()
    }

    /// Counts runs.
    pub async fn count_runs(&self, filter: &RunFilter) -> Result<u64> {
        let mut query = StatementBuilder::new("SELECT count(*) FROM sync_runs s");
        push_filter(&mut query, filter, self.plain_scope());
        let row: Option<(i64,)> = self.database.row(query.build()).await?;
        Ok(row.map_or(0, |(count,)| count.unsigned_abs()))
    }
}

impl Store {
    /// Returns a run of any repository, for the process that walks it.
    pub async fn sync_run(&self, run: SyncRunId) -> Result<Option<SyncRun>> {
        let query = statement(format!("{RUN} WHERE s.id = $1")).bind(run.0);
        let row: Option<RunRow> = self.database.row(query).await?;
        row.map(RunRow::try_into).transpose()
    }

    /// Returns the runs of these repositories, the newest first.
    pub async fn runs_of(&self, repos: &[RepoId]) -> Result<Vec<SyncRun>> {
        if repos.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = StatementBuilder::new(format!("{RUN} WHERE s.repo_id IN ("));
        for (place, repo) in repos.iter().enumerate() {
            query.push(if place == 0 { "" } else { ", " });
            query.push_bind(repo.0);
        }
        query.push(") ORDER BY s.id DESC");
        let rows = self.database.rows(query.build().persistent(false)).await?;
        rows.into_iter().map(|row: RunRow| row.try_into()).collect()
    }

    /// Returns the newest run of each repository.
    pub async fn latest_runs(&self) -> Result<Vec<SyncRun>> {
        let query = format!("{RUN} WHERE s.id IN (SELECT max(id) FROM sync_runs GROUP BY repo_id)");
        let rows = self.database.rows(statement(query)).await?;
        rows.into_iter().map(|row: RunRow| row.try_into()).collect()
    }
}

fn push_filter(query: &mut StatementBuilder<'_>, filter: &RunFilter, scope: TeamScope) {
    query.push(" WHERE true");
    if !PlantedLeak::SyncRuns.is_planted() {
        scope.push_each(query, "s.repo_id");
    }
    if let Some(repo) = filter.repo {
        query.push(" AND s.repo_id = ").push_bind(repo.0);
    }
    for (place, state) in filter.states.iter().enumerate() {
        query.push(match place {
            0 => " AND s.state IN (",
            _ => ", ",
        });
        query.push_bind(Name(*state).to_string());
    }
    if !filter.states.is_empty() {
        query.push(")");
    }
}

/// Reads the first run that matches a condition about `id`.
async fn one(
    transaction: &mut Transaction<'_>,
    condition: &str,
    id: i64,
) -> Result<Option<SyncRun>> {
    let rows = transaction
        .rows(statement(format!("{RUN}{condition}")).bind(id))
        .await?;
    rows.into_iter()
        .next()
        .map(|row: RunRow| row.try_into())
        .transpose()
}

/// Shows the state of a run in the sync status of its repository.
async fn save_repository_status(
    transaction: &mut Transaction<'_>,
    run: &SyncRun,
    now: Moment,
) -> Result<()> {
    match run.state {
        RunState::Done => {
            let synced = "UPDATE repositories SET last_sync_at = $2, last_error = $4, \
                sync_status = CASE WHEN $4 IS NULL THEN 'synced' ELSE 'error' END, \
                complete_since = CASE WHEN $3 < complete_since THEN $3 \
                ELSE coalesce(complete_since, $3) END WHERE id = $1";
            let synced = statement(synced).bind(run.repo.0).bind(Millis(now));
            let synced = synced.bind(run.complete_since.map(Seconds));
            transaction
                .execute(synced.bind(run.error.as_deref().map(storable_text)))
                .await?;
        }
        RunState::Running if run.error.is_none() => {
            set_status(transaction, run.repo, "'syncing'").await?;
        }
        // One that waits for GitHub failed so far.
        RunState::Failed | RunState::Running => {
            let failed =
                "UPDATE repositories SET sync_status = 'error', last_error = $2 WHERE id = $1";
            let failed = statement(failed)
                .bind(run.repo.0)
                .bind(run.error.as_deref().map(storable_text));
            transaction.execute(failed).await?;
        }
        RunState::Cancelled => set_status(transaction, run.repo, STATUS_BEFORE).await?,
        RunState::Queued => set_status(transaction, run.repo, "'pending'").await?,
    }
    Ok(())
}

async fn set_status(transaction: &mut Transaction<'_>, repo: RepoId, status: &str) -> Result<()> {
    let update = format!("UPDATE repositories SET sync_status = {status} WHERE id = $1");
    transaction
        .execute(statement(update).bind(repo.0))
        .await
        .map(|_| ())
}
