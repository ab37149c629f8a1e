//! The effect that a stored delivery would have if it was applied now. Nothing is written.

use std::panic::{AssertUnwindSafe, catch_unwind};

use actix_web::{post, web};
use serde::Serialize;
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::domain::apply::{ApplyRules, DecodedDelivery, apply_batch};
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::recording::{FinishedDelivery, StoredPullRequest};
use tallyhook_core::domain::task::Patterns;
use tallyhook_core::event::{Event, Undecodable};
use tallyhook_store::{Store, UnfinishedDelivery};
use utoipa::ToSchema;

use crate::api::ApiState;
use crate::api::error::{ApiError, ApiErrorBody};

/// The effect that a delivery would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckedOutcome {
    /// Everything that it says is known.
    Unchanged,
    /// It has new facts; of an event that is about no pull request, it names repositories.
    Changed,
    /// It is older than what is known; `fields` are those that it changes all the same.
    Stale,
    Ignored,
}

/// The effect that a delivery would have if this version applied it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeliveryCheck {
    /// False if this version cannot read it.
    pub decodes: bool,
    /// The reason why it cannot be read or would be ignored.
    pub error: Option<String>,
    /// Null if it cannot be read.
    pub would: Option<CheckedOutcome>,
    /// The facts that would change.
    pub fields: Vec<&'static str>,
}

impl DeliveryCheck {
    fn failed(error: String) -> Self {
        Self {
            decodes: false,
            error: Some(error),
            would: None,
            fields: Vec::new(),
        }
    }

    fn ignored(reason: String) -> Self {
        Self {
            decodes: true,
            error: Some(reason),
            would: Some(CheckedOutcome::Ignored),
            fields: Vec::new(),
        }
    }
}

/// Applies a delivery to a copy of what is known and says what would change. Nothing is written.
#[utoipa::path(
    tag = "deliveries", operation_id = "check_delivery", security(("token" = [])),
    params(("id" = i64, Path)),
    responses(
        (status = 200, body = DeliveryCheck),
        (status = 404, description = "there is none, or its payload was deleted",
            body = ApiErrorBody),
    )
)]
#[post("/deliveries/{id}/check")]
pub(in crate::api) async fn check(
    api: web::Data<ApiState>,
    id: web::Path<i64>,
) -> Result<web::Json<DeliveryCheck>, ApiError> {
    checked(&api.store, &api.rules, *id).await.map(web::Json)
}

/// Returns the effect that a delivery would have.
///
/// # Errors
/// If there is no such delivery or payload, or the database fails.
pub(crate) async fn checked(
    store: &Store,
    rules: &NumberRules,
    id: i64,
) -> Result<DeliveryCheck, ApiError> {
    let delivery = store.delivery(DeliveryId(id)).await?;
    let delivery = delivery.ok_or(ApiError::NotFound("delivery"))?;
    let body = store.body(delivery.id).await?;
    let unfinished = UnfinishedDelivery {
        id: delivery.id,
        guid: delivery.guid,
        event: delivery.event,
        source: delivery.source,
        received_at: delivery.received_at,
        attempts: delivery.attempts,
        body: Some(body.ok_or(ApiError::NotFound("payload"))?),
    };
    // A large payload takes a tenth of a second, which no other request shall wait for.
    let (unfinished, event) = off_thread(move || {
        let event = unfinished.event();
        (unfinished, event)
    })
    .await?;
    let event = match event {
        Ok(event) => event,
        Err(Undecodable::NoPullRequest(reason)) => {
            return Ok(DeliveryCheck::ignored(reason.to_owned()));
        }
        Err(error) => return Ok(DeliveryCheck::failed(error.to_string())),
    };
    let keys: Vec<_> = event.pr_key().into_iter().collect();
    let known = store.load(&keys).await?;
    let rules = ApplyRules {
        numbers: rules.clone(),
        // Neither tasks nor notifications are part of the answer.
        patterns: Patterns::parse("").map_err(|error| ApiError::Conflict(error.to_string()))?,
        tracks_pushes: false,
        tracks_waiting: false,
    };
    off_thread(move || applied(&unfinished, &event, known, &rules)).await
}

fn applied(
    delivery: &UnfinishedDelivery,
    event: &Event,
    known: Vec<StoredPullRequest>,
    rules: &ApplyRules,
) -> DeliveryCheck {
    let before = known.first().map(|known| known.pull_request.clone());
    let decoded = DecodedDelivery {
        id: delivery.id,
        source: delivery.source,
        received_at: delivery.received_at,
        event,
    };
    let batch = apply_batch(&[decoded], known, rules);
    if let Some(FinishedDelivery::Ignored(_, reason)) = batch.write.finished.first() {
        return DeliveryCheck::ignored(reason.clone());
    }
    let after = batch.write.pull_requests.first();
    let fields = match (&before, after) {
        (Some(before), Some(after)) => PullRequest::differences(before, &after.known.pull_request),
        (Some(_), None) => Vec::new(),
        (None, _) => vec!["repositories"],
    };
    let would = match (batch.stale > 0, fields.is_empty()) {
        (true, _) => CheckedOutcome::Stale,
        (false, true) => CheckedOutcome::Unchanged,
        (false, false) => CheckedOutcome::Changed,
    };
    DeliveryCheck {
        decodes: true,
        error: None,
        would: Some(would),
        fields,
    }
}

/// Runs a rule that may take long, or panic on a payload, on another thread.
async fn off_thread<T: Send + 'static>(
    rule: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let failed = || ApiError::Conflict("this version fails on the payload".to_owned());
    web::block(|| catch_unwind(AssertUnwindSafe(rule)))
        .await
        .map_err(|_| failed())?
        .map_err(|_| failed())
}
