//! The first page: where pull requests wait now, where the time of the merged ones went, and the
//! same for a screen on a wall.

mod compared;
mod filter;
mod now;
mod spent;
mod start;
mod wall;

use std::sync::Arc;

use maud::{Markup, html};
use tallyhook_core::github::types::Timestamp;
use tallyhook_core::text::one_line;
use tokio::time::Instant;

use self::filter::OverviewFilter;
use super::layout::{Section, block, in_time};
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::{filters, words};
use crate::api::{
    AccessRole, ApiError, ComparedTime, CycleTime, DataFreshness, Page, PullRequestItem,
    RepositoryItem, TimeRange, WaitingAnswer,
};

/// The rows of the longest waits.
const LONGEST: &str = "12";
/// The incomplete repositories that the banner names.
const NAMED: usize = 3;
/// The age of a delivery, in seconds, from which on the banner says that it waits.
const LATE: f64 = 60.0;

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/", AccessRole::Viewer, overview),
        PageRoute::page("/wall", AccessRole::Viewer, wall::wall),
    ]
}

type Read<T> = Result<Arc<T>, ApiError>;

/// The answers that the page shows, read side by side.
struct OverviewAnswers {
    waiting: Read<WaitingAnswer>,
    compared: Read<ComparedTime>,
    spent: Read<CycleTime>,
    longest: Read<Page<PullRequestItem>>,
    /// `None` if it is not known who reads.
    mine: Option<Result<Page<PullRequestItem>, ApiError>>,
    repositories: Read<Page<RepositoryItem>>,
}

async fn overview(page: PageRequest) -> PageResult {
    let filter = OverviewFilter::of(&page);
    let answers = answers(&page, &filter).await;
    let repositories = answers.repositories.as_ref();
    let has_nothing = repositories.is_ok_and(|found| found.items.is_empty())
        && answers
            .waiting
            .as_ref()
            .is_ok_and(|waiting| waiting.open == 0);
    let body = match has_nothing {
        true => start::first_steps(&page),
        false => shown(&page, &filter, answers).await,
    };
    Ok(page.show(Section::Overview, "Where pull requests wait", &body))
}

async fn answers(page: &PageRequest, filter: &OverviewFilter) -> OverviewAnswers {
    let (reads, shared) = (page.reads(), &page.api.shared);
    // A region is fetched since something changed: an answer from before does not show it.
    let asked = page.is_region().then(Instant::now);
    let (now, begin) = (filter.range, filter.buckets());
    let whole = TimeRange {
        from: begin.first().map_or(now.from, |first| first.from),
        to: now.to,
    };
    let [waiting, compared] = [filter.waiting().call(), filter.aggregate(now).call()];
    let spent = filter
        .aggregate(whole)
        .with("bucket", filter.bucket())
        .call();
    let longest = filter.longest().with("per_page", LONGEST).call();
    let mine = async {
        page.caller.login.as_ref()?;
        let mine = filter.people().with("waiting_on", "me");
        let mine = mine.with("count", "true").with("per_page", "1").call();
        Some(reads.pull_requests(&mine).await)
    };
    let (waiting, compared, spent, longest, mine, repositories) = tokio::join!(
        shared.waiting(&reads, &waiting, asked),
        in_time(shared.compared(&reads, &compared, asked)),
        in_time(shared.cycle_time(&reads, &spent, asked)),
        shared.pull_requests(&reads, &longest, asked),
        mine,
        shared.repositories(&page.api, asked),
    );
    OverviewAnswers {
        waiting,
        compared,
        spent,
        longest,
        mine,
        repositories,
    }
}

async fn shown(page: &PageRequest, filter: &OverviewFilter, answers: OverviewAnswers) -> Markup {
    let links = &page.links;
    let newest = match &answers.compared {
        Ok(compared) if compared.now.counted == 0 => newest_merge(page, filter).await,
        _ => None,
    };
    let repositories: &[RepositoryItem] = match &answers.repositories {
        Ok(found) => &found.items,
        Err(_) => &[],
    };
    let mine = answers.mine;
    html! {
        @if let Ok(waiting) = &answers.waiting { (banner(page, &waiting.freshness, repositories)) }
        (filter_form(page, repositories))
        (block(answers.waiting, |waiting| html! {
            div .columns.wider {
                section #now data-live="pr" aria-labelledby="now-title" {
                    (now::groups(links, filter, &waiting))
                }
                section #on data-live="pr" aria-labelledby="on-title" {
                    (now::parties(page, filter, &waiting, mine))
                }
            }
        }))
        section #compared data-live="pr" aria-labelledby="compared-title" {
            h2 #compared-title { (period_words(filter)) }
            (block(answers.compared, |found| compared::cards(links, filter, &found, newest)))
        }
        section #spent aria-labelledby="spent-title" {
            h2 #spent-title { "Where the time went: mean hours per merged pull request" }
            (block(answers.spent, |found| spent::spent(links, filter, &found)))
        }
        section #longest data-live="pr" aria-labelledby="longest-title" {
            h2 #longest-title { "Waiting longest" }
            (block(answers.longest, |found| now::longest(page, filter, &found.items)))
        }
    }
}

/// Returns the time of the newest merge that aggregates count, whenever it was.
async fn newest_merge(page: &PageRequest, filter: &OverviewFilter) -> Option<Timestamp> {
    let query = filter.any_merged().with("per_page", "1").call();
    let found = page.reads().pull_requests(&query).await.ok()?;
    found.items.first()?.merged_at
}

fn period_words(filter: &OverviewFilter) -> Markup {
    let hours = if filter.is_business() {
        ", in working hours"
    } else {
        ""
    };
    html! {
        @match filter.weeks {
            Some(weeks) => {
                span data-n="the period" { "Last " (weeks) " weeks, and the " (weeks) " before" }
            }
            None => {
                (words::time(filter.range.from)) " to " (words::time(filter.range.to))
                ", and as long before"
            }
        }
        (hours)
    }
}

/// Returns what the numbers below lack; nothing if they are whole.
fn banner(
    page: &PageRequest,
    freshness: &DataFreshness,
    repositories: &[RepositoryItem],
) -> Markup {
    let DataFreshness {
        oldest_pending_seconds,
        incomplete,
        not_computed,
        ..
    } = freshness;
    let is_late = *oldest_pending_seconds > LATE;
    let in_scope = |found: &&RepositoryItem| {
        let chosen = page.parameter("repo");
        found.is_quiet && chosen.is_none_or(|chosen| chosen.eq_ignore_ascii_case(&found.repo))
    };
    let quiet = repositories.iter().find(in_scope);
    let links = &page.links;
    html! {
        @if is_late || !incomplete.is_empty() || *not_computed > 0 || quiet.is_some() {
            section .banner #banner data-live="pr repo inbox" aria-label="What is missing" {
                @if !incomplete.is_empty() { p {
                    strong { "Not everything is here." }
                    @for gap in incomplete.iter().take(NAMED) {
                        " " bdi { (one_line(&gap.repo, 120)) } ": " bdi { (one_line(&gap.why, 200)) } "."
                    }
                    @if incomplete.len() > NAMED { " More repositories lack something." }
                    " " a href=(links.path("/repos")) { "What, and why" }
                } }
                @if let Some(quiet) = quiet { p {
                    strong { "No webhook arrives." }
                    " The poller finds changes of " bdi { (one_line(&quiet.repo, 120)) }
                    " that no webhook brought. "
                    a href=(links.repository(&quiet.repo)) { "Look at its webhook" }
                } }
                @if is_late { p {
                    strong { "Deliveries wait to be applied." }
                    " What arrived since " (words::time(freshness.applied_until)) " is not in these numbers. "
                    @if page.may(AccessRole::Operator) { a href=(links.path("/health")) { "What piles up" } }
                } }
                @if *not_computed > 0 { p data-n="no list has what is not computed" {
                    (words::counted(*not_computed, "open pull request")) " not computed yet: not in these numbers."
                } }
            }
        }
    }
}

fn filter_form(page: &PageRequest, found: &[RepositoryItem]) -> Markup {
    let repositories = filters::repositories(found);
    let fields = html! {
        (filters::select(page, "repo", "Repository", &repositories))
        (filters::input(page, "team", "Waits for team", "text"))
        (filters::select(page, "period", "Period", &[
            ("", "Last 4 weeks"), ("12w", "Last 12 weeks"), ("custom", "From and to"),
        ]))
        (filters::input(page, "from", "From", "text"))
        (filters::input(page, "to", "To", "text"))
        (filters::select(page, "hours", "Hours", &[("", "All"), ("working", "Working")]))
        (filters::select(page, "authors", "Authors", &[
            ("", "People"), ("agent", "AI agents"), ("automation", "Automation"), ("bot", "Both kinds of bots"), ("all", "All"),
        ]))
    };
    html! {
        (filters::form(page, "/", &fields))
        p .quiet { "as of " (words::time(page.now)) ", times in UTC" }
    }
}
