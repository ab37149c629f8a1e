//! API tokens: creation, digests, and the check of every request.

use std::net::IpAddr;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, ResponseError, web};
use rand::RngExt;
use sha2::{Digest, Sha256};
use tallyhook_store::{StoreError, TokenHash};

use super::error::ApiError;
use super::{ApiState, request_body, routes};

/// Returns a new token: 256 random bits, with a prefix that scanners for leaked secrets can match.
pub fn new_token() -> String {
    let bits: [u8; 32] = rand::rng().random();
    format!("tallyhook_{}", hex::encode(bits))
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

/// Middleware that refuses a request without a valid token.
pub async fn require_token(
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

/// Checks the token and the parameters of a request, and reads its body.
async fn admit(request: &mut ServiceRequest) -> Result<(), ApiError> {
    if request.method() == Method::OPTIONS {
        // Answered with the methods of the path, which are no secret.
        return Ok(());
    }
    let api = request.app_data::<web::Data<ApiState>>().cloned();
    let api = api.ok_or(ApiError::Unauthorized)?;
    let hash = bearer(request.headers()).map(hash);
    let is_valid = match &hash {
        Some(hash) => is_valid(&api, hash).await?,
        None => false,
    };
    if !is_valid {
        let peer = peer(request.request());
        return Err(api.wrong_tokens.refuse(peer, hash.is_some()));
    }
    routes::check_query(request.request())?;
    request_body::read(request).await
}

pub(super) fn peer(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|peer| peer.ip())
}

pub(super) async fn is_valid(api: &ApiState, hash: &TokenHash) -> Result<bool, StoreError> {
    // The time to compare digests reveals nothing about the secrets.
    if api.admin_token == Some(*hash) {
        return Ok(true);
    }
    api.store.token_is_valid(hash).await
}

/// Returns the login that "me" means to the holder of a request's token, if it has one.
pub(super) async fn login(
    api: &ApiState,
    headers: &HeaderMap,
) -> Result<Option<String>, StoreError> {
    match bearer(headers).map(hash) {
        Some(hash) => api.store.token_login(&hash).await,
        None => Ok(None),
    }
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
        .filter(|token| !token.is_empty())
}
