//! Dead letters: groups, the letters of one, and the decisions about them. Everything is a form.

use maud::{Markup, html};
use tallyhook_core::text::one_line;

use super::deliveries::{columns, count, older, row};
use super::layout::{Section, block};
use super::links::query_string;
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::{csv, delivery, letter_decisions, words};
use crate::api::{
    AccessRole, ApiError, DeadLetterGroup, DeadLetterKey, DeliveryItem, JSON_LINES, NO_REPOSITORY,
    Page, dead_letter_lines,
};

/// Characters of a reason.
const REASON: usize = 300;
/// The fields by which a group is chosen.
pub(super) const KEY: [&str; 3] = ["reason", "event", "repo"];

pub(super) fn routes() -> Vec<PageRoute> {
    let operator = AccessRole::Operator;
    vec![
        PageRoute::page("/dead-letters", operator, list),
        PageRoute::page("/dead-letters.csv", operator, file),
        PageRoute::page("/dead-letters/export", operator, export),
        PageRoute::page("/dead-letters/try", operator, letter_decisions::ask_to_try),
        PageRoute::form("/dead-letters/try", operator, letter_decisions::try_again),
        PageRoute::page(
            "/dead-letters/discard",
            operator,
            letter_decisions::ask_to_discard,
        ),
        PageRoute::form("/dead-letters/discard", operator, letter_decisions::discard),
        PageRoute::page("/dead-letters/{id}", operator, delivery::show),
    ]
}

/// Returns the query of the API for the parameters of this page.
fn query(page: &PageRequest) -> String {
    let given = page
        .parameters()
        .filter(|(name, _)| KEY.contains(name) || *name == "cursor");
    query_string(given.chain([("count", "true"), ("per_page", "50")]))
}

async fn list(page: PageRequest) -> PageResult {
    let listed = page.reads().dead_letters(&query(&page)).await;
    let key = letter_decisions::key_of(&page);
    let is_group = key.is_some();
    let groups = match &key {
        None => Some(page.reads().dead_letter_groups().await),
        Some(_) => None,
    };
    let last = match &listed {
        Ok(listed) if listed.items.is_empty() => Some(last_decision(&page).await),
        _ => None,
    };
    let body = html! {
        section #result data-live="inbox" { (letter_decisions::results(&page).await) }
        @if let Some(groups) = groups {
            section #groups data-live="inbox" {
                (block(groups, |groups| group_table(&page, &groups)))
            }
        }
        @if let Some(key) = &key { (group_head(&page, key)) }
        section #letters data-live="inbox" data-rows {
            (block(listed, |listed| letters(&page, &listed, is_group, last)))
        }
    };
    let question = "What could not be applied, and what to do";
    Ok(page.show(Section::DeadLetters, question, &body))
}

async fn file(page: PageRequest) -> PageResult {
    let reads = page.reads();
    let read = async |query: String| reads.dead_letters(&query).await;
    csv::list(
        &page,
        "dead-letters",
        "/api/dead-letters",
        &query(&page),
        read,
    )
    .await
}

/// Answers with dead letters as `tallyhook replay` reads them.
async fn export(page: PageRequest) -> PageResult {
    let key = page.parameters().filter(|(name, _)| KEY.contains(name));
    let lines = dead_letter_lines(&page.api.instance().store, &query_string(key)).await?;
    Ok(delivery::as_file("dead-letters.jsonl", JSON_LINES).streaming(lines))
}

/// Returns the dead letter that was discarded last.
async fn last_decision(page: &PageRequest) -> Result<Option<DeliveryItem>, ApiError> {
    let discarded = page.reads().deliveries("discarded=true&per_page=1").await?;
    Ok(discarded.items.into_iter().next())
}

/// Returns the parameters that choose a group.
fn key(group: &DeadLetterGroup) -> DeadLetterKey {
    let repo = group.repo.as_deref().unwrap_or(NO_REPOSITORY);
    DeadLetterKey {
        reason: Some(group.reason.clone()),
        event: Some(group.event.clone()),
        repo: Some(repo.to_owned()),
    }
}

fn group_table(page: &PageRequest, groups: &Page<DeadLetterGroup>) -> Markup {
    if groups.items.is_empty() {
        return html! {};
    }
    html! {
        h2 { "Groups" }
        table {
            caption { "Dead letters that died of the same, the largest group first. They stay, with their payloads, until you decide." }
            thead {
                tr {
                    th scope="col" { "Reason" }
                    th .hide scope="col" { "Event" }
                    th .hide scope="col" { "Repository" }
                    th .num scope="col" { "Letters" }
                    th .hide scope="col" { "First and last" }
                    th scope="col" { "Do" }
                }
            }
            tbody {
                @for group in &groups.items {
                    @let key = key(group);
                    tr {
                        th scope="row" { bdi { (one_line(&group.reason, REASON)) } }
                        td .hide { bdi { (one_line(&group.event, 60)) } }
                        td .hide { bdi { (group.repo.as_deref().map_or(words::UNKNOWN.into(), |repo| one_line(repo, 100))) } }
                        td .num {
                            a href=(page.links.to("/dead-letters", pairs(&key))) data-count {
                                (words::grouped(group.deliveries))
                            }
                        }
                        td .hide {
                            (words::time(group.first_received_at.into()))
                            @if group.deliveries > 1 { " to " (words::time(group.last_received_at.into())) }
                        }
                        td { div .actions { (group_actions(page, &key, group.deliveries > 1)) } }
                    }
                }
            }
        }
    }
}

/// Returns the fields of a group as parameters of an address.
pub(super) fn pairs(key: &DeadLetterKey) -> [(&'static str, &str); 3] {
    let values = [&key.reason, &key.event, &key.repo];
    let mut pairs = KEY.map(|name| (name, ""));
    for (pair, value) in pairs.iter_mut().zip(values) {
        pair.1 = value.as_deref().unwrap_or_default();
    }
    pairs
}

/// Shows the hidden fields of a group.
pub(super) fn key_fields(key: &DeadLetterKey) -> Markup {
    html! {
        @for (name, value) in pairs(key) {
            @if !value.is_empty() { input type="hidden" name=(name) value=(value); }
        }
    }
}

/// Shows the decisions about a group, which has `several` letters or one.
fn group_actions(page: &PageRequest, key: &DeadLetterKey, several: bool) -> Markup {
    let links = &page.links;
    html! {
        form method="post" action=(links.path("/dead-letters/try")) {
            (page.csrf())
            (key_fields(key))
            input type="hidden" name="one" value="true";
            button { @if several { "Try one first" } @else { "Try again" } }
        }
        @if several {
            a .button href=(links.to("/dead-letters/try", pairs(key))) { "Try all ..." }
        }
        a .button href=(links.to("/dead-letters/export", pairs(key))) { "Export" }
        a .button href=(links.to("/dead-letters/discard", pairs(key))) { "Discard ..." }
    }
}

fn group_head(page: &PageRequest, key: &DeadLetterKey) -> Markup {
    html! {
        dl .facts {
            @for (name, value) in pairs(key) {
                @if !value.is_empty() {
                    dt { (name) }
                    dd { bdi { (one_line(value, REASON)) } }
                }
            }
        }
        div .actions {
            (group_actions(page, key, true))
            a href=(page.links.path("/dead-letters")) { "All dead letters" }
        }
    }
}

/// Shows the letters, of which some can be chosen.
fn letters(
    page: &PageRequest,
    listed: &Page<DeliveryItem>,
    is_group: bool,
    last: Option<Result<Option<DeliveryItem>, ApiError>>,
) -> Markup {
    if let Some(last) = last {
        return html! {
            p #count data-count="0" { "No dead letter" @if is_group { " of this group is left" } "." }
            (block(last, |last| decision(page, last.as_ref())))
        };
    }
    let all = html! { th .hide scope="col" { "Choose" } };
    html! {
        h2 { "Letters" }
        (count(listed, "dead letter", "dead letters"))
        form method="get" action=(page.links.path("/dead-letters/try")) {
            table {
                caption .quiet {
                    "The newest first. "
                    a href=(page.links.to("/dead-letters.csv", page.parameters())) { "As CSV" }
                }
                (columns(&all))
                tbody {
                    @for item in &listed.items {
                        @let choice = html! {
                            td .hide {
                                input type="checkbox" name="id" value=(item.id)
                                    aria-label={ "Choose " (one_line(&item.guid, 40)) };
                            }
                        };
                        (row(page, item, &choice))
                    }
                }
            }
            p .actions {
                button { "Try the chosen ones ..." }
                button formaction=(page.links.path("/dead-letters/discard")) { "Discard the chosen ones ..." }
            }
        }
        (older(page, listed))
    }
}

/// Shows the last decision, where there is nothing to decide.
fn decision(page: &PageRequest, last: Option<&DeliveryItem>) -> Markup {
    let Some(last) = last else {
        return html! {
            p { "None was discarded in the time that deliveries are kept. One that cannot be applied appears here, with its payload." }
        };
    };
    html! {
        p {
            "The last one that was discarded: "
            a href=(page.links.path(&format!("/deliveries/{}", last.id))) {
                "that of " (words::stated(Some(&last.received_at)))
            }
            ", on " (words::stated(last.finished_at.as_deref())) ". "
            bdi { (one_line(last.reason.as_deref().unwrap_or_default(), REASON)) }
            ". " a href=(page.links.to("/deliveries", [("discarded", "true")])) { "All of them" }
        }
    }
}
