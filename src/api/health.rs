//! For load balancers and Prometheus: open without a token, on every role.

use std::fmt::Write;

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, web};
use chrono::Utc;
use serde_json::json;

use super::Api;
use crate::queue::Health;
use crate::store::{Counts, StoreError};
use crate::telemetry;

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", operation_id = "healthz", responses((status = 200)))]
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// The process can do its work; otherwise the part that fails is named.
#[utoipa::path(get, path = "/readyz", tag = "health", operation_id = "readyz", responses((status = 200), (status = 503)))]
pub(super) async fn readyz(api: web::Data<Api>) -> HttpResponse {
    let failing = match api.store.check().await {
        Ok(()) => None,
        Err(error) => {
            tracing::warn!(%error, "not ready");
            Some(if matches!(error, StoreError::Version { .. }) { "migrations" } else { "database" })
        }
    };
    let state = |part| if failing == Some(part) { "failing" } else { "ok" };
    let queue = match api.queue.as_ref().map(|queue| queue.health()) {
        None => "not_used",
        Some(Health::Ok) => "ok",
        // Deliveries are still taken in, and wait in the inbox.
        Some(Health::Disconnected) if api.takes_in => "degraded",
        Some(Health::Disconnected) => "failing",
    };
    let (status, code) = match (failing, queue) {
        (Some(_), _) | (None, "failing") => ("not_ready", StatusCode::SERVICE_UNAVAILABLE),
        (None, "degraded") => ("degraded", StatusCode::OK),
        (None, _) => ("ready", StatusCode::OK),
    };
    HttpResponse::build(code).json(json!({
        "status": status,
        "database": state("database"),
        "migrations": state("migrations"),
        "queue": queue,
    }))
}

/// Numbers for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "health", operation_id = "metrics",
    responses((status = 200, content_type = "text/plain"))
)]
pub(super) async fn metrics(api: web::Data<Api>) -> HttpResponse {
    let mut text = telemetry::prometheus().render();
    match api.counts().await {
        Ok(counts) => text += &stored_state(&counts),
        // The process's own numbers are worth the most when something fails.
        Err(error) => tracing::warn!(%error, "/metrics lacks what the database would tell"),
    }
    HttpResponse::Ok().insert_header(ContentType::plaintext()).body(text)
}

/// Gauges of what is stored, read from the database so that every process tells the same.
fn stored_state(counts: &Counts) -> String {
    let oldest = counts.oldest_pending.map_or(0.0, |at| (Utc::now() - at).as_seconds_f64().max(0.0));
    let mut text = String::from("# HELP tallyhook_inbox Stored deliveries by state.\n# TYPE tallyhook_inbox gauge\n");
    for (state, number) in
        [("accepted", counts.accepted), ("applied", counts.applied), ("ignored", counts.ignored), ("dead", counts.dead)]
    {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "tallyhook_inbox{{state=\"{state}\"}} {number}");
    }
    for (name, help, value) in [
        ("dead_letters", "Deliveries that wait for a person's decision.", counts.dead.to_string()),
        ("oldest_pending_seconds", "Age of the oldest unfinished delivery.", oldest.to_string()),
    ] {
        let _ =
            writeln!(text, "# HELP tallyhook_{name} {help}\n# TYPE tallyhook_{name} gauge\ntallyhook_{name} {value}");
    }
    text
}
