//! Tasks by status, and one of them with its history.

use maud::{Markup, html};
use tallyhook_core::domain::task::TaskStatus;
use tallyhook_core::domain::timings::PullRequestState;
use tallyhook_core::text::one_line;

use super::layout::{Section, block};
use super::links::query_string;
use super::page::{PageRequest, PageResult};
use super::repositories::next;
use super::routes::PageRoute;
use super::{filters, words};
use crate::api::{AccessRole, CreateTaskBody, LinkedPullRequest, Page, TaskItem};

/// Cards of a column; the others are on the page of its status.
const CARDS: &str = "20";
const MAX_TITLE: usize = 120;

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/tasks", AccessRole::Viewer, tasks),
        PageRoute::form("/tasks", AccessRole::Member, create),
    ]
}

/// Returns the words of a status.
pub(super) const fn status_words(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Todo => "to do",
        TaskStatus::Implementing => "implementing",
        TaskStatus::CodeReviewing => "code reviewing",
        TaskStatus::Done => "done",
        TaskStatus::Cancelled => "cancelled",
    }
}

fn query(page: &PageRequest, status: &str) -> String {
    let value = |name| page.parameter(name).unwrap_or_default();
    query_string([
        ("status", status),
        ("repo", value("repo")),
        ("q", value("q")),
        ("count", "true"),
    ])
}

async fn tasks(page: PageRequest) -> PageResult {
    let statuses = TaskStatus::ALL.iter();
    let statuses = statuses.map(|status| (status.as_str(), status_words(*status)));
    let statuses: Vec<_> = [("", "all")].into_iter().chain(statuses).collect();
    let fields = html! {
        (filters::input(&page, "q", "Title or key", "search"))
        (filters::input(&page, "repo", "Repository", "text"))
        (filters::select(&page, "status", "Status", &statuses))
    };
    let board = match page.parameter("status") {
        Some(status) => one_status(&page, status).await,
        None => columns(&page).await,
    };
    let body = html! {
        (filters::form(&page, "/tasks", &fields))
        section #board data-live="task pr" { (board) }
        (create_form(&page))
    };
    Ok(page.show(Section::Tasks, "Where do stories stand", &body))
}

/// Returns the tasks of each status as a list.
async fn columns(page: &PageRequest) -> Markup {
    let mut lists = Vec::new();
    for status in TaskStatus::ALL {
        let query = format!("{}&per_page={CARDS}", query(page, status.as_str()));
        lists.push((*status, page.api.tasks(&query).await));
    }
    html! {
        div .columns {
            @for (status, list) in lists {
                section {
                    (block(list, |list| column(page, status, &list)))
                }
            }
        }
    }
}

fn column(page: &PageRequest, status: TaskStatus, list: &Page<TaskItem>) -> Markup {
    let n = list.count.map_or(0, |count| count.n);
    let kept = page.parameters().filter(|(name, _)| *name != "status");
    let address = page
        .links
        .to("/tasks", kept.chain([("status", status.as_str())]));
    html! {
        h2 { (status_words(status)) " " a href=(address) data-count { (words::grouped(n)) } }
        @if list.items.is_empty() { p .quiet { "None." } }
        ul .cards {
            @for task in &list.items { li .card id=(format!("task-{}", task.id)) { (card(page, task)) } }
        }
        @if list.next.is_some() { p { a href=(address) { "All of them" } } }
    }
}

fn card(page: &PageRequest, task: &TaskItem) -> Markup {
    html! {
        h3 { a href=(page.links.task(&name(task))) { bdi { (one_line(&heading(task), MAX_TITLE)) } } }
        (differs(task))
        (pull_requests(page, &task.prs))
    }
}

/// Returns the key of a task, or else its id.
pub(super) fn name(task: &TaskItem) -> String {
    task.key.clone().unwrap_or_else(|| task.id.to_string())
}

pub(super) fn heading(task: &TaskItem) -> String {
    match &task.key {
        Some(key) => format!("{key} {}", task.title),
        None => task.title.clone(),
    }
}

/// Returns the mark of a task that a person moved elsewhere than its pull requests.
pub(super) fn differs(task: &TaskItem) -> Markup {
    html! {
        @if let Some(differs) = &task.differs {
            p {
                span .chip.warn { "differs" } " by #" (differs.pr_number) " it would be "
                (status_words(differs.would_be)) "."
            }
        }
    }
}

/// Returns pull requests with what they wait for.
pub(super) fn pull_requests(page: &PageRequest, prs: &[LinkedPullRequest]) -> Markup {
    html! {
        @if !prs.is_empty() {
            ul {
                @for pr in prs {
                    li {
                        a href=(page.links.pull_request(&pr.repo, pr.number)) { bdi { (pr.repo) } "#" (pr.number) }
                        " " span .chip {
                            @match pr.state {
                                PullRequestState::Open => "open",
                                PullRequestState::Merged => "merged",
                                PullRequestState::Closed => "closed",
                            }
                        }
                        @if let Some(waiting) = &pr.waiting {
                            " waits " (words::since(waiting.since, page.now)) ": " bdi { (one_line(&waiting.because, MAX_TITLE)) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the tasks of one status as a table.
async fn one_status(page: &PageRequest, status: &str) -> Markup {
    let cursor = query_string([("cursor", page.parameter("cursor").unwrap_or_default())]);
    let list = page
        .api
        .tasks(&format!("{}&{cursor}", query(page, status)))
        .await;
    block(list, |list| {
        let n = list.count.map_or(0, |count| count.n);
        html! {
            p #count data-count=(n) { (words::counted(n, "task")) }
            @if list.items.is_empty() {
                p { "No task matches. " a href=(page.links.path("/tasks")) { "Show all" } }
            } @else {
                table {
                    caption .quiet { "Tasks, the newest first" }
                    thead {
                        tr {
                            th scope="col" { "Task" } th scope="col" { "Status" }
                            th scope="col" .hide { "Changed" } th scope="col" { "Pull requests" }
                        }
                    }
                    tbody {
                        @for task in &list.items {
                            tr id=(format!("task-{}", task.id)) {
                                th scope="row" {
                                    a href=(page.links.task(&name(task))) { bdi { (one_line(&heading(task), MAX_TITLE)) } }
                                }
                                td { (status_words(task.status)) (differs(task)) }
                                td .hide { (words::stated(Some(&task.updated_at))) }
                                td { (pull_requests(page, &task.prs)) }
                            }
                        }
                    }
                }
            }
            (next(page, "/tasks", list.next.as_deref()))
        }
    })
}

fn create_form(page: &PageRequest) -> Markup {
    html! {
        @if page.may(AccessRole::Member) {
            h2 { "Create a task" }
            form .filters method="post" action=(page.links.path("/tasks")) {
                (page.csrf())
                label { "Title" input name="title" required maxlength="500" size="40"; }
                label { "Key, such as PROJ-7" input name="key" maxlength="64"; }
                label { "Repository" input name="repo" placeholder="acme-corp/api-server"; }
                label { "Branch" input name="branch"; }
                button { "Create" }
            }
            p .quiet { "It is linked at once to the pull requests that name its key." }
        }
    }
}

async fn create(page: PageRequest) -> PageResult {
    let text = |name: &str| page.field(name).map(str::to_owned);
    let made = CreateTaskBody {
        key: text("key"),
        title: text("title").unwrap_or_default(),
        status: None,
        repo: text("repo"),
        branch: text("branch"),
        worktree: None,
    };
    let created = page.api.create_task(made).await?;
    Ok(page.redirect(&page.links.task(&name(&created.task))))
}
