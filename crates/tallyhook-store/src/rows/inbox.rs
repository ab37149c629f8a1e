//! The inbox as rows.

use sqlx::FromRow;
use sqlx::types::Json;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::types::PrNumber;

use super::{Millis, Name};
use crate::{Delivery, DeliveryId, DeliveryState, Failure};

/// A delivery without its body.
#[derive(FromRow)]
pub(crate) struct DeliveryRow {
    id: i64,
    guid: String,
    event: String,
    action: Option<String>,
    repo_name: Option<String>,
    pr_number: Option<i64>,
    source: Name<Source>,
    state: Name<DeliveryState>,
    reason: Option<String>,
    attempts: i32,
    received_at: Millis,
    next_attempt_at: Millis,
    finished_at: Option<Millis>,
    body_bytes: i64,
    history: Json<Vec<Failure>>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        let state = row.state.0;
        Self {
            id: DeliveryId(row.id),
            guid: row.guid,
            event: row.event,
            action: row.action,
            repo: row.repo_name,
            pr_number: row.pr_number.map(PrNumber),
            source: row.source.0,
            state,
            reason: row.reason,
            attempts: row.attempts.unsigned_abs(),
            received_at: row.received_at.0,
            next_attempt_at: (state == DeliveryState::Accepted).then_some(row.next_attempt_at.0),
            finished_at: row.finished_at.map(|Millis(at)| at),
            body_bytes: row.body_bytes.unsigned_abs(),
            history: row.history.0,
        }
    }
}
