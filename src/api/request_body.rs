//! The bodies of requests to the API, read within limits of size and time before a handler runs.

use std::future::ready;
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Bytes;
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::error::ApiError;

/// The largest body, which is the limit of actix-web's JSON, too.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// The time for the whole body.
const BODY_TIME: Duration = Duration::from_secs(6);

/// Reads the body of a request into memory.
///
/// # Errors
/// [`ApiError::TooLarge`], [`ApiError::TooSlow`], or [`ApiError::BadRequest`] if its encoding is
/// broken.
pub(super) async fn read(request: &mut ServiceRequest) -> Result<(), ApiError> {
    let payload = request.take_payload();
    if matches!(payload, Payload::None) {
        return Ok(());
    }
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > MAX_BYTES) {
        return Err(ApiError::TooLarge);
    }
    let body = timeout(BODY_TIME, collect(payload)).await;
    let body = Bytes::from(body.map_err(|_| ApiError::TooSlow)??);
    request.set_payload(Payload::Stream {
        payload: Box::pin(stream::once(ready(Ok(body)))),
    });
    Ok(())
}

async fn collect(mut payload: Payload) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            ApiError::BadRequest(format!("the body of the request cannot be read: {error}"))
        })?;
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(ApiError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
