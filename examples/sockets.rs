//! The latency from the POST of a webhook to the frame at a client of `/ws`, and what a thousand
//! clients cost: `cargo run --release --example sockets`. With `--services` on PostgreSQL and
//! RabbitMQ, those of `scripts/services`.
//!
//! The servers are processes of their own, over databases of their own; webhooks and clients are
//! made here, on one thread each. `docs/operate/performance.md` describes how to read the numbers,
//! which are printed as the rows of its table.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::Utc;
use clap::Parser;
use tallyhook_core::domain::notification::{PullRequestStatus, StatusChange, SyncSource};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};
use tallyhook_store::{BatchWrite, OpenMode, PullRequestChange};

#[path = "load/client.rs"]
mod client;
#[path = "sockets/clients.rs"]
mod clients;
#[path = "load/place.rs"]
mod place;
#[path = "load/servers.rs"]
mod servers;
#[path = "sockets/traffic.rs"]
mod traffic;

use client::{Measured, Pace};
use clients::{Clients, Manner, ReceivedFrames};
use place::Place;
use servers::{Role, Server};
use traffic::Traffic;

/// The warm-up before a measurement: connections, statements, caches.
const WARM: Duration = Duration::from_secs(2);
/// The first number of a run's pull requests; those of the warm-up are lower.
const FIRST: i64 = 1_000_000;
/// The size of an echoed message, about that of a frame.
const ECHOED: usize = 320;
/// The number of clients of the crowd that disconnect and reconnect.
const COMING_BACK: usize = 10;
/// The number of changes that stalled clients request: more than the system buffers for them.
const BACKLOG: i64 = 20_000;

#[derive(Parser)]
#[command(about = "Measures notifications: from POST to frame, and with many clients")]
struct Arguments {
    /// Changes in a second, when one client listens.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// For how long.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Number of clients of the crowd.
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// Number of stalled clients among them, in the second of two runs.
    #[arg(long, default_value_t = 10)]
    stalled: usize,
    /// Changes in a second, when the crowd listens.
    #[arg(long, default_value_t = 20.0)]
    crowd_rate: f64,
    /// For how long.
    #[arg(long, default_value_t = 60)]
    crowd_seconds: u64,
    /// Where the databases go; must be on a disk.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/sockets"))]
    dir: PathBuf,
    /// On the servers of `TEST_DATABASE_URL` and `TEST_AMQP_URL` instead, with a process for each
    /// role and two that answer readers: `eval "$(scripts/services env)"` sets both.
    #[arg(long)]
    services: bool,
    /// Measures only these parts.
    #[arg(long, value_enum)]
    only: Vec<SocketsPart>,
    #[arg(long, value_enum, hide = true)]
    child: Option<Role>,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SocketsPart {
    Latency,
    Crowd,
}

#[tokio::main]
async fn serve(role: Role, place: Place) -> anyhow::Result<()> {
    servers::serve(role, place).await
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(role) = arguments.child {
        return serve(role, arguments.place);
    }
    if cfg!(debug_assertions) {
        eprintln!("note: numbers of a debug build say nothing: run with --release");
    }
    std::fs::create_dir_all(&arguments.dir)?;
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    say("| | p50 | p99 | longest | of |\n|---|--:|--:|--:|--:|");
    if wanted(SocketsPart::Latency) {
        latency(&arguments)?;
    }
    // The crowd measures the capacity of one process.
    if wanted(SocketsPart::Crowd) && !arguments.services {
        for stalled in [0, arguments.stalled] {
            crowd(&arguments, stalled)?;
        }
    }
    std::fs::remove_dir_all(&arguments.dir).context("cannot remove the databases of the run")
}

#[expect(clippy::print_stdout, reason = "what this program is for")]
fn say(line: &str) {
    println!("{line}");
}

/// A row of the table.
fn row(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let quantile = |part: f64| {
        let place = (latencies.len() as f64 * part).ceil() as usize;
        latencies
            .get(place.saturating_sub(1))
            .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    };
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(quantile);
    say(&format!(
        "| {what} | {p50:.2} | {p99:.2} | {most:.2} ms | {} |",
        latencies.len()
    ));
}

/// Posts to `address` at an even pace; all of it has to be accepted.
fn post(
    address: &str,
    traffic: Traffic,
    per_second: f64,
    time: Duration,
) -> anyhow::Result<Measured> {
    let measured = client::post(address, &Rc::new(traffic), Pace::Open { per_second, time })?;
    ensure!(
        measured.refused == 0,
        "{} deliveries were not accepted",
        measured.refused
    );
    Ok(measured)
}

/// Posts deliveries that are not measured, of pull requests numbered from `number` on. The first
/// delivery of a repository makes it tracked, so that later changes are notified.
fn warm(address: &str, number: i64, per_second: f64) -> anyhow::Result<()> {
    let deliveries = (per_second * WARM.as_secs_f64()) as usize;
    let traffic = Traffic::new(number, deliveries, per_second, Utc::now().timestamp())?;
    post(address, traffic, per_second, WARM).map(drop)
}

/// Deliveries of a measurement, and its duration.
fn new_traffic(per_second: f64, time: Duration) -> anyhow::Result<Traffic> {
    let deliveries = (per_second * time.as_secs_f64()) as usize;
    Traffic::new(FIRST, deliveries, per_second, Utc::now().timestamp())
}

/// The latency of each frame from the time its delivery was due, by client.
fn latencies(
    received: &ReceivedFrames,
    sent: &Measured,
    per_second: f64,
) -> anyhow::Result<Vec<Vec<Duration>>> {
    let started = sent.started.context("nothing was sent")?;
    let due = |delivery: usize| started + Duration::from_secs_f64(delivery as f64 / per_second);
    let of_client = |client: &Vec<(usize, Instant)>| {
        client
            .iter()
            .map(|(delivery, at)| at.saturating_duration_since(due(*delivery)))
            .collect()
    };
    Ok(received.steady.iter().map(of_client).collect())
}

/// One client at each process that answers readers.
fn latency(arguments: &Arguments) -> anyhow::Result<()> {
    let place = if arguments.services {
        Place::on_services()?
    } else {
        Place::embedded(&arguments.dir)?
    };
    let roles = match arguments.services {
        true => &[
            Role::TakingIn,
            Role::Working,
            Role::Answering,
            Role::Answering,
        ][..],
        false => &[Role::Whole],
    };
    let servers = roles
        .iter()
        .map(|role| Server::start(*role, &place))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let takes_in = &servers[0].address;
    warm(takes_in, 1, arguments.rate)?;
    let time = Duration::from_secs(arguments.seconds);
    let traffic = new_traffic(arguments.rate, time)?;
    let bytes = traffic.request_bytes();
    let answers = servers
        .iter()
        .zip(roles)
        .filter(|(_, role)| matches!(role, Role::Whole | Role::Answering));
    let plan: Vec<_> = answers
        .map(|(server, _)| (server.address.clone(), Manner::Steady))
        .collect();
    let clients = Clients::connect(plan, &traffic.changes, time)?;
    let rate = arguments.rate;
    let echo = std::thread::spawn(move || echo(rate, time));
    let sent = post(takes_in, traffic, rate, time)?;
    let received = clients.finish()?;
    let echoed = echo
        .join()
        .map_err(|_| anyhow::anyhow!("the echo broke"))??;
    let form = if arguments.services {
        "PostgreSQL and RabbitMQ, four processes"
    } else {
        "embedded"
    };
    row(
        &format!("{form}, {rate}/s of {} KiB: POST to 202", bytes / 1024),
        sent.latencies.clone(),
    );
    for (place, of_client) in (1..).zip(latencies(&received, &sent, rate)?) {
        row(&format!("POST to the frame, client {place}"), of_client);
    }
    row("meanwhile an echo of a frame's size over plain TCP", echoed);
    servers.into_iter().try_for_each(Server::stop)
}

/// Measures the round trip of bytes over a connection of this machine, at the same pace and at the
/// same time.
fn echo(per_second: f64, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    stream.set_nodelay(true)?;
    let (mut other, _) = listener.accept()?;
    other.set_nodelay(true)?;
    let answering = std::thread::spawn(move || {
        let mut bytes = [0; ECHOED];
        // Ends when the other end is closed.
        while other.read_exact(&mut bytes).is_ok() {
            other.write_all(&bytes)?;
        }
        std::io::Result::Ok(())
    });
    let started = Instant::now();
    let mut echoed = Vec::new();
    let mut bytes = [0; ECHOED];
    for place in 0..(per_second * time.as_secs_f64()) as usize {
        let due = started + Duration::from_secs_f64(place as f64 / per_second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)?;
        echoed.push(due.elapsed());
    }
    drop(stream);
    answering
        .join()
        .map_err(|_| anyhow::anyhow!("the echo broke"))??;
    Ok(echoed)
}

/// Many clients, of which some are stalled.
fn crowd(arguments: &Arguments, stalled: usize) -> anyhow::Result<()> {
    let place = Place::embedded(&arguments.dir)?;
    let server = Server::start(Role::Whole, &place)?;
    let rate = arguments.crowd_rate;
    warm(&server.address, 1, rate)?;
    let since = backlog(place.database_url.as_deref().context("no database")?)?;
    // The first of these makes the server notice the changes that were written to its database
    // directly.
    warm(&server.address, FIRST / 2, rate)?;
    let idle = server.resident_mib()?;
    let time = Duration::from_secs(arguments.crowd_seconds);
    let traffic = new_traffic(rate, time)?;
    let changes = traffic.changes.len();
    let manner = |client: usize| match client {
        client if client < stalled => Manner::Stalls {
            since: since.clone(),
            time,
        },
        client if client < stalled + COMING_BACK => Manner::ComesBack {
            after: changes / 3,
            away: time / 3,
        },
        _ => Manner::Steady,
    };
    let plan = (0..arguments.clients)
        .map(|client| (server.address.clone(), manner(client)))
        .collect();
    let clients = Clients::connect(plan, &traffic.changes, time)?;
    let before = server.processor_seconds()?;
    let sent = post(&server.address, traffic, rate, time)?;
    let processor = (server.processor_seconds()? - before) / time.as_secs_f64();
    let resident = server.resident_mib()?;
    let received = clients.finish()?;
    let all = latencies(&received, &sent, rate)?.concat();
    row(
        &format!(
            "{} clients, {stalled} of them stalled, {rate}/s: POST to 202",
            arguments.clients
        ),
        sent.latencies,
    );
    row("POST to the frame, all others", all);
    let slow = server.metrics()?.value("tallyhook_websocket_slow_total");
    say(&format!(
        "memory {resident:.0} MiB, at most {:.0} ({idle:.0} without clients); {processor:.2} of a processor; {} clients \
         came back and had missed nothing of {changes}; {} times one was stalled, {slow} dropped as too slow",
        server.peak_mib()?,
        received.came_back,
        received.stalls,
    ));
    ensure!(
        slow == received.stalls as f64,
        "not every stalled client was dropped"
    );
    server.stop()
}

/// Writes the earlier changes that stalled clients request. Returns the event before the first.
#[tokio::main(flavor = "current_thread")]
async fn backlog(database_url: &str) -> anyhow::Result<String> {
    let store = tallyhook_store::open(database_url, OpenMode::Shared).await?;
    let last = store.newest_event().await?;
    let now = Utc::now();
    let repo = RepoId(testkit::payloads::World::acme().repo_id);
    for from in (0..BACKLOG).step_by(1000) {
        let opened = |number| PullRequestChange {
            key: PrKey {
                repo,
                number: PrNumber(2 * FIRST + number),
            },
            change: StatusChange {
                old: None,
                new: PullRequestStatus::Open,
                at: now.into(),
            },
            source: SyncSource::Worker,
        };
        let recording = BatchWrite {
            changes: (from..from + 1000).map(opened).collect(),
            ..BatchWrite::default()
        };
        store
            .record(&recording, now)
            .await?
            .map_err(|_| anyhow::anyhow!("another program wrote"))?;
    }
    store.close().await;
    Ok(last.to_string())
}
