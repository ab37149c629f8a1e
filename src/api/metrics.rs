//! Aggregates of merged pull requests: cycle time, review time, stages.

use actix_web::{get, web};
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::business_time::{Calendars, DurationClock};
use tallyhook_core::domain::metrics::{Aggregates, AuthorFilter, CalendarBucket, Summary};
use tallyhook_core::github::types::Timestamp;
use tallyhook_store::{AggregateFilter, Store};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::error::ApiError;
use super::input::QueryInput;
use crate::config::NamedZone;
use crate::times::TimePoint;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MetricsQuery {
    /// `owner/name`
    repo: Option<String>,
    /// Merged at or after: RFC 3339, a date (midnight UTC), or a span before now.
    #[param(value_type = Option<String>, example = "30d")]
    from: Option<TimePoint>,
    /// Merged before, in the same forms.
    #[param(value_type = Option<String>, example = "2026-03-31")]
    to: Option<TimePoint>,
    /// Buckets by day, week (from Monday) or month; no buckets by default.
    bucket: Option<CalendarBucket>,
    /// Authors to include: `human` (default) or `bot`.
    authors: Option<AuthorFilter>,
    /// The clock of the durations: `calendar` (default), or `business` for the working hours of the
    /// repositories' calendars.
    clock: Option<DurationClock>,
    /// The IANA time zone in which buckets begin; UTC by default.
    #[param(value_type = Option<String>, example = "Europe/Berlin")]
    zone: Option<NamedZone>,
}

/// Aggregates over the whole range, and by bucket.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CycleTime {
    pub all: Summary,
    pub buckets: Vec<BucketSummary>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BucketSummary {
    #[schema(value_type = String, format = "date-time")]
    pub start: Timestamp,
    #[serde(flatten)]
    pub summary: Summary,
}

/// Cycle time, review time and stages of merged pull requests, by the time of the merge.
#[utoipa::path(
    tag = "metrics", operation_id = "cycle_time", security(("token" = [])),
    params(MetricsQuery),
    responses((status = 200, body = CycleTime), (status = 400, body = super::error::ApiErrorBody))
)]
#[get("/metrics/cycle-time")]
pub(super) async fn cycle_time(
    api: web::Data<ApiState>,
    QueryInput(query): QueryInput<MetricsQuery>,
) -> Result<web::Json<CycleTime>, ApiError> {
    aggregated(&api.store, &api.rules.calendars, query)
        .await
        .map(web::Json)
}

/// Returns the aggregates of stored pull requests.
pub(super) async fn aggregated(
    store: &Store,
    calendars: &Calendars,
    query: MetricsQuery,
) -> Result<CycleTime, ApiError> {
    let clock = query.clock.unwrap_or_default();
    if clock == DurationClock::Business && calendars.is_empty() {
        let message = "`clock` is business, and no calendar is configured: write a table \
                       [calendars.NAME] and default_calendar into the configuration file, then \
                       run `tallyhook recompute`";
        return Err(ApiError::BadRequest(message.to_owned()));
    }
    let repo = super::repository(store, query.repo.as_deref()).await?;
    let filter = AggregateFilter {
        repo,
        from: query.from.map(|TimePoint(at)| at),
        to: query.to.map(|TimePoint(at)| at),
        authors: query.authors.unwrap_or_default(),
        bucket: query.bucket,
        zone: query.zone.map(|zone| zone.time_zone),
        clock,
    };
    let Aggregates { all, buckets } = store.aggregates(&filter).await?;
    let buckets = buckets
        .into_iter()
        .map(|(start, summary)| BucketSummary { start, summary });
    Ok(CycleTime {
        all,
        buckets: buckets.collect(),
    })
}
