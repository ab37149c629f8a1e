//! The channels of notifications, and the log of what was sent.

use maud::{Markup, html};
use tallyhook_core::text::one_line;

use super::layout::{Section, block};
use super::links::query_string;
use super::page::{PageRequest, PageResult};
use super::repositories::next;
use super::routes::PageRoute;
use super::{filters, words};
use crate::api::{
    AccessRole, ChannelItem, ListCount, NotificationItem, NotificationState, Page,
    retry_notification,
};
use crate::notify::ChannelKind;

const MAX_TEXT: usize = 200;

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/channels", AccessRole::Admin, channels),
        PageRoute::form("/channels/{name}/test", AccessRole::Admin, test),
        PageRoute::form("/channels/{name}/retry", AccessRole::Admin, retry),
    ]
}

async fn channels(page: PageRequest) -> PageResult {
    let list = page.api.channel_items().await;
    let names = ["channel", "state", "cursor"];
    let query = names.map(|name| (name, page.parameter(name).unwrap_or_default()));
    let query = query_string(query.into_iter().chain([("count", "true")]));
    let log = page.reads().notifications(&query).await;
    let states = [
        ("", "all"),
        ("pending", "pending"),
        ("sent", "sent"),
        ("dead", "given up"),
        ("superseded", "superseded"),
    ];
    let fields = html! {
        (filters::select(&page, "state", "State", &states))
        (filters::input(&page, "channel", "Channel", "text"))
    };
    let body = html! {
        section #channels data-live="channel notification" {
            (block(list, |items| cards(&page, &items)))
        }
        h2 { "What was sent" }
        (filters::form(&page, "/channels", &fields))
        section #log data-live="notification" { (block(log, |log| log_table(&page, &log))) }
    };
    Ok(page.show(Section::Channels, "Was everyone notified", &body))
}

fn cards(page: &PageRequest, items: &[ChannelItem]) -> Markup {
    html! {
        @if items.is_empty() {
            p {
                "No channel is configured. Set " code { "SLACK_WEBHOOK_URL" } " or "
                code { "NOTIFY_WEBHOOK_URL" } ", or name channels in the configuration file."
            }
        } @else {
            ul .cards { @for item in items { li .card id=(format!("channel-{}", item.name)) { (card(page, item)) } } }
        }
    }
}

fn card(page: &PageRequest, item: &ChannelItem) -> Markup {
    let of = |state| {
        page.links.to(
            "/channels",
            [("channel", item.name.as_str()), ("state", state)],
        )
    };
    let counts = [
        ("pending", "pending", item.told.pending),
        ("sent", "sent", item.told.sent),
        ("dead", "given up", item.told.dead),
    ];
    html! {
        h3 { bdi { (item.name) } }
        p { @match item.kind { ChannelKind::Slack => "Slack", ChannelKind::Webhook => "Webhook" } " at " code { (item.origin) } }
        p {
            @match &item.repos { Some(repos) => { "About " bdi { (one_line(&repos.join(", "), MAX_TEXT)) } }, None => "About all repositories" }
            @if let Some(kinds) = &item.kinds {
                ": " (kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", "))
            }
        }
        p {
            @for (place, (state, words, n)) in counts.into_iter().enumerate() {
                @if place > 0 { ", " }
                a href=(of(state)) data-count { (words::grouped(n)) } " " (words)
            }
        }
        @if item.failures > 0 {
            p .warn data-n="attempts in a row" { (item.failures) " attempts in a row failed" }
        }
        @if let Some(until) = item.rests_until.as_deref() { p { "Rests until " (words::stated(Some(until))) } }
        @if let Some(error) = &item.last_error {
            p { "Last error: " bdi { (one_line(error, MAX_TEXT)) } " " (words::stated(item.last_error_at.as_deref())) }
        }
        form method="post" action=(page.links.path(&format!("/channels/{}/test", item.name))) {
            (page.csrf()) button { "Send a test" }
        }
    }
}

fn log_table(page: &PageRequest, log: &Page<NotificationItem>) -> Markup {
    let n = log.count.map_or(0, |ListCount { n, .. }| n);
    html! {
        p #count data-count=(n) { (words::counted(n, "notification")) }
        @if log.items.is_empty() {
            p {
                @if page.parameters().next().is_some() { "None matches. " a href=(page.links.path("/channels")) { "Show all" } }
                @else { "Nothing was sent yet: the first change of a pull request is." }
            }
        } @else {
            table {
                caption .quiet { "Notifications, the newest event first" }
                thead {
                    tr {
                        th scope="col" { "What" } th scope="col" { "Channel" } th scope="col" { "State" }
                        th scope="col" .hide { "Taken up" } th scope="col" .hide { "Answer" }
                    }
                }
                tbody { @for item in &log.items { (log_row(page, item)) } }
            }
        }
        (next(page, "/channels", log.next.as_deref()))
    }
}

fn log_row(page: &PageRequest, item: &NotificationItem) -> Markup {
    let event = item.notification.event_id();
    let answer = item.answer.as_deref().unwrap_or(words::UNKNOWN);
    let state = match item.state {
        NotificationState::Pending => "pending",
        NotificationState::Sent => "sent",
        NotificationState::Dead => "given up",
        NotificationState::Superseded => "superseded",
    };
    html! {
        tr id=(format!("notification-{event}-{}", item.channel)) {
            th scope="row" { bdi { (one_line(&item.notification.summary(), MAX_TEXT)) } }
            td { bdi { (item.channel) } }
            td {
                span .chip .warn[item.state == NotificationState::Dead] { (state) }
                @if item.state == NotificationState::Dead { " " (retry_form(page, item)) }
                @if item.attempts > 1 { " " span .quiet data-n="attempts of one notification" { (item.attempts) " attempts" } }
            }
            td .hide { (words::stated(Some(&item.taken_up_at))) }
            td .hide { bdi { (one_line(answer, MAX_TEXT)) } }
        }
    }
}

/// Shows the button that sends a notification again which was given up.
fn retry_form(page: &PageRequest, item: &NotificationItem) -> Markup {
    html! {
        form method="post" action=(page.links.path(&format!("/channels/{}/retry", item.channel))) {
            (page.csrf())
            input type="hidden" name="event_id" value=(item.notification.event_id());
            button { "Send again" }
        }
    }
}

async fn retry(page: PageRequest) -> PageResult {
    let (channel, event) = (
        page.part("name"),
        page.field("event_id").unwrap_or_default(),
    );
    retry_notification(&page.api, event, channel).await?;
    let query = [("channel", channel)];
    Ok(page.redirect(&page.links.to("/channels", query)))
}

async fn test(page: PageRequest) -> PageResult {
    let result = page.api.test_channel(page.part("name")).await?;
    let body = html! {
        p .banner .good[result.ok] {
            bdi { (result.channel) } @if result.ok { " accepted it: " } @else { " did not accept it: " }
            bdi { (one_line(&result.answer, 300)) }
        }
        @if let Some(advice) = &result.advice { p { bdi { (one_line(advice, 300)) } } }
        p { a href=(page.links.path("/channels")) { "Channels" } }
    };
    Ok(page.show(Section::Channels, "Did the test arrive", &body))
}
