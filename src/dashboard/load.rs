//! The load of reviews: teams first, people only where that is allowed.

use maud::{Markup, html};
use tallyhook_core::domain::metrics::ReviewConcentration;
use tallyhook_core::text::one_line;

use super::layout::{Section, block, in_time};
use super::links::query_string;
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::{csv, filters, words};
use crate::api::{AccessRole, ApiError, LoadAnswer, LoadItem};

const PERIOD: &str = "28d";
const MAX_NAME: usize = 80;

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/load", AccessRole::Viewer, load),
        PageRoute::page("/load.csv", AccessRole::Viewer, file),
    ]
}

/// Returns the query string of the call by team or person.
fn query(page: &PageRequest, by: &str) -> String {
    let value = |name| page.parameter(name).unwrap_or_default();
    query_string([
        ("by", by),
        ("repo", value("repo")),
        ("from", page.parameter("from").unwrap_or(PERIOD)),
        ("to", value("to")),
    ])
}

async fn load(page: PageRequest) -> PageResult {
    let reads = page.reads();
    let teams = in_time(reads.review_load(&query(&page, "team"))).await;
    let people = in_time(reads.review_load(&query(&page, "person"))).await;
    let fields = html! {
        (filters::input(&page, "from", "Asked from (28d, or a date)", "text"))
        (filters::input(&page, "to", "Asked before", "text"))
        (filters::input(&page, "repo", "Repository (owner/name)", "text"))
    };
    let body = html! {
        (filters::form(&page, "/load", &fields))
        div #load data-live="pr" {
            (block(teams, |found| html! {
                section #teams {
                    h2 { "Teams" }
                    (table(&found, "Requests for a review by a team, in the period and open now"))
                    p { a href=(file_address(&page, "team")) { "CSV" } }
                }
                (concentration(&found.concentration))
            }))
            (people_section(&page, people))
        }
    };
    Ok(page.show(
        Section::Load,
        "Who is asked for more than they can answer",
        &body,
    ))
}

fn file_address(page: &PageRequest, by: &str) -> String {
    let parameters = page.parameters().filter(|(name, _)| *name != "by");
    page.links.to("/load.csv", parameters.chain([("by", by)]))
}

fn people_section(page: &PageRequest, people: Result<LoadAnswer, ApiError>) -> Markup {
    html! {
        section #people {
            @match people {
                Err(ApiError::PeopleHidden) => {
                    h2 { "People" }
                    p {
                        "People are not shown: the setting show_people is off. A token with a login "
                        "shows the numbers of that person to that person."
                    }
                }
                people => {
                    h2 { @if page.api.show_people { "People" } @else { "You" } }
                    (block(people, |found| html! {
                        (table(&found, "Requests for a review by person, by name"))
                        p { a href=(file_address(page, "person")) { "CSV" } }
                    }))
                }
            }
        }
    }
}

fn table(found: &LoadAnswer, caption: &str) -> Markup {
    html! {
        @if found.items.is_empty() {
            p { "No review was requested of any in this period, and no request is open." }
        } @else {
            table data-n="requests for a review, which are no list of pull requests" {
                caption .quiet { (caption) }
                thead {
                    tr {
                        th scope="col" { "Name" }
                        th scope="col" .num { "Asked now" }
                        th scope="col" { "Oldest" }
                        th scope="col" .num { "Asked" }
                        th scope="col" .num { "Answered" }
                        th scope="col" .num .hide { "Withdrawn" }
                        th scope="col" .num { "Unanswered" }
                        th scope="col" .num { "Median hours to the answer" }
                    }
                }
                tbody { @for item in &found.items { (row(item, found.as_of)) } }
            }
        }
    }
}

fn row(item: &LoadItem, now: tallyhook_core::github::types::Timestamp) -> Markup {
    let (load, requests) = (&item.load, &item.load.requests);
    html! {
        tr {
            th scope="row" { bdi { (one_line(&load.name, MAX_NAME)) } }
            @if load.too_few_people {
                td colspan="7" { "Fewer than five people answered for it: its numbers would be theirs." }
            } @else {
                td .num { (requests.asked_now) }
                td { @if let Some(oldest) = requests.oldest { (words::since(oldest, now)) } @else { (words::UNKNOWN) } }
                td .num { (requests.asked) }
                td .num { (requests.answered) }
                td .num .hide { (requests.withdrawn) }
                td .num {
                    (requests.unanswered)
                    " (" (words::share(requests.unanswered as u64, requests.asked as u64)) ")"
                }
                td .num { (words::hours(load.p50_hours)) }
            }
        }
    }
}

/// Says how few people give most of the reviews, without their names.
fn concentration(found: &ReviewConcentration) -> Markup {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    html! {
        section #concentration data-n="reviews, and shares of them" {
            h2 { "How the reviews are spread" }
            @match (found.reviewers, found.reviews, found.top_1_share, found.top_3_share) {
                (Some(reviewers), Some(reviews), Some(one), Some(three)) => {
                    p {
                        "The busiest 1 of " (reviewers) " reviewers did " (percent(one)) " of the "
                        (words::counted(reviews as u64, "review")) ", the busiest 3 did "
                        (percent(three)) "."
                    }
                    @if let Some(each) = found.reviews_per_merged_pull_request {
                        p { "There were " (words::hours(Some(each))) " reviews for each merged pull request." }
                    }
                }
                _ => {
                    p { "Fewer than five people reviewed in this period: their shares are not shown." }
                }
            }
        }
    }
}

/// Answers with the table as a file.
async fn file(page: PageRequest) -> PageResult {
    let by = page.parameter("by").unwrap_or("team");
    let found = page.reads().review_load(&query(&page, by)).await?;
    let columns = [
        "kind",
        "name",
        "too_few_people",
        "asked_now",
        "oldest",
        "asked",
        "answered",
        "withdrawn",
        "unanswered",
        "open",
        "p50_hours",
    ];
    Ok(csv::table("load", &columns, &found.items))
}
