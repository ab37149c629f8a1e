//! A range beside the range before it.

use actix_web::{get, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::business_time::DurationClock;
use tallyhook_core::domain::metrics::{ComparedDurations, ComparedRanges, Summary};
use tallyhook_core::github::types::Timestamp;
use tallyhook_store::{AggregateFilter, TeamStore};
use utoipa::ToSchema;

use super::{ClockQuery, QueryInput, RangeQuery};
use crate::api::data_freshness::DataFreshness;
use crate::api::error::{ApiError, ApiErrorBody};
use crate::api::team_api::TeamApi;

/// Two ranges of one length, the second right before the first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ComparedTime {
    pub now: Summary,
    pub before: Summary,
    pub ranges: TimeRanges,
    /// The difference of each duration, and how sure it is.
    pub compared: ComparedDurations,
    pub freshness: DataFreshness,
}

impl ComparedTime {
    pub(super) fn new(ranges: TimeRanges, found: ComparedRanges, freshness: DataFreshness) -> Self {
        Self {
            now: found.now,
            before: found.before,
            ranges,
            compared: found.compared,
            freshness,
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct TimeRanges {
    pub now: TimeRange,
    pub before: TimeRange,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct TimeRange {
    #[schema(value_type = String, format = "date-time")]
    pub from: Timestamp,
    /// Not in the range itself.
    #[schema(value_type = String, format = "date-time")]
    pub to: Timestamp,
}

/// Cycle time, review time and stages of a range beside those of the range before it, of the same
/// length. `from` is required; `to` is now if it is left out.
#[utoipa::path(
    tag = "metrics", operation_id = "compare", security(("token" = [])),
    params(RangeQuery, ClockQuery),
    responses((status = 200, body = ComparedTime), (status = 400, body = ApiErrorBody))
)]
#[get("/metrics/compare")]
pub(in crate::api) async fn compare(
    api: TeamApi,
    QueryInput(range): QueryInput<RangeQuery>,
    QueryInput(clock): QueryInput<ClockQuery>,
) -> Result<web::Json<ComparedTime>, ApiError> {
    let clock = clock.among(&api.rules.calendars)?;
    compared(&api.store, &range, clock).await.map(web::Json)
}

/// Compares stored pull requests.
pub(in crate::api) async fn compared(
    store: &TeamStore,
    range: &RangeQuery,
    clock: DurationClock,
) -> Result<ComparedTime, ApiError> {
    let filter = range.filter(store).await?;
    let ranges = ranges(&filter, Utc::now().into())?;
    let filter = AggregateFilter {
        from: Some(ranges.before.from),
        to: Some(ranges.now.to),
        clock,
        ..filter
    };
    let compared = store.compared(&filter, ranges.now.from).await?;
    let freshness = DataFreshness::read(store, filter.repo, 0).await?;
    Ok(ComparedTime::new(ranges, compared, freshness))
}

/// Returns the range of a filter and the one before it.
///
/// # Errors
/// If the filter has no beginning, or its range is empty.
pub(super) fn ranges(filter: &AggregateFilter, now: Timestamp) -> Result<TimeRanges, ApiError> {
    let refused = |why: &str| Err(ApiError::BadRequest(why.to_owned()));
    let Some(from) = filter.from else {
        return refused(
            "`from` is missing: a range with a beginning is compared, such as from=30d",
        );
    };
    let to = filter.to.unwrap_or(now);
    if to <= from {
        return refused("the range is empty: `to` must be after `from`");
    }
    let before = TimeRange {
        from: Timestamp::clamped(from.epoch() - (to.epoch() - from.epoch())),
        to: from,
    };
    let now = TimeRange { from, to };
    Ok(TimeRanges { now, before })
}
