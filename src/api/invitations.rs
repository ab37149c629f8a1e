//! Invitations to the team: links that can be used once, within a week.

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tallyhook_core::text::{check_name, read_login};
use tallyhook_store::{
    AccessRole, InvitationId, InvitationOffer, InvitationOutcome, InvitationRecord, InvitedPerson,
    Moment, NewInvitation, SessionOwner, Store, StoreError, TeamId, UserId,
};
use utoipa::ToSchema;

use super::caller::{Caller, KnownCaller};
use super::error::{ApiError, ApiErrorBody};
use super::input::JsonInput;
use super::members::PersonItem;
use super::page::Page;
use super::request_body::STRANGERS_FORM;
use super::{ApiState, acts, auth, public_address, request_body, rfc3339, same_origin, sessions};

/// The time in which an invitation can be used.
const LIFETIME: TimeDelta = TimeDelta::days(7);

/// An invitation to the team, without its link.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Invitation)]
pub struct InvitationItem {
    pub id: i64,
    pub role: AccessRole,
    /// The login on GitHub that it is bound to.
    pub github_login: Option<String>,
    /// The person that it is bound to.
    pub user: Option<PersonItem>,
    /// True if the link signs the person in.
    pub signs_in: bool,
    pub invited_by: Option<PersonItem>,
    #[schema(format = "date-time")]
    pub created_at: String,
    #[schema(format = "date-time")]
    pub expires_at: String,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub used_at: Option<String>,
    pub used_by: Option<PersonItem>,
}

impl From<InvitationRecord> for InvitationItem {
    fn from(invitation: InvitationRecord) -> Self {
        Self {
            id: invitation.id.0,
            role: invitation.role,
            github_login: invitation.github_login,
            user: invitation.person.map(PersonItem::from),
            signs_in: invitation.signs_in,
            invited_by: invitation.invited_by.map(PersonItem::from),
            created_at: rfc3339(invitation.created_at),
            expires_at: rfc3339(invitation.expires_at),
            used_at: invitation.used_at.map(rfc3339),
            used_by: invitation.used_by.map(PersonItem::from),
        }
    }
}

/// An invitation to make. It is bound to one person by one of `github_login`, `user` and `name`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = InvitationMade)]
#[serde(deny_unknown_fields)]
pub(crate) struct InviteBody {
    /// At most the role of the caller.
    pub(crate) role: AccessRole,
    /// The login on GitHub of the person, who signs in there.
    pub(crate) github_login: Option<String>,
    /// The id of a person whom the team knows.
    pub(crate) user: Option<i64>,
    /// The name of a person without an account at GitHub, whom the link signs in.
    pub(crate) name: Option<String>,
    /// With `name`, the login on GitHub that `me` means to the person.
    pub(crate) login: Option<String>,
}

/// A new invitation, whose link is shown this once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InvitationCreated {
    pub id: i64,
    /// The link, which is a secret.
    #[schema(example = "https://tallyhook.example.com/invitations/0123...")]
    pub url: String,
    pub role: Option<AccessRole>,
    /// The id of the person that it is bound to.
    pub user: Option<i64>,
    #[schema(format = "date-time")]
    pub expires_at: String,
}

/// The link of a new invitation.
pub(crate) struct InvitationLink {
    pub(crate) id: InvitationId,
    pub(crate) user: Option<UserId>,
    /// The path, which is a secret.
    pub(crate) path: String,
    pub(crate) expires_at: Moment,
}

impl InvitationLink {
    /// Returns the answer with the address that others reach the path by.
    pub(crate) fn created(self, url: String, role: Option<AccessRole>) -> InvitationCreated {
        InvitationCreated {
            id: self.id.0,
            url,
            role,
            user: self.user.map(|UserId(id)| id),
            expires_at: rfc3339(self.expires_at),
        }
    }
}

/// Creates an invitation, or a link that only signs in. The one way in which links are made.
///
/// # Errors
/// If the database fails.
pub(crate) async fn create_link(
    store: &Store,
    team: Option<(TeamId, AccessRole)>,
    person: InvitedPerson<'_>,
    invited_by: Option<UserId>,
) -> Result<InvitationLink, StoreError> {
    let secret = auth::random_text();
    let now = Utc::now();
    let new = NewInvitation {
        hash: &auth::hash(&secret),
        team,
        person,
        invited_by,
        created_at: now,
        expires_at: now + LIFETIME,
    };
    let (id, user) = store.create_invitation(&new).await?;
    Ok(InvitationLink {
        id,
        user,
        path: format!("/invitations/{secret}"),
        expires_at: new.expires_at,
    })
}

impl InviteBody {
    fn person(&self) -> Result<InvitedPerson<'_>, ApiError> {
        let wrong = |field: &str, why: &str| ApiError::BadRequest(format!("`{field}` {why}"));
        let login = |field, login| read_login(login).map_err(|why| wrong(field, why));
        let Self {
            github_login,
            user,
            name,
            login: me,
            ..
        } = self;
        let person = match (github_login.as_deref(), *user, name.as_deref()) {
            (None, None, None) => InvitedPerson::Anyone,
            (Some(bound), None, None) => InvitedPerson::Login(login("github_login", bound)?),
            (None, Some(user), None) => InvitedPerson::Known(UserId(user)),
            (None, None, Some(name)) => {
                check_name(name).map_err(|why| wrong("name", why))?;
                let login = me.as_deref().map(|me| login("login", me)).transpose()?;
                return Ok(InvitedPerson::New { name, login });
            }
            _ => {
                let message = "give one of `github_login`, `user` and `name`, or none of them";
                return Err(ApiError::BadRequest(message.to_owned()));
            }
        };
        match me {
            Some(_) => Err(wrong("login", "belongs to `name`: leave it out")),
            None => Ok(person),
        }
    }
}

impl ApiState {
    /// Answers as `GET /api/invitations`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn invitations(
        &self,
        caller: &Caller,
    ) -> Result<Page<InvitationItem>, ApiError> {
        let invitations = self.store.invitations(caller.team).await?.into_iter();
        Ok(Page::new(
            invitations.map(InvitationItem::from).collect(),
            None,
        ))
    }

    /// Makes an invitation as `POST /api/invitations`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn invite(
        &self,
        caller: &Caller,
        body: &InviteBody,
    ) -> Result<InvitationLink, ApiError> {
        caller.may_give(body.role)?;
        let person = body.person()?;
        if let InvitedPerson::Known(user) = person {
            let exists = self.store.user(user).await?.is_some();
            if !exists || !self.may_name(caller, user).await? {
                return Err(ApiError::NotFound("person"));
            }
        }
        let invited_by = caller.known.person.as_ref().map(|person| person.id);
        let team = Some((caller.team, body.role));
        Ok(create_link(&self.store, team, person, invited_by).await?)
    }

    /// Ends an invitation as `DELETE /api/invitations/{id}`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn end_invitation(&self, caller: &Caller, id: i64) -> Result<(), ApiError> {
        let ended = self.store.end_invitation(caller.team, InvitationId(id));
        match ended.await? {
            true => Ok(()),
            false => Err(ApiError::NotFound("open invitation")),
        }
    }

    /// Returns the invitation of a link, if it is in force.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn invitation_offer(
        &self,
        secret: &str,
    ) -> Result<Option<InvitationOffer>, ApiError> {
        let hash = auth::hash(secret);
        Ok(self.store.invitation_offer(&hash, Utc::now()).await?)
    }

    fn wrong_link(&self, request: &HttpRequest) -> ApiError {
        self.wrong_tokens.refuse(auth::peer(request), true)
    }
}

/// Uses an invitation up by the form of its page. Returns the header that sets the cookie of a new
/// session, if the link signs in.
///
/// # Errors
/// 401 if the link is not in force, or is for people who have signed in; 403 if it is bound to
/// another person, or a page of another site sent the form.
pub(crate) async fn accept_invitation(
    api: &ApiState,
    request: &HttpRequest,
    body: Payload,
    secret: &str,
) -> Result<Option<String>, ApiError> {
    same_origin::refuse_unstated(request)?;
    // Before the link is used up: it may start a session.
    sessions::refuse_plain(request)?;
    let body = request_body::read_form(request, body, STRANGERS_FORM).await?;
    let field = sessions::form_field(&body, auth::CSRF_FIELD);
    same_origin::check_form(request, field.as_deref())?;
    let known = KnownCaller::known(api, request).await?;
    // A token makes nobody a member: its session is of no person.
    let by = known.as_ref().and_then(|known| match known.owner {
        SessionOwner::Person(user) => Some(user),
        SessionOwner::Token(_) => None,
    });
    let hash = auth::hash(secret);
    let accept = api.store.accept_invitation(&hash, by, Utc::now());
    let person = known.as_ref().and_then(|known| known.person.as_ref());
    let accepted = match acts::accepted(request, person, accept).await? {
        InvitationOutcome::Accepted(accepted) => accepted,
        InvitationOutcome::NotValid => return Err(api.wrong_link(request)),
        InvitationOutcome::SignInFirst => return Err(ApiError::Unauthorized),
        InvitationOutcome::OtherPerson => {
            return Err(ApiError::Forbidden(
                "this invitation is for another person: sign in as the one that it is for",
            ));
        }
    };
    if accepted.signs_in {
        let (user, team) = (accepted.user, accepted.team);
        let set_cookie = sessions::start_of_person(api, request, user, team).await?;
        return Ok(Some(set_cookie));
    }
    let session = known.and_then(|known| known.session);
    if let (Some(session), Some(team)) = (session, accepted.team) {
        api.store.choose_team(session, team).await?;
    }
    Ok(None)
}

/// The invitations to the team, the newest first.
#[utoipa::path(
    tag = "members", operation_id = "list_invitations", security(("token" = [])),
    responses((status = 200, body = Page<InvitationItem>))
)]
#[get("/invitations")]
pub(super) async fn list(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
) -> Result<web::Json<Page<InvitationItem>>, ApiError> {
    Ok(web::Json(api.invitations(&caller).await?))
}

/// Makes a link that can be used once, within 7 days: to join the team, and with `name` to sign in,
/// too. Its address is in this answer only. An invitation of a person has no force once the person is
/// no admin of the team.
#[utoipa::path(
    tag = "members", operation_id = "invite", security(("token" = [])),
    request_body = InviteBody,
    responses(
        (status = 201, body = InvitationCreated),
        (status = 404, description = "There is no such person in the team", body = ApiErrorBody),
    )
)]
#[post("/invitations")]
pub(super) async fn create(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    request: HttpRequest,
    JsonInput(body): JsonInput<InviteBody>,
) -> Result<HttpResponse, ApiError> {
    let link = api.invite(&caller, &body).await?;
    let url = public_address(&request, &link.path);
    Ok(HttpResponse::Created().json(link.created(url, Some(body.role))))
}

/// Ends an invitation that was not used.
#[utoipa::path(
    tag = "members", operation_id = "end_invitation", security(("token" = [])),
    params(("id" = i64, Path)),
    responses(
        (status = 204, description = "Its link is worth nothing any more"),
        (status = 404, body = ApiErrorBody),
    )
)]
#[delete("/invitations/{id}")]
pub(super) async fn end(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    id: web::Path<i64>,
) -> Result<HttpResponse, ApiError> {
    api.end_invitation(&caller, *id).await?;
    Ok(HttpResponse::NoContent().finish())
}
