//! Requests for data from GitHub: backfills, and rounds of the poller.

use actix_web::{HttpResponse, delete, get, post, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::github::types::Timestamp;
use tallyhook_core::text::one_line;
use tallyhook_store::{
    BackfillCounts, ChannelBacklog, Moment, PollerStats, PullRequestError, RunFilter, RunOptions,
    RunState, SyncRun, SyncRunId, TeamStore, WatchCounts, WatchedPullRequest,
};
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ApiErrorBody};
use super::input::{OptionalJsonInput, QueryInput, enumerated, suggestion};
use super::page::{self, ListCount, Page, PageSize};
use super::team_api::TeamApi;
use super::{ApiState, rfc3339};
use crate::config::{MAX_DAYS_BACK, MAX_PRS, WatchConfig};

/// A backfill.
#[derive(Debug, Serialize, ToSchema)]
pub struct SyncRunItem {
    pub id: i64,
    #[schema(example = "acme-corp/api-server")]
    pub repo: String,
    pub state: RunState,
    pub options: RunOptions,
    pub prs_done: u64,
    /// Null until GitHub has returned it.
    pub prs_total: Option<u64>,
    pub reviews_synced: u64,
    /// Pull requests that could not be fetched; the others were fetched.
    pub errors: Vec<PullRequestError>,
    /// The error that ended the run.
    pub error: Option<String>,
    pub github_requests: u64,
    /// Set when it is done: every pull request updated since then was fetched.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub complete_since: Option<Timestamp>,
    #[schema(value_type = String, format = "date-time")]
    pub asked_at: String,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub started_at: Option<String>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub finished_at: Option<String>,
    /// While it is running, at its average pace so far.
    pub eta_seconds: Option<u64>,
}

/// The reach of a backfill; a field that is left out has the default of the settings.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = AskedRun)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RunRequest {
    pub(crate) days_back: Option<u32>,
    pub(crate) max_prs: Option<u32>,
    /// True fetches the dates of commits.
    pub(crate) commits: Option<bool>,
}

/// Starts a backfill of a tracked repository. While one is under way its id is returned; a failed
/// one continues where it stopped.
#[utoipa::path(
    tag = "repositories", operation_id = "sync_repository",
    security(("token" = [])), params(("owner" = String, Path), ("repo" = String, Path)),
    request_body = Option<RunRequest>,
    responses(
        (status = 202, body = StartedRun, description = "started, or under way already"),
        (status = 400, body = ApiErrorBody),
        (status = 404, body = ApiErrorBody, description = "the repository is not tracked"),
        (status = 409, body = ApiErrorBody, description = "`github_access_missing`"),
    )
)]
#[post("/repos/{owner}/{repo}/sync")]
pub(super) async fn start(
    api: TeamApi,
    path: web::Path<(String, String)>,
    OptionalJsonInput(asked): OptionalJsonInput<RunRequest>,
) -> Result<HttpResponse, ApiError> {
    let started = api.start_run(&path.0, &path.1, asked).await?;
    Ok(HttpResponse::Accepted().json(started))
}

impl TeamApi {
    /// Starts a backfill as `POST /api/repos/{owner}/{repo}/sync`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn start_run(
        &self,
        owner: &str,
        repo: &str,
        asked: RunRequest,
    ) -> Result<StartedRun, ApiError> {
        self.github()?;
        check(&asked)?;
        let tracked = self.tracked(owner, repo).await?;
        let defaults = RunOptions::from(self.sync.backfill);
        let options = RunOptions {
            days_back: asked.days_back.unwrap_or(defaults.days_back),
            max_prs: asked.max_prs.unwrap_or(defaults.max_prs),
            commits: asked.commits.unwrap_or(defaults.commits),
        };
        let run = self
            .instance()
            .store
            .request_run(tracked.id, &options, Utc::now())
            .await?;
        let run = run.ok_or(ApiError::NotFound("tracked repository"))?;
        Ok(StartedRun { sync_run: run.id.0 })
    }

    /// Cancels a backfill as `DELETE /api/sync-runs/{id}`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn cancel_run(&self, id: i64) -> Result<(), ApiError> {
        let id = SyncRunId(id);
        if self.store.cancel_run(id, Utc::now()).await? {
            return Ok(());
        }
        match self.store.sync_run(id).await? {
            Some(_) => Err(ApiError::Conflict("the sync run has ended".to_owned())),
            None => Err(ApiError::NotFound("sync run")),
        }
    }

    /// Requests a round of the poller as `POST /api/sync`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn request_round(&self) -> Result<(), ApiError> {
        self.github()?;
        Ok(self.instance().store.request_poll(Utc::now()).await?)
    }
}

/// A backfill that was started.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StartedRun {
    /// Its id, for `GET /api/sync-runs/{id}`.
    #[schema(example = 7)]
    pub(crate) sync_run: i64,
}

/// Checks the limits of a request.
fn check(asked: &RunRequest) -> Result<(), ApiError> {
    for (name, value, most) in [
        ("days_back", asked.days_back, MAX_DAYS_BACK),
        ("max_prs", asked.max_prs, MAX_PRS),
    ] {
        if value.is_some_and(|value| !(1..=most).contains(&value)) {
            let message = format!("`{name}` must be between 1 and {most}");
            return Err(ApiError::BadRequest(message));
        }
    }
    Ok(())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    /// `owner/name`
    repo: Option<String>,
    /// `queued`, `running`, `done`, `failed` or `cancelled`; several separated by commas.
    #[param(example = "done,failed")]
    state: Option<String>,
    /// With true the answer has `count`.
    count: Option<bool>,
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// Backfills, the newest first.
#[utoipa::path(
    tag = "repositories", operation_id = "list_sync_runs", security(("token" = [])),
    params(RunsQuery),
    responses(
        (status = 200, body = Page<SyncRunItem>),
        (status = 400, body = ApiErrorBody),
        (status = 404, body = ApiErrorBody),
    )
)]
#[get("/sync-runs")]
pub(super) async fn list(
    api: TeamApi,
    QueryInput(query): QueryInput<RunsQuery>,
) -> Result<web::Json<Page<SyncRunItem>>, ApiError> {
    Ok(web::Json(listed(&api.store, query).await?))
}

pub(super) async fn listed(
    store: &TeamStore,
    query: RunsQuery,
) -> Result<Page<SyncRunItem>, ApiError> {
    let size = query.per_page.unwrap_or_default();
    let before: Option<i64> = page::decode(query.cursor.as_deref())?;
    let filter = RunFilter {
        repo: super::repository(store, query.repo.as_deref()).await?,
        states: run_states(query.state.as_deref().unwrap_or_default())?,
    };
    let n = match query.count {
        Some(true) => Some(store.count_runs(&filter).await?),
        _ => None,
    };
    let before = before.map(SyncRunId);
    let runs = store.sync_runs(&filter, before, size.rows()).await?;
    let now = Utc::now();
    Ok(Page {
        count: n.map(|n| ListCount { n, exact: true }),
        ..page::page(runs, size, run_id, |run| item(run, now))
    })
}

/// Parses states, separated by commas.
fn run_states(text: &str) -> Result<Vec<RunState>, ApiError> {
    let parse = |name: &str| {
        RunState::ALL
            .into_iter()
            .find(|state| state.as_str() == name)
            .ok_or_else(|| {
                let names = RunState::ALL.map(RunState::as_str);
                let (found, known) = (one_line(name, 60), enumerated(&names, "or"));
                let similar = suggestion(name, names);
                ApiError::BadRequest(format!("`state` is `{found}`: expected {known}{similar}"))
            })
    };
    let names = text.split(',').filter(|name| !name.is_empty());
    names.map(parse).collect()
}

/// One backfill.
#[utoipa::path(
    tag = "repositories", operation_id = "get_sync_run", security(("token" = [])),
    params(("id" = i64, Path)),
    responses((status = 200, body = SyncRunItem), (status = 404, body = ApiErrorBody))
)]
#[get("/sync-runs/{id}")]
pub(super) async fn show(
    api: TeamApi,
    id: web::Path<i64>,
) -> Result<web::Json<SyncRunItem>, ApiError> {
    Ok(web::Json(shown(&api.store, *id).await?))
}

pub(super) async fn shown(store: &TeamStore, id: i64) -> Result<SyncRunItem, ApiError> {
    let run = store.sync_run(SyncRunId(id)).await?;
    let run = run.ok_or(ApiError::NotFound("sync run"))?;
    Ok(item(run, Utc::now()))
}

/// Cancels a backfill. The pull requests that it fetched are kept.
#[utoipa::path(
    tag = "repositories", operation_id = "cancel_sync_run",
    security(("token" = [])), params(("id" = i64, Path)),
    responses(
        (status = 204, description = "cancelled"),
        (status = 404, body = ApiErrorBody),
        (status = 409, body = ApiErrorBody, description = "the run has ended"),
    )
)]
#[delete("/sync-runs/{id}")]
pub(super) async fn cancel(api: TeamApi, id: web::Path<i64>) -> Result<HttpResponse, ApiError> {
    api.cancel_run(*id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Starts a round of the poller now.
#[utoipa::path(
    tag = "repositories", operation_id = "sync_now", security(("token" = [])),
    responses(
        (status = 202, body = RequestedRound,
            description = "the round starts as soon as a running one has ended"),
        (status = 409, body = ApiErrorBody, description = "`github_access_missing`"),
    )
)]
#[post("/sync")]
pub(super) async fn poll(api: TeamApi) -> Result<HttpResponse, ApiError> {
    api.request_round().await?;
    Ok(HttpResponse::Accepted().json(RequestedRound { status: "asked" }))
}

/// A round of the poller that was requested.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestedRound {
    #[schema(example = "asked")]
    status: &'static str,
}

/// Statistics of the poller.
#[derive(Debug, Serialize, ToSchema)]
pub struct SyncStats {
    /// True while a round is under way.
    pub running: bool,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_sync_at: Option<String>,
    /// Number of rounds.
    pub sync_count: u64,
    /// Repositories that could not be fetched, over all rounds.
    pub error_count: u64,
    /// Changes of tracked repositories that the poller found and no webhook delivered.
    pub missed_by_webhook: u64,
    pub config: PollerConfig,
    pub monitor: MonitorStats,
    pub backfills: BackfillStats,
    /// Pending notifications of each channel that a worker has opened.
    pub notifier: Vec<ChannelStats>,
    /// Statistics of the GitHub client at the end of the last round; null before the first.
    #[schema(value_type = Option<Object>)]
    pub github: Option<serde_json::Value>,
}

/// The backfills that are kept, of each repository the last twenty; the same on every process.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackfillStats {
    /// Those that are done or failed. Cancelled ones count for nothing.
    pub attempted: u64,
    /// Of these: those that are done.
    pub succeeded: u64,
    /// The share that is aimed at.
    #[schema(example = 0.95)]
    pub goal: f64,
    /// From the beginning to the end of those that are done, waits for GitHub's limits included;
    /// null before a pull request was fetched.
    pub seconds_per_100_pull_requests: Option<f64>,
}

/// The share of the attempted backfills that is to succeed.
const BACKFILL_GOAL: f64 = 0.95;

impl From<BackfillCounts> for BackfillStats {
    fn from(counts: BackfillCounts) -> Self {
        Self {
            attempted: counts.attempted(),
            succeeded: counts.done,
            goal: BACKFILL_GOAL,
            seconds_per_100_pull_requests: counts.seconds_per_100(),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PollerConfig {
    /// True if there is a token or an App.
    pub enabled: bool,
    pub interval_seconds: f64,
    pub batch_size: u32,
    pub max_concurrent: u32,
    pub timeout_seconds: f64,
    pub retry_attempts: u32,
    pub retry_delay_seconds: f64,
}

/// The backlog of a channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelStats {
    pub channel: String,
    /// Pending notifications, plus changes that no worker has matched with the channel's filter
    /// yet.
    pub pending: u64,
    /// The time of the oldest of these.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub pending_since: Option<String>,
    /// Failed attempts in a row.
    pub failures: u32,
}

/// Statistics of watched pull requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct MonitorStats {
    pub watched: u64,
    /// Of all: those that are due.
    pub due: u64,
    /// Of all: those whose last fetch failed.
    pub failing: u64,
    /// The twenty failures that were fetched last.
    pub last_errors: Vec<FailingMonitor>,
    pub config: MonitorConfig,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FailingMonitor {
    /// `owner/name`, as it was given.
    pub repo: String,
    pub number: i64,
    /// Failed fetches in a row.
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
    /// Pull requests that are fetched concurrently.
    pub concurrent: u32,
}

/// The most errors of watched pull requests in the statistics.
const LAST_ERRORS: u32 = 20;

/// Statistics and settings of the poller.
#[utoipa::path(
    tag = "repositories", operation_id = "sync_stats", security(("token" = [])),
    responses((status = 200, body = SyncStats))
)]
#[get("/sync/stats")]
pub(super) async fn stats(api: TeamApi) -> Result<web::Json<SyncStats>, ApiError> {
    Ok(web::Json(api.sync_stats().await?))
}

impl ApiState {
    /// Answers as `GET /api/sync/stats`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn sync_stats(&self) -> Result<SyncStats, ApiError> {
        let record = self.store.poller_stats().await?;
        let counts = SyncCounts {
            missed: self.store.missed_by_webhook().await?,
            watches: self.store.watch_counts(self.watches_due()).await?,
            failing: self.store.failing_watches(LAST_ERRORS).await?,
            backfills: self.store.backfill_counts().await?,
            backlogs: self.backlogs().await?,
        };
        Ok(self.stats_of(record, counts))
    }

    fn stats_of(&self, record: PollerStats, counts: SyncCounts) -> SyncStats {
        SyncStats {
            running: record.running_since.is_some(),
            last_sync_at: record.last_sync_at.map(rfc3339),
            sync_count: record.sync_count,
            error_count: record.error_count,
            missed_by_webhook: counts.missed,
            config: PollerConfig {
                enabled: self.github.is_some(),
                interval_seconds: self.sync.interval.as_secs_f64(),
                batch_size: self.sync.batch_size,
                max_concurrent: self.sync.max_concurrent,
                timeout_seconds: self.sync.timeout.as_secs_f64(),
                retry_attempts: self.sync.retry_attempts,
                retry_delay_seconds: self.sync.retry_delay.as_secs_f64(),
            },
            monitor: monitor(&self.sync.monitor, counts.watches, counts.failing),
            backfills: counts.backfills.into(),
            notifier: counts.backlogs.into_iter().map(channel).collect(),
            github: record.statistics,
        }
    }
}

impl TeamApi {
    /// Answers as `GET /api/sync/stats`, for the team. Beside other teams it is told nothing of the
    /// work that is done for all of them.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn sync_stats(&self) -> Result<SyncStats, ApiError> {
        let mut record = self.instance().store.poller_stats().await?;
        if !self.is_operator() && !self.store.is_only_team().await? {
            record.error_count = self.store.repository_counts().await?.error;
            record.statistics = None;
        }
        let names: Vec<_> = self
            .team_channels()
            .map(|channel| channel.name.as_str())
            .collect();
        let counts = SyncCounts {
            missed: self.store.missed_by_webhook().await?,
            watches: self.store.watch_counts(self.watches_due()).await?,
            failing: self.store.failing_watches(LAST_ERRORS).await?,
            backfills: self.store.backfill_counts().await?,
            backlogs: self.store.backlogs(&names).await?,
        };
        Ok(self.stats_of(record, counts))
    }
}

/// The counts of the statistics.
struct SyncCounts {
    missed: u64,
    watches: WatchCounts,
    failing: Vec<WatchedPullRequest>,
    backfills: BackfillCounts,
    backlogs: Vec<ChannelBacklog>,
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

fn monitor(
    settings: &WatchConfig,
    counts: WatchCounts,
    failing: Vec<WatchedPullRequest>,
) -> MonitorStats {
    let last_errors = failing.into_iter().map(|watched| FailingMonitor {
        repo: watched.repo_name,
        number: watched.number.0,
        failures: watched.failures,
        error: watched.error.unwrap_or_default(),
        checked_at: watched.checked_at.map(rfc3339),
    });
    let WatchCounts {
        watched,
        due,
        failing,
    } = counts;
    let config = MonitorConfig {
        poll_interval_seconds: settings.poll_interval.as_secs_f64(),
        max_retries: settings.max_retries,
        retry_delay_seconds: settings.retry_delay.as_secs_f64(),
        concurrent: settings.concurrent,
    };
    MonitorStats {
        watched,
        due,
        failing,
        last_errors: last_errors.collect(),
        config,
    }
}

pub(super) fn run_id(run: &SyncRun) -> i64 {
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

/// Returns the remaining time of a running backfill, at its average pace so far.
fn eta_seconds(run: &SyncRun, now: Moment) -> Option<u64> {
    let remaining = run.prs_total?.saturating_sub(run.prs_done);
    let elapsed = (now - run.started_at?).num_seconds().max(0).unsigned_abs();
    (run.state == RunState::Running && run.prs_done > 0).then(|| elapsed * remaining / run.prs_done)
}
