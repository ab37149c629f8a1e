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
use tallyhook_store::TokenHash;

use super::caller::Caller;
use super::error::ApiError;
use super::{ApiState, request_body, routes, same_origin};

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
    let refused = match admit(&mut request).await {
        Ok(()) => {
            return next
                .call(request)
                .await
                .map(ServiceResponse::map_into_left_body);
        }
        Err(refused) => refused,
    };
    // A response, not an error: an error of a middleware would bypass the headers that every
    // response carries.
    Ok(request
        .into_response(refused.error_response())
        .map_into_right_body())
}

/// Checks the caller, its role and the parameters of a request, and reads its body. A request for
/// which no call is documented ends here, so that no handler runs without a role.
async fn admit(request: &mut ServiceRequest) -> Result<(), ApiError> {
    if request.method() == Method::OPTIONS {
        // Answered with the methods of the path, which are no secret.
        return Ok(());
    }
    let api = request.app_data::<web::Data<ApiState>>().cloned();
    let api = api.ok_or(ApiError::Unauthorized)?;
    let caller = Caller::of_request(&api, request.request()).await?;
    same_origin::refuse_forged(request.request(), &caller)?;
    let route = routes::find(request.request());
    let route = route.ok_or_else(|| routes::missing(request.request(), true))?;
    if let Some(role) = route.access.role_for(request.request()) {
        caller.require(role)?;
    }
    route.check_query(request.query_string())?;
    request_body::read(request).await?;
    request.extensions_mut().insert(caller);
    Ok(())
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
