//! The open pull requests: what they wait for, on whom, and those that wait longest.

use maud::{Markup, html};
use tallyhook_core::github::types::Timestamp;
use tallyhook_core::text::one_line;

use super::filter::OverviewFilter;
use crate::api::{
    ApiError, Page, PullRequestItem, WaitingAnswer, WaitingGroupItem, WaitingOnItem, WaitingOnKind,
};
use crate::dashboard::layout::block;
use crate::dashboard::links::Links;
use crate::dashboard::page::PageRequest;
use crate::dashboard::rows::RowsQuery;
use crate::dashboard::{waits, words};

const DAY: i64 = 86_400;

/// The spans of the table: the least days, the days that are too many, words.
const SPANS: [(Option<i64>, Option<i64>, &str); 4] = [
    (None, Some(1), "< 1 d"),
    (Some(1), Some(3), "1–3 d"),
    (Some(3), Some(7), "3–7 d"),
    (Some(7), None, "> 7 d"),
];

/// Returns the table of what open pull requests wait for.
pub(super) fn groups(links: &Links, filter: &OverviewFilter, answer: &WaitingAnswer) -> Markup {
    let now = answer.as_of;
    html! {
        h2 #now-title { "Now: " (filter.open().count(links, answer.open)) " open" }
        @if answer.groups.is_empty() {
            p { "No open pull request matches. " a href=(links.path("/")) { "Clear the filters" } }
        } @else {
            table {
                caption { "By what they wait for, and for how long" }
                thead { tr {
                    th scope="col" { "Waits for" }
                    th .num scope="col" { "Open" }
                    @for (_, _, words) in SPANS { th .num .hide scope="col" data-n="a span" { (words) } }
                    th scope="col" { "Longest" }
                } }
                tbody { @for group in &answer.groups { (row(links, filter, group, now)) } }
            }
        }
    }
}

fn row(links: &Links, filter: &OverviewFilter, group: &WaitingGroupItem, now: Timestamp) -> Markup {
    let (on, reason) = (group.on.as_str(), group.reason.as_str());
    let list = filter.open().with("waiting_for", on).with("reason", reason);
    let counts = [
        group.under_1d,
        group.under_3d,
        group.under_7d,
        group.over_7d,
    ];
    let longest = &group.longest;
    html! {
        tr id=(format!("now-{on}-{reason}")) {
            th scope="row" { (waits::group(group.on, group.reason)) }
            td .num { (list.count(links, group.n)) }
            @for (count, (least, most, _)) in counts.into_iter().zip(SPANS) {
                td .num .hide { (waited(&list, now, least, most).count(links, count)) }
            }
            td .longest {
                a href=(links.pull_request(&longest.repo, longest.number)) {
                    (waits::short_key(&longest.repo, longest.number.0))
                }
                " " (words::since(longest.since, now))
            }
        }
    }
}

/// Returns the rows of a list that wait for so many days, by times: a list is read after its total,
/// and an age would have changed.
fn waited(list: &RowsQuery, now: Timestamp, least: Option<i64>, most: Option<i64>) -> RowsQuery {
    let at = |days: Option<i64>| {
        let at = days.map(|days| Timestamp::clamped(now.epoch() - days * DAY).to_string());
        at.unwrap_or_default()
    };
    let list = list.clone().with("waited_min", at(least));
    list.with("waited_max", at(most))
}

/// Returns the table of the teams and people that are waited for.
pub(super) fn parties(
    page: &PageRequest,
    filter: &OverviewFilter,
    answer: &WaitingAnswer,
    mine: Option<Result<Page<PullRequestItem>, ApiError>>,
) -> Markup {
    let has_people = page.reads().show_people;
    html! {
        h2 #on-title { "On whom" }
        @if answer.on.is_empty() && mine.is_none() {
            p {
                @if has_people { "No open pull request waits for a team or a person." }
                @else { "No open pull request waits for a team." }
            }
        } @else {
            table {
                caption { "Open pull requests that wait for them" }
                thead { tr {
                    th scope="col" { "Who" }
                    th .num scope="col" { "Waiting" }
                    th scope="col" { "Longest" }
                } }
                tbody {
                    @for on in &answer.on { (party(&page.links, filter, on, answer.as_of)) }
                    @if let Some(mine) = mine { (me(&page.links, filter, mine, answer.as_of)) }
                }
            }
        }
        @if !has_people {
            p .quiet { "People are not listed: " code { "show_people" } " in the settings is false." }
        }
    }
}

fn party(links: &Links, filter: &OverviewFilter, on: &WaitingOnItem, now: Timestamp) -> Markup {
    let (kind, name) = match on.kind {
        WaitingOnKind::Team => ("team ", format!("github_team:{}", on.name)),
        WaitingOnKind::Person => ("", on.name.clone()),
    };
    let list = filter.people().with("waiting_on", name);
    html! {
        tr {
            th scope="row" { (kind) bdi { (one_line(&on.name, 60)) } }
            td .num { (list.count(links, on.n)) }
            td { (words::since(on.longest_since, now)) }
        }
    }
}

fn me(
    links: &Links,
    filter: &OverviewFilter,
    mine: Result<Page<PullRequestItem>, ApiError>,
    now: Timestamp,
) -> Markup {
    let list = filter.people().with("waiting_on", "me");
    html! {
        tr #on-me {
            th scope="row" { "me" }
            @match mine {
                Ok(page) => {
                    td .num { (list.count(links, page.count.map_or(0, |count| count.n))) }
                    td {
                        @if let Some(waiting) = page.items.first().and_then(|item| item.waiting.as_ref()) {
                            (words::since(waiting.since, now))
                        }
                    }
                }
                Err(error) => td colspan="2" { (block(Err::<(), _>(error), |()| html! {})) },
            }
        }
    }
}

/// Returns the pull requests that wait longest.
pub(super) fn longest(
    page: &PageRequest,
    filter: &OverviewFilter,
    items: &[PullRequestItem],
) -> Markup {
    html! {
        @if items.is_empty() {
            p { "No open pull request waits, drafts aside." }
        } @else {
            table {
                caption .quiet { "The longest waits first" }
                thead { tr {
                    th scope="col" { "Pull request" }
                    th scope="col" { "Waits for" }
                    th scope="col" { "On" }
                    th scope="col" { "Since" }
                    th .hide scope="col" { "Because" }
                    th .hide scope="col" { "Known by" }
                } }
                tbody { @for item in items { (wait(page, item)) } }
            }
            p { a href=(filter.longest().list(&page.links)) { "All that wait, without drafts" } }
        }
    }
}

fn wait(page: &PageRequest, item: &PullRequestItem) -> Markup {
    html! {
        tr id=(format!("longest-{}", item.pr_id)) {
            th scope="row" { (waits::pull_request(&page.links, item)) }
            @match &item.waiting {
                Some(waiting) => {
                    td { (waits::group(waiting.on, waiting.reason)) }
                    td { (waits::who(waiting)) }
                    td { (words::since(waiting.since, page.now)) }
                    td .hide { bdi { (one_line(&waiting.because, 200)) } }
                }
                None => td colspan="4" { "not computed yet" },
            }
            td .hide { (waits::source(item.source)) }
        }
    }
}
