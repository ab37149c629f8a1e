//! API tokens: creation, digests, and the admission of every request.

use std::net::IpAddr;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, ResponseError, web};
use rand::RngExt;
use sha2::{Digest, Sha256};
use tallyhook_store::{AccessRole, TokenHash};

use super::access::CallAccess;
use super::acts::{ActBody, PendingCall};
use super::caller::{AddressedTeam, Caller, KnownCaller};
use super::error::ApiError;
use super::{ApiState, request_body, routes, same_origin, session_cookie};

/// The field of a page's form with the session's token.
pub(crate) const CSRF_FIELD: &str = "csrf_token";

/// Returns a new token: 256 random bits, with a prefix that scanners for leaked secrets can match.
pub fn new_token() -> String {
    format!("tallyhook_{}", random_text())
}

/// Returns 256 random bits as text.
pub(super) fn random_text() -> String {
    let bits: [u8; 32] = rand::rng().random();
    hex::encode(bits)
}

/// Returns true if `text` has the form of a token made here.
pub fn is_token(text: &str) -> bool {
    text.strip_prefix("tallyhook_")
        .is_some_and(|digits| digits.len() == 64 && hex::decode(digits).is_ok())
}

/// Returns the digest that is stored of a token. Digests are looked up; a token itself is never
/// compared byte by byte.
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Middleware that refuses a request of a caller who is unknown or lacks the role of the call, and
/// gives handlers the [`Caller`].
pub(super) async fn require_caller(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    routes::resolve_team(&mut request);
    let refused = match admit(&mut request).await {
        Ok(None) => {
            return next
                .call(request)
                .await
                .map(ServiceResponse::map_into_left_body);
        }
        Ok(Some((api, act))) => {
            return Ok(match act.run(&api, next.call(request)).await? {
                Ok(answer) => answer.map_into_left_body(),
                Err((request, error)) => {
                    let refused = ServiceResponse::new(request, error.error_response());
                    refused.map_into_right_body()
                }
            });
        }
        Err(refused) => refused,
    };
    // A response, not an error: an error of a middleware would bypass the headers that every
    // response carries.
    Ok(request
        .into_response(refused.error_response())
        .map_into_right_body())
}

/// Checks the caller, its team and role, and the parameters of a request, and reads its body. A
/// request for which no call is documented ends here, so that no handler runs without a role.
/// Returns the administrative act that it is.
async fn admit(
    request: &mut ServiceRequest,
) -> Result<Option<(web::Data<ApiState>, PendingCall)>, ApiError> {
    if request.method() == Method::OPTIONS {
        // Answered with the methods of the path, which are no secret.
        return Ok(None);
    }
    let api = request.app_data::<web::Data<ApiState>>().cloned();
    let api = api.ok_or(ApiError::Unauthorized)?;
    let known = KnownCaller::of_request(&api, request.request()).await?;
    same_origin::refuse_forged(request.request(), &known)?;
    let route = routes::find(request.request());
    let route = route.ok_or_else(|| routes::missing(request.request(), true))?;
    let caller = known.clone().in_team(&api, request.request()).await;
    let names_team = request.extensions().get::<AddressedTeam>().is_some();
    let needs_team = names_team || route.access != CallAccess::AnyTeam;
    let caller = match caller {
        Err(ApiError::TeamNeeded(_) | ApiError::Forbidden(_)) if !needs_team => None,
        caller => Some(caller?),
    };
    let role = route.access.role_for(request.request());
    if let (Some(caller), Some(role)) = (&caller, role) {
        caller.require(role)?;
    }
    route.check_query(request.query_string())?;
    let body = request_body::read(request).await?;
    let call = (&*route.parts.join("/"), role);
    let team = caller.as_ref().map(|caller| caller.team);
    let act = PendingCall::of(
        &api,
        request.request(),
        call,
        (&known, team),
        ActBody::Json(&body),
    );
    let act = act.await?;
    let mut extensions = request.extensions_mut();
    extensions.insert(known);
    if let Some(caller) = caller {
        extensions.insert(caller);
    }
    drop(extensions);
    Ok(act.map(|act| (api, act)))
}

/// The request of a page that was let in.
#[derive(Debug)]
pub(crate) struct AdmittedPage {
    pub(crate) caller: Caller,
    /// The value of [`CSRF_FIELD`] in the forms of a session's pages.
    pub(crate) csrf_token: Option<String>,
    /// The fields of the form that it sends.
    pub(crate) fields: Vec<(String, String)>,
    /// The number of dead letters, for a caller who may see them.
    pub(crate) dead_letters: u64,
    /// The slugs of the teams that the session's holder may choose.
    pub(crate) teams: Vec<String>,
}

/// The need of a page for a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageTeam {
    /// It shows what is of one.
    Needed,
    /// It is the same in each; a caller who has to choose one may see it.
    Any,
}

/// Admits the request of a page: checks its caller and role and, if it changes something, that a
/// page of this server made it. Returns the administrative act that it is, too.
///
/// # Errors
/// 401, 403, or those of the form's body.
pub(crate) async fn admit_page(
    request: &mut ServiceRequest,
    path: &str,
    role: AccessRole,
    team: PageTeam,
) -> Result<(AdmittedPage, Option<(web::Data<ApiState>, PendingCall)>), ApiError> {
    let api = request.app_data::<web::Data<ApiState>>().cloned();
    let api = api.ok_or(ApiError::Unauthorized)?;
    let known = KnownCaller::of_request(&api, request.request()).await?;
    let caller = match team {
        PageTeam::Needed => known.in_team(&api, request.request()).await?,
        PageTeam::Any => known.in_any_team(&api).await?,
    };
    caller.require(role)?;
    let session = caller.known.session;
    let cookie = session_cookie::read(request.request()).filter(|_| session.is_some());
    let csrf_token = cookie.as_deref().map(session_cookie::csrf_token);
    let mut fields = Vec::new();
    if !request.method().is_safe() {
        same_origin::refuse_unstated(request.request())?;
        let payload = request.take_payload();
        let limit = request_body::PAGE_FORM;
        let body = request_body::read_form(request.request(), payload, limit).await?;
        fields.extend(form_urlencoded::parse(&body).into_owned());
        let sent = fields.iter().find(|(name, _)| name == CSRF_FIELD);
        same_origin::check_form(request.request(), sent.map(|(_, value)| value.as_str()))?;
    }
    let dead_letters = match caller.may(AccessRole::Operator) {
        // The page itself says what fails.
        true => api.counts().await.map_or(0, |counts| counts.inbox.dead),
        false => 0,
    };
    let (call, by) = ((path, Some(role)), (&caller.known, Some(caller.team)));
    let body = ActBody::Form(&fields);
    let act = PendingCall::of(&api, request.request(), call, by, body).await?;
    let admitted = AdmittedPage {
        dead_letters,
        teams: match session {
            // The page itself says what fails.
            Some(_) => api.teams_of(&caller.known).await.unwrap_or_default(),
            None => Vec::new(),
        },
        caller,
        csrf_token,
        fields,
    };
    Ok((admitted, act.map(|act| (api, act))))
}

pub(super) fn peer(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|peer| peer.ip())
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
        .filter(|token| !token.is_empty())
}
