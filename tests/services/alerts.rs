//! The alerts of `deploy/`, read by Prometheus' own promtool: the rules are valid, each fires for its
//! cause and not without it, and they name metrics that exist.

use std::path::Path;
use std::process::Command;

use tallyhook::telemetry::{METRICS, MetricKind};
use testkit::root;

const FILES: [&str; 2] = ["deploy/alerts.yml", "deploy/alerts-team.example.yml"];

/// Runs promtool in a folder, and returns what it prints.
pub(crate) fn promtool(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!("promtool cannot be run ({error}): scripts/install-services installs it")
    });
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8(printed).unwrap();
    assert!(output.status.success(), "{arguments:?}: {printed}");
    printed
}

/// Returns the metrics that an expression names and Tallyhook has not.
pub(crate) fn unknown_metrics(expression: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = expression.split(|letter| !is_part(letter));
    let ours = words.filter(|word| word.starts_with("tallyhook_") || word.starts_with("process_"));
    let is_known = |word: &str| {
        METRICS.iter().any(|metric| match metric.kind {
            MetricKind::Histogram => ["_bucket", "_count", "_sum"]
                .iter()
                .any(|part| word.strip_suffix(part) == Some(metric.name)),
            MetricKind::Counter | MetricKind::Gauge => word == metric.name,
        })
    };
    ours.filter(|word| !is_known(word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn rules_are_valid_and_name_metrics_that_exist() {
    for file in FILES {
        let printed = promtool(root(), &["check", "rules", file]);
        assert!(printed.contains("SUCCESS"), "{printed}");
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        assert_eq!(unknown_metrics(&text), Vec::<String>::new(), "{file}");
    }
    assert_eq!(
        unknown_metrics("sum(tallyhook_inbox) / tallyhook_unheard_of"),
        ["tallyhook_unheard_of"]
    );
}

#[test]
fn alerts_fire_for_their_cause_and_not_without_it() {
    let folder = root().join("tests/services");
    let printed = promtool(&folder, &["test", "rules", "alerts.test.yml"]);
    assert!(printed.contains("SUCCESS"), "{printed}");
}

#[test]
fn no_example_is_loaded() {
    let loaded = std::fs::read_to_string(root().join("deploy/prometheus.yml")).unwrap();
    assert!(!loaded.contains("example"), "{loaded}");
}
