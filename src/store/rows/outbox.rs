//! The outbox as rows.

use sqlx::FromRow;

use super::{Millis, Name, Seconds};
use crate::domain::notification::{Status, StatusChange, SyncSource};
use crate::github::types::{PrKey, PrNumber, RepoId};
use crate::store::{Change, EventId, OutboxEvent};

#[derive(FromRow)]
pub(in crate::store) struct OutboxRow {
    id: i64,
    repo_id: i64,
    repo_name: String,
    number: i64,
    old_status: Option<Name<Status>>,
    new_status: Name<Status>,
    happened_at: Seconds,
    sync_source: Name<SyncSource>,
}

impl From<OutboxRow> for OutboxEvent {
    fn from(row: OutboxRow) -> Self {
        let change =
            StatusChange { old: row.old_status.map(|Name(old)| old), new: row.new_status.0, at: row.happened_at.0 };
        let key = PrKey { repo: RepoId(row.repo_id), number: PrNumber(row.number) };
        let change = Change { key, change, source: row.sync_source.0 };
        Self { id: EventId(row.id), repo: row.repo_name, change }
    }
}

/// Of a repository: what its changes are told with.
#[derive(FromRow)]
pub(in crate::store) struct TellingRow {
    pub(in crate::store) name: String,
    pub(in crate::store) tracked_since: Millis,
}
