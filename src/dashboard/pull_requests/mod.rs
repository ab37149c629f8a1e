//! The list of pull requests: every filter of the API in the address, an exact count, and a file of
//! the same rows.

mod columns;
mod form;

use maud::{Markup, html};

use super::layout::{Section, block};
use super::links::query_string;
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::{csv, words};
use crate::api::{AccessRole, ApiError, ListCount, Page, PullRequestItem, RepositoryItem};

/// The parameter that is of the page, not of the list.
const COLUMNS: &str = "cols";
/// The parameters of `GET /api/prs` that an address can have; the page has its own size.
const LIST_PARAMETERS: [&str; 29] = [
    "q",
    "state",
    "repo",
    "author",
    "authors",
    "reason",
    "waiting_for",
    "waiting_on",
    "waited_min",
    "waited_max",
    "draft",
    "label",
    "flag",
    "counted",
    "excluded",
    "stage",
    "min_hours",
    "max_hours",
    "missing",
    "clock",
    "merged_from",
    "merged_to",
    "closed_from",
    "closed_to",
    "from",
    "to",
    "sort",
    "order",
    "cursor",
];
/// The rows of a page.
const ROWS: &str = "50";
/// The ranges that bound an order which no index has.
const RANGES: [(&str, &str); 3] = [
    ("28d", "the last 4 weeks"),
    ("84d", "the last 12 weeks"),
    ("365d", "the last year"),
];

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/prs", AccessRole::Viewer, list),
        PageRoute::page("/prs.csv", AccessRole::Viewer, file),
    ]
}

async fn list(page: PageRequest) -> PageResult {
    let query = query_string(of_list(&page).chain([("count", "true"), ("per_page", ROWS)]));
    let reads = page.reads();
    let (found, names) = tokio::join!(
        reads.pull_requests(&query),
        page.api.shared.repositories(&page.api, None)
    );
    let names = names.ok();
    let names: &[RepositoryItem] = names.as_ref().map_or(&[], |names| &names.items);
    let body = html! {
        (form::presets(&page))
        (form::filters(&page, names))
        section #list data-live="pr" aria-label="The list" {
            @match found {
                Err(error @ (ApiError::BadRequest(_) | ApiError::NotFound(_))) => {
                    (refused(&page, &error.to_string()))
                }
                found => (block(found, |found| shown(&page, &found))),
            }
        }
    };
    Ok(page.show(
        Section::PullRequests,
        "Pull requests: which ones exactly",
        &body,
    ))
}

async fn file(page: PageRequest) -> PageResult {
    let reads = page.reads();
    let read = async |query: String| reads.pull_requests(&query).await;
    let query = query_string(of_list(&page));
    csv::list(&page, "pull-requests", "/api/prs", &query, read).await
}

/// Returns the parameters of the address that the API reads.
fn of_list(page: &PageRequest) -> impl Iterator<Item = (&str, &str)> {
    LIST_PARAMETERS
        .iter()
        .filter_map(|name| Some((*name, page.parameter(name)?)))
}

/// Returns the address of this list with other values of some parameters.
fn with<'a>(page: &'a PageRequest, changed: &'a [(&'a str, &'a str)]) -> String {
    let columns = page.values(COLUMNS).map(|column| (COLUMNS, column));
    let kept = of_list(page)
        .chain(columns)
        .filter(|(name, _)| changed.iter().all(|(other, _)| other != name));
    page.links.to("/prs", kept.chain(changed.iter().copied()))
}

/// Returns the error of a query with what can be done.
fn refused(page: &PageRequest, message: &str) -> Markup {
    let is_unbounded = message.starts_with("`sort`") && page.parameter("merged_from").is_none();
    html! {
        div .error role="alert" {
            p { "This list cannot be shown: " bdi { (message) } "." }
            @if is_unbounded {
                p {
                    "Sorting every merge would take seconds. Take those merged in "
                    @for (place, (span, words)) in RANGES.into_iter().enumerate() {
                        @if place > 0 { ", " }
                        a href=(with(page, &[("merged_from", span), ("cursor", "")])) { (words) }
                    }
                    @if page.parameter("sort") == Some("created") {
                        ", or " a href=(with(page, &[("state", "open"), ("cursor", "")])) { "those that are open" }
                    }
                    "."
                }
            } @else {
                p { a href=(page.links.path("/prs")) { "Clear the filters" } }
            }
        }
    }
}

fn shown(page: &PageRequest, found: &Page<PullRequestItem>) -> Markup {
    let columns = columns::chosen(page);
    let clock = columns::clock(page);
    html! {
        div .actions {
            (head(found.count))
            a href=(page.links.to("/prs.csv", of_list(page).filter(|(name, _)| *name != "cursor"))) { "CSV" }
        }
        @if found.items.is_empty() {
            (nothing(page, found))
        } @else {
            table {
                caption .quiet { (order_words(page)) }
                thead { tr {
                    th scope="col" { "Pull request" }
                    @for column in &columns { (column.head()) }
                } }
                tbody { @for item in &found.items {
                    tr id=(format!("pr-{}", item.pr_id)) {
                        th scope="row" { (super::waits::pull_request(&page.links, item)) }
                        @for column in &columns { (column.cell(page, item, clock)) }
                    }
                } }
            }
        }
        div .actions role="group" aria-label="Pages of the list" {
            @if page.parameter("cursor").is_some() {
                a href=(with(page, &[("cursor", "")])) { "First page" }
            }
            @if let Some(next) = &found.next {
                a rel="next" href=(with(page, &[("cursor", next)])) { "Next page" }
            }
        }
    }
}

/// Returns the number of rows of the whole list.
fn head(count: Option<ListCount>) -> Markup {
    html! {
        @if let Some(ListCount { n, exact }) = count {
            h2 #count data-count=[exact.then_some(n)] data-n="its own list" {
                @if exact { (words::counted(n, "pull request")) }
                @else { (words::grouped(n)) "+ pull requests" }
            }
        }
    }
}

/// Returns the kind of emptiness, and the next step.
fn nothing(page: &PageRequest, found: &Page<PullRequestItem>) -> Markup {
    let has_filters = of_list(page).next().is_some();
    html! {
        @if found.next.is_some() {
            p { "Nothing on this page: few of many match, and more are looked at on the next one." }
        } @else if has_filters {
            p { "Nothing matches. " a href=(page.links.path("/prs")) { "Clear the filters" } }
        } @else {
            p { "There is no pull request yet. " a href=(page.links.path("/")) { "The first steps" } }
        }
    }
}

fn order_words(page: &PageRequest) -> &'static str {
    let is_ascending = page.parameter("order") == Some("asc");
    let is_by_wait = match page.parameter("sort") {
        Some(sort) => sort == "waiting",
        None => columns::is_about_waiting(page),
    };
    match (is_by_wait, is_ascending) {
        (true, false) => "The longest waits first",
        (true, true) => "The shortest waits first",
        (false, false) => "The largest and newest first",
        (false, true) => "The smallest and oldest first",
    }
}
