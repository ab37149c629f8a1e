//! Metrics for Prometheus.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use parking_lot::Mutex;
use tallyhook_github_client as client;
use tallyhook_queue::AMQP_CONNECTED;

use crate::logging::{self, LOG_LINES_DROPPED};

pub const DELIVERIES: &str = "tallyhook_deliveries_total";
pub const SIGNATURE_FAILURES: &str = "tallyhook_signature_failures_total";
pub const REQUESTS_REFUSED: &str = "tallyhook_requests_refused_total";
pub const API_UNAUTHORIZED: &str = "tallyhook_api_unauthorized_total";
pub const GITHUB_CALL_WAITS: &str = "tallyhook_github_call_waits_total";
pub const GITHUB_CALLS_QUEUE: &str = "tallyhook_github_calls_queue";
pub const DUPLICATES: &str = "tallyhook_duplicates_total";
pub const PARTS_UNREAD: &str = "tallyhook_parts_unread_total";
pub const STALE: &str = "tallyhook_stale_total";
pub const POLL_MISSED: &str = "tallyhook_poll_missed_total";
pub const RETRIES: &str = "tallyhook_retries_total";
pub const APPLY_LAG: &str = "tallyhook_apply_lag_seconds";
pub const WEBSOCKET_CLIENTS: &str = "tallyhook_websocket_clients";
pub const WEBSOCKET_SLOW: &str = "tallyhook_websocket_slow_total";
pub const NOTIFICATIONS: &str = "tallyhook_notifications_total";
pub const DATABASE_WRITABLE: &str = "tallyhook_database_writable";
pub const DATABASE_FREE: &str = "tallyhook_database_free_bytes";
pub const DATABASE_WAL: &str = "tallyhook_database_wal_bytes";
pub const PROCESS: &str = "tallyhook_process_seconds";
pub const BUILD_INFO: &str = "tallyhook_build_info";

// Read from the database when `/metrics` is answered.
pub const INBOX: &str = "tallyhook_inbox";
pub const DEAD_LETTERS: &str = "tallyhook_dead_letters";
pub const OLDEST_PENDING: &str = "tallyhook_oldest_pending_seconds";
pub const MONITORS: &str = "tallyhook_monitors";
pub const POLLER_LAST_ROUND: &str = "tallyhook_poller_last_round_seconds";
pub const NOTIFICATIONS_PENDING: &str = "tallyhook_notifications_pending";
pub const NOTIFICATIONS_DEAD: &str = "tallyhook_notifications_dead";
pub const CHANNEL_FAILURES: &str = "tallyhook_channel_failures";
pub const OPEN_PULL_REQUESTS: &str = "tallyhook_open_pull_requests";
pub const WAITING_OLDEST: &str = "tallyhook_waiting_oldest_seconds";
pub const REPOSITORIES: &str = "tallyhook_repositories";
pub const REPOSITORIES_INCOMPLETE: &str = "tallyhook_repositories_incomplete";
pub const BACKFILLS: &str = "tallyhook_backfills";
pub const BACKFILL_PACE: &str = "tallyhook_backfill_seconds_per_100_pull_requests";

/// A metric as `/metrics` and the reference describe it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub source: MetricSource,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// The origin of a metric's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricSource {
    /// Kept by each process: a sum over processes is right.
    Process,
    /// Read from the database when `/metrics` is answered: the same on every process.
    Database,
}

impl MetricKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Metric {
    const fn new(
        name: &'static str,
        kind: MetricKind,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            source: MetricSource::Process,
            labels,
            help,
        }
    }

    const fn stored(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: MetricKind::Gauge,
            source: MetricSource::Database,
            labels,
            help,
        }
    }

    fn describe(&self) {
        match self.kind {
            MetricKind::Counter => describe_counter!(self.name, self.help),
            MetricKind::Gauge => describe_gauge!(self.name, self.help),
            MetricKind::Histogram => describe_histogram!(self.name, Unit::Seconds, self.help),
        }
    }
}

/// Gives the current recorder the help texts of the metrics of one source.
pub fn describe_metrics(source: MetricSource) {
    let described = METRICS.iter().filter(|metric| metric.source == source);
    described.for_each(Metric::describe);
}

/// Every metric there is. `docs/reference/metrics.md` is written from this list.
pub const METRICS: &[Metric] = &[
    Metric::new(
        DELIVERIES,
        MetricKind::Counter,
        &["event", "outcome"],
        "Deliveries by event and outcome: applied, ignored, dead, or unused and not stored.",
    ),
    Metric::new(
        DUPLICATES,
        MetricKind::Counter,
        &[],
        "Deliveries that were stored already.",
    ),
    Metric::new(
        SIGNATURE_FAILURES,
        MetricKind::Counter,
        &["reason"],
        "Requests refused for their signature, by reason.",
    ),
    Metric::new(
        GITHUB_CALL_WAITS,
        MetricKind::Counter,
        &[],
        "Requests to GitHub that waited since the record of earlier ones was not written yet.",
    ),
    Metric::new(
        GITHUB_CALLS_QUEUE,
        MetricKind::Gauge,
        &[],
        "Requests to GitHub whose record is not written yet.",
    ),
    Metric::new(
        REQUESTS_REFUSED,
        MetricKind::Counter,
        &["reason"],
        "Requests to the webhook endpoint that were refused, and connections that were ended, by \
         reason.",
    ),
    Metric::new(
        API_UNAUTHORIZED,
        MetricKind::Counter,
        &[],
        "Requests to the API without a valid token.",
    ),
    Metric::new(
        PARTS_UNREAD,
        MetricKind::Counter,
        &["part"],
        "Parts of payloads that were not as expected and left out, by their place; the rest of \
         each payload counted.",
    ),
    Metric::new(
        STALE,
        MetricKind::Counter,
        &[],
        "Events whose snapshot was older than the stored one.",
    ),
    Metric::new(
        RETRIES,
        MetricKind::Counter,
        &[],
        "Attempts that failed and will be made again.",
    ),
    Metric::new(
        APPLY_LAG,
        MetricKind::Histogram,
        &[],
        "Time from receipt of a delivery to the commit of its facts.",
    ),
    Metric::new(
        PROCESS,
        MetricKind::Histogram,
        &[],
        "Time from claim to commit of one batch.",
    ),
    Metric::new(
        POLL_MISSED,
        MetricKind::Counter,
        &["repo"],
        "Changes of pull requests that the poller found and no webhook delivered, by repository.",
    ),
    Metric::new(
        client::REQUESTS,
        MetricKind::Counter,
        &["kind", "status"],
        "Requests to GitHub, by kind and by status or failure.",
    ),
    Metric::new(
        client::RATE_REMAINING,
        MetricKind::Gauge,
        &["resource"],
        "Requests or points left of GitHub's rate limit, as last reported, by resource.",
    ),
    Metric::new(
        NOTIFICATIONS,
        MetricKind::Counter,
        &["channel", "outcome"],
        "Notifications by channel and outcome: sent, retried, superseded or dead.",
    ),
    Metric::new(
        AMQP_CONNECTED,
        MetricKind::Gauge,
        &[],
        "1 while this process has every connection to the broker that it needs.",
    ),
    Metric::new(
        DATABASE_WRITABLE,
        MetricKind::Gauge,
        &[],
        "1 while this process can store deliveries.",
    ),
    Metric::new(
        DATABASE_FREE,
        MetricKind::Gauge,
        &[],
        "Free bytes of the disk of an SQLite database.",
    ),
    Metric::new(
        DATABASE_WAL,
        MetricKind::Gauge,
        &[],
        "Size of the write-ahead log of an SQLite database.",
    ),
    Metric::new(
        WEBSOCKET_CLIENTS,
        MetricKind::Gauge,
        &[],
        "Clients of /ws at this process.",
    ),
    Metric::new(
        WEBSOCKET_SLOW,
        MetricKind::Counter,
        &[],
        "Clients of /ws that were disconnected because they read too slowly.",
    ),
    Metric::new(
        LOG_LINES_DROPPED,
        MetricKind::Counter,
        &["reason"],
        "Log lines that were not written, by reason: no_room while standard error was not read, \
         failed, or repeated failures of connections.",
    ),
    Metric::new(
        BUILD_INFO,
        MetricKind::Gauge,
        &["version", "commit"],
        "1, with the version and the commit that it was built from.",
    ),
    Metric::new(
        "process_cpu_seconds_total",
        MetricKind::Counter,
        &[],
        "Processor time of this process in seconds.",
    ),
    Metric::new(
        "process_open_fds",
        MetricKind::Gauge,
        &[],
        "Open files and connections of this process.",
    ),
    Metric::new(
        "process_max_fds",
        MetricKind::Gauge,
        &[],
        "The limit of open files and connections of this process.",
    ),
    Metric::new(
        "process_resident_memory_bytes",
        MetricKind::Gauge,
        &[],
        "Memory of this process that is in use.",
    ),
    Metric::new(
        "process_virtual_memory_bytes",
        MetricKind::Gauge,
        &[],
        "Address space of this process.",
    ),
    Metric::new(
        "process_virtual_memory_max_bytes",
        MetricKind::Gauge,
        &[],
        "The limit of the address space of this process.",
    ),
    Metric::new(
        "process_threads",
        MetricKind::Gauge,
        &[],
        "Threads of this process.",
    ),
    Metric::new(
        "process_start_time_seconds",
        MetricKind::Gauge,
        &[],
        "The start of this process in seconds since 1970.",
    ),
    Metric::stored(
        INBOX,
        &["state"],
        "Stored deliveries by state; accepted ones are not finished yet.",
    ),
    Metric::stored(
        DEAD_LETTERS,
        &[],
        "Deliveries that wait to be requeued or discarded.",
    ),
    Metric::stored(
        OLDEST_PENDING,
        &[],
        "Age of the oldest unfinished delivery.",
    ),
    Metric::stored(
        MONITORS,
        &["state"],
        "Watched pull requests: all, those that are due, those whose last fetch failed.",
    ),
    Metric::stored(
        POLLER_LAST_ROUND,
        &[],
        "Time since the poller's last round ended; absent before the first.",
    ),
    Metric::stored(
        NOTIFICATIONS_PENDING,
        &["channel"],
        "Notifications to be sent, and events not matched with the filter yet, by channel.",
    ),
    Metric::stored(
        NOTIFICATIONS_DEAD,
        &["channel"],
        "Notifications that were given up, of those still kept, by channel.",
    ),
    Metric::stored(
        CHANNEL_FAILURES,
        &["channel"],
        "Failed attempts in a row, by channel.",
    ),
    Metric::stored(
        OPEN_PULL_REQUESTS,
        &["waiting_for"],
        "Open pull requests by the kind that they wait for, or unknown.",
    ),
    Metric::stored(
        WAITING_OLDEST,
        &["waiting_for"],
        "The longest time that an open pull request waits, by the kind that it waits for; absent \
         without one.",
    ),
    Metric::stored(
        REPOSITORIES,
        &["state"],
        "Tracked repositories by state of their synchronisation.",
    ),
    Metric::stored(
        REPOSITORIES_INCOMPLETE,
        &[],
        "Tracked repositories of which something is missing.",
    ),
    Metric::stored(
        BACKFILLS,
        &["state"],
        "Backfills that are kept, of each repository the last twenty, by state: the attempted ones \
         are done or failed.",
    ),
    Metric::stored(
        BACKFILL_PACE,
        &[],
        "Seconds per 100 pull requests of the backfills that are done; absent before a pull request \
         was fetched.",
    ),
];

const SECONDS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
];

/// Returns the process's recorder, which counts from the first call on.
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
        describe_metrics(MetricSource::Process);
        // `0.1.0 (abcdef0 2026-11-29)`, or without a commit.
        let built = env!("TALLYHOOK_VERSION").split_once(" (");
        let commit = built.and_then(|(_, commit)| commit.split([' ', ')']).next());
        let version = env!("CARGO_PKG_VERSION");
        gauge!(BUILD_INFO, "version" => version, "commit" => commit.unwrap_or_default()).set(1.0);
        handle
    })
}

/// Renders the metrics that this process keeps.
pub fn render_metrics() -> String {
    logging::count_dropped_lines();
    let handle = prometheus();
    Collector::default().collect();
    handle.render()
}

/// Returns rendered metrics without the names of repositories: series that differ by them alone are
/// added up.
pub fn without_repositories(metrics: &str) -> String {
    let (mut text, mut missed) = (String::with_capacity(metrics.len()), None);
    for line in metrics.lines() {
        let of_repository = line
            .strip_prefix(POLL_MISSED)
            .filter(|rest| rest.starts_with('{'));
        if let Some(rest) = of_repository {
            let value = rest.rsplit(' ').next().unwrap_or_default();
            *missed.get_or_insert(0) += value.parse::<u64>().unwrap_or_default();
            continue;
        }
        if let Some(missed) = missed.take() {
            text += &format!("{POLL_MISSED} {missed}\n");
        }
        text += line;
        text.push('\n');
    }
    if let Some(missed) = missed {
        text += &format!("{POLL_MISSED} {missed}\n");
    }
    text
}

/// Returns the name of an event that we use, or `other`: the sender must not choose label values.
pub fn metric_label(event: &str) -> &'static str {
    tallyhook_core::event::NAMES
        .iter()
        .find(|name| **name == event)
        .copied()
        .unwrap_or("other")
}

/// The refusals of this process by reason: those of the counter, which cannot be read.
static REFUSALS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Counts a request that is refused, or a connection that is ended for others.
pub fn count_refusal(reason: &'static str) {
    counter!(REQUESTS_REFUSED, "reason" => reason).increment(1);
    *REFUSALS.lock().entry(reason).or_default() += 1;
}

/// Returns the refusals of this process by reason.
pub fn refusals() -> BTreeMap<&'static str, u64> {
    REFUSALS.lock().clone()
}

/// Records a new dead letter in log and metrics.
pub fn record_dead_letter(id: i64, guid: &str, event: &str, reason: &str) {
    tracing::warn!(
        delivery.id = id,
        delivery.guid = guid,
        reason,
        "delivery {id} ({guid}) is a dead letter"
    );
    counter!(DELIVERIES, "event" => metric_label(event), "outcome" => "dead").increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_without_repositories_have_their_sum() {
        let metrics = "# TYPE a counter\ntallyhook_poll_missed_total{repo=\"acme/web\"} 3\n\
                       tallyhook_poll_missed_total{repo=\"acme/x y\"} 4\n\nb{repo_count=\"1\"} 1\n";
        assert_eq!(
            without_repositories(metrics),
            "# TYPE a counter\ntallyhook_poll_missed_total 7\n\nb{repo_count=\"1\"} 1\n"
        );
        assert_eq!(without_repositories("a 1\n"), "a 1\n");
        let last = "tallyhook_poll_missed_total{repo=\"a/b\"} 1\n";
        assert_eq!(
            without_repositories(last),
            "tallyhook_poll_missed_total 1\n"
        );
    }
}
