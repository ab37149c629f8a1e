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
    DeadCopy, DeliveryId, Lane, NewsDesk, PATIENCE, Pause, State, connect, stopped, topology,
    within,
};

/// Messages without a confirm.
const IN_FLIGHT: usize = 512;
/// How often a message goes through each lane only to show that it does.
const CANARY: Duration = Duration::from_secs(5);
const CANARY_NAME: &str = "canary";
/// A lane in which more waits gets no canary: where no worker runs nobody takes them out.
const CANARY_DEPTH: usize = 100;
/// After how many canaries the topology is declared again: somebody may have taken a binding away.
const DECLARED_AGAIN: u32 = 12;
/// How long what is to be sent at the end of the process may take.
const LAST_MESSAGES: Duration = Duration::from_millis(1500);
/// How long the first canary of a connection may take.
const FIRST_CANARY: Duration = Duration::from_secs(3);
/// How often a broker may answer everything but the canaries before its lanes are made anew.
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

    pub(crate) fn send(self, id: DeliveryId, publication: Publication) {
        self.permit
            .send(Outgoing::Delivery(self.lane, id, publication));
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
    Delivery(Lane, DeliveryId),
    Dead(oneshot::Sender<()>),
    Canary(Lane),
}

/// What a connection has under way.
#[derive(Default)]
struct Work {
    unconfirmed: HashSet<DeliveryId>,
    /// The broker takes nothing for now: it is short of memory or disk.
    blocked: bool,
    /// Lanes that confirmed something since the last canaries, which is as good as one.
    heard: HashSet<Lane>,
    canaries: u32,
}

/// What a connection tells of itself.
type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

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
            let uri = self.uri.clone();
            let mut opening = std::pin::pin!(Session::open(&uri, deaf >= DEAF, pause.failures > 0));
            let opened = tokio::select! {
                opened = &mut opening => Some(opened),
                () = stopped(&mut self.stopping) => None,
            };
            let Some(opened) = opened else {
                self.give_back().await;
                // A connection that is dropped half-open may stay: it is closed when it is open.
                if let Ok((session, _)) = opening.await {
                    session.close().await;
                }
                return;
            };
            let reason = match opened {
                Ok((session, mut events)) => {
                    if was_connected || session.made_anew {
                        self.news.lost();
                    }
                    if deaf > 0 {
                        self.state.lanes_are_back.notify_one();
                    }
                    (was_connected, deaf) = (true, 0);
                    pause.reset();
                    tracing::info!("connected to the broker");
                    self.state.publishing(!session.is_blocked());
                    let ended = self.serve(&session, &mut events).await;
                    self.state.publishing(false);
                    if *self.stopping.borrow() {
                        self.give_back().await;
                        return session.close().await;
                    }
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
            self.wait(pause.next()).await;
        }
    }

    /// Lets some time pass, in which nothing can be sent; none if the process ends.
    async fn wait(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = stopped(&mut self.stopping) => return,
                Some(outgoing) = self.outgoing.recv() => self.refuse(outgoing),
                // Without an answer there is no room.
                Some(ask) = self.asked.recv() => drop(ask),
            }
        }
    }

    /// The process ends: what was to be sent is another's.
    async fn give_back(&mut self) {
        self.outgoing.close();
        while let Some(outgoing) = self.outgoing.recv().await {
            self.refuse(outgoing);
        }
    }

    /// A dead letter's copy is dropped, which tells whoever waits for its confirm.
    fn refuse(&self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Delivery(_, id, _) => self.news.refused([id]),
            Outgoing::Dead(_, confirmed) => drop(confirmed),
        }
    }

    /// Sends until the connection fails or the process ends.
    async fn serve(&mut self, session: &Session, events: &mut Events) -> Ended {
        let mut work = Work::default();
        let ended = self.send(session, events, &mut work).await;
        self.news.refused(work.unconfirmed);
        ended
    }

    async fn send(&mut self, session: &Session, events: &mut Events, work: &mut Work) -> Ended {
        let mut confirms = FuturesUnordered::new();
        let mut canaries = interval(CANARY);
        canaries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        canaries.reset();
        let mut give_up = None;
        loop {
            self.notice_blocked(session, work);
            if give_up.is_some() && confirms.is_empty() && self.outgoing.is_empty() {
                return Ended::Finished;
            }
            let worked = tokio::select! {
                Some((sent, confirmed)) = confirms.next(), if !confirms.is_empty() => {
                    self.confirmed(sent, confirmed, work)
                }
                Some(outgoing) = self.outgoing.recv(), if confirms.len() < IN_FLIGHT => {
                    if work.blocked {
                        self.refuse(outgoing);
                        continue;
                    }
                    if let Outgoing::Delivery(_, id, _) = &outgoing {
                        work.unconfirmed.insert(*id);
                    }
                    let sent = session.send(outgoing).await;
                    sent.map(|(sent, confirm)| confirms.push(confirmation(sent, confirm)))
                }
                Some(Ask { lane, answer }) = self.asked.recv() => {
                    topology::depth(&session.control, lane).await.map(|depth| {
                        // Whoever asked may have stopped waiting.
                        let _ = answer.send(depth);
                    })
                }
                event = events.next() => match event {
                    Some(Event::ConnectionUnblocked) => Err("it was blocked and is not any more".to_owned()),
                    Some(Event::Error(error)) => return Ended::Failed(error.to_string()),
                    Some(_) => Ok(()),
                    None => return Ended::Failed("the connection is gone".to_owned()),
                },
                _ = canaries.tick(), if !work.blocked => {
                    let sent = session.watch(work).await;
                    sent.map(|sent| confirms.extend(sent.into_iter().map(|(sent, confirm)| confirmation(sent, confirm))))
                }
                () = stopped(&mut self.stopping), if give_up.is_none() => {
                    give_up = Some(Instant::now() + LAST_MESSAGES);
                    self.outgoing.close();
                    Ok(())
                }
                () = sleep_until(give_up.unwrap_or_else(Instant::now)), if give_up.is_some() => {
                    return Ended::Failed("the process ends".to_owned());
                }
            };
            // The silence of a blocked connection says nothing, and what it held back was given up.
            if let Err(reason) = worked
                && !session.is_blocked()
            {
                return Ended::Failed(reason);
            }
        }
    }

    /// A blocked connection is kept until it is free again: another would be blocked as well, and one that is closed
    /// meanwhile never ends.
    fn notice_blocked(&self, session: &Session, work: &mut Work) {
        if session.is_blocked() && !work.blocked {
            tracing::warn!("the broker takes no messages for now; deliveries wait in the inbox");
            work.blocked = true;
            self.state.publishing(false);
            self.news.refused(work.unconfirmed.drain());
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
        work: &mut Work,
    ) -> Result<(), String> {
        let (taken, returned) = match confirmed? {
            Confirmation::Ack(returned) => (true, returned),
            Confirmation::Nack(returned) => (false, returned),
            Confirmation::NotRequested => return Err("the broker does not confirm".to_owned()),
        };
        // A message that no queue took comes back with whichever confirm is the next, so that it speaks for itself. What
        // this confirm is for may be the very one, so that it counts as not taken.
        if let Some(returned) = returned {
            let name = returned
                .delivery
                .properties
                .message_id()
                .as_ref()
                .map(ShortString::as_str)
                .unwrap_or_default();
            self.news.refused(name.parse().ok().map(DeliveryId));
            return Err(format!("no queue takes the message {name}"));
        }
        match sent {
            Sent::Delivery(lane, id) => {
                work.unconfirmed.remove(&id);
                work.heard.insert(lane);
                if taken {
                    tallyhook_core::crash_point::reached("queue.confirmed");
                } else {
                    self.news.refused([id]);
                }
            }
            Sent::Dead(confirmed) if taken => drop(confirmed.send(())),
            Sent::Dead(_) => {}
            Sent::Canary(lane) => {
                work.heard.insert(lane);
            }
        }
        Ok(())
    }
}

/// Waits for one confirm, not for ever.
async fn confirmation(
    sent: Sent,
    confirm: PublisherConfirm,
) -> (Sent, Result<Confirmation, String>) {
    let confirmed = match timeout(PATIENCE, confirm).await {
        Ok(confirmed) => confirmed.map_err(|error| error.to_string()),
        Err(_) => Err(format!(
            "a message was not confirmed within {} s",
            PATIENCE.as_secs()
        )),
    };
    (sent, confirmed)
}

/// A connection that was seen to work, or to be blocked.
struct Session {
    connection: Connection,
    channel: Channel,
    /// For questions: one that fails closes its channel.
    control: Channel,
    /// The lanes were dead and are new.
    made_anew: bool,
}

impl Session {
    /// With `anew` lanes that take no message are deleted first; with `suspicious` the broker has to speak first.
    async fn open(uri: &AMQPUri, anew: bool, suspicious: bool) -> Result<(Self, Events), Unusable> {
        let connection = connect(uri, "publisher", suspicious).await?;
        // From now on, so that none is missed.
        let events: Events = Box::pin(connection.events_listener());
        let control = within("opening a channel", connection.create_channel()).await?;
        if anew {
            // Of several processes one does it, and the others find by their canaries that it is done.
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
            made_anew: false,
        };
        match session.try_lanes().await {
            Err(Unusable::Deaf) if anew => {
                tracing::warn!(
                    "the lanes answer no message: they are deleted and made anew from the inbox"
                );
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
        Ok((session, events))
    }

    /// To declare a queue that is dead is answered as if it were alive.
    async fn try_lanes(&self) -> Result<(), Unusable> {
        for lane in Lane::ALL {
            let confirm = self.send_canary(lane).await?;
            match timeout(FIRST_CANARY, confirm).await {
                // A lane that is full says no, which is an answer.
                Ok(Ok(Confirmation::Ack(None) | Confirmation::Nack(None))) => {}
                _ if self.is_blocked() => return Ok(()),
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
                Ok((Sent::Delivery(lane, id), confirm))
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
                        AMQPValue::LongString(LongString::from(short(&text))),
                    );
                }
                let properties = properties(&id.0.to_string(), &kind).with_headers(headers);
                Ok((
                    Sent::Dead(confirmed),
                    self.publish("", topology::DEAD, properties, &json).await?,
                ))
            }
        }
    }

    /// To the queue itself, by no exchange that would keep a message which no queue took.
    async fn send_canary(&self, lane: Lane) -> Result<PublisherConfirm, String> {
        self.publish(
            "",
            topology::queue(lane),
            properties(CANARY_NAME, CANARY_NAME),
            b"{}",
        )
        .await
    }

    /// Sends a canary through each lane that is quiet and short.
    async fn watch(&self, work: &mut Work) -> Result<Vec<(Sent, PublisherConfirm)>, String> {
        work.canaries += 1;
        if work.canaries.is_multiple_of(DECLARED_AGAIN) {
            topology::declare(&self.control).await?;
        }
        let heard = std::mem::take(&mut work.heard);
        let mut sent = Vec::new();
        for lane in Lane::ALL {
            if !heard.contains(&lane) && topology::depth(&self.control, lane).await? < CANARY_DEPTH
            {
                sent.push((Sent::Canary(lane), self.send_canary(lane).await?));
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
                short(key).into(),
                options,
                json,
                properties,
            ),
        )
        .await
    }

    async fn close(&self) {
        // One that broke cannot be closed, and is dropped.
        drop(
            timeout(
                Duration::from_secs(1),
                self.connection.close(200, "done".into()),
            )
            .await,
        );
    }
}

/// AMQP's short texts have at most 255 bytes; actions and names come from payloads.
fn short(text: &str) -> &str {
    const LONGEST: usize = 255;
    let end = (0..=LONGEST.min(text.len()))
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
        .with_type(short(kind).into())
}

/// Whether a message was sent only to show that the queue takes it.
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
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(short("pull_request.opened"), "pull_request.opened");
        assert_eq!(short(&"x".repeat(300)).len(), 255);
        let long = format!("{}\u{1f980}", "x".repeat(253));
        assert_eq!(short(&long), "x".repeat(253));
    }
}
