//! The relay: publishes rows that are due to the queue, and deletes what is old. One process at a
//! time sweeps the inbox; the others only return to the inbox what their queue did not take.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::future::join;
use parking_lot::Mutex;
use tallyhook_core::delivery::{DeliveryId, Lane};
use tallyhook_queue::{
    DeadCopy, Health, Permit, Publication, Queue, QueueSignals, REPUBLISH_AFTER,
};
use tallyhook_store::{
    Delivery, LeaderRole, Moment, PurgeCounts, Store, StoreError, UnfinishedDelivery, portions,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::clock::ClockWatch;
use crate::leader::{LeaderWork, Leadership, while_leading};
use crate::notify::CHANGES_KEPT;
use crate::telemetry;

/// The interval at which the inbox is read for due rows without a signal.
const TICK: Duration = Duration::from_secs(1);
/// The interval at which the room in a broker's lane is read while the inbox has a backlog.
const ROOM_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The most rows of one sweep.
const SWEEP: usize = 512;
/// The most bytes of their bodies at once, before compression, unless one body alone is larger.
const SWEEP_BYTES: u64 = 16 * 1024 * 1024;
/// The most copies of dead letters at once.
const COPIES: u32 = 100;
/// The time for which a process without a broker goes on leading.
const MAX_DISCONNECTED: Duration = Duration::from_secs(10);
const PURGE_INTERVAL: Duration = Duration::from_hours(1);
/// The most by which each round of a leader after its first makes deliveries older. The first makes
/// none older, so that no number of restarts deletes more than that in an hour.
const PURGE_ADVANCE: TimeDelta = TimeDelta::days(1);
/// Keys outlive bodies, so that a late repetition is still known as a duplicate.
const KEY_DAYS: i64 = 30;
/// The least days that requests are kept which changed something at GitHub.
const MUTATION_DAYS: i64 = 365;
const PURGE: u32 = 500;
const CHANGE_PURGE_INTERVAL: Duration = Duration::from_mins(1);
/// The changes of one portion: more than the batches of a second.
const CHANGE_PURGE: u32 = 5000;
/// The days after which events are deleted: a client of `/ws` resumes without a gap until then.
const EVENT_DAYS: i64 = 7;
/// A notification that could not be sent for so long is given up.
const NOTIFICATION_DAYS: i64 = 3;
/// An event is deleted only after every channel would have given up its notification.
const _: () = assert!(NOTIFICATION_DAYS < EVENT_DAYS);

/// The relay of one process.
pub struct Relay {
    pub store: Store,
    pub queue: Arc<Queue>,
    pub retention_days: u32,
    /// Days that administrative acts are kept.
    pub audit_days: u32,
    /// Days that requests to GitHub are kept which only read.
    pub github_calls_days: u32,
    /// This process may sweep.
    pub sweeps: bool,
    /// Becomes true when the relay must end.
    pub stopping: watch::Receiver<bool>,
}

/// The state that the loop which reads the queue's signals shares with the sweeper.
#[derive(Default)]
struct SweepState {
    signals: Mutex<QueueSignals>,
    /// The start of the time without a broker.
    disconnected_since: Mutex<Option<Instant>>,
    changed: Notify,
}

impl SweepState {
    /// Adds what the queue signalled since the last call.
    fn add(&self, signals: QueueSignals) {
        self.signals.lock().merge(signals);
        self.changed.notify_one();
    }

    fn add_nacked(&self, ids: impl IntoIterator<Item = DeliveryId>) {
        self.signals.lock().nacked.extend(ids);
    }

    fn set_health(&self, health: Health) {
        let mut since = self.disconnected_since.lock();
        *since = match health {
            Health::Ok => None,
            Health::Disconnected => since.or_else(|| Some(Instant::now())),
        };
    }

    /// Returns false once this process has had no broker for so long that another process may have
    /// one.
    fn has_broker(&self) -> bool {
        let since = *self.disconnected_since.lock();
        since.is_none_or(|since| since.elapsed() <= MAX_DISCONNECTED)
    }
}

impl Relay {
    pub async fn run(self) {
        let state = SweepState::default();
        let mut sweeper = Sweeper {
            relay: &self,
            state: &state,
            next_purge: Instant::now() + TICK,
            next_change_purge: Instant::now() + TICK,
            reckoned: None,
            advance: TimeDelta::zero(),
        };
        let sweeping = async {
            if self.sweeps {
                let stopping = self.stopping.clone();
                while_leading(&self.store, LeaderRole::Sweeper, stopping, &mut sweeper).await;
            }
        };
        let watching = async {
            self.watch_queue(&state).await;
            // At once: releasing the role can take as long as the database takes.
            state.add(self.queue.signals());
            self.return_nacked(&state).await;
        };
        join(watching, sweeping).await;
        state.add(self.queue.signals());
        self.return_nacked(&state).await;
    }

    /// Reads the queue's signals in every process, whether or not it sweeps.
    async fn watch_queue(&self, state: &SweepState) {
        // A process that does not sweep cannot know what the process before it published without a
        // confirm.
        let mut inherits = !self.sweeps;
        let mut stopping = self.stopping.clone();
        let mut clock = ClockWatch::new(Utc::now(), Instant::now());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                _ = ticks.tick() => {
                    // Histograms hold every sample until this is called, whether or not /metrics is
                    // read.
                    telemetry::prometheus().run_upkeep();
                    report_jump(&mut clock);
                    state.set_health(self.queue.health());
                }
                () = self.queue.changed() => {}
            }
            state.add(self.queue.signals());
            self.return_nacked(state).await;
            inherits = inherits && !self.republish_all().await;
        }
    }

    /// Makes every published row due again. Returns false if the database failed.
    async fn republish_all(&self) -> bool {
        let republished = self.store.republish_all(Utc::now()).await;
        logged("publish deliveries again", republished).is_some()
    }

    /// Makes due again what the queue did not take.
    async fn return_nacked(&self, state: &SweepState) {
        let nacked = std::mem::take(&mut state.signals.lock().nacked);
        if nacked.is_empty() {
            return;
        }
        let returned = self.store.mark_unpublished(&nacked, Utc::now()).await;
        if logged("return deliveries that the queue did not take", returned).is_none() {
            state.add_nacked(nacked);
        }
    }
}

/// The work of the one relay that sweeps.
struct Sweeper<'a> {
    relay: &'a Relay,
    state: &'a SweepState,
    next_purge: Instant,
    next_change_purge: Instant,
    /// The time from which the purge under way reckons.
    reckoned: Option<Moment>,
    advance: TimeDelta,
}

impl LeaderWork for Sweeper<'_> {
    fn can_lead(&self) -> bool {
        self.state.has_broker()
    }

    async fn lead(&mut self, leadership: &Leadership<'_>) {
        (self.reckoned, self.advance) = (None, TimeDelta::zero());
        // The leader before may have ended together with the queue.
        self.state.signals.lock().connection_lost = true;
        let carries_events = self.relay.queue.carries_events();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.can_lead() {
            let has_backlog = self.state.signals.lock().backlog;
            let is_tick = tokio::select! {
                () = leadership.wait_ended() => return,
                _ = ticks.tick() => true,
                () = self.state.changed.notified() => false,
                () = sleep(ROOM_POLL_INTERVAL), if has_backlog && carries_events => false,
            };
            self.run_once(is_tick).await;
        }
    }
}

impl Sweeper<'_> {
    async fn run_once(&mut self, is_tick: bool) {
        if is_tick {
            self.release_orphans().await;
        }
        let signals = |state: &SweepState| {
            let signals = state.signals.lock();
            (signals.backlog, signals.connection_lost)
        };
        if signals(self.state).1 && self.relay.republish_all().await {
            let mut signals = self.state.signals.lock();
            (signals.backlog, signals.connection_lost) = (true, false);
        }
        if is_tick || signals(self.state).0 {
            // A signal that arrives during the sweep stays set.
            self.state.signals.lock().backlog = false;
            let has_more = self.sweep().await;
            self.state.signals.lock().backlog |= has_more;
        }
        if is_tick && self.relay.queue.carries_events() {
            self.copy_dead().await;
        }
        if is_tick && Instant::now() >= self.next_change_purge {
            let has_more = self.purge_changes().await;
            self.next_change_purge = Instant::now()
                + if has_more {
                    TICK
                } else {
                    CHANGE_PURGE_INTERVAL
                };
        }
        if Instant::now() >= self.next_purge {
            let has_more = self.purge().await;
            self.next_purge = Instant::now() + if has_more { TICK } else { PURGE_INTERVAL };
            if !has_more && self.reckoned.take().is_some() {
                self.advance = PURGE_ADVANCE;
            }
        }
    }

    fn store(&self) -> &Store {
        &self.relay.store
    }

    /// Makes due what dead workers had claimed, before their leases expire.
    async fn release_orphans(&self) {
        let released = self.store().release_orphaned_leases(Utc::now()).await;
        let orphans = logged("release leases of dead workers", released).unwrap_or(0);
        if orphans > 0 {
            tracing::info!(
                deliveries = orphans,
                "{orphans} deliveries of a dead worker are due again"
            );
            self.state.signals.lock().backlog = true;
        }
    }

    /// Fills the queue from the inbox. Returns whether the inbox may hold more.
    async fn sweep(&self) -> bool {
        let mut has_more = false;
        for lane in Lane::ALL {
            let swept = self.sweep_lane(lane).await;
            has_more |= logged("publish due deliveries", swept).unwrap_or(false);
        }
        has_more
    }

    async fn sweep_lane(&self, lane: Lane) -> tallyhook_store::Result<bool> {
        let queue = &self.relay.queue;
        // A queue that is half full is left alone: one larger sweep is cheaper than many small
        // ones.
        if queue.room(lane).await < SWEEP {
            return Ok(true);
        }
        let room: Vec<Permit> = std::iter::from_fn(|| queue.try_reserve(lane))
            .take(SWEEP)
            .collect();
        let now = Utc::now();
        let limit = u32::try_from(room.len()).unwrap_or(u32::MAX);
        let due = self
            .store()
            .claim_due_for_publish(lane, limit, now, now + REPUBLISH_AFTER)
            .await?;
        tallyhook_core::crash_point::reached("relay.swept");
        let is_full = due.len() == room.len();
        if queue.carries_events() {
            if let Err(error) = self.publish(room, &due).await {
                self.state.add_nacked(due);
                return Err(error);
            }
        } else {
            for (permit, id) in room.into_iter().zip(due) {
                permit.send(id, || Publication::bare(id));
            }
        }
        Ok(is_full)
    }

    /// Publishes rows with their events. The caller makes the rows due again that a failure leaves
    /// unpublished.
    async fn publish(&self, room: Vec<Permit>, due: &[DeliveryId]) -> tallyhook_store::Result<()> {
        let mut room = room.into_iter();
        for portion in portions(&self.store().pending(due).await?, SWEEP_BYTES) {
            let rows = self.store().unfinished(&portion).await?;
            for (delivery, permit) in rows.into_iter().zip(&mut room) {
                permit.send(delivery.id, || publication(&delivery));
            }
        }
        Ok(())
    }

    /// Publishes copies of dead letters, so that the broker's dashboard shows them.
    async fn copy_dead(&self) {
        let dead = self.store().dead_without_copy(COPIES).await;
        let Some(dead) = logged("copy dead letters", dead).filter(|dead| !dead.is_empty()) else {
            return;
        };
        let copies = dead.into_iter().map(copy).collect();
        let copied = self.relay.queue.copy_dead(copies).await;
        logged(
            "record copies of dead letters",
            self.store().mark_dead_copied(&copied).await,
        );
    }

    /// Returns the time from which this purge reckons; `None` if the database fails.
    async fn reckon(&mut self) -> Option<Moment> {
        if self.reckoned.is_none() {
            let now = Utc::now();
            let reckoned = self.store().reckon_retention(now, self.advance).await;
            self.reckoned = logged("reckon what is old", reckoned);
            if let Some(reckoned) = self.reckoned
                && self.advance.is_zero()
                && now - reckoned > PURGE_ADVANCE
            {
                tracing::warn!(
                    %reckoned, %now,
                    "retention is behind this machine's clock, as after an upgrade or a long \
                     pause, or because the clock is wrong: what is old is reckoned from {reckoned}, \
                     and one more day each hour"
                );
            }
        }
        self.reckoned
    }

    /// Deletes one portion of the changes that no page asks for any more. Returns whether there may
    /// be more.
    async fn purge_changes(&self) -> bool {
        let before = Utc::now() - CHANGES_KEPT;
        let purged = self.store().purge_changes(before, CHANGE_PURGE).await;
        logged("delete old changes", purged).is_some_and(|purged| purged >= CHANGE_PURGE.into())
    }

    /// Deletes one portion of the old records of acts and requests. Returns their number.
    async fn purge_records(&self, now: Moment) -> u64 {
        let days = |days: u32| TimeDelta::days(days.into());
        let acts_before = now - days(self.relay.audit_days);
        let acts = self.store().purge_audit_events(acts_before, PURGE).await;
        let acts = logged("delete old records of acts", acts).unwrap_or(0);
        let reads_before = now - days(self.relay.github_calls_days);
        let mutations_before = reads_before.min(now - TimeDelta::days(MUTATION_DAYS));
        let calls = self
            .store()
            .purge_calls(reads_before, mutations_before, PURGE)
            .await;
        acts + logged("delete old records of requests", calls).unwrap_or(0)
    }

    /// Deletes one portion of what is old. Returns whether there may be more.
    async fn purge(&mut self) -> bool {
        let Some(now) = self.reckon().await else {
            return false;
        };
        // An event stays for as long as a channel has a notification of it to send, whether or not
        // the settings still have that channel.
        let given_up = self
            .store()
            .expire_notifications(now - TimeDelta::days(NOTIFICATION_DAYS), Utc::now(), PURGE)
            .await;
        let given_up = logged("give up old notifications", given_up).unwrap_or(0);
        if given_up > 0 {
            tracing::warn!(
                notifications = given_up,
                "{given_up} notifications were given up: they could not be sent for \
                 {NOTIFICATION_DAYS} days"
            );
        }
        let events = self
            .store()
            .purge_events(now - TimeDelta::days(EVENT_DAYS), PURGE)
            .await;
        let events = logged("delete old events", events).unwrap_or(0);
        let recorded = self.purge_records(now).await;
        let bodies_before = now - TimeDelta::days(self.relay.retention_days.into());
        let rows_before = (now - TimeDelta::days(KEY_DAYS)).min(bodies_before);
        let purged = self.store().purge(bodies_before, rows_before, PURGE).await;
        match purged {
            Ok(PurgeCounts { bodies: 0, rows: 0 }) => events + given_up + recorded > 0,
            Ok(PurgeCounts { bodies, rows }) => {
                tracing::info!(
                    bodies,
                    rows,
                    "deleted {bodies} bodies and {rows} rows of old deliveries"
                );
                true
            }
            Err(error) => {
                tracing::error!(%error, "old deliveries cannot be deleted; retrying in an hour");
                false
            }
        }
    }
}

/// Logs that the system's clock was set. What is stored has its times.
fn report_jump(clock: &mut ClockWatch) {
    if let Some(moved) = clock.jump(Utc::now(), Instant::now()) {
        let minutes = moved.num_minutes();
        tracing::warn!(
            clock.minutes = minutes,
            "the system's clock moved by {minutes} minutes against the monotonic one: it was set, \
             or the machine was suspended"
        );
    }
}

/// Logs a failure of the inbox. Every step is made again at the next tick.
fn logged<T>(step: &'static str, answer: tallyhook_store::Result<T>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(StoreError::Closed) => None,
        Err(error) => {
            tracing::error!(step, %error, "the relay cannot {step}; retrying");
            None
        }
    }
}

/// Returns the message of a row, with its event if the body can be decoded.
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
