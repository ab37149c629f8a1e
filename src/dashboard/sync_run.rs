//! Backfills: all of them, and one with its progress and errors.

use maud::{Markup, html};
use tallyhook_core::github::types::PrNumber;
use tallyhook_core::text::one_line;

use super::layout::{Section, block};
use super::links::query_string;
use super::page::{PageRequest, PageResult};
use super::repositories::{cancel_form, next, progress};
use super::routes::PageRoute;
use super::{filters, words};
use crate::api::{AccessRole, ApiError, RunState, SyncRunItem};

const MAX_ERROR: usize = 300;
/// The reason why a number of pull requests of a backfill has no list.
const UNLISTED: &str = "counted by the backfill, which keeps no list of them";

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/sync-runs", AccessRole::Viewer, runs),
        PageRoute::page("/sync-runs/{id}", AccessRole::Viewer, run),
        PageRoute::form("/sync-runs/{id}/cancel", AccessRole::Member, cancel),
    ]
}

async fn runs(page: PageRequest) -> PageResult {
    let names = ["repo", "state", "cursor"];
    let query = names.map(|name| (name, page.parameter(name).unwrap_or_default()));
    let query = query_string(query.into_iter().chain([("count", "true")]));
    let list = page.reads().sync_runs(&query).await;
    let states = [
        ("", "all"),
        ("queued,running", "under way"),
        ("done,failed", "attempted"),
        ("done", "done"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
    ];
    let fields = html! {
        (filters::select(&page, "state", "State", &states))
        (filters::input(&page, "repo", "Repository", "text"))
    };
    let body = html! {
        (filters::form(&page, "/sync-runs", &fields))
        section #list data-live="sync_run" {
            (block(list, |list| {
                let n = list.count.map_or(0, |count| count.n);
                html! {
                    p #count data-count=(n) { (words::counted(n, "backfill")) }
                    (table(&page, &list.items))
                    (next(&page, "/sync-runs", list.next.as_deref()))
                }
            }))
        }
    };
    Ok(page.show(Section::Repositories, "Which backfills went well", &body))
}

/// Returns a table of backfills.
pub(super) fn table(page: &PageRequest, runs: &[SyncRunItem]) -> Markup {
    html! {
        @if runs.is_empty() {
            p { "There is none. One starts when a repository is tracked, or with " em { "Sync now" } "." }
        } @else {
            table {
                caption .quiet { "Backfills, the newest first" }
                thead {
                    tr {
                        th scope="col" { "Backfill" }
                        th scope="col" { "Repository" }
                        th scope="col" { "State" }
                        th scope="col" { "Asked for" }
                        th scope="col" .hide { "Took" }
                        th scope="col" .num { "Pull requests" }
                        th scope="col" .num { "Failed" }
                        th scope="col" .num.hide { "Requests" }
                    }
                }
                tbody { @for run in runs { (row(page, run)) } }
            }
        }
    }
}

fn row(page: &PageRequest, run: &SyncRunItem) -> Markup {
    html! {
        tr id=(format!("run-{}", run.id)) {
            th scope="row" { a href=(page.links.sync_run(run.id)) { "#" (run.id) } }
            td { a href=(page.links.repository(&run.repo)) { bdi { (run.repo) } } }
            td { (state(run)) }
            td { (words::stated(Some(&run.asked_at))) }
            td .hide { (took(run)) }
            td .num data-n=(UNLISTED) { (words::grouped(run.prs_done)) }
            td .num {
                @match run.errors.len() {
                    0 => { span data-n="none failed" { "0" } },
                    failed => { a href=(page.links.sync_run(run.id)) data-count { (failed) } },
                }
            }
            td .num.hide data-n="cost of a backfill" { (words::grouped(run.github_requests)) }
        }
    }
}

fn state(run: &SyncRunItem) -> Markup {
    html! {
        span .chip .warn[run.state == RunState::Failed] { (run.state.as_str()) }
        @if let Some(error) = &run.error { " " bdi { (one_line(error, MAX_ERROR)) } }
    }
}

/// Returns the time from the beginning to the end of a backfill.
fn took(run: &SyncRunItem) -> String {
    let times = (run.started_at.as_deref(), run.finished_at.as_deref());
    let (Some(from), Some(to)) = times else {
        return words::UNKNOWN.to_owned();
    };
    match (words::read(from), words::read(to)) {
        (Some(from), Some(to)) => words::span(to.epoch() - from.epoch()),
        _ => words::UNKNOWN.to_owned(),
    }
}

fn id_of(page: &PageRequest) -> Result<i64, ApiError> {
    let missing = |_| ApiError::NotFound("sync run");
    page.part("id").parse().map_err(missing)
}

async fn run(page: PageRequest) -> PageResult {
    let run = page.reads().sync_run(id_of(&page)?).await?;
    let is_under_way = matches!(run.state, RunState::Queued | RunState::Running);
    let body = html! {
        section #run data-live="sync_run" {
            dl .facts {
                dt { "Repository" } dd { a href=(page.links.repository(&run.repo)) { bdi { (run.repo) } } }
                dt { "State" }
                dd { (state(&run)) @if is_under_way { " " (progress(&page, &run)) } }
                dt { "Range" }
                dd data-n="settings of the backfill" {
                    (words::counted(run.options.days_back.into(), "day")) ", at most "
                    (words::counted(run.options.max_prs.into(), "pull request"))
                    @if run.options.commits { ", with the dates of commits" }
                }
                dt { "Asked for" } dd { (words::stated(Some(&run.asked_at))) }
                dt { "Began" } dd { (words::stated(run.started_at.as_deref())) }
                dt { "Ended" } dd { (words::stated(run.finished_at.as_deref())) }
                dt { "Took" } dd { (took(&run)) }
                dt { "Fetched" }
                dd data-n=(UNLISTED) {
                    (words::counted(run.prs_done, "pull request")) ", "
                    (words::counted(run.reviews_synced, "review")) ", with "
                    (words::counted(run.github_requests, "request")) " to GitHub"
                }
                dt { "Complete since" }
                dd {
                    @match run.complete_since {
                        Some(since) => (words::time(since)),
                        None => (words::UNKNOWN),
                    }
                }
            }
            @if is_under_way && page.may(AccessRole::Member) { div .actions { (cancel_form(&page, &run)) } }
            h2 { "Failed pull requests" }
            (errors(&page, &run))
        }
    };
    let question = format!("How far is backfill #{}", run.id);
    Ok(page.show(Section::Repositories, &question, &body))
}

/// Returns the pull requests that a backfill could not fetch, with the reasons.
pub(super) fn errors(page: &PageRequest, run: &SyncRunItem) -> Markup {
    let n = run.errors.len();
    html! {
        @if n == 0 {
            p { "None." }
        } @else {
            p #count data-count=(n) {
                (words::counted(n as u64, "pull request")) " could not be fetched, the others were."
            }
            table {
                caption .quiet { "Pull requests that could not be fetched" }
                thead { tr { th scope="col" { "Pull request" } th scope="col" { "Why" } } }
                tbody {
                    @for failed in &run.errors {
                        tr id=(format!("failed-{}", failed.pr)) {
                            th scope="row" {
                                a href=(page.links.on_github(&run.repo, PrNumber(failed.pr))) { "#" (failed.pr) }
                            }
                            td { bdi { (one_line(&failed.error, MAX_ERROR)) } }
                        }
                    }
                }
            }
        }
    }
}

async fn cancel(page: PageRequest) -> PageResult {
    let id = id_of(&page)?;
    page.api.cancel_run(id).await?;
    Ok(page.redirect(&page.links.sync_run(id)))
}
