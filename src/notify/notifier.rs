//! The notifier: delivers the events of the outbox to each channel, in order and one at a time.
//!
//! A notification is stored before it is sent, and its result before the next one is sent. A
//! process that ends between sending and storing the result makes its successor send that one
//! again, with the same idempotency key. One process at a time sends. A process that was suspended
//! and resumes after another one took the lease finds that out before it sends more than one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::future::join_all;
use metrics::counter;
use rand::RngExt;
use tallyhook_store::{
    AttemptResult, ChannelPause, ChannelState, EventId, LeaderRole, NotificationAttempt,
    NotificationRow, OutboxEvent, OutboxPayload, Result, Store, StoreError, TaskRef, TeamId,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Notification;
use super::channel::{Channel, ChannelKind, Channels};
use super::retry::{RetryPolicy, decide};
use super::sending::OutgoingMessage;
use super::slack;
use crate::leader::{LeaderLease, LeaderWork, Leadership, while_leading};
use crate::telemetry::NOTIFICATIONS;

/// The interval at which the outbox is read without a notification of the database.
const TICK: Duration = Duration::from_secs(5);
/// The delay after a failure of the database, and while another process holds the lease.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Events that are read from the outbox at once.
const EVENT_PAGE: u32 = 256;
/// Notifications that are sent between two reads of the outbox.
const SEND_BATCH: u32 = 32;

/// Delivers the outbox to the channels.
pub struct Notifier {
    pub store: Store,
    pub channels: Arc<Channels>,
    pub retry: RetryPolicy,
}

/// The state of one channel's delivery loop.
struct ChannelWorker<'a> {
    channel: &'a Channel,
    lease: &'a LeaderLease,
    /// The earliest time of the next message, which limits the rate to Slack.
    next_send: Instant,
    stopping: watch::Receiver<bool>,
}

impl ChannelWorker<'_> {
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

    /// Counts and logs the new state of a notification.
    fn report(&self, next: AttemptResult, event: EventId, status: &str) {
        self.count(match next {
            AttemptResult::Sent => "sent",
            AttemptResult::Dead => "dead",
            AttemptResult::RetryAt(_) | AttemptResult::DeferredTo(_) => "retried",
        });
        if next == AttemptResult::Dead {
            tracing::warn!(
                channel = self.name(),
                event.id = %event,
                answer = status,
                "notification {event} on channel {} is dead after its last attempt: {status}",
                self.name()
            );
        }
    }

    /// Takes over the new pause of the channel, which is stored, and logs its beginning and its
    /// end.
    fn apply_pause(&self, state: &mut ChannelState, pause: ChannelPause, status: &str) -> LoopStep {
        let ChannelPause { until, failures } = pause;
        let channel = self.name();
        match (state.failures, failures) {
            (0, 1) => tracing::warn!(
                channel,
                answer = status,
                "channel {channel} fails to take notifications: {status}"
            ),
            (1.., 0) => tracing::info!(channel, "channel {channel} takes notifications again"),
            _ => {}
        }
        (state.rests_until, state.failures) = (until, failures);
        if until.is_some() {
            LoopStep::Pause
        } else {
            LoopStep::Continue
        }
    }

    /// Waits until a time or until the process stops.
    async fn pause(&mut self, until: Instant) {
        tokio::select! {
            _ = self.stopping.wait_for(|stopping| *stopping) => {}
            () = sleep_until(until) => {}
        }
    }
}

impl LeaderWork for Notifier {
    /// Sends until the leadership ends. A request that is in flight then is finished and recorded:
    /// cut off, it would be sent again by the next leader.
    async fn lead(&mut self, leadership: &Leadership<'_>) {
        self.work(leadership.lease(), &leadership.ended()).await;
    }
}

impl Notifier {
    /// Stores the watermark of channels that are new, so that events from now on are delivered to
    /// them.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn open_channels(&self) -> Result<()> {
        for channel in self.channels.iter() {
            self.store
                .of_team(channel.team)
                .open_channel(&channel.name)
                .await?;
        }
        Ok(())
    }

    /// Sends notifications until `stopping` becomes true, while this process holds the role.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        let store = self.store.clone();
        while_leading(&store, LeaderRole::Notifier, stopping, &mut self).await;
    }

    /// Runs the loops of all channels until `stopping` is raised.
    async fn work(&self, lease: &LeaderLease, stopping: &watch::Receiver<bool>) {
        let (changes, changed) = watch::channel(());
        let worker = |channel| ChannelWorker {
            channel,
            lease,
            next_send: Instant::now(),
            stopping: stopping.clone(),
        };
        let loops = self
            .channels
            .iter()
            .map(|channel| self.serve(worker(channel), changed.clone()));
        tokio::select! {
            never = self.listen(&changes) => match never {},
            _ = join_all(loops) => {}
        }
    }

    /// Forwards the database's notifications of new events to all channels' loops.
    async fn listen(&self, changes: &watch::Sender<()>) -> Infallible {
        loop {
            let Err(error) = self.forward_changes(changes).await;
            tracing::error!(%error, "cannot listen for new events; trying again");
            sleep(RETRY_DELAY).await;
        }
    }

    async fn forward_changes(&self, changes: &watch::Sender<()>) -> Result<Infallible> {
        let mut listener = self.store.clone().listen().await?;
        loop {
            listener.changed().await?;
            changes.send_replace(());
        }
    }

    /// The loop of one channel.
    async fn serve(&self, mut worker: ChannelWorker<'_>, mut changed: watch::Receiver<()>) {
        while !worker.is_stopping() {
            changed.mark_unchanged();
            let wait = match self.deliver_due(&mut worker).await {
                Ok(wait) => wait.min(TICK),
                Err(error) => {
                    tracing::error!(
                        channel = worker.name(),
                        %error,
                        "notifications on channel {} are delayed by the database; trying again",
                        worker.name()
                    );
                    RETRY_DELAY
                }
            };
            tokio::select! {
                // No error is possible: the sender outlives this loop.
                _ = changed.changed() => {}
                () = worker.pause(Instant::now() + wait) => {}
            }
        }
    }

    /// Delivers everything that is due on a channel. Returns the time until the next one is due.
    async fn deliver_due(&self, worker: &mut ChannelWorker<'_>) -> Result<Duration> {
        let mut state = self
            .store
            .of_team(worker.channel.team)
            .open_channel(worker.name())
            .await?;
        while !worker.is_stopping() {
            if !worker.lease.is_held() && !worker.lease.renew(&self.store).await? {
                return Ok(RETRY_DELAY);
            }
            self.make_digest(worker.channel, &mut state, Utc::now())
                .await?;
            if !self.enqueue_new(worker.channel, &mut state.place).await? {
                return Ok(RETRY_DELAY);
            }
            let now = Utc::now();
            if let Some(until) = worker.channel.quiet_until(now.into()) {
                self.store
                    .of_team(worker.channel.team)
                    .hold_notifications(worker.name(), until.to_utc())
                    .await?;
                return Ok((until.to_utc() - now).to_std().unwrap_or_default());
            }
            if let Some(until) = state.rests_until.filter(|until| *until > now) {
                return Ok((until - now).to_std().unwrap_or_default());
            }
            let due = self
                .store
                .of_team(worker.channel.team)
                .due_notifications(worker.name(), now, SEND_BATCH)
                .await?;
            if due.is_empty() {
                let next = self
                    .store
                    .of_team(worker.channel.team)
                    .next_notification_at(worker.name())
                    .await?;
                return Ok(next.map_or(TICK, |next| (next - now).to_std().unwrap_or_default()));
            }
            for row in due {
                worker.pause(worker.next_send).await;
                if worker.is_stopping() {
                    break;
                }
                match self.deliver(worker, &row, &mut state).await? {
                    LoopStep::Continue => {}
                    LoopStep::Pause => break,
                    LoopStep::Reload => return Ok(Duration::ZERO),
                }
            }
        }
        Ok(Duration::ZERO)
    }

    /// Stores a notification for every new event that passes the channel's filter, and advances its
    /// watermark. Returns false if another process did so in between.
    async fn enqueue_new(&self, channel: &Channel, place: &mut EventId) -> Result<bool> {
        loop {
            let events = self.store.events_after(*place, EVENT_PAGE).await?;
            let Some(last) = events.last().map(|event| event.id) else {
                return Ok(true);
            };
            let mut wanted = Vec::new();
            for event in events {
                // The others are of other teams.
                if let Some(event) = event.of_team(channel.team) {
                    wanted.extend(self.filtered(channel, event).await?);
                }
            }
            if !self
                .store
                .of_team(channel.team)
                .advance_channel(&channel.name, *place, last, &wanted, Utc::now())
                .await?
            {
                return Ok(false);
            }
            *place = last;
        }
    }

    /// Returns an event's id and subject if it passes the channel's filter. A repository passes by
    /// any name that means it: it may have been renamed since the settings were written.
    async fn filtered(
        &self,
        channel: &Channel,
        event: OutboxEvent,
    ) -> Result<Option<(EventId, String)>> {
        if let Some(recipient) = event.payload.channel() {
            let is_wanted = recipient == channel.name;
            let (id, subject) = (event.id, Notification::from(event).subject());
            return Ok(is_wanted.then(|| (id, subject.to_string())));
        }
        let (id, repo) = (event.id, event.repo.clone());
        let repo_id = event.payload.pull_request().map(|key| key.repo);
        let notification = Notification::from(event);
        let accepts = |name| channel.filter.accepts(notification.kind(), name);
        let mut is_wanted = accepts(repo.as_deref());
        if let Some(repo_id) = repo_id.filter(|_| !is_wanted)
            && channel.filter.single_repos().next().is_some()
        {
            let names = self.store.repository_names(repo_id).await?;
            let means_it =
                |wanted: &str| names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
            let mut wanted = channel.filter.single_repos();
            is_wanted = wanted.any(|wanted| means_it(wanted) && accepts(Some(wanted)));
        }
        Ok(is_wanted.then(|| (id, notification.subject().to_string())))
    }

    /// Sends one notification and records the result.
    async fn deliver(
        &self,
        worker: &mut ChannelWorker<'_>,
        row: &NotificationRow,
        state: &mut ChannelState,
    ) -> Result<LoopStep> {
        let event = row.event.id;
        let may_be_outdated = row.answer.is_some()
            || row.held_until.is_some()
            || matches!(row.event.payload, OutboxPayload::Waiting(..));
        if may_be_outdated
            && self
                .store
                .of_team(worker.channel.team)
                .supersede_if_outdated(worker.name(), event, Utc::now())
                .await?
        {
            worker.count("superseded");
            return Ok(LoopStep::Continue);
        }
        let message = self.message(worker.channel, row.event.clone()).await?;
        if !worker.lease.is_held() {
            // Another process may hold the lease and have sent this one already.
            return Ok(LoopStep::Reload);
        }
        let result = self.channels.send(worker.channel, &message).await;
        tallyhook_core::crash_point::reached("notify.sent");
        if worker.channel.kind == ChannelKind::Slack {
            worker.next_send = Instant::now() + self.retry.slack_interval;
        }
        let at = Utc::now();
        // One random number for both delays, so that after the pause either this notification is
        // due or certainly another one is.
        let chance = rand::rng().random();
        let (next, pause) = decide(result.outcome, row.attempts, state, at, |failures| {
            self.retry.delay(failures, chance)
        });
        let text = result.text();
        let attempt = NotificationAttempt {
            channel: worker.name(),
            event,
            answer: &text,
            at,
        };
        let recorded = self
            .record((worker.channel.team, &attempt), next, pause)
            .await?;
        tallyhook_core::crash_point::reached("notify.recorded");
        if recorded == RecordResult::Refused {
            // The rows that were read with this one may be outdated, too.
            let channel = worker.name();
            tracing::warn!(
                channel, event.id = %event,
                "notification {event} on channel {channel} was finished by another process while \
                 it was sent"
            );
            return Ok(LoopStep::Reload);
        }
        worker.report(next, event, &result.status);
        if recorded == RecordResult::Unknown {
            return Ok(LoopStep::Reload);
        }
        Ok(pause.map_or(LoopStep::Continue, |pause| {
            worker.apply_pause(state, pause, &result.status)
        }))
    }

    /// Records the result of an attempt, again and again while the database fails: the message was
    /// sent, and would be sent again if the result were lost.
    async fn record(
        &self,
        (team, attempt): (TeamId, &NotificationAttempt<'_>),
        next: AttemptResult,
        pause: Option<ChannelPause>,
    ) -> Result<RecordResult> {
        let (store, mut has_failed) = (self.store.of_team(team), false);
        loop {
            match store.record_attempt(attempt, next, pause).await {
                Ok(true) => return Ok(RecordResult::Done),
                // A failed call before this one may have recorded it, and its answer was lost.
                Ok(false) if has_failed => return Ok(RecordResult::Unknown),
                Ok(false) => return Ok(RecordResult::Refused),
                Err(error @ StoreError::Closed) => return Err(error),
                Err(error) => {
                    has_failed = true;
                    let (channel, event) = (attempt.channel, attempt.event);
                    tracing::error!(
                        channel,
                        event.id = %event,
                        %error,
                        "the result of notification {event} on channel {channel} cannot be \
                         recorded; trying again"
                    );
                }
            }
            sleep(RETRY_DELAY).await;
        }
    }

    /// Builds the message of an event in the format of a channel.
    async fn message(&self, channel: &Channel, event: OutboxEvent) -> Result<OutgoingMessage> {
        let kind = channel.kind;
        let context = match kind {
            ChannelKind::Slack => self.context(channel.team, &event).await?,
            ChannelKind::Webhook => slack::MessageContext::default(),
        };
        let notification = Notification::from(event);
        let body = match kind {
            ChannelKind::Slack => slack::message(&notification, &context).to_string(),
            ChannelKind::Webhook => notification.to_json(),
        };
        Ok(OutgoingMessage {
            key: notification.key(),
            kind: notification.kind().as_str(),
            body,
        })
    }

    /// Loads the pull request and the task that Slack messages show beside the event.
    async fn context(&self, team: TeamId, event: &OutboxEvent) -> Result<slack::MessageContext> {
        let store = self.store.of_team(team);
        let (key, task) = match &event.payload {
            OutboxPayload::PullRequest(change, _) => (Some(change.key), None),
            OutboxPayload::Task(change) => (None, Some(change.task)),
            OutboxPayload::WorktreeKept(kept) => (Some(kept.key), Some(kept.task)),
            OutboxPayload::Waiting(..) | OutboxPayload::Digest(_) => (None, None),
        };
        let pull_request = match key {
            Some(key) => store.pull_request(key).await?,
            None => None,
        };
        let task = match task {
            Some(id) => store.task(&TaskRef::Id(id)).await?,
            None => None,
        };
        Ok(slack::MessageContext { pull_request, task })
    }
}

/// The result of recording an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RecordResult {
    Done,
    /// Another process had finished the notification.
    Refused,
    /// Recorded by an earlier call whose answer was lost, or refused.
    Unknown,
}

/// The next step of a channel's loop after a notification.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LoopStep {
    /// Send the next one of the batch.
    Continue,
    /// The channel is paused: end the batch.
    Pause,
    /// The rest of the batch may be outdated: read it again.
    Reload,
}
