//! For load balancers and Prometheus: open without a token, on every role.

use std::fmt::Write;

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, web};
use chrono::{TimeDelta, Utc};
use serde_json::json;
use tallyhook_queue::Health;
use tallyhook_store::{ChannelBacklog, Moment, StoreError};

use super::{Api, Stored};
use crate::telemetry;

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", operation_id = "healthz", responses((status = 200)))]
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// The poller is told of as degraded when its last round ended so many intervals ago.
const ROUNDS: u32 = 5;
/// And the notifier when something has waited for so long.
const LATE: TimeDelta = TimeDelta::minutes(10);

/// The process can do its work; otherwise the part that fails is named. What only GitHub can mend is named, too, but takes no
/// process out of service.
#[utoipa::path(get, path = "/readyz", tag = "health", operation_id = "readyz", responses((status = 200), (status = 503)))]
pub(super) async fn readyz(api: web::Data<Api>) -> HttpResponse {
    let failing = match api.store.check().await {
        Ok(()) => None,
        Err(error) => {
            tracing::warn!(%error, "not ready");
            Some(if matches!(error, StoreError::Version { .. }) {
                "migrations"
            } else {
                "database"
            })
        }
    };
    let state = |part| {
        if failing == Some(part) {
            "failing"
        } else {
            "ok"
        }
    };
    let queue = match api.queue.as_ref().map(|queue| queue.health()) {
        None => "not_used",
        Some(Health::Ok) => "ok",
        // Deliveries are still taken in, and wait in the inbox.
        Some(Health::Disconnected) if api.takes_in => "degraded",
        Some(Health::Disconnected) => "failing",
    };
    let poller = poller(&api).await;
    let notifier = notifier(&api).await;
    let (status, code) = match (failing, queue) {
        (Some(_), _) | (None, "failing") => ("not_ready", StatusCode::SERVICE_UNAVAILABLE),
        _ if [queue, poller, notifier].contains(&"degraded") => ("degraded", StatusCode::OK),
        _ => ("ready", StatusCode::OK),
    };
    HttpResponse::build(code).json(json!({
        "status": status,
        "database": state("database"),
        "migrations": state("migrations"),
        "queue": queue,
        "poller": poller,
        "notifier": notifier,
    }))
}

/// How the poller is. Whichever process has its turn, its rounds are everybody's; each allows it time from its own start on.
async fn poller(api: &Api) -> &'static str {
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
        .is_ok_and(|quiet| quiet > api.sync.interval * ROUNDS);
    if too_long { "degraded" } else { "ok" }
}

/// How the notifier is, whichever process has its turn.
async fn notifier(api: &Api) -> &'static str {
    if api.channels.iter().len() == 0 {
        return "not_used";
    }
    let Ok(backlogs) = api.backlogs().await else {
        return "degraded";
    };
    let late = Utc::now() - LATE;
    let fails = |backlog: &ChannelBacklog| {
        backlog.failures > 0 || backlog.since.is_some_and(|since| since < late)
    };
    if backlogs.iter().any(fails) {
        "degraded"
    } else {
        "ok"
    }
}

/// Numbers for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "health", operation_id = "metrics",
    responses((status = 200, content_type = "text/plain"))
)]
pub(super) async fn metrics(api: web::Data<Api>) -> HttpResponse {
    let mut text = telemetry::prometheus().render();
    match api.stored().await {
        Ok(stored) => text += &stored_state(&stored),
        // The process's own numbers are worth the most when something fails.
        Err(error) => tracing::warn!(%error, "/metrics lacks what the database would tell"),
    }
    HttpResponse::Ok()
        .insert_header(ContentType::plaintext())
        .body(text)
}

/// Gauges of what is stored, read from the database so that every process tells the same.
fn stored_state(stored: &Stored) -> String {
    let Stored {
        inbox,
        watches,
        last_round,
        backlogs,
    } = stored;
    let since =
        |at: Option<Moment>| at.map(|at| (Utc::now() - at).as_seconds_f64().max(0.0).to_string());
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, values: &[(&str, String)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP tallyhook_{name} {help}\n# TYPE tallyhook_{name} gauge"
        );
        for (labels, value) in values {
            let _ = writeln!(text, "tallyhook_{name}{labels} {value}");
        }
    };
    let by_state = [
        ("{state=\"accepted\"}", inbox.accepted.to_string()),
        ("{state=\"applied\"}", inbox.applied.to_string()),
        ("{state=\"ignored\"}", inbox.ignored.to_string()),
        ("{state=\"dead\"}", inbox.dead.to_string()),
    ];
    gauge("inbox", "Stored deliveries by state.", &by_state);
    gauge(
        "dead_letters",
        "Deliveries that wait for a person's decision.",
        &[("", inbox.dead.to_string())],
    );
    let oldest = since(inbox.oldest_pending).unwrap_or_else(|| "0".to_owned());
    gauge(
        "oldest_pending_seconds",
        "Age of the oldest unfinished delivery.",
        &[("", oldest)],
    );
    let watched = [
        ("{state=\"watched\"}", watches.watched.to_string()),
        ("{state=\"due\"}", watches.due.to_string()),
        ("{state=\"failing\"}", watches.failing.to_string()),
    ];
    gauge(
        "monitors",
        "Watched pull requests: all, those whose turn it is, those that could not be got.",
        &watched,
    );
    let round: Vec<_> = since(*last_round)
        .map(|age| ("", age))
        .into_iter()
        .collect();
    gauge(
        "poller_last_round_seconds",
        "Since the poller's last round ended; none while there was none.",
        &round,
    );
    // Names of channels have no letters that would have to be escaped.
    let labels: Vec<_> = backlogs
        .iter()
        .map(|backlog| format!("{{channel=\"{}\"}}", backlog.channel))
        .collect();
    let of_channels = |number: fn(&ChannelBacklog) -> u64| -> Vec<_> {
        labels
            .iter()
            .zip(backlogs)
            .map(|(labels, backlog)| (labels.as_str(), number(backlog).to_string()))
            .collect()
    };
    let pending = of_channels(|backlog| backlog.pending);
    gauge(
        "notifications_pending",
        "Notifications that wait to be sent, and changes not looked at yet, by channel.",
        &pending,
    );
    let dead = of_channels(|backlog| backlog.dead);
    gauge(
        "notifications_dead",
        "Notifications that were given up, of those still kept, by channel.",
        &dead,
    );
    let failures = of_channels(|backlog| backlog.failures.into());
    gauge(
        "channel_failures",
        "Attempts in a row that found a channel's receiver broken.",
        &failures,
    );
    text
}
