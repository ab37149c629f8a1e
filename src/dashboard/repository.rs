//! One repository: its completeness, its backfills, and the forms about it.

use actix_web::http::StatusCode;
use maud::{Markup, html};
use tallyhook_core::github::types::Timestamp;
use tallyhook_core::text::one_line;

use super::layout::{Section, block};
use super::links::query_string;
use super::page::{PageRequest, PageResult};
use super::repositories::{NO_ACCESS, actions, missed, state};
use super::routes::PageRoute;
use super::{sync_run, words};
use crate::api::{AccessRole, ApiError, RepositoryItem, RunRequest, RunState, SyncRunItem};

/// The backfills of a repository that are kept.
const RUNS: &str = "21";
const MAX_ERROR: usize = 300;
const YEAR: i64 = 365 * 86_400;
/// The width of the bar of completeness.
const BAR: i64 = 600;

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/repos/{owner}/{repo}", AccessRole::Viewer, repository),
        PageRoute::form("/repos/{owner}/{repo}/sync", AccessRole::Member, sync),
        PageRoute::page(
            "/repos/{owner}/{repo}/untrack",
            AccessRole::Admin,
            confirm_untrack,
        ),
        PageRoute::form("/repos/{owner}/{repo}/untrack", AccessRole::Admin, untrack),
    ]
}

fn name(page: &PageRequest) -> String {
    format!("{}/{}", page.part("owner"), page.part("repo"))
}

/// Reads the repository of the path; `None` if no webhook of it arrived and it is not tracked.
async fn read(page: &PageRequest) -> Result<Option<RepositoryItem>, ApiError> {
    let query = query_string([("repo", name(page).as_str())]);
    match page.api.repositories(&query).await {
        Ok(list) => Ok(list.items.into_iter().next()),
        Err(ApiError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn repository(page: PageRequest) -> PageResult {
    let Some(item) = read(&page).await? else {
        return Ok(unknown(&page));
    };
    let query = query_string([("repo", item.repo.as_str()), ("per_page", RUNS)]);
    let runs = page.reads().sync_runs(&query).await;
    let known = runs.as_ref().map_or(&[][..], |runs| &runs.items);
    let under_way = known
        .iter()
        .find(|run| matches!(run.state, RunState::Queued | RunState::Running));
    let failed = known
        .iter()
        .find(|run| matches!(run.state, RunState::Done | RunState::Failed));
    let failed = failed.filter(|run| !run.errors.is_empty());
    let summary = summary(&page, &item, under_way);
    let errors = failed.map(|run| failed_pull_requests(&page, run));
    let body = html! {
        section #state data-live="repo sync_run" { (summary) }
        section #runs data-live="sync_run" {
            h2 { "Backfills" }
            (block(runs, |runs| sync_run::table(&page, &runs.items)))
            @if let Some(errors) = errors { (errors) }
        }
    };
    Ok(page.show(Section::Repositories, "Is this repository complete", &body))
}

/// Returns the completeness of a repository, and the forms about it.
fn summary(page: &PageRequest, item: &RepositoryItem, run: Option<&SyncRunItem>) -> Markup {
    html! {
        h2 { bdi { (item.repo) } }
        dl .facts {
            dt { "State" } dd { (state(page, item, run)) }
            dt { "Complete since" }
            dd { (words::time(item.completeness.since)) (completeness_bar(page.now, item)) }
            dt { "Tracked since" } dd { (words::stated(Some(&item.tracked_since))) }
            dt { "Last webhook" }
            dd {
                @match item.last_delivery_at.as_deref() {
                    Some(at) => { (words::stated_since(Some(at), page.now)) " ago" },
                    None => { "none has arrived yet" },
                }
                @if item.is_quiet {
                    " " span .chip.warn { "quiet" }
                    " The poller found changes, and no webhook arrived for a day: check the webhook \
                     at GitHub."
                }
            }
            dt { "Missed by webhooks" } dd { (missed(page, item)) }
        }
        (missing_parts(item))
        div .actions {
            (actions(page, item, run))
            @if item.tracked && page.may(AccessRole::Admin) {
                a .button href=(page.links.of_repository(&item.repo, "untrack")) { "Untrack" }
            }
            a href=(page.links.to("/prs", [("repo", item.repo.as_str())])) { "Its pull requests" }
        }
        @if page.api.github.is_none() { p .quiet { (NO_ACCESS) } }
    }
}

fn missing_parts(item: &RepositoryItem) -> Markup {
    html! {
        h2 #missing { "Missing, and why" }
        @if item.completeness.missing.is_empty() {
            p { "Nothing is missing since then." }
        } @else {
            ul {
                @for part in &item.completeness.missing {
                    li { bdi { (one_line(&part.what, MAX_ERROR)) } ": " bdi { (one_line(&part.why, MAX_ERROR)) } }
                }
            }
        }
    }
}

/// Returns a bar of the last year: the part without history, and the complete one.
fn completeness_bar(now: Timestamp, item: &RepositoryItem) -> Markup {
    let begins = now.epoch() - YEAR;
    let before = (item.completeness.since.epoch() - begins).clamp(0, YEAR) * BAR / YEAR;
    let label = match before {
        0 => "Complete for the last year".to_owned(),
        BAR => "Nothing of the last year is complete".to_owned(),
        _ => format!(
            "Of the last year complete from {} on",
            item.completeness.since
        ),
    };
    html! {
        svg viewBox=(format!("0 0 {BAR} 10")) width=(BAR) height="10" role="img" aria-label=(label) {
            rect .closed x="0" y="0" width=(before) height="10" {}
            rect .review x=(before) y="0" width=(BAR - before) height="10" {}
        }
    }
}

/// Returns the pull requests that failed in a backfill, and the form that tries them again.
fn failed_pull_requests(page: &PageRequest, run: &SyncRunItem) -> Markup {
    let (days, most) = (run.options.days_back, run.options.max_prs);
    html! {
        h3 { "Failed in backfill " a href=(page.links.sync_run(run.id)) { "#" (run.id) } }
        (sync_run::errors(page, run))
        @if page.may(AccessRole::Member) && page.api.github.is_some() {
            form method="post" action=(page.links.of_repository(&run.repo, "sync")) {
                (page.csrf())
                input type="hidden" name="days_back" value=(days);
                input type="hidden" name="max_prs" value=(most);
                @if run.options.commits { input type="hidden" name="commits" value="true"; }
                button { "Try these again" }
                span .quiet { " by a backfill of the same range" }
            }
        }
    }
}

fn unknown(page: &PageRequest) -> actix_web::HttpResponse {
    let body = html! {
        p { "No webhook of " bdi { (one_line(&name(page), 200)) } " arrived, and it is not tracked." }
        p { a href=(page.links.path("/repos")) { "Repositories, and how to track one" } }
    };
    let question = "No such repository";
    page.show_as(
        StatusCode::NOT_FOUND,
        Section::Repositories,
        question,
        &body,
    )
}

async fn sync(page: PageRequest) -> PageResult {
    let number = |name: &str| match page.field(name).map(str::parse) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(ApiError::BadRequest(format!(
            "`{name}` must be a whole number"
        ))),
    };
    let asked = RunRequest {
        days_back: number("days_back")?,
        max_prs: number("max_prs")?,
        commits: page.field("commits").map(|value| value == "true"),
    };
    let (owner, repo) = (page.part("owner"), page.part("repo"));
    let started = page.api.start_run(owner, repo, asked).await?;
    Ok(page.redirect(&page.links.sync_run(started.sync_run)))
}

async fn confirm_untrack(page: PageRequest) -> PageResult {
    let Some(item) = read(&page).await?.filter(|item| item.tracked) else {
        return Ok(unknown(&page));
    };
    let address = page.links.of_repository(&item.repo, "untrack");
    let body = html! {
        p {
            "The poller asks GitHub no more about " bdi { (item.repo) } ", its backfill is cancelled, and \
             no notification is sent about it. Its pull requests and numbers are kept. Webhooks of it \
             that arrive are still applied."
        }
        div .actions {
            form method="post" action=(address) { (page.csrf()) button .danger { "Untrack it" } }
            a href=(page.links.repository(&item.repo)) { "Keep it" }
        }
    };
    Ok(page.show(Section::Repositories, "Untrack a repository", &body))
}

async fn untrack(page: PageRequest) -> PageResult {
    page.api
        .untrack(page.part("owner"), page.part("repo"))
        .await?;
    Ok(page.redirect(&page.links.path("/repos")))
}
