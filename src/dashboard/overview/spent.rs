//! The time of merged pull requests by stage: total hours of a stage over the number of pull
//! requests, which add up.

use maud::{Markup, html};
use tallyhook_core::domain::timings::Stage;
use tallyhook_core::github::types::Timestamp;

use super::filter::OverviewFilter;
use crate::api::{CycleTime, Summary, TimeRange};
use crate::dashboard::chart::{self, StackedBar};
use crate::dashboard::links::Links;
use crate::dashboard::words;

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
        let summary = bucket.map_or(&empty, |bucket| &bucket.summary);
        (range, summary.counted as u64, chart::means(summary))
    };
    let buckets: Vec<_> = filter.buckets().into_iter().map(of_bucket).collect();
    let bars: Vec<_> = buckets
        .iter()
        .map(|(range, merged, means)| StackedBar {
            label: label(range.from),
            count: *merged,
            address: filter.merged(*range).list(links),
            parts: means.clone(),
        })
        .collect();
    let kind = filter.bucket();
    html! {
        (chart::legend(Stage::ALL))
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
                    @for &stage in Stage::ALL { th .num scope="col" { (words::stage(stage)) } }
                    th .num scope="col" { "Sum" }
                } }
                tbody { @for (range, merged, means) in &buckets {
                    tr {
                        th scope="row" { (words::time(range.from)) }
                        td .num { (filter.merged(*range).count(links, *merged)) }
                        @for (_, hours) in means { td .num data-n="a mean" { (words::hours(Some(*hours))) } }
                        td .num data-n="a mean" { (words::hours(Some(means.iter().map(|(_, hours)| hours).sum()))) }
                    }
                } }
            }
        }
    }
}

fn label(at: Timestamp) -> String {
    at.to_utc().format("%m-%d").to_string()
}
