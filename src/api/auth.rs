//! Who may read: whoever has a token.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use rand::RngExt;
use sha2::{Digest, Sha256};
use tallyhook_store::{StoreError, TokenHash};

use super::Api;
use super::error::ApiError;

/// A new token: 256 random bits, marked so that a scanner for leaked secrets knows it.
pub fn new_token() -> String {
    let bits: [u8; 32] = rand::rng().random();
    format!("tallyhook_{}", hex::encode(bits))
}

/// Whether `text` has the form of a token made here.
pub fn is_token(text: &str) -> bool {
    text.strip_prefix("tallyhook_")
        .is_some_and(|digits| digits.len() == 64 && hex::decode(digits).is_ok())
}

/// What is stored of a token. Equal digests are looked up, never compared byte by byte with a secret.
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Lets a request through that carries a valid token.
pub async fn require_token(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let api = request.app_data::<web::Data<Api>>().cloned();
    let hash = bearer(request.headers()).map(hash);
    let refused = match (api, hash) {
        (Some(api), Some(hash)) => match is_valid(&api, &hash).await {
            Ok(true) => {
                return next
                    .call(request)
                    .await
                    .map(ServiceResponse::map_into_left_body);
            }
            Ok(false) => ApiError::Unauthorized,
            Err(error) => ApiError::from(error),
        },
        _ => ApiError::Unauthorized,
    };
    // An answer, not an error: an error of a middleware would pass by the headers that every answer carries.
    Ok(request
        .into_response(refused.error_response())
        .map_into_right_body())
}

pub(super) async fn is_valid(api: &Api, hash: &TokenHash) -> Result<bool, StoreError> {
    // Digests of secrets tell nothing by how long they take to compare.
    if api.admin_token == Some(*hash) {
        return Ok(true);
    }
    api.store.token_is_valid(hash).await
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
        .filter(|token| !token.is_empty())
}
