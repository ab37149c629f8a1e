//! Slack messages about whom pull requests wait for. Names and reasons are foreign texts.

use chrono::{DateTime, NaiveDate};
use serde_json::Value;
use tallyhook_core::domain::waiting::WaitingFor;
use tallyhook_core::domain::waiting_change::{WaitedFor, WaitedParty};
use tallyhook_store::DigestItem;

use super::Notification;
use super::slack::{context_block, escape, link, mrkdwn, payload, plain_text, section};

/// Characters of a title in a list.
const MAX_LISTED: usize = 80;
/// Names of people and teams that are waited for.
const MAX_NAMES: usize = 10;

/// Renders a change of waiting or a digest; another notification as the text of its kind.
pub(super) fn message(notification: &Notification) -> Value {
    match notification {
        Notification::WaitingChange {
            repo,
            pr_number,
            title,
            html_url,
            author,
            new_waiting,
            because,
            ..
        } => {
            let name = escape(&format!("{repo}#{pr_number}"));
            let linked = link(html_url.as_deref(), &name);
            let waits = format!("waits for {}", waited_for(new_waiting));
            let (title, because) = (title.as_deref().map(escape), escape(because));
            let mut blocks = vec![
                section(&mrkdwn(&format!("*{linked}*"))),
                section(&plain_text(&format!("{waits}: {because}"))),
            ];
            blocks.extend(title.as_deref().map(|title| section(&plain_text(title))));
            let by = author.as_deref();
            let by = by.map(|author| format!("by {}", escape(author)));
            blocks.extend(by.as_deref().map(context_block));
            let title = title.map(|title| format!(": {title}")).unwrap_or_default();
            payload(&format!("{name} {waits}{title}"), &blocks)
        }
        Notification::Digest {
            day, total, items, ..
        } => digest(*day, *total, items),
        other => super::slack::plain(other.kind().as_str()),
    }
}

/// Renders a digest. Each pull request takes two of the 50 blocks that Slack allows.
fn digest(day: NaiveDate, total: u64, items: &[DigestItem]) -> Value {
    let pull_requests = if total == 1 {
        "1 pull request waits".to_owned()
    } else {
        format!("{total} pull requests wait")
    };
    let head = format!(
        "{} {}: {pull_requests}",
        day.format("%A"),
        day.format("%-d %B")
    );
    let mut blocks = vec![section(&mrkdwn(&format!("*{head}*")))];
    for item in items {
        let name = escape(&format!("{}#{}", item.repo, item.pr_number));
        let linked = link(item.html_url.as_deref(), &name);
        let title = item.title.as_deref().map(short_title);
        let title = title.map(|title| format!(" {title}")).unwrap_or_default();
        let since = DateTime::from_timestamp(item.since.epoch(), 0).unwrap_or_default();
        let waits = waited_for(&item.waiting);
        blocks.push(section(&mrkdwn(&linked)));
        blocks.push(context_block(&format!(
            "{waits}, since {} UTC.{title}",
            since.format("%-d %B, %H:%M")
        )));
    }
    let more = total.saturating_sub(items.len() as u64);
    let rest = (more > 0).then(|| format!("and {more} more"));
    blocks.extend(rest.as_deref().map(context_block));
    payload(&head, &blocks)
}

/// The beginning of a title, for a list.
fn short_title(title: &str) -> String {
    let mut short: String = title.chars().take(MAX_LISTED).collect();
    if short.len() < title.len() {
        short.push('\u{2026}');
    }
    escape(&short)
}

/// Returns the names that are waited for, escaped, or the kind of party in words.
fn waited_for(waiting: &WaitedFor) -> String {
    let kind = match waiting.on {
        WaitingFor::Author => "its author",
        WaitingFor::Reviewers => "",
        WaitingFor::Ci => "checks",
        WaitingFor::MergeQueue => "the merge queue",
        WaitingFor::Maintainers => "a maintainer",
        WaitingFor::BasePr => "the pull request that it is based on",
        WaitingFor::Nobody => return "no one".to_owned(),
    };
    let names: Vec<_> = waiting
        .who
        .iter()
        .take(MAX_NAMES)
        .map(|party| match party {
            WaitedParty::Login(login) => escape(login),
            WaitedParty::Team(slug) => format!("team {}", escape(slug)),
        })
        .collect();
    let more = waiting.who.len().saturating_sub(MAX_NAMES);
    let more = (more > 0).then(|| format!("and {more} more"));
    let kind = (!kind.is_empty()).then(|| kind.to_owned());
    let parts: Vec<_> = kind.into_iter().chain(names).chain(more).collect();
    parts.join(", ")
}
