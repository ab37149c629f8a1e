//! Aggregates of pull requests: cycle time, review time, stages.

mod comparison;
mod flow;
mod measured;

use std::collections::BTreeMap;

use actix_web::{get, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::business_time::{Calendars, DurationClock};
use tallyhook_core::domain::metrics::{
    Aggregates, AuthorFilter, CalendarBucket, CohortSummary, Summary,
};
use tallyhook_core::github::types::Timestamp;
use tallyhook_store::{AggregateFilter, TeamStore};
use utoipa::{IntoParams, ToSchema};

pub use self::comparison::{ComparedTime, TimeRange, TimeRanges};
pub(super) use self::comparison::{compare, compared};
pub use self::flow::FlowAnswers;
pub(super) use self::flow::flow;
pub use self::measured::{ExplainedPercentile, MeasuredItem, MeasuredPoints, PointItem};
pub(super) use self::measured::{distributed, distribution, explain, explained, pointed, points};
use super::error::ApiError;
use super::input::QueryInput;
use super::team_api::TeamApi;
use crate::config::NamedZone;
use crate::times::TimePoint;

/// The pull requests that a call is about.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RangeQuery {
    /// `owner/name`
    repo: Option<String>,
    /// Merged at or after: RFC 3339, a date (midnight UTC), or a span before now.
    #[param(value_type = Option<String>, example = "30d")]
    from: Option<TimePoint>,
    /// Merged before, in the same forms.
    #[param(value_type = Option<String>, example = "2026-03-31")]
    to: Option<TimePoint>,
    /// Authors to include: `human` (default, with an AI tool or without), `agent` (AI agents),
    /// `automation` (other bots), `bot` (both) or `all`.
    authors: Option<AuthorFilter>,
}

impl RangeQuery {
    pub(super) async fn filter(&self, store: &TeamStore) -> Result<AggregateFilter, ApiError> {
        Ok(AggregateFilter {
            repo: super::repository(store, self.repo.as_deref()).await?,
            from: self.from.map(|TimePoint(at)| at),
            to: self.to.map(|TimePoint(at)| at),
            authors: self.authors.unwrap_or_default(),
            ..AggregateFilter::default()
        })
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MetricsQuery {
    /// Buckets by day, week (from Monday) or month; no buckets by default.
    bucket: Option<CalendarBucket>,
    /// The IANA time zone in which buckets begin; UTC by default.
    #[param(value_type = Option<String>, example = "Europe/Berlin")]
    zone: Option<NamedZone>,
    /// `origin` adds `by_origin`: a summary for each origin of the range.
    by: Option<Breakdown>,
    /// `previous` adds `compare`: the range before, of the same length.
    compare: Option<ComparedRange>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ClockQuery {
    /// The clock of the durations: `calendar` (default), or `business` for the working hours of the
    /// repositories' calendars.
    clock: Option<DurationClock>,
}

impl ClockQuery {
    /// Returns the clock; that of business time is refused without a calendar.
    pub(super) fn among(&self, calendars: &Calendars) -> Result<DurationClock, ApiError> {
        let clock = self.clock.unwrap_or_default();
        if clock == DurationClock::Business && calendars.is_empty() {
            let message = "`clock` is business, and no calendar is configured: write a table \
                           [calendars.NAME] and default_calendar into the configuration file, \
                           then run `tallyhook recompute`";
            return Err(ApiError::BadRequest(message.to_owned()));
        }
        Ok(clock)
    }
}

/// A division of the range besides that by time.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Breakdown {
    Origin,
}

/// A range to compare with.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ComparedRange {
    Previous,
}

/// Aggregates over the whole range, and by bucket.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CycleTime {
    pub all: Summary,
    pub buckets: Vec<BucketSummary>,
    /// By `human`, `assisted`, `agent`, `automation` and `unknown`, with `by=origin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub by_origin: Option<BTreeMap<String, Summary>>,
    /// With `compare=previous`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub compare: Option<ComparedTime>,
}

impl CycleTime {
    fn new(found: Aggregates, by_origin: bool, comparison: Option<ComparedTime>) -> Self {
        let buckets = found
            .buckets
            .into_iter()
            .map(|(start, summary)| BucketSummary { start, summary });
        let origins = found.origins.into_iter().map(|(origin, summary)| {
            let name: &'static str = origin.map_or("unknown", Into::into);
            (name.to_owned(), summary)
        });
        Self {
            all: found.all,
            buckets: buckets.collect(),
            by_origin: by_origin.then(|| origins.collect()),
            compare: comparison,
        }
    }
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
    params(RangeQuery, ClockQuery, MetricsQuery),
    responses((status = 200, body = CycleTime), (status = 400, body = super::error::ApiErrorBody))
)]
#[get("/metrics/cycle-time")]
pub(super) async fn cycle_time(
    api: TeamApi,
    QueryInput(range): QueryInput<RangeQuery>,
    QueryInput(clock): QueryInput<ClockQuery>,
    QueryInput(query): QueryInput<MetricsQuery>,
) -> Result<web::Json<CycleTime>, ApiError> {
    let clock = clock.among(&api.rules.calendars)?;
    aggregated(&api.store, &range, clock, query)
        .await
        .map(web::Json)
}

/// Returns the aggregates of stored pull requests.
pub(super) async fn aggregated(
    store: &TeamStore,
    range: &RangeQuery,
    clock: DurationClock,
    query: MetricsQuery,
) -> Result<CycleTime, ApiError> {
    let filter = AggregateFilter {
        bucket: query.bucket,
        zone: query.zone.map(|zone| zone.time_zone),
        clock,
        by_origin: query.by.is_some(),
        ..range.filter(store).await?
    };
    let comparison = match query.compare {
        Some(ComparedRange::Previous) => Some(compared(store, range, clock).await?),
        None => None,
    };
    let found = store.aggregates(&filter).await?;
    Ok(CycleTime::new(found, filter.by_origin, comparison))
}

/// The pull requests that were created in a range, with those that are open.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct CohortAnswer {
    /// Open pull requests count as having lived until then.
    #[schema(value_type = String, format = "date-time")]
    pub as_of: Timestamp,
    #[serde(flatten)]
    pub cohort: CohortSummary,
}

/// Cycle and review times of the pull requests that were **created** in the range (`from` and `to`
/// are about their creation). Open ones count for as long as they have lived, and those closed
/// without a merge until they were closed.
#[utoipa::path(
    tag = "metrics", operation_id = "cohort", security(("token" = [])),
    params(RangeQuery),
    responses((status = 200, body = CohortAnswer),
        (status = 400, body = super::error::ApiErrorBody))
)]
#[get("/metrics/cohort")]
pub(super) async fn cohort(
    api: TeamApi,
    QueryInput(range): QueryInput<RangeQuery>,
) -> Result<web::Json<CohortAnswer>, ApiError> {
    let as_of = Utc::now().into();
    let filter = range.filter(&api.store).await?;
    let cohort = api.store.cohort(&filter, as_of).await?;
    Ok(web::Json(CohortAnswer { as_of, cohort }))
}
