//! The tracked repositories: what is complete, what is missing and why.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use maud::{Markup, html};
use tallyhook_core::text::one_line;

use super::layout::{Section, block};
use super::links::query_string;
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::{csv, filters, words};
use crate::api::{
    AccessRole, AddedRepository, ApiError, BackfillStats, Page, RepositoryItem, RunState,
    SyncRunItem, SyncStatus, TrackRequest,
};
use crate::sync::webhook::{self, WebhookState};

/// Characters of a reason that a row shows.
const MAX_REASON: usize = 160;
/// The sentence of a button that needs GitHub.
pub(super) const NO_ACCESS: &str = "There is no access to GitHub: set GITHUB_TOKEN, or \
    GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY.";
pub(super) const MISSED: &str = "counted since it is tracked, while deliveries are deleted after a \
    time";

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/repos", AccessRole::Viewer, repositories),
        PageRoute::page("/repos.csv", AccessRole::Viewer, file),
        PageRoute::form("/repos", AccessRole::Admin, track),
    ]
}

fn query(page: &PageRequest) -> String {
    let names = ["repo", "state", "incomplete", "cursor"];
    query_string(names.map(|name| (name, page.parameter(name).unwrap_or_default())))
}

async fn file(page: PageRequest) -> PageResult {
    let read = async |query: String| page.api.repositories(&query).await;
    csv::list(&page, "repositories", "/api/repos", &query(&page), read).await
}

async fn repositories(page: PageRequest) -> PageResult {
    let counted = query_string([("count", "true")]);
    let list = page
        .api
        .repositories(&format!("{}&{counted}", query(&page)))
        .await;
    let runs = page
        .reads()
        .sync_runs("state=queued,running&per_page=100")
        .await;
    let stats = page.api.sync_stats().await;
    let completeness = completeness(&page).await;
    let body = html! {
        section #completeness data-live="repo sync_run" { (block(completeness, |markup| markup)) }
        (filter_form(&page))
        section #list data-live="repo sync_run" {
            (block(list, |list| table(&page, &list, &runs_by_repository(runs.ok()))))
        }
        section #backfills data-live="sync_run" {
            (block(stats, |stats| backfills(&page, &stats.backfills)))
        }
        (track_form(&page))
    };
    Ok(page.show(Section::Repositories, "Is my data complete", &body))
}

/// Returns the number of repositories of which something is missing.
async fn completeness(page: &PageRequest) -> Result<Markup, ApiError> {
    let count = async |query: &str| {
        let list = page.api.repositories(query).await?;
        Ok::<_, ApiError>(list.count.map_or(0, |count| count.n))
    };
    let all = count("count=true&per_page=1").await?;
    let missing = count("incomplete=true&count=true&per_page=1").await?;
    let (every, incomplete) = (
        page.links.path("/repos"),
        page.links.to("/repos", [("incomplete", "true")]),
    );
    Ok(match (all, missing) {
        (0, _) => html! {
            p { "No repository is tracked yet. One is tracked from its first webhook on, or by the \
                form below." }
        },
        (_, 0) => html! {
            p .banner.good {
                "Nothing is missing of the tracked ones among "
                a href=(every) data-count { (words::grouped(all)) } " known."
            }
        },
        _ => html! {
            p .banner {
                "Of " a href=(every) data-count { (words::grouped(all)) } " known, "
                a href=(incomplete) data-count { (words::grouped(missing)) }
                @if missing == 1 { " is" } @else { " are" }
                " not complete: numbers may be wrong for the times that are named."
            }
        },
    })
}

fn filter_form(page: &PageRequest) -> Markup {
    let states = [
        ("", "all"),
        ("pending", "pending"),
        ("syncing", "syncing"),
        ("synced", "synced"),
        ("error", "error"),
    ];
    let fields = html! {
        (filters::select(page, "state", "State", &states))
        (filters::check(page, "incomplete", "not complete"))
    };
    filters::form(page, "/repos", &fields)
}

/// Returns the backfills that are under way, by repository.
fn runs_by_repository(runs: Option<Page<SyncRunItem>>) -> BTreeMap<String, SyncRunItem> {
    let runs = runs.into_iter().flat_map(|runs| runs.items);
    runs.map(|run| (run.repo.clone(), run)).collect()
}

fn table(
    page: &PageRequest,
    list: &Page<RepositoryItem>,
    runs: &BTreeMap<String, SyncRunItem>,
) -> Markup {
    let n = list.count.map_or(0, |count| count.n);
    html! {
        p {
            span #count data-count=(n) { (words::grouped(n)) @if n == 1 { " repository" } @else { " repositories" } }
            " · " a href=(page.links.to("/repos.csv", page.parameters())) { "CSV" }
        }
        @if list.items.is_empty() {
            p { "No repository matches. " a href=(page.links.path("/repos")) { "Show all" } }
        } @else {
            table {
                caption .quiet { "Repositories by name" }
                thead {
                    tr {
                        th scope="col" { "Repository" }
                        th scope="col" { "State" }
                        th scope="col" { "Complete since" }
                        th scope="col" { "Missing, and why" }
                        th scope="col" .hide { "Last webhook" }
                        th scope="col" .num.hide { "Missed" }
                        th scope="col" { "Do" }
                    }
                }
                tbody {
                    @for item in &list.items { (row(page, item, runs.get(&item.repo))) }
                }
            }
        }
        (next(page, "/repos", list.next.as_deref()))
    }
}

/// Returns the link to the next page of a list.
pub(super) fn next(page: &PageRequest, path: &str, cursor: Option<&str>) -> Markup {
    let kept = page.parameters().filter(|(name, _)| *name != "cursor");
    html! {
        @if let Some(cursor) = cursor {
            p .more {
                a rel="next" href=(page.links.to(path, kept.chain([("cursor", cursor)]))) { "More" }
            }
        }
    }
}

fn row(page: &PageRequest, item: &RepositoryItem, run: Option<&SyncRunItem>) -> Markup {
    html! {
        tr id=(format!("repo-{}", item.repo)) {
            th scope="row" { a href=(page.links.repository(&item.repo)) { bdi { (item.repo) } } }
            td { (state(page, item, run)) }
            td { (words::time(item.completeness.since)) }
            td { (missing(page, item)) }
            td .hide {
                (words::stated_since(item.last_delivery_at.as_deref(), page.now))
                @if item.is_quiet { " " span .chip.warn { "quiet" } }
            }
            td .num.hide { (missed(page, item)) }
            td { (actions(page, item, run)) }
        }
    }
}

/// Returns the state of the synchronisation, with its progress or error.
pub(super) fn state(
    page: &PageRequest,
    item: &RepositoryItem,
    run: Option<&SyncRunItem>,
) -> Markup {
    if !item.tracked {
        return html! { span .chip { "not tracked" } };
    }
    if let Some(run) = run {
        return html! {
            span .chip { @if run.state == RunState::Queued { "pending" } @else { "syncing" } }
            " " (progress(page, run))
        };
    }
    html! {
        @match item.sync_status {
            SyncStatus::Pending => { span .chip { "pending" } },
            SyncStatus::Syncing => { span .chip { "syncing" } },
            SyncStatus::Synced => {
                span .chip { "synced" } " "
                (words::stated_since(item.last_sync_at.as_deref(), page.now)) " ago"
            },
            SyncStatus::Error => {
                span .chip.warn { "error" } " "
                bdi { (one_line(item.last_error.as_deref().unwrap_or_default(), MAX_REASON)) }
            },
        }
    }
}

/// Returns the progress of a backfill that is under way, with a link to its page.
pub(super) fn progress(page: &PageRequest, run: &SyncRunItem) -> Markup {
    html! {
        @match run.prs_total {
            Some(total) => {
                progress max=(total.max(1)) value=(run.prs_done.min(total))
                    aria-label="Progress of the backfill" {}
                " " span data-n="progress of a backfill" {
                    (words::grouped(run.prs_done)) " of " (words::grouped(total))
                }
            },
            None => { "waits for its turn" },
        }
        @if let Some(seconds) = run.eta_seconds {
            ", " (words::span(i64::try_from(seconds).unwrap_or(i64::MAX))) " left"
        }
        ", " span data-n="cost of a backfill" { (words::counted(run.github_requests, "request")) }
        " · " a href=(page.links.sync_run(run.id)) { "backfill" }
    }
}

/// Returns the first missing part, and how many there are.
fn missing(page: &PageRequest, item: &RepositoryItem) -> Markup {
    let parts = &item.completeness.missing;
    html! {
        @match parts.first() {
            None => { "nothing" },
            Some(first) => {
                bdi { (one_line(&first.what, MAX_REASON)) } ": " bdi { (one_line(&first.why, MAX_REASON)) }
                @if parts.len() > 1 {
                    " " a href=(format!("{}#missing", page.links.repository(&item.repo))) { "and more" }
                }
            },
        }
    }
}

/// Returns the changes that the poller found, with a link for those who may see deliveries.
pub(super) fn missed(page: &PageRequest, item: &RepositoryItem) -> Markup {
    let found = [("repo", item.repo.as_str()), ("source", "poller")];
    html! {
        span data-n=(MISSED) { (words::grouped(item.missed_by_webhook)) }
        @if item.missed_by_webhook > 0 && page.may(AccessRole::Operator) {
            " " a href=(page.links.to("/deliveries", found)) { "which" }
        }
    }
}

/// Returns the buttons of a repository, as far as the caller may use them.
pub(super) fn actions(
    page: &PageRequest,
    item: &RepositoryItem,
    run: Option<&SyncRunItem>,
) -> Markup {
    let links = &page.links;
    html! {
        @if !item.tracked {
            @if page.may(AccessRole::Admin) {
                form method="post" action=(links.path("/repos")) {
                    (page.csrf())
                    input type="hidden" name="repo" value=(item.repo);
                    button { "Track" }
                }
            }
        } @else if page.may(AccessRole::Member) {
            @match run {
                Some(run) => (cancel_form(page, run)),
                None => (sync_form(page, &item.repo)),
            }
        }
    }
}

pub(super) fn cancel_form(page: &PageRequest, run: &SyncRunItem) -> Markup {
    html! {
        form method="post" action=(format!("{}/cancel", page.links.sync_run(run.id))) {
            (page.csrf())
            button { "Cancel" }
        }
    }
}

/// Returns the form that starts a backfill; without access to GitHub it says why it cannot.
fn sync_form(page: &PageRequest, repo: &str) -> Markup {
    let has_access = page.api.github.is_some();
    html! {
        form method="post" action=(page.links.of_repository(repo, "sync")) {
            (page.csrf())
            button disabled[!has_access] title=[(!has_access).then_some(NO_ACCESS)] { "Sync now" }
            @if has_access {
                details {
                    summary { "How far back" }
                    label { "Days " input type="number" name="days_back" min="1" placeholder="as set"; }
                    label { "At most " input type="number" name="max_prs" min="1" placeholder="as set"; }
                    label { input type="checkbox" name="commits" value="true"; "dates of commits" }
                }
            } @else {
                span .quiet { "no access to GitHub" }
            }
        }
    }
}

/// Returns the backfills that succeeded of those attempted, and their pace.
pub(super) fn backfills(page: &PageRequest, stats: &BackfillStats) -> Markup {
    let list = |states| page.links.to("/sync-runs", [("state", states)]);
    html! {
        h2 { "Backfills" }
        @if stats.attempted == 0 {
            p { "None has ended yet. " a href=(page.links.path("/sync-runs")) { "All backfills" } }
        } @else {
            p {
                a href=(list("done")) data-count { (words::grouped(stats.succeeded)) } " of "
                a href=(list("done,failed")) data-count { (words::grouped(stats.attempted)) }
                " attempted succeeded: " (share(stats.succeeded, stats.attempted))
                ", the goal is " (percent(stats.goal)) "."
                @if let Some(seconds) = stats.seconds_per_100_pull_requests {
                    " 100 pull requests took " (format!("{seconds:.1} s")) " on average."
                }
            }
            p .quiet { "Of each repository the last twenty count; cancelled ones do not." }
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of backfills are far below 2^53"
)]
fn share(part: u64, whole: u64) -> String {
    percent(part as f64 / whole.max(1) as f64)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Returns the form that tracks a repository.
fn track_form(page: &PageRequest) -> Markup {
    let public = page.api.public_url.as_ref();
    let address = public.map(|url| format!("{}{}{}", url.origin(), url.path(), webhook::ENDPOINT));
    html! {
        @if page.may(AccessRole::Admin) {
            h2 { "Track a repository" }
            form .filters method="post" action=(page.links.path("/repos")) {
                (page.csrf())
                label { "Owner and name" input name="repo" required placeholder="acme-corp/api-server"; }
                label {
                    "Create its webhook at this address (left out: none is created)"
                    input type="url" name="webhook_url" size="50" value=[address]
                        placeholder="https://hooks.example.com/webhooks/github";
                }
                button { "Track" }
            }
            @if page.api.github.is_none() {
                p .quiet {
                    (NO_ACCESS) " A repository of which webhooks arrived is tracked without it."
                }
            }
        }
    }
}

async fn track(page: PageRequest) -> PageResult {
    let asked = TrackRequest {
        repo: page.field("repo").unwrap_or_default().trim().to_owned(),
        webhook_url: page.field("webhook_url").map(str::to_owned),
    };
    let (_, added) = page.api.track(asked).await?;
    let is_manual = |webhook: &&webhook::RegisteredWebhook| webhook.state == WebhookState::Manual;
    if added.webhook.as_ref().filter(is_manual).is_some() {
        return Ok(by_hand(&page, &added));
    }
    Ok(page.redirect(&page.links.repository(&added.repository.repo)))
}

/// Returns the page with what a person has to enter at GitHub.
fn by_hand(page: &PageRequest, added: &AddedRepository) -> HttpResponse {
    let repo = &added.repository.repo;
    let body = html! {
        p { bdi { (repo) } " is tracked. Its webhook could not be created by this server." }
        @if let Some(webhook) = &added.webhook {
            @if let Some(why) = &webhook.message { p { bdi { (one_line(why, 300)) } } }
            p { "Enter this at GitHub, in the settings of the repository, under Webhooks:" }
            dl .facts {
                dt { "Payload URL" } dd { code { (webhook.url) } }
                dt { "Content type" } dd { code { (webhook.content_type) } }
                dt { "Secret" } dd { "the first one of " code { "GITHUB_WEBHOOK_SECRET" } }
                dt { "Events" } dd { code { (webhook.events.join(", ")) } }
            }
        }
        p { a href=(page.links.repository(repo)) { "Go on" } }
    };
    page.show(Section::Repositories, "Enter the webhook at GitHub", &body)
}
