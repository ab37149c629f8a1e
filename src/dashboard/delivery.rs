//! One delivery: what came, as text, and what became of it.

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_DISPOSITION;
use chrono::TimeDelta;
use maud::{Markup, html};
use tallyhook_core::text::one_line;

use super::deliveries::{self, event, state, subject, took};
use super::layout::{Section, block};
use super::page::{PageRequest, PageResult};
use super::words;
use crate::api::{CheckedOutcome, DeliveryCheck, DeliveryDetail, JSON_LINES, delivery_line};

/// Bytes of a payload on its page; the rest is in the file.
const SHOWN: usize = 64 * 1024;
/// The deepest level that is indented.
const MAX_INDENT: usize = 32;
/// Characters of an error.
const ERROR: usize = 2_000;

pub(super) async fn show(page: PageRequest) -> PageResult {
    let id = deliveries::id(&page)?;
    let detail = page.reads().delivery(id).await?;
    let text = match (&detail.payload, &detail.payload_url) {
        (Some(payload), _) => Ok(Some(payload.get().to_owned())),
        (None, Some(_)) => page.reads().delivery_payload(id).await.map(Some),
        (None, None) => Ok(None),
    };
    let is_stored = matches!(text, Ok(Some(_)));
    let check = match page.parameter("check") {
        Some(_) if is_stored => Some(page.reads().checked_delivery(id).await),
        _ => None,
    };
    let is_dead = detail.delivery.state.as_str() == "dead";
    let section = if is_dead {
        Section::DeadLetters
    } else {
        Section::Deliveries
    };
    let body = html! {
        section #delivery data-live="inbox" {
            (received(&page, &detail))
            (actions(&page, &detail, is_stored))
            @if let Some(check) = check { (block(check, |check| effect(&check))) }
            (handled(&page, &detail))
        }
        h2 { "What came" }
        (block(text, |text| payload_text(&page, &detail, text.as_deref())))
    };
    Ok(page.show(
        section,
        "What one delivery was, and what became of it",
        &body,
    ))
}

fn received(page: &PageRequest, detail: &DeliveryDetail) -> Markup {
    let item = &detail.delivery;
    html! {
        dl .facts {
            dt { "Event" } dd { (event(item)) }
            dt { "About" } dd { (subject(page, item)) }
            dt { "GUID" } dd { code { (one_line(&item.guid, 100)) } }
            dt { "Id" } dd { code { (item.id) } }
            dt { "Brought by" } dd { (item.source.as_str()) }
            dt { "Received" } dd { (words::stated(Some(&item.received_at))) }
            dt { "Size" } dd { (words::bytes(item.body_bytes)) }
        }
    }
}

fn actions(page: &PageRequest, detail: &DeliveryDetail, is_stored: bool) -> Markup {
    let id = detail.delivery.id.to_string();
    let own = page.links.path(&format!("/deliveries/{id}"));
    html! {
        div .actions {
            @if detail.delivery.state.as_str() == "dead" {
                form method="post" action=(page.links.path("/dead-letters/try")) {
                    (page.csrf())
                    input type="hidden" name="ids" value=(id);
                    button .primary { "Try again" }
                }
                a .button href=(page.links.to("/dead-letters/discard", [("ids", id.as_str())])) { "Discard ..." }
            }
            @if is_stored {
                a .button href={ (own) "?check=now" } { "Would it be applied now?" }
                a .button href={ (own) "/payload" } { "Download the payload" }
                @if is_webhook(detail) {
                    a .button href={ (own) "/fixture" } { "Download as a fixture" }
                }
            }
        }
    }
}

/// Returns true for what `replay` can post again.
fn is_webhook(detail: &DeliveryDetail) -> bool {
    detail.delivery.event != tallyhook_core::event::SNAPSHOT
}

/// Shows the effect that the delivery would have now.
fn effect(check: &DeliveryCheck) -> Markup {
    let (is_good, sentence) = match check.would {
        _ if !check.decodes => (false, "No: this version cannot read it."),
        Some(CheckedOutcome::Unchanged) => (
            true,
            "Yes, and it would change nothing: all of it is known.",
        ),
        Some(CheckedOutcome::Changed) => (true, "Yes, and it would change what is known."),
        Some(CheckedOutcome::Stale) => (true, "Yes, but it is older than what is known."),
        Some(CheckedOutcome::Ignored) | None => (false, "It would be ignored."),
    };
    html! {
        div .banner.good[is_good] role="status" {
            p { strong { "Would it be applied now? " } (sentence) " Nothing was written." }
            @if let Some(error) = &check.error { p { bdi { (one_line(error, ERROR)) } } }
            @if !check.fields.is_empty() { p { "It would change: " code { (check.fields.join(", ")) } } }
        }
    }
}

/// Shows the state, and each failed attempt.
fn handled(page: &PageRequest, detail: &DeliveryDetail) -> Markup {
    let item = &detail.delivery;
    html! {
        h2 { "What we did" }
        dl .facts {
            dt { "State" } dd {
                (state(item))
                @if let Some(reason) = &item.reason { " " bdi { (one_line(reason, ERROR)) } }
            }
            dt { "Attempts" } dd data-n="attempts at this delivery, of which the failed ones are below" { (item.attempts) }
            @if item.next_attempt_at.is_some() {
                dt { "Due" } dd { (words::stated(item.next_attempt_at.as_deref())) }
            }
            dt { "Finished" } dd { (words::stated(item.finished_at.as_deref())) }
            dt { "Took" } dd { (took(item)) }
            @if let (Some(repo), Some(number)) = (&item.repo, item.pr_number) {
                @let number = number.to_string();
                @let query = [("repo", repo.as_str()), ("pr", number.as_str())];
                dt { "Others" } dd {
                    a href=(page.links.to("/deliveries", query)) { "All deliveries about #" (number) }
                }
            }
        }
        @if detail.history.is_empty() {
            p .quiet {
                @if item.state.as_str() == "dead" && item.attempts == 0 {
                    "It was not attempted: it cannot be read."
                } @else { "No attempt failed." }
            }
        } @else {
            table {
                caption { "Failed attempts, the first one first" }
                thead {
                    tr {
                        th scope="col" { "When" }
                        th .num scope="col" { "Attempt" }
                        th scope="col" { "Error" }
                    }
                }
                tbody data-n="attempts at this delivery, one a row" {
                    @for failure in &detail.history {
                        tr {
                            td { (words::time(failure.at.into())) }
                            td .num { (failure.attempt) }
                            td { bdi { (one_line(&failure.error, ERROR)) } }
                        }
                    }
                }
            }
        }
    }
}

fn payload_text(page: &PageRequest, detail: &DeliveryDetail, text: Option<&str>) -> Markup {
    let Some(text) = text else {
        return deleted(page, detail);
    };
    let shown = indented(text, SHOWN);
    let is_whole = shown.len() < SHOWN;
    html! {
        @if !is_whole {
            p { "Its beginning; all " (words::bytes(detail.delivery.body_bytes)) " are in the file." }
        }
        pre dir="ltr" tabindex="0" aria-label="The payload" { bdi { (shown) } }
        @if is_webhook(detail) {
            @let file = file_name(detail.delivery.id, "jsonl");
            p {
                "To post it again, as GitHub did, download it as a fixture and run "
                code #replay { "tallyhook replay " (file) }
                " " button type="button" data-copy="replay" hidden { "Copy" }
            }
        }
    }
}

/// Says since when the payload is deleted, and why.
fn deleted(page: &PageRequest, detail: &DeliveryDetail) -> Markup {
    let days = page.api.config.retention_days;
    let received = words::read(&detail.delivery.received_at);
    let until = received.map(|at| (at.to_utc() + TimeDelta::days(days.into())).into());
    html! {
        p {
            "The payload is deleted"
            @if let Some(until) = until { " since " (words::time(until)) }
            ": those of applied and ignored deliveries are kept for "
            span data-n="a setting: the days that payloads are kept" { (words::counted(days.into(), "day")) }
            " (" code { "DELIVERY_RETENTION_DAYS" } "). What it changed is in the facts."
        }
    }
}

/// Answers with the payload as a file: no browser renders it.
pub(super) async fn payload(page: PageRequest) -> PageResult {
    let id = deliveries::id(&page)?;
    let payload = page.reads().delivery_payload(id).await?;
    Ok(as_file(&file_name(id, "json"), "application/json").body(payload))
}

/// Answers with the delivery as `tallyhook replay` reads it.
pub(super) async fn fixture(page: PageRequest) -> PageResult {
    let id = deliveries::id(&page)?;
    let line = delivery_line(&page.api.instance().store, id).await?;
    Ok(as_file(&file_name(id, "jsonl"), JSON_LINES).body(line))
}

/// Begins an answer that is saved as a file.
pub(super) fn as_file(name: &str, media_type: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.content_type(media_type).insert_header((
        CONTENT_DISPOSITION,
        format!("attachment; filename=\"{name}\""),
    ));
    response
}

fn file_name(id: i64, ending: &str) -> String {
    format!("delivery-{id}.{ending}")
}

/// Returns the beginning of a JSON text with line breaks and indents, about `most` bytes of it.
/// Its strings stay as they are.
fn indented(json: &str, most: usize) -> String {
    let mut text = String::with_capacity(json.len().min(most) * 2);
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if text.len() >= most {
            break;
        }
        if in_string {
            text.push(letter);
            in_string = is_escaped || letter != '"';
            is_escaped = !is_escaped && letter == '\\';
            continue;
        }
        match letter {
            ' ' | '\n' | '\r' | '\t' => {}
            '{' | '[' => {
                text.push(letter);
                while letters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(end);
                } else {
                    depth += 1;
                    push_line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                push_line(&mut text, depth);
                text.push(letter);
            }
            ',' => {
                text.push(letter);
                push_line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            _ => {
                in_string = letter == '"';
                text.push(letter);
            }
        }
    }
    text
}

fn push_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth.min(MAX_INDENT)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_its_strings_stay_as_they_are() {
        let json = r#"{"a":[],"b" : [1,{"c":"x,{:\"]\\"}],"d":"<b>"}"#;
        let text = "{\n  \"a\": [],\n  \"b\": [\n    1,\n    {\n      \"c\": \"x,{:\\\"]\\\\\"\n    \
                    }\n  ],\n  \"d\": \"<b>\"\n}";
        assert_eq!(indented(json, 1_000), text);
        let same: serde_json::Value = serde_json::from_str(&indented(json, 1_000)).unwrap();
        assert_eq!(
            same,
            serde_json::from_str::<serde_json::Value>(json).unwrap()
        );
    }

    #[test]
    fn long_and_deep_texts_are_bounded() {
        let deep = "[".repeat(200_000);
        let text = indented(&deep, SHOWN);
        assert!(text.len() >= SHOWN && text.len() < SHOWN + 100);
        let long = format!("\"{}\"", "\u{fc}".repeat(SHOWN));
        assert!(indented(&long, SHOWN).len() <= SHOWN + 1);
        assert_eq!(indented("", SHOWN), "");
    }
}
