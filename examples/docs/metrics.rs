//! The metrics, from the descriptions that `/metrics` itself prints.

use tallyhook::telemetry::{METRICS, Metric, MetricSource};

use crate::markdown::{code, heading, table};

pub(crate) fn page() -> String {
    let mut page = heading("Metrics", "`src/telemetry.rs`");
    page += "\n`GET /metrics` prints these for Prometheus. [Monitoring](../operate/monitoring.md) has \
             alerts and the steps after each.\n\n## Of each process\n\nCounters and histograms belong to \
             the process that answers: sum them.\n";
    page += &metrics(MetricSource::Process);
    page += "\n## Of stored state\n\nRead from the database, so the same on every process: take \
             their maximum, not their sum.\n";
    page += &metrics(MetricSource::Database);
    page
}

fn metrics(source: MetricSource) -> String {
    let rows: Vec<_> = METRICS
        .iter()
        .filter(|metric| metric.source == source)
        .map(row)
        .collect();
    table(["metric", "type", "labels", "meaning"], &rows)
}

fn row(metric: &Metric) -> [String; 4] {
    let labels: Vec<_> = metric.labels.iter().map(|label| code(label)).collect();
    [
        code(metric.name),
        metric.kind.as_str().to_owned(),
        labels.join(", "),
        metric.help.to_owned(),
    ]
}
