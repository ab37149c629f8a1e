//! Words and cells about what pull requests wait for.

use maud::{Markup, html};
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::text::one_line;

use super::links::Links;
use crate::api::{PullRequestItem, WaitingFor, WaitingItem, WaitingReason};

/// The letters of a title or name that a table shows.
const SHOWN: usize = 120;

/// The reasons to wait, in the order of a review.
pub(super) const REASONS: [WaitingReason; 13] = [
    WaitingReason::FirstReview,
    WaitingReason::AnotherLook,
    WaitingReason::NobodyAsked,
    WaitingReason::ChangesRequested,
    WaitingReason::Comments,
    WaitingReason::CheckFailed,
    WaitingReason::Conflict,
    WaitingReason::LeftQueue,
    WaitingReason::Checks,
    WaitingReason::Queued,
    WaitingReason::BasePr,
    WaitingReason::Merge,
    WaitingReason::Draft,
];

/// Returns what pull requests of this reason wait for: words that follow "waits for".
pub(super) const fn reason(reason: WaitingReason) -> &'static str {
    match reason {
        WaitingReason::Draft => "its author: a draft",
        WaitingReason::Queued => "the merge queue",
        WaitingReason::LeftQueue => "its author: left the merge queue",
        WaitingReason::Conflict => "its author: a conflict",
        WaitingReason::ChangesRequested => "its author: changes requested",
        WaitingReason::CheckFailed => "its author: a failed check",
        WaitingReason::Comments => "its author: comments",
        WaitingReason::FirstReview => "a first review",
        WaitingReason::AnotherLook => "another look",
        WaitingReason::NobodyAsked => "nobody is asked",
        WaitingReason::BasePr => "the pull request below it",
        WaitingReason::Checks => "its checks",
        WaitingReason::Merge => "its merge",
    }
}

/// Returns the same for one group: of a merge, the side that can do it.
pub(super) const fn group(on: WaitingFor, because: WaitingReason) -> &'static str {
    match (because, on) {
        (WaitingReason::Merge, WaitingFor::Author) => "its merge, by its author",
        (WaitingReason::Merge, WaitingFor::Maintainers) => "its merge, by a maintainer",
        _ => reason(because),
    }
}

/// Returns the people and teams that a pull request waits for.
pub(super) fn who(waiting: &WaitingItem) -> Markup {
    html! {
        @for (place, waiter) in waiting.who.iter().enumerate() {
            @if place > 0 { ", " }
            @match (&waiter.login, &waiter.team) {
                (Some(login), _) => bdi { (one_line(login, SHOWN)) },
                (None, Some(team)) => { "team " bdi { (one_line(team, SHOWN)) } }
                (None, None) => {}
            }
        }
    }
}

/// Returns the source that brought a pull request's newest data.
pub(super) const fn source(source: Source) -> &'static str {
    match source {
        Source::Webhook => "webhook",
        Source::Backfill => "backfill",
        Source::Poller => "poller: no webhook brought it",
        Source::Monitor => "watching: no webhook brought it",
    }
}

/// Returns the repository and number as a link to the page of the pull request, and its title.
pub(super) fn pull_request(links: &Links, item: &PullRequestItem) -> Markup {
    html! {
        a href=(links.pull_request(&item.repo, item.number)) { (key(item)) } " "
        @if let Some(title) = &item.title { bdi { (one_line(title, SHOWN)) } }
    }
}

/// Returns `name#number`, the repository without its owner.
fn key(item: &PullRequestItem) -> String {
    short_key(&item.repo, item.number.0)
}

/// Returns `name#number` of a repository `owner/name`.
pub(super) fn short_key(repo: &str, number: i64) -> String {
    let name = repo.split_once('/').map_or(repo, |(_, name)| name);
    format!("{name}#{number}")
}
