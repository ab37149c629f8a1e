//! The bodies of requests to the API, read within limits of size and time before a handler runs.

use std::future::ready;
use std::time::Duration;

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::web::Bytes;
use actix_web::{HttpMessage, HttpRequest};
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::error::ApiError;

/// The largest body, which is the limit of actix-web's JSON, too.
const MAX_BYTES: BodyLimit = BodyLimit(2 * 1024 * 1024, "2 MiB");
/// The largest body of a stranger.
pub(super) const STRANGERS_FORM: BodyLimit = BodyLimit(4 * 1024, "4 KiB");
/// The largest form of a page.
pub(super) const PAGE_FORM: BodyLimit = BodyLimit(64 * 1024, "64 KiB");
/// The time for the whole body.
const BODY_TIME: Duration = Duration::from_secs(6);

/// A number of bytes, and its name.
#[derive(Clone, Copy)]
pub(super) struct BodyLimit(usize, &'static str);

/// Reads the body of a request into memory, and returns it beside.
///
/// # Errors
/// [`ApiError::TooLarge`], [`ApiError::TooSlow`], or [`ApiError::BadRequest`] if its encoding is
/// broken.
pub(super) async fn read(request: &mut ServiceRequest) -> Result<Bytes, ApiError> {
    let payload = request.take_payload();
    if matches!(payload, Payload::None) {
        return Ok(Bytes::new());
    }
    let body = collect(request.headers(), payload, MAX_BYTES).await?;
    let read = body.clone();
    request.set_payload(Payload::Stream {
        payload: Box::pin(stream::once(ready(Ok(body)))),
    });
    Ok(read)
}

/// Reads a form, `application/x-www-form-urlencoded`.
///
/// # Errors
/// Those of [`read`], and [`ApiError::MediaType`].
pub(super) async fn read_form(
    request: &HttpRequest,
    payload: Payload,
    limit: BodyLimit,
) -> Result<Bytes, ApiError> {
    const FORM: &str = "application/x-www-form-urlencoded";
    let media_type = request.headers().get(CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok()?.split(';').next());
    if !media_type.is_some_and(|named| named.trim().eq_ignore_ascii_case(FORM)) {
        return Err(ApiError::MediaType(FORM));
    }
    collect(request.headers(), payload, limit).await
}

async fn collect(
    headers: &HeaderMap,
    payload: Payload,
    BodyLimit(most, name): BodyLimit,
) -> Result<Bytes, ApiError> {
    let announced = headers.get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > most) {
        return Err(ApiError::TooLarge(name));
    }
    let body = timeout(BODY_TIME, within(payload, BodyLimit(most, name))).await;
    Ok(Bytes::from(body.map_err(|_| ApiError::TooSlow)??))
}

async fn within(
    mut payload: Payload,
    BodyLimit(most, name): BodyLimit,
) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            ApiError::BadRequest(format!("the body of the request cannot be read: {error}"))
        })?;
        if body.len() + chunk.len() > most {
            return Err(ApiError::TooLarge(name));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
