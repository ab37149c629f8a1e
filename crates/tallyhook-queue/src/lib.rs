//! The queue: transport between the inbox and the workers. What a worker takes from it is an id; the row in the inbox
//! is the truth, so that a message that is lost, repeated or forged costs time and nothing else.

#![warn(clippy::unwrap_used)]

mod amqp;
mod in_process;
mod lanes;
mod news;

use std::sync::Arc;
use std::time::Duration;

use tallyhook_core::delivery::{DeliveryId, Lane};
use tallyhook_core::event::Event;
use tallyhook_core::event::message::{Message, VERSION};
use tokio::sync::mpsc::OwnedPermit;

use self::amqp::{Amqp, Receipt};
use self::in_process::InProcess;
pub use self::news::News;
use self::news::NewsDesk;

/// 1 while this process has every connection to the broker that it needs.
pub const AMQP_CONNECTED: &str = "tallyhook_amqp_connected";

/// What was handed over and is not finished by then is handed over again.
pub const HANDED_OVER_AGAIN: Duration = Duration::from_mins(5);

/// What a process does with the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Hands deliveries over.
    Publish,
    /// Works on them too.
    PublishAndConsume,
}

/// Connects to the broker that `url` names, and finds the first of our exchanges and queues that is not there. Makes none.
///
/// # Errors
/// Why it cannot be used, in words that hold no password.
pub async fn look(url: &str) -> Result<Option<&'static str>, String> {
    amqp::look(url).await
}

/// The queue of this process.
#[derive(Debug)]
pub struct Queue {
    transport: Transport,
    news: Arc<NewsDesk>,
}

#[derive(Debug)]
enum Transport {
    InProcess(InProcess),
    Amqp(Amqp),
}

/// Room for one delivery, kept until it is used or dropped.
#[derive(Debug)]
pub enum Permit {
    InProcess(OwnedPermit<DeliveryId>),
    Amqp(amqp::Permit),
}

impl Permit {
    /// Hands over a delivery that is committed. Never waits and never fails; `message` is made where one is sent.
    pub fn send(self, id: DeliveryId, message: impl FnOnce() -> Publication) {
        match self {
            Self::InProcess(permit) => {
                permit.send(id);
            }
            Self::Amqp(permit) => permit.send(id, message()),
        }
    }
}

/// A message as subscribers get it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// GitHub's name of the event.
    event: String,
    action: Option<String>,
    json: Vec<u8>,
}

impl Publication {
    /// One that names its delivery and says nothing of it, which is all that workers need.
    pub fn bare(id: DeliveryId) -> Self {
        Self::new(id, "", "", "", chrono::DateTime::UNIX_EPOCH, None)
    }

    /// Of the delivery `guid` of the event `name`; `event` is `None` where it cannot be decoded.
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
            tracing::error!(delivery.id = id.0, %error, "a message goes without its body");
            Vec::new()
        });
        Self {
            event: name.to_owned(),
            action: event.and_then(Event::action).map(str::to_owned),
            json,
        }
    }
}

/// A dead letter of which a copy is shown among the broker's queues.
#[derive(Clone, Debug)]
pub struct DeadCopy {
    pub id: DeliveryId,
    pub publication: Publication,
    pub reason: String,
    pub repo: Option<String>,
}

/// Deliveries that a worker took.
#[derive(Debug)]
pub struct Batch {
    pub ids: Vec<DeliveryId>,
    /// Of these a person moved the copy from the queue of dead ones back: they are to be tried again.
    pub revived: Vec<DeliveryId>,
    receipts: Vec<Receipt>,
}

/// Whether the queue can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Ok,
    /// Deliveries wait in the inbox meanwhile.
    Disconnected,
}

impl Queue {
    /// The queue inside this process.
    pub fn in_process() -> Self {
        Self {
            transport: Transport::InProcess(InProcess::new()),
            news: Arc::default(),
        }
    }

    /// A broker's. Returns at once, whether or not the broker answers, and keeps trying for as long as it lives.
    ///
    /// # Errors
    /// If `url` is none, in words that say what was expected and nothing of what was given.
    pub fn amqp(url: &str, part: Use) -> Result<Self, String> {
        let news = Arc::<NewsDesk>::default();
        Ok(Self {
            transport: Transport::Amqp(Amqp::start(url, part, news.clone())?),
            news,
        })
    }

    /// Whether messages carry events, or ids only.
    pub fn carries_events(&self) -> bool {
        matches!(self.transport, Transport::Amqp(_))
    }

    /// Room for one delivery that is about to be stored; `None` leaves it to the relay, see [`Queue::leave_behind`].
    pub fn try_reserve(&self, lane: Lane) -> Option<Permit> {
        match &self.transport {
            Transport::InProcess(queue) => queue.try_reserve(lane).map(Permit::InProcess),
            Transport::Amqp(queue) => queue.try_reserve(lane).map(Permit::Amqp),
        }
    }

    /// Tells the relay that a delivery for which there was no room is committed, and is to be found in the inbox.
    pub fn leave_behind(&self) {
        self.news.more();
    }

    /// How many more ids a lane should be handed, so that a backlog is not handed over again and again.
    pub async fn room(&self, lane: Lane) -> usize {
        match &self.transport {
            Transport::InProcess(queue) => queue.room(lane),
            Transport::Amqp(queue) => queue.room(lane).await,
        }
    }

    /// What happened since the last call.
    pub fn news(&self) -> News {
        self.news.take()
    }

    /// Waits until there is news, or room again.
    pub async fn changed(&self) {
        self.news.changed().await;
    }

    /// Puts copies of dead letters where the broker's dashboard shows them. Those that the broker has.
    pub async fn copy_dead(&self, copies: Vec<DeadCopy>) -> Vec<DeliveryId> {
        match &self.transport {
            Transport::InProcess(_) => Vec::new(),
            Transport::Amqp(queue) => queue.copy_dead(copies).await,
        }
    }

    /// Waits for deliveries and takes at most `most`, live ones first. `None` once the queue is closed.
    pub async fn receive(&self, most: usize) -> Option<Batch> {
        let batch = match &self.transport {
            Transport::InProcess(queue) => Batch {
                ids: queue.lanes.receive(most).await?,
                revived: Vec::new(),
                receipts: Vec::new(),
            },
            Transport::Amqp(queue) => queue.receive(most).await?,
        };
        self.news.wake();
        Some(batch)
    }

    /// Tells the broker that a batch needs no further care: each of its deliveries is finished or due again.
    pub fn done(&self, batch: Batch) {
        if let Transport::Amqp(queue) = &self.transport {
            queue.done(batch.receipts);
        }
    }

    pub fn health(&self) -> Health {
        match &self.transport {
            Transport::InProcess(_) => Health::Ok,
            Transport::Amqp(queue) => queue.health(),
        }
    }

    /// Waits until a part of it ends by itself, which it does only by breaking.
    pub async fn broken(&self) {
        match &self.transport {
            Transport::InProcess(_) => std::future::pending().await,
            Transport::Amqp(queue) => queue.broken().await,
        }
    }

    /// Lets workers end: what they have not taken is taken by others, or handed over again.
    pub fn close(&self) {
        match &self.transport {
            Transport::InProcess(queue) => queue.lanes.close(),
            Transport::Amqp(queue) => queue.close(),
        }
        self.news.wake();
    }

    /// Once the workers have ended: sends what is still to be sent, and leaves the broker.
    pub async fn finish(&self) {
        if let Transport::Amqp(queue) = &self.transport {
            queue.finish().await;
        }
    }
}
