//! Opening the pull request of a task on request.

use actix_web::{HttpResponse, post, web};
use serde::{Deserialize, Serialize};
use tallyhook_core::github::types::PrNumber;
use tallyhook_github_client::hooks::HookOwner;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::error::{ApiError, ApiErrorBody};
use super::input::OptionalJsonInput;
use super::tasks::{TaskDetail, checked_title, find};
use super::team_api::TeamApi;
use crate::tasks::{PullRequestOpener, PullRequestOptions, TaskPullRequest};

/// GitHub's limit of a body, in bytes.
const MAX_BODY: usize = 65_536;

/// The fields of the pull request that differ from the task's.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = PullRequestWanted)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenPullRequestBody {
    /// `owner/name`; default: that of the task, or else the default repository.
    repo: Option<String>,
    /// `branch`, or `owner:branch` of a fork; default: the branch of the task.
    #[schema(example = "proj-123-sort-the-queue")]
    head: Option<String>,
    /// Default: the repository's default branch.
    #[schema(example = "main")]
    base: Option<String>,
    /// Default: the task's title.
    title: Option<String>,
    body: Option<String>,
    #[serde(default)]
    draft: bool,
}

/// A task with its open pull request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskWithPullRequest {
    pull_request: OpenedPullRequestItem,
    task: TaskDetail,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenedPullRequest)]
pub(crate) struct OpenedPullRequestItem {
    /// `owner/name`
    repo: String,
    #[schema(value_type = i64)]
    number: PrNumber,
    html_url: String,
    /// False if the pull request was open already.
    created: bool,
}

/// Opens the pull request of a task at GitHub, or finds the one that is open, and links it.
/// Idempotent.
#[utoipa::path(
    tag = "tasks", operation_id = "open_pull_request", security(("token" = [])),
    params(("id" = String, Path, description = "id or key")),
    request_body = Option<OpenPullRequestBody>,
    responses(
        (status = 201, body = TaskWithPullRequest),
        (status = 200, body = TaskWithPullRequest,
            description = "the pull request was open already"),
        (status = 400, body = ApiErrorBody,
            description = "neither the task nor the request has a branch or repository"),
        (status = 404, body = ApiErrorBody,
            description = "`not_found`: no such task; `repository_missing`"),
        (
            status = 409, body = ApiErrorBody,
            description = "`github_access_missing`, `github_access_refused`, `repository_read_only`"
        ),
        (
            status = 422, body = ApiErrorBody,
            description = "`head_missing`, `base_missing`, `no_commits`, `drafts_not_supported`, \
                           `pull_request_refused`"
        ),
        (status = 503, body = ApiErrorBody,
            description = "`github_unavailable`: retry, nothing is opened twice"),
    )
)]
#[post("/tasks/{id}/pr")]
pub(super) async fn create(
    api: TeamApi,
    id: web::Path<String>,
    OptionalJsonInput(wanted): OptionalJsonInput<OpenPullRequestBody>,
) -> Result<HttpResponse, ApiError> {
    let answered = api.open_pull_request(&id, wanted).await?;
    let mut answer = match answered.pull_request.created {
        true => HttpResponse::Created(),
        false => HttpResponse::Ok(),
    };
    Ok(answer.json(answered))
}

impl TeamApi {
    /// Opens the pull request of a task as `POST /api/tasks/{id}/pr`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn open_pull_request(
        &self,
        id: &str,
        wanted: OpenPullRequestBody,
    ) -> Result<TaskWithPullRequest, ApiError> {
        let github = self.github()?;
        let wanted = checked(wanted)?;
        let task = find(self, id).await?;
        let default = self.default_repository();
        let repo = wanted.repo.as_deref().or(task.place.repo.as_deref());
        if let Some(repo) = repo.or(default) {
            self.check_may_ask(repo, "repository").await?;
        }
        let opener = PullRequestOpener {
            fetcher: self.fetcher(github),
            default_repository: self.default_repository().map(str::to_owned),
        };
        let opening = timeout(self.sync.timeout, opener.open(&task, &wanted)).await;
        let unanswered =
            |_| ApiError::GithubUnavailable("GitHub did not answer in time".to_owned());
        let of = opening.map_err(unanswered)??;
        // The pull request exists even if this fetch fails; its webhook delivers it, too.
        let fetched = timeout(self.sync.timeout, opener.fetch(&of)).await;
        let why_not = match fetched {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("GitHub did not answer in time".to_owned()),
        };
        if let Some(error) = why_not {
            tracing::warn!(
                repo.name = of.repo,
                pr.number = of.opened.key.number.0,
                error,
                "opened {}#{}, which is not stored until its webhook arrives",
                of.repo,
                of.opened.key.number
            );
        }
        let TaskPullRequest { repo, opened } = of;
        let pull_request = OpenedPullRequestItem {
            repo,
            number: opened.key.number,
            html_url: opened.html_url,
            created: opened.created,
        };
        let task = self.task(id).await?;
        Ok(TaskWithPullRequest { pull_request, task })
    }
}

/// Checks the limits of a request.
fn checked(wanted: OpenPullRequestBody) -> Result<PullRequestOptions, ApiError> {
    let wrong = |error: &str| ApiError::BadRequest(error.to_owned());
    let OpenPullRequestBody {
        repo,
        head,
        base,
        title,
        body,
        draft,
    } = wanted;
    if repo
        .as_ref()
        .is_some_and(|repo| HookOwner::repository(repo).is_err())
    {
        return Err(wrong("`repo` must be owner/name"));
    }
    if body.as_ref().is_some_and(|body| body.len() > MAX_BODY) {
        return Err(wrong("`body` is longer than GitHub's limit"));
    }
    let title = title.map(checked_title).transpose()?;
    Ok(PullRequestOptions {
        repo,
        head,
        base,
        title,
        body,
        draft,
    })
}
