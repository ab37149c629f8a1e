//! Links between tasks and pull requests.

use actix_web::{HttpResponse, delete, post, web};
use chrono::Utc;
use serde::Deserialize;
use tallyhook_core::github::types::{PrKey, PrNumber};
use utoipa::ToSchema;

use super::error::{ApiError, ApiErrorBody};
use super::input::JsonInput;
use super::tasks::{TaskDetail, find};
use super::team_api::TeamApi;

/// The pull request to link.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Linked)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkRequest {
    /// `owner/name`; default: the default repository.
    pub(crate) repo: Option<String>,
    pub(crate) number: i64,
}

/// Links a pull request to a task, whether or not it names the task's key.
#[utoipa::path(
    tag = "tasks", operation_id = "link_pull_request", security(("token" = [])),
    params(("id" = String, Path, description = "id or key")), request_body = LinkRequest,
    responses(
        (status = 201, body = TaskDetail),
        (status = 200, body = TaskDetail, description = "it was linked already"),
        (status = 404, body = ApiErrorBody),
    )
)]
#[post("/tasks/{id}/prs")]
pub(super) async fn link(
    api: TeamApi,
    id: web::Path<String>,
    JsonInput(linked): JsonInput<LinkRequest>,
) -> Result<HttpResponse, ApiError> {
    let (is_new, task) = api.link_pull_request(&id, linked).await?;
    let mut answer = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer.json(task))
}

/// Removes a link. A pull request that names the task's key remains linked by it.
#[utoipa::path(
    tag = "tasks", operation_id = "unlink_pull_request",
    security(("token" = [])),
    params(
        ("id" = String, Path, description = "id or key"),
        ("owner" = String, Path), ("repo" = String, Path), ("number" = i64, Path)
    ),
    responses((status = 204, description = "no longer linked"), (status = 404, body = ApiErrorBody))
)]
#[delete("/tasks/{id}/prs/{owner}/{repo}/{number}")]
pub(super) async fn unlink(
    api: TeamApi,
    path: web::Path<(String, String, String, i64)>,
) -> Result<HttpResponse, ApiError> {
    let (id, owner, repo, number) = path.into_inner();
    let (repo, number) = (format!("{owner}/{repo}"), PrNumber(number));
    api.unlink_pull_request(&id, &repo, number).await?;
    Ok(HttpResponse::NoContent().finish())
}

impl TeamApi {
    /// Links a pull request as `POST /api/tasks/{id}/prs`. Returns true if it was not linked.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn link_pull_request(
        &self,
        id: &str,
        linked: LinkRequest,
    ) -> Result<(bool, TaskDetail), ApiError> {
        let task = find(self, id).await?;
        let default = || self.default_repository().map(str::to_owned);
        let name = linked.repo.or_else(default);
        let name = name.ok_or_else(|| {
            ApiError::BadRequest("`repo` is missing, and there is no default repository".to_owned())
        })?;
        let repo = self.store.repository_id(&name).await?;
        let key = PrKey {
            repo: repo.ok_or(ApiError::NotFound("repository"))?,
            number: PrNumber(linked.number),
        };
        if self.store.pull_request(key).await?.is_none() {
            return Err(ApiError::NotFound(
                "pull request here: fetch it with a backfill, or watch it",
            ));
        }
        let is_new = self.store.link_task(task.id, key, Utc::now()).await?;
        Ok((is_new, self.task(id).await?))
    }

    /// Removes a link as `DELETE /api/tasks/{id}/prs/{owner}/{repo}/{number}`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn unlink_pull_request(
        &self,
        id: &str,
        repo: &str,
        number: PrNumber,
    ) -> Result<(), ApiError> {
        let task = find(self, id).await?;
        let repo = self.store.repository_id(repo).await?;
        let repo = repo.ok_or(ApiError::NotFound("repository"))?;
        let key = PrKey { repo, number };
        match self.store.unlink_task(task.id, key, Utc::now()).await? {
            true => Ok(()),
            false => Err(ApiError::NotFound("link")),
        }
    }
}
