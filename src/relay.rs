//! The sweeper: hands rows that are due to the queue, and clears away what is old. One process at a time sweeps; the
//! others only take back what the queue did not take from them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tallyhook_core::delivery::{DeliveryId, Lane};
use tallyhook_queue::{DeadCopy, HANDED_OVER_AGAIN, Health, Permit, Publication, Queue};
use tallyhook_store::{
    Delivery, LeaderRole, PurgeCounts, Store, StoreError, UnfinishedDelivery, portions,
};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::telemetry;

/// How often rows that became due are looked for, when nothing else says that there are some.
const TICK: Duration = Duration::from_secs(1);
/// How often it is asked whether a broker's lane has room again while there is more in the inbox.
const ASK: Duration = Duration::from_millis(50);
/// The most rows of one sweep.
const SWEEP: usize = 512;
/// And of their bodies at once, before they are compressed, unless one alone is larger.
const SWEEP_BYTES: u64 = 16 * 1024 * 1024;
/// The most copies of dead letters at once.
const COPIES: u32 = 100;
/// For how long a process that has no broker goes on sweeping.
const WITHOUT_BROKER: Duration = Duration::from_secs(10);
const CLEANING: Duration = Duration::from_hours(1);
/// Keys outlive bodies, so that a late repetition is still known as one.
const KEY_DAYS: i64 = 30;
const PURGE: u32 = 500;
/// For how long somebody may be away and still be told what happened meanwhile.
const EVENT_DAYS: i64 = 7;
/// What could not be sent for so long is no news any more.
const NEWS_DAYS: i64 = 3;
/// What nobody took up for a channel is cleared away only when it would not be sent any more.
const _: () = assert!(NEWS_DAYS < EVENT_DAYS);

/// The relay of one process.
pub struct Relay {
    pub store: Store,
    pub queue: Arc<Queue>,
    pub retention_days: u32,
    /// Whether this process may sweep.
    pub sweeps: bool,
    /// Becomes true when it is to end.
    pub stopping: watch::Receiver<bool>,
}

/// What a relay has to remember.
struct Desk {
    /// This process sweeps.
    leads: bool,
    /// The inbox may hold more than the queue had room for.
    more: bool,
    /// The queue may have lost what it was handed.
    lost: bool,
    /// This process does not sweep, and whoever was in its place before may have stored what it did not send.
    inherits: bool,
    /// Since when this process has no broker to hand anything to.
    without_broker: Option<Instant>,
    /// The queue did not take these, and the inbox does not know yet.
    refused: Vec<DeliveryId>,
    next_cleaning: Instant,
}

impl Relay {
    pub async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let next_cleaning = Instant::now() + TICK;
        let mut desk = Desk {
            leads: false,
            more: false,
            lost: false,
            inherits: !self.sweeps,
            without_broker: None,
            refused: Vec::new(),
            next_cleaning,
        };
        loop {
            let ticked = tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping) => break,
                _ = ticks.tick() => true,
                () = self.queue.changed() => false,
                () = sleep(ASK), if desk.leads && desk.more && self.queue.carries_events() => false,
            };
            self.turn(&mut desk, ticked).await;
        }
        desk.refused.extend(self.queue.news().refused);
        self.hand_back(&mut desk.refused).await;
    }

    async fn turn(&self, desk: &mut Desk, ticked: bool) {
        if ticked {
            // Histograms hold every sample until this is called, whether or not anybody reads /metrics.
            telemetry::prometheus().run_upkeep();
        }
        let news = self.queue.news();
        desk.refused.extend(news.refused);
        desk.more |= news.more;
        desk.lost |= news.lost;
        self.hand_back(&mut desk.refused).await;
        if desk.inherits
            && self
                .told(
                    "what was not sent",
                    self.store.republish_all(Utc::now()).await,
                )
                .is_some()
        {
            desk.inherits = false;
        }
        if !self.sweeps {
            return;
        }
        if ticked {
            self.lead(desk).await;
        }
        if !desk.leads {
            // Whoever takes the part over begins with all of it.
            (desk.more, desk.lost) = (false, false);
            return;
        }
        if desk.lost
            && self
                .told("what was lost", self.store.republish_all(Utc::now()).await)
                .is_some()
        {
            (desk.more, desk.lost) = (true, false);
        }
        if ticked || desk.more {
            desk.more = self.sweep(&mut desk.refused).await;
        }
        if ticked && self.queue.carries_events() {
            self.copy_dead().await;
        }
        if Instant::now() >= desk.next_cleaning {
            desk.next_cleaning = Instant::now() + if self.clean().await { TICK } else { CLEANING };
        }
    }

    /// Takes the part or keeps it, and takes up what processes left that are no more.
    async fn lead(&self, desk: &mut Desk) {
        let led = desk.leads;
        desk.without_broker = match self.queue.health() {
            Health::Ok => None,
            Health::Disconnected => desk.without_broker.or_else(|| Some(Instant::now())),
        };
        if desk
            .without_broker
            .is_some_and(|since| since.elapsed() > WITHOUT_BROKER)
        {
            // Another may have one.
            if led {
                self.store.release_role(LeaderRole::Sweeper).await;
            }
            desk.leads = false;
            return;
        }
        desk.leads = self
            .told(
                "who sweeps",
                self.store.acquire_role(LeaderRole::Sweeper).await,
            )
            .unwrap_or(false);
        if !desk.leads {
            return;
        }
        let orphans = self
            .told(
                "what others left",
                self.store.release_orphaned_leases(Utc::now()).await,
            )
            .unwrap_or(0);
        if orphans > 0 {
            tracing::info!(
                deliveries = orphans,
                "deliveries of a worker that is no more are taken up again"
            );
            desk.more = true;
        }
        // The one before may have ended together with the queue. That a first try fails is seen by the next.
        desk.lost |= !led;
    }

    /// A failure's line in the log.
    fn told<T>(&self, what: &'static str, answer: tallyhook_store::Result<T>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(StoreError::Closed) => None,
            Err(error) => {
                tracing::error!(what, %error, "the inbox does not answer; trying again");
                None
            }
        }
    }

    /// Makes due again what the queue did not take.
    async fn hand_back(&self, refused: &mut Vec<DeliveryId>) {
        if !refused.is_empty()
            && self
                .told(
                    "what was refused",
                    self.store.mark_unpublished(refused, Utc::now()).await,
                )
                .is_some()
        {
            refused.clear();
        }
    }

    /// Fills the queue from the inbox. Whether there may be more.
    async fn sweep(&self, refused: &mut Vec<DeliveryId>) -> bool {
        let mut more = false;
        for lane in Lane::ALL {
            let swept = self.sweep_lane(lane, refused).await;
            more |= self.told("what is due", swept).unwrap_or(false);
        }
        more
    }

    async fn sweep_lane(
        &self,
        lane: Lane,
        refused: &mut Vec<DeliveryId>,
    ) -> tallyhook_store::Result<bool> {
        // A queue that is half full is left alone: one larger sweep is cheaper than many small ones.
        if self.queue.room(lane).await < SWEEP {
            return Ok(true);
        }
        let room: Vec<Permit> = std::iter::from_fn(|| self.queue.try_reserve(lane))
            .take(SWEEP)
            .collect();
        let now = Utc::now();
        let limit = u32::try_from(room.len()).unwrap_or(u32::MAX);
        let due = self
            .store
            .claim_due_for_publish(lane, limit, now, now + HANDED_OVER_AGAIN)
            .await?;
        tallyhook_core::crash_point::reached("relay.swept");
        let full = due.len() == room.len();
        if self.queue.carries_events() {
            if let Err(error) = self.publish(room, &due).await {
                refused.extend(due);
                return Err(error);
            }
        } else {
            for (permit, id) in room.into_iter().zip(due) {
                permit.send(id, || Publication::bare(id));
            }
        }
        Ok(full)
    }

    /// Sends rows with their events. What a portion's failure leaves unsent stays due by the caller.
    async fn publish(&self, room: Vec<Permit>, due: &[DeliveryId]) -> tallyhook_store::Result<()> {
        let mut room = room.into_iter();
        for portion in portions(&self.store.pending(due).await?, SWEEP_BYTES) {
            for (delivery, permit) in self
                .store
                .unfinished(&portion)
                .await?
                .into_iter()
                .zip(&mut room)
            {
                permit.send(delivery.id, || publication(&delivery));
            }
        }
        Ok(())
    }

    /// Shows dead letters among the broker's queues.
    async fn copy_dead(&self) {
        let Some(dead) = self.told("dead letters", self.store.dead_without_copy(COPIES).await)
        else {
            return;
        };
        if dead.is_empty() {
            return;
        }
        let copied = self
            .queue
            .copy_dead(dead.into_iter().map(copy).collect())
            .await;
        self.told("dead letters", self.store.mark_dead_copied(&copied).await);
    }

    /// Clears away one portion. Whether there may be more.
    async fn clean(&self) -> bool {
        let now = Utc::now();
        // An event that was taken up stays while a channel is still to be told of it, be there such a channel in the
        // settings or not.
        let given_up = self
            .store
            .expire_notifications(now - TimeDelta::days(NEWS_DAYS), now, PURGE)
            .await;
        let given_up = self
            .told("notifications to be given up", given_up)
            .unwrap_or(0);
        if given_up > 0 {
            tracing::warn!(
                notifications = given_up,
                "notifications were given up since they were too old"
            );
        }
        let events = self
            .store
            .purge_events(now - TimeDelta::days(EVENT_DAYS), PURGE)
            .await;
        let events = self.told("events to be cleared away", events).unwrap_or(0);
        let bodies_before = now - TimeDelta::days(self.retention_days.into());
        let rows_before = (now - TimeDelta::days(KEY_DAYS)).min(bodies_before);
        match self.store.purge(bodies_before, rows_before, PURGE).await {
            Ok(PurgeCounts { bodies: 0, rows: 0 }) => events > 0 || given_up > 0,
            Ok(PurgeCounts { bodies, rows }) => {
                tracing::info!(bodies, rows, "old deliveries were cleared away");
                true
            }
            Err(error) => {
                tracing::error!(%error, "old deliveries could not be cleared away; trying again in an hour");
                false
            }
        }
    }
}

/// The message of a row, with its event if it can be read.
fn publication(delivery: &UnfinishedDelivery) -> Publication {
    let UnfinishedDelivery {
        id,
        guid,
        event,
        source,
        received_at,
        ..
    } = delivery;
    Publication::new(
        *id,
        guid,
        event,
        source.as_str(),
        *received_at,
        delivery.event().ok().as_ref(),
    )
}

fn copy(dead: Delivery) -> DeadCopy {
    let Delivery {
        id,
        guid,
        event,
        source,
        received_at,
        ..
    } = dead;
    DeadCopy {
        id,
        publication: Publication::new(id, &guid, &event, source.as_str(), received_at, None),
        reason: dead.reason.unwrap_or_default(),
        repo: dead.repo,
    }
}
