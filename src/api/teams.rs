//! The teams of the caller, and the making of teams.

use actix_web::{HttpResponse, get, post, web};
use serde::{Deserialize, Serialize};
use tallyhook_core::text::team_slug;
use tallyhook_store::AccessRole;
use utoipa::ToSchema;

use super::ApiState;
use super::caller::{Caller, KnownCaller};
use super::error::{ApiError, ApiErrorBody};
use super::input::JsonInput;
use super::page::Page;
use super::sessions::MeTeam;

/// A team to create.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TeamMade)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateTeamBody {
    /// Its slug is made of it: letters, digits and dashes, at most 40.
    #[schema(example = "Mobile apps")]
    name: String,
}

/// A new team.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TeamCreated {
    /// The slug by which paths name it.
    #[schema(example = "mobile-apps")]
    pub team: String,
}

impl ApiState {
    /// Returns the slugs of the teams that a caller may choose.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn teams_of(&self, caller: &KnownCaller) -> Result<Vec<String>, ApiError> {
        if caller.is_operator {
            let teams = self.store.teams().await?.into_iter();
            return Ok(teams.map(|team| team.name).collect());
        }
        let own = caller.teams.iter();
        Ok(own.map(|team| team.team_name.clone()).collect())
    }

    /// Creates a team as `POST /api/teams`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn create_team(&self, name: &str) -> Result<TeamCreated, ApiError> {
        let team = team_slug(name).map_err(|why| ApiError::BadRequest(format!("`name` {why}")))?;
        match self.store.create_team(&team).await? {
            Some(_) => Ok(TeamCreated { team }),
            None => Err(ApiError::Conflict(format!(
                "there is a team `{team}`: choose another name"
            ))),
        }
    }

    /// Lets a session act in a team from now on.
    ///
    /// # Errors
    /// 404 for a team that the caller is not in, and 400 without a session.
    pub(crate) async fn choose_team(&self, caller: &Caller, slug: &str) -> Result<(), ApiError> {
        let session = caller.known.session.ok_or_else(|| {
            let message = "a token has one team: a path names another, as in /api/teams/TEAM/prs";
            ApiError::BadRequest(message.to_owned())
        })?;
        let chosen = caller.known.member_of(self, slug).await?;
        Ok(self.store.choose_team(session, chosen.team).await?)
    }
}

/// The teams of the caller by their slugs, with its role in each; of an operator all teams.
#[utoipa::path(
    tag = "teams", operation_id = "list_teams", security(("token" = [])),
    responses((status = 200, body = Page<MeTeam>))
)]
#[get("/teams")]
pub(super) async fn list(
    api: web::Data<ApiState>,
    caller: web::ReqData<KnownCaller>,
) -> Result<web::Json<Page<MeTeam>>, ApiError> {
    let role = |team: &str| {
        let own = caller.teams.iter().find(|known| known.team_name == team);
        own.map_or(AccessRole::Operator, |own| own.role)
    };
    let teams = api.teams_of(&caller).await?.into_iter();
    let teams = teams.map(|team| MeTeam {
        role: role(&team),
        team,
    });
    Ok(web::Json(Page::new(teams.collect(), None)))
}

/// Creates a team. While there is one team its admins are operators; with a second one only those with
/// the token of the settings, of the first start, or of that role are.
#[utoipa::path(
    tag = "teams", operation_id = "create_team", security(("token" = [])),
    request_body = CreateTeamBody,
    responses(
        (status = 201, body = TeamCreated),
        (status = 409, description = "There is a team of that name", body = ApiErrorBody),
    )
)]
#[post("/teams")]
pub(super) async fn create(
    api: web::Data<ApiState>,
    JsonInput(body): JsonInput<CreateTeamBody>,
) -> Result<HttpResponse, ApiError> {
    let created = api.create_team(&body.name).await?;
    Ok(HttpResponse::Created().json(created))
}
