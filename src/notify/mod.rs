//! Telling: what a change is called outside, and who is told of it.

mod feed;
pub mod target;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::feed::{Closed, Feed, Frame, Reader, Subscription, feed};
use crate::domain::notification::{Status, SyncSource};
use crate::domain::pull_request::PullRequest;
use crate::github::types::Timestamp;
use crate::store::{Change, OutboxEvent};

/// What somebody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notification {
    PrStatusChange {
        /// The same for a pull request everywhere and always.
        #[schema(value_type = String, format = "uuid")]
        pr_id: Uuid,
        /// `owner/name`
        repo: String,
        pr_number: i64,
        #[schema(value_type = Option<String>, format = "uuid")]
        task_id: Option<Uuid>,
        /// Null if nothing was known of it before.
        old_status: Option<Status>,
        new_status: Status,
        /// Who was the first to tell.
        sync_source: SyncSource,
        /// When that happened on GitHub.
        #[schema(value_type = String, format = "date-time")]
        timestamp: Timestamp,
        /// Of later events it is greater, as a text.
        event_id: String,
    },
}

impl From<OutboxEvent> for Notification {
    fn from(event: OutboxEvent) -> Self {
        let Change { key, change, source } = event.change;
        Self::PrStatusChange {
            pr_id: PullRequest::id(key),
            repo: event.repo,
            pr_number: key.number.0,
            task_id: None,
            old_status: change.old,
            new_status: change.new,
            sync_source: source,
            timestamp: change.at,
            event_id: event.id.to_string(),
        }
    }
}
