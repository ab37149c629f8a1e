//! The pull request of a task, opened because somebody wants it.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use tallyhook_core::github::types::PrNumber;
use tallyhook_github_client::hooks::HookOwner;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::Api;
use super::error::{ApiError, ErrorBody};
use super::tasks::{TaskDetail, checked_title, detail, find};
use crate::tasks::{Opener, PullRequestOf, Wanted};

/// Bytes that GitHub lets a body have.
const BODY: usize = 65_536;

/// What of the pull request does not follow from the task.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PullRequestWanted {
    /// `owner/name`; that of the task unless told, or else the default repository.
    repo: Option<String>,
    /// `branch`, or `owner:branch` of a fork; the branch of the task unless told.
    #[schema(example = "proj-123-sort-the-queue")]
    head: Option<String>,
    /// The repository's default branch unless told.
    #[schema(example = "main")]
    base: Option<String>,
    /// The task's unless told.
    title: Option<String>,
    body: Option<String>,
    #[serde(default)]
    draft: bool,
}

/// A task with the pull request that it has now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskWithPullRequest {
    pull_request: OpenedPullRequest,
    task: TaskDetail,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OpenedPullRequest {
    /// `owner/name`
    repo: String,
    #[schema(value_type = i64)]
    number: PrNumber,
    html_url: String,
    /// False if it was open already.
    created: bool,
}

/// Opens the pull request of a task at GitHub, or finds the one that is open, and links it. Asking again is harmless.
#[utoipa::path(
    post, path = "/api/tasks/{id}/pr", tag = "tasks", operation_id = "open_pull_request", security(("token" = [])),
    params(("id" = String, Path, description = "id or key")), request_body = Option<PullRequestWanted>,
    responses(
        (status = 201, body = TaskWithPullRequest),
        (status = 200, body = TaskWithPullRequest, description = "it was open already"),
        (status = 400, body = ErrorBody, description = "the task has no branch or repository, and none is told"),
        (status = 404, body = ErrorBody, description = "`not_found`: no such task; `repository_missing`"),
        (
            status = 409, body = ErrorBody,
            description = "`github_access_missing`, `github_access_refused`, `repository_read_only`"
        ),
        (
            status = 422, body = ErrorBody,
            description = "`head_missing`, `base_missing`, `no_commits`, `drafts_not_supported`, `pull_request_refused`"
        ),
        (status = 503, body = ErrorBody, description = "`github_unavailable`: ask again, nothing is opened twice"),
    )
)]
pub(super) async fn create(
    api: web::Data<Api>,
    id: web::Path<String>,
    body: web::Bytes,
) -> Result<HttpResponse, ApiError> {
    let github = api.github()?;
    let wanted = wanted(&body)?;
    let task = find(&api, &id).await?;
    let opener = Opener {
        fetcher: api.fetcher(github),
        default_repository: api.default_repository.clone(),
    };
    let opening = timeout(api.sync.timeout, opener.open(&task, &wanted)).await;
    let unanswered = |_| ApiError::GithubUnavailable("GitHub did not answer in time".to_owned());
    let of = opening.map_err(unanswered)??;
    // It is there, whatever comes of this; its webhook tells of it, too.
    match timeout(api.sync.timeout, opener.fetch(&of)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(repo = of.repo, %error, "what was opened is not known here yet")
        }
        Err(_) => tracing::warn!(repo = of.repo, "what was opened is not known here yet"),
    }
    let PullRequestOf { repo, opened } = of;
    let task = detail(&api, find(&api, &id).await?).await?;
    let mut answer = if opened.created {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    let (number, html_url, created) = (opened.key.number, opened.html_url, opened.created);
    let pull_request = OpenedPullRequest {
        repo,
        number,
        html_url,
        created,
    };
    Ok(answer.json(TaskWithPullRequest { pull_request, task }))
}

/// Reads a body that may be left out.
fn wanted(body: &[u8]) -> Result<Wanted, ApiError> {
    let wrong = |error: &str| ApiError::BadRequest(format!("the body is wrong: {error}"));
    let PullRequestWanted {
        repo,
        head,
        base,
        title,
        body,
        draft,
    } = match body {
        [] => PullRequestWanted::default(),
        body => serde_json::from_slice(body).map_err(|error| wrong(&error.to_string()))?,
    };
    if repo
        .as_ref()
        .is_some_and(|repo| HookOwner::repository(repo).is_err())
    {
        return Err(wrong("`repo` is owner/name"));
    }
    if body.as_ref().is_some_and(|body| body.len() > BODY) {
        return Err(wrong("`body` is longer than GitHub takes"));
    }
    let title = title.map(checked_title).transpose()?;
    Ok(Wanted {
        repo,
        head,
        base,
        title,
        body,
        draft,
    })
}
