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
/// The most pages of one interval; a command that reads must not slow the server down.
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
    let mut limit = Some(limit as usize);
    loop {
        let new = tokio::select! {
            () = &mut ended => return Ok(()),
            new = async { ticks.tick().await; followed.next(reader, query).await } => new?,
        };
        let skipped = limit
            .take()
            .map_or(0, |limit| new.len().saturating_sub(limit));
        for delivery in &new[skipped..] {
            print(delivery, json)?;
        }
    }
}

fn print(delivery: &DeliveryItem, json: bool) -> CommandResult {
    if json {
        return output::line(&serde_json::to_string(delivery)?);
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
    /// Returns the deliveries since the previous call, oldest first.
    async fn next(
        &mut self,
        reader: &Reader,
        query: &ReadQuery,
    ) -> CommandResult<Vec<DeliveryItem>> {
        let (mut new, mut cursor) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let query = query
                .clone()
                .with("per_page", Some(MAX_PAGE))
                .with("cursor", cursor);
            let page = reader.deliveries(&query).await?;
            let unseen = new.len();
            let is_first_look = self.floor.is_none();
            new.extend(page.items.into_iter().filter(|item| self.is_new(item.id)));
            cursor = page.next;
            if is_first_look || cursor.is_none() || new.len() == unseen {
                break;
            }
        }
        self.seen.extend(new.iter().map(|item| item.id));
        self.floor = self
            .floor
            .or(Some(self.seen.first().map_or(0, |first| first - 1)));
        while self.seen.len() > REMEMBERED_IDS {
            self.floor = self.seen.pop_first().max(self.floor);
        }
        new.sort_by_key(|item| item.id);
        Ok(new)
    }

    fn is_new(&self, id: i64) -> bool {
        self.floor.is_none_or(|floor| id > floor) && !self.seen.contains(&id)
    }
}
