//! The deliveries: what was received, and the traffic of the last day.

use maud::{Markup, html};
use tallyhook_core::github::types::PrNumber;
use tallyhook_core::text::one_line;

use super::layout::{Section, block};
use super::links::query_string;
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::{csv, delivery, filters, words};
use crate::api::{
    AccessRole, ApiError, DeliveryItem, InboxActivity, Page, RefusedRequests, inbox_activity,
};

/// The parameters of the list that pages pass on to the API.
const PARAMETERS: [&str; 12] = [
    "state",
    "event",
    "repo",
    "pr",
    "source",
    "guid",
    "reason",
    "discarded",
    "from",
    "to",
    "ids",
    "cursor",
];
const STATES: [(&str, &str); 5] = [
    ("", "all"),
    ("accepted", "not finished"),
    ("applied", "applied"),
    ("ignored", "ignored"),
    ("dead", "dead"),
];
const SOURCES: [(&str, &str); 5] = [
    ("", "all"),
    ("webhook", "webhook"),
    ("poller", "poller"),
    ("backfill", "backfill"),
    ("monitor", "monitor"),
];
/// Characters of foreign text in a cell.
const CELL: usize = 120;
/// Pixels of the bars of traffic, and of the place of each.
const BAR_HEIGHT: u64 = 40;
const BAR_PLACE: u64 = 14;

pub(super) fn routes() -> Vec<PageRoute> {
    let operator = AccessRole::Operator;
    vec![
        PageRoute::page("/deliveries", operator, list),
        PageRoute::page("/deliveries.csv", operator, file),
        PageRoute::page("/deliveries/{id}", operator, delivery::show),
        PageRoute::page("/deliveries/{id}/payload", operator, delivery::payload),
        PageRoute::page("/deliveries/{id}/fixture", operator, delivery::fixture),
    ]
}

/// Returns the query of the API for the parameters of this page.
fn query(page: &PageRequest) -> String {
    let given = page
        .parameters()
        .filter(|(name, _)| PARAMETERS.contains(name));
    query_string(given.chain([("count", "true"), ("per_page", "50")]))
}

async fn list(page: PageRequest) -> PageResult {
    let query = query(&page);
    let listed = page.reads().deliveries(&query).await;
    let traffic = inbox_activity(&page.api).await;
    let body = html! {
        (block(traffic, |traffic| head(&page, &traffic)))
        (fields(&page))
        section #letters data-live="inbox" data-rows {
            (block(listed, |listed| table(&page, &listed)))
        }
    };
    let question = "What came in, and what became of it";
    Ok(page.show(Section::Deliveries, question, &body))
}

async fn file(page: PageRequest) -> PageResult {
    let reads = page.reads();
    let read = async |query: String| reads.deliveries(&query).await;
    csv::list(&page, "deliveries", "/api/deliveries", &query(&page), read).await
}

fn fields(page: &PageRequest) -> Markup {
    let fields = html! {
        (filters::select(page, "state", "State", &STATES))
        (filters::input(page, "event", "Event", "text"))
        (filters::input(page, "repo", "Repository", "text"))
        (filters::input(page, "pr", "Pull request", "number"))
        (filters::select(page, "source", "Brought by", &SOURCES))
        (filters::input(page, "guid", "GUID begins with", "search"))
        (filters::input(page, "reason", "Reason", "text"))
        (filters::input(page, "from", "Received from", "text"))
        (filters::input(page, "to", "before", "text"))
        (filters::check(page, "discarded", "Discarded dead letters"))
        (filters::kept(page, &["ids"]))
    };
    filters::form(page, "/deliveries", &fields)
}

/// Shows the traffic of the last day. Each hour of the table leads to its deliveries.
fn head(page: &PageRequest, traffic: &InboxActivity) -> Markup {
    let most = traffic.hours.iter().map(|hour| hour.deliveries).max();
    let most = most.unwrap_or_default().max(1);
    let width = BAR_PLACE * traffic.hours.len() as u64;
    html! {
        details #traffic {
            summary { "Traffic of the last day, and what was refused" }
            svg role="img" aria-label="Deliveries per hour of the last day, as the table has them"
                width=(width) height=(BAR_HEIGHT) viewBox={ "0 0 " (width) " " (BAR_HEIGHT) } {
                @for (place, hour) in traffic.hours.iter().enumerate() {
                    @let height = (hour.deliveries * BAR_HEIGHT).div_ceil(most);
                    rect .bar x=(place as u64 * BAR_PLACE) y=(BAR_HEIGHT - height)
                        width=(BAR_PLACE - 2) height=(height) {}
                }
            }
            table .plain {
                caption { "Deliveries by the hour of receipt, from every source, in UTC" }
                thead { tr { th scope="col" { "Hour" } th .num scope="col" { "Deliveries" } } }
                tbody {
                    @for (place, hour) in traffic.hours.iter().enumerate().rev() {
                        @if hour.deliveries > 0 {
                            @let next = traffic.hours.get(place + 1);
                            @let to = next.map_or("", |next| next.start.as_str());
                            @let query = [("from", hour.start.as_str()), ("to", to)];
                            tr {
                                th scope="row" { (words::stated(Some(&hour.start))) }
                                td .num {
                                    a href=(page.links.to("/deliveries", query)) data-count {
                                        (words::grouped(hour.deliveries))
                                    }
                                }
                            }
                        }
                    }
                }
            }
            (refused(traffic.refused.as_ref()))
        }
    }
}

fn refused(refused: Option<&RefusedRequests>) -> Markup {
    let Some(refused) = refused else {
        return html! {
            p { "This process takes no webhooks in; those with the role " code { "ingest" } " count what they refuse." }
        };
    };
    let since = words::stated(Some(&refused.since));
    if refused.reasons.is_empty() {
        return html! { p { "Nothing was refused since this process began, " (since) "." } };
    }
    html! {
        table .plain {
            caption { "Requests that this process refused since it began, " (since) ". They are counted, not stored." }
            thead { tr { th scope="col" { "Reason" } th .num scope="col" { "Requests" } } }
            tbody {
                @for (reason, requests) in &refused.reasons {
                    tr {
                        th scope="row" { code { (reason) } }
                        td .num data-n="refused requests are counted and not stored" {
                            (words::grouped(*requests))
                        }
                    }
                }
            }
        }
    }
}

/// Shows a list of deliveries with its count.
pub(super) fn table(page: &PageRequest, listed: &Page<DeliveryItem>) -> Markup {
    if listed.items.is_empty() && listed.next.is_none() {
        return nothing(page);
    }
    html! {
        (count(listed, "delivery", "deliveries"))
        table {
            caption .quiet { "The newest first. " a href=(file_address(page)) { "As CSV" } }
            (columns(&html! {}))
            tbody { @for item in &listed.items { (row(page, item, &html! {})) } }
        }
        (older(page, listed))
    }
}

/// Shows the number of all items of a list.
pub(super) fn count(listed: &Page<DeliveryItem>, one: &str, several: &str) -> Markup {
    let (n, exact) = listed
        .count
        .map_or((0, false), |count| (count.n, count.exact));
    let noun = if n == 1 && exact { one } else { several };
    html! {
        p #count data-count=[exact.then_some(n)] {
            (words::grouped(n)) @if !exact { "+" } " " (noun)
        }
    }
}

fn nothing(page: &PageRequest) -> Markup {
    let is_filtered = page
        .parameters()
        .any(|(name, _)| PARAMETERS.contains(&name));
    html! {
        p #count data-count="0" { "No delivery" }
        @if is_filtered {
            p { "No stored delivery matches. Applied and ignored ones are kept for " span data-n="the time that rows are kept" { "30 days" } ". " a href=(page.links.path("/deliveries")) { "Show all" } }
        } @else {
            p { "Nothing was received yet. " a href=(page.links.path("/repos")) { "Repositories" } " shows how GitHub finds this server." }
        }
    }
}

/// Shows the heads of the columns of [`row`], `first` before them.
pub(super) fn columns(first: &Markup) -> Markup {
    html! {
        thead {
            tr {
                (first)
                th scope="col" { "Received" }
                th scope="col" { "Event" }
                th scope="col" { "About" }
                th scope="col" { "State" }
                th .hide scope="col" { "Brought by" }
                th .num.hide scope="col" { "Attempts" }
                th .num.hide scope="col" { "Took" }
                th .num.hide scope="col" { "Size" }
                th .hide scope="col" { "GUID" }
            }
        }
    }
}

/// Shows a delivery, `first` before it.
pub(super) fn row(page: &PageRequest, item: &DeliveryItem, first: &Markup) -> Markup {
    let id = item.id.to_string();
    html! {
        tr #{ "delivery-" (id) } {
            (first)
            th scope="row" {
                a href=(page.links.path(&format!("/deliveries/{id}"))) {
                    (words::stated(Some(&item.received_at)))
                }
            }
            td { (event(item)) }
            td { (subject(page, item)) }
            td {
                (state(item))
                @if let Some(reason) = &item.reason { " " bdi .quiet { (one_line(reason, CELL)) } }
            }
            td .hide { (item.source.as_str()) }
            td .num.hide data-n="attempts at one delivery, which its page lists" { (item.attempts) }
            td .num.hide { (took(item)) }
            td .num.hide { (words::bytes(item.body_bytes)) }
            td .hide { code { (one_line(&item.guid, 40)) } }
        }
    }
}

/// Shows the event with its action, as in `pull_request.opened`.
pub(super) fn event(item: &DeliveryItem) -> Markup {
    let event = match &item.action {
        Some(action) => format!("{}.{action}", item.event),
        None => item.event.clone(),
    };
    html! { bdi { (one_line(&event, CELL)) } }
}

/// Shows the repository, and the pull request as a link.
pub(super) fn subject(page: &PageRequest, item: &DeliveryItem) -> Markup {
    let Some(repo) = &item.repo else {
        return html! { (words::UNKNOWN) };
    };
    html! {
        bdi { (one_line(repo, CELL)) }
        @if let Some(number) = item.pr_number {
            " " a href=(page.links.pull_request(repo, PrNumber(number))) { "#" (number) }
        }
    }
}

pub(super) fn state(item: &DeliveryItem) -> Markup {
    let state = item.state.as_str();
    let words = if state == "accepted" {
        "not finished"
    } else {
        state
    };
    html! { span .chip.warn[state == "dead"] { (words) } }
}

/// Returns the time from receipt to the end, such as `0.25 s`.
pub(super) fn took(item: &DeliveryItem) -> String {
    let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).ok();
    let received = at(&item.received_at);
    let finished = item.finished_at.as_deref().and_then(at);
    let took = received
        .zip(finished)
        .map(|(from, to)| (to - from).num_milliseconds());
    took.map_or_else(|| words::UNKNOWN.to_owned(), words::milliseconds)
}

/// Shows the link to the next page of a list.
pub(super) fn older(page: &PageRequest, listed: &Page<DeliveryItem>) -> Markup {
    let Some(cursor) = &listed.next else {
        return html! {};
    };
    let kept = page.parameters().filter(|(name, _)| *name != "cursor");
    let query = query_string(kept.chain([("cursor", cursor.as_str())]));
    html! {
        p .actions {
            a .button rel="next" href={ "?" (query) } { "Older" }
            @if listed.items.is_empty() {
                span .quiet { "None of those that were looked at match; there are older ones." }
            }
        }
    }
}

fn file_address(page: &PageRequest) -> String {
    page.links.to("/deliveries.csv", page.parameters())
}

/// Reads the id of a delivery from the path.
///
/// # Errors
/// If it is none.
pub(super) fn id(page: &PageRequest) -> Result<i64, ApiError> {
    page.part("id")
        .parse()
        .map_err(|_| ApiError::NotFound("delivery"))
}
