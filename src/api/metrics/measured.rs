//! One duration: its distribution, its single values, and the pull requests at a percentile.

use std::collections::{BTreeMap, HashMap};

use actix_web::{get, web};
use chrono::Utc;
use form_urlencoded::Serializer;
use serde::{Deserialize, Deserializer, Serialize, de};
use tallyhook_core::domain::business_time::DurationClock;
use tallyhook_core::domain::metrics::{
    AuthorFilter, DurationDistribution, DurationName, MeasuredPullRequest, Measurements,
};
use tallyhook_core::github::types::{PrKey, PrNumber, Timestamp};
use tallyhook_store::{AggregateFilter, PullRequestRow, TeamStore};
use utoipa::{IntoParams, ToSchema};

use super::{ClockQuery, QueryInput, RangeQuery};
use crate::api::data_freshness::{DataFreshness, IncompleteRepository};
use crate::api::error::{ApiError, ApiErrorBody};
use crate::api::listing::is_sorted_range;
use crate::api::reads::StoreReads;
use crate::api::team_api::TeamApi;
use crate::times::TimePoint;

/// The most points of one answer: more than a chart can show.
const MAX_POINTS: u32 = 2000;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct MeasureQuery {
    /// The duration: `cycle`, `review_time`, `coding`, `pickup`, `review`, `merge_wait`,
    /// `redraft` or `closed`; `cycle` if it is left out.
    of: Option<DurationName>,
}

impl MeasureQuery {
    pub(super) fn measure(&self) -> DurationName {
        self.of.unwrap_or(DurationName::Cycle)
    }
}

/// The distribution of one duration of merged pull requests, in bins whose width doubles.
#[utoipa::path(
    tag = "metrics", operation_id = "distribution", security(("token" = [])),
    params(MeasureQuery, RangeQuery, ClockQuery),
    responses((status = 200, body = DurationDistribution), (status = 400, body = ApiErrorBody))
)]
#[get("/metrics/distribution")]
pub(in crate::api) async fn distribution(
    api: TeamApi,
    QueryInput(range): QueryInput<RangeQuery>,
    QueryInput(clock): QueryInput<ClockQuery>,
    QueryInput(query): QueryInput<MeasureQuery>,
) -> Result<web::Json<DurationDistribution>, ApiError> {
    let found = distributed(&api.reads(), &range, &clock, &query).await?;
    Ok(web::Json(found))
}

pub(in crate::api) async fn distributed(
    reads: &StoreReads,
    range: &RangeQuery,
    clock: &ClockQuery,
    query: &MeasureQuery,
) -> Result<DurationDistribution, ApiError> {
    let filter = clocked(reads, range, clock).await?;
    let store = &reads.store;
    let found = store.measured(&filter, query.measure(), Measurements::distribution);
    Ok(found.await?)
}

/// Returns the filter of a range, by a clock.
async fn clocked(
    reads: &StoreReads,
    range: &RangeQuery,
    clock: &ClockQuery,
) -> Result<AggregateFilter, ApiError> {
    Ok(AggregateFilter {
        clock: clock.among(&reads.rules.calendars)?,
        ..range.filter(&reads.store).await?
    })
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct PointsQuery {
    /// The most points; 500 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 2000, example = 500)]
    limit: Option<PointLimit>,
}

impl PointsQuery {
    pub(super) fn limit(&self) -> usize {
        self.limit.map_or(500, |PointLimit(limit)| limit) as usize
    }
}

/// The number of points: 1 to 2000.
#[derive(Clone, Copy, Debug)]
struct PointLimit(u32);

impl<'de> Deserialize<'de> for PointLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = u32::try_from(i64::deserialize(deserializer)?).ok();
        let limit = limit.filter(|limit| (1..=MAX_POINTS).contains(limit));
        let wrong = || de::Error::custom(format!("expected a whole number from 1 to {MAX_POINTS}"));
        limit.map(Self).ok_or_else(wrong)
    }
}

/// One duration of single pull requests.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MeasuredPoints {
    pub of: DurationName,
    /// Pull requests that have this duration.
    #[schema(example = 19)]
    pub n: usize,
    /// Those of them that are in `items`, spread evenly over the order of their merges.
    #[schema(example = 19)]
    pub shown: usize,
    pub items: Vec<PointItem>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PointItem {
    #[serde(flatten)]
    pub measured: MeasuredItem,
    #[schema(value_type = String, format = "date-time")]
    pub merged_at: Timestamp,
    /// Added and deleted lines; null if they are not known.
    #[schema(example = 49)]
    pub changed_lines: Option<i64>,
}

/// A pull request and its duration.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MeasuredItem {
    #[schema(example = "acme-corp/api-server")]
    pub repo: String,
    #[schema(value_type = i64, example = 107)]
    pub number: PrNumber,
    #[schema(example = 26.0)]
    pub hours: f64,
}

/// One duration of single merged pull requests, for a chart.
#[utoipa::path(
    tag = "metrics", operation_id = "points", security(("token" = [])),
    params(MeasureQuery, RangeQuery, ClockQuery, PointsQuery),
    responses((status = 200, body = MeasuredPoints), (status = 400, body = ApiErrorBody))
)]
#[get("/metrics/points")]
pub(in crate::api) async fn points(
    api: TeamApi,
    QueryInput(range): QueryInput<RangeQuery>,
    QueryInput(clock): QueryInput<ClockQuery>,
    QueryInput(query): QueryInput<MeasureQuery>,
    QueryInput(points): QueryInput<PointsQuery>,
) -> Result<web::Json<MeasuredPoints>, ApiError> {
    let found = pointed(&api.reads(), &range, &clock, (&query, &points)).await?;
    Ok(web::Json(found))
}

/// Answers as `GET /api/metrics/points`.
pub(in crate::api) async fn pointed(
    reads: &StoreReads,
    range: &RangeQuery,
    clock: &ClockQuery,
    (query, wanted): (&MeasureQuery, &PointsQuery),
) -> Result<MeasuredPoints, ApiError> {
    let filter = clocked(reads, range, clock).await?;
    let limit = wanted.limit();
    let sample = move |measured: Measurements| (measured.len(), measured.sample(limit));
    let store = &reads.store;
    let sample = store.measured(&filter, query.measure(), sample).await?;
    points_of(store, query.measure(), sample).await
}

/// Looks up the sample of all `n` that have a duration.
pub(super) async fn points_of(
    store: &TeamStore,
    of: DurationName,
    (n, sample): (usize, Vec<MeasuredPullRequest>),
) -> Result<MeasuredPoints, ApiError> {
    let rows = rows(store, &sample).await?;
    let items: Vec<_> = sample
        .iter()
        .filter_map(|one| {
            let row = rows.get(&one.key)?;
            Some(PointItem {
                measured: item(one, row),
                merged_at: one.merged_at,
                changed_lines: row
                    .additions
                    .zip(row.deletions)
                    .map(|(more, less)| more + less),
            })
        })
        .collect();
    Ok(MeasuredPoints {
        of,
        n,
        shown: items.len(),
        items,
    })
}

async fn rows(
    store: &TeamStore,
    measured: &[MeasuredPullRequest],
) -> Result<HashMap<PrKey, PullRequestRow>, ApiError> {
    let keys: Vec<_> = measured.iter().map(|one| one.key).collect();
    let rows = store.pull_requests_by_key(&keys).await?;
    Ok(rows.into_iter().map(|row| (row.key, row)).collect())
}

fn item(measured: &MeasuredPullRequest, row: &PullRequestRow) -> MeasuredItem {
    MeasuredItem {
        repo: row.repo.clone(),
        number: measured.key.number,
        hours: measured.hours(),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct PercentileQuery {
    /// The percentile as a share, 0.5 (the median) if it is left out.
    #[param(value_type = Option<f64>, minimum = 0, maximum = 1, example = 0.5)]
    p: Option<PercentileShare>,
}

/// A share from 0 to 1.
#[derive(Clone, Copy, Debug)]
struct PercentileShare(f64);

impl<'de> Deserialize<'de> for PercentileShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = String::deserialize(deserializer)?.parse().ok();
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        let wrong = || de::Error::custom("expected a number from 0 to 1 such as 0.5");
        share.map(Self).ok_or_else(wrong)
    }
}

/// A percentile and the pull requests that it is made of.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ExplainedPercentile {
    pub of: DurationName,
    #[schema(example = 0.5)]
    pub p: f64,
    /// Null if no pull request has this duration.
    #[schema(example = 8.2)]
    pub value_hours: Option<f64>,
    /// Pull requests that have this duration.
    #[schema(example = 81)]
    pub n: usize,
    /// The rank of the value among them in ascending order; with a fraction between two of them.
    #[schema(example = 41.0)]
    pub rank: Option<f64>,
    /// The pull request at the rank, or the two next to it.
    pub between: Vec<MeasuredItem>,
    /// Those around the rank in ascending order, `between` among them.
    pub around: Vec<MeasuredItem>,
    /// Pull requests that count and do not have this duration.
    pub missing: usize,
    /// Pull requests that do not count, by reason.
    pub excluded: BTreeMap<String, u64>,
    #[schema(
        example = "From ready for review to the first review by a person other than the author."
    )]
    pub definition: String,
    pub range: OpenRange,
    /// The tracked repositories of which something is missing; at most 100.
    pub incomplete: Vec<IncompleteRepository>,
    /// The call that lists the pull requests of the range.
    #[schema(example = "/api/prs?state=merged&counted=true&stage=pickup")]
    pub rows: String,
}

/// A range that may lack an end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct OpenRange {
    #[schema(value_type = Option<String>, format = "date-time")]
    pub from: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = "date-time")]
    pub to: Option<Timestamp>,
}

/// The pull requests at one percentile of a duration.
#[utoipa::path(
    tag = "metrics", operation_id = "explain", security(("token" = [])),
    params(MeasureQuery, PercentileQuery, RangeQuery, ClockQuery),
    responses((status = 200, body = ExplainedPercentile), (status = 400, body = ApiErrorBody))
)]
#[get("/metrics/explain")]
pub(in crate::api) async fn explain(
    api: TeamApi,
    QueryInput(range): QueryInput<RangeQuery>,
    QueryInput(clock): QueryInput<ClockQuery>,
    QueryInput(query): QueryInput<MeasureQuery>,
    QueryInput(percentile): QueryInput<PercentileQuery>,
) -> Result<web::Json<ExplainedPercentile>, ApiError> {
    let found = explained(&api.reads(), &range, &clock, (&query, &percentile)).await?;
    Ok(web::Json(found))
}

/// Answers as `GET /api/metrics/explain`.
pub(in crate::api) async fn explained(
    reads: &StoreReads,
    range: &RangeQuery,
    clock: &ClockQuery,
    (query, percentile): (&MeasureQuery, &PercentileQuery),
) -> Result<ExplainedPercentile, ApiError> {
    let filter = clocked(reads, range, clock).await?;
    let store = &reads.store;
    let p = percentile.p.map_or(0.5, |PercentileShare(p)| p);
    let ranked = move |mut measured: Measurements| {
        let (n, missing) = (measured.len(), measured.missing());
        (n, missing, measured.excluded(), measured.ranked(p))
    };
    let measured = store.measured(&filter, query.measure(), ranked);
    let (n, missing, excluded, ranked) = measured.await?;
    let (between, around) = match &ranked {
        Some(ranked) => (ranked.between.as_slice(), ranked.around.as_slice()),
        None => (&[][..], &[][..]),
    };
    let rows = rows(store, around).await?;
    let freshness = DataFreshness::read(store, filter.repo, 0).await?;
    let items = |measured: &[MeasuredPullRequest]| {
        let known = measured
            .iter()
            .filter_map(|one| rows.get(&one.key).map(|row| item(one, row)));
        known.collect()
    };
    Ok(ExplainedPercentile {
        of: query.measure(),
        p,
        value_hours: ranked.as_ref().map(|ranked| ranked.hours),
        n,
        rank: ranked.as_ref().map(|ranked| ranked.rank),
        between: items(between),
        around: items(around),
        missing,
        excluded,
        definition: query.measure().definition().to_owned(),
        range: OpenRange {
            from: filter.from,
            to: filter.to,
        },
        incomplete: freshness.incomplete,
        rows: list_of(range, filter.clock, query.measure(), Utc::now().into()),
    })
}

/// Returns the call that lists the pull requests of a range by their duration.
fn list_of(
    range: &RangeQuery,
    clock: DurationClock,
    measure: DurationName,
    now: Timestamp,
) -> String {
    let at = |time: Option<TimePoint>| time.map(|TimePoint(at)| at);
    let mut query = Serializer::new(String::new());
    query
        .append_pair("state", "merged")
        .append_pair("counted", "true");
    if let Some(repo) = &range.repo {
        query.append_pair("repo", repo);
    }
    for (name, time) in [("merged_from", range.from), ("merged_to", range.to)] {
        if let Some(time) = time {
            query.append_pair(name, &time.to_string());
        }
    }
    if let Some(authors) = range
        .authors
        .filter(|authors| *authors != AuthorFilter::Human)
    {
        query.append_pair("authors", authors.into());
    }
    if clock == DurationClock::Business {
        query.append_pair("clock", "business");
    }
    query.append_pair("stage", measure.as_str());
    // A list over a longer range is refused with an order.
    if has_order(measure) && is_sorted_range(at(range.from), at(range.to), now) {
        query.append_pair("sort", measure.as_str());
    }
    format!("/api/prs?{}", query.finish())
}

/// Returns whether lists can be sorted by a duration: `closed` sorts by the time of the closing.
const fn has_order(measure: DurationName) -> bool {
    !matches!(measure, DurationName::Closed)
}
