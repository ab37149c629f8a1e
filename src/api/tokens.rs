//! The API tokens of the caller's team.

use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use tallyhook_core::text::{check_name, read_login};
use tallyhook_store::{AccessRole, ApiToken, NewToken, Store, StoreError, TeamId, UserId};
use utoipa::ToSchema;

use super::caller::Caller;
use super::error::{ApiError, ApiErrorBody};
use super::input::JsonInput;
use super::members::PersonItem;
use super::page::Page;
use super::{ApiState, auth, rfc3339};

/// The days after which a token expires for which nothing else is said.
pub const DEFAULT_DAYS: u32 = 90;
/// The most days that a token may be valid, unless it has no end.
pub const MAX_DAYS: u32 = 3650;

/// A token, without its value.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenItem {
    pub name: String,
    #[schema(example = "default")]
    pub team: String,
    pub role: AccessRole,
    /// The login on GitHub that `me` means to its holder.
    pub login: Option<String>,
    /// The person who made it, and without whose membership it has no force; null of one that was
    /// made on the server or by a token of no person.
    pub created_by: Option<PersonItem>,
    #[schema(format = "date-time")]
    pub created_at: String,
    /// Null is a token without an end.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub expires_at: Option<String>,
    /// To the minute; null if it was never used.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub last_used_at: Option<String>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub revoked_at: Option<String>,
}

impl From<ApiToken> for TokenItem {
    fn from(token: ApiToken) -> Self {
        Self {
            name: token.name,
            team: token.team,
            role: token.role,
            login: token.login,
            created_by: token.created_by.map(PersonItem::from),
            created_at: rfc3339(token.created_at),
            expires_at: token.expires_at.map(rfc3339),
            last_used_at: token.last_used_at.map(rfc3339),
            revoked_at: token.revoked_at.map(rfc3339),
        }
    }
}

/// A new token, shown this once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    #[schema(example = "tallyhook_0123...")]
    pub token: String,
    pub name: String,
    #[schema(example = "default")]
    pub team: String,
    pub role: AccessRole,
    pub login: Option<String>,
    /// Null is a token without an end.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub expires_at: Option<String>,
}

/// The properties of a token that is made now.
#[derive(Clone, Copy, Debug)]
pub struct TokenOrder<'a> {
    pub name: &'a str,
    pub role: AccessRole,
    /// The login on GitHub that `me` means to its holder.
    pub login: Option<&'a str>,
    /// The person without whose membership it has no force.
    pub created_by: Option<UserId>,
    /// `None` is a token without an end.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A token to create.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TokenMade)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTokenBody {
    /// 1 to 100 characters.
    pub(crate) name: String,
    pub(crate) role: AccessRole,
    /// The login on GitHub that `me` means to its holder.
    pub(crate) login: Option<String>,
    /// 90 if it is left out; null is a token without an end.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 3650)]
    pub(crate) expires_days: Option<Option<u32>>,
}

/// Deserializes null as `Some(None)`, apart from a field that is left out.
fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Creates a token and stores its digest; returns `None` if the name is taken. The one way in which
/// tokens of people are made.
///
/// # Errors
/// If the database fails.
pub async fn create_token(
    store: &Store,
    (team, team_name): (TeamId, &str),
    order: TokenOrder<'_>,
) -> Result<Option<TokenCreated>, StoreError> {
    let TokenOrder {
        name,
        role,
        login,
        created_by,
        expires_at,
    } = order;
    let token = auth::new_token();
    let new = NewToken {
        name,
        hash: &auth::hash(&token),
        team,
        role,
        login,
        created_by,
        created_at: Utc::now(),
        expires_at,
    };
    Ok(store.create_token(&new).await?.then(|| TokenCreated {
        token,
        name: name.to_owned(),
        team: team_name.to_owned(),
        role,
        login: login.map(str::to_owned),
        expires_at: expires_at.map(rfc3339),
    }))
}

/// The tokens of the team, with revoked ones, the oldest first.
#[utoipa::path(
    tag = "tokens", operation_id = "list_tokens", security(("token" = [])),
    responses((status = 200, body = Page<TokenItem>))
)]
#[get("/tokens")]
pub(super) async fn list(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
) -> Result<web::Json<Page<TokenItem>>, ApiError> {
    Ok(web::Json(api.tokens(&caller).await?))
}

impl ApiState {
    /// Answers as `GET /api/tokens`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn tokens(&self, caller: &Caller) -> Result<Page<TokenItem>, ApiError> {
        let tokens = self.store.tokens(Some(caller.team)).await?;
        let items = tokens.into_iter().map(TokenItem::from);
        Ok(Page::new(items.collect(), None))
    }

    /// Creates a token as `POST /api/tokens`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn create_token(
        &self,
        caller: &Caller,
        body: CreateTokenBody,
    ) -> Result<TokenCreated, ApiError> {
        let CreateTokenBody {
            name,
            role,
            login,
            expires_days,
        } = body;
        check_name(&name).map_err(|why| ApiError::BadRequest(format!("`name` {why}")))?;
        let login = login.as_deref().map(read_login).transpose();
        let login = login.map_err(|why| ApiError::BadRequest(format!("`login` {why}")))?;
        if role == AccessRole::Operator {
            return Err(ApiError::Forbidden(
                "tokens of operators are made by `tallyhook token create` on the server",
            ));
        }
        // None has more rights than the token that makes it.
        caller.require(role)?;
        let days = expires_days.unwrap_or(Some(DEFAULT_DAYS));
        if days.is_some_and(|days| !(1..=MAX_DAYS).contains(&days)) {
            return Err(ApiError::BadRequest(format!(
                "`expires_days` must be a whole number from 1 to {MAX_DAYS}, or null for no end"
            )));
        }
        let expires_at = days.map(|days| Utc::now() + TimeDelta::days(days.into()));
        let team = (caller.team, &*caller.team_name);
        let order = TokenOrder {
            name: &name,
            role,
            login,
            created_by: caller.known.person.as_ref().map(|person| person.id),
            expires_at,
        };
        let created = create_token(&self.store, team, order).await?;
        let taken = || {
            ApiError::Conflict(format!(
                "there is a token `{name}`: revoke it first, or choose another name"
            ))
        };
        created.ok_or_else(taken)
    }

    /// Revokes a token as `DELETE /api/tokens/{name}`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn revoke_token(&self, caller: &Caller, name: &str) -> Result<(), ApiError> {
        let tokens = self.store.tokens(Some(caller.team)).await?;
        if let Some(token) = tokens.iter().find(|token| token.name == *name) {
            caller.require(token.role)?;
        }
        let revoked = self.store.revoke_token(caller.team, name, Utc::now());
        match revoked.await? {
            true => Ok(()),
            false => Err(ApiError::NotFound("token")),
        }
    }
}

/// Creates a token of the team, with at most the role of the caller. Its value is in this answer only.
///
/// One that a person makes has at most the role that the person has at each of its uses, and none once
/// the person has left the team.
#[utoipa::path(
    tag = "tokens", operation_id = "create_token", security(("token" = [])),
    request_body = CreateTokenBody,
    responses(
        (status = 201, body = TokenCreated),
        (status = 403, description = "Tokens of operators are made by `tallyhook token create` on \
            the server", body = ApiErrorBody),
        (status = 409, description = "The name is taken", body = ApiErrorBody),
    )
)]
#[post("/tokens")]
pub(super) async fn create(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    JsonInput(body): JsonInput<CreateTokenBody>,
) -> Result<HttpResponse, ApiError> {
    let created = api.create_token(&caller, body).await?;
    Ok(HttpResponse::Created().json(created))
}

/// Revokes a token of the team, and ends its sessions.
#[utoipa::path(
    tag = "tokens", operation_id = "revoke_token", security(("token" = [])),
    params(("name" = String, Path)),
    responses(
        (status = 204, description = "It is revoked"),
        (status = 404, description = "There is no such token in force", body = ApiErrorBody),
    )
)]
#[delete("/tokens/{name}")]
pub(super) async fn revoke(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    name: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    api.revoke_token(&caller, &name).await?;
    Ok(HttpResponse::NoContent().finish())
}
