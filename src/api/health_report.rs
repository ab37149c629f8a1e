//! The health of the installation in detail, for its operator.

use std::collections::BTreeMap;

use actix_web::{get, web};
use chrono::{TimeDelta, Utc};
use serde::Serialize;
use serde_json::Value;
use tallyhook_core::github::types::Timestamp;
use tallyhook_queue::Health;
use tallyhook_store::DatabaseInfo;
use utoipa::ToSchema;

use super::error::ApiError;
use super::sync::SyncStats;
use super::{ApiState, health, rfc3339};

/// The period whose webhooks the lag is of.
const LAG_PERIOD: TimeDelta = TimeDelta::hours(1);

/// The state of the process that answers, and of what all processes share.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthReport {
    pub as_of: Timestamp,
    /// `ready`, `degraded` or `not_ready`, as `/readyz` answers.
    #[schema(example = "ready")]
    pub status: String,
    /// `ok`, `degraded`, `failing` or `not_used`, of each part that `/readyz` names.
    pub parts: BTreeMap<String, String>,
    /// The cause, where `/readyz` names one.
    pub reason: Option<String>,
    pub process: ProcessReport,
    pub inbox: InboxReport,
    pub queue: QueueReport,
    pub database: DatabaseReport,
    /// The poller, watched pull requests, backfills, channels and GitHub.
    pub sync: SyncStats,
}

/// The process that answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProcessReport {
    #[schema(example = "0.1.0 (abcdef0 2026-11-29)")]
    pub version: &'static str,
    #[schema(format = "date-time")]
    pub started_at: String,
    /// True with the role ingest.
    pub takes_in: bool,
    /// True with the role poller.
    pub polls: bool,
}

/// The deliveries by state, and the time that the newest ones took.
#[derive(Debug, Serialize, ToSchema)]
pub struct InboxReport {
    /// Not finished yet.
    pub accepted: u64,
    pub applied: u64,
    pub ignored: u64,
    pub dead: u64,
    /// The age of the oldest that is not finished; null if all are.
    pub oldest_pending_seconds: Option<f64>,
    /// From receipt to commit, of the newest webhooks of the last hour, at most a thousand; null
    /// without one.
    pub lag_p50_seconds: Option<f64>,
    pub lag_p99_seconds: Option<f64>,
    /// The number of these webhooks.
    pub lag_n: u64,
}

/// The queue between receivers and workers, as this process sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueReport {
    pub kind: QueueKind,
    /// Null in a process that has no part in it.
    pub connected: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueKind {
    /// Inside the process.
    Embedded,
    Rabbitmq,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DatabaseReport {
    #[schema(example = "SQLite 3.50.4")]
    pub server: String,
    pub bytes: u64,
    /// Free bytes of its disk; null if it is on another machine.
    pub free_bytes: Option<u64>,
    /// The reason why nothing can be written; null if it can.
    pub read_only: Option<String>,
}

impl ApiState {
    /// Answers as `GET /api/health`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn health_report(&self) -> Result<HealthReport, ApiError> {
        let (_, readiness) = health::readiness(self).await;
        let mut parts: BTreeMap<String, String> = match readiness {
            Value::Object(parts) => parts
                .into_iter()
                .filter_map(|(part, state)| Some((part, state.as_str()?.to_owned())))
                .collect(),
            _ => BTreeMap::new(),
        };
        Ok(HealthReport {
            as_of: Utc::now().into(),
            status: parts.remove("status").unwrap_or_default(),
            reason: parts.remove("reason"),
            parts,
            process: ProcessReport {
                version: env!("TALLYHOOK_VERSION"),
                started_at: rfc3339(self.started),
                takes_in: self.takes_in,
                polls: self.polls,
            },
            inbox: self.inbox_report().await?,
            queue: QueueReport {
                kind: match self.config.amqp_url {
                    Some(_) => QueueKind::Rabbitmq,
                    None => QueueKind::Embedded,
                },
                connected: self
                    .queue
                    .as_ref()
                    .map(|queue| queue.health() == Health::Ok),
            },
            database: self.database_report().await?,
            sync: self.sync_stats().await?,
        })
    }

    async fn inbox_report(&self) -> Result<InboxReport, ApiError> {
        let now = Utc::now();
        let counts = self.counts().await?.inbox;
        let lags = self.store.apply_lags(now - LAG_PERIOD).await?;
        let age = counts.oldest_pending.map(|at| (now - at).as_seconds_f64());
        Ok(InboxReport {
            accepted: counts.accepted,
            applied: counts.applied,
            ignored: counts.ignored,
            dead: counts.dead,
            oldest_pending_seconds: age.map(|age| age.max(0.0)),
            lag_p50_seconds: nearest_rank(&lags, 50),
            lag_p99_seconds: nearest_rank(&lags, 99),
            lag_n: lags.len() as u64,
        })
    }

    async fn database_report(&self) -> Result<DatabaseReport, ApiError> {
        let DatabaseInfo {
            server, read_only, ..
        } = self.store.describe().await?;
        Ok(DatabaseReport {
            server,
            bytes: self.store.database_bytes().await?,
            free_bytes: self.store.condition().free_bytes,
            read_only,
        })
    }
}

/// Returns the percentile of ascending milliseconds in seconds: the smallest value that so many per
/// cent do not exceed.
#[allow(
    clippy::cast_precision_loss,
    reason = "milliseconds of an hour are far below 2^53"
)]
fn nearest_rank(lags: &[i64], percent: usize) -> Option<f64> {
    let rank = (lags.len() * percent).div_ceil(100);
    let lag = lags.get(rank.checked_sub(1)?)?;
    Some(*lag as f64 / 1000.0)
}

/// The health of the installation in detail. Shared state reads the same on every process.
#[utoipa::path(
    tag = "health", operation_id = "health", security(("token" = [])),
    responses((status = 200, body = HealthReport))
)]
#[get("/health")]
pub(super) async fn show(api: web::Data<ApiState>) -> Result<web::Json<HealthReport>, ApiError> {
    Ok(web::Json(api.health_report().await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_a_value_that_occurs() {
        assert_eq!(nearest_rank(&[], 50), None);
        assert_eq!(nearest_rank(&[1500], 99), Some(1.5));
        let lags: Vec<i64> = (1..=200).map(|n| n * 1000).collect();
        assert_eq!(nearest_rank(&lags, 50), Some(100.0));
        assert_eq!(nearest_rank(&lags, 99), Some(198.0));
    }
}
