//! The connection that publishes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use lapin::{Confirmation, Event, PublisherConfirm};
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::super::Publication;
use super::publisher_session::{ConnectionEvents, OpenFailure, PublisherSession};
use super::{
    ConnectionState, DeadCopy, DeliveryId, Lane, REQUEST_TIMEOUT, ReconnectState, SignalCollector,
    stopped, topology,
};

/// Messages without a confirm.
const IN_FLIGHT: usize = 512;
/// The interval between the canary messages to each quiet lane, which prove that the lane works.
const CANARY_INTERVAL: Duration = Duration::from_secs(5);
/// The time limit for publishing what is pending at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(1500);
/// The number of connections with dead lanes after which the lanes are deleted and declared again.
const MAX_DEAD_LANES: u32 = 2;
/// The reason why a connection that the broker unblocked is opened again.
const UNBLOCKED: &str = "the broker unblocked the connection";

/// A message that waits to be published.
#[derive(Debug)]
pub(super) enum Outgoing {
    Delivery(Lane, DeliveryId, Publication),
    /// The copy of a dead letter, with the sender that reports the broker's confirm.
    Dead(Box<DeadCopy>, oneshot::Sender<()>),
}

/// Reserved room for one delivery.
#[derive(Debug)]
pub struct AmqpPermit {
    lane: Lane,
    permit: OwnedPermit<Outgoing>,
}

impl AmqpPermit {
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
pub(super) enum PublishedMessage {
    Delivery(Lane, DeliveryId),
    Dead(oneshot::Sender<()>),
    Canary(Lane),
}

/// The unfinished work of one connection.
#[derive(Default)]
pub(super) struct InFlight {
    pub(super) unconfirmed: HashSet<DeliveryId>,
    /// The broker blocks publishers: it is short of memory or disk.
    pub(super) blocked: bool,
    /// Lanes that confirmed a message since the last canaries, which proves as much as a canary.
    pub(super) active: HashSet<Lane>,
    pub(super) canaries: u32,
}

/// The reason why a publishing connection ended.
enum PublishingEnded {
    /// The process stops: everything is confirmed or returned to the inbox.
    Finished,
    Failed(String),
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
                // A connection that is dropped half-open may stay at the broker, so it is opened
                // and closed.
                if let Ok((session, _)) = opening.await {
                    session.close().await;
                }
                return;
            };
            let reason = match opened {
                Ok((session, events)) => {
                    if was_connected || session.lanes_replaced {
                        self.signals.report_connection_lost();
                    }
                    if dead_lanes > 0 {
                        self.state.lanes_restored.notify_one();
                    }
                    (was_connected, dead_lanes) = (true, 0);
                    reconnect.reset();
                    match self.serve_and_close(session, events).await {
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

    /// Waits for `delay`, or until the process stops. Returns to the inbox what is to be published
    /// in that time.
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

    /// Returns a message to the inbox. A dead letter's copy is dropped, which ends the wait for its
    /// confirm.
    fn return_to_inbox(&self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Delivery(_, id, _) => self.signals.report_nacked([id]),
            Outgoing::Dead(_, confirmed) => drop(confirmed),
        }
    }

    /// Publishes over an open connection, and closes it.
    async fn serve_and_close(
        &mut self,
        session: PublisherSession,
        mut events: ConnectionEvents,
    ) -> PublishingEnded {
        tracing::info!("connected to the broker");
        self.state.set_publishing(!session.is_blocked());
        let ended = self.serve(&session, &mut events).await;
        self.state.set_publishing(false);
        let is_stopping = *self.stopping.borrow();
        if is_stopping {
            self.return_pending().await;
        }
        session.close().await;
        if is_stopping {
            PublishingEnded::Finished
        } else {
            ended
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
            let drain_end = drain_deadline.unwrap_or_else(Instant::now);
            let worked = tokio::select! {
                Some((sent, confirmed)) = confirms.next(), if !confirms.is_empty() => {
                    self.handle_confirm(sent, confirmed, work)
                }
                Some(outgoing) = self.outgoing.recv(), if confirms.len() < IN_FLIGHT => {
                    let sent = self.publish(session, outgoing, work).await;
                    sent.map(|sent| confirms.extend(sent.into_iter().map(wait_for_confirm)))
                }
                Some(DepthQuery { lane, answer }) = self.depth_queries.recv() => {
                    topology::depth(&session.control, lane).await.map(|depth| {
                        // The receiver may have stopped waiting.
                        let _ = answer.send(depth);
                    })
                }
                event = events.next() => match event {
                    Some(Event::ConnectionUnblocked) => Err(UNBLOCKED.to_owned()),
                    Some(Event::Error(error)) => return PublishingEnded::Failed(error.to_string()),
                    Some(_) => Ok(()),
                    None => return PublishingEnded::Failed("the connection was closed".to_owned()),
                },
                _ = canaries.tick(), if !work.blocked => {
                    let sent = session.send_canaries(work).await;
                    sent.map(|sent| confirms.extend(sent.into_iter().map(wait_for_confirm)))
                }
                () = stopped(&mut self.stopping), if drain_deadline.is_none() => {
                    drain_deadline = Some(Instant::now() + DRAIN_TIMEOUT);
                    self.outgoing.close();
                    Ok(())
                }
                () = sleep_until(drain_end), if drain_deadline.is_some() => {
                    return PublishingEnded::Failed("the process stops".to_owned());
                }
            };
            // The silence of a blocked connection is no failure, and its messages were returned to
            // the inbox.
            if let Err(reason) = worked
                && !session.is_blocked()
            {
                return PublishingEnded::Failed(reason);
            }
        }
    }

    /// Publishes a message, or returns it to the inbox if the broker blocks the connection.
    async fn publish(
        &self,
        session: &PublisherSession,
        outgoing: Outgoing,
        work: &mut InFlight,
    ) -> Result<Option<(PublishedMessage, PublisherConfirm)>, String> {
        if work.blocked {
            self.return_to_inbox(outgoing);
            return Ok(None);
        }
        if let Outgoing::Delivery(_, id, _) = &outgoing {
            work.unconfirmed.insert(*id);
        }
        session.send(outgoing).await.map(Some)
    }

    /// Returns everything unconfirmed to the inbox when the broker blocks the connection. The
    /// connection is kept until it is unblocked: another would be blocked as well, and closing a
    /// blocked one never ends.
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
        // A message that no queue took is returned with the next confirm of any message, so that
        // its own `message_id` counts. This confirm may be that message's, so that its message
        // counts as not taken either.
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
    (sent, confirm): (PublishedMessage, PublisherConfirm),
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
