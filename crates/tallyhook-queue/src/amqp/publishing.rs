//! The connection that publishes.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, Event, PublisherConfirm};
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::super::Publication;
use super::{
    ConnectionState, DeadCopy, DeliveryId, Lane, REQUEST_TIMEOUT, ReconnectState, SignalCollector,
    connect, stopped, topology, within,
};

/// Messages without a confirm.
const IN_FLIGHT: usize = 512;
/// How often a canary message is published to each quiet lane, to prove that the lane works.
const CANARY_INTERVAL: Duration = Duration::from_secs(5);
const CANARY_NAME: &str = "canary";
/// The depth of a lane from which on it gets no canary: without a worker canaries would pile up.
const CANARY_DEPTH: usize = 100;
/// The number of canaries after which the topology is declared again: a person may have deleted a binding.
const DECLARE_EVERY: u32 = 12;
/// The time limit for publishing what is pending at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(1500);
/// The time limit of the first canary of a connection.
const FIRST_CANARY_TIMEOUT: Duration = Duration::from_secs(3);
/// The number of connections with dead lanes after which the lanes are deleted and declared again.
const MAX_DEAD_LANES: u32 = 2;
/// The header that marks a dead letter's copy, and holds the reason.
pub(super) const DEAD_HEADER: &str = "tallyhook-reason";

/// A message that waits to be published.
#[derive(Debug)]
pub(super) enum Outgoing {
    Delivery(Lane, DeliveryId, Publication),
    /// The copy of a dead letter, with the sender that reports the broker's confirm.
    Dead(Box<DeadCopy>, oneshot::Sender<()>),
}

/// Reserved room for one delivery.
#[derive(Debug)]
pub struct Permit {
    lane: Lane,
    permit: OwnedPermit<Outgoing>,
}

impl Permit {
    pub(super) fn new(lane: Lane, permit: OwnedPermit<Outgoing>) -> Self {
        Self { lane, permit }
    }

    pub(crate) fn send(self, id: DeliveryId, publication: Publication) {
        self.permit
            .send(Outgoing::Delivery(self.lane, id, publication));
    }
}

/// A query for the number of messages that wait in a lane.
#[derive(Debug)]
pub(super) struct DepthQuery {
    pub(super) lane: Lane,
    pub(super) answer: oneshot::Sender<usize>,
}

/// The supervisor of the connection that publishes.
pub(super) struct Publisher {
    pub(super) uri: AMQPUri,
    pub(super) state: Arc<ConnectionState>,
    pub(super) signals: Arc<SignalCollector>,
    pub(super) outgoing: mpsc::Receiver<Outgoing>,
    pub(super) depth_queries: mpsc::Receiver<DepthQuery>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// A message that waits for its confirm.
enum PublishedMessage {
    Delivery(Lane, DeliveryId),
    Dead(oneshot::Sender<()>),
    Canary(Lane),
}

/// The unfinished work of one connection.
#[derive(Default)]
struct InFlight {
    unconfirmed: HashSet<DeliveryId>,
    /// The broker blocks publishers: it is short of memory or disk.
    blocked: bool,
    /// Lanes that confirmed a message since the last canaries, which proves as much as a canary.
    active: HashSet<Lane>,
    canaries: u32,
}

/// The events of a connection.
type ConnectionEvents = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// The reason why a publishing connection ended.
enum PublishingEnded {
    /// The process stops, and everything is confirmed.
    Finished,
    Failed(String),
}

/// The reason why a connection could not be opened.
enum OpenFailure {
    Failed(String),
    /// The broker answers, but its lanes confirm no message.
    DeadLanes,
}

impl From<String> for OpenFailure {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl Publisher {
    pub(super) async fn run(mut self) {
        let mut reconnect = ReconnectState::default();
        let mut was_connected = false;
        let mut dead_lanes = 0;
        loop {
            let uri = self.uri.clone();
            let mut opening = std::pin::pin!(PublisherSession::open(
                &uri,
                dead_lanes >= MAX_DEAD_LANES,
                reconnect.failures > 0
            ));
            let opened = tokio::select! {
                opened = &mut opening => Some(opened),
                () = stopped(&mut self.stopping) => None,
            };
            let Some(opened) = opened else {
                self.return_pending().await;
                // A connection that is dropped half-open may stay at the broker, so it is opened and closed.
                if let Ok((session, _)) = opening.await {
                    session.close().await;
                }
                return;
            };
            let reason = match opened {
                Ok((session, mut events)) => {
                    if was_connected || session.lanes_replaced {
                        self.signals.report_connection_lost();
                    }
                    if dead_lanes > 0 {
                        self.state.lanes_restored.notify_one();
                    }
                    (was_connected, dead_lanes) = (true, 0);
                    reconnect.reset();
                    tracing::info!("connected to the broker");
                    self.state.set_publishing(!session.is_blocked());
                    let ended = self.serve(&session, &mut events).await;
                    self.state.set_publishing(false);
                    if *self.stopping.borrow() {
                        self.return_pending().await;
                        return session.close().await;
                    }
                    session.close().await;
                    match ended {
                        PublishingEnded::Finished => return,
                        PublishingEnded::Failed(reason) => reason,
                    }
                }
                Err(OpenFailure::DeadLanes) => {
                    dead_lanes += 1;
                    // The broker answers, so that there is no reason to back off.
                    if dead_lanes <= MAX_DEAD_LANES {
                        reconnect.reset();
                    }
                    "its lanes confirm no messages".to_owned()
                }
                Err(OpenFailure::Failed(reason)) => reason,
            };
            reconnect.log("publishing", &reason);
            self.wait(reconnect.next_delay()).await;
        }
    }

    /// Waits for `delay`, or until the process stops. Returns to the inbox what is to be published in that time.
    async fn wait(&mut self, delay: Duration) {
        let until = Instant::now() + delay;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = stopped(&mut self.stopping) => return,
                Some(outgoing) = self.outgoing.recv() => self.return_to_inbox(outgoing),
                // A query without an answer means no room.
                Some(query) = self.depth_queries.recv() => drop(query),
            }
        }
    }

    /// Returns all pending messages to the inbox, for another process, since this one stops.
    async fn return_pending(&mut self) {
        self.outgoing.close();
        while let Some(outgoing) = self.outgoing.recv().await {
            self.return_to_inbox(outgoing);
        }
    }

    /// Returns a message to the inbox. A dead letter's copy is dropped, which ends the wait for its confirm.
    fn return_to_inbox(&self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Delivery(_, id, _) => self.signals.report_nacked([id]),
            Outgoing::Dead(_, confirmed) => drop(confirmed),
        }
    }

    /// Publishes until the connection fails or the process stops.
    async fn serve(
        &mut self,
        session: &PublisherSession,
        events: &mut ConnectionEvents,
    ) -> PublishingEnded {
        let mut work = InFlight::default();
        let ended = self.publish_until_end(session, events, &mut work).await;
        self.signals.report_nacked(work.unconfirmed);
        ended
    }

    async fn publish_until_end(
        &mut self,
        session: &PublisherSession,
        events: &mut ConnectionEvents,
        work: &mut InFlight,
    ) -> PublishingEnded {
        let mut confirms = FuturesUnordered::new();
        let mut canaries = interval(CANARY_INTERVAL);
        canaries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        canaries.reset();
        let mut drain_deadline = None;
        loop {
            self.return_if_blocked(session, work);
            if drain_deadline.is_some() && confirms.is_empty() && self.outgoing.is_empty() {
                return PublishingEnded::Finished;
            }
            let worked = tokio::select! {
                Some((sent, confirmed)) = confirms.next(), if !confirms.is_empty() => {
                    self.handle_confirm(sent, confirmed, work)
                }
                Some(outgoing) = self.outgoing.recv(), if confirms.len() < IN_FLIGHT => {
                    if work.blocked {
                        self.return_to_inbox(outgoing);
                        continue;
                    }
                    if let Outgoing::Delivery(_, id, _) = &outgoing {
                        work.unconfirmed.insert(*id);
                    }
                    let sent = session.send(outgoing).await;
                    sent.map(|(sent, confirm)| confirms.push(wait_for_confirm(sent, confirm)))
                }
                Some(DepthQuery { lane, answer }) = self.depth_queries.recv() => {
                    topology::depth(&session.control, lane).await.map(|depth| {
                        // The receiver may have stopped waiting.
                        let _ = answer.send(depth);
                    })
                }
                event = events.next() => match event {
                    Some(Event::ConnectionUnblocked) => Err("the broker unblocked the connection".to_owned()),
                    Some(Event::Error(error)) => return PublishingEnded::Failed(error.to_string()),
                    Some(_) => Ok(()),
                    None => return PublishingEnded::Failed("the connection was closed".to_owned()),
                },
                _ = canaries.tick(), if !work.blocked => {
                    let sent = session.send_canaries(work).await;
                    sent.map(|sent| confirms.extend(sent.into_iter().map(|(sent, confirm)| wait_for_confirm(sent, confirm))))
                }
                () = stopped(&mut self.stopping), if drain_deadline.is_none() => {
                    drain_deadline = Some(Instant::now() + DRAIN_TIMEOUT);
                    self.outgoing.close();
                    Ok(())
                }
                () = sleep_until(drain_deadline.unwrap_or_else(Instant::now)), if drain_deadline.is_some() => {
                    return PublishingEnded::Failed("the process stops".to_owned());
                }
            };
            // The silence of a blocked connection is no failure, and its messages were returned to the inbox.
            if let Err(reason) = worked
                && !session.is_blocked()
            {
                return PublishingEnded::Failed(reason);
            }
        }
    }

    /// Returns everything unconfirmed to the inbox when the broker blocks the connection. The connection is kept until it
    /// is unblocked: another would be blocked as well, and closing a blocked one never ends.
    fn return_if_blocked(&self, session: &PublisherSession, work: &mut InFlight) {
        if session.is_blocked() && !work.blocked {
            tracing::warn!("the broker blocks publishers; deliveries wait in the inbox");
            work.blocked = true;
            self.state.set_publishing(false);
            self.signals.report_nacked(work.unconfirmed.drain());
        }
    }

    /// Handles one confirm.
    ///
    /// # Errors
    /// If the connection must be closed.
    fn handle_confirm(
        &self,
        sent: PublishedMessage,
        confirmed: Result<Confirmation, String>,
        work: &mut InFlight,
    ) -> Result<(), String> {
        let (is_ack, returned) = match confirmed? {
            Confirmation::Ack(returned) => (true, returned),
            Confirmation::Nack(returned) => (false, returned),
            Confirmation::NotRequested => {
                return Err("the broker does not send confirms".to_owned());
            }
        };
        // A message that no queue took is returned with the next confirm of any message, so that its own `message_id`
        // counts. This confirm may be that message's, so that its message counts as not taken either.
        if let Some(returned) = returned {
            let name = returned
                .delivery
                .properties
                .message_id()
                .as_ref()
                .map(ShortString::as_str)
                .unwrap_or_default();
            self.signals
                .report_nacked(name.parse().ok().map(DeliveryId));
            return Err(format!(
                "message {name} was returned: no queue is bound to its routing key"
            ));
        }
        match sent {
            PublishedMessage::Delivery(lane, id) => {
                work.unconfirmed.remove(&id);
                work.active.insert(lane);
                if is_ack {
                    tallyhook_core::crash_point::reached("queue.confirmed");
                } else {
                    self.signals.report_nacked([id]);
                }
            }
            PublishedMessage::Dead(confirmed) if is_ack => drop(confirmed.send(())),
            PublishedMessage::Dead(_) => {}
            PublishedMessage::Canary(lane) => {
                work.active.insert(lane);
            }
        }
        Ok(())
    }
}

/// Waits for one confirm, at most [`REQUEST_TIMEOUT`].
async fn wait_for_confirm(
    sent: PublishedMessage,
    confirm: PublisherConfirm,
) -> (PublishedMessage, Result<Confirmation, String>) {
    let confirmed = match timeout(REQUEST_TIMEOUT, confirm).await {
        Ok(confirmed) => confirmed.map_err(|error| error.to_string()),
        Err(_) => Err(format!(
            "a message was not confirmed within {} s",
            REQUEST_TIMEOUT.as_secs()
        )),
    };
    (sent, confirmed)
}

/// A publishing connection whose lanes confirmed a message, or that is blocked.
struct PublisherSession {
    connection: Connection,
    channel: Channel,
    /// The channel for declarations and queries: one that fails closes its channel.
    control: Channel,
    /// The lanes were dead and have been replaced.
    lanes_replaced: bool,
}

impl PublisherSession {
    /// Connects, declares the topology and sends a canary through each lane. With `replace_lanes` dead lanes are deleted
    /// and declared again; `probe` is as in [`connect`].
    async fn open(
        uri: &AMQPUri,
        replace_lanes: bool,
        probe: bool,
    ) -> Result<(Self, ConnectionEvents), OpenFailure> {
        let connection = connect(uri, "publisher", probe).await?;
        // Before the first request, so that no event is missed.
        let events: ConnectionEvents = Box::pin(connection.events_listener());
        let control = within("opening a channel", connection.create_channel()).await?;
        if replace_lanes {
            // One of several processes does it; the canaries of the others then succeed.
            topology::lock(&control).await?;
        }
        topology::declare(&control).await?;
        let channel = within("opening a channel", connection.create_channel()).await?;
        within(
            "asking for confirms",
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await?;
        let mut session = Self {
            connection,
            channel,
            control,
            lanes_replaced: false,
        };
        match session.check_lanes().await {
            Err(OpenFailure::DeadLanes) if replace_lanes => {
                tracing::warn!(
                    "the lanes confirm no message: deleting and declaring them again; the relay refills them from the inbox"
                );
                topology::delete_lanes(&session.control).await?;
                topology::declare(&session.control).await?;
                session.check_lanes().await?;
                session.lanes_replaced = true;
            }
            tried => tried?,
        }
        if replace_lanes {
            topology::unlock(&session.control).await?;
        }
        Ok((session, events))
    }

    /// Sends a canary through each lane: declaring a dead queue succeeds as if it were alive.
    async fn check_lanes(&self) -> Result<(), OpenFailure> {
        for lane in Lane::ALL {
            let confirm = self.send_canary(lane).await?;
            match timeout(FIRST_CANARY_TIMEOUT, confirm).await {
                // A full lane nacks, so that it works.
                Ok(Ok(Confirmation::Ack(None) | Confirmation::Nack(None))) => {}
                _ if self.is_blocked() => return Ok(()),
                _ if !self.connection.status().connected() => {
                    return Err(OpenFailure::Failed("the connection failed".to_owned()));
                }
                _ => return Err(OpenFailure::DeadLanes),
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        outgoing: Outgoing,
    ) -> Result<(PublishedMessage, PublisherConfirm), String> {
        match outgoing {
            Outgoing::Delivery(
                lane,
                id,
                Publication {
                    event,
                    action,
                    json,
                },
            ) => {
                let key = format!("{}.{event}", lane.as_str());
                let kind =
                    action.map_or_else(|| event.clone(), |action| format!("{event}.{action}"));
                let confirm = self
                    .publish(
                        topology::EVENTS,
                        &key,
                        properties(&id.0.to_string(), &kind),
                        &json,
                    )
                    .await?;
                tallyhook_core::crash_point::reached("queue.published");
                Ok((PublishedMessage::Delivery(lane, id), confirm))
            }
            Outgoing::Dead(copy, confirmed) => {
                let DeadCopy {
                    id,
                    publication:
                        Publication {
                            event,
                            action,
                            json,
                        },
                    reason,
                    repo,
                } = *copy;
                let kind =
                    action.map_or_else(|| event.clone(), |action| format!("{event}.{action}"));
                let mut headers = FieldTable::default();
                let repo = repo.map(|repo| ("tallyhook-repo", repo));
                for (name, text) in [(DEAD_HEADER, reason), ("tallyhook-event", event)]
                    .into_iter()
                    .chain(repo)
                {
                    headers.insert(
                        name.into(),
                        AMQPValue::LongString(LongString::from(shortened(&text))),
                    );
                }
                let properties = properties(&id.0.to_string(), &kind).with_headers(headers);
                Ok((
                    PublishedMessage::Dead(confirmed),
                    self.publish("", topology::DEAD, properties, &json).await?,
                ))
            }
        }
    }

    /// Publishes to the queue itself: the exchange would route an unroutable message to the alternate exchange.
    async fn send_canary(&self, lane: Lane) -> Result<PublisherConfirm, String> {
        self.publish(
            "",
            topology::queue(lane),
            properties(CANARY_NAME, CANARY_NAME),
            b"{}",
        )
        .await
    }

    /// Sends a canary through each lane that is quiet and not deep.
    async fn send_canaries(
        &self,
        work: &mut InFlight,
    ) -> Result<Vec<(PublishedMessage, PublisherConfirm)>, String> {
        work.canaries += 1;
        if work.canaries.is_multiple_of(DECLARE_EVERY) {
            topology::declare(&self.control).await?;
        }
        let active = std::mem::take(&mut work.active);
        let mut sent = Vec::new();
        for lane in Lane::ALL {
            if !active.contains(&lane) && topology::depth(&self.control, lane).await? < CANARY_DEPTH
            {
                sent.push((
                    PublishedMessage::Canary(lane),
                    self.send_canary(lane).await?,
                ));
            }
        }
        Ok(sent)
    }

    fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    async fn publish(
        &self,
        exchange: &'static str,
        key: &str,
        properties: BasicProperties,
        json: &[u8],
    ) -> Result<PublisherConfirm, String> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        within(
            "sending",
            self.channel.basic_publish(
                exchange.into(),
                shortened(key).into(),
                options,
                json,
                properties,
            ),
        )
        .await
    }

    async fn close(&self) {
        // A failed connection cannot be closed, and is dropped.
        drop(
            timeout(
                Duration::from_secs(1),
                self.connection.close(200, "done".into()),
            )
            .await,
        );
    }
}

/// Cuts a text at AMQP's limit of 255 bytes for short texts; actions and names come from payloads.
fn shortened(text: &str) -> &str {
    const MAX_BYTES: usize = 255;
    let end = (0..=MAX_BYTES.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

fn properties(message_id: &str, kind: &str) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_app_id("tallyhook".into())
        .with_message_id(message_id.into())
        .with_type(shortened(kind).into())
}

/// Returns whether a message was sent only to prove that the queue works.
pub(super) fn is_canary(properties: &BasicProperties) -> bool {
    properties
        .kind()
        .as_ref()
        .is_some_and(|kind| kind.as_str() == CANARY_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("pull_request.opened"), "pull_request.opened");
        assert_eq!(shortened(&"x".repeat(300)).len(), 255);
        let long = format!("{}\u{1f980}", "x".repeat(253));
        assert_eq!(shortened(&long), "x".repeat(253));
    }
}
