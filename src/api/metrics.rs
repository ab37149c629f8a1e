//! Aggregates: how long merged pull requests took.

use actix_web::web;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::metrics::{Aggregates, Authors, Bucket, Summary};
use tallyhook_core::github::types::Timestamp;
use tallyhook_store::AggregateFilter;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::error::ApiError;

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
    authors: Option<Authors>,
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
    let repo = api.repository(query.repo.as_deref()).await?;
    let filter = AggregateFilter {
        repo,
        from: query.from,
        to: query.to,
        authors: query.authors.unwrap_or_default(),
        bucket: query.bucket,
    };
    let Aggregates { all, buckets } = api.store.aggregates(&filter).await?;
    let buckets = buckets
        .into_iter()
        .map(|(start, summary)| BucketSummary { start, summary });
    Ok(web::Json(CycleTime {
        all,
        buckets: buckets.collect(),
    }))
}
