//! `tallyhook deliveries list --follow`

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::reader::{MAX_PAGE, ReadQuery, Reader};
use super::{CommandResult, delivery_list, output, serve};
use crate::api::DeliveryItem;

/// The interval of reading what is new.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The most pages of one interval after the first; a command that reads must not slow the server
/// down.
const MAX_PAGES: usize = 10;
/// The most deliveries that may become visible later than ones with greater ids.
const REMEMBERED_IDS: usize = 10_000;

/// Prints the `limit` newest deliveries and then each new one, oldest first, until Ctrl-C.
pub(super) async fn follow(
    reader: &Reader,
    query: &ReadQuery,
    limit: u32,
    json: bool,
) -> CommandResult {
    let mut ended = pin!(serve::signals()?);
    let mut ticks = interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut followed = FollowedDeliveries::default();
    loop {
        let new = tokio::select! {
            () = &mut ended => return Ok(()),
            new = async { ticks.tick().await; followed.next(reader, query, limit).await } => new?,
        };
        for delivery in &new {
            print(delivery, json)?;
        }
    }
}

fn print(delivery: &DeliveryItem, json: bool) -> CommandResult {
    if json {
        return output::json_line(delivery);
    }
    let event = delivery_list::event_of(delivery);
    let subject = delivery_list::subject(delivery);
    let reason = delivery
        .reason
        .as_deref()
        .map_or(String::new(), |reason| format!(": {reason}"));
    output::one_row(&format!(
        "{}  {:>6}  {:8}  {event:28}  {subject}{reason}",
        delivery_list::to_the_second(&delivery.received_at),
        delivery.id,
        delivery.state.as_str(),
    ))
}

/// The deliveries that were printed, as far back as new ones may be found.
#[derive(Default)]
struct FollowedDeliveries {
    seen: BTreeSet<i64>,
    /// Deliveries up to this id are old; `None` before the first look.
    floor: Option<i64>,
}

impl FollowedDeliveries {
    /// Returns the deliveries since the previous call, oldest first; at first the `limit` newest.
    async fn next(
        &mut self,
        reader: &Reader,
        query: &ReadQuery,
        limit: u32,
    ) -> CommandResult<Vec<DeliveryItem>> {
        let is_first_look = self.floor.is_none();
        let mut new = match is_first_look {
            // A whole page at least: one that is committed later may have a lesser id.
            true => {
                let listed = delivery_list::listed(reader, query, limit.max(MAX_PAGE), None);
                listed.await?.items
            }
            false => self.arrived(reader, query).await?,
        };
        self.seen.extend(new.iter().map(|item| item.id));
        self.floor = self
            .floor
            .or(Some(self.seen.first().map_or(0, |first| first - 1)));
        while self.seen.len() > REMEMBERED_IDS {
            self.floor = self.seen.pop_first().max(self.floor);
        }
        new.sort_by_key(|item| item.id);
        if is_first_look {
            new.drain(..new.len().saturating_sub(limit as usize));
        }
        Ok(new)
    }

    /// Returns the deliveries that are not known yet, of at most `MAX_PAGES` pages.
    async fn arrived(
        &self,
        reader: &Reader,
        query: &ReadQuery,
    ) -> CommandResult<Vec<DeliveryItem>> {
        let (mut new, mut cursor, mut reaches_known) = (Vec::new(), None, false);
        for _ in 0..MAX_PAGES {
            let query = query
                .clone()
                .with("per_page", Some(MAX_PAGE))
                .with("cursor", cursor);
            let page = reader.deliveries(&query).await?;
            let (unseen, read) = (new.len(), page.items.len());
            new.extend(page.items.into_iter().filter(|item| self.is_new(item.id)));
            cursor = page.next;
            let found = new.len() - unseen;
            reaches_known |= found < read;
            if cursor.is_none() || found == 0 {
                break;
            }
        }
        if let (Some(cursor), false) = (cursor, reaches_known) {
            tracing::warn!(
                "more deliveries arrived at once than are shown: `tallyhook deliveries list \
                 --cursor {cursor}`, with the same filters, lists the others, newest first"
            );
        }
        Ok(new)
    }

    fn is_new(&self, id: i64) -> bool {
        self.floor.is_none_or(|floor| id > floor) && !self.seen.contains(&id)
    }
}
