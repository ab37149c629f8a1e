//! The traffic of the inbox: deliveries per hour, and requests that were refused.

use std::collections::BTreeMap;

use actix_web::{get, web};
use chrono::{DurationRound, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::{ApiState, rfc3339};
use crate::telemetry;

/// The hours that are counted, the present one included.
const HOURS: i32 = 24;

/// The traffic of the inbox.
#[derive(Debug, Serialize, ToSchema)]
pub struct InboxActivity {
    /// The last 24 hours, oldest first; the last one lasts.
    pub hours: Vec<ReceivedHour>,
    /// Null in a process that takes no webhooks in.
    pub refused: Option<RefusedRequests>,
}

/// The deliveries of one hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReceivedHour {
    /// Its beginning.
    #[schema(format = "date-time")]
    pub start: String,
    /// Deliveries that were stored, from every source.
    pub deliveries: u64,
}

/// Requests to the webhook endpoint that this process refused. They are counted, not stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedRequests {
    /// The start of this process.
    #[schema(format = "date-time")]
    pub since: String,
    /// Their number by reason, as in `tallyhook_requests_refused_total`.
    pub reasons: BTreeMap<&'static str, u64>,
}

/// Deliveries per hour, and requests that this process refused.
#[utoipa::path(
    tag = "deliveries", operation_id = "get_inbox", security(("token" = [])),
    responses((status = 200, body = InboxActivity))
)]
#[get("/inbox")]
pub(in crate::api) async fn show(
    api: web::Data<ApiState>,
) -> Result<web::Json<InboxActivity>, ApiError> {
    activity(&api).await.map(web::Json)
}

/// Returns the traffic of the inbox.
///
/// # Errors
/// If the database fails.
pub(crate) async fn activity(api: &ApiState) -> Result<InboxActivity, ApiError> {
    let now = Utc::now();
    let present = now.duration_trunc(TimeDelta::hours(1)).unwrap_or(now);
    let first = present - TimeDelta::hours(i64::from(HOURS - 1));
    let received: BTreeMap<_, _> = api
        .store
        .received_per_hour(first)
        .await?
        .into_iter()
        .collect();
    let hours = (0..HOURS).map(|hour| first + TimeDelta::hours(i64::from(hour)));
    Ok(InboxActivity {
        hours: hours
            .map(|start| ReceivedHour {
                start: rfc3339(start),
                deliveries: received.get(&start).copied().unwrap_or_default(),
            })
            .collect(),
        refused: api.takes_in.then(|| RefusedRequests {
            since: rfc3339(api.started),
            reasons: telemetry::refusals(),
        }),
    })
}
