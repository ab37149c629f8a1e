//! The queue: transport between the inbox and the workers. A worker receives ids; the row in the
//! inbox is the truth, so that a message that is lost, repeated or forged costs time and nothing
//! else.

#![warn(clippy::unwrap_used)]

mod amqp;
mod in_process;
mod lanes;
mod signals;

use std::sync::Arc;
use std::time::Duration;

use tallyhook_core::delivery::{DeliveryId, Lane};
use tallyhook_core::event::Event;
use tallyhook_core::event::message::{Message, VERSION};
use tokio::sync::mpsc::OwnedPermit;

use self::amqp::{Amqp, Receipt};
use self::in_process::InProcess;
pub use self::signals::QueueSignals;
use self::signals::SignalCollector;

/// 1 while this process has every connection to the broker that it needs.
pub const AMQP_CONNECTED: &str = "tallyhook_amqp_connected";

/// The time after which a published delivery that is not finished is due for publishing again.
pub const REPUBLISH_AFTER: Duration = Duration::from_mins(5);

/// The use that a process makes of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueUse {
    /// Publishes deliveries.
    Publish,
    /// Publishes deliveries and applies them.
    PublishAndConsume,
}

/// Connects to the broker that `url` names, and returns the first of our exchanges and queues that
/// is missing. Declares none.
///
/// # Errors
/// The reason why the broker cannot be used, in a text without the password.
pub async fn find_missing_topology(url: &str) -> Result<Option<&'static str>, String> {
    amqp::find_missing_topology(url).await
}

/// The queue of this process.
#[derive(Debug)]
pub struct Queue {
    transport: QueueTransport,
    signals: Arc<SignalCollector>,
}

#[derive(Debug)]
enum QueueTransport {
    InProcess(InProcess),
    Amqp(Amqp),
}

/// Room for one delivery, kept until it is used or dropped.
#[derive(Debug)]
pub enum Permit {
    InProcess(OwnedPermit<DeliveryId>),
    Amqp(amqp::AmqpPermit),
}

impl Permit {
    /// Publishes a delivery that is committed. Never waits and never fails; `message` is called
    /// only for a transport that carries events.
    pub fn send(self, id: DeliveryId, message: impl FnOnce() -> Publication) {
        match self {
            Self::InProcess(permit) => {
                permit.send(id);
            }
            Self::Amqp(permit) => permit.send(id, message()),
        }
    }
}

/// A message as subscribers receive it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The event's name, as in `X-GitHub-Event`.
    event: String,
    action: Option<String>,
    json: Vec<u8>,
}

impl Publication {
    /// Returns a message that only names its delivery, which is all that workers need.
    pub fn bare(id: DeliveryId) -> Self {
        Self::new(id, "", "", "", chrono::DateTime::UNIX_EPOCH, None)
    }

    /// Returns the message of the delivery `guid` of the event `name`; `event` is `None` if the
    /// body cannot be decoded.
    pub fn new(
        id: DeliveryId,
        guid: &str,
        name: &str,
        source: &str,
        received_at: chrono::DateTime<chrono::Utc>,
        event: Option<&Event>,
    ) -> Self {
        let message = Message {
            v: VERSION,
            delivery_id: id.0,
            guid,
            source,
            received_at,
            event,
        };
        let json = message.to_json().unwrap_or_else(|error| {
            // Workers need no more than the message's id.
            tracing::error!(
                delivery.id = id.0, delivery.guid = guid, %error,
                "the message of delivery {guid} is published without its body"
            );
            Vec::new()
        });
        Self {
            event: name.to_owned(),
            action: event.and_then(Event::action).map(str::to_owned),
            json,
        }
    }
}

/// The copy of a dead letter that the broker's dashboard shows.
#[derive(Clone, Debug)]
pub struct DeadCopy {
    pub id: DeliveryId,
    pub publication: Publication,
    pub reason: String,
    pub repo: Option<String>,
}

/// Deliveries that a worker received.
#[derive(Debug)]
pub struct Batch {
    pub ids: Vec<DeliveryId>,
    /// Those of them whose copy a person moved from the queue of dead letters back to a lane: they
    /// are to be requeued.
    pub requeued: Vec<DeliveryId>,
    receipts: Vec<Receipt>,
}

/// The state of the connection to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Ok,
    /// Deliveries wait in the inbox.
    Disconnected,
}

/// Checks the form of a broker's URL, and connects to nothing.
///
/// # Errors
/// The expected form, without a password.
pub fn check_url(url: &str) -> Result<(), String> {
    amqp::parse_url(url).map(drop)
}

impl Queue {
    /// Returns the queue inside this process.
    pub fn in_process() -> Self {
        Self {
            transport: QueueTransport::InProcess(InProcess::new()),
            signals: Arc::default(),
        }
    }

    /// Returns a broker's queue, at once, whether or not the broker answers. Its supervisors
    /// reconnect for as long as it lives.
    ///
    /// # Errors
    /// If `url` is invalid, in a text that shows the expected form and nothing of the given one.
    pub fn amqp(url: &str, queue_use: QueueUse) -> Result<Self, String> {
        let signals = Arc::<SignalCollector>::default();
        Ok(Self {
            transport: QueueTransport::Amqp(Amqp::start(url, queue_use, signals.clone())?),
            signals,
        })
    }

    /// Returns whether messages carry events, and not only ids.
    pub fn carries_events(&self) -> bool {
        matches!(self.transport, QueueTransport::Amqp(_))
    }

    /// Reserves room for one delivery that is about to be stored. `None` defers it to the relay,
    /// see [`Queue::defer_to_relay`].
    pub fn try_reserve(&self, lane: Lane) -> Option<Permit> {
        match &self.transport {
            QueueTransport::InProcess(queue) => queue.try_reserve(lane).map(Permit::InProcess),
            QueueTransport::Amqp(queue) => queue.try_reserve(lane).map(Permit::Amqp),
        }
    }

    /// Notifies the relay that a delivery for which there was no room is committed and waits in the
    /// inbox.
    pub fn defer_to_relay(&self) {
        self.signals.report_backlog();
    }

    /// Returns the number of ids that a lane has room for, so that a backlog is not published again
    /// and again.
    pub async fn room(&self, lane: Lane) -> usize {
        match &self.transport {
            QueueTransport::InProcess(queue) => queue.room(lane),
            QueueTransport::Amqp(queue) => queue.room(lane).await,
        }
    }

    /// Takes the signals since the last call.
    pub fn signals(&self) -> QueueSignals {
        self.signals.take()
    }

    /// Waits until there are signals, or room again.
    pub async fn changed(&self) {
        self.signals.changed().await;
    }

    /// Publishes copies of dead letters to the queue that the broker's dashboard shows. Returns the
    /// ids of those that the broker confirmed.
    pub async fn copy_dead(&self, copies: Vec<DeadCopy>) -> Vec<DeliveryId> {
        match &self.transport {
            QueueTransport::InProcess(_) => Vec::new(),
            QueueTransport::Amqp(queue) => queue.copy_dead(copies).await,
        }
    }

    /// Waits for deliveries and returns at most `most`, live ones first. `None` once the queue is
    /// closed.
    pub async fn receive(&self, most: usize) -> Option<Batch> {
        let batch = match &self.transport {
            QueueTransport::InProcess(queue) => Batch {
                ids: queue.lanes.receive(most).await?,
                requeued: Vec::new(),
                receipts: Vec::new(),
            },
            QueueTransport::Amqp(queue) => queue.receive(most).await?,
        };
        self.signals.wake();
        Some(batch)
    }

    /// Acknowledges a batch. Each of its deliveries is finished or due again in the inbox.
    pub fn acknowledge(&self, batch: Batch) {
        if let QueueTransport::Amqp(queue) = &self.transport {
            queue.acknowledge(batch.receipts);
        }
    }

    /// Returns whether the queue is connected.
    pub fn health(&self) -> Health {
        match &self.transport {
            QueueTransport::InProcess(_) => Health::Ok,
            QueueTransport::Amqp(queue) => queue.health(),
        }
    }

    /// Waits until a supervisor ends by itself, which happens only if it panics.
    pub async fn broken(&self) {
        match &self.transport {
            QueueTransport::InProcess(_) => std::future::pending().await,
            QueueTransport::Amqp(queue) => queue.broken().await,
        }
    }

    /// Ends [`Queue::receive`] for all workers. Other workers receive what they have not, or the
    /// relay publishes it again.
    pub fn close(&self) {
        match &self.transport {
            QueueTransport::InProcess(queue) => queue.lanes.close(),
            QueueTransport::Amqp(queue) => queue.close(),
        }
        self.signals.wake();
    }

    /// Publishes and acknowledges what is pending, and disconnects from the broker. Called once the
    /// workers have ended.
    pub async fn finish(&self) {
        if let QueueTransport::Amqp(queue) = &self.transport {
            queue.finish().await;
        }
    }
}
