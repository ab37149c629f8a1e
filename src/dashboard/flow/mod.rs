//! The durations of pull requests, and their spread.

mod charts;
mod filter;
pub(super) mod shares;
mod table;

use maud::{Markup, html};

use self::filter::FlowFilter;
use super::layout::{Section, block, in_time};
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::{csv, words};
use crate::api::{AccessRole, ComparedTime, DataFreshness};

pub(super) use self::filter::FlowFilter as MeasureFilter;
pub(super) use self::table::measure_words;

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/flow", AccessRole::Viewer, flow),
        PageRoute::page("/flow.csv", AccessRole::Viewer, file),
    ]
}

async fn flow(page: PageRequest) -> PageResult {
    let asked = FlowFilter::of(&page);
    let call = asked.call_with(&[
        ("bucket", asked.bucket()),
        ("of", asked.measure()),
        ("limit", charts::MAX_DOTS),
    ]);
    let found = in_time(page.reads().flow(&call)).await;
    let filter = match &found {
        // The times of the answer, so that every link is about the same pull requests.
        Ok(found) => {
            let range = found.compared.ranges.now;
            asked.within(range.from, range.to)
        }
        Err(_) => asked,
    };
    let body = html! {
        (filter.form(&page))
        (block(found, |found| html! {
            (whole(&page, &filter, &found.compared))
            (charts::section(&page, &filter, &found))
        }))
    };
    Ok(page.show(Section::Flow, "How long pull requests take", &body))
}

fn whole(page: &PageRequest, filter: &FlowFilter, found: &ComparedTime) -> Markup {
    html! {
        (incomplete(page, &found.freshness))
        section #numbers {
            h2 { "Merged " (words::time(found.ranges.now.from)) " to " (words::time(found.ranges.now.to)) }
            @if found.now.counted == 0 { (nothing_merged(page, filter)) }
            (table::table(page, filter, found))
            p { a href=(filter.address(page, "/flow.csv", &[])) { "CSV" } }
        }
        (shares::section(page, filter, &found.now))
    }
}

/// Says that the numbers may be wrong, and where to see why.
pub(super) fn incomplete(page: &PageRequest, freshness: &DataFreshness) -> Markup {
    let count = freshness.incomplete.len() as u64;
    html! {
        @if count > 0 {
            div .banner role="note" {
                p data-n="repositories, each named on the page behind the link" {
                    "Not everything is here: something is missing of "
                    @if count == 1 { "1 repository" }
                    @else { (words::grouped(count)) " repositories" }
                    ". " a href=(page.links.path("/repos")) { "What, and why" }
                }
            }
        }
    }
}

fn nothing_merged(page: &PageRequest, filter: &FlowFilter) -> Markup {
    html! {
        p {
            "No pull request that counts was merged in this period"
            @if filter.has_choice() { ", or none matches the filters" }
            ". " a href=(page.links.to("/flow", [("from", "364d")])) { "Look at the last year" }
            " or at " a href=(page.links.to("/prs", [("state", "merged")])) { "all that were merged" } "."
        }
    }
}

/// Answers with the table as a file.
async fn file(page: PageRequest) -> PageResult {
    let filter = FlowFilter::of(&page);
    let found = page.reads().compared(&filter.call()).await?;
    let columns = [
        "duration",
        "now.n",
        "now.missing",
        "now.p50_hours",
        "now.p50_interval_hours",
        "now.p75_hours",
        "now.p75_interval_hours",
        "now.p90_hours",
        "now.p90_interval_hours",
        "now.mean_hours",
        "now.total_hours",
        "before.n",
        "before.p50_hours",
        "compared.p50_difference_hours",
        "compared.verdict",
    ];
    Ok(csv::table("flow", &columns, &table::rows(&found)))
}
