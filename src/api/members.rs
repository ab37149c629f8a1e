//! The members of a team.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_store::{
    AccessRole, MemberAddition, MemberChange, MemberRecord, MemberSource, PersonName, UserId,
};
use utoipa::ToSchema;

use super::caller::Caller;
use super::error::{ApiError, ApiErrorBody};
use super::input::JsonInput;
use super::page::Page;
use super::{ApiState, rfc3339};

/// A person by the names that lists show; one of the two is there.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Person)]
pub struct PersonItem {
    pub id: i64,
    /// On GitHub.
    pub login: Option<String>,
    pub name: Option<String>,
}

impl From<PersonName> for PersonItem {
    fn from(person: PersonName) -> Self {
        Self {
            id: person.id.0,
            login: person.login,
            name: person.name,
        }
    }
}

impl PersonItem {
    /// Returns the name by which a page shows the person.
    pub(crate) fn shown(&self) -> &str {
        let name = self.login.as_deref().or(self.name.as_deref());
        name.unwrap_or("unnamed")
    }
}

/// A member of the team.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Member)]
pub struct MemberItem {
    pub user: PersonItem,
    pub role: AccessRole,
    /// Rules change the membership of `rule` alone.
    pub source: MemberSource,
    /// The last time that GitHub confirmed the rule.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub github_checked_at: Option<String>,
    #[schema(format = "date-time")]
    pub created_at: String,
}

impl From<MemberRecord> for MemberItem {
    fn from(member: MemberRecord) -> Self {
        Self {
            user: member.person.into(),
            role: member.role,
            source: member.source,
            github_checked_at: member.github_checked_at.map(rfc3339),
            created_at: rfc3339(member.created_at),
        }
    }
}

/// A member to add.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = MemberAdded)]
#[serde(deny_unknown_fields)]
pub(super) struct AddMemberBody {
    /// The id of a person whom the team has invited; for an operator of any person.
    user: i64,
    /// At most the role of the caller.
    role: AccessRole,
}

/// The role that a member is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = MemberRole)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberRoleBody {
    /// At most the role of the caller.
    role: AccessRole,
}

impl Caller {
    /// Refuses a role that the caller may not give to others in the team.
    ///
    /// # Errors
    /// 400 for the role of the installation, 403 for one above the caller's.
    pub(super) fn may_give(&self, role: AccessRole) -> Result<(), ApiError> {
        if role == AccessRole::Operator {
            return Err(ApiError::BadRequest(
                "`role` must be viewer, member or admin: operator is no role in a team".to_owned(),
            ));
        }
        self.require(role)
    }
}

impl ApiState {
    /// Answers as `GET /api/members`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn members(&self, caller: &Caller) -> Result<Page<MemberItem>, ApiError> {
        let members = self.store.members(caller.team).await?.into_iter();
        Ok(Page::new(members.map(MemberItem::from).collect(), None))
    }

    async fn member(&self, caller: &Caller, user: UserId) -> Result<MemberItem, ApiError> {
        let mut members = self.store.members(caller.team).await?.into_iter();
        let member = members.find(|member| member.person.id == user);
        member.map(MemberItem::from).ok_or_else(not_found)
    }

    /// Returns true if the caller may name a person: it is an operator, or the person is a member of
    /// the team or invited to it. Others are as if they did not exist.
    pub(super) async fn may_name(&self, caller: &Caller, user: UserId) -> Result<bool, ApiError> {
        if caller.may(AccessRole::Operator) || self.store.is_invited(caller.team, user).await? {
            return Ok(true);
        }
        let members = self.store.members(caller.team).await?;
        Ok(members.iter().any(|member| member.person.id == user))
    }

    /// Sets a role as `PATCH /api/members/{user}`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn set_member_role(
        &self,
        caller: &Caller,
        user: i64,
        role: AccessRole,
    ) -> Result<MemberItem, ApiError> {
        caller.may_give(role)?;
        let user = UserId(user);
        let change = self.store.set_member_role(caller.team, user, role);
        changed(change.await?)?;
        self.member(caller, user).await
    }

    /// Removes a member as `DELETE /api/members/{user}`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn remove_member(&self, caller: &Caller, user: i64) -> Result<(), ApiError> {
        let change = self.store.remove_member(caller.team, UserId(user));
        changed(change.await?)
    }

    /// Leaves the team as `DELETE /api/me/membership`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn leave_team(&self, caller: &Caller) -> Result<(), ApiError> {
        let person = caller.known.person.as_ref();
        let person = person.ok_or(ApiError::NotFound("membership"))?;
        let change = self.store.remove_member(caller.team, person.id).await?;
        match change {
            MemberChange::NotMember => Err(ApiError::NotFound("membership")),
            change => changed(change),
        }
    }
}

fn not_found() -> ApiError {
    ApiError::NotFound("member")
}

fn changed(change: MemberChange) -> Result<(), ApiError> {
    match change {
        MemberChange::Done => Ok(()),
        MemberChange::NotMember => Err(not_found()),
        MemberChange::LastAdmin => Err(ApiError::Conflict(
            "this is the last admin of the team: make another member admin first".to_owned(),
        )),
    }
}

/// The members of the team, the oldest first.
#[utoipa::path(
    tag = "members", operation_id = "list_members", security(("token" = [])),
    responses((status = 200, body = Page<MemberItem>))
)]
#[get("/members")]
pub(super) async fn list(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
) -> Result<web::Json<Page<MemberItem>>, ApiError> {
    Ok(web::Json(api.members(&caller).await?))
}

/// Makes a person a member of the team without an invitation. Others are invited.
#[utoipa::path(
    tag = "members", operation_id = "add_member", security(("token" = [])),
    request_body = AddMemberBody,
    responses(
        (status = 201, body = MemberItem),
        (status = 404, description = "There is no such person, or the team has not invited it",
            body = ApiErrorBody),
        (status = 409, description = "The person is a member", body = ApiErrorBody),
    )
)]
#[post("/members")]
pub(super) async fn add(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    JsonInput(body): JsonInput<AddMemberBody>,
) -> Result<HttpResponse, ApiError> {
    let user = UserId(body.user);
    caller.may_give(body.role)?;
    if !api.may_name(&caller, user).await? {
        return Err(ApiError::NotFound("person"));
    }
    let added = api
        .store
        .add_member(caller.team, user, body.role, Utc::now());
    match added.await? {
        MemberAddition::Added => {
            let member = api.member(&caller, user).await?;
            Ok(HttpResponse::Created().json(member))
        }
        MemberAddition::IsMember => Err(ApiError::Conflict(
            "the person is a member: change its role instead".to_owned(),
        )),
        MemberAddition::Unknown => Err(ApiError::NotFound("person")),
    }
}

/// Sets the role of a member. From then on no rule changes it. The last admin stays one.
#[utoipa::path(
    tag = "members", operation_id = "set_member_role", security(("token" = [])),
    params(("user" = i64, Path)), request_body = MemberRoleBody,
    responses(
        (status = 200, body = MemberItem),
        (status = 404, body = ApiErrorBody),
        (status = 409, description = "It is the last admin", body = ApiErrorBody),
    )
)]
#[patch("/members/{user}")]
pub(super) async fn set_role(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    user: web::Path<i64>,
    JsonInput(body): JsonInput<MemberRoleBody>,
) -> Result<web::Json<MemberItem>, ApiError> {
    let member = api.set_member_role(&caller, *user, body.role).await?;
    Ok(web::Json(member))
}

/// Removes a member. The tokens that it made for the team have no force from then on. The last admin
/// stays, and one whom a rule still makes a member comes back when it is checked.
#[utoipa::path(
    tag = "members", operation_id = "remove_member", security(("token" = [])),
    params(("user" = i64, Path)),
    responses(
        (status = 204, description = "It is no member any more"),
        (status = 404, body = ApiErrorBody),
        (status = 409, description = "It is the last admin", body = ApiErrorBody),
    )
)]
#[delete("/members/{user}")]
pub(super) async fn remove(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    user: web::Path<i64>,
) -> Result<HttpResponse, ApiError> {
    api.remove_member(&caller, *user).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Leaves the team: the caller is no member of it any more.
#[utoipa::path(
    tag = "members", operation_id = "leave_team", security(("token" = [])),
    responses(
        (status = 204, description = "The caller is no member any more"),
        (status = 404, description = "The caller is no person, or no member", body = ApiErrorBody),
        (status = 409, description = "The caller is the last admin", body = ApiErrorBody),
    )
)]
#[delete("/me/membership")]
pub(super) async fn leave(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
) -> Result<HttpResponse, ApiError> {
    api.leave_team(&caller).await?;
    Ok(HttpResponse::NoContent().finish())
}
