//! The events of a pull request, in order.

use maud::{Markup, html};
use tallyhook_core::text::one_line;

use super::super::words;
use super::MAX_WORD;
use crate::api::{PullRequestDetail, TimelineEntry};

/// Entries that stand in the page; the API has all.
const MAX_ENTRIES: usize = 200;

/// The kinds of events that the bar marks: those that begin or end a stage, or pass the turn.
const MARKED: [&str; 12] = [
    "opened",
    "ready_for_review",
    "converted_to_draft",
    "review_requested",
    "review_request_removed",
    "reviewed",
    "review_dismissed",
    "enqueued",
    "dequeued",
    "closed",
    "reopened",
    "merged",
];

/// Returns the events that the bar marks, with their numbers in the list.
pub(super) fn marked(found: &PullRequestDetail) -> impl Iterator<Item = (usize, &TimelineEntry)> {
    let numbered = (1..).zip(&found.timeline).take(MAX_ENTRIES);
    numbered.filter(|(_, entry)| MARKED.contains(&entry.kind.as_str()))
}

/// Returns an event in words, such as `approved by mira-acme`.
pub(super) fn event_words(entry: &TimelineEntry) -> String {
    let by = entry
        .actor
        .as_deref()
        .map(|actor| format!(" by {}", one_line(actor, MAX_WORD)));
    format!("{}{}", kind_words(entry), by.unwrap_or_default())
}

fn kind_words(entry: &TimelineEntry) -> String {
    match (entry.kind.as_str(), entry.detail.as_deref()) {
        // The state of the review says more than that there was one.
        ("reviewed", Some(state)) => state.replace('_', " "),
        (kind, _) => kind.replace('_', " "),
    }
}

pub(super) fn section(found: &PullRequestDetail) -> Markup {
    let all = found.timeline.len();
    html! {
        section #story {
            h2 { "What happened" }
            @if all == 0 { p { "No event of it is known yet: only parts of it were ever seen." } }
            @else {
                table {
                    caption .quiet { "Events in order; their numbers are the marks of the bar" }
                    thead {
                        tr {
                            th scope="col" .num { "No." }
                            th scope="col" { "Time" }
                            th scope="col" { "Event" }
                            th scope="col" { "By" }
                            th scope="col" .hide { "Detail" }
                        }
                    }
                    tbody {
                        @for (number, entry) in (1..=MAX_ENTRIES).zip(&found.timeline) {
                            (row(number, entry))
                        }
                    }
                }
                @if all > MAX_ENTRIES {
                    p data-n="the rows above, and those of the API" { "The first " (MAX_ENTRIES) " of " (all) " events; the API has all of them." }
                }
            }
        }
    }
}

fn row(number: usize, entry: &TimelineEntry) -> Markup {
    let detail = entry.detail.as_deref().filter(|_| entry.kind != "reviewed");
    html! {
        tr id={ "event-" (number) } {
            td .num data-n="its mark in the bar" { (number) }
            td { (words::time(entry.at)) }
            td { (kind_words(entry)) }
            td { bdi { (one_line(entry.actor.as_deref().unwrap_or(words::UNKNOWN), MAX_WORD)) } }
            td .hide { bdi { (one_line(detail.unwrap_or_default(), MAX_WORD)) } }
        }
    }
}
