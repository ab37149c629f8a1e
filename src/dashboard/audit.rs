//! The records: administrative acts, and requests to GitHub.

use maud::{Markup, html};
use serde_json::Value;
use tallyhook_core::text::one_line;

use super::layout::{Section, block};
use super::page::{PageRequest, PageResult};
use super::repositories::next;
use super::routes::PageRoute;
use super::{filters, words};
use crate::api::{AccessRole, ApiError, AuditItem, GithubCallItem, RecordFormat, RecordQuery};

/// Characters of a text in a cell.
const CELL: usize = 160;
/// The reason why a number of a request has no list.
const MEASURED: &str = "measured at one request";

pub(super) fn routes() -> Vec<PageRoute> {
    let admin = AccessRole::Admin;
    vec![
        PageRoute::page("/audit", admin, acts),
        PageRoute::page("/audit.csv", admin, acts_file),
        PageRoute::page("/github-calls", admin, calls),
        PageRoute::page("/github-calls.csv", admin, calls_file),
    ]
}

/// Returns the query of the API for the parameters of the page.
fn query(page: &PageRequest) -> Result<RecordQuery, ApiError> {
    let names = ["from", "to", "actor", "action", "cursor"];
    let given = names.map(|name| (name, page.parameter(name)));
    let given = given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    RecordQuery::of_page(given)
}

fn fields(page: &PageRequest, path: &str, action: &str) -> Markup {
    let fields = html! {
        (filters::input(page, "actor", "Who", "text"))
        (filters::input(page, "action", action, "text"))
        (filters::input(page, "from", "From", "text"))
        (filters::input(page, "to", "before", "text"))
    };
    filters::form(page, path, &fields)
}

async fn acts(page: PageRequest) -> PageResult {
    let list = match query(&page) {
        Ok(query) => page.api.audit(&page.caller, &query).await,
        Err(error) => Err(error),
    };
    let body = html! {
        p {
            a href=(page.links.path("/github-calls")) { "Requests to GitHub" } " · "
            a href=(page.links.path("/audit.csv")) download { "As a file" }
        }
        (fields(&page, "/audit", "Action"))
        section #list {
            (block(list, |list| {
                let n = list.count.map_or(0, |count| count.n);
                html! {
                    p #count data-count=(n) { (words::counted(n, "act")) }
                    (acts_table(&list.items))
                    (next(&page, "/audit", list.next.as_deref()))
                }
            }))
        }
    };
    Ok(page.show(Section::Settings, "Who changed what", &body))
}

fn acts_table(acts: &[AuditItem]) -> Markup {
    html! {
        @if acts.is_empty() {
            p { "There is none: tokens that are made or revoked, repositories that are tracked, dead letters that are decided and the like are listed here." }
        } @else {
            table {
                caption .quiet { "Administrative acts, the newest first" }
                thead {
                    tr {
                        th scope="col" { "When" }
                        th scope="col" { "Who" }
                        th scope="col" { "Action" }
                        th scope="col" { "On" }
                        th scope="col" .hide { "With" }
                        th scope="col" .hide { "From" }
                        th scope="col" .hide { "Team" }
                    }
                }
                tbody { @for act in acts { (act_row(act)) } }
            }
        }
    }
}

fn act_row(act: &AuditItem) -> Markup {
    let target = act.target.name.as_deref().or(act.target.kind.as_deref());
    html! {
        tr id=(format!("act-{}", act.id)) {
            td { (words::stated(Some(&act.at))) }
            th scope="row" {
                bdi { (one_line(&act.actor.name, CELL)) }
                @if let Some(login) = &act.actor.id { " (" bdi { (one_line(login, CELL)) } ")" }
            }
            td { code { (one_line(&act.action, CELL)) } }
            td data-n="the name of a thing" { bdi { (one_line(target.unwrap_or_default(), CELL)) } }
            td .hide data-n="fields of the request" { (values(act.after.as_ref())) }
            td .hide data-n="a network" { (act.ip.as_deref().unwrap_or(words::UNKNOWN)) }
            td .hide { bdi { (act.team.as_deref().unwrap_or("installation")) } }
        }
    }
}

/// Returns the fields of an act.
fn values(fields: Option<&Value>) -> String {
    let fields = fields.and_then(Value::as_object).into_iter().flatten();
    let fields = fields.map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        value => format!("{name} {value}"),
    });
    one_line(&fields.collect::<Vec<_>>().join(", "), CELL)
}

async fn calls(page: PageRequest) -> PageResult {
    let list = match query(&page) {
        Ok(query) => page.api.github_calls(&page.caller, &query).await,
        Err(error) => Err(error),
    };
    let body = html! {
        p {
            a href=(page.links.path("/audit")) { "Administrative acts" } " · "
            a href=(page.links.path("/github-calls.csv")) download { "As a file" }
        }
        (fields(&page, "/github-calls", "Method, route or part of"))
        section #list {
            (block(list, |list| {
                let n = list.count.map_or(0, |count| count.n);
                html! {
                    p #count data-count=(n) { (words::counted(n, "request")) }
                    (calls_table(&list.items))
                    (next(&page, "/github-calls", list.next.as_deref()))
                }
            }))
        }
    };
    Ok(page.show(Section::Settings, "What was asked of GitHub", &body))
}

fn calls_table(calls: &[GithubCallItem]) -> Markup {
    html! {
        @if calls.is_empty() {
            p { "There is none: each request to GitHub is listed here." }
        } @else {
            table {
                caption .quiet { "Requests, the newest first" }
                thead {
                    tr {
                        th scope="col" { "When" }
                        th scope="col" { "For" }
                        th scope="col" { "Request" }
                        th scope="col" { "Answer" }
                        th scope="col" .num.hide { "Took" }
                        th scope="col" .num.hide { "Left" }
                        th scope="col" .hide { "Part of" }
                    }
                }
                tbody { @for call in calls { (call_row(call)) } }
            }
        }
    }
}

fn call_row(call: &GithubCallItem) -> Markup {
    let status = call.status.map(|status| status.to_string());
    let answer = status.as_deref().or(call.error.as_deref());
    html! {
        tr id=(format!("call-{}", call.id)) {
            td { (words::stated(Some(&call.at))) }
            td { bdi { (one_line(&call.actor, CELL)) } }
            th scope="row" data-n="a path" { code { (call.method) " " (one_line(&call.path, CELL)) } }
            td data-n="the status of one answer" {
                @match answer {
                    Some(answer) => { bdi { (one_line(answer, CELL)) } },
                    None => { span .chip.warn { "unknown" } },
                }
                @if call.attempt > 1 { " (attempt " (call.attempt) ")" }
            }
            td .num.hide data-n=(MEASURED) {
                @match call.duration_ms {
                    Some(took) => { (words::grouped(took)) " ms" },
                    None => { (words::UNKNOWN) },
                }
            }
            td .num.hide data-n=(MEASURED) {
                @match call.rate_remaining {
                    Some(left) => { (words::grouped(left)) },
                    None => { (words::UNKNOWN) },
                }
            }
            td .hide data-n="the name of a thing" { bdi { (call.correlation.as_deref().unwrap_or_default()) } }
        }
    }
}

async fn acts_file(page: PageRequest) -> PageResult {
    let filter = query(&page)?.acts_of(&page.caller);
    let file = page
        .api
        .export_record(page.request(), &page.caller, filter, RecordFormat::Csv);
    Ok(file.await?)
}

async fn calls_file(page: PageRequest) -> PageResult {
    let filter = query(&page)?.calls_of(&page.caller);
    let file = page
        .api
        .export_record(page.request(), &page.caller, filter, RecordFormat::Csv);
    Ok(file.await?)
}
