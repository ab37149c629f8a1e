//! Aggregates: how long merged pull requests took.

use std::collections::BTreeMap;

use actix_web::web;
use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::error::ApiError;
use crate::domain::metrics::Distribution;
use crate::github::types::Timestamp;
use crate::store::{DurationFilter, Merged};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MetricsQuery {
    /// `owner/name`
    repo: Option<String>,
    /// Merged at or after, RFC 3339.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Merged before, RFC 3339.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// Buckets by day, week (from Monday) or month, in UTC; none unless told.
    bucket: Option<Bucket>,
    /// Whose pull requests count: `human` (unless told) or `bot`.
    authors: Option<Author>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Bucket {
    Day,
    Week,
    Month,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Author {
    #[default]
    Human,
    Bot,
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

/// One set of merged pull requests.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// The cycle time: from creation to merge.
    #[serde(flatten)]
    pub cycle_time: DurationSummary,
    /// From creation to the first review.
    pub review_time: DurationSummary,
    pub stages: StageSummaries,
    /// Pull requests that were merged and do not count, by reason: `bot_author`, `merged_as_draft`, `stub`.
    pub excluded: BTreeMap<String, u64>,
    /// Of those that count, how many have each flag, such as `merged_without_review`.
    pub flags: BTreeMap<String, u64>,
    /// Pull requests that were closed without a merge in the same range; null in buckets.
    pub closed_unmerged: Option<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct StageSummaries {
    pub coding: DurationSummary,
    pub pickup: DurationSummary,
    pub review: DurationSummary,
    pub merge_wait: DurationSummary,
    pub redraft: DurationSummary,
    pub closed: DurationSummary,
}

/// The distribution of one duration. Percentiles are interpolated linearly between the closest ranks.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DurationSummary {
    pub n: usize,
    /// Pull requests that count and do not have this duration.
    pub missing: usize,
    pub p50_hours: Option<f64>,
    pub p75_hours: Option<f64>,
    /// Null below five values.
    pub p90_hours: Option<f64>,
    pub mean_hours: Option<f64>,
    /// Told below five values, where percentiles say little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<f64>>,
}

/// Cycle time, review time and stages of merged pull requests, by the moment of the merge.
#[utoipa::path(
    get, path = "/api/metrics/cycle-time", tag = "metrics", operation_id = "cycle_time", security(("token" = [])),
    params(MetricsQuery),
    responses((status = 200, body = CycleTime), (status = 400, body = super::error::ErrorBody))
)]
pub(super) async fn cycle_time(
    api: web::Data<Api>,
    query: web::Query<MetricsQuery>,
) -> Result<web::Json<CycleTime>, ApiError> {
    let repo = match &query.repo {
        Some(name) => match api.store.repository_id(name).await? {
            Some(id) => Some(id),
            None => return Err(ApiError::NotFound("repository")),
        },
        None => None,
    };
    let filter = DurationFilter { repo, from: query.from, to: query.to };
    let merged = api.store.merged(&filter).await?;
    let author = query.authors.unwrap_or_default();
    let closed_unmerged = api.store.closed_unmerged(&filter, author == Author::Bot).await?;
    let mut buckets: BTreeMap<Timestamp, Vec<&Merged>> = BTreeMap::new();
    if let Some(bucket) = query.bucket {
        for one in &merged {
            buckets.entry(start_of(bucket, one.merged_at)).or_default().push(one);
        }
    }
    let buckets = buckets.into_iter().map(|(start, merged)| BucketSummary { start, summary: summary(merged, author) });
    Ok(web::Json(CycleTime {
        all: Summary { closed_unmerged: Some(closed_unmerged), ..summary(&merged, author) },
        buckets: buckets.collect(),
    }))
}

fn start_of(bucket: Bucket, at: Timestamp) -> Timestamp {
    let date = at.to_utc().date_naive();
    let first = match bucket {
        Bucket::Day => Some(date),
        Bucket::Week => date.checked_sub_days(chrono::Days::new(date.weekday().num_days_from_monday().into())),
        Bucket::Month => NaiveDate::from_ymd_opt(date.year(), date.month(), 1),
    };
    first.and_then(|first| first.and_hms_opt(0, 0, 0)).map_or(at, |midnight| midnight.and_utc().into())
}

/// Why a merged pull request does not count; the first reason that holds.
fn excluded(merged: &Merged, author: Author) -> Option<&'static str> {
    let has = |flag| merged.flags.iter().any(|have| have == flag);
    if merged.author_is_bot && author == Author::Human {
        Some("bot_author")
    } else if has("merged_as_draft") {
        Some("merged_as_draft")
    } else if has("stub") {
        Some("stub")
    } else {
        None
    }
}

fn summary<'a>(merged: impl IntoIterator<Item = &'a Merged>, author: Author) -> Summary {
    let mut summary = Summary::default();
    let mut counting = Vec::new();
    for one in merged {
        match excluded(one, author) {
            _ if author == Author::Bot && !one.author_is_bot => {}
            Some(reason) => *summary.excluded.entry(reason.to_owned()).or_default() += 1,
            None => counting.push(one),
        }
    }
    for flag in counting.iter().flat_map(|one| &one.flags) {
        *summary.flags.entry(flag.clone()).or_default() += 1;
    }
    let of = |duration: fn(&Merged) -> Option<i64>| duration_summary(&counting, duration);
    summary.cycle_time = of(|one| one.durations.cycle_time);
    summary.review_time = of(|one| one.durations.review_time);
    summary.stages = StageSummaries {
        coding: of(|one| one.durations.coding),
        pickup: of(|one| one.durations.pickup),
        review: of(|one| one.durations.review),
        merge_wait: of(|one| one.durations.merge_wait),
        redraft: of(|one| one.durations.redraft),
        closed: of(|one| one.durations.closed),
    };
    summary
}

fn duration_summary(counting: &[&Merged], duration: fn(&Merged) -> Option<i64>) -> DurationSummary {
    #[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
    let hours: Vec<_> =
        counting.iter().filter_map(|one| duration(one)).map(|seconds| seconds as f64 / 3600.0).collect();
    let missing = counting.len() - hours.len();
    let Distribution { n, p50, p75, p90, mean, values } = Distribution::of(hours);
    DurationSummary { n, missing, p50_hours: p50, p75_hours: p75, p90_hours: p90, mean_hours: mean, values }
}
