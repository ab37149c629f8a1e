//! One task: its pull requests, its history, and the forms that change it.

use maud::{Markup, html};
use tallyhook_core::domain::task::TaskStatus;
use tallyhook_core::github::types::PrNumber;
use tallyhook_core::text::one_line;

use super::layout::Section;
use super::page::{PageRequest, PageResult};
use super::repositories::NO_ACCESS;
use super::routes::PageRoute;
use super::tasks::{differs, heading, name, pull_requests, status_words};
use super::words;
use crate::api::{
    AccessRole, ApiError, ChangeTaskBody, HistoryItem, LinkRequest, OpenPullRequestBody, TaskCause,
    TaskDetail,
};

const MAX_NOTE: usize = 300;

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/tasks/{id}", AccessRole::Viewer, task),
        PageRoute::form("/tasks/{id}/move", AccessRole::Member, change_status),
        PageRoute::form("/tasks/{id}/link", AccessRole::Member, link),
        PageRoute::form("/tasks/{id}/unlink", AccessRole::Member, unlink),
        PageRoute::form("/tasks/{id}/pr", AccessRole::Member, open_pull_request),
    ]
}

async fn task(page: PageRequest) -> PageResult {
    let detail = page.api.task(page.part("id")).await?;
    let task = &detail.task;
    let body = html! {
        section #task data-live="task pr" {
            h2 { bdi { (one_line(&heading(task), 200)) } }
            dl .facts {
                dt { "Status" } dd { (status_words(task.status)) (differs(task)) }
                dt { "Repository" } dd { bdi { (task.repo.as_deref().unwrap_or(words::UNKNOWN)) } }
                dt { "Branch" } dd { bdi { (task.branch.as_deref().unwrap_or(words::UNKNOWN)) } }
                dt { "Working tree" } dd { (working_tree(&detail)) }
                dt { "Created" } dd { (words::stated(Some(&task.created_at))) }
            }
            h2 { "Pull requests" }
            @if task.prs.is_empty() { p { "None is linked, and none names its key." } }
            (pull_requests(&page, &task.prs))
            @if page.may(AccessRole::Member) { (forms(&page, &detail)) }
            h2 { "What happened" }
            (history(&detail.history))
        }
    };
    Ok(page.show(Section::Tasks, "Where does this story stand", &body))
}

/// Returns the working tree, and why it was kept, if the history has the reason.
fn working_tree(detail: &TaskDetail) -> Markup {
    let kept = detail
        .history
        .iter()
        .find(|item| item.note.is_some() && is_of_worktree(item.cause));
    html! {
        @match &detail.task.worktree {
            Some(path) => { code { (one_line(path, MAX_NOTE)) } },
            None => (words::UNKNOWN),
        }
        @if let Some(kept) = kept { ": " bdi { (one_line(kept.note.as_deref().unwrap_or_default(), MAX_NOTE)) } }
    }
}

const fn is_of_worktree(cause: TaskCause) -> bool {
    matches!(cause, TaskCause::WorktreeKept | TaskCause::WorktreeMissing)
}

const fn cause_words(cause: TaskCause) -> &'static str {
    match cause {
        TaskCause::Created => "it was created",
        TaskCause::ByHand => "a person changed it",
        TaskCause::PullRequest => "its pull request changed",
        TaskCause::PullRequestUnlinked => "its pull request is not linked any more",
        TaskCause::PullRequestMade => "its pull request was opened",
        TaskCause::PullRequestRefused => "its pull request could not be opened",
        TaskCause::WorktreeRemoved => "its working tree was removed",
        TaskCause::WorktreeKept => "its working tree was kept",
        TaskCause::WorktreeMissing => "its working tree is not on this machine",
    }
}

fn history(items: &[HistoryItem]) -> Markup {
    html! {
        table {
            caption .quiet { "Changes, the newest first" }
            thead { tr { th scope="col" { "Time" } th scope="col" { "Status" } th scope="col" { "Because" } } }
            tbody {
                @for item in items {
                    tr {
                        td { (words::time(item.at)) }
                        td {
                            @if let Some(old) = item.old_status.filter(|old| *old != item.new_status) { (status_words(old)) " → " }
                            (status_words(item.new_status))
                        }
                        td {
                            (cause_words(item.cause))
                            @if let Some(number) = item.pr_number { " #" (number) }
                            @if let Some(note) = &item.note { ": " bdi { (one_line(note, MAX_NOTE)) } }
                        }
                    }
                }
            }
        }
    }
}

fn forms(page: &PageRequest, detail: &TaskDetail) -> Markup {
    let task = &detail.task;
    let address = |action| format!("{}/{action}", page.links.task(&name(task)));
    let has_access = page.api.github.is_some();
    html! {
        div .actions {
            form method="post" action=(address("move")) {
                (page.csrf())
                label {
                    "Move to "
                    select name="status" {
                        @for status in TaskStatus::ALL {
                            option value=(status.as_str()) selected[*status == task.status] { (status_words(*status)) }
                        }
                    }
                }
                button { "Move" }
            }
            form method="post" action=(address("link")) {
                (page.csrf())
                label { "Repository " input name="repo" value=[task.repo.as_deref()] placeholder="acme-corp/api-server"; }
                label { "Number " input type="number" name="number" min="1" required; }
                button { "Link" }
            }
            form method="post" action=(address("pr")) {
                (page.csrf())
                button disabled[!has_access] title=[(!has_access).then_some(NO_ACCESS)] { "Open its pull request" }
                @if !has_access { span .quiet { "no access to GitHub" } }
            }
        }
        @for pr in &task.prs {
            form method="post" action=(address("unlink")) {
                (page.csrf())
                input type="hidden" name="repo" value=(pr.repo);
                input type="hidden" name="number" value=(pr.number);
                button .link { "Unlink " bdi { (pr.repo) } "#" (pr.number) }
            }
        }
    }
}

async fn change_status(page: PageRequest) -> PageResult {
    let text = page.field("status").unwrap_or_default();
    let status = TaskStatus::ALL
        .iter()
        .find(|status| status.as_str() == text);
    let status = status.ok_or_else(|| ApiError::BadRequest("`status` is not one".to_owned()))?;
    let change = ChangeTaskBody {
        status: Some(*status),
        ..ChangeTaskBody::default()
    };
    let id = page.part("id");
    page.api.change_task(id, change).await?;
    Ok(page.redirect(&page.links.task(id)))
}

fn number(page: &PageRequest) -> Result<i64, ApiError> {
    let number = page.field("number").and_then(|text| text.parse().ok());
    number.ok_or_else(|| ApiError::BadRequest("`number` must be that of a pull request".to_owned()))
}

async fn link(page: PageRequest) -> PageResult {
    let linked = LinkRequest {
        repo: page.field("repo").map(str::to_owned),
        number: number(&page)?,
    };
    let id = page.part("id");
    page.api.link_pull_request(id, linked).await?;
    Ok(page.redirect(&page.links.task(id)))
}

async fn unlink(page: PageRequest) -> PageResult {
    let (id, repo) = (page.part("id"), page.field("repo").unwrap_or_default());
    let number = PrNumber(number(&page)?);
    page.api.unlink_pull_request(id, repo, number).await?;
    Ok(page.redirect(&page.links.task(id)))
}

async fn open_pull_request(page: PageRequest) -> PageResult {
    let id = page.part("id");
    page.api
        .open_pull_request(id, OpenPullRequestBody::default())
        .await?;
    Ok(page.redirect(&page.links.task(id)))
}
