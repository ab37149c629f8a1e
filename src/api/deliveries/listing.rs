//! Lists of deliveries and dead letters.

use actix_web::{get, web};
use serde::{Deserialize, Deserializer, de};
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::types::PrNumber;
use tallyhook_store::{DELIVERIES_LOOKED_AT, DeliveryFilter, DeliveryState, Store};
use utoipa::IntoParams;

use super::{DeliveryItem, item};
use crate::api::ApiState;
use crate::api::error::{ApiError, ApiErrorBody};
use crate::api::input::QueryInput;
use crate::api::page::{self, ListCount, Page, PageSize};
use crate::times::TimePoint;

/// The least characters of a GUID's beginning: fewer would fit too many deliveries.
const SHORTEST_GUID: usize = 4;
/// The most ids of one call.
const MAX_IDS: usize = 100;

/// The filter of a list of deliveries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct DeliveriesQuery {
    /// The state of the deliveries.
    state: Option<DeliveryState>,
    /// GitHub's name of the event.
    event: Option<String>,
    /// `owner/name`, or `none` for those that name no repository.
    repo: Option<String>,
    /// The number of the pull request.
    #[param(value_type = Option<i64>, minimum = 1)]
    pr: Option<PrNumber>,
    /// The source that brought them.
    source: Option<Source>,
    /// The beginning of the GUID, at least 4 characters.
    #[param(min_length = 4, example = "72d3162e")]
    guid: Option<String>,
    /// The whole reason why they are ignored or dead.
    reason: Option<String>,
    /// With true only dead letters that were discarded.
    discarded: Option<bool>,
    /// Received at or after: RFC 3339, a date (midnight UTC), or a span before now.
    #[param(value_type = Option<String>, example = "7d")]
    from: Option<TimePoint>,
    /// Received before, in the same forms.
    #[param(value_type = Option<String>, example = "2026-03-31")]
    to: Option<TimePoint>,
    /// Only these, at most 100 ids with commas.
    #[param(value_type = Option<String>, example = "41,42")]
    ids: Option<DeliveryIdList>,
    /// With true the answer has `count`: exact up to 10,000, and where conditions without an index
    /// leave at most 50,000 to look at.
    count: Option<bool>,
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// The filter of dead letters: that of deliveries, without what only others have.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct DeadLettersQuery {
    /// The whole reason, as the groups have it.
    reason: Option<String>,
    /// GitHub's name of the event.
    event: Option<String>,
    /// `owner/name`, or `none` for those that name no repository.
    repo: Option<String>,
    /// With true the answer has `count`, exact up to 10,000.
    count: Option<bool>,
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

impl From<DeadLettersQuery> for DeliveriesQuery {
    fn from(query: DeadLettersQuery) -> Self {
        let DeadLettersQuery {
            reason,
            event,
            repo,
            count,
            per_page,
            cursor,
        } = query;
        Self {
            state: Some(DeliveryState::Dead),
            reason,
            event,
            repo,
            count,
            per_page,
            cursor,
            ..Self::default()
        }
    }
}

/// Ids with commas between them.
#[derive(Debug)]
struct DeliveryIdList(Vec<DeliveryId>);

impl<'de> Deserialize<'de> for DeliveryIdList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let ids = text.split(',').map(|id| id.trim().parse().map(DeliveryId));
        let ids: Option<Vec<_>> = ids.map(Result::ok).collect();
        let ids = ids.filter(|ids| ids.len() <= MAX_IDS);
        let wrong = || de::Error::custom(format!("expected at most {MAX_IDS} ids with commas"));
        ids.map(Self).ok_or_else(wrong)
    }
}

/// Deliveries, newest first. The list is empty if the repository has none. A page ends early where
/// its conditions have no index and many deliveries had to be looked at; `next` goes on.
#[utoipa::path(
    tag = "deliveries", operation_id = "list_deliveries", security(("token" = [])),
    params(DeliveriesQuery),
    responses(
        (status = 200, body = Page<DeliveryItem>),
        (status = 400, body = ApiErrorBody),
    )
)]
#[get("/deliveries")]
pub(in crate::api) async fn list(
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
        (status = 400, body = ApiErrorBody),
    )
)]
#[get("/dead-letters")]
pub(in crate::api) async fn list_dead(
    api: web::Data<ApiState>,
    QueryInput(query): QueryInput<DeadLettersQuery>,
) -> Result<web::Json<Page<DeliveryItem>>, ApiError> {
    listed(&api.store, query.into()).await.map(web::Json)
}

/// Returns a page of stored deliveries.
pub(in crate::api) async fn listed(
    store: &Store,
    query: DeliveriesQuery,
) -> Result<Page<DeliveryItem>, ApiError> {
    let size = query.per_page.unwrap_or_default();
    let (wants_count, cursor) = (query.count == Some(true), query.cursor.clone());
    let mut filter = filter(query)?;
    let count = match wants_count {
        true => Some(
            store
                .count_deliveries(&filter, DELIVERIES_LOOKED_AT)
                .await?,
        ),
        false => None,
    };
    filter.before = page::decode(cursor.as_deref())?;
    filter.until = store
        .end_of_deliveries_look(&filter, DELIVERIES_LOOKED_AT)
        .await?;
    let mut deliveries = store.deliveries(&filter, size.rows()).await?;
    let next = match size.truncate(&mut deliveries) {
        true => deliveries.last().map(|last| last.id),
        false => filter.until,
    };
    Ok(Page {
        items: deliveries.iter().map(item).collect(),
        next: next.map(|id| page::encode(&id)),
        count: count.map(|(n, exact)| ListCount { n, exact }),
    })
}

/// Returns the filter of a query, from its beginning.
pub(super) fn filter(query: DeliveriesQuery) -> Result<DeliveryFilter, ApiError> {
    let at = |time: Option<TimePoint>| time.map(|TimePoint(at)| at.to_utc());
    if let Some(prefix) = &query.guid
        && prefix.chars().count() < SHORTEST_GUID
    {
        let message = format!("`guid` is too short: give at least {SHORTEST_GUID} characters");
        return Err(ApiError::BadRequest(message));
    }
    Ok(DeliveryFilter {
        state: query.state,
        event: query.event,
        repo: query.repo,
        pull_request: query.pr,
        source: query.source,
        guid: query.guid,
        reason: query.reason,
        discarded: query.discarded == Some(true),
        from: at(query.from),
        to: at(query.to),
        ids: query.ids.map_or_else(Vec::new, |DeliveryIdList(ids)| ids),
        before: None,
        until: None,
    })
}
