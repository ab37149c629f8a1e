//! One pull request: what it waits for, or why it took so long.

mod freshness;
mod people;
mod story;
mod time;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use maud::{Markup, html};
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::domain::timings::{Flag, PullRequestState};
use tallyhook_core::github::types::PrNumber;
use tallyhook_core::text::one_line;

use super::layout::Section;
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::{waits, words};
use crate::api::{
    AccessRole, ApiError, PullRequestDetail, PullRequestItem, WaitingFor, WaitingItem,
    WaitingReason, flag_sentence,
};

/// Characters of a title, and of any other text of one, that are shown.
const MAX_TITLE: usize = 200;
const MAX_WORD: usize = 80;

pub(super) fn routes() -> Vec<PageRoute> {
    let below = AccessRole::Member;
    vec![
        PageRoute::page("/prs/{number}", AccessRole::Viewer, of_default_repository),
        PageRoute::page(
            "/repos/{owner}/{repo}/prs/{number}",
            AccessRole::Viewer,
            show,
        ),
        PageRoute::form("/repos/{owner}/{repo}/prs/{number}/refresh", below, refresh),
        PageRoute::form("/repos/{owner}/{repo}/prs/{number}/watch", below, watch),
        PageRoute::form("/repos/{owner}/{repo}/prs/{number}/unwatch", below, unwatch),
    ]
}

/// Returns the repository, `owner/name`, and the number of the address.
fn asked(page: &PageRequest) -> Result<(String, PrNumber), ApiError> {
    let number = page.part("number").parse();
    let number = number.map_err(|_| ApiError::NotFound("pull request"))?;
    let repo = format!("{}/{}", page.part("owner"), page.part("repo"));
    Ok((repo, PrNumber(number)))
}

async fn of_default_repository(page: PageRequest) -> PageResult {
    let (_, number) = asked(&page)?;
    let repo = page.api.default_repository();
    let repo = repo.ok_or(ApiError::NotFound("default repository"))?;
    Ok(page.redirect(&page.links.pull_request(repo, number)))
}

async fn show(page: PageRequest) -> PageResult {
    let (repo, number) = asked(&page)?;
    let found = match page.api.pull_request(&repo, number, false).await {
        Err(ApiError::NotFound(_)) => return Ok(missing(&page, &repo, number)),
        found => found?,
    };
    // The repository was renamed: people keep links to its former name.
    if found.pull_request.repo != repo {
        return Ok(page.redirect(&page.links.pull_request(&found.pull_request.repo, number)));
    }
    let body = html! {
        div #pull-request data-live="pr" {
            (head(&page, &found))
            (time::section(&page, &found))
            div .columns {
                (story::section(&found))
                div {
                    (freshness::section(&page, &found))
                    (people::reviews(&found))
                }
            }
            (people::turns(&found))
            (people::requests(&found))
        }
    };
    Ok(page.show(Section::PullRequests, &question(&found.pull_request), &body))
}

/// Fetches it from GitHub, and shows it again.
async fn refresh(page: PageRequest) -> PageResult {
    let (repo, number) = asked(&page)?;
    page.api.pull_request(&repo, number, true).await?;
    Ok(page.redirect(&page.links.pull_request(&repo, number)))
}

async fn watch(page: PageRequest) -> PageResult {
    let (repo, number) = asked(&page)?;
    page.api.watch_pull_request(&repo, number).await?;
    Ok(page.redirect(&page.links.pull_request(&repo, number)))
}

async fn unwatch(page: PageRequest) -> PageResult {
    let (repo, number) = asked(&page)?;
    // It is not watched any more, whichever of two clicks ended that.
    page.api.unwatch_pull_request(&repo, number).await?;
    Ok(page.redirect(&page.links.pull_request(&repo, number)))
}

fn question(known: &PullRequestItem) -> String {
    let name = format!("{}#{}", known.repo, known.number);
    let lived = known
        .closed_at
        .map(|end| end.epoch() - known.pr_created_at.epoch());
    match (known.state, lived) {
        (PullRequestState::Open, _) => format!("What {name} waits for"),
        (PullRequestState::Merged, Some(lived)) => {
            format!("Why {name} took {}", words::span(lived))
        }
        (PullRequestState::Merged, None) => format!("How {name} was merged"),
        (PullRequestState::Closed, _) => format!("Why {name} was closed"),
    }
}

fn missing(page: &PageRequest, repo: &str, number: PrNumber) -> HttpResponse {
    let body = html! {
        p { "Tallyhook knows no pull request " bdi { (one_line(repo, MAX_WORD)) "#" (number) } "." }
        p {
            "No webhook and no backfill has brought it. If its repository is tracked, ask for it "
            "there: " a href=(page.links.path("/repos")) { "Repositories" } ". If the number is "
            "wrong, look for it by its title: "
            a href=(page.links.path("/prs")) { "Pull requests" } "."
        }
        @if page.may(AccessRole::Member) && page.api.github.is_some() {
            (freshness::watch_form(page, repo, number))
        }
    };
    page.show_as(
        StatusCode::NOT_FOUND,
        Section::PullRequests,
        "Not found",
        &body,
    )
}

fn head(page: &PageRequest, found: &PullRequestDetail) -> Markup {
    let known = &found.pull_request;
    let text = |text: &Option<String>| one_line(text.as_deref().unwrap_or("?"), MAX_WORD);
    html! {
        @if known.repo_access != RepositoryAccess::Granted {
            div .banner role="note" {
                p {
                    @if known.repo_access == RepositoryAccess::Deleted { "Its repository was deleted" }
                    @else { "GitHub no longer shows its repository to Tallyhook" }
                    ": everything here is frozen as of " (words::time(known.as_of)) "."
                }
            }
        }
        p .lead {
            (sentence(page, known))
        }
        p {
            strong { bdi { (one_line(known.title.as_deref().unwrap_or("(no title)"), MAX_TITLE)) } }
            " " span .chip { (known.state.as_str()) }
            @if known.draft == Some(true) { " " span .chip { "draft" } }
            @for label in known.labels.iter().take(20) {
                " " span .chip { bdi { (one_line(label, MAX_WORD)) } }
            }
        }
        p .quiet {
            "by " bdi { (one_line(&known.author, MAX_WORD)) }
            @if known.author_is_bot { " (a bot)" }
            ", " bdi { (text(&known.head_ref)) } " into " bdi { (text(&known.base_ref)) }
            @if let (Some(more), Some(less)) = (known.additions, known.deletions) {
                ", " span data-n="lines and files, of which GitHub has the list" {
                    "+" (more) " −" (less)
                    @if let Some(files) = known.changed_files {
                        " in " (words::counted(files.unsigned_abs(), "file"))
                    }
                }
            }
            ", " a href=(page.links.on_github(&known.repo, known.number)) rel="noreferrer" { "on GitHub" }
        }
        (flags(page, known))
    }
}

/// Says in one sentence what it waits for, or how it ended.
fn sentence(page: &PageRequest, known: &PullRequestItem) -> Markup {
    match (known.state, &known.waiting) {
        (PullRequestState::Open, Some(waiting)) => waits(page, known, waiting),
        (PullRequestState::Open, None) => html! {
            "It is open. What it waits for is not known: it was not computed yet after an upgrade, "
            "or the times that GitHub gives cannot be right."
        },
        (state, _) => html! {
            @if state == PullRequestState::Merged { "Merged " } @else { "Closed without a merge " }
            @if let Some(end) = known.merged_at.or(known.closed_at) {
                (words::time(end))
                ", " (words::span(end.epoch() - known.pr_created_at.epoch())) " after it was opened."
            } @else {
                "at a time that is not known."
            }
        },
    }
}

fn waits(page: &PageRequest, known: &PullRequestItem, waiting: &WaitingItem) -> Markup {
    html! {
        "Waits " (words::since(waiting.since, page.now))
        @if waiting.since_is.is_some() { " or longer" }
        @if waiting.reason == WaitingReason::NobodyAsked { ", and " } @else { " for " }
        (waits::reason(waiting.reason))
        @if let Some(held_by) = waiting.held_by {
            " " a href=(page.links.pull_request(&known.repo, held_by)) { "#" (held_by) }
        }
        @if waiting.on == WaitingFor::Reviewers { " by " (waits::who(waiting)) }
        " (" bdi { (one_line(&waiting.because, MAX_TITLE)) } ")."
        @for also in &waiting.also {
            " Also: " bdi { (one_line(also, MAX_TITLE)) } "."
        }
    }
}

fn flags(page: &PageRequest, known: &PullRequestItem) -> Markup {
    let flags: Vec<Flag> = known
        .flags
        .iter()
        .filter_map(|flag| flag.parse().ok())
        .collect();
    html! {
        @if !flags.is_empty() {
            ul #flags {
                @for flag in flags {
                    li {
                        (flag_sentence(flag)) " "
                        small { a href=(page.links.to("/prs", [("flag", flag.as_str()), ("repo", known.repo.as_str())])) { (flag.as_str().replace('_', " ")) } }
                    }
                }
            }
        }
    }
}
