//! Where a percentile comes from: the pull requests around it.

use maud::{Markup, html};
use tallyhook_core::text::one_line;

use super::flow::shares::excluded;
use super::flow::{MeasureFilter, measure_words};
use super::layout::Section;
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::words;
use crate::api::{AccessRole, ExplainedPercentile, IncompleteRepository, MeasuredItem};

/// Repositories whose gaps are named; the page of repositories has all.
const NAMED: usize = 10;
const MAX_WHY: usize = 160;

pub(super) fn routes() -> Vec<PageRoute> {
    vec![PageRoute::page("/explain", AccessRole::Viewer, explain)]
}

async fn explain(page: PageRequest) -> PageResult {
    let asked = MeasureFilter::of(&page);
    let p = page.parameter("p").unwrap_or("0.5");
    let query = asked.call_with(&[("of", asked.measure()), ("p", p)]);
    let found = page.reads().explained(&query).await?;
    let filter = match (found.range.from, found.range.to) {
        (Some(from), Some(to)) => asked.within(from, to),
        (Some(from), None) => asked.within(from, page.now),
        _ => asked,
    };
    let body = html! {
        (sentence(&page, &filter, &found))
        p { (found.definition) @if filter.is_business() { " Working hours alone count." } }
        (ordered(&page, &found))
        (left_out(&page, &filter, &found))
        (completeness(&page, &found.incomplete))
        p .actions {
            @for (p, words) in [("0.5", "Median"), ("0.75", "p75"), ("0.9", "p90")] {
                a href=(filter.address(&page, "/explain", &[("of", found.of.as_str()), ("p", p)]))
                    aria-current=[(p.parse() == Ok(found.p)).then_some("true")] data-n="a name" { (words) }
            }
            a href=(filter.address(&page, "/flow", &[("of", found.of.as_str())])) { "All durations" }
        }
    };
    let question = format!(
        "Where the {} {} comes from",
        percentile_words(found.p),
        measure_words(found.of)
    );
    Ok(page.show(Section::Flow, &question, &body))
}

/// Returns the words of a percentile, such as `median` and `90 % percentile of the`.
fn percentile_words(p: f64) -> String {
    if (p - 0.5).abs() < f64::EPSILON {
        return "median".to_owned();
    }
    format!("{} % percentile of the", (p * 1000.0).round() / 10.0)
}

fn sentence(page: &PageRequest, filter: &MeasureFilter, found: &ExplainedPercentile) -> Markup {
    let (Some(hours), Some(rank)) = (found.value_hours, found.rank) else {
        return html! {
            p .lead {
                "No merged pull request of this period has a " (measure_words(found.of)) ". "
                a href=(page.links.to("/explain", [("of", found.of.as_str()), ("from", "364d")])) {
                    "Look at the last year"
                }
            }
        };
    };
    let counted = [("counted", "true"), ("stage", found.of.as_str())];
    html! {
        p id="sentence" class="lead" {
            "The " (percentile_words(found.p)) " " (measure_words(found.of)) " of "
            (filter.count(page, found.n as u64, &counted)) " merged pull "
            @if found.n == 1 { "request" } @else { "requests" }
            " is " span data-n="a measure in hours" { (words::hours(Some(hours))) " h" } ". "
            @match found.between.as_slice() {
                [one] => {
                    "Ordered, it is number " span data-n="a rank" { (rank) } ": " (named(page, one)) "."
                }
                [one, next, ..] => {
                    "Ordered, its rank is " span data-n="a rank" { (format!("{rank:.2}")) } ": between "
                    (named(page, one)) " and " (named(page, next)) "."
                }
                [] => {}
            }
        }
    }
}

fn named(page: &PageRequest, item: &MeasuredItem) -> Markup {
    html! {
        a href=(page.links.pull_request(&item.repo, item.number)) { (item.repo) "#" (item.number) }
        " (" span data-n="a measure in hours" { (words::hours(Some(item.hours))) " h" } ")"
    }
}

/// Returns the pull requests around the rank in ascending order.
fn ordered(page: &PageRequest, found: &ExplainedPercentile) -> Markup {
    let is_at_rank = |item: &MeasuredItem| {
        let mut between = found.between.iter();
        between.any(|one| (&one.repo, one.number) == (&item.repo, item.number))
    };
    let before = found
        .around
        .iter()
        .take_while(|item| !is_at_rank(item))
        .count();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "ranks are from 1 to n"
    )]
    let first = (found.rank.unwrap_or(1.0).floor() as usize).saturating_sub(before);
    // The call of the API and the page have the same parameters.
    let rows = found.rows.strip_prefix("/api").unwrap_or(&found.rows);
    html! {
        @if !found.around.is_empty() {
            table #around data-n="ranks and hours" {
                caption {
                    "Around the rank, in ascending order. "
                    a href=(page.links.path(rows)) { "All of them" }
                }
                thead {
                    tr {
                        th scope="col" .num { "Rank" }
                        th scope="col" { "Pull request" }
                        th scope="col" .num { "Hours" }
                        th scope="col" { "Place" }
                    }
                }
                tbody {
                    @for (rank, item) in (first..).zip(&found.around) {
                        tr class=[is_at_rank(item).then_some("marked")] {
                            td .num { (rank) }
                            th scope="row" {
                                a href=(page.links.pull_request(&item.repo, item.number)) {
                                    (item.repo) "#" (item.number)
                                }
                            }
                            td .num { (words::hours(Some(item.hours))) }
                            td { @if is_at_rank(item) { strong { "at the rank" } } }
                        }
                    }
                }
            }
        }
    }
}

fn left_out(page: &PageRequest, filter: &MeasureFilter, found: &ExplainedPercentile) -> Markup {
    let missing = [("counted", "true"), ("missing", found.of.as_str())];
    html! {
        p {
            (filter.count(page, found.missing as u64, &missing))
            " more pull requests count and have no " (measure_words(found.of)) "."
        }
        (excluded(page, filter, found.excluded.iter().map(|(reason, count)| (reason.as_str(), *count))))
    }
}

fn completeness(page: &PageRequest, incomplete: &[IncompleteRepository]) -> Markup {
    html! {
        section #completeness {
            h2 { "What may be missing" }
            @if incomplete.is_empty() { p { "Nothing: every tracked repository is complete." } }
            @else {
                ul {
                    @for one in incomplete.iter().take(NAMED) {
                        li {
                            a href=(page.links.repository(&one.repo)) { (one.repo) } ": "
                            bdi { (one_line(&one.why, MAX_WHY)) }
                            @if let Some(since) = one.since { ", " (words::time(since)) }
                        }
                    }
                }
                @if incomplete.len() > NAMED {
                    p { a href=(page.links.path("/repos")) { "All repositories" } }
                }
            }
        }
    }
}
