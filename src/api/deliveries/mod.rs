//! The inbox and its dead letters over HTTP.

use actix_web::{HttpResponse, delete, get, post, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_store::{
    DeadLetterGroup, DeadLetterMatch, DeadLetterSelection, Delivery, DeliveryFailure,
    DeliveryFilter, DeliveryState, Store,
};
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use super::input::{JsonInput, QueryInput};
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
pub(super) struct DeliveriesQuery {
    /// The state of the deliveries.
    state: Option<DeliveryState>,
    /// GitHub's name of the event.
    event: Option<String>,
    /// `owner/name`
    repo: Option<String>,
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// The filter of dead letters: that of deliveries, without the state.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadLettersQuery {
    /// GitHub's name of the event.
    event: Option<String>,
    /// `owner/name`
    repo: Option<String>,
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// Deliveries, newest first. The list is empty if the repository has none.
#[utoipa::path(
    tag = "deliveries", operation_id = "list_deliveries", security(("token" = [])),
    params(DeliveriesQuery),
    responses(
        (status = 200, body = Page<DeliveryItem>),
        (status = 400, body = super::error::ApiErrorBody),
    )
)]
#[get("/deliveries")]
pub(super) async fn list(
    api: web::Data<ApiState>,
    QueryInput(query): QueryInput<DeliveriesQuery>,
) -> Result<web::Json<Page<DeliveryItem>>, ApiError> {
    listed(&api.store, query).await.map(web::Json)
}

/// Dead letters, newest first.
#[utoipa::path(
    tag = "deliveries", operation_id = "list_dead_letters", security(("token" = [])),
    params(DeadLettersQuery),
    responses(
        (status = 200, body = Page<DeliveryItem>),
        (status = 400, body = super::error::ApiErrorBody),
    )
)]
#[get("/dead-letters")]
pub(super) async fn list_dead(
    api: web::Data<ApiState>,
    QueryInput(query): QueryInput<DeadLettersQuery>,
) -> Result<web::Json<Page<DeliveryItem>>, ApiError> {
    let DeadLettersQuery {
        event,
        repo,
        per_page,
        cursor,
    } = query;
    let query = DeliveriesQuery {
        state: Some(DeliveryState::Dead),
        event,
        repo,
        per_page,
        cursor,
    };
    listed(&api.store, query).await.map(web::Json)
}

/// Returns a page of stored deliveries.
pub(super) async fn listed(
    store: &Store,
    query: DeliveriesQuery,
) -> Result<Page<DeliveryItem>, ApiError> {
    let DeliveriesQuery {
        state,
        event,
        repo,
        per_page,
        cursor,
    } = query;
    let size = per_page.unwrap_or_default();
    let filter = DeliveryFilter {
        state,
        event,
        repo,
        before: page::decode(cursor.as_deref())?,
    };
    let deliveries = store.deliveries(&filter, size.rows()).await?;
    Ok(page::page(
        deliveries,
        size,
        |delivery| delivery.id,
        |delivery| item(&delivery),
    ))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryQuery {
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// Every delivery of a GUID, oldest first: several only if their bodies differ. Payloads over 1 MiB,
/// and those beyond 8 MiB together, are at `payload_url`.
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
    let size = query.per_page.unwrap_or_default();
    let after: Option<DeliveryId> = page::decode(query.cursor.as_deref())?;
    let mut deliveries = api.store.deliveries_by_guid(&guid).await?;
    if deliveries.is_empty() {
        return Err(ApiError::NotFound("delivery"));
    }
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
        items.push(with_payload(&api.store, delivery, inside).await?);
    }
    let next = listed.next;
    Ok(web::Json(Page::new(items, next)))
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
    let payload = payload(&api.store, DeliveryId(*id)).await?;
    let payload = payload.ok_or(ApiError::NotFound("payload"))?;
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(String::from(Box::<str>::from(payload))))
}

/// One dead letter with its history and payload.
#[utoipa::path(
    tag = "deliveries", operation_id = "get_dead_letter", security(("token" = [])),
    params(("id" = i64, Path)),
    responses(
        (status = 200, body = DeliveryDetail),
        (status = 404, body = super::error::ApiErrorBody),
    )
)]
#[get("/dead-letters/{id}")]
pub(super) async fn show_dead(
    api: web::Data<ApiState>,
    id: web::Path<i64>,
) -> Result<web::Json<DeliveryDetail>, ApiError> {
    let delivery = api.store.delivery(DeliveryId(*id)).await?;
    let dead = delivery.filter(|delivery| delivery.state == DeliveryState::Dead);
    let dead = dead.ok_or(ApiError::NotFound("dead letter"))?;
    let inside = dead.body_bytes <= MAX_PAYLOAD;
    Ok(web::Json(with_payload(&api.store, dead, inside).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DiscardQuery {
    /// The reason; kept with the delivery.
    reason: Option<String>,
}

/// Discards a dead letter: its state becomes ignored.
#[utoipa::path(
    tag = "deliveries", operation_id = "discard_dead_letter",
    security(("token" = [])), params(("id" = i64, Path), DiscardQuery),
    responses(
        (status = 204, description = "discarded"),
        (status = 404, body = super::error::ApiErrorBody),
    )
)]
#[delete("/dead-letters/{id}")]
pub(super) async fn discard(
    api: web::Data<ApiState>,
    id: web::Path<i64>,
    QueryInput(query): QueryInput<DiscardQuery>,
) -> Result<HttpResponse, ApiError> {
    let reason = format!(
        "discarded: {}",
        query.reason.as_deref().unwrap_or("no reason given")
    );
    let selection = DeadLetterSelection::Ids(vec![DeliveryId(*id)]);
    match api.store.discard(&selection, &reason, Utc::now()).await? {
        0 => Err(ApiError::NotFound("dead letter")),
        _ => Ok(HttpResponse::NoContent().finish()),
    }
}

/// Dead letters grouped by reason, event and repository, the largest group first.
#[utoipa::path(
    tag = "deliveries", operation_id = "list_dead_letter_groups",
    security(("token" = [])),
    responses((status = 200, body = Page<DeadLetterGroup>))
)]
#[get("/dead-letters/groups")]
pub(super) async fn list_groups(
    api: web::Data<ApiState>,
) -> Result<web::Json<Page<DeadLetterGroup>>, ApiError> {
    Ok(web::Json(Page::new(api.store.dead_groups().await?, None)))
}

/// A selection of dead letters to requeue: those that match every given field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RequeueGroup {
    reason: Option<String>,
    event: Option<String>,
    /// `owner/name`
    repo: Option<String>,
    /// Must be true if no other field is given.
    #[serde(default)]
    all: bool,
}

/// Dead letters that were requeued.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequeuedGroup {
    #[schema(example = "requeued")]
    status: &'static str,
    /// Their number.
    deliveries: u64,
}

/// Requeues a group of dead letters, or all of them. Their attempts start from zero.
#[utoipa::path(
    tag = "deliveries", operation_id = "requeue_dead_letters",
    security(("token" = [])), request_body = RequeueGroup,
    responses(
        (status = 202, body = RequeuedGroup, description = "requeued"),
        (status = 400, body = super::error::ApiErrorBody),
    )
)]
#[post("/dead-letters/requeue")]
pub(super) async fn requeue_group(
    api: web::Data<ApiState>,
    JsonInput(group): JsonInput<RequeueGroup>,
) -> Result<HttpResponse, ApiError> {
    let RequeueGroup {
        reason,
        event,
        repo,
        all,
    } = group;
    let like = DeadLetterMatch {
        reason,
        event,
        repo,
    };
    if all != (like == DeadLetterMatch::default()) {
        let message = "give a reason, an event or a repo of the dead letters to requeue, or \
                       else \"all\": true";
        return Err(ApiError::BadRequest(message.to_owned()));
    }
    let deliveries = api
        .store
        .requeue(&DeadLetterSelection::Like(like), Utc::now())
        .await?;
    Ok(HttpResponse::Accepted().json(RequeuedGroup {
        status: "requeued",
        deliveries,
    }))
}

/// A dead letter that was requeued.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequeuedLetter {
    #[schema(example = "requeued")]
    status: &'static str,
    id: i64,
}

/// Requeues a dead letter. Its attempts start from zero.
#[utoipa::path(
    tag = "deliveries", operation_id = "requeue_dead_letter",
    security(("token" = [])), params(("id" = i64, Path)),
    responses(
        (status = 202, body = RequeuedLetter, description = "requeued"),
        (status = 404, body = super::error::ApiErrorBody),
    )
)]
#[post("/dead-letters/{id}/requeue")]
pub(super) async fn requeue(
    api: web::Data<ApiState>,
    id: web::Path<i64>,
) -> Result<HttpResponse, ApiError> {
    let selection = DeadLetterSelection::Ids(vec![DeliveryId(*id)]);
    match api.store.requeue(&selection, Utc::now()).await? {
        0 => Err(ApiError::NotFound("dead letter")),
        _ => Ok(HttpResponse::Accepted().json(RequeuedLetter {
            status: "requeued",
            id: *id,
        })),
    }
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
