//! The open pull requests for a screen on a wall: four numbers and the longest waits.

use maud::{Markup, html};

use super::filter::OverviewFilter;
use crate::api::{Page, PullRequestItem, WaitingAnswer, WaitingFor};
use crate::dashboard::layout::{Section, block};
use crate::dashboard::page::{PageRequest, PageResult};
use crate::dashboard::rows::RowsQuery;
use crate::dashboard::{waits, words};

/// The rows of the longest waits.
const LONGEST: &str = "8";

pub(super) async fn wall(page: PageRequest) -> PageResult {
    let filter = OverviewFilter::of(&page);
    let (reads, shared) = (page.reads(), &page.api.shared);
    let asked = page.is_region().then(tokio::time::Instant::now);
    let [waiting, longest] = [filter.waiting(), filter.longest().with("per_page", LONGEST)];
    let [waiting, longest] = [waiting.call(), longest.call()];
    let (waiting, longest) = tokio::join!(
        shared.waiting(&reads, &waiting, asked),
        shared.pull_requests(&reads, &longest, asked),
    );
    let body = html! {
        section #wall-counts data-live="pr" aria-label="Open pull requests" {
            (block(waiting, |answer| counts(&page, &filter, &answer)))
        }
        section #wall-longest data-live="pr" aria-label="Waiting longest" {
            (block(longest, |found| longest_waits(&page, &found)))
        }
    };
    Ok(page.show(Section::Wall, "Where pull requests wait", &body))
}

fn counts(page: &PageRequest, filter: &OverviewFilter, answer: &WaitingAnswer) -> Markup {
    let of = |kind: WaitingFor| {
        let groups = answer.groups.iter().filter(|group| group.on == kind);
        let list = filter.open().with("waiting_for", kind.as_str());
        (groups.map(|group| group.n).sum::<u64>(), list)
    };
    let [reviewers, nobody, author] = [
        WaitingFor::Reviewers,
        WaitingFor::Nobody,
        WaitingFor::Author,
    ]
    .map(of);
    let card = |(count, list): (u64, RowsQuery), words: &str| {
        html! {
            li .card {
                h2 { (words) }
                p .big { (list.count(&page.links, count)) }
            }
        }
    };
    html! {
        ul .cards {
            (card((answer.open, filter.open()), "Open"))
            (card(reviewers, "Wait for a review"))
            (card(nobody, "Nobody is asked"))
            (card(author, "Wait for their author"))
        }
    }
}

fn longest_waits(page: &PageRequest, found: &Page<PullRequestItem>) -> Markup {
    html! {
        @if found.items.is_empty() {
            p { "No open pull request waits, drafts aside." }
        } @else {
            table {
                caption .quiet { "The longest waits first" }
                thead .quiet { tr {
                    th scope="col" { "Pull request" }
                    th scope="col" { "Waits for" }
                    th .hide scope="col" { "On" }
                    th scope="col" { "Since" }
                } }
                tbody { @for item in &found.items {
                    tr id=(format!("wall-{}", item.pr_id)) {
                        th scope="row" { (waits::pull_request(&page.links, item)) }
                        @if let Some(waiting) = &item.waiting {
                            td { (waits::group(waiting.on, waiting.reason)) }
                            td .hide { (waits::who(waiting)) }
                            td { (words::since(waiting.since, page.now)) }
                        }
                    }
                } }
            }
        }
    }
}
