//! The headers of a delivery, before its body is read.

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use tallyhook_core::github::signature::Signature;

use super::WebhookRefusal;

/// Returns whether the body is a form. A content type that is neither form nor JSON is refused.
///
/// # Errors
/// [`WebhookRefusal::MediaType`].
pub fn media_type(headers: &HeaderMap) -> Result<bool, WebhookRefusal> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(WebhookRefusal::MediaType);
    }
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "application/json" => Ok(false),
        "application/x-www-form-urlencoded" => Ok(true),
        _ => Err(WebhookRefusal::MediaType),
    }
}

/// Returns the SHA-256 signature. Any other header is refused with a reason for the metrics.
///
/// # Errors
/// [`WebhookRefusal::Signature`].
pub fn signature(headers: &HeaderMap) -> Result<Signature, WebhookRefusal> {
    let mut values = headers.get_all("x-hub-signature-256");
    let reason = match (values.next(), values.next()) {
        (None, _) if headers.contains_key("x-hub-signature") => "sha1_only",
        (None, _) => "missing",
        (Some(_), Some(_)) => "malformed",
        (Some(value), None) => match value.to_str().ok().and_then(Signature::parse) {
            Some(signature) => return Ok(signature),
            None => "malformed",
        },
    };
    Err(WebhookRefusal::Signature(reason))
}

/// Returns the `Content-Length`; 0 if there is none.
pub(super) fn promised_bytes(headers: &HeaderMap) -> usize {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// Event and GUID; used only once the signature holds.
pub struct DeliveryHeaders {
    pub event: Option<String>,
    pub guid: Option<String>,
}

impl DeliveryHeaders {
    /// The longest accepted value: GUIDs have 36 characters, event names up to 30.
    pub const MAX_LENGTH: usize = 100;

    pub fn read(headers: &HeaderMap) -> Self {
        let text = |name| {
            let value = headers.get(name)?.to_str().ok()?.trim();
            let usable = !value.is_empty()
                && value.len() <= Self::MAX_LENGTH
                && value.bytes().all(|b| b.is_ascii_graphic());
            usable.then(|| value.to_owned())
        };
        Self {
            event: text("x-github-event"),
            guid: text("x-github-delivery"),
        }
    }
}
