//! Tracked repositories and watched pull requests.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::completeness::{
    BackfillCoverage, BackfillEnd, Completeness, Coverage, completeness,
};
use tallyhook_core::domain::repository::{Repository, RepositoryAccess};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};
use tallyhook_core::text::one_line;
use tallyhook_github_client::hooks::{HookOwner, HookSecret};
use tallyhook_store::{RepositoryFilter, RunState, SyncRun, SyncStatus, TrackedRepository};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ApiErrorBody};
use super::input::{JsonInput, QueryInput, parse_query};
use super::page::{self, ListCount, Page, PageSize};
use super::rfc3339;
use super::sync::run_id;
use super::team_api::TeamApi;
use crate::sync::fetch;
use crate::sync::webhook::{self, RegisteredWebhook, WebhookState};

/// The number of runs of a repository that are read for gaps: as many as are kept.
const RUNS: usize = 20;
/// The time without a webhook after which changes that the poller found are unexpected.
const QUIET: TimeDelta = TimeDelta::days(1);
const UNANSWERED: &str = "GitHub did not answer in time";

/// A tracked repository.
#[derive(Debug, Serialize, ToSchema)]
pub struct RepositoryItem {
    #[schema(example = "acme-corp/api-server")]
    pub repo: String,
    pub private: Option<bool>,
    pub repo_access: RepositoryAccess,
    /// False if it is no longer tracked, but webhooks of it arrive.
    pub tracked: bool,
    #[schema(value_type = String, format = "date-time")]
    pub tracked_since: String,
    pub sync_status: SyncStatus,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_sync_at: Option<String>,
    pub last_error: Option<String>,
    /// The time of its newest webhook.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_delivery_at: Option<String>,
    /// Changes that the poller found and no webhook delivered.
    pub missed_by_webhook: u64,
    /// True if no webhook arrived for a day, although the poller found changes.
    pub is_quiet: bool,
    /// Its last backfill.
    pub sync_run: Option<i64>,
    pub completeness: Completeness,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RepositoriesQuery {
    /// `owner/name`, also a former one.
    repo: Option<String>,
    /// Only tracked ones with this status.
    state: Option<SyncStatus>,
    /// With true only tracked ones of which something is missing: access is lost, the last sync
    /// failed, the history was never fetched, or pull requests failed in the last backfill.
    incomplete: Option<bool>,
    /// With true the answer has `count`.
    count: Option<bool>,
    /// The number of items, 100 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

type RepositoryCursor = (String, RepoId);

/// The tracked repositories, by name, and those that are no longer tracked but send webhooks.
#[utoipa::path(
    tag = "repositories", operation_id = "list_repositories", security(("token" = [])),
    params(RepositoriesQuery),
    responses(
        (status = 200, body = Page<RepositoryItem>),
        (status = 400, body = ApiErrorBody, description = "`bad_request`"),
    )
)]
#[get("/repos")]
pub(super) async fn list(
    api: TeamApi,
    QueryInput(query): QueryInput<RepositoriesQuery>,
) -> Result<web::Json<Page<RepositoryItem>>, ApiError> {
    Ok(web::Json(listed(&api, query).await?))
}

async fn listed(api: &TeamApi, query: RepositoriesQuery) -> Result<Page<RepositoryItem>, ApiError> {
    // All of most installations, which clients that know no pages have always been given.
    let size = query.per_page.unwrap_or(PageSize::MAX);
    let after: Option<RepositoryCursor> = page::decode(query.cursor.as_deref())?;
    let filter = RepositoryFilter {
        repo: api.repository(query.repo.as_deref()).await?,
        status: query.state,
        incomplete: query.incomplete == Some(true),
    };
    let n = match query.count {
        Some(true) => Some(api.store.count_listed(filter).await?),
        _ => None,
    };
    let rows = api.store.listed_after(filter, after.as_ref(), size.rows());
    let cursor = |row: &TrackedRepository| (row.name.clone(), row.id);
    let Page { items, next, .. } = page::page(rows.await?, size, cursor, |row| row);
    Ok(Page {
        items: self::items(api, items).await?,
        next,
        count: n.map(|n| ListCount { n, exact: true }),
    })
}

impl TeamApi {
    /// Answers as `GET /api/repos`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn repositories(&self, query: &str) -> Result<Page<RepositoryItem>, ApiError> {
        listed(self, parse_query(query)?).await
    }

    /// Stops tracking a repository as `DELETE /api/repos/{owner}/{repo}`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn untrack(&self, owner: &str, repo: &str) -> Result<(), ApiError> {
        let tracked = self.tracked(owner, repo).await?;
        match self.store.untrack(tracked.id, Utc::now()).await? {
            true => Ok(()),
            false => Err(ApiError::NotFound("tracked repository")),
        }
    }

    /// Tracks a repository as `POST /api/repos`. Returns true if it was not tracked.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn track(
        &self,
        added: TrackRequest,
    ) -> Result<(bool, AddedRepository), ApiError> {
        let now = Utc::now();
        self.check_may_ask(&added.repo, "repository").await?;
        let hook = match &added.webhook_url {
            None => None,
            Some(url) => Some((checked_endpoint(url)?, hook_secret(self)?)),
        };
        let found = match known_repository(self, &added.repo).await? {
            // GitHub knows more of it, but is not needed.
            Some(known) => fetch_repository(self, &added.repo).await.unwrap_or(known),
            None => fetch_repository(self, &added.repo).await?,
        };
        let is_new = self.store.track(&found, now).await?;
        if is_new && self.github.is_some() {
            let store = &self.instance().store;
            store
                .request_run(found.id, &self.sync.backfill.into(), now)
                .await?;
        }
        let tracked = self.store.tracked_repository(found.id).await?;
        let tracked = tracked.ok_or(ApiError::NotFound("repository"))?;
        let webhook = match hook {
            Some((url, secret)) => Some(create_hook(self, &tracked.name, &url, &secret).await),
            None => None,
        };
        let repository = items(self, vec![tracked]).await?.into_iter().next();
        let repository = repository.ok_or(ApiError::NotFound("repository"))?;
        let added = AddedRepository {
            repository,
            webhook,
        };
        Ok((is_new, added))
    }
}

/// A repository to track.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Added)]
pub(crate) struct TrackRequest {
    /// `owner/name`
    #[schema(example = "acme-corp/api-server")]
    pub(crate) repo: String,
    /// The URL at which GitHub reaches this server; with it the webhook is created or updated, too.
    #[serde(default)]
    #[schema(example = "https://hooks.example.com/webhooks/github")]
    pub(crate) webhook_url: Option<String>,
}

/// A tracked repository, with its webhook if one was requested.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AddedRepository {
    #[serde(flatten)]
    pub(crate) repository: RepositoryItem,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) webhook: Option<RegisteredWebhook>,
}

/// Starts to track a repository, and starts its backfill. One of which webhooks arrived needs no
/// access to GitHub.
#[utoipa::path(
    tag = "repositories", operation_id = "track_repository", security(("token" = [])),
    request_body = TrackRequest,
    responses(
        (status = 201, body = AddedRepository),
        (status = 200, body = AddedRepository, description = "the repository was tracked already"),
        (status = 404, body = ApiErrorBody,
            description = "GitHub has no repository of that name, or the token cannot see it"),
        (status = 409, body = ApiErrorBody,
            description = "`github_access_missing`, `github_access_refused`"),
        (status = 503, body = ApiErrorBody, description = "`github_unavailable`"),
    )
)]
#[post("/repos")]
pub(super) async fn add(
    api: TeamApi,
    JsonInput(added): JsonInput<TrackRequest>,
) -> Result<HttpResponse, ApiError> {
    let (is_new, added) = api.track(added).await?;
    let mut answer = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer.json(added))
}

fn checked_endpoint(url: &str) -> Result<String, ApiError> {
    webhook::endpoint(url).ok_or_else(|| {
        let (url, path) = (one_line(url, 60), webhook::ENDPOINT);
        ApiError::BadRequest(format!(
            "`webhook_url` is `{url}`: expected https://HOST{path}"
        ))
    })
}

fn hook_secret(api: &TeamApi) -> Result<HookSecret, ApiError> {
    let why = "GITHUB_WEBHOOK_SECRET is not set here: set it to the secret that GitHub signs with";
    let first = api.secrets.borrow().first.clone();
    first.ok_or_else(|| ApiError::Conflict(why.to_owned()))
}

/// Creates the webhook. A failure is part of the answer and not an error, since the repository is
/// tracked by then.
async fn create_hook(
    api: &TeamApi,
    name: &str,
    url: &str,
    secret: &HookSecret,
) -> RegisteredWebhook {
    let Some(github) = &api.github else {
        return hook_to_create_by_hand(url, ApiError::GithubAccessMissing.to_string());
    };
    match timeout(
        api.sync.timeout,
        webhook::register(github, name, url, secret),
    )
    .await
    {
        Ok(Ok(webhook)) => webhook,
        Ok(Err(error)) => hook_to_create_by_hand(url, error.to_string()),
        Err(_) => hook_to_create_by_hand(url, UNANSWERED.to_owned()),
    }
}

fn hook_to_create_by_hand(url: &str, why: String) -> RegisteredWebhook {
    let (url, events, message) = (url.to_owned(), webhook::events(), Some(why));
    RegisteredWebhook {
        state: WebhookState::Manual,
        id: None,
        url,
        content_type: "application/json",
        events,
        message,
    }
}

/// Returns a repository of which webhooks arrived.
async fn known_repository(api: &TeamApi, name: &str) -> Result<Option<Repository>, ApiError> {
    let id = api.store.repository_id(name).await?;
    Ok(id.map(|id| Repository::named(id, name)))
}

/// Fetches a repository from GitHub. A client waits for the answer, so that the limit is shorter
/// than elsewhere.
async fn fetch_repository(api: &TeamApi, name: &str) -> Result<Repository, ApiError> {
    let github = api.github()?;
    if HookOwner::repository(name).is_err() {
        return Err(ApiError::NotFound("repository"));
    }
    let found = timeout(api.sync.timeout, github.repository(name)).await;
    let found = found.map_err(|_| ApiError::GithubUnavailable(UNANSWERED.to_owned()))??;
    Ok(fetch::observed_repository(
        found.id,
        found.full_name,
        Some(found.private),
    ))
}

/// Stops tracking a repository, and cancels its backfill. Its data is kept.
#[utoipa::path(
    tag = "repositories", operation_id = "untrack_repository",
    security(("token" = [])), params(("owner" = String, Path), ("repo" = String, Path)),
    responses(
        (status = 204, description = "no longer tracked"),
        (status = 404, body = ApiErrorBody),
    )
)]
#[delete("/repos/{owner}/{repo}")]
pub(super) async fn remove(
    api: TeamApi,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    api.untrack(&path.0, &path.1).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A pull request that is watched from now on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WatchedPullRequest {
    #[schema(example = "watched")]
    status: &'static str,
    /// `owner/name`
    repo: String,
    number: i64,
}

/// Watches one pull request by polling, also in a repository that is not tracked.
#[utoipa::path(
    tag = "repositories",
    operation_id = "watch_pull_request", security(("token" = [])),
    params(("owner" = String, Path), ("repo" = String, Path), ("number" = i64, Path)),
    responses(
        (status = 202, body = WatchedPullRequest,
            description = "it is fetched now, and then at every `MONITOR_POLL_INTERVAL`"),
        (status = 404, body = ApiErrorBody, description = "the repository or number is invalid"),
        (status = 409, body = ApiErrorBody, description = "`github_access_missing`"),
    )
)]
#[post("/repos/{owner}/{repo}/prs/{number}/monitor")]
pub(super) async fn watch(
    api: TeamApi,
    path: web::Path<(String, String, i64)>,
) -> Result<HttpResponse, ApiError> {
    let (owner, repo, number) = path.into_inner();
    let name = format!("{owner}/{repo}");
    api.watch_pull_request(&name, PrNumber(number)).await?;
    Ok(HttpResponse::Accepted().json(WatchedPullRequest {
        status: "watched",
        repo: name,
        number,
    }))
}

/// Stops watching a pull request.
#[utoipa::path(
    tag = "repositories",
    operation_id = "unwatch_pull_request", security(("token" = [])),
    params(("owner" = String, Path), ("repo" = String, Path), ("number" = i64, Path)),
    responses(
        (status = 204, description = "no longer watched"),
        (status = 404, body = ApiErrorBody),
    )
)]
#[delete("/repos/{owner}/{repo}/prs/{number}/monitor")]
pub(super) async fn unwatch(
    api: TeamApi,
    path: web::Path<(String, String, i64)>,
) -> Result<HttpResponse, ApiError> {
    let (owner, repo, number) = path.into_inner();
    match api
        .unwatch_pull_request(&format!("{owner}/{repo}"), PrNumber(number))
        .await?
    {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(ApiError::NotFound("watched pull request")),
    }
}

impl TeamApi {
    /// Watches a pull request by polling, which wants access to GitHub.
    pub(crate) async fn watch_pull_request(
        &self,
        name: &str,
        number: PrNumber,
    ) -> Result<(), ApiError> {
        self.github()?;
        if number.0 < 1 || HookOwner::repository(name).is_err() {
            return Err(ApiError::NotFound("pull request"));
        }
        self.check_may_ask(name, "pull request").await?;
        self.store.watch(name, number, Utc::now()).await?;
        Ok(())
    }

    /// Ends the watch of a pull request. Returns false if it was not watched.
    pub(crate) async fn unwatch_pull_request(
        &self,
        name: &str,
        number: PrNumber,
    ) -> Result<bool, ApiError> {
        Ok(self.store.unwatch(name, number).await?)
    }
}

/// Returns repositories with their runs, which are read all at once.
async fn items(
    api: &TeamApi,
    repositories: Vec<TrackedRepository>,
) -> Result<Vec<RepositoryItem>, ApiError> {
    let ids: Vec<_> = repositories
        .iter()
        .map(|repository| repository.id)
        .collect();
    let mut runs: BTreeMap<RepoId, Vec<SyncRun>> = BTreeMap::new();
    for run in api.instance().store.runs_of(&ids).await? {
        let known = runs.entry(run.repo).or_default();
        if known.len() < RUNS {
            known.push(run);
        }
    }
    let failed_before = runs.iter().flat_map(|(repo, runs)| {
        let errors = runs.iter().skip(1).flat_map(errors);
        errors.map(|(number, _)| PrKey {
            repo: *repo,
            number,
        })
    });
    let failed_before: BTreeSet<PrKey> = failed_before.collect();
    let failed_before: Vec<PrKey> = failed_before.into_iter().collect();
    let fetched = api.instance().store.fetched(&failed_before).await?;
    let item = |repository: TrackedRepository| {
        let runs = runs.get(&repository.id).map_or(&[][..], Vec::as_slice);
        item(api, repository, runs, &fetched)
    };
    Ok(repositories.into_iter().map(item).collect())
}

fn item(
    api: &TeamApi,
    repository: TrackedRepository,
    runs: &[SyncRun],
    fetched: &BTreeSet<PrKey>,
) -> RepositoryItem {
    let backfill = backfill_summary(&repository, runs, fetched);
    let withheld = backfill.as_ref().and_then(|backfill| backfill.withheld);
    let completeness = completeness(&Coverage {
        tracked_since: repository.tracked_since.into(),
        complete_since: repository.complete_since,
        access: repository.access,
        is_tracked: repository.is_tracked,
        may_ask: api.github.is_some(),
        error: repository
            .last_error
            .as_deref()
            .filter(|error| withheld != Some(*error)),
        backfill,
    });
    RepositoryItem {
        repo: repository.name,
        private: repository.private,
        repo_access: repository.access,
        tracked: repository.is_tracked,
        tracked_since: rfc3339(repository.tracked_since),
        sync_status: repository.sync_status,
        last_sync_at: repository.last_sync_at.map(rfc3339),
        last_error: repository.last_error,
        last_delivery_at: repository.last_delivery_at.map(rfc3339),
        missed_by_webhook: repository.missed_by_webhook,
        is_quiet: repository.missed_by_webhook > 0
            && repository
                .last_delivery_at
                .is_none_or(|at| Utc::now() - at > QUIET),
        sync_run: runs.first().map(run_id),
        completeness,
    }
}

/// Summarizes the runs of a repository, which are in descending order. A pull request that failed
/// in an earlier one and is `fetched` by now is complete.
fn backfill_summary<'a>(
    repository: &TrackedRepository,
    runs: &'a [SyncRun],
    fetched: &BTreeSet<PrKey>,
) -> Option<BackfillCoverage<'a>> {
    let (last, earlier) = runs.split_first()?;
    let end = match last.state {
        RunState::Queued | RunState::Running => BackfillEnd::NotYet,
        RunState::Done => BackfillEnd::Done,
        RunState::Failed => {
            BackfillEnd::Failed(last.error.as_deref().unwrap_or("the reason is unknown"))
        }
        RunState::Cancelled => BackfillEnd::Cancelled,
    };
    let reach = repository.complete_since.filter(|since| since.epoch() != 0);
    let furthest = runs
        .iter()
        .find(|run| reach.is_some() && run.complete_since == reach);
    let cut = furthest.filter(|run| run.prs_done >= u64::from(run.options.max_prs));
    // A later run may not have gone back to what failed in an earlier one.
    let mut failed: BTreeMap<_, _> = earlier.iter().rev().flat_map(errors).collect();
    failed.retain(|number, _| {
        !fetched.contains(&PrKey {
            repo: repository.id,
            number: *number,
        })
    });
    failed.extend(errors(last));
    Some(BackfillCoverage {
        end,
        cut_at: cut.map(|run| run.options.max_prs),
        failed: failed.into_iter().collect(),
        withheld: last.error.as_deref().filter(|_| end == BackfillEnd::Done),
    })
}

fn errors(run: &SyncRun) -> impl Iterator<Item = (PrNumber, &str)> {
    run.errors
        .iter()
        .map(|failed| (PrNumber(failed.pr), failed.error.as_str()))
}
