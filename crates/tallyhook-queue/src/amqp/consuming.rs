//! The connection that consumes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::publishing::{DEAD_HEADER, is_canary};
use super::{
    DeliveryId, Lane, Lanes, NewsDesk, Pause, Receipt, State, connect, stopped, topology, within,
};

/// Messages in this process that are not acknowledged: two batches of live ones, so that workers need not wait.
const LIVE: u16 = 512;
/// Less of backfill, which has its share and no more.
const BACKFILL: u16 = 64;
/// Of each lane: what the last connection left goes beside what this one brings.
pub(super) const CAPACITY: usize = 2 * LIVE as usize;
/// How often it is asked whether the queue is alive; twice in a row something waiting and nothing coming is not.
const WATCH: Duration = Duration::from_secs(8);

/// A message that a worker is to look at.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) id: DeliveryId,
    /// It was a dead letter's copy, which somebody moved here.
    pub(super) revived: bool,
    pub(super) receipt: Receipt,
}

pub(super) struct Consumer {
    pub(super) uri: AMQPUri,
    pub(super) state: Arc<State>,
    pub(super) news: Arc<NewsDesk>,
    pub(super) received: Arc<Lanes<Received>>,
    pub(super) done: mpsc::UnboundedReceiver<Receipt>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Why a connection is not used any more.
enum Ended {
    Finished,
    Failed(String),
}

impl Consumer {
    pub(super) async fn run(mut self) {
        let mut pause = Pause::default();
        let mut connections = 0;
        loop {
            // Also if the process ends meanwhile: a connection that is dropped half-open may stay, with messages in it.
            let reason = match Session::open(&self.uri, connections, pause.failures > 0).await {
                Ok(mut session) => {
                    if connections > 0 {
                        self.news.lost();
                    }
                    connections += 1;
                    pause.reset();
                    self.state.consuming(true);
                    let ended = self.serve(&mut session).await;
                    self.state.consuming(false);
                    // One that broke cannot be closed, and is dropped.
                    drop(
                        timeout(
                            Duration::from_secs(1),
                            session.connection.close(200, "done".into()),
                        )
                        .await,
                    );
                    match ended {
                        Ended::Finished => return,
                        Ended::Failed(reason) => reason,
                    }
                }
                Err(reason) => reason,
            };
            pause.tell("consuming", &reason);
            tokio::select! {
                () = sleep(pause.next()) => {}
                () = self.state.lanes_are_back.notified() => {}
                () = stopped(&mut self.stopping) => return,
            }
        }
    }

    /// Passes messages on and acknowledges them until the connection fails or the process ends.
    async fn serve(&mut self, session: &mut Session) -> Ended {
        let mut watch = interval(WATCH);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        watch.reset();
        let mut quiet = 0;
        let mut done = Vec::new();
        loop {
            let has_room = |lane| self.received.sender(lane).capacity() > 0;
            let worked = tokio::select! {
                message = session.live.consumer.next(), if has_room(Lane::Live) => {
                    quiet = 0;
                    self.take(&mut session.live, message, &mut done)
                }
                message = session.backfill.consumer.next(), if has_room(Lane::Backfill) => {
                    quiet = 0;
                    self.take(&mut session.backfill, message, &mut done)
                }
                _ = self.done.recv_many(&mut done, usize::from(LIVE)) => Ok(()),
                _ = watch.tick() => match session.is_passed_over().await {
                    Ok(passed_over) => {
                        quiet = if passed_over { quiet + 1 } else { 0 };
                        if quiet < 2 { Ok(()) } else { Err("messages wait and none comes".to_owned()) }
                    }
                    Err(reason) => Err(reason),
                },
                () = self.state.lanes_are_back.notified() => Err("the lanes were dead".to_owned()),
                () = stopped(&mut self.stopping) => {
                    // The workers have ended: what is done by now is all that will be.
                    self.done.close();
                    while self.done.recv_many(&mut done, usize::from(LIVE)).await > 0 {}
                    return match session.acknowledge(&mut done).await {
                        Ok(()) => Ended::Finished,
                        Err(reason) => Ended::Failed(reason),
                    };
                }
            };
            let worked = match worked {
                Ok(()) => session.acknowledge(&mut done).await,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = worked {
                return Ended::Failed(reason);
            }
        }
    }

    /// Passes a message on to the workers; what is none of theirs is done.
    fn take(
        &self,
        subscription: &mut Subscription,
        message: Option<lapin::Result<Delivery>>,
        done: &mut Vec<Receipt>,
    ) -> Result<(), String> {
        let delivery = match message {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the consumer was cancelled: its queue is gone".to_owned()),
        };
        let receipt = subscription.receipt(delivery.delivery_tag);
        if is_canary(&delivery.properties) {
            done.push(receipt);
            return Ok(());
        }
        let Some(id) = delivery
            .properties
            .message_id()
            .as_ref()
            .and_then(|id| id.as_str().parse().ok())
        else {
            tracing::warn!("a message names no delivery and is dropped");
            done.push(receipt);
            return Ok(());
        };
        tallyhook_core::crash_point::reached("queue.delivered");
        let received = Received {
            id: DeliveryId(id),
            revived: was_dead(&delivery.properties),
            receipt,
        };
        // There is room, and nobody else fills it.
        self.received
            .sender(subscription.lane)
            .try_send(received)
            .map_err(|error| error.to_string())
    }
}

/// Whether a message is a dead letter's copy: ours, or one that the broker put aside.
fn was_dead(properties: &BasicProperties) -> bool {
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    headers
        .is_some_and(|headers| headers.contains_key(DEAD_HEADER) || headers.contains_key("x-death"))
}

/// A connection with a consumer of each lane.
struct Session {
    connection: Connection,
    /// For questions: one that fails closes its channel.
    control: Channel,
    number: u64,
    live: Subscription,
    backfill: Subscription,
}

impl Session {
    async fn open(uri: &AMQPUri, number: u64, suspicious: bool) -> Result<Self, String> {
        let connection = connect(uri, "worker", suspicious).await?;
        match Self::consume(&connection, number).await {
            Ok((control, live, backfill)) => Ok(Self {
                connection,
                control,
                number,
                live,
                backfill,
            }),
            Err(reason) => {
                // A consumer that nobody listens to would keep the messages that it got.
                drop(
                    timeout(
                        Duration::from_secs(1),
                        connection.close(200, "not of use".into()),
                    )
                    .await,
                );
                Err(reason)
            }
        }
    }

    async fn consume(
        connection: &Connection,
        number: u64,
    ) -> Result<(Channel, Subscription, Subscription), String> {
        let control = within("opening a channel", connection.create_channel()).await?;
        topology::declare(&control).await?;
        let live = Subscription::open(connection, Lane::Live, LIVE, number).await?;
        let backfill = Subscription::open(connection, Lane::Backfill, BACKFILL, number).await?;
        Ok((control, live, backfill))
    }

    /// Acknowledges what is done, as far as everything before it is done too.
    async fn acknowledge(&mut self, done: &mut Vec<Receipt>) -> Result<(), String> {
        for receipt in done
            .drain(..)
            .filter(|receipt| receipt.connection == self.number)
        {
            let subscription = match receipt.lane {
                Lane::Live => &mut self.live,
                Lane::Backfill => &mut self.backfill,
            };
            subscription.unacknowledged.done(receipt.tag);
        }
        self.live.acknowledge().await?;
        self.backfill.acknowledge().await
    }

    /// Whether messages wait in a lane of which this process has none in hand.
    async fn is_passed_over(&self) -> Result<bool, String> {
        let mut passed_over = false;
        for subscription in [&self.live, &self.backfill] {
            let waiting = topology::depth(&self.control, subscription.lane).await?;
            passed_over |= waiting > 0 && subscription.unacknowledged.tags.is_empty();
        }
        Ok(passed_over)
    }
}

/// A consumer of one lane, on a channel of its own so that each has its own prefetch.
struct Subscription {
    lane: Lane,
    connection: u64,
    channel: Channel,
    consumer: lapin::Consumer,
    unacknowledged: Unacknowledged,
}

impl Subscription {
    async fn open(
        connection: &Connection,
        lane: Lane,
        prefetch: u16,
        number: u64,
    ) -> Result<Self, String> {
        let channel = within("opening a channel", connection.create_channel()).await?;
        within(
            "bounding the prefetch",
            channel.basic_qos(prefetch, BasicQosOptions::default()),
        )
        .await?;
        let name = topology::queue(lane);
        let options = BasicConsumeOptions::default();
        let consumed = channel.basic_consume(
            name.into(),
            ShortString::default(),
            options,
            FieldTable::default(),
        );
        let consumer = within(name, consumed).await?;
        Ok(Self {
            lane,
            connection: number,
            channel,
            consumer,
            unacknowledged: Unacknowledged::default(),
        })
    }

    fn receipt(&mut self, tag: u64) -> Receipt {
        self.unacknowledged.received(tag);
        Receipt {
            connection: self.connection,
            lane: self.lane,
            tag,
        }
    }

    async fn acknowledge(&mut self) -> Result<(), String> {
        let Some(tag) = self.unacknowledged.acknowledge() else {
            return Ok(());
        };
        let acknowledged = self
            .channel
            .basic_ack(tag, BasicAckOptions { multiple: true });
        within("acknowledging", acknowledged).await?;
        tallyhook_core::crash_point::reached("queue.acknowledged");
        Ok(())
    }
}

/// The tags of one channel that are not acknowledged. Several workers finish in any order, and one acknowledgement
/// speaks for all tags up to its own.
#[derive(Debug, Default)]
struct Unacknowledged {
    tags: BTreeSet<u64>,
    last_received: u64,
    acknowledged: u64,
}

impl Unacknowledged {
    fn received(&mut self, tag: u64) {
        self.tags.insert(tag);
        self.last_received = tag;
    }

    fn done(&mut self, tag: u64) {
        self.tags.remove(&tag);
    }

    /// The last tag before the first that is not done, if there is more to acknowledge than before.
    fn acknowledge(&mut self) -> Option<u64> {
        let last = self
            .tags
            .first()
            .map_or(self.last_received, |first| first - 1);
        (last > self.acknowledged).then(|| {
            self.acknowledged = last;
            last
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_acknowledgement_speaks_for_all_before_it_and_for_none_that_is_not_done() {
        let mut tags = Unacknowledged::default();
        assert_eq!(tags.acknowledge(), None);
        (1..=6).for_each(|tag| tags.received(tag));
        tags.done(3);
        assert_eq!(tags.acknowledge(), None);
        tags.done(1);
        assert_eq!(tags.acknowledge(), Some(1));
        tags.done(2);
        assert_eq!(tags.acknowledge(), Some(3));
        assert_eq!(tags.acknowledge(), None);
        [4, 5, 6].into_iter().for_each(|tag| tags.done(tag));
        assert_eq!(tags.acknowledge(), Some(6));
    }
}
