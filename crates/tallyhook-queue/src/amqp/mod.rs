//! RabbitMQ. One supervised connection publishes, another consumes: a broker that blocks publishers
//! goes on delivering.
//!
//! lapin's own recovery is off. Any failure, be it an error, a cancelled consumer or silence, ends
//! the connection; its supervisor backs off, reconnects and declares the topology again.

mod consuming;
mod publisher_session;
mod publishing;
mod topology;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lapin::types::LongString;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use metrics::gauge;
use tallyhook_core::backoff::Backoff;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::consuming::{Consumer, ReceivedMessage};
pub(super) use self::publishing::AmqpPermit;
use self::publishing::{DepthQuery, Outgoing, Publisher};
use super::lanes::Lanes;
use super::signals::SignalCollector;
use super::{Batch, DeadCopy, DeliveryId, Health, Lane, QueueUse};
use crate::AMQP_CONNECTED;

/// Messages that wait to be published. What does not fit is deferred to the relay.
const OUTGOING: usize = 1024;
/// The depth of a lane at which the relay stops publishing to it: what waits there was published
/// already.
const OUTSTANDING: usize = 1000;
/// The time limit of every request. A broker that takes longer counts as disconnected.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The AMQP heartbeat. RabbitMQ and lapin close a connection after two intervals of silence.
const HEARTBEAT_SECONDS: u16 = 10;
/// The time limit of the last messages and acknowledgements at shutdown.
const FINISH_TIMEOUT: Duration = Duration::from_millis(2500);

/// A queue at a broker.
#[derive(Debug)]
pub(super) struct Amqp {
    state: Arc<ConnectionState>,
    outgoing: mpsc::Sender<Outgoing>,
    depth_queries: mpsc::Sender<DepthQuery>,
    received: Arc<Lanes<ReceivedMessage>>,
    /// Bounded by the prefetch: never more than was received and not acknowledged.
    done: mpsc::UnboundedSender<Receipt>,
    stopping: watch::Sender<bool>,
    supervisors: Mutex<JoinSet<()>>,
}

/// The position of one message that is to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    /// The number of the connection: tags restart with each.
    connection: u64,
    lane: Lane,
    tag: u64,
}

/// The state of both connections. The consuming one counts as connected in a process that does not
/// consume.
#[derive(Debug)]
struct ConnectionState {
    publishing: AtomicBool,
    consuming: AtomicBool,
    /// Held while the gauge is set.
    gauge_lock: parking_lot::Mutex<()>,
    /// Notified when dead lanes were replaced: their consumers receive nothing, not even a
    /// cancellation.
    lanes_restored: Notify,
}

impl ConnectionState {
    fn is_connected(&self) -> bool {
        self.publishing.load(Ordering::Acquire) && self.consuming.load(Ordering::Acquire)
    }

    fn set(&self, side: &AtomicBool, is_connected: bool) {
        // One after the other, so that the last value of the gauge is the current one.
        let _guard = self.gauge_lock.lock();
        side.store(is_connected, Ordering::Release);
        gauge!(AMQP_CONNECTED).set(f64::from(u8::from(self.is_connected())));
    }

    fn set_publishing(&self, is_connected: bool) {
        self.set(&self.publishing, is_connected);
    }

    fn set_consuming(&self, is_connected: bool) {
        self.set(&self.consuming, is_connected);
    }
}

impl Amqp {
    /// Starts the supervisors.
    ///
    /// # Errors
    /// If `url` is not an AMQP URL.
    pub(super) fn start(
        url: &str,
        queue_use: QueueUse,
        signals: Arc<SignalCollector>,
    ) -> Result<Self, String> {
        let uri = parse_url(url)?;
        let state = Arc::new(ConnectionState {
            publishing: AtomicBool::new(false),
            consuming: AtomicBool::new(queue_use == QueueUse::Publish),
            gauge_lock: parking_lot::Mutex::default(),
            lanes_restored: Notify::new(),
        });
        state.set_publishing(false);
        let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING);
        let (depth_queries, depth_queries_receiver) = mpsc::channel(1);
        let (done, done_receiver) = mpsc::unbounded_channel();
        let (stopping, _) = watch::channel(false);
        let received = Arc::new(Lanes::new(consuming::CAPACITY));
        let mut supervisors = JoinSet::new();
        let publisher = Publisher {
            uri: uri.clone(),
            state: state.clone(),
            signals: signals.clone(),
            outgoing: outgoing_receiver,
            depth_queries: depth_queries_receiver,
            stopping: stopping.subscribe(),
        };
        supervisors.spawn(publisher.run());
        if queue_use == QueueUse::PublishAndConsume {
            let consumer = Consumer {
                uri,
                state: state.clone(),
                signals,
                received: received.clone(),
                done: done_receiver,
                stopping: stopping.subscribe(),
            };
            supervisors.spawn(consumer.run());
        }
        Ok(Self {
            state,
            outgoing,
            depth_queries,
            received,
            done,
            stopping,
            supervisors: Mutex::new(supervisors),
        })
    }

    pub(super) fn try_reserve(&self, lane: Lane) -> Option<AmqpPermit> {
        if !self.state.publishing.load(Ordering::Acquire) {
            return None;
        }
        let permit = self.outgoing.clone().try_reserve_owned().ok()?;
        Some(AmqpPermit::new(lane, permit))
    }

    /// Returns the room in a lane, by the broker's own count of its messages.
    pub(super) async fn room(&self, lane: Lane) -> usize {
        let (answer, answered) = oneshot::channel();
        // Without a connection nothing answers the query.
        if !self.state.publishing.load(Ordering::Acquire)
            || self
                .depth_queries
                .send(DepthQuery { lane, answer })
                .await
                .is_err()
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
        let requeued = received.iter().filter(|one| one.requeued);
        Some(Batch {
            requeued: requeued.map(|one| one.id).collect(),
            ids: received.iter().map(|one| one.id).collect(),
            receipts: received.iter().map(|one| one.receipt).collect(),
        })
    }

    pub(super) fn acknowledge(&self, receipts: Vec<Receipt>) {
        for receipt in receipts {
            if self.done.send(receipt).is_err() {
                // The process ends: the broker delivers the message again, and its row shows that
                // it is finished.
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

    /// Waits until a supervisor ends by itself, which happens only if it panics.
    pub(super) async fn broken(&self) {
        self.supervisors.lock().await.join_next().await;
    }

    pub(super) async fn finish(&self) {
        self.stopping.send_replace(true);
        let mut supervisors = self.supervisors.lock().await;
        let ended = timeout(FINISH_TIMEOUT, async {
            while supervisors.join_next().await.is_some() {}
        })
        .await;
        if ended.is_err() {
            supervisors.shutdown().await;
        }
    }
}

/// Connects once, and returns the first of the exchanges and queues that is missing.
///
/// # Errors
/// The step that failed, in a text that shows nothing of `url` beyond its host.
pub(super) async fn find_missing_topology(url: &str) -> Result<Option<&'static str>, String> {
    let connection = connect(&parse_url(url)?, "check", true).await?;
    let channel = within("opening a channel", connection.create_channel()).await?;
    let missing = topology::find_missing(&channel).await;
    // A failure to close changes nothing about the answer.
    drop(within("closing", connection.close(0, "checked".into())).await);
    missing
}

/// Parses `AMQP_URL` and sets the heartbeat.
///
/// # Errors
/// If `url` is not an AMQP URL.
pub(crate) fn parse_url(url: &str) -> Result<AMQPUri, String> {
    // The parser's own error would repeat the password.
    let mut uri = AMQPUri::from_str(url).map_err(|_| {
        "AMQP_URL is not the URL of a broker: expected amqp://USER:PASSWORD@HOST:PORT/VHOST"
            .to_owned()
    })?;
    uri.query.heartbeat = Some(HEARTBEAT_SECONDS);
    Ok(uri)
}

/// Opens a connection that the broker's dashboard shows under `name`.
///
/// With `probe` the peer must first answer on a plain connection: lapin never gives up a connection
/// without an answer.
async fn connect(uri: &AMQPUri, name: &str, probe: bool) -> Result<Connection, String> {
    if probe {
        probe_peer(uri).await?;
    }
    let name = LongString::from(format!("tallyhook {name} {}", std::process::id()));
    let properties = ConnectionProperties::default().with_connection_name(name);
    within(
        "connecting",
        Connection::connect_uri(uri.clone(), properties),
    )
    .await
}

/// Checks that a peer answers at the broker's address.
async fn probe_peer(uri: &AMQPUri) -> Result<(), String> {
    let answered = async {
        let mut stream =
            TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
        // Over TLS a peer answers only to a complete handshake, so that the connection alone must
        // do.
        if uri.scheme == AMQPScheme::AMQP {
            stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
            stream.read_u8().await?;
        }
        Ok::<_, std::io::Error>(())
    };
    match timeout(REQUEST_TIMEOUT, answered).await {
        Ok(answer) => answer.map_err(|error| format!("connecting: {error}")),
        Err(_) => Err(format!(
            "connecting: no answer within {} s",
            REQUEST_TIMEOUT.as_secs()
        )),
    }
}

/// Waits for the broker's answer to a request, at most [`REQUEST_TIMEOUT`].
async fn within<T>(
    step: &str,
    request: impl Future<Output = lapin::Result<T>>,
) -> Result<T, String> {
    within_time(REQUEST_TIMEOUT, step, request).await
}

/// Waits for the broker's answer to a request, at most `limit`.
async fn within_time<T>(
    limit: Duration,
    step: &str,
    request: impl Future<Output = lapin::Result<T>>,
) -> Result<T, String> {
    match timeout(limit, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{step}: {error}")),
        Err(_) => Err(format!("{step}: no answer within {} s", limit.as_secs())),
    }
}

/// Waits until the process stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // A dropped sender means the same.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// The delays between attempts to connect; the jitter keeps processes from reconnecting all at
/// once.
const RECONNECT: Backoff = Backoff {
    first: Duration::from_millis(200),
    max: Duration::from_secs(5),
};

/// The failures of one supervisor since its last connection: sets the delays, and limits the lines
/// in the log.
#[derive(Debug, Default)]
struct ReconnectState {
    failures: u32,
    logged_at: Option<Instant>,
}

impl ReconnectState {
    const LOG_INTERVAL: Duration = Duration::from_mins(1);

    /// Starts again with short delays, after a connection that worked.
    fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and returns the delay before the next attempt.
    fn next_delay(&mut self) -> Duration {
        self.failures += 1;
        RECONNECT.jittered(self.failures, rand::random_range(0.0..1.0))
    }

    /// Logs the first of consecutive failures at once, and the others once a minute.
    fn log(&mut self, side: &'static str, reason: &str) {
        let is_due = |at: Instant| at.elapsed() > Self::LOG_INTERVAL;
        if self.failures == 0 || self.logged_at.is_none_or(is_due) {
            self.logged_at = Some(Instant::now());
            tracing::warn!(
                side,
                reason,
                "{side}: the broker cannot be used; deliveries wait in the inbox, reconnecting"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnect_delays_grow_to_the_maximum_and_restart_after_a_connection() {
        let mut state = ReconnectState::default();
        let delays: Vec<_> = (0..9).map(|_| state.next_delay()).collect();
        assert!(delays[0] <= Duration::from_millis(200) && delays[1] <= Duration::from_millis(400));
        assert!(delays.iter().all(|delay| *delay <= RECONNECT.max));
        assert!(delays[8] >= RECONNECT.max / 2);
        state.reset();
        assert!(state.next_delay() <= Duration::from_millis(200));
    }
}
