//! The clients of `/ws`, all on one thread beside the one that posts, and the frames that each
//! receives.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::{self, TryStreamExt};
use serde::Deserialize;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::servers::TOKEN;
use crate::traffic::Changes;

type Socket = WebSocketStream<TcpStream>;

/// Handshakes at the same time.
const AT_ONCE: usize = 32;
/// Time to wait for a frame after it was due.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time for which a stalled client reads nothing: longer than it takes to be dropped, and for
/// its connection to be removed by the system.
const STALL: Duration = Duration::from_secs(15);
/// The smallest receive buffer of the system for a stalled client.
const NARROW: u32 = 4096;

/// The behaviour of a client.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Reads all the time.
    Steady,
    /// Disconnects after a number of changes, and reconnects later for the missed ones.
    ComesBack { after: usize, away: Duration },
    /// Asks for everything since this event, reads nothing of it, and does it again, for so long.
    Stalls { since: String, time: Duration },
}

/// The frames that the clients received.
#[derive(Default)]
pub(crate) struct ReceivedFrames {
    /// The frames of steady clients, by client: the delivery of each change, and the time.
    pub(crate) steady: Vec<Vec<(usize, Instant)>>,
    /// Clients that reconnected and had missed nothing.
    pub(crate) came_back: usize,
    /// Number of stalls, each of which the server has ended.
    pub(crate) stalls: usize,
}

/// Clients that are connected.
pub(crate) struct Clients(JoinHandle<anyhow::Result<ReceivedFrames>>);

/// The fields of a notification that are read.
#[derive(Deserialize)]
struct NotificationFrame {
    pr_number: i64,
    timestamp: DateTime<Utc>,
    event_id: String,
}

impl Clients {
    /// Connects clients, each to its address (host and port); they listen for `changes`, which are
    /// sent within `time`.
    pub(crate) fn connect(
        clients: Vec<(String, Manner)>,
        changes: &Arc<Changes>,
        time: Duration,
    ) -> anyhow::Result<Self> {
        let (ready, is_ready) = mpsc::sync_channel(1);
        let changes = changes.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            LocalSet::new().block_on(&runtime, run(clients, changes, time, ready))
        });
        if is_ready.recv().is_err() {
            Self(thread).finish()?;
            bail!("the clients ended before they were connected");
        }
        Ok(Self(thread))
    }

    /// Waits until every client has received every change exactly once.
    pub(crate) fn finish(self) -> anyhow::Result<ReceivedFrames> {
        self.0
            .join()
            .map_err(|_| anyhow::anyhow!("a client broke"))?
    }
}

/// The state that the clients of a run share.
struct Run {
    changes: Arc<Changes>,
    /// The number of frames received by all clients.
    received: Cell<usize>,
}

async fn run(
    clients: Vec<(String, Manner)>,
    changes: Arc<Changes>,
    time: Duration,
    ready: mpsc::SyncSender<()>,
) -> anyhow::Result<ReceivedFrames> {
    let run = Rc::new(Run {
        changes,
        received: Cell::new(0),
    });
    let connected = stream::iter(clients).map(async |(address, manner)| {
        let socket = match &manner {
            Manner::Stalls { .. } => None,
            Manner::Steady | Manner::ComesBack { .. } => Some(connect(&address, None).await?),
        };
        anyhow::Ok((address, manner, socket))
    });
    let connected: Vec<_> = connected.buffered(AT_ONCE).try_collect().await?;
    let (mut listening, mut stalling) = (JoinSet::new(), JoinSet::new());
    let listeners = connected
        .iter()
        .filter(|(.., socket)| socket.is_some())
        .count();
    for (address, manner, socket) in connected {
        match (manner, socket) {
            (Manner::Stalls { since, time }, _) => {
                drop(stalling.spawn_local(stall(address, since, time)))
            }
            (manner, Some(socket)) => {
                drop(listening.spawn_local(listen(run.clone(), address, manner, socket)))
            }
            (_, None) => {}
        }
    }
    ready.send(())?;
    let mut received = ReceivedFrames::default();
    let all = async {
        while let Some(one) = listening.join_next().await {
            match one?? {
                (Manner::Steady, changes) => received.steady.push(changes),
                _ => received.came_back += 1,
            }
        }
        anyhow::Ok(())
    };
    let in_time = timeout(time + PATIENCE, all).await;
    let (arrived, all) = (run.received.get(), listeners * run.changes.len());
    in_time.with_context(|| format!("{arrived} of {all} frames were received"))??;
    while let Some(stalls) = stalling.join_next().await {
        received.stalls += stalls??;
    }
    Ok(received)
}

fn request(address: &str, after: Option<&str>) -> anyhow::Result<Request> {
    let query = after.map_or_else(String::new, |after| format!("?after={after}"));
    let mut request = format!("ws://{address}/ws{query}").into_client_request()?;
    request
        .headers_mut()
        .insert("authorization", format!("Bearer {TOKEN}").parse()?);
    Ok(request)
}

async fn connect(address: &str, after: Option<&str>) -> anyhow::Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    Ok(
        tokio_tungstenite::client_async(request(address, after)?, stream)
            .await?
            .0,
    )
}

/// Receives until every change has arrived. Events must arrive in order, which leaves no room for a
/// second time.
async fn listen(
    run: Rc<Run>,
    address: String,
    manner: Manner,
    mut socket: Socket,
) -> anyhow::Result<(Manner, Vec<(usize, Instant)>)> {
    let mut received = Vec::with_capacity(run.changes.len());
    let mut last = String::new();
    while received.len() < run.changes.len() {
        let message = socket
            .next()
            .await
            .context("the server closed a connection")??;
        let at = Instant::now();
        let text = match message {
            Message::Text(text) => text,
            Message::Close(reason) => bail!("the server closed a connection: {reason:?}"),
            _ => continue,
        };
        let notification: NotificationFrame = serde_json::from_str(&text)?;
        ensure!(
            notification.event_id > last,
            "{} came after {last}",
            notification.event_id
        );
        last = notification.event_id;
        let Some(delivery) = run
            .changes
            .delivery(notification.pr_number, notification.timestamp.timestamp())
        else {
            continue;
        };
        received.push((delivery, at));
        run.received.set(run.received.get() + 1);
        if let Manner::ComesBack { after, away } = manner
            && received.len() == after
        {
            drop(socket);
            sleep(away).await;
            socket = connect(&address, Some(&last)).await?;
        }
    }
    Ok((manner, received))
}

/// Stalls repeatedly. Returns the number of stalls, each of which the server must have ended.
async fn stall(address: String, since: String, time: Duration) -> anyhow::Result<usize> {
    let started = Instant::now();
    let mut stalls = 0;
    while started.elapsed() + STALL <= time {
        let narrow = TcpSocket::new_v4()?;
        narrow.set_recv_buffer_size(NARROW)?;
        let stream = narrow.connect(address.parse()?).await?;
        let (mut socket, _) =
            tokio_tungstenite::client_async(request(&address, Some(&since))?, stream).await?;
        sleep(STALL).await;
        // Reads the frames that the system has buffered, and then no more.
        timeout(PATIENCE, ended(&mut socket))
            .await
            .context("a stalled client was not dropped")??;
        stalls += 1;
    }
    Ok(stalls)
}

/// Waits until a connection is ended for its slowness.
async fn ended(socket: &mut Socket) -> anyhow::Result<()> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(Some(reason)))) if reason.code == CloseCode::Again => {
                return Ok(());
            }
            Some(Ok(Message::Close(reason))) => {
                bail!("a stalled client was dropped with {reason:?}")
            }
            Some(Ok(_)) => {}
            // There was no room for the close frame either.
            None | Some(Err(Error::Protocol(_) | Error::Io(_))) => return Ok(()),
            Some(Err(error)) => return Err(error.into()),
        }
    }
}
