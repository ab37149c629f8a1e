//! The load itself: raw keep-alive connections on one thread, since client and server share the
//! machine.

#![allow(dead_code, reason = "every program that measures uses a part of it")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use crate::traffic::{Traffic, Writer};

/// The measurements of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Answers with 202.
    pub(crate) accepted: usize,
    /// Any other answer.
    pub(crate) refused: usize,
    pub(crate) seconds: f64,
    /// When the first one was due.
    pub(crate) started: Option<Instant>,
    /// Sorted.
    pub(crate) latencies: Vec<Duration>,
}

impl Measured {
    /// Accepted per second.
    pub(crate) fn rate(&self) -> f64 {
        self.accepted as f64 / self.seconds
    }

    /// Returns the milliseconds within which `part` of the answers arrived, in an open loop from
    /// the due time of the request.
    pub(crate) fn quantile_ms(&self, part: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let place = (self.latencies.len() as f64 * part).ceil() as usize;
        self.latencies
            .get(place.saturating_sub(1).min(last))
            .map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}

/// The pace at which requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// The next one when the last was answered, on each of so many connections, until the time is
    /// over.
    Closed { connections: usize, time: Duration },
    /// The same, until so many are sent.
    Fill {
        connections: usize,
        deliveries: usize,
    },
    /// So many each second, whether answered or not.
    Open { per_second: f64, time: Duration },
}

impl Pace {
    fn connections(self) -> usize {
        match self {
            Self::Closed { connections, .. } | Self::Fill { connections, .. } => connections,
            // Each is used about once a second: the server closes idle ones.
            Self::Open { per_second, .. } => (per_second as usize).clamp(16, 256),
        }
    }

    /// When the delivery with this place in the run is due; `None` once the run is over.
    fn due(self, started: Instant, place: usize) -> Option<Instant> {
        match self {
            Self::Closed { time, .. } => (started.elapsed() < time).then(Instant::now),
            Self::Fill { deliveries, .. } => (place < deliveries).then(Instant::now),
            Self::Open { per_second, time } => {
                let after = Duration::from_secs_f64(place as f64 / per_second);
                (after < time).then(|| started + after)
            }
        }
    }
}

struct Run {
    traffic: Rc<Traffic>,
    pace: Pace,
    started: Instant,
    next: Cell<usize>,
    guids: u128,
    measured: RefCell<Measured>,
}

/// Posts `traffic` to `address` (host and port).
pub(crate) fn post(address: &str, traffic: &Rc<Traffic>, pace: Pace) -> anyhow::Result<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut streams = Vec::new();
        for _ in 0..pace.connections() {
            let stream = TcpStream::connect(address)
                .await
                .context("the server takes no connection")?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let run = Rc::new(Run {
            traffic: traffic.clone(),
            pace,
            started: Instant::now(),
            next: Cell::new(0),
            guids: rand::random::<u128>(),
            measured: RefCell::default(),
        });
        let mut connections = JoinSet::new();
        for stream in streams {
            connections.spawn_local(connection(run.clone(), stream));
        }
        while let Some(ended) = connections.join_next().await {
            ended??;
        }
        let mut measured = run.measured.take();
        measured.seconds = run.started.elapsed().as_secs_f64();
        measured.started = Some(run.started);
        measured.latencies.sort_unstable();
        Ok(measured)
    })
}

async fn connection(run: Rc<Run>, mut stream: TcpStream) -> anyhow::Result<()> {
    let mut writer = run.traffic.writer();
    let mut buffer = vec![0; 4096];
    loop {
        let place = run.next.get();
        let Some(due) = run.pace.due(run.started, place) else {
            return Ok(());
        };
        run.next.set(place + 1);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let status = exchange(&run, &mut stream, &mut writer, &mut buffer, place).await?;
        let mut measured = run.measured.borrow_mut();
        measured.latencies.push(due.elapsed());
        if status == 202 {
            measured.accepted += 1;
        } else {
            measured.refused += 1;
        }
    }
}

async fn exchange(
    run: &Run,
    stream: &mut TcpStream,
    writer: &mut Writer,
    buffer: &mut [u8],
    place: usize,
) -> anyhow::Result<u16> {
    // A GUID of its own: odd steps through all of them.
    let guid = run
        .guids
        .wrapping_add((place as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    stream
        .write_all(run.traffic.write(writer, place, guid))
        .await?;
    read_answer(stream, buffer).await
}

/// Reads one answer whole: its status.
async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<u16> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            bail!("the server closed a connection");
        }
        filled += read;
        let text = std::str::from_utf8(&buffer[..filled])?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.context("an answer without a length")? {
            return head
                .get(9..12)
                .and_then(|status| status.parse().ok())
                .context("an answer without a status");
        }
    }
}
