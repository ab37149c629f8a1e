//! One duration over time and as a distribution, and the stages as means that add up.

use chrono::{Days, Months, NaiveTime};
use maud::{Markup, html};
use tallyhook_core::domain::metrics::DurationName;
use tallyhook_core::domain::timings::Stage;
use tallyhook_core::github::types::Timestamp;

use super::super::chart::{
    ChartLine, HistogramBar, ScatterDot, StackedBar, histogram, legend, lines, means, scatter,
    stacked,
};
use super::super::page::PageRequest;
use super::super::words;
use super::table::MEASURES;
use super::{FlowFilter, measure_words};
use crate::api::{
    BucketSummary, CycleTime, DurationDistribution, DurationSummary, FlowAnswers, MeasuredPoints,
    Summary,
};

/// Stretches of time that a chart shows; more would be narrower than a line.
const MAX_BUCKETS: usize = 400;
/// Dots of a scatter: each is a link of about 180 bytes, and a page has at most 150 kB.
pub(super) const MAX_DOTS: &str = "600";

pub(super) fn section(page: &PageRequest, filter: &FlowFilter, found: &FlowAnswers) -> Markup {
    html! {
        (over_time(page, filter, &found.by_time))
        (distribution(page, filter, &found.spread))
        (single(page, filter, &found.points))
    }
}

/// A stretch of time with its numbers; without any where nothing was merged.
struct FlowBucket<'a> {
    label: String,
    from: String,
    to: String,
    summary: Option<&'a Summary>,
}

impl FlowBucket<'_> {
    fn list(&self, page: &PageRequest, filter: &FlowFilter) -> String {
        filter.merged_within(page, (&self.from, &self.to), &[("counted", "true")])
    }

    fn counted(&self) -> u64 {
        self.summary.map_or(0, |summary| summary.counted as u64)
    }
}

/// Returns the buckets of an answer with the empty ones between them.
fn buckets<'a>(filter: &FlowFilter, found: &'a [BucketSummary]) -> Vec<FlowBucket<'a>> {
    let mut buckets = Vec::new();
    let mut known = found.iter().peekable();
    let Some(mut start) = found.first().map(|bucket| bucket.start) else {
        return buckets;
    };
    while known.peek().is_some() && buckets.len() < MAX_BUCKETS {
        let end = next_start(filter.bucket(), start);
        let summary = known.next_if(|bucket| bucket.start < end);
        let (from, to) = filter.part(start, end);
        buckets.push(FlowBucket {
            label: start.to_utc().format("%m-%d").to_string(),
            from,
            to,
            summary: summary.map(|bucket| &bucket.summary),
        });
        start = end;
    }
    buckets
}

/// Returns the start of the bucket after the one that starts at `start`, in UTC.
fn next_start(bucket: &str, start: Timestamp) -> Timestamp {
    let date = start.to_utc().date_naive();
    let next = match bucket {
        "day" => date.checked_add_days(Days::new(1)),
        "month" => date.checked_add_months(Months::new(1)),
        _ => date.checked_add_days(Days::new(7)),
    };
    let next = next.unwrap_or(date).and_time(NaiveTime::MIN).and_utc();
    Timestamp::from(next)
}

fn over_time(page: &PageRequest, filter: &FlowFilter, found: &CycleTime) -> Markup {
    let buckets = buckets(filter, &found.buckets);
    if buckets.is_empty() {
        return html! {};
    }
    let name = words_of(filter);
    let labels: Vec<_> = buckets.iter().map(|bucket| bucket.label.clone()).collect();
    let line = |name, value: fn(&DurationSummary) -> Option<f64>| ChartLine {
        name,
        hours: buckets
            .iter()
            .map(|bucket| value(measured(filter, bucket.summary?)))
            .collect(),
    };
    let drawn = [
        line("p50", |summary| summary.p50_hours),
        line("p75", |summary| summary.p75_hours),
        line("p90", |summary| summary.p90_hours),
    ];
    let bars: Vec<_> = buckets
        .iter()
        .map(|bucket| StackedBar {
            label: bucket.label.clone(),
            count: bucket.counted(),
            address: bucket.list(page, filter),
            parts: bucket.summary.map_or_else(Vec::new, means),
        })
        .collect();
    html! {
        section #over-time {
            h2 { "The " (name) " by " (filter.bucket()) }
            div data-n="a measure in hours" {
                (lines(&format!("Median, p75 and p90 of the {name} by {}", filter.bucket()), &labels, &drawn))
            }
            h2 { "Where the time went: mean hours of each merged pull request" }
            div data-n="hours; the number over a bar is in the table" {
                (stacked("Mean hours of each stage, which add up; a bar leads to its pull requests", &bars))
                (legend(Stage::ALL))
            }
            details {
                summary { "The numbers as a table" }
                (bucket_table(page, filter, &buckets))
            }
        }
    }
}

/// Returns the chosen duration of a summary.
fn measured<'a>(filter: &FlowFilter, summary: &'a Summary) -> &'a DurationSummary {
    match filter.measure() {
        "review_time" => &summary.review_time,
        "coding" => &summary.stages.coding,
        "pickup" => &summary.stages.pickup,
        "review" => &summary.stages.review,
        "merge_wait" => &summary.stages.merge_wait,
        "redraft" => &summary.stages.redraft,
        "closed" => &summary.stages.closed,
        _ => &summary.cycle_time,
    }
}

fn words_of(filter: &FlowFilter) -> &'static str {
    let chosen = MEASURES
        .iter()
        .find(|name| name.as_str() == filter.measure());
    measure_words(chosen.copied().unwrap_or(DurationName::Cycle))
}

fn bucket_table(page: &PageRequest, filter: &FlowFilter, buckets: &[FlowBucket<'_>]) -> Markup {
    html! {
        table {
            caption { "The " (words_of(filter)) ", and the mean hours of each stage" }
            thead {
                tr data-n="names of percentiles" {
                    th scope="col" { "From" }
                    th scope="col" .num { "Merged" }
                    th scope="col" .num { "p50" }
                    th scope="col" .num .hide { "p75" }
                    th scope="col" .num { "p90" }
                    @for &stage in Stage::ALL { th scope="col" .num .hide { (words::stage(stage)) } }
                }
            }
            tbody {
                @for bucket in buckets {
                    @let means = bucket.summary.map(means);
                    @let summary = bucket.summary.map(|summary| measured(filter, summary));
                    tr {
                        th scope="row" data-n="a date" { (bucket.label) }
                        td .num {
                            a href=(bucket.list(page, filter)) data-count { (words::grouped(bucket.counted())) }
                        }
                        td .num data-n="a measure in hours" { (words::hours(summary.and_then(|of| of.p50_hours))) }
                        td .num .hide data-n="a measure in hours" { (words::hours(summary.and_then(|of| of.p75_hours))) }
                        td .num data-n="a measure in hours" { (words::hours(summary.and_then(|of| of.p90_hours))) }
                        @for place in 0..Stage::ALL.len() {
                            @let mean = means.as_ref().map(|means| means[place].1);
                            td .num .hide data-n="a measure in hours" { (words::hours(mean)) }
                        }
                    }
                }
            }
        }
    }
}

fn distribution(page: &PageRequest, filter: &FlowFilter, found: &DurationDistribution) -> Markup {
    let bar = |bin: &crate::api::DistributionBin| HistogramBar {
        from_hours: bin.from_hours,
        to_hours: bin.to_hours,
        count: bin.n as u64,
        address: filter.merged(
            page,
            &[
                ("counted", "true"),
                ("stage", found.of.as_str()),
                ("min_hours", &bin.from_hours.to_string()),
                ("max_hours", &bin.to_hours.to_string()),
            ],
        ),
    };
    let bars: Vec<_> = found.bins.iter().map(bar).collect();
    let name = measure_words(found.of);
    html! {
        @if !bars.is_empty() {
            section #distribution {
                h2 { "How the " (name) " is spread" }
                div data-n="the numbers of the table" {
                    (histogram(
                        &format!("Pull requests by their {name}; each bin is twice as long as the one before"),
                        &bars, &[("p50", found.p50_hours), ("p90", found.p90_hours)],
                    ))
                }
                details {
                    summary { "The numbers as a table" }
                    table .plain {
                        caption .quiet { "Pull requests by their " (name) }
                        thead {
                            tr {
                                th scope="col" .num { "From hours" }
                                th scope="col" .num { "Below" }
                                th scope="col" .num { "Pull requests" }
                            }
                        }
                        tbody {
                            @for bar in &bars {
                                tr {
                                    td .num data-n="a measure in hours" { (words::hours(Some(bar.from_hours))) }
                                    td .num data-n="a measure in hours" { (words::hours(Some(bar.to_hours))) }
                                    td .num { a href=(bar.address) data-count { (words::grouped(bar.count)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn single(page: &PageRequest, filter: &FlowFilter, found: &MeasuredPoints) -> Markup {
    let dots = found.items.iter().map(|point| ScatterDot {
        name: format!("{}#{}", point.measured.repo, point.measured.number),
        address: page
            .links
            .pull_request(&point.measured.repo, point.measured.number),
        merged_at: point.merged_at,
        hours: point.measured.hours,
    });
    let dots: Vec<_> = dots.collect();
    let name = measure_words(found.of);
    let all = filter.count(
        page,
        found.n as u64,
        &[("counted", "true"), ("stage", found.of.as_str())],
    );
    html! {
        @if !dots.is_empty() {
            section #points {
                h2 { "Each of them" }
                p {
                    @if found.shown < found.n {
                        "Every so many of " (all) " pull requests, spread evenly over their merges."
                    } @else { (all) " pull requests: a dot leads to its page." }
                }
                div data-n="hours and dates" {
                    (scatter(&format!("The {name} of single pull requests by the time of their merge"), &dots))
                }
            }
        }
    }
}
