//! RabbitMQ. One supervised connection publishes, another consumes: a broker that blocks publishers goes on delivering.
//!
//! lapin's own recovery is off. Whatever fails, be it an error, a cancelled consumer or silence, ends the connection;
//! its supervisor waits a little, connects anew and declares the topology again.

mod consuming;
mod publishing;
mod topology;

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lapin::types::LongString;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use metrics::gauge;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::consuming::{Consumer, Received};
pub(super) use self::publishing::Permit;
use self::publishing::{Ask, Outgoing, Publisher};
use super::lanes::Lanes;
use super::news::NewsDesk;
use super::{Batch, DeadCopy, DeliveryId, Health, Lane, Use};
use crate::AMQP_CONNECTED;

/// Messages that wait to be sent. What does not fit is left to the relay.
const OUTGOING: usize = 1024;
/// The most messages that the relay should add to in a lane: what waits there was handed over already.
const OUTSTANDING: usize = 1000;
/// A broker that takes longer for anything is as good as gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often each side speaks at least; RabbitMQ and lapin give up after two of these in silence.
const HEARTBEAT_SECONDS: u16 = 10;
/// How long the last messages and acknowledgements may take when the process ends.
const FAREWELL: Duration = Duration::from_millis(2500);

/// A queue at a broker.
#[derive(Debug)]
pub(super) struct Amqp {
    state: Arc<State>,
    outgoing: mpsc::Sender<Outgoing>,
    asks: mpsc::Sender<Ask>,
    received: Arc<Lanes<Received>>,
    /// Never more than was received and not acknowledged, which the prefetch bounds.
    done: mpsc::UnboundedSender<Receipt>,
    stopping: watch::Sender<bool>,
    supervisors: Mutex<JoinSet<()>>,
}

/// What is to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    /// Tags count anew with every connection.
    connection: u64,
    lane: Lane,
    tag: u64,
}

/// Which of the connections work. A process that does not consume misses nothing there.
#[derive(Debug)]
struct State {
    publishing: AtomicBool,
    consuming: AtomicBool,
    telling: std::sync::Mutex<()>,
    /// Consumers of lanes that were dead hear nothing, not even that they are gone.
    lanes_are_back: Notify,
}

impl State {
    fn is_connected(&self) -> bool {
        self.publishing.load(Ordering::Acquire) && self.consuming.load(Ordering::Acquire)
    }

    fn set(&self, part: &AtomicBool, works: bool) {
        // One after the other, so that the last one tells how it is.
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        part.store(works, Ordering::Release);
        gauge!(AMQP_CONNECTED).set(f64::from(u8::from(self.is_connected())));
    }

    fn publishing(&self, works: bool) {
        self.set(&self.publishing, works);
    }

    fn consuming(&self, works: bool) {
        self.set(&self.consuming, works);
    }
}

impl Amqp {
    /// Starts the supervisors.
    ///
    /// # Errors
    /// If `url` is none of AMQP.
    pub(super) fn start(url: &str, part: Use, news: Arc<NewsDesk>) -> Result<Self, String> {
        let uri = uri(url)?;
        let state = Arc::new(State {
            publishing: AtomicBool::new(false),
            consuming: AtomicBool::new(part == Use::Publish),
            telling: std::sync::Mutex::default(),
            lanes_are_back: Notify::new(),
        });
        state.publishing(false);
        let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING);
        let (asks, asked) = mpsc::channel(1);
        let (done, done_receiver) = mpsc::unbounded_channel();
        let (stopping, _) = watch::channel(false);
        let received = Arc::new(Lanes::new(consuming::CAPACITY));
        let mut supervisors = JoinSet::new();
        let publisher = Publisher {
            uri: uri.clone(),
            state: state.clone(),
            news: news.clone(),
            outgoing: outgoing_receiver,
            asked,
            stopping: stopping.subscribe(),
        };
        supervisors.spawn(publisher.run());
        if part == Use::PublishAndConsume {
            let consumer = Consumer {
                uri,
                state: state.clone(),
                news,
                received: received.clone(),
                done: done_receiver,
                stopping: stopping.subscribe(),
            };
            supervisors.spawn(consumer.run());
        }
        Ok(Self {
            state,
            outgoing,
            asks,
            received,
            done,
            stopping,
            supervisors: Mutex::new(supervisors),
        })
    }

    pub(super) fn try_reserve(&self, lane: Lane) -> Option<Permit> {
        if !self.state.publishing.load(Ordering::Acquire) {
            return None;
        }
        let permit = self.outgoing.clone().try_reserve_owned().ok()?;
        Some(Permit::new(lane, permit))
    }

    /// By the broker's own count of what waits in the lane.
    pub(super) async fn room(&self, lane: Lane) -> usize {
        // Nobody answers before the connection is there again.
        if !self.state.publishing.load(Ordering::Acquire) {
            return 0;
        }
        let (answer, answered) = oneshot::channel();
        // Nobody answers while there is no connection.
        if !self.state.publishing.load(Ordering::Acquire)
            || self.asks.send(Ask { lane, answer }).await.is_err()
        {
            return 0;
        }
        let waiting = answered.await.unwrap_or(OUTSTANDING);
        OUTSTANDING
            .saturating_sub(waiting)
            .min(self.outgoing.capacity())
    }

    pub(super) async fn copy_dead(&self, copies: Vec<DeadCopy>) -> Vec<DeliveryId> {
        let mut copied = Vec::with_capacity(copies.len());
        let mut sent = Vec::with_capacity(copies.len());
        for copy in copies {
            if !self.state.publishing.load(Ordering::Acquire) {
                break;
            }
            let (id, (confirmed, confirmation)) = (copy.id, oneshot::channel());
            if self
                .outgoing
                .send(Outgoing::Dead(Box::new(copy), confirmed))
                .await
                .is_ok()
            {
                sent.push((id, confirmation));
            }
        }
        for (id, confirmation) in sent {
            if confirmation.await.is_ok() {
                copied.push(id);
            }
        }
        copied
    }

    pub(super) async fn receive(&self, most: usize) -> Option<Batch> {
        let received = self.received.receive(most).await?;
        let revived = received.iter().filter(|one| one.revived).map(|one| one.id);
        Some(Batch {
            revived: revived.collect(),
            ids: received.iter().map(|one| one.id).collect(),
            receipts: received.iter().map(|one| one.receipt).collect(),
        })
    }

    pub(super) fn done(&self, receipts: Vec<Receipt>) {
        for receipt in receipts {
            if self.done.send(receipt).is_err() {
                // The process ends: the broker delivers again what is finished by its row.
                return;
            }
        }
    }

    pub(super) fn health(&self) -> Health {
        if self.state.is_connected() {
            Health::Ok
        } else {
            Health::Disconnected
        }
    }

    pub(super) fn close(&self) {
        self.received.close();
    }

    /// Waits until a supervisor ends by itself, which it does only by breaking.
    pub(super) async fn broken(&self) {
        self.supervisors.lock().await.join_next().await;
    }

    pub(super) async fn finish(&self) {
        self.stopping.send_replace(true);
        let mut supervisors = self.supervisors.lock().await;
        let ended = timeout(FAREWELL, async {
            while supervisors.join_next().await.is_some() {}
        })
        .await;
        if ended.is_err() {
            supervisors.shutdown().await;
        }
    }
}

/// Connects once, and finds the first of the exchanges and queues that is not there.
///
/// # Errors
/// What failed, in words that tell nothing of `url` beyond its host.
pub(super) async fn look(url: &str) -> Result<Option<&'static str>, String> {
    let connection = connect(&uri(url)?, "looking", true).await?;
    let channel = within("opening a channel", connection.create_channel()).await?;
    let missing = topology::missing(&channel).await;
    // Whatever becomes of it, what was to be known is known.
    drop(within("closing", connection.close(0, "seen".into())).await);
    missing
}

/// # Errors
/// If `url` is none of AMQP.
fn uri(url: &str) -> Result<AMQPUri, String> {
    // What the parser says would repeat the password.
    let mut uri = AMQPUri::from_str(url).map_err(|_| {
        "AMQP_URL is no URL of a broker: expected amqp://USER:PASSWORD@HOST:PORT/VHOST".to_owned()
    })?;
    uri.query.heartbeat = Some(HEARTBEAT_SECONDS);
    Ok(uri)
}

/// Opens a connection that the broker's dashboard shows under `name`.
///
/// A suspicious peer has to show first that it speaks at all: lapin never gives up a connection on which nobody answers.
async fn connect(uri: &AMQPUri, name: &str, suspicious: bool) -> Result<Connection, String> {
    if suspicious {
        speaks(uri).await?;
    }
    let name = LongString::from(format!("tallyhook {name} {}", std::process::id()));
    let properties = ConnectionProperties::default().with_connection_name(name);
    within(
        "connecting",
        Connection::connect_uri(uri.clone(), properties),
    )
    .await
}

/// Whether somebody answers at the broker's address.
async fn speaks(uri: &AMQPUri) -> Result<(), String> {
    let spoken = async {
        let mut stream =
            TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
        // Over TLS it waits for us to say more, which needs more than this.
        if uri.scheme == AMQPScheme::AMQP {
            stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
            stream.read_u8().await?;
        }
        Ok::<_, std::io::Error>(())
    };
    match timeout(PATIENCE, spoken).await {
        Ok(spoken) => spoken.map_err(|error| format!("connecting: {error}")),
        Err(_) => Err(format!(
            "connecting: no answer within {} s",
            PATIENCE.as_secs()
        )),
    }
}

/// Something that the broker is asked for, with an end to the waiting.
async fn within<T>(what: &str, asked: impl Future<Output = lapin::Result<T>>) -> Result<T, String> {
    within_time(PATIENCE, what, asked).await
}

/// The same with another end.
async fn within_time<T>(
    patience: Duration,
    what: &str,
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, String> {
    match timeout(patience, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: no answer within {} s", patience.as_secs())),
    }
}

/// Waits until the process is to end.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // The sender going away means the same.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// How long to wait before the next try, and which failures are worth a line in the log.
#[derive(Debug, Default)]
struct Pause {
    failures: u32,
    told: Option<Instant>,
}

impl Pause {
    const LONGEST: Duration = Duration::from_secs(5);
    const TOLD_AGAIN: Duration = Duration::from_mins(1);

    /// After a connection that worked the first waits are short again.
    fn reset(&mut self) {
        self.failures = 0;
    }

    /// 0.2 s, doubled with every failure up to five seconds, a little more or less so that processes do not all come
    /// back at the same moment.
    fn next(&mut self) -> Duration {
        let wait = Duration::from_millis(200 << self.failures.min(5)).min(Self::LONGEST);
        self.failures += 1;
        wait.mul_f64(rand::random_range(0.5..1.0))
    }

    /// Tells the first failure of a row at once, and the others once a minute.
    fn tell(&mut self, side: &'static str, reason: &str) {
        if self.failures == 0
            || self
                .told
                .is_none_or(|told| told.elapsed() > Self::TOLD_AGAIN)
        {
            self.told = Some(Instant::now());
            tracing::warn!(
                side,
                reason,
                "the broker cannot be used; deliveries wait in the inbox, trying again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_longest_and_start_again() {
        let mut pause = Pause::default();
        let waits: Vec<_> = (0..9).map(|_| pause.next()).collect();
        assert!(waits[0] <= Duration::from_millis(200) && waits[1] <= Duration::from_millis(400));
        assert!(waits.iter().all(|wait| *wait <= Pause::LONGEST) && waits[8] >= Pause::LONGEST / 2);
        pause.reset();
        assert!(pause.next() <= Duration::from_millis(200));
    }
}
