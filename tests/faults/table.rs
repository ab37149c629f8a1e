//! The measurements of a run, as a Markdown table.

use std::time::Duration;

use crate::cluster::Outcome;
use crate::load::Posted;

/// The measurements of one scenario.
pub(crate) struct Row {
    pub(crate) posted: Posted,
    pub(crate) outcome: Outcome,
    /// The time from the repair to the first finished delivery.
    pub(crate) back: Option<Duration>,
    /// The time from the repair to the last finished delivery.
    pub(crate) all: Option<Duration>,
    pub(crate) note: String,
}

/// Describes the machine on which the run was measured.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    let built = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    format!(
        "{built} build, {cores} cores, {} GiB",
        kib.map_or(0, |kib: u64| kib >> 20)
    )
}

pub(crate) fn print(rows: &[(&str, Row)]) {
    println!(
        "\n| scenario | requests | 2xx at first | slowest answer | first applied | all done | applied | ignored | dead \
         | in limbo | equal PRs | tried again | note |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|");
    for (
        name,
        Row {
            posted,
            outcome,
            back,
            all,
            note,
        },
    ) in rows
    {
        let seconds = |time: &Option<Duration>| {
            time.map_or("-".to_owned(), |time| {
                format!("{:.1} s", time.as_secs_f64())
            })
        };
        println!(
            "| {name} | {} | {} | {:.2} s | {} | {} | {} | {} | {} | {} | {} | {} | {note} |",
            posted.requests,
            posted.at_first,
            posted.slowest.as_secs_f64(),
            seconds(back),
            seconds(all),
            outcome.counts.applied,
            outcome.counts.ignored,
            outcome.counts.dead,
            outcome.counts.accepted,
            outcome.pull_requests,
            outcome.tried_again,
        );
    }
}
