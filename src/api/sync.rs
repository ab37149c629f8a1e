//! What GitHub is asked for: backfills, and the poller's rounds.

use actix_web::{HttpResponse, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::github::types::Timestamp;
use tallyhook_store::{
    ChannelBacklog, Moment, PullRequestError, RunOptions, RunState, SyncRun, SyncRunId, WatchCounts,
};
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ErrorBody};
use super::page::{self, Page};
use super::{Api, rfc3339};
use crate::config::{MOST_DAYS_BACK, MOST_PRS};

/// A backfill.
#[derive(Debug, Serialize, ToSchema)]
pub struct SyncRunItem {
    pub id: i64,
    #[schema(example = "acme-corp/api-server")]
    pub repo: String,
    pub state: RunState,
    pub options: RunOptions,
    pub prs_done: u64,
    /// Null until GitHub told.
    pub prs_total: Option<u64>,
    pub reviews_synced: u64,
    /// Pull requests that could not be fetched. The others were.
    pub errors: Vec<PullRequestError>,
    /// What ended it.
    pub error: Option<String>,
    pub github_requests: u64,
    /// Set when it is done: every pull request that was updated since then was fetched.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub complete_since: Option<Timestamp>,
    #[schema(value_type = String, format = "date-time")]
    pub asked_at: String,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub started_at: Option<String>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub finished_at: Option<String>,
    /// While it is running, at the pace that it had so far.
    pub eta_seconds: Option<u64>,
}

/// How far a backfill goes back; what is not told is as the settings say.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AskedRun {
    days_back: Option<u32>,
    max_prs: Option<u32>,
    /// Whether the dates of commits are asked for.
    commits: Option<bool>,
}

/// Asks for a backfill of a tracked repository. While one is under way that one is meant; one that failed goes on where it
/// stopped.
#[utoipa::path(
    post, path = "/api/repos/{owner}/{repo}/sync", tag = "repositories", operation_id = "sync_repository",
    security(("token" = [])), params(("owner" = String, Path), ("repo" = String, Path)),
    request_body = Option<AskedRun>,
    responses(
        (status = 202, description = "`sync_run` is its id"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "it is not tracked"),
        (status = 409, body = ErrorBody, description = "`github_access_missing`"),
    )
)]
pub(super) async fn start(
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
    body: web::Bytes,
) -> Result<HttpResponse, ApiError> {
    api.github()?;
    let asked = asked(&body)?;
    let tracked = api.tracked(&path.0, &path.1).await?;
    let usual = RunOptions::from(api.sync.backfill);
    let options = RunOptions {
        days_back: asked.days_back.unwrap_or(usual.days_back),
        max_prs: asked.max_prs.unwrap_or(usual.max_prs),
        commits: asked.commits.unwrap_or(usual.commits),
    };
    let run = api
        .store
        .request_run(tracked.id, &options, Utc::now())
        .await?;
    let run = run.ok_or(ApiError::NotFound("tracked repository"))?;
    Ok(HttpResponse::Accepted().json(serde_json::json!({"sync_run": run.id.0})))
}

/// Reads a body that may be left out.
fn asked(body: &[u8]) -> Result<AskedRun, ApiError> {
    if body.is_empty() {
        return Ok(AskedRun::default());
    }
    let wrong = |error: String| ApiError::BadRequest(format!("the body is wrong: {error}"));
    let asked: AskedRun = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    for (name, value, most) in [
        ("days_back", asked.days_back, MOST_DAYS_BACK),
        ("max_prs", asked.max_prs, MOST_PRS),
    ] {
        if value.is_some_and(|value| !(1..=most).contains(&value)) {
            return Err(wrong(format!("{name} must be between 1 and {most}")));
        }
    }
    Ok(asked)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    /// `owner/name`
    repo: Option<String>,
    /// 1 to 100, 30 unless told.
    per_page: Option<u32>,
    cursor: Option<String>,
}

/// Backfills, the newest first.
#[utoipa::path(
    get, path = "/api/sync-runs", tag = "repositories", operation_id = "list_sync_runs", security(("token" = [])),
    params(RunsQuery),
    responses((status = 200, body = Page<SyncRunItem>), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn list(
    api: web::Data<Api>,
    query: web::Query<RunsQuery>,
) -> Result<web::Json<Page<SyncRunItem>>, ApiError> {
    let size = page::size(query.per_page)?;
    let before: Option<i64> = page::decode(query.cursor.as_deref())?;
    let repo = api.repository(query.repo.as_deref()).await?;
    let runs = api
        .store
        .sync_runs(repo, before.map(SyncRunId), size + 1)
        .await?;
    let now = Utc::now();
    Ok(web::Json(page::page(runs, size, run_of, |run| {
        item(run, now)
    })))
}

/// One backfill.
#[utoipa::path(
    get, path = "/api/sync-runs/{id}", tag = "repositories", operation_id = "get_sync_run", security(("token" = [])),
    params(("id" = i64, Path)),
    responses((status = 200, body = SyncRunItem), (status = 404, body = ErrorBody))
)]
pub(super) async fn show(
    api: web::Data<Api>,
    id: web::Path<i64>,
) -> Result<web::Json<SyncRunItem>, ApiError> {
    let run = api
        .store
        .sync_run(SyncRunId(*id))
        .await?
        .ok_or(ApiError::NotFound("sync run"))?;
    Ok(web::Json(item(run, Utc::now())))
}

/// Cancels a backfill. What it fetched stays.
#[utoipa::path(
    delete, path = "/api/sync-runs/{id}", tag = "repositories", operation_id = "cancel_sync_run",
    security(("token" = [])), params(("id" = i64, Path)),
    responses(
        (status = 204, description = "cancelled"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "it is over"),
    )
)]
pub(super) async fn cancel(
    api: web::Data<Api>,
    id: web::Path<i64>,
) -> Result<HttpResponse, ApiError> {
    let id = SyncRunId(*id);
    if api.store.cancel_run(id, Utc::now()).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    match api.store.sync_run(id).await? {
        Some(_) => Err(ApiError::Conflict("the sync run is over".to_owned())),
        None => Err(ApiError::NotFound("sync run")),
    }
}

/// Asks for a round of the poller now.
#[utoipa::path(
    post, path = "/api/sync", tag = "repositories", operation_id = "sync_now", security(("token" = [])),
    responses(
        (status = 202, description = "it begins as soon as the one that is under way has ended"),
        (status = 409, body = ErrorBody, description = "`github_access_missing`"),
    )
)]
pub(super) async fn poll(api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    api.github()?;
    api.store.request_poll(Utc::now()).await?;
    Ok(HttpResponse::Accepted().json(serde_json::json!({"status": "asked"})))
}

/// What the poller did so far.
#[derive(Debug, Serialize, ToSchema)]
pub struct SyncStats {
    /// Whether a round is under way.
    pub running: bool,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_sync_at: Option<String>,
    /// Rounds.
    pub sync_count: u64,
    /// Repositories that could not be asked for, over all rounds.
    pub error_count: u64,
    /// Changes that were found by asking, of the repositories that are tracked.
    pub missed_by_webhook: u64,
    pub config: PollerConfig,
    pub monitor: MonitorStats,
    /// How each channel of the settings is doing that a worker has seen.
    pub notifier: Vec<ChannelStats>,
    /// The client's numbers at the end of the last round; null before.
    #[schema(value_type = Option<Object>)]
    pub github: Option<serde_json::Value>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PollerConfig {
    /// Whether there is anything to ask GitHub with.
    pub enabled: bool,
    pub interval_seconds: f64,
    pub batch_size: u32,
    pub max_concurrent: u32,
    pub timeout_seconds: f64,
    pub retry_attempts: u32,
    pub retry_delay_seconds: f64,
}

/// What is still to be sent to a channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelStats {
    pub channel: String,
    /// With changes that no worker looked at yet for this channel, whether or not it is to be told of them.
    pub pending: u64,
    /// Of the oldest of these.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub pending_since: Option<String>,
    /// Attempts in a row that found the receiver broken.
    pub failures: u32,
}

/// Pull requests that are watched by asking.
#[derive(Debug, Serialize, ToSchema)]
pub struct MonitorStats {
    pub watched: u64,
    /// Of all: those whose turn it is.
    pub due: u64,
    /// Of all: those that could not be got when they were asked for last.
    pub failing: u64,
    /// Of those that fail, the twenty that were asked for last.
    pub last_errors: Vec<FailingMonitor>,
    pub config: MonitorConfig,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FailingMonitor {
    /// `owner/name`, as it was told.
    pub repo: String,
    pub number: i64,
    /// In a row.
    pub failures: u64,
    pub error: String,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub checked_at: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MonitorConfig {
    pub poll_interval_seconds: f64,
    pub max_retries: u32,
    pub retry_delay_seconds: f64,
    /// Asked for at the same time.
    pub concurrent: u32,
}

/// Errors of watched pull requests that are told.
const LAST_ERRORS: u32 = 20;

/// What the poller did so far, and how it is set.
#[utoipa::path(
    get, path = "/api/sync/stats", tag = "repositories", operation_id = "sync_stats", security(("token" = [])),
    responses((status = 200, body = SyncStats))
)]
pub(super) async fn stats(api: web::Data<Api>) -> Result<web::Json<SyncStats>, ApiError> {
    let stats = api.store.poller_stats().await?;
    let tracked = api.store.tracked().await?;
    Ok(web::Json(SyncStats {
        running: stats.running_since.is_some(),
        last_sync_at: stats.last_sync_at.map(rfc3339),
        sync_count: stats.sync_count,
        error_count: stats.error_count,
        missed_by_webhook: tracked
            .iter()
            .map(|repository| repository.missed_by_webhook)
            .sum(),
        config: PollerConfig {
            enabled: api.github.is_some(),
            interval_seconds: api.sync.interval.as_secs_f64(),
            batch_size: api.sync.batch_size,
            max_concurrent: api.sync.max_concurrent,
            timeout_seconds: api.sync.timeout.as_secs_f64(),
            retry_attempts: api.sync.retry_attempts,
            retry_delay_seconds: api.sync.retry_delay.as_secs_f64(),
        },
        monitor: monitor(&api).await?,
        notifier: api.backlogs().await?.into_iter().map(channel).collect(),
        github: stats.statistics,
    }))
}

fn channel(backlog: ChannelBacklog) -> ChannelStats {
    let ChannelBacklog {
        channel,
        pending,
        since,
        failures,
        dead: _,
    } = backlog;
    ChannelStats {
        channel,
        pending,
        pending_since: since.map(rfc3339),
        failures,
    }
}

async fn monitor(api: &Api) -> Result<MonitorStats, ApiError> {
    let WatchCounts {
        watched,
        due,
        failing,
    } = api.watches().await?;
    let last_errors = api
        .store
        .failing_watches(LAST_ERRORS)
        .await?
        .into_iter()
        .map(|watched| FailingMonitor {
            repo: watched.repo_name,
            number: watched.number.0,
            failures: watched.failures,
            error: watched.error.unwrap_or_default(),
            checked_at: watched.checked_at.map(rfc3339),
        });
    let settings = &api.sync.monitor;
    let config = MonitorConfig {
        poll_interval_seconds: settings.poll_interval.as_secs_f64(),
        max_retries: settings.max_retries,
        retry_delay_seconds: settings.retry_delay.as_secs_f64(),
        concurrent: settings.concurrent,
    };
    Ok(MonitorStats {
        watched,
        due,
        failing,
        last_errors: last_errors.collect(),
        config,
    })
}

pub(super) fn run_of(run: &SyncRun) -> i64 {
    run.id.0
}

fn item(run: SyncRun, now: Moment) -> SyncRunItem {
    SyncRunItem {
        id: run.id.0,
        state: run.state,
        options: run.options,
        prs_done: run.prs_done,
        prs_total: run.prs_total,
        reviews_synced: run.reviews_synced,
        github_requests: run.github_requests,
        complete_since: run.complete_since,
        asked_at: rfc3339(run.asked_at),
        started_at: run.started_at.map(rfc3339),
        finished_at: run.finished_at.map(rfc3339),
        eta_seconds: eta_seconds(&run, now),
        repo: run.repo_name,
        errors: run.errors,
        error: run.error,
    }
}

/// How long a running one takes from now on, at the pace that it had so far.
fn eta_seconds(run: &SyncRun, now: Moment) -> Option<u64> {
    let left = run.prs_total?.saturating_sub(run.prs_done);
    let so_far = (now - run.started_at?).num_seconds().max(0).unsigned_abs();
    (run.state == RunState::Running && run.prs_done > 0).then(|| so_far * left / run.prs_done)
}
