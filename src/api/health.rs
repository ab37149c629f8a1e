//! Health and metrics for load balancers and Prometheus: without a token, in every role.

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{TimeDelta, Utc};
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tallyhook_core::domain::waiting::WaitingFor;
use tallyhook_core::github::types::Timestamp;
use tallyhook_queue::Health;
use tallyhook_store::{ChannelBacklog, Moment, StoreError, WaitingGroup};

use super::error::ApiError;
use super::{ApiState, StoredCounts, auth};
use crate::telemetry::{
    self, BACKFILL_PACE, BACKFILLS, CHANNEL_FAILURES, DEAD_LETTERS, INBOX, MONITORS, MetricSource,
    NOTIFICATIONS_DEAD, NOTIFICATIONS_PENDING, OLDEST_PENDING, OPEN_PULL_REQUESTS,
    POLLER_LAST_ROUND, REPOSITORIES, REPOSITORIES_INCOMPLETE, WAITING_OLDEST,
};

/// Returns 200 while the process answers.
#[utoipa::path(
    tag = "health", operation_id = "healthz",
    responses((status = 200, body = std::collections::BTreeMap<String, String>,
        description = "`status` is `ok`", example = json!({"status": "ok"})))
)]
#[get("/healthz")]
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// The age of the poller's last round, in intervals, above which it is degraded.
const MAX_ROUND_AGE: u32 = 5;
/// The age of the oldest pending notification above which the notifier is degraded.
const MAX_PENDING_AGE: TimeDelta = TimeDelta::minutes(10);

/// Returns 200 if the process can do its work; otherwise the failing part is named. A failure that
/// only GitHub can fix is named, too, but takes no process out of service.
#[utoipa::path(
    tag = "health", operation_id = "readyz",
    responses(
        (status = 200, body = std::collections::BTreeMap<String, String>,
            description = "`status` is `ready` or `degraded`, and each part is `ok`, `degraded` or \
                           `not_used`",
            example = json!({"status": "ready", "database": "ok"})),
        (status = 503, body = std::collections::BTreeMap<String, String>,
            description = "`status` is `not_ready`, and a part is `failing`",
            example = json!({"status": "not_ready", "database": "failing"})),
    )
)]
#[get("/readyz")]
pub(super) async fn readyz(api: web::Data<ApiState>) -> HttpResponse {
    let (code, parts) = readiness(&api).await;
    HttpResponse::build(code).json(parts)
}

/// Returns the state of the process and of each of its parts.
pub(super) async fn readiness(api: &ApiState) -> (StatusCode, Value) {
    let condition = api.store.condition();
    let failing = match (api.store.check().await, &condition.fault) {
        (Err(StoreError::Version { .. }), _) => Some("migrations"),
        (Err(error), _) => {
            // The watch over the database logs it once.
            tracing::debug!(%error, "/readyz: the database is not ready: {error}");
            Some("database")
        }
        (Ok(()), Some(_)) => Some("database"),
        (Ok(()), None) => None,
    };
    let database = match failing {
        Some("database") => "failing",
        _ if condition.is_low() => "degraded",
        _ => "ok",
    };
    let migrations = if failing == Some("migrations") {
        "failing"
    } else {
        "ok"
    };
    let queue = match api.queue.as_ref().map(|queue| queue.health()) {
        None => "not_used",
        Some(Health::Ok) => "ok",
        // Deliveries are still accepted, and wait in the inbox.
        Some(Health::Disconnected) if api.takes_in => "degraded",
        Some(Health::Disconnected) => "failing",
    };
    let (github, poller) = (github(api).await, poller(api).await);
    let notifier = notifier(api).await;
    let secrets = secrets(api).await;
    let (status, code) = match (failing, queue) {
        (Some(_), _) | (None, "failing") => ("not_ready", StatusCode::SERVICE_UNAVAILABLE),
        _ if [database, queue, github, poller, notifier, secrets].contains(&"degraded") => {
            ("degraded", StatusCode::OK)
        }
        _ => ("ready", StatusCode::OK),
    };
    let mut parts = json!({
        "status": status,
        "database": database,
        "migrations": migrations,
        "queue": queue,
        "github": github,
        "poller": poller,
        "notifier": notifier,
        "secrets": secrets,
    });
    if let Some((fault, _)) = condition.fault {
        parts["reason"] = fault.as_str().into();
    } else if github == "degraded" {
        parts["reason"] = "github_unavailable".into();
    } else if secrets == "degraded" {
        parts["reason"] = "key_unavailable".into();
    }
    (code, parts)
}

/// Returns the state of GitHub, as this process or the poller of another one found it.
async fn github(api: &ApiState) -> &'static str {
    let Some(client) = &api.github else {
        return "not_used";
    };
    let is_up = if api.polls {
        client.outage().is_none()
    } else {
        let stats = api.store.poller_stats().await.unwrap_or_default();
        let found = stats.statistics.unwrap_or_default();
        !client.is_left_alone() && found["breaker"]["state"] != "open"
    };
    if is_up { "ok" } else { "degraded" }
}

/// Returns the state of stored secrets: degraded if a key is missing. Only what it sealed is locked.
async fn secrets(api: &ApiState) -> &'static str {
    match api.counts().await {
        Ok(counts) if counts.sealed.is_empty() => "not_used",
        Ok(counts) => match api.vault.keys() {
            Ok(Some(keys)) if keys.opens_all(counts.sealed.keys()) => "ok",
            _ => "degraded",
        },
        Err(_) => "degraded",
    }
}

/// Returns the state of the poller, whichever process is the leader. A process that has just
/// started counts from its own start.
async fn poller(api: &ApiState) -> &'static str {
    if !api.polls || api.github.is_none() {
        return "not_used";
    }
    let Ok(stats) = api.store.poller_stats().await else {
        return "degraded";
    };
    let quiet = Utc::now()
        - stats
            .last_sync_at
            .max(Some(api.started))
            .unwrap_or(api.started);
    let too_long = quiet
        .to_std()
        .is_ok_and(|quiet| quiet > api.sync.interval * MAX_ROUND_AGE);
    if too_long { "degraded" } else { "ok" }
}

/// Returns the state of the notifier, whichever process is the leader.
async fn notifier(api: &ApiState) -> &'static str {
    if api.channels.iter().len() == 0 {
        return "not_used";
    }
    let Ok(backlogs) = api.backlogs().await else {
        return "degraded";
    };
    let late = Utc::now() - MAX_PENDING_AGE;
    let fails = |backlog: &ChannelBacklog| {
        backlog.failures > 0 || backlog.since.is_some_and(|since| since < late)
    };
    if backlogs.iter().any(fails) {
        "degraded"
    } else {
        "ok"
    }
}

/// Metrics for Prometheus. With `METRICS_TOKEN` the request has to send it, and repositories are named;
/// without that setting no label names one.
#[utoipa::path(
    tag = "health", operation_id = "metrics",
    responses((status = 200, body = String, content_type = "text/plain",
        description = "the text format of Prometheus"),
        (status = 401, body = super::error::ApiErrorBody,
            description = "`METRICS_TOKEN` is set, and is not the token of the request"))
)]
#[get("/metrics")]
pub(super) async fn prometheus(
    api: web::Data<ApiState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let mut text = telemetry::render_metrics();
    match api.config.metrics_token.as_deref().map(auth::hash) {
        // The time to compare digests reveals nothing about the secrets.
        Some(token) if auth::bearer(request.headers()).map(auth::hash) != Some(token) => {
            let is_sent = auth::bearer(request.headers()).is_some();
            return Err(api.wrong_tokens.refuse(auth::peer(&request), is_sent));
        }
        Some(_) => {}
        None => text = telemetry::without_repositories(&text),
    }
    match api.counts().await {
        Ok(counts) => text += &stored_gauges(&counts),
        // The process's own metrics matter the most when something fails.
        Err(error) => {
            tracing::warn!(%error, "/metrics lacks the gauges of stored state: {error}");
        }
    }
    Ok(HttpResponse::Ok()
        .insert_header(ContentType::plaintext())
        .body(text))
}

/// Renders gauges of stored state, read from the database so that every process shows the same.
///
/// They live in a recorder of this one request: in the process's recorder they would stay at their
/// last value while the database fails.
fn stored_gauges(counts: &StoredCounts) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || set_gauges(counts));
    recorder.handle().render()
}

#[allow(
    clippy::cast_precision_loss,
    reason = "gauges are f64, exact up to 2^53 rows"
)]
fn set_gauges(counts: &StoredCounts) {
    let StoredCounts {
        sealed: _,
        inbox,
        watches,
        last_round,
        backlogs,
        repositories,
        backfills,
        waiting,
        waiting_unknown,
    } = counts;
    telemetry::describe_metrics(MetricSource::Database);
    let age = |at: Moment| (Utc::now() - at).as_seconds_f64().max(0.0);
    for (state, deliveries) in [
        ("accepted", inbox.accepted),
        ("applied", inbox.applied),
        ("ignored", inbox.ignored),
        ("dead", inbox.dead),
    ] {
        gauge!(INBOX, "state" => state).set(deliveries as f64);
    }
    gauge!(DEAD_LETTERS).set(inbox.dead as f64);
    gauge!(OLDEST_PENDING).set(inbox.oldest_pending.map_or(0.0, age));
    for (state, pull_requests) in [
        ("watched", watches.watched),
        ("due", watches.due),
        ("failing", watches.failing),
    ] {
        gauge!(MONITORS, "state" => state).set(pull_requests as f64);
    }
    if let Some(at) = *last_round {
        gauge!(POLLER_LAST_ROUND).set(age(at));
    }
    for backlog in backlogs {
        let channel = || backlog.channel.clone();
        gauge!(NOTIFICATIONS_PENDING, "channel" => channel()).set(backlog.pending as f64);
        gauge!(NOTIFICATIONS_DEAD, "channel" => channel()).set(backlog.dead as f64);
        gauge!(CHANNEL_FAILURES, "channel" => channel()).set(f64::from(backlog.failures));
    }
    for (state, count) in [
        ("pending", repositories.pending),
        ("syncing", repositories.syncing),
        ("synced", repositories.synced),
        ("error", repositories.error),
    ] {
        gauge!(REPOSITORIES, "state" => state).set(count as f64);
    }
    gauge!(REPOSITORIES_INCOMPLETE).set(repositories.incomplete as f64);
    for (state, count) in [
        ("queued", backfills.queued),
        ("running", backfills.running),
        ("done", backfills.done),
        ("failed", backfills.failed),
        ("cancelled", backfills.cancelled),
    ] {
        gauge!(BACKFILLS, "state" => state).set(count as f64);
    }
    if let Some(seconds) = backfills.seconds_per_100() {
        gauge!(BACKFILL_PACE).set(seconds);
    }
    set_waiting_gauges(waiting, *waiting_unknown);
}

#[allow(
    clippy::cast_precision_loss,
    reason = "gauges are f64, exact up to 2^53 pull requests and seconds"
)]
fn set_waiting_gauges(groups: &[WaitingGroup], unknown: u64) {
    let now = Timestamp::from(Utc::now());
    for on in WaitingFor::ALL {
        let groups = groups.iter().filter(|group| group.on == *on);
        let (mut open, mut oldest) = (0, None);
        for group in groups {
            open += group.n;
            oldest = oldest.max(Some(now.epoch() - group.longest_since.epoch()));
        }
        gauge!(OPEN_PULL_REQUESTS, "waiting_for" => on.as_str()).set(open as f64);
        if let Some(seconds) = oldest {
            gauge!(WAITING_OLDEST, "waiting_for" => on.as_str()).set(seconds.max(0) as f64);
        }
    }
    gauge!(OPEN_PULL_REQUESTS, "waiting_for" => "unknown").set(unknown as f64);
}
