//! Deliveries as recordings: the JSON lines that `replay` reads.

use std::collections::BTreeMap;

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::SecondsFormat;
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::event;
use tallyhook_store::{
    Delivery, DeliveryFilter, DeliveryState, Result as StoreResult, Store, StoredBody,
};
use utoipa::IntoParams;

use crate::api::ApiState;
use crate::api::error::{ApiError, ApiErrorBody};
use crate::api::input::parse_query;

/// The most deliveries of one export.
const MAX_EXPORTED: u32 = 10_000;
/// The media type of JSON lines.
pub(crate) const JSON_LINES: &str = "application/x-ndjson";

/// The used fields of one delivery of GitHub's deliveries API, as an export writes them.
#[derive(Debug, Serialize)]
struct ApiDelivery {
    guid: String,
    delivered_at: String,
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    request: RecordedRequest,
}

#[derive(Debug, Serialize)]
struct RecordedRequest {
    headers: BTreeMap<&'static str, String>,
    payload: Box<RawValue>,
}

/// Returns the line of a delivery in an export, without its line break.
///
/// # Errors
/// If its body is damaged, or not JSON that every reader takes.
pub(crate) fn exported_line(delivery: &Delivery, body: &StoredBody) -> anyhow::Result<String> {
    let payload = RawValue::from_string(String::from_utf8(body.decompress()?)?)?;
    let headers = BTreeMap::from([
        ("X-GitHub-Event", delivery.event.clone()),
        ("X-GitHub-Delivery", delivery.guid.clone()),
    ]);
    let line = serde_json::to_string(&ApiDelivery {
        guid: delivery.guid.clone(),
        delivered_at: delivery
            .received_at
            .to_rfc3339_opts(SecondsFormat::Secs, true),
        event: delivery.event.clone(),
        action: delivery.action.clone(),
        request: RecordedRequest { headers, payload },
    })?;
    Ok(match line.contains('\n') {
        // GitHub sends one line. A body with line breaks was written by hand; it loses them.
        true => serde_json::from_str::<serde_json::Value>(&line)?.to_string(),
        false => line,
    })
}

/// The dead letters of an export: those that match everything that is given.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ExportQuery {
    /// The whole reason, as the groups have it.
    reason: Option<String>,
    /// GitHub's name of the event.
    event: Option<String>,
    /// `owner/name`, or `none` for those that name no repository.
    repo: Option<String>,
}

/// Dead letters as JSON lines that `tallyhook replay` reads, oldest first, at most 10,000. One whose
/// body is not JSON that every reader takes is left out, as is what no webhook brought.
#[utoipa::path(
    tag = "deliveries", operation_id = "export_dead_letters", security(("token" = [])),
    params(ExportQuery),
    responses(
        (status = 200, content_type = "application/x-ndjson", body = String),
        (status = 400, description = "more than 10,000 match", body = ApiErrorBody),
    )
)]
#[get("/dead-letters/export")]
pub(in crate::api) async fn export_dead(
    api: web::Data<ApiState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let lines = dead_letter_lines(&api.store, request.query_string()).await?;
    Ok(HttpResponse::Ok().content_type(JSON_LINES).streaming(lines))
}

/// One delivery as a JSON line that `tallyhook replay` reads.
#[utoipa::path(
    tag = "deliveries", operation_id = "export_delivery", security(("token" = [])),
    params(("id" = i64, Path)),
    responses(
        (status = 200, content_type = "application/x-ndjson", body = String),
        (status = 404, description = "there is none, or its payload was deleted",
            body = ApiErrorBody),
        (status = 409, description = "it cannot be replayed", body = ApiErrorBody),
    )
)]
#[get("/deliveries/{id}/export")]
pub(in crate::api) async fn export(
    api: web::Data<ApiState>,
    id: web::Path<i64>,
) -> Result<HttpResponse, ApiError> {
    let line = delivery_line(&api.store, *id).await?;
    Ok(HttpResponse::Ok().content_type(JSON_LINES).body(line))
}

/// Returns the line of one delivery.
///
/// # Errors
/// If there is no such delivery or payload, or it cannot be replayed.
pub(crate) async fn delivery_line(store: &Store, id: i64) -> Result<Bytes, ApiError> {
    let delivery = store.delivery(DeliveryId(id)).await?;
    let delivery = delivery.ok_or(ApiError::NotFound("delivery"))?;
    if store.body(delivery.id).await?.is_none() {
        return Err(ApiError::NotFound("payload"));
    }
    let line = match delivery.event == event::SNAPSHOT {
        true => None,
        false => line(store, &delivery).await?,
    };
    let message = "no webhook brought it, or its payload is not JSON that every reader takes";
    line.ok_or_else(|| ApiError::Conflict(message.to_owned()))
}

/// Returns the lines of the dead letters of a query string, as `GET /api/dead-letters/export`.
///
/// # Errors
/// If there are too many, or the database fails.
pub(crate) async fn dead_letter_lines(
    store: &Store,
    query: &str,
) -> Result<impl Stream<Item = StoreResult<Bytes>> + use<>, ApiError> {
    let ExportQuery {
        reason,
        event,
        repo,
    } = parse_query(query)?;
    let filter = DeliveryFilter {
        state: Some(DeliveryState::Dead),
        reason,
        event,
        repo,
        ..DeliveryFilter::default()
    };
    let mut dead = store.deliveries(&filter, MAX_EXPORTED + 1).await?;
    if dead.len() > MAX_EXPORTED as usize {
        let message = format!(
            "more than {MAX_EXPORTED} dead letters match: name a reason, an event or a repo, or \
             use `tallyhook deliveries export --state dead`"
        );
        return Err(ApiError::BadRequest(message));
    }
    // Fetched pull requests are no webhooks and cannot be replayed.
    dead.retain(|delivery| delivery.event != event::SNAPSHOT);
    dead.reverse();
    let store = store.clone();
    let lines = stream::iter(dead).then(move |delivery| {
        let store = store.clone();
        async move { line(&store, &delivery).await }
    });
    Ok(lines.filter_map(async |line| line.transpose()))
}

/// Returns the line of a delivery with its line break; `None` without a payload that every reader
/// takes.
async fn line(store: &Store, delivery: &Delivery) -> StoreResult<Option<Bytes>> {
    let body = store.body(delivery.id).await?;
    let line = body.and_then(|body| exported_line(delivery, &body).ok());
    Ok(line.map(|line| Bytes::from(line + "\n")))
}
