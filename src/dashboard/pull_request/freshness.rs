//! The freshness of the facts of a pull request, and the ways to refresh them.

use maud::{Markup, html};
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::types::PrNumber;
use tallyhook_core::text::one_line;

use super::super::page::PageRequest;
use super::super::words;
use super::MAX_WORD;
use crate::api::{AccessRole, PullRequestDetail};

pub(super) fn section(page: &PageRequest, found: &PullRequestDetail) -> Markup {
    let known = &found.pull_request;
    html! {
        section #freshness {
            h2 { "How fresh this is" }
            dl .facts {
                dt { "As of" }
                dd { (words::time(known.as_of)) ", GitHub's own time of the newest data" }
                dt { "Brought by" }
                dd { (brought_by(known.source)) }
                dt { "Whole until" }
                dd {
                    @if let Some(until) = found.whole_until {
                        (words::time(until)) ", by GitHub's own history of it"
                    } @else {
                        "not known: its history was never fetched, so it has what webhooks brought"
                    }
                }
                dt { "Watched" }
                dd { (watched(found)) }
                dt { "Computed by" }
                dd data-n="the version of a definition" { "definition " (known.definition) }
            }
            (actions(page, found))
            @if page.may(AccessRole::Operator) {
                p {
                    a href=(page.links.to("/deliveries", [
                        ("repo", known.repo.as_str()), ("pr", &known.number.to_string()),
                    ])) { "Deliveries about it" }
                }
            }
        }
    }
}

const fn brought_by(source: Source) -> &'static str {
    match source {
        Source::Webhook => "webhooks",
        Source::Poller => "the poller: no webhook brought the newest data",
        Source::Backfill => "a backfill",
        Source::Monitor => "the watch by polling: no webhook brought the newest data",
    }
}

fn watched(found: &PullRequestDetail) -> Markup {
    let Some(watch) = &found.watched else {
        return html! { "no" };
    };
    html! {
        "since " (words::time(watch.since))
        @if let Some(at) = watch.checked_at { ", last asked for " (words::time(at)) }
        @else { ", not asked for yet" }
        @if let Some(error) = &watch.error {
            ", which failed: " bdi { (one_line(error, 2 * MAX_WORD)) }
        }
    }
}

/// Returns the forms of members; they cannot be used without access to GitHub, and say so.
fn actions(page: &PageRequest, found: &PullRequestDetail) -> Markup {
    let known = &found.pull_request;
    let address = page.links.pull_request(&known.repo, known.number);
    let has_access = page.api.github.is_some();
    html! {
        @if page.may(AccessRole::Member) {
            div .actions {
                form method="post" action={ (address) "/refresh" } {
                    (page.csrf())
                    button disabled[!has_access] { "Ask GitHub now" }
                }
                @if found.watched.is_some() {
                    form method="post" action={ (address) "/unwatch" } {
                        (page.csrf())
                        button { "Stop watching it" }
                    }
                } @else {
                    form method="post" action={ (address) "/watch" } {
                        (page.csrf())
                        button disabled[!has_access] { "Watch it" }
                    }
                }
            }
            @if !has_access {
                p .quiet {
                    "Tallyhook has no access to GitHub's API: set GITHUB_TOKEN, or connect an App."
                }
            }
        }
    }
}

/// Returns the form that has a pull request fetched which is not known.
pub(super) fn watch_form(page: &PageRequest, repo: &str, number: PrNumber) -> Markup {
    html! {
        form .actions method="post" action={ (page.links.pull_request(repo, number)) "/watch" } {
            (page.csrf())
            button { "Fetch and watch it" }
        }
    }
}
