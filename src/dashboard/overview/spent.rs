//! The time of merged pull requests by stage: total hours of a stage over the number of pull
//! requests, which add up.

use maud::{Markup, html};
use tallyhook_core::domain::timings::Stage;
use tallyhook_core::github::types::Timestamp;

use super::filter::OverviewFilter;
use crate::api::{CycleTime, DurationSummary, Summary, TimeRange};
use crate::dashboard::chart::{self, StackedBar};
use crate::dashboard::links::Links;
use crate::dashboard::words;

/// The stages in their order, from the foot of a bar up.
const STAGES: [Stage; 6] = [
    Stage::Coding,
    Stage::Pickup,
    Stage::Review,
    Stage::MergeWait,
    Stage::Redraft,
    Stage::Closed,
];

/// Returns the chart and its table.
pub(super) fn spent(links: &Links, filter: &OverviewFilter, found: &CycleTime) -> Markup {
    if found.all.counted == 0 {
        return html! { p { "No pull request that counts was merged in these weeks." } };
    }
    let empty = Summary::default();
    let of_bucket = |range: TimeRange| {
        let bucket = found
            .buckets
            .iter()
            .find(|bucket| bucket.start == range.from);
        (range, bucket.map_or(&empty, |bucket| &bucket.summary))
    };
    let buckets: Vec<_> = filter.buckets().into_iter().map(of_bucket).collect();
    let bars: Vec<_> = buckets
        .iter()
        .map(|(range, summary)| StackedBar {
            label: label(range.from),
            count: summary.counted as u64,
            address: filter.merged(*range).list(links),
            parts: means(summary).collect(),
        })
        .collect();
    let kind = filter.bucket();
    html! {
        (chart::legend(&STAGES))
        div data-n="an axis of dates and hours" {
            (chart::stacked(&format!("Mean hours of each stage per merged pull request, by {kind}"), &bars))
        }
        details {
            summary { "The numbers as a table" }
            table {
                caption { "Mean hours per merged pull request: total hours of the stage, divided by merged" }
                thead { tr {
                    th scope="col" { @if kind == "week" { "Week from" } @else { "Month from" } }
                    th .num scope="col" { "Merged" }
                    @for stage in STAGES { th .num scope="col" { (words::stage(stage)) } }
                    th .num scope="col" { "Sum" }
                } }
                tbody { @for (range, summary) in &buckets {
                    tr {
                        th scope="row" { (words::time(range.from)) }
                        td .num { (filter.merged(*range).count(links, summary.counted as u64)) }
                        @for (_, hours) in means(summary) { td .num data-n="a mean" { (words::hours(Some(hours))) } }
                        td .num data-n="a mean" { (words::hours(Some(means(summary).map(|(_, hours)| hours).sum()))) }
                    }
                } }
            }
        }
    }
}

fn label(at: Timestamp) -> String {
    at.to_utc().format("%m-%d").to_string()
}

/// Returns the mean hours of each stage over all that count, with those that lack it.
fn means(summary: &Summary) -> impl Iterator<Item = (Stage, f64)> {
    let stages = &summary.stages;
    let total = |stage: Stage| -> &DurationSummary {
        match stage {
            Stage::Coding => &stages.coding,
            Stage::Pickup => &stages.pickup,
            Stage::Review => &stages.review,
            Stage::MergeWait => &stages.merge_wait,
            Stage::Redraft => &stages.redraft,
            Stage::Closed => &stages.closed,
        }
    };
    #[allow(clippy::cast_precision_loss, reason = "a count of pull requests")]
    let counted = summary.counted.max(1) as f64;
    let mean = move |stage| {
        let hours = total(stage).total_hours.unwrap_or_default();
        (stage, hours / counted)
    };
    STAGES.into_iter().map(mean)
}
