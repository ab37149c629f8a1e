//! The notifier: tells each channel what is in the outbox, one after the other and in order.
//!
//! What a channel is to be told is written down before it is sent, and what came of it before the next is sent: a process
//! that ends between sending and writing down sends that one a second time, with the same key. One process at a time does
//! it. One that was stopped, and goes on when another has its part, finds that out before it sends more than one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::future::{join, join_all};
use metrics::counter;
use rand::RngExt;
use tallyhook_store::{
    AttemptResult, ChannelPause, ChannelState, EventId, LeaderRole, Moment, NotificationAttempt,
    NotificationRow, OutboxEvent, OutboxPayload, Result, Store, StoreError, TaskRef,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Notification;
use super::channel::{Channel, ChannelKind, Channels};
use super::sending::{Message, Outcome};
use super::slack;
use crate::leader::LeaderLease;
use crate::telemetry::NOTIFICATIONS;

/// How often it is looked for events that nothing was heard of.
const TICK: Duration = Duration::from_secs(5);
/// How long a database that failed, and a part that is another's, are left alone.
const AGAIN: Duration = Duration::from_secs(1);
/// Events that are taken up at once, and notifications that are sent before it is looked for new ones.
const EVENTS: u32 = 256;
const NOTIFICATIONS_AT_ONCE: u32 = 32;
/// After so many attempts a notification is given up, and after so many if its receiver wants no such thing.
const MOST_ATTEMPTS: u32 = 10;
const MOST_REFUSALS: u32 = 3;
/// From so many attempts on the next one that is due is tried first: the receiver may be well, and break at this one only.
const OTHERS_FIRST: u32 = 3;
/// So much longer is each wait than the one before.
const GROWTH: u32 = 4;

/// How fast it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long it waits after a first failure.
    pub first_wait: Duration,
    /// And after many.
    pub longest_wait: Duration,
    /// Between two messages to one channel of Slack's, which allows one in a second.
    pub slack: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            first_wait: second * 2,
            longest_wait: second * 600,
            slack: second,
        }
    }
}

impl Pace {
    /// How long to wait after so many failures; with `chance`, from 0 to 1, up to a quarter less.
    fn wait(&self, failures: u32, chance: f64) -> Duration {
        let factor = GROWTH.saturating_pow(failures.saturating_sub(1));
        self.first_wait
            .saturating_mul(factor)
            .min(self.longest_wait)
            .mul_f64(1.0 - chance / 4.0)
    }
}

/// Tells channels what is in the outbox.
pub struct Notifier {
    pub store: Store,
    pub channels: Arc<Channels>,
    pub pace: Pace,
}

/// One channel at work.
struct Desk<'a> {
    channel: &'a Channel,
    lease: &'a LeaderLease,
    /// Before then Slack takes no more.
    next: Instant,
    stopping: watch::Receiver<bool>,
}

impl Desk<'_> {
    fn name(&self) -> &str {
        &self.channel.name
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    fn count(&self, outcome: &'static str) {
        counter!(NOTIFICATIONS, "channel" => self.channel.name.clone(), "outcome" => outcome)
            .increment(1);
    }

    /// Waits, but not on when everything stops.
    async fn pause(&mut self, until: Instant) {
        tokio::select! {
            _ = self.stopping.wait_for(|stopping| *stopping) => {}
            () = sleep_until(until) => {}
        }
    }
}

impl Notifier {
    /// Gives channels that were never seen before their place, so that what happens from now on is told there.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn open_channels(&self) -> Result<()> {
        for channel in self.channels.iter() {
            self.store.open_channel(&channel.name).await?;
        }
        Ok(())
    }

    /// Works until `stopping` is raised, while this process has the part.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let lease = LeaderLease::new(LeaderRole::Notifier);
        loop {
            if lease.renew(&self.store).await.unwrap_or(false) {
                self.lead(&lease, &mut stopping).await;
            }
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => break,
                () = sleep(AGAIN) => {}
            }
        }
        self.store.release_role(LeaderRole::Notifier).await;
    }

    /// Works while the part is this process's. What is being sent at its end is finished and noted: cut off, it would be
    /// sent again by whoever is next.
    async fn lead(&self, lease: &LeaderLease, stopping: &mut watch::Receiver<bool>) {
        let (end, ended) = watch::channel(false);
        let ending = async {
            tokio::select! {
                () = lease.wait_lost(&self.store) => {
                    tracing::warn!("another process sends notifications now, or the database does not answer");
                }
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
            end.send_replace(true);
        };
        join(self.work(lease, &ended), ending).await;
    }

    /// Ends when `stopping` is raised.
    async fn work(&self, lease: &LeaderLease, stopping: &watch::Receiver<bool>) {
        let (news, heard) = watch::channel(());
        let desk = |channel| Desk {
            channel,
            lease,
            next: Instant::now(),
            stopping: stopping.clone(),
        };
        tokio::select! {
            never = self.listen(&news) => match never {},
            _ = join_all(self.channels.iter().map(|channel| self.serve(desk(channel), heard.clone()))) => {}
        }
    }

    async fn listen(&self, news: &watch::Sender<()>) -> Infallible {
        loop {
            let Err(error) = self.hear(news).await;
            tracing::error!(%error, "nothing is heard of new events; trying again");
            sleep(AGAIN).await;
        }
    }

    async fn hear(&self, news: &watch::Sender<()>) -> Result<Infallible> {
        let mut ears = self.store.clone().listen().await?;
        loop {
            ears.changed().await?;
            news.send_replace(());
        }
    }

    async fn serve(&self, mut desk: Desk<'_>, mut heard: watch::Receiver<()>) {
        while !desk.is_stopping() {
            heard.mark_unchanged();
            let wait = match self.turn(&mut desk).await {
                Ok(wait) => wait.min(TICK),
                Err(error) => {
                    tracing::error!(channel = desk.name(), %error, "notifications are held up; trying again");
                    AGAIN
                }
            };
            tokio::select! {
                // Its sender lives as long as this.
                _ = heard.changed() => {}
                () = desk.pause(Instant::now() + wait) => {}
            }
        }
    }

    /// Tells a channel all that it can be told now. How long there is nothing more to be done for it, unless news come.
    async fn turn(&self, desk: &mut Desk<'_>) -> Result<Duration> {
        let mut state = self.store.open_channel(desk.name()).await?;
        while !desk.is_stopping() {
            if !desk.lease.is_held() && !desk.lease.renew(&self.store).await? {
                return Ok(AGAIN);
            }
            if !self.take_up(desk.channel, &mut state.place).await? {
                return Ok(AGAIN);
            }
            let now = Utc::now();
            if let Some(until) = state.rests_until.filter(|until| *until > now) {
                return Ok((until - now).to_std().unwrap_or_default());
            }
            let due = self
                .store
                .due_notifications(desk.name(), now, NOTIFICATIONS_AT_ONCE)
                .await?;
            if due.is_empty() {
                let next = self.store.next_notification_at(desk.name()).await?;
                return Ok(next.map_or(TICK, |next| (next - now).to_std().unwrap_or_default()));
            }
            for row in due {
                desk.pause(desk.next).await;
                if desk.is_stopping() {
                    break;
                }
                match self.tell(desk, &row, &mut state).await? {
                    Then::Next => {}
                    Then::Rest => break,
                    Then::Anew => return Ok(Duration::ZERO),
                }
            }
        }
        Ok(Duration::ZERO)
    }

    /// Notes what the channel is to be told of all that is new. Whether nobody else did.
    async fn take_up(&self, channel: &Channel, place: &mut EventId) -> Result<bool> {
        loop {
            let events = self.store.events_after(*place, EVENTS).await?;
            let Some(last) = events.last().map(|event| event.id) else {
                return Ok(true);
            };
            let wanted = events
                .into_iter()
                .filter_map(|event| wanted(channel, event))
                .collect::<Vec<_>>();
            if !self
                .store
                .advance_channel(&channel.name, *place, last, &wanted, Utc::now())
                .await?
            {
                return Ok(false);
            }
            *place = last;
        }
    }

    /// Sends one, and notes what came of it.
    async fn tell(
        &self,
        desk: &mut Desk<'_>,
        row: &NotificationRow,
        state: &mut ChannelState,
    ) -> Result<Then> {
        let event = row.event.id;
        if row.answer.is_some()
            && self
                .store
                .supersede_if_outdated(desk.name(), event, Utc::now())
                .await?
        {
            desk.count("superseded");
            return Ok(Then::Next);
        }
        let message = self.message(desk.channel.kind, row.event.clone()).await?;
        if !desk.lease.is_held() {
            // Another may have the part, and have sent this one.
            return Ok(Then::Anew);
        }
        let answer = self.channels.send(desk.channel, &message).await;
        tallyhook_core::crash_point::reached("notify.sent");
        if desk.channel.kind == ChannelKind::Slack {
            desk.next = Instant::now() + self.pace.slack;
        }
        let at = Utc::now();
        // The same for both, so that whatever is next when the channel has rested is this one, or surely another.
        let chance = rand::rng().random();
        let (next, rest) = decide(answer.outcome, row.attempts, state, at, |failures| {
            self.pace.wait(failures, chance)
        });
        let text = answer.text();
        let attempt = NotificationAttempt {
            channel: desk.name(),
            event,
            answer: &text,
            at,
        };
        // It was sent, and must not be sent again since the database is away for a moment.
        let mut is_unsure = false;
        let is_noted = loop {
            match self.store.record_attempt(&attempt, next, rest).await {
                Ok(is_noted) => break is_noted,
                Err(error @ StoreError::Closed) => return Err(error),
                Err(error) => {
                    // It may have been noted, and the answer lost.
                    is_unsure = true;
                    let channel = desk.name();
                    tracing::error!(channel, %error, "what came of a notification cannot be noted; trying again");
                }
            }
            sleep(AGAIN).await;
        };
        tallyhook_core::crash_point::reached("notify.recorded");
        if !is_noted && !is_unsure {
            // It may be so with those that were read with it.
            tracing::warn!(channel = desk.name(), event.id = %event, "what was sent was finished by somebody else");
            return Ok(Then::Anew);
        }
        desk.count(match next {
            AttemptResult::Sent => "sent",
            AttemptResult::Dead => "dead",
            AttemptResult::RetryAt(_) | AttemptResult::DeferredTo(_) => "retried",
        });
        let what = answer.what.as_str();
        if next == AttemptResult::Dead {
            tracing::warn!(channel = desk.name(), event.id = %event, answer = what, "a notification was given up");
        }
        if !is_noted {
            return Ok(Then::Anew);
        }
        let Some(ChannelPause { until, failures }) = rest else {
            return Ok(Then::Next);
        };
        match (state.failures, failures) {
            (0, 1) => tracing::warn!(
                channel = desk.name(),
                answer = what,
                "a channel does not take notifications"
            ),
            (1.., 0) => {
                tracing::info!(channel = desk.name(), "a channel takes notifications again")
            }
            _ => {}
        }
        (state.rests_until, state.failures) = (until, failures);
        Ok(if until.is_some() {
            Then::Rest
        } else {
            Then::Next
        })
    }

    async fn message(&self, kind: ChannelKind, event: OutboxEvent) -> Result<Message> {
        let known = match kind {
            ChannelKind::Slack => self.known(&event).await?,
            ChannelKind::Webhook => slack::Known::default(),
        };
        let notification = Notification::from(event);
        let body = match kind {
            ChannelKind::Slack => slack::message(&notification, &known).to_string(),
            ChannelKind::Webhook => notification.to_text(),
        };
        Ok(Message {
            key: notification.key(),
            kind: notification.kind().as_str(),
            body,
        })
    }

    /// What people want to know besides.
    async fn known(&self, event: &OutboxEvent) -> Result<slack::Known> {
        let (key, task) = match &event.news {
            OutboxPayload::PullRequest(change, _) => (Some(change.key), None),
            OutboxPayload::Task(change) => (None, Some(change.task)),
            OutboxPayload::WorktreeKept(kept) => (Some(kept.key), Some(kept.task)),
        };
        let pull_request = match key {
            Some(key) => self.store.pull_request(key).await?,
            None => None,
        };
        let task = match task {
            Some(id) => self.store.task(&TaskRef::Id(id)).await?,
            None => None,
        };
        Ok(slack::Known { pull_request, task })
    }
}

/// What comes after a notification.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The next one of those that were read.
    Next,
    /// The channel rests.
    Rest,
    /// What was read may be old by now.
    Anew,
}

/// An event with its subject, if the channel is to be told of it.
fn wanted(channel: &Channel, event: OutboxEvent) -> Option<(EventId, String)> {
    let (id, repo) = (event.id, event.repo.clone());
    let notification = Notification::from(event);
    let is_wanted = channel.filter.takes(notification.kind(), repo.as_deref());
    is_wanted.then(|| (id, notification.subject().to_string()))
}

/// What becomes of a notification after so many attempts before this one, and what that means for its channel, if anything.
/// `wait` says how long to wait after so many failures.
fn decide(
    outcome: Outcome,
    attempts: u32,
    channel: &ChannelState,
    at: Moment,
    wait: impl Fn(u32) -> Duration,
) -> (AttemptResult, Option<ChannelPause>) {
    let (attempt, failures) = (attempts.saturating_add(1), channel.failures);
    let again = |most: u32, waits: u32| {
        if attempt < most {
            AttemptResult::RetryAt(at + wait(waits))
        } else {
            AttemptResult::Dead
        }
    };
    match outcome {
        Outcome::Taken => {
            let rested = failures > 0 || channel.rests_until.is_some();
            (
                AttemptResult::Sent,
                rested.then_some(ChannelPause {
                    until: None,
                    failures: 0,
                }),
            )
        }
        Outcome::NotNow(rest) => (
            AttemptResult::DeferredTo(at + rest),
            Some(ChannelPause {
                until: Some(at + rest),
                failures,
            }),
        ),
        Outcome::Broken => {
            // Whatever was sent next would find the same.
            let failures = failures.saturating_add(1);
            let waits = if attempt < OTHERS_FIRST {
                attempt
            } else {
                attempt.saturating_add(1)
            };
            (
                again(MOST_ATTEMPTS, waits),
                Some(ChannelPause {
                    until: Some(at + wait(failures)),
                    failures,
                }),
            )
        }
        Outcome::Refused => (
            again(MOST_REFUSALS, attempt),
            Some(ChannelPause {
                until: None,
                failures,
            }),
        ),
        Outcome::Gone => (
            AttemptResult::Dead,
            Some(ChannelPause {
                until: None,
                failures,
            }),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u32) -> Moment {
        Moment::UNIX_EPOCH + Duration::from_secs(seconds.into())
    }

    fn decided(
        outcome: Outcome,
        attempts: u32,
        failures: u32,
    ) -> (AttemptResult, Option<ChannelPause>) {
        let channel = ChannelState {
            place: EventId(1),
            rests_until: None,
            failures,
            last_error: None,
        };
        decide(outcome, attempts, &channel, at(0), |failures| {
            Duration::from_secs(failures.into())
        })
    }

    #[test]
    fn waits_grow_up_to_ten_minutes() {
        let pace = Pace::default();
        let waits: Vec<_> = (1..=7)
            .map(|failures| pace.wait(failures, 0.0).as_secs())
            .collect();
        assert_eq!(waits, [2, 8, 32, 128, 512, 600, 600]);
        assert_eq!(pace.wait(1, 1.0), Duration::from_millis(1500));
        assert_eq!(pace.wait(u32::MAX, 0.5).as_secs(), 525);
    }

    #[test]
    fn what_breaks_rests_the_channel_and_is_tried_ten_times() {
        let rest = |until, failures| {
            Some(ChannelPause {
                until: Some(at(until)),
                failures,
            })
        };
        assert_eq!(
            decided(Outcome::Broken, 0, 0),
            (AttemptResult::RetryAt(at(1)), rest(1, 1))
        );
        // Others failed before it.
        assert_eq!(
            decided(Outcome::Broken, 1, 6),
            (AttemptResult::RetryAt(at(2)), rest(7, 7))
        );
        assert_eq!(
            decided(Outcome::Broken, 8, 8),
            (AttemptResult::RetryAt(at(10)), rest(9, 9))
        );
        assert_eq!(
            decided(Outcome::Broken, 9, 9),
            (AttemptResult::Dead, rest(10, 10))
        );
    }

    #[test]
    fn what_breaks_thrice_waits_longer_than_its_channel() {
        let until = |(next, rest): (AttemptResult, Option<ChannelPause>)| {
            (next, rest.and_then(|rest| rest.until).unwrap())
        };
        assert_eq!(
            until(decided(Outcome::Broken, 1, 1)),
            (AttemptResult::RetryAt(at(2)), at(2))
        );
        assert_eq!(
            until(decided(Outcome::Broken, 2, 2)),
            (AttemptResult::RetryAt(at(4)), at(3))
        );
        // Another was taken meanwhile.
        assert_eq!(
            until(decided(Outcome::Broken, 3, 0)),
            (AttemptResult::RetryAt(at(5)), at(1))
        );
    }

    #[test]
    fn what_is_refused_lets_others_go_on_and_is_tried_three_times() {
        let none = Some(ChannelPause {
            until: None,
            failures: 4,
        });
        assert_eq!(
            decided(Outcome::Refused, 0, 4),
            (AttemptResult::RetryAt(at(1)), none)
        );
        assert_eq!(
            decided(Outcome::Refused, 1, 4),
            (AttemptResult::RetryAt(at(2)), none)
        );
        assert_eq!(decided(Outcome::Refused, 2, 4), (AttemptResult::Dead, none));
        assert_eq!(decided(Outcome::Gone, 0, 4), (AttemptResult::Dead, none));
    }

    #[test]
    fn a_rest_that_is_asked_for_is_no_failure() {
        let rest = ChannelPause {
            until: Some(at(30)),
            failures: 2,
        };
        assert_eq!(
            decided(Outcome::NotNow(Duration::from_secs(30)), 9, 2),
            (AttemptResult::DeferredTo(at(30)), Some(rest))
        );
    }

    #[test]
    fn what_is_taken_ends_what_was_wrong() {
        assert_eq!(decided(Outcome::Taken, 5, 0), (AttemptResult::Sent, None));
        assert_eq!(
            decided(Outcome::Taken, 0, 3),
            (
                AttemptResult::Sent,
                Some(ChannelPause {
                    until: None,
                    failures: 0
                })
            )
        );
    }
}
