//! The inbox as rows.

use sqlx::FromRow;
use sqlx::types::Json;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};

use super::{DeadLetterGroup, Delivery, DeliveryFailure, DeliveryState};
use crate::DeliveryId;
use crate::columns::{Millis, Name};

/// The columns of [`DeliveryRow`].
pub(crate) const COLUMNS: &str = "id, guid, event, action, repo_name, pr_number, \
    source, state, reason, \
    attempts, received_at, next_attempt_at, finished_at, body_bytes, history";

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
    history: Json<Vec<DeliveryFailure>>,
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

/// Dead letters that died of the same.
#[derive(FromRow)]
pub(crate) struct DeadGroupRow {
    reason: String,
    event: String,
    repo_name: Option<String>,
    deliveries: i64,
    first_received_at: Millis,
    last_received_at: Millis,
}

impl From<DeadGroupRow> for DeadLetterGroup {
    fn from(row: DeadGroupRow) -> Self {
        Self {
            reason: row.reason,
            event: row.event,
            repo: row.repo_name,
            deliveries: row.deliveries.unsigned_abs(),
            first_received_at: row.first_received_at.0,
            last_received_at: row.last_received_at.0,
        }
    }
}

/// The key of a delivery's pull request, if it is about one.
pub(crate) fn pull_request_key(repo: Option<i64>, number: Option<i64>) -> Option<PrKey> {
    let (repo, number) = repo.zip(number)?;
    Some(PrKey {
        repo: RepoId(repo),
        number: PrNumber(number),
    })
}
