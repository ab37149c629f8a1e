//! The connection that publishes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, Event, PublisherConfirm};
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::super::Publication;
use super::{DeadCopy, DeliveryId, Lane, NewsDesk, PATIENCE, Pause, State, connect, stopped, topology, within};

/// Messages without a confirm.
const IN_FLIGHT: usize = 512;
/// How often a message goes through each lane only to show that it does.
const CANARY: Duration = Duration::from_secs(5);
const CANARY_NAME: &str = "canary";
/// A canary that nobody takes is gone before there are many of them.
const CANARY_MILLISECONDS: &str = "10000";
/// How long the first canary of a connection may take.
const FIRST_CANARY: Duration = Duration::from_secs(3);
/// How often in a row a broker may answer everything but the canaries before its lanes are made anew.
const DEAF: u32 = 2;
/// What marks copies of dead letters, and tells why they are dead.
pub(super) const DEAD_HEADER: &str = "tallyhook-reason";

/// Something to be sent.
#[derive(Debug)]
pub(super) enum Outgoing {
    Delivery(Lane, DeliveryId, Publication),
    /// With whom to tell that the broker has it.
    Dead(Box<DeadCopy>, oneshot::Sender<()>),
}

/// Room for one delivery.
#[derive(Debug)]
pub struct Permit {
    lane: Lane,
    permit: OwnedPermit<Outgoing>,
}

impl Permit {
    pub(super) fn new(lane: Lane, permit: OwnedPermit<Outgoing>) -> Self {
        Self { lane, permit }
    }

    pub(in crate::queue) fn send(self, id: DeliveryId, publication: Publication) {
        self.permit.send(Outgoing::Delivery(self.lane, id, publication));
    }
}

/// Asks how many messages wait in a lane.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) lane: Lane,
    pub(super) answer: oneshot::Sender<usize>,
}

pub(super) struct Publisher {
    pub(super) uri: AMQPUri,
    pub(super) state: Arc<State>,
    pub(super) news: Arc<NewsDesk>,
    pub(super) outgoing: mpsc::Receiver<Outgoing>,
    pub(super) asked: mpsc::Receiver<Ask>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// What a confirm is for.
enum Sent {
    Delivery(DeliveryId),
    Dead(oneshot::Sender<()>),
    Canary,
}

/// Why a connection is not used any more.
enum Ended {
    /// The process ends and everything was sent.
    Finished,
    Failed(String),
}

/// Why a connection could not be used from the start.
enum Unusable {
    Failed(String),
    /// Everything works but the way through the lanes.
    Deaf,
}

impl From<String> for Unusable {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl Publisher {
    pub(super) async fn run(mut self) {
        let mut pause = Pause::default();
        let mut was_connected = false;
        let mut deaf = 0;
        loop {
            let opened = tokio::select! {
                opened = Session::open(&self.uri, deaf >= DEAF) => opened,
                () = stopped(&mut self.stopping) => Err(Unusable::Failed("the process ends".to_owned())),
            };
            let reason = match opened {
                Ok(session) => {
                    if was_connected || session.made_anew {
                        self.news.lost();
                    }
                    if deaf > 0 {
                        self.state.lanes_are_back.notify_one();
                    }
                    (was_connected, deaf) = (true, 0);
                    pause.reset();
                    tracing::info!("connected to the broker");
                    self.state.publishing(true);
                    let ended = self.serve(&session).await;
                    self.state.publishing(false);
                    session.close().await;
                    match ended {
                        Ended::Finished => return,
                        Ended::Failed(reason) => reason,
                    }
                }
                Err(Unusable::Deaf) => {
                    deaf += 1;
                    // It answers, so that the wait is not for it.
                    if deaf <= DEAF {
                        pause.reset();
                    }
                    "its lanes take no messages".to_owned()
                }
                Err(Unusable::Failed(reason)) => reason,
            };
            pause.tell("publishing", &reason);
            if self.wait(pause.next()).await {
                return;
            }
        }
    }

    /// Lets some time pass, in which nothing can be sent. Whether the process ends.
    async fn wait(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(until) => return false,
                () = stopped(&mut self.stopping) => {
                    self.outgoing.close();
                    while let Some(outgoing) = self.outgoing.recv().await {
                        self.refuse(outgoing);
                    }
                    return true;
                }
                Some(outgoing) = self.outgoing.recv() => self.refuse(outgoing),
                // Without an answer there is no room.
                Some(ask) = self.asked.recv() => drop(ask),
            }
        }
    }

    /// A dead letter's copy is dropped, which tells whoever waits for its confirm.
    fn refuse(&self, outgoing: Outgoing) {
        if let Outgoing::Delivery(_, id, _) = outgoing {
            self.news.refused([id]);
        }
    }

    /// Sends until the connection fails or the process ends.
    async fn serve(&mut self, session: &Session) -> Ended {
        let mut unconfirmed: HashSet<DeliveryId> = HashSet::new();
        let ended = self.send(session, &mut unconfirmed).await;
        self.news.refused(unconfirmed);
        ended
    }

    async fn send(&mut self, session: &Session, unconfirmed: &mut HashSet<DeliveryId>) -> Ended {
        let mut confirms = FuturesUnordered::new();
        let mut events = std::pin::pin!(session.connection.events_listener());
        let mut canaries = interval(CANARY);
        canaries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        canaries.reset();
        let (mut blocked, mut finishing) = (false, false);
        loop {
            if finishing && confirms.is_empty() && self.outgoing.is_empty() {
                return Ended::Finished;
            }
            tokio::select! {
                Some((sent, confirmed)) = confirms.next(), if !confirms.is_empty() => {
                    // What a blocked connection holds back was given up already.
                    if let Err(reason) = self.confirmed(sent, confirmed, unconfirmed) && !blocked {
                        return Ended::Failed(reason);
                    }
                }
                Some(outgoing) = self.outgoing.recv(), if confirms.len() < IN_FLIGHT => {
                    if blocked {
                        self.refuse(outgoing);
                        continue;
                    }
                    if let Outgoing::Delivery(_, id, _) = &outgoing {
                        unconfirmed.insert(*id);
                    }
                    match session.send(outgoing).await {
                        Ok((sent, confirm)) => confirms.push(confirmation(sent, confirm)),
                        Err(reason) => return Ended::Failed(reason),
                    }
                }
                Some(Ask { lane, answer }) = self.asked.recv() => {
                    match topology::depth(&session.control, lane).await {
                        // Whoever asked may have stopped waiting.
                        Ok(depth) => drop(answer.send(depth)),
                        Err(reason) => return Ended::Failed(reason),
                    }
                }
                Some(event) = events.next() => match event {
                    Event::ConnectionBlocked(reason) => {
                        tracing::warn!(reason, "the broker takes no messages for now; deliveries wait in the inbox");
                        blocked = true;
                        self.state.publishing(false);
                        self.news.refused(unconfirmed.drain());
                    }
                    Event::ConnectionUnblocked => return Ended::Failed("it was blocked and is not any more".to_owned()),
                    Event::Error(error) => return Ended::Failed(error.to_string()),
                    _ => {}
                },
                _ = canaries.tick(), if !blocked => for lane in Lane::ALL {
                    match session.send_canary(lane).await {
                        Ok(confirm) => confirms.push(confirmation(Sent::Canary, confirm)),
                        Err(reason) => return Ended::Failed(reason),
                    }
                },
                () = stopped(&mut self.stopping), if !finishing => {
                    finishing = true;
                    self.outgoing.close();
                }
            }
        }
    }

    /// Takes note of one confirm.
    ///
    /// # Errors
    /// If the connection is not worth keeping.
    fn confirmed(
        &self,
        sent: Sent,
        confirmed: Result<Confirmation, String>,
        unconfirmed: &mut HashSet<DeliveryId>,
    ) -> Result<(), String> {
        let (taken, returned) = match confirmed? {
            Confirmation::Ack(returned) => (true, returned),
            Confirmation::Nack(returned) => (false, returned),
            Confirmation::NotRequested => return Err("the broker does not confirm".to_owned()),
        };
        match sent {
            Sent::Delivery(id) => {
                unconfirmed.remove(&id);
                if taken {
                    crate::crash_point!("queue.confirmed");
                } else {
                    self.news.refused([id]);
                }
            }
            Sent::Dead(confirmed) if taken => drop(confirmed.send(())),
            Sent::Dead(_) | Sent::Canary => {}
        }
        // A message that no queue took comes back with whichever confirm is the next, so that it speaks for itself.
        if let Some(returned) = returned {
            let name = returned.delivery.properties.message_id().as_ref().map(ShortString::as_str).unwrap_or_default();
            self.news.refused(name.parse().ok().map(DeliveryId));
            return Err(format!("no queue takes the message {name}"));
        }
        Ok(())
    }
}

/// Waits for one confirm, not for ever.
async fn confirmation(sent: Sent, confirm: PublisherConfirm) -> (Sent, Result<Confirmation, String>) {
    let confirmed = match timeout(PATIENCE, confirm).await {
        Ok(confirmed) => confirmed.map_err(|error| error.to_string()),
        Err(_) => Err(format!("a message was not confirmed within {} s", PATIENCE.as_secs())),
    };
    (sent, confirmed)
}

/// A connection that was seen to work.
struct Session {
    connection: Connection,
    channel: Channel,
    /// For questions: one that fails closes its channel.
    control: Channel,
    /// The lanes were dead and are new.
    made_anew: bool,
}

impl Session {
    /// With `anew` lanes that take no message are deleted first.
    async fn open(uri: &AMQPUri, anew: bool) -> Result<Self, Unusable> {
        let connection = connect(uri, "publisher").await?;
        let control = within("opening a channel", connection.create_channel()).await?;
        if anew {
            // Of several processes one does it, and the others find by their canaries that it is done.
            topology::lock(&control).await?;
        }
        topology::declare(&control).await?;
        let channel = within("opening a channel", connection.create_channel()).await?;
        within("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut session = Self { connection, channel, control, made_anew: false };
        match session.try_lanes().await {
            Err(Unusable::Deaf) if anew => {
                tracing::warn!("the lanes answer no message: they are deleted and made anew from the inbox");
                topology::delete_lanes(&session.control).await?;
                topology::declare(&session.control).await?;
                session.try_lanes().await?;
                session.made_anew = true;
            }
            tried => tried?,
        }
        if anew {
            topology::unlock(&session.control).await?;
        }
        Ok(session)
    }

    /// To declare a queue that is dead is answered as if it were alive.
    async fn try_lanes(&self) -> Result<(), Unusable> {
        for lane in Lane::ALL {
            let confirm = self.send_canary(lane).await?;
            match timeout(FIRST_CANARY, confirm).await {
                Ok(Ok(Confirmation::Ack(None))) => {}
                _ if self.connection.status().blocked() => {
                    return Err(Unusable::Failed("it takes no messages for now".to_owned()));
                }
                _ if !self.connection.status().connected() => {
                    return Err(Unusable::Failed("the connection broke".to_owned()));
                }
                _ => return Err(Unusable::Deaf),
            }
        }
        Ok(())
    }

    async fn send(&self, outgoing: Outgoing) -> Result<(Sent, PublisherConfirm), String> {
        match outgoing {
            Outgoing::Delivery(lane, id, Publication { event, action, json }) => {
                let key = format!("{}.{event}", lane.as_str());
                let kind = action.map_or_else(|| event.clone(), |action| format!("{event}.{action}"));
                let confirm = self.publish(topology::EVENTS, &key, properties(&id.0.to_string(), &kind), &json).await?;
                crate::crash_point!("queue.published");
                Ok((Sent::Delivery(id), confirm))
            }
            Outgoing::Dead(copy, confirmed) => {
                let DeadCopy { id, publication: Publication { event, action, json }, reason, repo } = *copy;
                let kind = action.map_or_else(|| event.clone(), |action| format!("{event}.{action}"));
                let mut headers = FieldTable::default();
                headers.insert(DEAD_HEADER.into(), AMQPValue::LongString(LongString::from(reason)));
                headers.insert("tallyhook-event".into(), AMQPValue::LongString(LongString::from(event)));
                if let Some(repo) = repo {
                    headers.insert("tallyhook-repo".into(), AMQPValue::LongString(LongString::from(repo)));
                }
                let properties = properties(&id.0.to_string(), &kind).with_headers(headers);
                Ok((Sent::Dead(confirmed), self.publish("", topology::DEAD, properties, &json).await?))
            }
        }
    }

    /// To the queue itself, by no exchange that would keep a message which no queue took.
    async fn send_canary(&self, lane: Lane) -> Result<PublisherConfirm, String> {
        let properties = properties(CANARY_NAME, CANARY_NAME).with_expiration(CANARY_MILLISECONDS.into());
        self.publish("", topology::queue(lane), properties, b"{}").await
    }

    async fn publish(
        &self,
        exchange: &'static str,
        key: &str,
        properties: BasicProperties,
        json: &[u8],
    ) -> Result<PublisherConfirm, String> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        within("sending", self.channel.basic_publish(exchange.into(), key.into(), options, json, properties)).await
    }

    async fn close(&self) {
        // One that broke cannot be closed, and is dropped.
        drop(timeout(Duration::from_secs(1), self.connection.close(200, "done".into())).await);
    }
}

/// Names come from GitHub's headers, whose length `ingest` bounds well below what AMQP takes.
fn properties(message_id: &str, kind: &str) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_app_id("tallyhook".into())
        .with_message_id(message_id.into())
        .with_type(kind.into())
}

/// Whether a message was sent only to show that the queue takes it.
pub(super) fn is_canary(properties: &BasicProperties) -> bool {
    properties.kind().as_ref().is_some_and(|kind| kind.as_str() == CANARY_NAME)
}
