//! The repositories of teams, which the operator gives and takes away.

use actix_web::{HttpResponse, delete, get, put, web};
use serde::{Deserialize, Serialize};
use tallyhook_core::github::types::RepoId;
use tallyhook_store::RepositoryTeams;
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ApiErrorBody};
use super::input::QueryInput;
use super::page::{self, Page, PageSize};
use super::team_api::TeamApi;

/// A repository with the teams that see it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RepositoryTeamsItem {
    #[schema(example = "acme-corp/api-server")]
    pub repo: String,
    /// The names of the teams; empty for a repository that is unclaimed.
    pub teams: Vec<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RepositoryTeamsQuery {
    /// With true only those that no team sees.
    unclaimed: Option<bool>,
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// All repositories of the installation by name, with the teams that see them.
#[utoipa::path(
    tag = "repositories", operation_id = "list_repository_teams", security(("token" = [])),
    params(RepositoryTeamsQuery),
    responses(
        (status = 200, body = Page<RepositoryTeamsItem>),
        (status = 400, body = ApiErrorBody),
    )
)]
#[get("/repositories")]
pub(super) async fn list(
    api: TeamApi,
    QueryInput(query): QueryInput<RepositoryTeamsQuery>,
) -> Result<web::Json<Page<RepositoryTeamsItem>>, ApiError> {
    let size = query.per_page.unwrap_or_default();
    let after: Option<(String, RepoId)> = page::decode(query.cursor.as_deref())?;
    let unclaimed = query.unclaimed == Some(true);
    let rows = api
        .instance()
        .store
        .repositories_with_teams(unclaimed, after.as_ref(), size.rows())
        .await?;
    let cursor = |row: &RepositoryTeams| (row.name.clone(), row.id);
    let item = |row: RepositoryTeams| RepositoryTeamsItem {
        repo: row.name,
        teams: row.teams,
    };
    Ok(web::Json(page::page(rows, size, cursor, item)))
}

/// Gives a repository to the team, which sees its pull requests and numbers from then on; under
/// `/api/teams/{team}/` to that team. Other teams keep it.
#[utoipa::path(
    tag = "repositories", operation_id = "give_repository", security(("token" = [])),
    params(("owner" = String, Path), ("repo" = String, Path)),
    responses(
        (status = 204, description = "the team has it"),
        (status = 404, body = ApiErrorBody, description = "no such repository is known"),
    )
)]
#[put("/repositories/{owner}/{repo}")]
pub(super) async fn give(
    api: TeamApi,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let repo = known(&api, &path).await?;
    api.store.give_repository(repo).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes a repository from the team, which sees nothing of it from then on; under
/// `/api/teams/{team}/` from that team. Its facts stay.
#[utoipa::path(
    tag = "repositories", operation_id = "take_repository", security(("token" = [])),
    params(("owner" = String, Path), ("repo" = String, Path)),
    responses(
        (status = 204, description = "the team does not have it any more"),
        (status = 404, body = ApiErrorBody,
            description = "no such repository is known, or the team does not have it"),
    )
)]
#[delete("/repositories/{owner}/{repo}")]
pub(super) async fn take(
    api: TeamApi,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let repo = known(&api, &path).await?;
    match api.store.take_repository(repo).await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(ApiError::NotFound("repository")),
    }
}

/// Returns a repository of the installation by name.
async fn known(api: &TeamApi, (owner, repo): &(String, String)) -> Result<RepoId, ApiError> {
    let name = format!("{owner}/{repo}");
    let known = api.instance().store.repository_id(&name).await?;
    known.ok_or(ApiError::NotFound("repository"))
}
