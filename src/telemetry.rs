//! Logs to standard error, numbers for Prometheus.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tallyhook_github_client as client;
use tallyhook_queue::AMQP_CONNECTED;
use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Starts logging: what an operator wants to see, or for `quiet` commands only what is wrong, unless `RUST_LOG` tells
/// otherwise. The second call in a process changes nothing.
pub fn log(format: LogFormat, quiet: bool) {
    let default = if quiet {
        "warn"
    } else {
        "info,actix_server=warn"
    };
    let told = crate::config::log_filter().and_then(|filter| EnvFilter::try_new(filter).ok());
    let filter = told.unwrap_or_else(|| EnvFilter::new(default));
    // It would log bodies of messages that come back, and a password in its handshake; what matters `queue` tells.
    let filter = match "lapin=off".parse() {
        Ok(off) => filter.add_directive(off),
        Err(_) => filter,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A logger that is there already, as in tests, stays.
    drop(match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    });
}

pub const DELIVERIES: &str = "tallyhook_deliveries_total";
pub const SIGNATURE_FAILURES: &str = "tallyhook_signature_failures_total";
pub const DUPLICATES: &str = "tallyhook_duplicates_total";
pub const STALE: &str = "tallyhook_stale_total";
pub const POLL_MISSED: &str = "tallyhook_poll_missed_total";
pub const RETRIES: &str = "tallyhook_retries_total";
pub const APPLY_LAG: &str = "tallyhook_apply_lag_seconds";
pub const WEBSOCKET_CLIENTS: &str = "tallyhook_websocket_clients";
pub const WEBSOCKET_SLOW: &str = "tallyhook_websocket_slow_total";
pub const NOTIFICATIONS: &str = "tallyhook_notifications_total";
pub const PROCESS: &str = "tallyhook_process_seconds";

const SECONDS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
];

/// The process's numbers, from the first call on.
pub fn prometheus() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        let recorder = builder
            .set_buckets(&SECONDS)
            .unwrap_or_else(|_| PrometheusBuilder::new())
            .build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics is installed; /metrics stays empty");
        }
        describe_counter!(
            DELIVERIES,
            "Deliveries by event and by what became of them."
        );
        describe_counter!(
            SIGNATURE_FAILURES,
            "Requests refused for their signature, by reason."
        );
        describe_counter!(DUPLICATES, "Deliveries that were stored already.");
        describe_counter!(STALE, "Events whose snapshot was older than what is known.");
        describe_counter!(RETRIES, "Attempts that failed and will be made again.");
        describe_counter!(
            POLL_MISSED,
            "Changes of pull requests that the poller found and no webhook told, by repository."
        );
        describe_counter!(
            client::REQUESTS,
            "Requests to GitHub, by kind and by status or what went wrong."
        );
        describe_gauge!(
            client::RATE_REMAINING,
            "What GitHub last told to be left of the allowance, by resource."
        );
        describe_gauge!(
            AMQP_CONNECTED,
            "1 while this process has every connection to the broker that it needs."
        );
        describe_gauge!(WEBSOCKET_CLIENTS, "Clients of /ws at this process.");
        describe_counter!(
            WEBSOCKET_SLOW,
            "Clients of /ws that were dropped since they were too slow."
        );
        describe_counter!(
            NOTIFICATIONS,
            "Notifications by channel and by what became of them."
        );
        describe_histogram!(
            APPLY_LAG,
            Unit::Seconds,
            "From receipt to commit of the facts."
        );
        describe_histogram!(PROCESS, Unit::Seconds, "From claim to commit of one batch.");
        handle
    })
}

/// An event's name where it is one of GitHub's that are used here; the label's values must not be the sender's choice.
pub fn metric_label(event: &str) -> &'static str {
    tallyhook_core::event::NAMES
        .iter()
        .find(|name| **name == event)
        .copied()
        .unwrap_or("other")
}

/// Tells log and metrics of a delivery that became a dead letter.
pub fn tell_dead(id: i64, guid: &str, event: &str, reason: &str) {
    tracing::warn!(
        delivery.id = id,
        delivery.guid = guid,
        reason,
        "a delivery is a dead letter"
    );
    counter!(DELIVERIES, "event" => metric_label(event), "outcome" => "dead").increment(1);
}
