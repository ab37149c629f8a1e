//! Tracked repositories and watched pull requests.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::completeness::{Backfill, Completeness, Coverage, End, completeness};
use tallyhook_core::domain::repository::{Access, Repository};
use tallyhook_core::github::types::{PrKey, PrNumber};
use tallyhook_github_client::Client;
use tallyhook_github_client::hooks::{HookOwner, HookSecret};
use tallyhook_store::{RunState, StoredPullRequest, SyncRun, SyncStatus, TrackedRepository};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::error::{ApiError, ErrorBody};
use super::page::Page;
use super::sync::run_of;
use super::{Api, rfc3339};
use crate::sync::fetch;
use crate::sync::webhook::{self, Webhook, WebhookState};

/// So many runs of a repository are looked at for what they left out: as many as are kept.
const RUNS: u32 = 20;
const UNANSWERED: &str = "GitHub did not answer in time";

/// A tracked repository.
#[derive(Debug, Serialize, ToSchema)]
pub struct RepositoryItem {
    #[schema(example = "acme-corp/api-server")]
    pub repo: String,
    pub private: Option<bool>,
    pub repo_access: Access,
    #[schema(value_type = String, format = "date-time")]
    pub tracked_since: String,
    pub sync_status: SyncStatus,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_sync_at: Option<String>,
    pub last_error: Option<String>,
    /// When the newest webhook of it came in.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_delivery_at: Option<String>,
    /// Changes that were found by asking.
    pub missed_by_webhook: u64,
    /// Its last backfill.
    pub sync_run: Option<i64>,
    pub completeness: Completeness,
}

/// The tracked repositories, by name.
#[utoipa::path(
    get, path = "/api/repos", tag = "repositories", operation_id = "list_repositories", security(("token" = [])),
    responses((status = 200, body = Page<RepositoryItem>))
)]
pub(super) async fn list(api: web::Data<Api>) -> Result<web::Json<Page<RepositoryItem>>, ApiError> {
    let mut items = Vec::new();
    for repository in api.store.tracked().await? {
        items.push(item(&api, repository).await?);
    }
    Ok(web::Json(Page { items, next: None }))
}

/// Which repository is to be tracked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Added {
    /// `owner/name`
    #[schema(example = "acme-corp/api-server")]
    repo: String,
    /// Where GitHub reaches this server; then its webhook is made or mended, too.
    #[serde(default)]
    #[schema(example = "https://hooks.example.com/webhooks/github")]
    webhook_url: Option<String>,
}

/// A repository that is tracked now, and its webhook if one was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddedRepository {
    #[serde(flatten)]
    repository: RepositoryItem,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<Webhook>,
}

/// Tracks a repository from now on, and begins its backfill.
#[utoipa::path(
    post, path = "/api/repos", tag = "repositories", operation_id = "track_repository", security(("token" = [])),
    request_body = Added,
    responses(
        (status = 201, body = AddedRepository),
        (status = 200, body = AddedRepository, description = "it is tracked already"),
        (status = 404, body = ErrorBody, description = "GitHub has none of that name, or does not show it"),
        (status = 409, body = ErrorBody, description = "`github_access_missing`, `github_access_refused`"),
        (status = 503, body = ErrorBody, description = "`github_unavailable`"),
    )
)]
pub(super) async fn add(
    api: web::Data<Api>,
    added: web::Json<Added>,
) -> Result<HttpResponse, ApiError> {
    let github = api.github()?;
    let now = Utc::now();
    if let Some(url) = added
        .webhook_url
        .as_deref()
        .filter(|url| !webhook::is_endpoint(url))
    {
        return Err(ApiError::BadRequest(format!(
            "webhook_url is {url}, expected https://HOST{}",
            webhook::ENDPOINT
        )));
    }
    let hook = added
        .webhook_url
        .as_deref()
        .map(|url| secret_of(&api).map(|secret| (url, secret)))
        .transpose()?;
    let found = look_up(&api, github, &added.repo).await?;
    let is_new = api.store.track(&found, now).await?;
    if is_new {
        api.store
            .request_run(found.id, &api.sync.backfill.into(), now)
            .await?;
    }
    let tracked = api
        .store
        .tracked_repository(found.id)
        .await?
        .ok_or(ApiError::NotFound("repository"))?;
    let webhook = match hook {
        Some((url, secret)) => Some(make_hook(&api, github, &tracked.name, url, secret).await),
        None => None,
    };
    let repository = item(&api, tracked).await?;
    let mut answer = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer.json(AddedRepository {
        repository,
        webhook,
    }))
}

fn secret_of(api: &Api) -> Result<&HookSecret, ApiError> {
    let why = "GITHUB_WEBHOOK_SECRET is not set here: GitHub is to sign with it";
    api.hook_secret
        .as_ref()
        .ok_or_else(|| ApiError::Conflict(why.to_owned()))
}

/// Whatever GitHub says to it, the repository is tracked by then, which an error would hide.
async fn make_hook(
    api: &Api,
    github: &Client,
    name: &str,
    url: &str,
    secret: &HookSecret,
) -> Webhook {
    match timeout(
        api.sync.timeout,
        webhook::register(github, name, url, secret),
    )
    .await
    {
        Ok(Ok(webhook)) => webhook,
        Ok(Err(error)) => not_made(url, error.to_string()),
        Err(_) => not_made(url, UNANSWERED.to_owned()),
    }
}

fn not_made(url: &str, why: String) -> Webhook {
    let (url, events, message) = (url.to_owned(), webhook::events(), Some(why));
    Webhook {
        state: WebhookState::ByHand,
        id: None,
        url,
        content_type: "application/json",
        events,
        message,
    }
}

/// What GitHub knows of a repository. Whoever asks waits, so that GitHub is not waited for as long as elsewhere.
async fn look_up(api: &Api, github: &Client, name: &str) -> Result<Repository, ApiError> {
    if HookOwner::repository(name).is_err() {
        return Err(ApiError::NotFound("repository"));
    }
    let found = timeout(api.sync.timeout, github.repository(name)).await;
    let found = found.map_err(|_| ApiError::GithubUnavailable(UNANSWERED.to_owned()))??;
    Ok(fetch::seen(found.id, found.full_name, Some(found.private)))
}

/// Tracks a repository no more, and cancels its backfill. What is known of it stays.
#[utoipa::path(
    delete, path = "/api/repos/{owner}/{repo}", tag = "repositories", operation_id = "untrack_repository",
    security(("token" = [])), params(("owner" = String, Path), ("repo" = String, Path)),
    responses((status = 204, description = "not tracked any more"), (status = 404, body = ErrorBody))
)]
pub(super) async fn remove(
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let tracked = api.tracked(&path.0, &path.1).await?;
    match api.store.untrack(tracked.id, Utc::now()).await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(ApiError::NotFound("tracked repository")),
    }
}

/// Watches one pull request by asking for it, also in a repository that is not tracked.
#[utoipa::path(
    post, path = "/api/repos/{owner}/{repo}/prs/{number}/monitor", tag = "repositories",
    operation_id = "watch_pull_request", security(("token" = [])),
    params(("owner" = String, Path), ("repo" = String, Path), ("number" = i64, Path)),
    responses(
        (status = 202, description = "it is asked for at once, and from then on"),
        (status = 404, body = ErrorBody, description = "there can be no such pull request"),
        (status = 409, body = ErrorBody, description = "`github_access_missing`"),
    )
)]
pub(super) async fn watch(
    api: web::Data<Api>,
    path: web::Path<(String, String, i64)>,
) -> Result<HttpResponse, ApiError> {
    api.github()?;
    let (owner, repo, number) = path.into_inner();
    let name = format!("{owner}/{repo}");
    if number < 1 || HookOwner::repository(&name).is_err() {
        return Err(ApiError::NotFound("pull request"));
    }
    api.store.watch(&name, PrNumber(number), Utc::now()).await?;
    Ok(HttpResponse::Accepted()
        .json(serde_json::json!({"status": "watched", "repo": name, "number": number})))
}

/// Watches a pull request no more.
#[utoipa::path(
    delete, path = "/api/repos/{owner}/{repo}/prs/{number}/monitor", tag = "repositories",
    operation_id = "unwatch_pull_request", security(("token" = [])),
    params(("owner" = String, Path), ("repo" = String, Path), ("number" = i64, Path)),
    responses((status = 204, description = "not watched any more"), (status = 404, body = ErrorBody))
)]
pub(super) async fn unwatch(
    api: web::Data<Api>,
    path: web::Path<(String, String, i64)>,
) -> Result<HttpResponse, ApiError> {
    let (owner, repo, number) = path.into_inner();
    match api
        .store
        .unwatch(&format!("{owner}/{repo}"), PrNumber(number))
        .await?
    {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(ApiError::NotFound("watched pull request")),
    }
}

async fn item(api: &Api, repository: TrackedRepository) -> Result<RepositoryItem, ApiError> {
    let runs = api.store.sync_runs(Some(repository.id), None, RUNS).await?;
    let completeness = completeness(&Coverage {
        tracked_since: repository.tracked_since.into(),
        complete_since: repository.complete_since,
        access: repository.access,
        may_ask: api.github.is_some(),
        error: repository.last_error.as_deref(),
        backfill: backfill(api, &repository, &runs).await?,
    });
    Ok(RepositoryItem {
        repo: repository.name,
        private: repository.private,
        repo_access: repository.access,
        tracked_since: rfc3339(repository.tracked_since),
        sync_status: repository.sync_status,
        last_sync_at: repository.last_sync_at.map(rfc3339),
        last_error: repository.last_error,
        last_delivery_at: repository.last_delivery_at.map(rfc3339),
        missed_by_webhook: repository.missed_by_webhook,
        sync_run: runs.first().map(run_of),
        completeness,
    })
}

/// What the runs of a repository, the newest first, came to.
async fn backfill<'a>(
    api: &Api,
    repository: &TrackedRepository,
    runs: &'a [SyncRun],
) -> Result<Option<Backfill<'a>>, ApiError> {
    let Some((last, earlier)) = runs.split_first() else {
        return Ok(None);
    };
    let end = match last.state {
        RunState::Queued | RunState::Running => End::NotYet,
        RunState::Done => End::Done,
        RunState::Failed => End::Failed(last.error.as_deref().unwrap_or("it is not known why")),
        RunState::Cancelled => End::Cancelled,
    };
    let reach = repository.complete_since.filter(|since| since.epoch() != 0);
    let furthest = runs
        .iter()
        .find(|run| reach.is_some() && run.complete_since == reach);
    let cut = furthest.filter(|run| run.prs_done >= u64::from(run.options.max_prs));
    // A later run may not have gone back to what failed in an earlier one.
    let mut failed: BTreeMap<_, _> = earlier.iter().rev().flat_map(errors).collect();
    let keys: Vec<_> = failed
        .keys()
        .map(|number| PrKey {
            repo: repository.id,
            number: *number,
        })
        .collect();
    for StoredPullRequest { pull_request, .. } in api.store.load(&keys).await? {
        if pull_request
            .whole_until
            .or(pull_request.truncated_at)
            .is_some()
        {
            failed.remove(&pull_request.key.number);
        }
    }
    failed.extend(errors(last));
    let cut_at = cut.map(|run| run.options.max_prs);
    Ok(Some(Backfill {
        end,
        cut_at,
        failed: failed.into_iter().collect(),
    }))
}

fn errors(run: &SyncRun) -> impl Iterator<Item = (PrNumber, &str)> {
    run.errors
        .iter()
        .map(|failed| (PrNumber(failed.pr), failed.error.as_str()))
}
