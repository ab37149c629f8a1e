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

use super::publisher_session::{DEAD_HEADER, is_canary};
use super::{
    ConnectionState, DeliveryId, Lane, Lanes, Receipt, ReconnectState, SignalCollector, connect,
    stopped, topology, within,
};

/// The prefetch of the live lane: two batches, so that workers need not wait.
const LIVE_PREFETCH: u16 = 512;
/// The prefetch of the backfill lane, which has a smaller share of each batch.
const BACKFILL_PREFETCH: u16 = 64;
/// The capacity of each lane in this process: the messages of the last connection beside those of
/// this one.
pub(super) const CAPACITY: usize = 2 * LIVE_PREFETCH as usize;
/// The interval between checks of the lanes' depth. A lane in which messages wait while none is
/// delivered, at two checks in a row, is dead.
const CHECK_INTERVAL: Duration = Duration::from_secs(8);

/// A message for the workers.
#[derive(Debug)]
pub(super) struct ReceivedMessage {
    pub(super) id: DeliveryId,
    /// It is a dead letter's copy that a person moved here.
    pub(super) requeued: bool,
    pub(super) receipt: Receipt,
}

/// The supervisor of the connection that consumes.
pub(super) struct Consumer {
    pub(super) uri: AMQPUri,
    pub(super) state: Arc<ConnectionState>,
    pub(super) signals: Arc<SignalCollector>,
    pub(super) received: Arc<Lanes<ReceivedMessage>>,
    pub(super) done: mpsc::UnboundedReceiver<Receipt>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// The reason why a consuming connection ended.
enum ConsumingEnded {
    Finished,
    Failed(String),
}

impl Consumer {
    pub(super) async fn run(mut self) {
        let mut reconnect = ReconnectState::default();
        let mut connections = 0;
        loop {
            // Completed even if the process stops: a connection that is dropped half-open may stay
            // at the broker, and hold messages.
            let reason =
                match ConsumerSession::open(&self.uri, connections, reconnect.failures > 0).await {
                    Ok(mut session) => {
                        if connections > 0 {
                            self.signals.report_connection_lost();
                        }
                        connections += 1;
                        reconnect.reset();
                        self.state.set_consuming(true);
                        let ended = self.serve(&mut session).await;
                        self.state.set_consuming(false);
                        // A failed connection cannot be closed, and is dropped.
                        drop(
                            timeout(
                                Duration::from_secs(1),
                                session.connection.close(200, "done".into()),
                            )
                            .await,
                        );
                        match ended {
                            ConsumingEnded::Finished => return,
                            ConsumingEnded::Failed(reason) => reason,
                        }
                    }
                    Err(reason) => reason,
                };
            reconnect.log("consuming", &reason);
            tokio::select! {
                () = sleep(reconnect.next_delay()) => {}
                () = self.state.lanes_restored.notified() => {}
                () = stopped(&mut self.stopping) => return,
            }
        }
    }

    /// Passes messages on and acknowledges them until the connection fails or the process stops.
    async fn serve(&mut self, session: &mut ConsumerSession) -> ConsumingEnded {
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        checks.reset();
        let mut dead_checks = 0;
        let mut done = Vec::new();
        loop {
            let has_room = |lane| self.received.sender(lane).capacity() > 0;
            let worked = tokio::select! {
                message = session.live.consumer.next(), if has_room(Lane::Live) => {
                    dead_checks = 0;
                    self.receive(&mut session.live, message, &mut done)
                }
                message = session.backfill.consumer.next(), if has_room(Lane::Backfill) => {
                    dead_checks = 0;
                    self.receive(&mut session.backfill, message, &mut done)
                }
                _ = self.done.recv_many(&mut done, usize::from(LIVE_PREFETCH)) => Ok(()),
                _ = checks.tick() => match session.has_dead_lane().await {
                    Ok(is_dead) => {
                        dead_checks = if is_dead { dead_checks + 1 } else { 0 };
                        if dead_checks < 2 {
                            Ok(())
                        } else {
                            Err("messages wait in a lane and none is delivered".to_owned())
                        }
                    }
                    Err(reason) => Err(reason),
                },
                () = self.state.lanes_restored.notified() => Err("the lanes were dead".to_owned()),
                () = stopped(&mut self.stopping) => {
                    // The workers have ended, so that every acknowledgement is in this channel.
                    self.done.close();
                    while self.done.recv_many(&mut done, usize::from(LIVE_PREFETCH)).await > 0 {}
                    return match session.acknowledge(&mut done).await {
                        Ok(()) => ConsumingEnded::Finished,
                        Err(reason) => ConsumingEnded::Failed(reason),
                    };
                }
            };
            let worked = match worked {
                Ok(()) => session.acknowledge(&mut done).await,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = worked {
                return ConsumingEnded::Failed(reason);
            }
        }
    }

    /// Passes a message on to the workers. A canary and a message without an id are acknowledged at
    /// once.
    fn receive(
        &self,
        subscription: &mut LaneConsumer,
        message: Option<lapin::Result<Delivery>>,
        done: &mut Vec<Receipt>,
    ) -> Result<(), String> {
        let delivery = match message {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the consumer was cancelled: its queue was deleted".to_owned()),
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
            tracing::warn!("a message without a delivery id is discarded");
            done.push(receipt);
            return Ok(());
        };
        tallyhook_core::crash_point::reached("queue.delivered");
        let received = ReceivedMessage {
            id: DeliveryId(id),
            requeued: was_dead(&delivery.properties),
            receipt,
        };
        // There is room, and nothing else fills it.
        self.received
            .sender(subscription.lane)
            .try_send(received)
            .map_err(|error| error.to_string())
    }
}

/// Returns whether a message is a dead letter's copy: ours, or one that the broker dead-lettered.
fn was_dead(properties: &BasicProperties) -> bool {
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    headers
        .is_some_and(|headers| headers.contains_key(DEAD_HEADER) || headers.contains_key("x-death"))
}

/// A consuming connection with a consumer of each lane.
struct ConsumerSession {
    connection: Connection,
    /// The channel for declarations and queries: one that fails closes its channel.
    control: Channel,
    number: u64,
    live: LaneConsumer,
    backfill: LaneConsumer,
}

impl ConsumerSession {
    async fn open(uri: &AMQPUri, number: u64, probe: bool) -> Result<Self, String> {
        let connection = connect(uri, "worker", probe).await?;
        match Self::consume(&connection, number).await {
            Ok((control, live, backfill)) => Ok(Self {
                connection,
                control,
                number,
                live,
                backfill,
            }),
            Err(reason) => {
                // A consumer without a reader would keep the messages that were delivered to it.
                drop(
                    timeout(
                        Duration::from_secs(1),
                        connection.close(200, "unused".into()),
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
    ) -> Result<(Channel, LaneConsumer, LaneConsumer), String> {
        let control = within("opening a channel", connection.create_channel()).await?;
        topology::declare(&control).await?;
        let live = LaneConsumer::open(connection, Lane::Live, LIVE_PREFETCH, number).await?;
        let backfill =
            LaneConsumer::open(connection, Lane::Backfill, BACKFILL_PREFETCH, number).await?;
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

    /// Returns whether messages wait in a lane of which this process holds none.
    async fn has_dead_lane(&self) -> Result<bool, String> {
        let mut has_dead_lane = false;
        for subscription in [&self.live, &self.backfill] {
            let waiting = topology::depth(&self.control, subscription.lane).await?;
            has_dead_lane |= waiting > 0 && subscription.unacknowledged.tags.is_empty();
        }
        Ok(has_dead_lane)
    }
}

/// A consumer of one lane, on a channel of its own so that each has its own prefetch.
struct LaneConsumer {
    lane: Lane,
    connection: u64,
    channel: Channel,
    consumer: lapin::Consumer,
    unacknowledged: UnacknowledgedTags,
}

impl LaneConsumer {
    async fn open(
        connection: &Connection,
        lane: Lane,
        prefetch: u16,
        number: u64,
    ) -> Result<Self, String> {
        let channel = within("opening a channel", connection.create_channel()).await?;
        within(
            "setting the prefetch",
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
            unacknowledged: UnacknowledgedTags::default(),
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

/// The tags of one channel that are not acknowledged. Several workers finish in any order, and one
/// acknowledgement covers all tags up to its own.
#[derive(Debug, Default)]
struct UnacknowledgedTags {
    tags: BTreeSet<u64>,
    last_received: u64,
    acknowledged: u64,
}

impl UnacknowledgedTags {
    fn received(&mut self, tag: u64) {
        self.tags.insert(tag);
        self.last_received = tag;
    }

    fn done(&mut self, tag: u64) {
        self.tags.remove(&tag);
    }

    /// Returns the last tag before the first that is not done, if it was not acknowledged before.
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
    fn acknowledgement_covers_all_tags_before_the_first_unfinished_one() {
        let mut tags = UnacknowledgedTags::default();
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
