//! Lists of deliveries and dead letters.

use super::reader::{ReadQuery, Reader, pages};
use super::{CommandResult, output};
use crate::api::{DeliveryItem, Page};

pub(super) async fn list(
    reader: &Reader,
    query: &ReadQuery,
    limit: u32,
    cursor: Option<String>,
    json: bool,
) -> CommandResult {
    let listed = listed(reader, query, limit, cursor).await?;
    match json {
        true => output::json(&listed),
        false => print_table(&listed, "no delivery matches"),
    }
}

/// Returns `limit` deliveries, newest first, after the cursor if there is one.
pub(super) async fn listed(
    reader: &Reader,
    query: &ReadQuery,
    limit: u32,
    cursor: Option<String>,
) -> CommandResult<Page<DeliveryItem>> {
    let page = async |size, cursor| {
        let query = query
            .clone()
            .with("per_page", Some(size))
            .with("cursor", cursor);
        reader.deliveries(&query).await
    };
    pages(limit, cursor, page).await
}

pub(super) fn print_table(listed: &Page<DeliveryItem>, empty: &str) -> CommandResult {
    let mut table = output::table([
        output::whole("id"),
        output::whole("received"),
        output::text("event"),
        output::whole("PR"),
        output::text("repository"),
        output::whole("state"),
        output::detail("tries"),
        output::detail("GUID"),
        output::note("reason", 1),
    ]);
    for delivery in &listed.items {
        table.add_row([
            delivery.id.to_string(),
            to_the_second(&delivery.received_at),
            event_of(delivery),
            delivery
                .pr_number
                .map_or_else(String::new, |number| format!("#{number}")),
            delivery.repo.clone().unwrap_or_default(),
            delivery.state.as_str().to_owned(),
            delivery.attempts.to_string(),
            delivery.guid.clone(),
            delivery.reason.clone().unwrap_or_default(),
        ]);
    }
    table.print(empty)?;
    output::more(listed.next.is_some())
}

/// Returns the event with its action, as in `pull_request.opened`.
pub(super) fn event_of(delivery: &DeliveryItem) -> String {
    let action = delivery.action.as_ref();
    action.map_or_else(
        || delivery.event.clone(),
        |action| format!("{}.{action}", delivery.event),
    )
}

/// Returns the repository, with the number of the pull request if it is about one.
pub(super) fn subject(delivery: &DeliveryItem) -> String {
    let repo = delivery.repo.as_deref().unwrap_or_default();
    delivery
        .pr_number
        .map_or_else(|| repo.to_owned(), |number| format!("{repo}#{number}"))
}

/// Returns an API's time without its fraction of a second.
pub(super) fn to_the_second(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}
