//! Rows about the synchronisation with GitHub.

use sqlx::FromRow;
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::github::types::{PrNumber, RepoId};

use crate::columns::{Millis, Name, Seconds, from_json};
use crate::{
    PollerStats, RepositoryGap, RunState, StoreError, SyncRun, SyncRunId, SyncStatus,
    TrackedRepository, WatchCounts, WatchedPullRequest,
};

#[derive(FromRow)]
pub(crate) struct TrackedRow {
    id: i64,
    name: String,
    private: Option<bool>,
    access: Name<RepositoryAccess>,
    tracked: bool,
    tracked_since: Millis,
    sync_status: Name<SyncStatus>,
    last_sync_at: Option<Millis>,
    last_error: Option<String>,
    last_delivery_at: Option<Millis>,
    watermark: Option<Seconds>,
    reconciled_at: Option<Millis>,
    complete_since: Option<Seconds>,
    missed_by_webhook: i64,
}

impl From<TrackedRow> for TrackedRepository {
    fn from(row: TrackedRow) -> Self {
        Self {
            id: RepoId(row.id),
            name: row.name,
            private: row.private,
            access: row.access.0,
            is_tracked: row.tracked,
            tracked_since: row.tracked_since.0,
            sync_status: row.sync_status.0,
            last_sync_at: row.last_sync_at.map(|Millis(at)| at),
            last_error: row.last_error,
            last_delivery_at: row.last_delivery_at.map(|Millis(at)| at),
            watermark: row.watermark.map(|Seconds(at)| at),
            reconciled_at: row.reconciled_at.map(|Millis(at)| at),
            complete_since: row.complete_since.map(|Seconds(at)| at),
            missed_by_webhook: row.missed_by_webhook.unsigned_abs(),
        }
    }
}

#[derive(FromRow)]
pub(crate) struct GapRow {
    repo: String,
    is_lost: bool,
    access_at: Seconds,
    last_error: Option<String>,
    last_sync_at: Option<Millis>,
    complete_since: Option<Seconds>,
}

impl From<GapRow> for RepositoryGap {
    fn from(row: GapRow) -> Self {
        Self {
            repo: row.repo,
            is_lost: row.is_lost,
            access_at: row.access_at.0,
            last_error: row.last_error,
            last_sync_at: row.last_sync_at.map(|Millis(at)| at),
            complete_since: row.complete_since.map(|Seconds(at)| at),
        }
    }
}

#[derive(FromRow)]
pub(crate) struct RunRow {
    id: i64,
    repo_id: i64,
    repo_name: String,
    state: Name<RunState>,
    options: String,
    walk: Option<String>,
    prs_done: i64,
    prs_total: Option<i64>,
    reviews_synced: i64,
    errors: String,
    error: Option<String>,
    github_requests: i64,
    complete_since: Option<Seconds>,
    asked_at: Millis,
    started_at: Option<Millis>,
    finished_at: Option<Millis>,
    lease: i64,
}

impl TryFrom<RunRow> for SyncRun {
    type Error = StoreError;

    fn try_from(row: RunRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: SyncRunId(row.id),
            repo: RepoId(row.repo_id),
            repo_name: row.repo_name,
            state: row.state.0,
            options: from_json(&row.options)?,
            walk: row.walk,
            prs_done: row.prs_done.unsigned_abs(),
            prs_total: row.prs_total.map(i64::unsigned_abs),
            reviews_synced: row.reviews_synced.unsigned_abs(),
            errors: from_json(&row.errors)?,
            error: row.error,
            github_requests: row.github_requests.unsigned_abs(),
            complete_since: row.complete_since.map(|Seconds(at)| at),
            asked_at: row.asked_at.0,
            started_at: row.started_at.map(|Millis(at)| at),
            finished_at: row.finished_at.map(|Millis(at)| at),
            lease: row.lease,
        })
    }
}

#[derive(FromRow)]
pub(crate) struct WatchedRow {
    repo_name: String,
    number: i64,
    since: Millis,
    checked_at: Option<Millis>,
    failures: i64,
    error: Option<String>,
}

impl From<WatchedRow> for WatchedPullRequest {
    fn from(row: WatchedRow) -> Self {
        Self {
            repo_name: row.repo_name,
            number: PrNumber(row.number),
            since: row.since.0,
            checked_at: row.checked_at.map(|Millis(at)| at),
            failures: row.failures.unsigned_abs(),
            error: row.error,
        }
    }
}

#[derive(FromRow)]
pub(crate) struct WatchCountsRow {
    watched: i64,
    due: i64,
    failing: i64,
}

impl From<WatchCountsRow> for WatchCounts {
    fn from(row: WatchCountsRow) -> Self {
        let WatchCountsRow {
            watched,
            due,
            failing,
        } = row;
        let [watched, due, failing] = [watched, due, failing].map(i64::unsigned_abs);
        Self {
            watched,
            due,
            failing,
        }
    }
}

#[derive(FromRow)]
pub(crate) struct PollerRow {
    running_since: Option<Millis>,
    last_sync_at: Option<Millis>,
    sync_count: i64,
    error_count: i64,
    asked_at: Option<Millis>,
    statistics: Option<String>,
}

impl TryFrom<PollerRow> for PollerStats {
    type Error = StoreError;

    fn try_from(row: PollerRow) -> Result<Self, StoreError> {
        Ok(Self {
            running_since: row.running_since.map(|Millis(at)| at),
            last_sync_at: row.last_sync_at.map(|Millis(at)| at),
            sync_count: row.sync_count.unsigned_abs(),
            error_count: row.error_count.unsigned_abs(),
            asked_at: row.asked_at.map(|Millis(at)| at),
            statistics: row.statistics.as_deref().map(from_json).transpose()?,
        })
    }
}
