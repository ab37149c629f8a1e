//! The durations of a period beside those of the period before it.

use maud::{Markup, html};
use serde::Serialize;
use tallyhook_core::domain::metrics::DurationName;

use super::super::page::PageRequest;
use super::super::words;
use super::FlowFilter;
use crate::api::{ComparedTime, DurationComparison, DurationSummary};

/// The durations, in the order of the table.
pub(super) const MEASURES: [DurationName; 8] = [
    DurationName::Cycle,
    DurationName::ReviewTime,
    DurationName::Coding,
    DurationName::Pickup,
    DurationName::Review,
    DurationName::MergeWait,
    DurationName::Redraft,
    DurationName::Closed,
];

/// Returns the words of a duration.
pub(in crate::dashboard) const fn measure_words(name: DurationName) -> &'static str {
    match name {
        DurationName::Cycle => "cycle time",
        DurationName::ReviewTime => "review time",
        DurationName::Coding => "coding",
        DurationName::Pickup => "pickup",
        DurationName::Review => "review",
        DurationName::MergeWait => "merge wait",
        DurationName::Redraft => "redraft",
        DurationName::Closed => "closed",
    }
}

/// A duration in both periods.
#[derive(Debug, Serialize)]
pub(super) struct FlowRow<'a> {
    duration: DurationName,
    now: &'a DurationSummary,
    before: &'a DurationSummary,
    compared: &'a DurationComparison,
}

/// Returns a row for each duration: cycle time, review time, and the stages in their order.
pub(super) fn rows(found: &ComparedTime) -> Vec<FlowRow<'_>> {
    let ComparedTime {
        now,
        before,
        compared,
        ..
    } = found;
    let (stages, earlier) = (&now.stages, &before.stages);
    let row = |duration, now, before, compared| FlowRow {
        duration,
        now,
        before,
        compared,
    };
    vec![
        row(
            DurationName::Cycle,
            &now.cycle_time,
            &before.cycle_time,
            &compared.cycle_time,
        ),
        row(
            DurationName::ReviewTime,
            &now.review_time,
            &before.review_time,
            &compared.review_time,
        ),
        row(
            DurationName::Coding,
            &stages.coding,
            &earlier.coding,
            &compared.coding,
        ),
        row(
            DurationName::Pickup,
            &stages.pickup,
            &earlier.pickup,
            &compared.pickup,
        ),
        row(
            DurationName::Review,
            &stages.review,
            &earlier.review,
            &compared.review,
        ),
        row(
            DurationName::MergeWait,
            &stages.merge_wait,
            &earlier.merge_wait,
            &compared.merge_wait,
        ),
        row(
            DurationName::Redraft,
            &stages.redraft,
            &earlier.redraft,
            &compared.redraft,
        ),
        row(
            DurationName::Closed,
            &stages.closed,
            &earlier.closed,
            &compared.closed,
        ),
    ]
}

pub(super) fn table(page: &PageRequest, filter: &FlowFilter, found: &ComparedTime) -> Markup {
    html! {
        table #durations {
            caption {
                @if filter.is_business() { "Working hours" } @else { "Hours" }
                " of " (filter.count(page, found.now.counted as u64, &[("counted", "true")]))
                " merged pull requests that count. A percentile leads to the pull requests around "
                "it; in brackets is its 95 % interval."
            }
            thead {
                tr data-n="names of percentiles" {
                    th scope="col" { "Duration" }
                    th scope="col" .num { "n" }
                    th scope="col" .num .hide { "Missing" }
                    th scope="col" .num { "Median" }
                    th scope="col" .num .hide { "p75" }
                    th scope="col" .num { "p90" }
                    th scope="col" .num .hide { "Mean" }
                    th scope="col" .num .hide { "Total" }
                    th scope="col" .num .hide { "Median before" }
                    th scope="col" { "Difference" }
                }
            }
            tbody { @for row in rows(found) { (row.shown(page, filter)) } }
        }
    }
}

impl FlowRow<'_> {
    fn shown(&self, page: &PageRequest, filter: &FlowFilter) -> Markup {
        let (name, now) = (self.duration.as_str(), self.now);
        let charts = filter.address(page, "/flow", &[("of", name), ("bucket", filter.bucket())]);
        html! {
            tr id={ "duration-" (name) } {
                th scope="row" { a href=(charts) { (measure_words(self.duration)) } }
                td .num { (filter.count(page, now.n as u64, &[("counted", "true"), ("stage", name)])) }
                td .num .hide {
                    (filter.count(page, now.missing as u64, &[("counted", "true"), ("missing", name)]))
                }
                @if let Some(values) = &now.values {
                    td colspan="3" data-n="hours of single pull requests" { (few(values)) }
                } @else {
                    td .num { (self.percentile(page, filter, "0.5", now.p50_hours, now.p50_interval_hours)) }
                    td .num .hide { (self.percentile(page, filter, "0.75", now.p75_hours, now.p75_interval_hours)) }
                    td .num { (self.percentile(page, filter, "0.9", now.p90_hours, now.p90_interval_hours)) }
                }
                td .num .hide data-n="a measure in hours" { (words::hours(now.mean_hours)) }
                td .num .hide data-n="a measure in hours" { (words::hours(now.total_hours)) }
                td .num .hide data-n="a measure in hours" { (words::hours(self.before.p50_hours)) }
                td data-n="a measure in hours" { (difference(self.compared)) }
            }
        }
    }

    fn percentile(
        &self,
        page: &PageRequest,
        filter: &FlowFilter,
        p: &str,
        hours: Option<f64>,
        interval: Option<[f64; 2]>,
    ) -> Markup {
        let explained = [("of", self.duration.as_str()), ("p", p)];
        html! {
            @if hours.is_some() {
                a href=(filter.address(page, "/explain", &explained)) data-n="a measure in hours" {
                    (words::hours(hours))
                }
                @if let Some([low, high]) = interval {
                    br; small data-n="a measure in hours" {
                        "(" (words::hours(Some(low))) " to " (words::hours(Some(high))) ")"
                    }
                }
            } @else { (words::UNKNOWN) }
        }
    }
}

/// Returns the values where there are too few for percentiles.
fn few(values: &[f64]) -> Markup {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let values: Vec<_> = values
        .iter()
        .map(|hours| words::hours(Some(*hours)))
        .collect();
    html! {
        @if values.is_empty() { (words::UNKNOWN) }
        @else { "too few for percentiles: " (values.join(", ")) }
    }
}

/// Returns the difference of the medians in words, and how sure it is.
fn difference(compared: &DurationComparison) -> Markup {
    let Some(hours) = compared.p50_difference_hours else {
        return html! { (words::UNKNOWN) };
    };
    let by = words::hours(Some(hours.abs()));
    html! {
        @if by == "0.00" { "the same" }
        @else { (by) " h " @if hours < 0.0 { "shorter" } @else { "longer" } }
        br;
        small {
            @if let Some(text) = &compared.verdict_text { (text) }
            @else if compared.n < 5 || compared.n_before < 5 { "too few to compare" }
            @else { "may be chance" }
            ", " (words::grouped(compared.n_before as u64)) " before"
        }
    }
}
