//! The message that a broker carries: our own event in an envelope, for our workers and for anyone
//! who binds a queue.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use utoipa::{PartialSchema, ToSchema};

use super::Event;

/// The version of everything below. Within it fields are added, and none is renamed, retyped or
/// dropped.
pub const VERSION: u32 = 1;

/// A message that would be larger goes without its event, which workers do not need.
const LARGEST: usize = 256 * 1024;

/// An accepted delivery. It may be published more than once.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Message<'a> {
    /// The version of this schema: 1.
    pub v: u32,
    /// Tallyhook's number of the delivery, which is the message's `message_id` too.
    pub delivery_id: i64,
    /// GitHub's `X-GitHub-Delivery`.
    pub guid: &'a str,
    /// The source: `webhook`, `poller`, `backfill` or `monitor`.
    pub source: &'a str,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: DateTime<Utc>,
    /// The event; null if it cannot be decoded, or if the message would be larger than 256 KiB with it.
    pub event: Option<&'a Event>,
}

impl Message<'_> {
    /// The message as it is sent.
    ///
    /// # Errors
    /// None in practice; the type is serde's.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        if json.len() > LARGEST && self.event.is_some() {
            Self {
                event: None,
                ..*self
            }
            .to_json()
        } else {
            Ok(json)
        }
    }
}

/// The JSON Schema (2020-12) of a message.
///
/// # Errors
/// None in practice; the type is serde's.
pub fn schema() -> serde_json::Result<String> {
    let mut parts = vec![(Message::name().into_owned(), Message::schema())];
    Message::schemas(&mut parts);
    let parts: BTreeMap<_, _> = parts.into_iter().collect();
    let schema = serde_json::to_string_pretty(&json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A message of the exchange tallyhook.v1.events",
        "$ref": "#/$defs/Message",
        "$defs": parts,
    }))?;
    Ok(schema.replace("#/components/schemas/", "#/$defs/"))
}
