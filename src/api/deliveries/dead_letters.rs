//! Dead letters: their groups, and the decisions about them.

use actix_web::{HttpResponse, delete, get, post, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::delivery::DeliveryId;
use tallyhook_store::{
    DISCARDED, DeadLetterGroup, DeadLetterMatch, DeadLetterSelection, DeliveryState, Store,
};
use utoipa::{IntoParams, ToSchema};

use super::{DeliveryDetail, MAX_PAYLOAD, with_payload};
use crate::api::error::{ApiError, ApiErrorBody};
use crate::api::input::{JsonInput, QueryInput};
use crate::api::page::Page;
use crate::api::{ApiState, Caller};

/// The most dead letters that one call names by id.
const MAX_IDS: usize = 1_000;
/// Characters of the reason of a discarding.
const MAX_REASON: usize = 500;

/// One dead letter with its history and payload.
#[utoipa::path(
    tag = "deliveries", operation_id = "get_dead_letter", security(("token" = [])),
    params(("id" = i64, Path)),
    responses(
        (status = 200, body = DeliveryDetail),
        (status = 404, body = ApiErrorBody),
    )
)]
#[get("/dead-letters/{id}")]
pub(in crate::api) async fn show_dead(
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
pub(in crate::api) struct DiscardQuery {
    /// The reason; kept with the delivery.
    reason: Option<String>,
}

/// Discards a dead letter: its state becomes ignored.
#[utoipa::path(
    tag = "deliveries", operation_id = "discard_dead_letter",
    security(("token" = [])), params(("id" = i64, Path), DiscardQuery),
    responses(
        (status = 204, description = "discarded"),
        (status = 404, body = ApiErrorBody),
    )
)]
#[delete("/dead-letters/{id}")]
pub(in crate::api) async fn discard(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    id: web::Path<i64>,
    QueryInput(query): QueryInput<DiscardQuery>,
) -> Result<HttpResponse, ApiError> {
    let reason = query.reason.as_deref().unwrap_or("no reason given");
    let selected = DeadLetterOrder::of_ids(vec![*id]);
    match discarded(&api.store, selected, reason, &caller).await? {
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
pub(in crate::api) async fn list_groups(
    api: web::Data<ApiState>,
) -> Result<web::Json<Page<DeadLetterGroup>>, ApiError> {
    groups(&api.store).await.map(web::Json)
}

/// Returns the groups of dead letters, the largest first.
pub(in crate::api) async fn groups(store: &Store) -> Result<Page<DeadLetterGroup>, ApiError> {
    Ok(Page::new(store.dead_groups().await?, None))
}

/// The attributes that dead letters of a group share: those that match every given field.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterKey {
    pub(crate) reason: Option<String>,
    pub(crate) event: Option<String>,
    /// `owner/name`, or `none` for those that name no repository.
    pub(crate) repo: Option<String>,
}

/// A selection of dead letters: by id, by group, or all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeadLetterOrder {
    pub(crate) ids: Option<Vec<i64>>,
    pub(crate) group: DeadLetterKey,
    pub(crate) all: bool,
}

impl DeadLetterOrder {
    pub(crate) fn of_ids(ids: Vec<i64>) -> Self {
        Self {
            ids: Some(ids),
            ..Self::default()
        }
    }

    pub(crate) fn of_group(group: DeadLetterKey) -> Self {
        Self {
            group,
            ..Self::default()
        }
    }

    /// Returns the selection, if exactly one way of choosing is given.
    fn selection(self) -> Result<DeadLetterSelection, ApiError> {
        let bad = |message: &str| Err(ApiError::BadRequest(message.to_owned()));
        let DeadLetterKey {
            reason,
            event,
            repo,
        } = self.group;
        let like = DeadLetterMatch {
            reason,
            event,
            repo,
        };
        let is_group = like != DeadLetterMatch::default();
        match (self.ids, is_group, self.all) {
            (Some(ids), false, false) if ids.len() > MAX_IDS => {
                bad(&format!("`ids` has more than {MAX_IDS} ids"))
            }
            (Some(ids), false, false) => Ok(DeadLetterSelection::Ids(
                ids.into_iter().map(DeliveryId).collect(),
            )),
            (None, true, false) | (None, false, true) => Ok(DeadLetterSelection::Like(like)),
            _ => bad(
                "give the ids of dead letters, or a reason, an event or a repo of them, or else \
                 \"all\": true",
            ),
        }
    }
}

/// Requeues dead letters. Returns their number.
///
/// # Errors
/// If the selection is none, or the database fails.
pub(crate) async fn requeued(store: &Store, letters: DeadLetterOrder) -> Result<u64, ApiError> {
    let selection = letters.selection()?;
    Ok(store.requeue(&selection, Utc::now()).await?)
}

/// Discards dead letters for a reason. Returns their number.
///
/// # Errors
/// If the selection is none, there is no reason, or the database fails.
pub(crate) async fn discarded(
    store: &Store,
    letters: DeadLetterOrder,
    reason: &str,
    caller: &Caller,
) -> Result<u64, ApiError> {
    let selection = letters.selection()?;
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        let message = format!("`reason` must have 1 to {MAX_REASON} characters");
        return Err(ApiError::BadRequest(message));
    }
    let by = caller.login.as_deref();
    let by = by.map_or_else(String::new, |login| format!(" (by {login})"));
    let reason = format!("{DISCARDED}{reason}{by}");
    Ok(store.discard(&selection, &reason, Utc::now()).await?)
}

/// A selection of dead letters to requeue: by id, or those that match every given field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RequeueGroup {
    /// At most 1,000.
    ids: Option<Vec<i64>>,
    reason: Option<String>,
    event: Option<String>,
    /// `owner/name`, or `none` for those that name no repository.
    repo: Option<String>,
    /// Must be true if no other field is given.
    #[serde(default)]
    all: bool,
}

/// Dead letters that were requeued.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RequeuedGroup {
    #[schema(example = "requeued")]
    status: &'static str,
    /// Their number.
    deliveries: u64,
}

/// Requeues dead letters by id, a group of them, or all. Their attempts start from zero.
#[utoipa::path(
    tag = "deliveries", operation_id = "requeue_dead_letters",
    security(("token" = [])), request_body = RequeueGroup,
    responses(
        (status = 202, body = RequeuedGroup, description = "requeued"),
        (status = 400, body = ApiErrorBody),
    )
)]
#[post("/dead-letters/requeue")]
pub(in crate::api) async fn requeue_group(
    api: web::Data<ApiState>,
    JsonInput(group): JsonInput<RequeueGroup>,
) -> Result<HttpResponse, ApiError> {
    let RequeueGroup {
        ids,
        reason,
        event,
        repo,
        all,
    } = group;
    let group = DeadLetterKey {
        reason,
        event,
        repo,
    };
    let deliveries = requeued(&api.store, DeadLetterOrder { ids, group, all }).await?;
    Ok(HttpResponse::Accepted().json(RequeuedGroup {
        status: "requeued",
        deliveries,
    }))
}

/// A selection of dead letters to discard, and the reason.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct DiscardGroup {
    /// At most 1,000.
    ids: Option<Vec<i64>>,
    /// Those that match every given field.
    group: Option<DeadLetterKey>,
    /// Must be true if neither ids nor a group is given.
    #[serde(default)]
    all: bool,
    /// Kept with each delivery; at most 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Dead letters that were discarded.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct DiscardedGroup {
    #[schema(example = "discarded")]
    status: &'static str,
    /// Their number.
    deliveries: u64,
}

/// Discards dead letters by id, a group of them, or all: their state becomes ignored. Their payloads
/// stay for the retention time.
#[utoipa::path(
    tag = "deliveries", operation_id = "discard_dead_letters",
    security(("token" = [])), request_body = DiscardGroup,
    responses(
        (status = 200, body = DiscardedGroup, description = "discarded"),
        (status = 400, body = ApiErrorBody),
    )
)]
#[post("/dead-letters/discard")]
pub(in crate::api) async fn discard_group(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    JsonInput(order): JsonInput<DiscardGroup>,
) -> Result<HttpResponse, ApiError> {
    let DiscardGroup {
        ids,
        group,
        all,
        reason,
    } = order;
    let group = group.unwrap_or_default();
    let letters = DeadLetterOrder { ids, group, all };
    let deliveries = discarded(&api.store, letters, &reason, &caller).await?;
    Ok(HttpResponse::Ok().json(DiscardedGroup {
        status: "discarded",
        deliveries,
    }))
}

/// A dead letter that was requeued.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RequeuedLetter {
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
        (status = 404, body = ApiErrorBody),
    )
)]
#[post("/dead-letters/{id}/requeue")]
pub(in crate::api) async fn requeue(
    api: web::Data<ApiState>,
    id: web::Path<i64>,
) -> Result<HttpResponse, ApiError> {
    match requeued(&api.store, DeadLetterOrder::of_ids(vec![*id])).await? {
        0 => Err(ApiError::NotFound("dead letter")),
        _ => Ok(HttpResponse::Accepted().json(RequeuedLetter {
            status: "requeued",
            id: *id,
        })),
    }
}
