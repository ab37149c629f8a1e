//! The inbox and its dead letters over HTTP.

mod checking;
mod dead_letters;
mod inbox;
mod listing;
mod recording;

use actix_web::{HttpResponse, get, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_store::{Delivery, DeliveryFailure, DeliveryState, Store};
use utoipa::{IntoParams, ToSchema};

pub use self::checking::{CheckedOutcome, DeliveryCheck};
pub(super) use self::checking::{check, checked};
pub(crate) use self::dead_letters::{DeadLetterKey, DeadLetterOrder, discarded, requeued};
pub(super) use self::dead_letters::{
    discard, discard_group, groups, list_groups, requeue, requeue_group, show_dead,
};
pub(crate) use self::inbox::activity;
pub(super) use self::inbox::show as show_inbox;
pub use self::inbox::{InboxActivity, ReceivedHour, RefusedRequests};
pub(super) use self::listing::{DeadLettersQuery, list, list_dead, listed};
pub(crate) use self::recording::{JSON_LINES, dead_letter_lines, delivery_line, exported_line};
pub(super) use self::recording::{export, export_dead};
use super::error::ApiError;
use super::input::QueryInput;
use super::page::{self, Page, PageSize};
use super::{ApiState, rfc3339};

/// A stored delivery.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryItem {
    pub id: i64,
    #[schema(example = "72d3162e-cc78-11e3-81ab-4c9367dc0958")]
    pub guid: String,
    #[schema(example = "pull_request")]
    pub event: String,
    #[schema(example = "opened")]
    pub action: Option<String>,
    #[schema(example = "acme-corp/api-server")]
    pub repo: Option<String>,
    pub pr_number: Option<i64>,
    pub source: Source,
    pub state: DeliveryState,
    /// The reason why it is ignored or dead.
    pub reason: Option<String>,
    pub attempts: u32,
    #[schema(format = "date-time", example = "2026-03-02T09:00:01.250Z")]
    pub received_at: String,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub next_attempt_at: Option<String>,
    #[schema(format = "date-time")]
    pub finished_at: Option<String>,
    pub body_bytes: u64,
}

/// A stored delivery with its failures and its payload.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryDetail {
    #[serde(flatten)]
    pub delivery: DeliveryItem,
    pub history: Vec<DeliveryFailure>,
    /// GitHub's payload; null after its retention time, or if it is at `payload_url`.
    #[schema(value_type = Option<serde_json::Value>)]
    pub payload: Option<Box<RawValue>>,
    /// The path of a payload that is too large to be shown here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub payload_url: Option<String>,
}

/// The largest payload within an answer.
const MAX_PAYLOAD: u64 = 1024 * 1024;
/// The most bytes of all payloads within an answer.
const MAX_PAYLOADS: u64 = 8 * MAX_PAYLOAD;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryQuery {
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// Every delivery of a GUID, oldest first: several only if their bodies differ. A number that is no
/// GUID is the id of a delivery. Payloads over 1 MiB, and those beyond 8 MiB together, are at
/// `payload_url`.
#[utoipa::path(
    tag = "deliveries", operation_id = "get_delivery", security(("token" = [])),
    params(("guid" = String, Path), DeliveryQuery),
    responses(
        (status = 200, body = Page<DeliveryDetail>),
        (status = 400, body = super::error::ApiErrorBody),
        (status = 404, body = super::error::ApiErrorBody),
    )
)]
#[get("/deliveries/{guid}")]
pub(super) async fn show(
    api: web::Data<ApiState>,
    guid: web::Path<String>,
    QueryInput(query): QueryInput<DeliveryQuery>,
) -> Result<web::Json<Page<DeliveryDetail>>, ApiError> {
    let mut deliveries = api.store.deliveries_by_guid(&guid).await?;
    if let (true, Ok(id)) = (deliveries.is_empty(), guid.parse()) {
        deliveries.extend(api.store.delivery(DeliveryId(id)).await?);
    }
    if deliveries.is_empty() {
        return Err(ApiError::NotFound("delivery"));
    }
    detailed(&api.store, deliveries, query).await.map(web::Json)
}

/// Returns the delivery of an id, as [`show`] does.
pub(super) async fn of_id(store: &Store, id: i64) -> Result<DeliveryDetail, ApiError> {
    let delivery = store.delivery(DeliveryId(id)).await?;
    let delivery = delivery.ok_or(ApiError::NotFound("delivery"))?;
    let inside = delivery.body_bytes <= MAX_PAYLOAD;
    with_payload(store, delivery, inside).await
}

async fn detailed(
    store: &Store,
    mut deliveries: Vec<Delivery>,
    query: DeliveryQuery,
) -> Result<Page<DeliveryDetail>, ApiError> {
    let size = query.per_page.unwrap_or_default();
    let after: Option<DeliveryId> = page::decode(query.cursor.as_deref())?;
    deliveries.retain(|delivery| after.is_none_or(|after| delivery.id.0 > after.0));
    deliveries.truncate(size.rows() as usize);
    let listed = page::page(
        deliveries,
        size,
        |delivery| delivery.id,
        |delivery| delivery,
    );
    let mut items = Vec::with_capacity(listed.items.len());
    let mut room = MAX_PAYLOADS;
    for delivery in listed.items {
        let bytes = delivery.body_bytes;
        let inside = bytes <= room.min(MAX_PAYLOAD);
        room -= if inside { bytes } else { 0 };
        items.push(with_payload(store, delivery, inside).await?);
    }
    Ok(Page::new(items, listed.next))
}

/// GitHub's payload of one delivery, as `payload_url` names it.
#[utoipa::path(
    tag = "deliveries", operation_id = "get_delivery_payload", security(("token" = [])),
    params(("id" = i64, Path)),
    responses(
        (status = 200, body = serde_json::Value),
        (status = 404, description = "there is none, or its retention time is over",
            body = super::error::ApiErrorBody),
    )
)]
#[get("/delivery-payloads/{id}")]
pub(super) async fn show_payload(
    api: web::Data<ApiState>,
    id: web::Path<i64>,
) -> Result<HttpResponse, ApiError> {
    let payload = payload_text(&api.store, *id).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(payload))
}

/// Returns the stored payload of a delivery.
///
/// # Errors
/// If there is none, or its retention time is over.
pub(super) async fn payload_text(store: &Store, id: i64) -> Result<String, ApiError> {
    let payload = payload(store, DeliveryId(id)).await?;
    let payload = payload.ok_or(ApiError::NotFound("payload"))?;
    Ok(String::from(Box::<str>::from(payload)))
}

fn item(delivery: &Delivery) -> DeliveryItem {
    DeliveryItem {
        id: delivery.id.0,
        guid: delivery.guid.clone(),
        event: delivery.event.clone(),
        action: delivery.action.clone(),
        repo: delivery.repo.clone(),
        pr_number: delivery.pr_number.map(|number| number.0),
        source: delivery.source,
        state: delivery.state,
        reason: delivery.reason.clone(),
        attempts: delivery.attempts,
        received_at: rfc3339(delivery.received_at),
        next_attempt_at: delivery.next_attempt_at.map(rfc3339),
        finished_at: delivery.finished_at.map(rfc3339),
        body_bytes: delivery.body_bytes,
    }
}

/// Returns a delivery with its payload, or, unless it may be `inside`, with the path of it.
async fn with_payload(
    store: &Store,
    delivery: Delivery,
    inside: bool,
) -> Result<DeliveryDetail, ApiError> {
    let payload = if inside {
        payload(store, delivery.id).await?
    } else {
        None
    };
    let path = || format!("/api/delivery-payloads/{}", delivery.id.0);
    Ok(DeliveryDetail {
        delivery: item(&delivery),
        payload,
        payload_url: (!inside).then(path),
        history: delivery.history,
    })
}

/// Returns the stored payload as text: parsed into a tree it would take many times its size.
async fn payload(store: &Store, id: DeliveryId) -> Result<Option<Box<RawValue>>, ApiError> {
    let body = store.body(id).await?;
    let body = body.and_then(|body| body.decompress().ok());
    Ok(body.and_then(|body| RawValue::from_string(String::from_utf8(body).ok()?).ok()))
}

impl From<Delivery> for DeliveryItem {
    fn from(delivery: Delivery) -> Self {
        item(&delivery)
    }
}
