//! Sessions of browsers: signing in with a token or by a link, signing out, and the caller's own
//! sessions.

use actix_web::dev::Payload;
use actix_web::http::header::{LOCATION, ORIGIN, SET_COOKIE, USER_AGENT};
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tallyhook_core::text::one_line;
use tallyhook_store::{
    AccessRole, NewSession, SessionId, SessionOwner, SessionRecord, TeamId, TokenHash, UserId,
};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::caller::{Caller, CallerCredential, CallerKind, KnownCaller, session_times};
use super::error::{ApiError, ApiErrorBody};
use super::page::Page;
use super::request_body::STRANGERS_FORM;
use super::session_cookie::{self, csrf_token, header, is_loopback};
use super::{
    ApiState, acts, answers, auth, base_path, is_public_plain, request_body, rfc3339, same_origin,
};

/// A session ends after so long, however much it is used.
const SESSION_LIFETIME: TimeDelta = TimeDelta::days(30);
/// Characters of the name of a browser that are stored.
const MAX_AGENT: usize = 200;
/// The page for a browser that has signed out.
const LOGIN: &str = "/login";

/// The form of `POST /login`.
#[derive(Debug, ToSchema)]
#[schema(as = Login)]
pub(super) struct LoginForm {
    token: String,
    /// The path below this server's address to go on with, `/` if it is left out.
    #[schema(value_type = Option<String>, example = "/prs?state=open")]
    next: String,
}

impl LoginForm {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let missing = "the form has no field `token`: send one of `tallyhook token create NAME`";
        let token = form_field(body, "token").filter(|token| !token.is_empty());
        let next = form_field(body, "next").filter(|next| is_own_path(next));
        Ok(Self {
            token: token.ok_or_else(|| ApiError::BadRequest(missing.to_owned()))?,
            next: next.unwrap_or_else(|| "/".to_owned()),
        })
    }
}

/// The form of `POST /logout`.
#[derive(Debug, ToSchema)]
#[schema(as = Logout)]
#[expect(dead_code, reason = "the form's fields are read one by one")]
pub(super) struct LogoutForm {
    /// The `csrf_token` of the session, needed in a form.
    csrf_token: Option<String>,
}

pub(super) fn form_field(body: &[u8], name: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(body);
    let (_, value) = fields.find(|(known, _)| known == name)?;
    Some(value.trim().to_owned())
}

/// Returns true for a path of this server, which no browser takes for another host.
pub(crate) fn is_own_path(path: &str) -> bool {
    let mut bytes = path.bytes();
    let is_rooted = bytes.next() == Some(b'/') && !matches!(bytes.next(), Some(b'/' | b'\\'));
    is_rooted && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The caller of a request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Me {
    pub kind: CallerKind,
    /// Null of a token without a login that no person made.
    pub user: Option<MeUser>,
    /// The team of this request; null for a person who has to choose one of several, or has none.
    #[schema(value_type = Option<String>, example = "default")]
    pub team: Option<String>,
    /// In the team.
    pub role: Option<AccessRole>,
    /// Every team of the caller.
    pub teams: Vec<MeTeam>,
    /// Of a session: what its forms send as `csrf_token`, or as `X-CSRF-Token`.
    pub csrf_token: Option<String>,
}

/// The person that "me" means.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MeUser {
    /// Null of a token whose login is not that of the person who made it.
    pub id: Option<i64>,
    /// On GitHub.
    pub login: Option<String>,
    pub name: Option<String>,
}

impl MeUser {
    fn of(caller: &KnownCaller) -> Option<Self> {
        let person = caller.person.as_ref();
        let person = person.filter(|person| person.login == caller.login);
        (person.is_some() || caller.login.is_some()).then(|| Self {
            id: person.map(|person| person.id.0),
            login: caller.login.clone(),
            name: person.and_then(|person| person.name.clone()),
        })
    }
}

/// The role in a team.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MeTeam {
    #[schema(example = "default")]
    pub team: String,
    pub role: AccessRole,
}

impl Me {
    fn new(known: &KnownCaller, caller: Option<&Caller>, csrf_token: Option<String>) -> Self {
        let teams = known.teams.iter().map(|membership| MeTeam {
            team: membership.team_name.clone(),
            role: membership.role,
        });
        Self {
            kind: known.kind,
            user: MeUser::of(known),
            team: caller.map(|caller| caller.team_name.clone()),
            role: caller.map(|caller| caller.role),
            teams: teams.collect(),
            csrf_token,
        }
    }
}

/// A session of the caller.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionItem {
    pub id: i64,
    #[schema(format = "date-time")]
    pub created_at: String,
    /// To the minute.
    #[schema(format = "date-time")]
    pub last_used_at: String,
    #[schema(format = "date-time")]
    pub expires_at: String,
    /// The browser, as it names itself.
    pub agent: Option<String>,
    /// True for the session of this request.
    pub is_current: bool,
}

impl SessionItem {
    fn new(session: SessionRecord, current: Option<SessionId>) -> Self {
        Self {
            id: session.id.0,
            created_at: rfc3339(session.created_at),
            last_used_at: rfc3339(session.last_used_at),
            expires_at: rfc3339(session.expires_at),
            agent: session.agent,
            is_current: Some(session.id) == current,
        }
    }
}

/// Starts a session with a token, and sets its cookie. A browser is sent on to `next`; a program
/// gets the caller as JSON.
///
/// The cookie is `__Host-tallyhook`, or `tallyhook` over plain HTTP on this machine. The session has
/// the rights of its token, and ends with it, after 7 days without use, or after 30 days.
#[utoipa::path(
    tag = "sessions", operation_id = "login",
    request_body(content = LoginForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Me),
        (status = 303, description = "To `next`, for a client that prefers `text/html`"),
        (status = 400, description = "The form has no token", body = ApiErrorBody),
        (status = 401, description = "The token is not valid", body = ApiErrorBody),
        (status = 403, description = "The page of another site made the request, or a page over \
            plain HTTP elsewhere than on this machine", body = ApiErrorBody),
        (status = 408, description = "The body did not arrive in time", body = ApiErrorBody),
        (status = 413, description = "The body is larger than 4 KiB", body = ApiErrorBody),
        (status = 415, description = "The body is no form", body = ApiErrorBody),
        (status = 429, description = "This address has sent many wrong tokens; `Retry-After` names \
            the pause", body = ApiErrorBody),
        (status = 503, description = "The database is not available now", body = ApiErrorBody),
    )
)]
#[post("/login", wrap = "answers::guarding_headers()")]
pub(super) async fn login(
    api: web::Data<ApiState>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let (session, next) = sign_in(&api, &request, body.into_inner()).await?;
    if answers::prefers_html(&request) {
        let next = format!("{}{next}", base_path(&request));
        return Ok(redirect(&next, session.set_cookie));
    }
    let caller = session.caller.clone().in_any_team(&api).await?;
    let csrf_token = Some(csrf_token(&session.cookie));
    let answer = Me {
        kind: CallerKind::Session,
        ..Me::new(&session.caller, Some(&caller), csrf_token)
    };
    Ok(HttpResponse::Ok()
        .insert_header((SET_COOKIE, session.set_cookie))
        .json(answer))
}

/// A session that was started.
pub(crate) struct StartedSession {
    caller: KnownCaller,
    cookie: String,
    /// The header that gives the browser its cookie.
    pub(crate) set_cookie: String,
}

/// Starts a session by the form of the login. Returns it with the path to go on with.
///
/// # Errors
/// Those of `POST /login`.
pub(crate) async fn sign_in(
    api: &ApiState,
    request: &HttpRequest,
    body: Payload,
) -> Result<(StartedSession, String), ApiError> {
    same_origin::refuse_unstated(request)?;
    refuse_plain(request)?;
    let body = request_body::read_form(request, body, STRANGERS_FORM).await?;
    let form = LoginForm::parse(&body)?;
    let session = start(api, request, auth::hash(&form.token)).await?;
    Ok((session, form.next))
}

/// Starts a session by a one-time login.
///
/// # Errors
/// Those of `POST /login`.
pub(crate) async fn sign_in_once(
    api: &ApiState,
    request: &HttpRequest,
    code: &str,
) -> Result<StartedSession, ApiError> {
    same_origin::refuse_unstated(request)?;
    refuse_plain(request)?;
    let token = api.one_time_logins.redeem(code, Instant::now());
    let token = token.ok_or_else(|| api.wrong_tokens.refuse(auth::peer(request), true))?;
    start(api, request, token).await
}

/// Starts a session of a person who has proved who it is, in a team that it is to see first.
///
/// # Errors
/// 403 over plain HTTP elsewhere than on this machine, or if the database fails.
pub(crate) async fn start_of_person(
    api: &ApiState,
    request: &HttpRequest,
    user: UserId,
    team: Option<TeamId>,
) -> Result<String, ApiError> {
    refuse_plain(request)?;
    let cookie = store_session(api, request, SessionOwner::Person(user), team).await?;
    let seconds = SESSION_LIFETIME.num_seconds();
    Ok(session_cookie::set(request, &cookie, seconds))
}

/// Starts a session of a person whom GitHub has shown, at the public address. A browser states no
/// origin there, since it comes from another site.
///
/// # Errors
/// If the database fails.
pub(super) async fn start_at_public_url(
    api: &ApiState,
    request: &HttpRequest,
    user: UserId,
    team: Option<TeamId>,
) -> Result<String, ApiError> {
    let cookie = store_session(api, request, SessionOwner::Person(user), team).await?;
    let seconds = SESSION_LIFETIME.num_seconds();
    let is_plain = is_public_plain(request);
    Ok(session_cookie::SESSION.set(request, &cookie, seconds, is_plain))
}

/// Starts a session with the rights of the token of this digest.
async fn start(
    api: &ApiState,
    request: &HttpRequest,
    token: TokenHash,
) -> Result<StartedSession, ApiError> {
    let caller = KnownCaller::of(api, &CallerCredential::Token(token)).await?;
    let refuse = || api.wrong_tokens.refuse(auth::peer(request), true);
    let caller = caller.ok_or_else(refuse)?;
    let cookie = store_session(api, request, SessionOwner::Token(token), None).await?;
    let seconds = SESSION_LIFETIME.num_seconds();
    Ok(StartedSession {
        caller,
        set_cookie: session_cookie::set(request, &cookie, seconds),
        cookie,
    })
}

/// Stores a session in place of the one of this browser. Returns the cookie's value.
async fn store_session(
    api: &ApiState,
    request: &HttpRequest,
    owner: SessionOwner,
    team: Option<TeamId>,
) -> Result<String, ApiError> {
    // A value of its own for each session: one that was in the browser before is never taken up.
    let cookie = auth::random_text();
    let now = Utc::now();
    let agent = request.headers().get(USER_AGENT);
    let agent = agent.map(|agent| one_line(&String::from_utf8_lossy(agent.as_bytes()), MAX_AGENT));
    let replaced = session_cookie::read(request).map(|value| auth::hash(&value));
    let session = NewSession {
        hash: &auth::hash(&cookie),
        owner,
        team,
        expires_at: now + SESSION_LIFETIME,
        agent: agent.as_deref(),
        replaces: replaced.as_ref(),
    };
    let start = api.store.start_session(&session, session_times(now));
    acts::signed_in(api, request, (&owner, team), start).await?;
    Ok(cookie)
}

/// Refuses a page that was loaded over plain HTTP from another machine: the token would cross the
/// network in the clear, and the browser would drop the cookie.
pub(super) fn refuse_plain(request: &HttpRequest) -> Result<(), ApiError> {
    let is_plain = header(request, &ORIGIN).is_some_and(|origin| origin.starts_with("http://"));
    if is_plain && !is_loopback(request) {
        return Err(ApiError::Forbidden(
            "a token is not taken over plain HTTP: use HTTPS, or a browser on the server's machine",
        ));
    }
    Ok(())
}

fn redirect(path: &str, cookie: String) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((LOCATION, path))
        .insert_header((SET_COOKIE, cookie))
        .finish()
}

/// Ends the session of the request's cookie, and deletes the cookie.
#[utoipa::path(
    tag = "sessions", operation_id = "logout",
    request_body(content = Option<LogoutForm>, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 204, description = "It has ended"),
        (status = 303, description = "To the login, for a client that prefers `text/html`"),
        (status = 403, description = "The page of another site made the request, or a form without \
            the token of its page", body = ApiErrorBody),
        (status = 408, description = "The body did not arrive in time", body = ApiErrorBody),
        (status = 413, description = "The body is larger than 4 KiB", body = ApiErrorBody),
        (status = 503, description = "The database is not available now", body = ApiErrorBody),
    )
)]
#[post("/logout", wrap = "answers::guarding_headers()")]
pub(super) async fn logout(
    api: web::Data<ApiState>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    same_origin::refuse_unstated(&request)?;
    let body = match same_origin::is_form(&request) {
        true => request_body::read_form(&request, body.into_inner(), STRANGERS_FORM).await?,
        false => web::Bytes::new(),
    };
    same_origin::check_form(&request, form_field(&body, auth::CSRF_FIELD).as_deref())?;
    if let Some(value) = session_cookie::read(&request) {
        let credential = CallerCredential::Session(auth::hash(&value));
        if let Some(caller) = KnownCaller::of(&api, &credential).await? {
            api.store
                .end_sessions(&caller.owner, caller.session)
                .await?;
        }
    }
    let set = session_cookie::set(&request, "", 0);
    if answers::prefers_html(&request) {
        return Ok(redirect(&format!("{}{LOGIN}", base_path(&request)), set));
    }
    Ok(HttpResponse::NoContent()
        .insert_header((SET_COOKIE, set))
        .finish())
}

/// The caller: its kind, person, team and role, and all of its teams.
#[utoipa::path(
    tag = "sessions", operation_id = "show_me", security(("token" = [])),
    responses((status = 200, body = Me))
)]
#[get("/me")]
pub(super) async fn show(
    known: web::ReqData<KnownCaller>,
    caller: Option<web::ReqData<Caller>>,
    request: HttpRequest,
) -> web::Json<Me> {
    let cookie = session_cookie::read(&request).filter(|_| known.session.is_some());
    let csrf_token = cookie.as_deref().map(csrf_token);
    web::Json(Me::new(&known, caller.as_deref(), csrf_token))
}

/// The sessions of the caller, a person or a token, the newest first.
#[utoipa::path(
    tag = "sessions", operation_id = "list_my_sessions", security(("token" = [])),
    responses((status = 200, body = Page<SessionItem>))
)]
#[get("/me/sessions")]
pub(super) async fn list(
    api: web::Data<ApiState>,
    caller: web::ReqData<KnownCaller>,
) -> Result<web::Json<Page<SessionItem>>, ApiError> {
    Ok(web::Json(api.sessions(&caller).await?))
}

impl ApiState {
    /// Answers as `GET /api/me/sessions`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn sessions(
        &self,
        caller: &KnownCaller,
    ) -> Result<Page<SessionItem>, ApiError> {
        let sessions = self
            .store
            .sessions(&caller.owner, session_times(Utc::now()));
        let sessions = sessions.await?.into_iter();
        let items = sessions.map(|session| SessionItem::new(session, caller.session));
        Ok(Page::new(items.collect(), None))
    }

    /// Ends a session as `DELETE /api/me/sessions/{id}`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn end_session(&self, caller: &KnownCaller, id: i64) -> Result<(), ApiError> {
        let ended = self.store.end_sessions(&caller.owner, Some(SessionId(id)));
        match ended.await? {
            0 => Err(ApiError::NotFound("session")),
            _ => Ok(()),
        }
    }

    /// Ends all sessions as `DELETE /api/me/sessions`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn end_all_sessions(&self, caller: &KnownCaller) -> Result<(), ApiError> {
        self.store.end_sessions(&caller.owner, None).await?;
        Ok(())
    }
}

/// Ends all sessions of the caller: it is signed out everywhere.
#[utoipa::path(
    tag = "sessions", operation_id = "end_my_sessions", security(("token" = [])),
    responses((status = 204, description = "They have ended"))
)]
#[delete("/me/sessions")]
pub(super) async fn end_all(
    api: web::Data<ApiState>,
    caller: web::ReqData<KnownCaller>,
) -> Result<HttpResponse, ApiError> {
    api.end_all_sessions(&caller).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends a session of the caller.
#[utoipa::path(
    tag = "sessions", operation_id = "end_my_session", security(("token" = [])),
    params(("id" = i64, Path)),
    responses(
        (status = 204, description = "It has ended"),
        (status = 404, body = ApiErrorBody),
    )
)]
#[delete("/me/sessions/{id}")]
pub(super) async fn end(
    api: web::Data<ApiState>,
    caller: web::ReqData<KnownCaller>,
    id: web::Path<i64>,
) -> Result<HttpResponse, ApiError> {
    api.end_session(&caller, *id).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browser_is_sent_on_within_this_server_only() {
        for (next, expected) in [
            ("", "/"),
            ("next=/prs%3Fstate%3Dopen", "/prs?state=open"),
            ("next=/", "/"),
            ("next=//evil.net", "/"),
            ("next=/%5Cevil.net", "/"),
            ("next=https://evil.net", "/"),
            ("next=javascript:alert(1)", "/"),
            ("next=/a%0d%0aSet-Cookie:x=1", "/"),
            ("next=/%09/evil.net", "/"),
            ("next=prs", "/"),
        ] {
            let form = LoginForm::parse(format!("token=t&{next}").as_bytes()).unwrap();
            assert_eq!(form.next, expected, "{next}");
        }
        for body in ["", "token=", "token=%20", "Token=t"] {
            assert!(LoginForm::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
