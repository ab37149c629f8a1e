//! Throughput and latency on this machine: `cargo run --release --example load`. With `--services`
//! on PostgreSQL and RabbitMQ, those of `scripts/services`.
//!
//! Starts the server, and beside it a bare baseline, in processes of their own over databases of
//! their own; loads them through loopback and prints what it measured.
//! `docs/operate/performance.md` describes how to read the numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::{Value, json};

#[path = "load/client.rs"]
mod client;
#[path = "load/limits.rs"]
mod limits;
#[path = "load/place.rs"]
mod place;
#[path = "load/servers.rs"]
mod servers;
#[path = "load/traffic.rs"]
mod traffic;

use client::{Measured, Pace};
use place::Place;
use servers::{Role, Server};
use traffic::{Kind, Traffic};

/// Connections of a saturating client; a commit then has some dozens of deliveries.
const CONNECTIONS: usize = 128;
/// Deliveries per second of an even load: what is promised for one process, and for many.
const STEADY: [(&str, f64); 2] = [("steady_200", 200.0), ("steady_1000", 1000.0)];
const STEADY_ON_SERVICES: [(&str, f64); 3] = [
    ("steady_200", 200.0),
    ("steady_500", 500.0),
    ("steady_2000", 2000.0),
];

#[derive(Parser)]
#[command(about = "Measures accepting and draining, beside a bare baseline")]
struct Arguments {
    /// Duration of each measurement of accepting.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Number of alternating runs of baseline and server; medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Number of deliveries that are stored before the drain is measured.
    #[arg(long, default_value_t = 30_000)]
    backlog: usize,
    /// Where the databases go; must be on a disk.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/load"))]
    dir: PathBuf,
    /// On the servers of `TEST_DATABASE_URL` and `TEST_AMQP_URL` instead: `eval "$(scripts/services
    /// env)"` sets both.
    #[arg(long)]
    services: bool,
    /// Prints one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Measures only these parts.
    #[arg(long, value_enum)]
    only: Vec<LoadPart>,
    #[arg(long, value_enum, hide = true)]
    child: Option<Role>,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LoadPart {
    Accept,
    Drain,
    Both,
    Steady,
    /// The limits of the services, without Tallyhook.
    Limits,
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
        bail!("numbers of a debug build say nothing: run with --release");
    }
    std::fs::create_dir_all(&arguments.dir)?;
    let mut report = Report {
        json: arguments.json,
        values: BTreeMap::new(),
    };
    report.machine(&arguments.dir)?;
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    if arguments.services && wanted(LoadPart::Limits) {
        limits::measure(
            &new_place(&arguments)?,
            Duration::from_secs(arguments.seconds),
            &mut report,
        )?;
    }
    if wanted(LoadPart::Accept) {
        for (kind, name) in [(Kind::Small, "accept_8k"), (Kind::Large, "accept_20k")] {
            accept(&arguments, kind, name, &mut report)?;
        }
    }
    if wanted(LoadPart::Drain) {
        drain(&arguments, &mut report)?;
    }
    if wanted(LoadPart::Both) {
        both(&arguments, &mut report)?;
    }
    if wanted(LoadPart::Steady) {
        steady(&arguments, &mut report)?;
    }
    report.end();
    std::fs::remove_dir_all(&arguments.dir).context("cannot remove the databases of the run")
}

/// An empty database, and an empty queue.
fn new_place(arguments: &Arguments) -> anyhow::Result<Place> {
    if arguments.services {
        Place::on_services()
    } else {
        Place::embedded(&arguments.dir)
    }
}

/// Accepting alone, baseline and server in turns.
fn accept(
    arguments: &Arguments,
    kind: Kind,
    name: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let traffic = Rc::new(Traffic::new(kind, 50_000)?);
    let time = Duration::from_secs(arguments.seconds);
    let mut rounds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..arguments.rounds {
        let mut rates = [0.0; 2];
        for (place, (role, who)) in [(Role::Baseline, "baseline"), (Role::Paused, "server")]
            .into_iter()
            .enumerate()
        {
            let server = Server::start(role, &new_place(arguments)?)?;
            let warm = Pace::Closed {
                connections: CONNECTIONS,
                time: Duration::from_secs(1),
            };
            client::post(&server.address, &traffic, warm)?;
            let before = server.processor_seconds()?;
            let measured = client::post(
                &server.address,
                &traffic,
                Pace::Closed {
                    connections: CONNECTIONS,
                    time,
                },
            )?;
            expect_all_accepted(&measured)?;
            rates[place] = measured.rate();
            let processor = (server.processor_seconds()? - before) / measured.accepted as f64;
            let mut add = |what: &'static str, value| rounds.entry(what).or_default().push(value);
            if who == "baseline" {
                add("baseline_per_second", measured.rate());
                add("baseline_processor_us", processor * 1e6);
            } else {
                add("per_second", measured.rate());
                add("processor_us", processor * 1e6);
                add("p50_ms", measured.quantile_ms(0.5));
                add("p99_ms", measured.quantile_ms(0.99));
                add("p999_ms", measured.quantile_ms(0.999));
                add("peak_rss_mib", server.peak_mib()?);
            }
            server.stop()?;
        }
        rounds.entry("ratio").or_default().push(rates[1] / rates[0]);
    }
    let mut values = json!({"body_bytes": traffic.body_bytes(), "connections": CONNECTIONS});
    for (what, mut of_rounds) in rounds {
        values[what] = median(&mut of_rounds).into();
    }
    report.add(name, values);
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn expect_all_accepted(measured: &Measured) -> anyhow::Result<()> {
    if measured.refused > 0 {
        bail!("{} deliveries were not accepted", measured.refused)
    } else {
        Ok(())
    }
}

/// A backlog is stored while the workers are paused, then worked off after a restart.
fn drain(arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let traffic = Rc::new(Traffic::new(Kind::Life, arguments.backlog)?);
    let place = new_place(arguments)?;
    let server = Server::start(Role::Paused, &place)?;
    let fill = Pace::Fill {
        connections: CONNECTIONS,
        deliveries: traffic.len(),
    };
    expect_all_accepted(&client::post(&server.address, &traffic, fill)?)?;
    server.stop()?;
    let server = Server::start(Role::Whole, &place)?;
    let started = Instant::now();
    let waiting = arguments.backlog as f64 - server.metrics()?.applied();
    let seconds = drained(&server, arguments.backlog, started)?;
    let processor = server.processor_seconds()? / waiting;
    report.add(
        "drain",
        json!({
            "backlog": arguments.backlog,
            "body_bytes": traffic.body_bytes(),
            "per_second": waiting / seconds,
            "seconds": seconds,
            "processor_us": processor * 1e6,
            "start_to_ready_ms": millis(server.start),
            "peak_rss_mib": server.peak_mib()?,
            "batch_p99": server.metrics()?.bound("tallyhook_process_seconds", 0.99),
        }),
    );
    server.stop()
}

/// Seconds from `started` until the server has applied so many deliveries.
fn drained(server: &Server, deliveries: usize, started: Instant) -> anyhow::Result<f64> {
    loop {
        let applied = server.metrics()?.applied();
        if applied == deliveries as f64 {
            return Ok(started.elapsed().as_secs_f64());
        }
        if started.elapsed() > Duration::from_secs(300) {
            bail!("{applied} of {deliveries} deliveries were applied after five minutes");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Accepting as fast as it goes, while the workers work.
fn both(arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let time = Duration::from_secs(arguments.seconds);
    let traffic = Rc::new(Traffic::new(
        Kind::Life,
        20_000 * arguments.seconds as usize,
    )?);
    let server = Server::start(Role::Whole, &new_place(arguments)?)?;
    let measured = client::post(
        &server.address,
        &traffic,
        Pace::Closed {
            connections: CONNECTIONS,
            time,
        },
    )?;
    expect_all_accepted(&measured)?;
    let left = measured.accepted as f64 - server.metrics()?.applied();
    let after = drained(&server, measured.accepted, Instant::now())?;
    report.add(
        "both",
        json!({
            "body_bytes": traffic.body_bytes(),
            "accepted_per_second": measured.rate(),
            "applied_per_second_meanwhile": (measured.accepted as f64 - left) / measured.seconds,
            "applied_per_second_overall": measured.accepted as f64 / (measured.seconds + after),
            "left_at_the_end": left,
            "drained_after_seconds": after,
            "p50_ms": measured.quantile_ms(0.5),
            "p99_ms": measured.quantile_ms(0.99),
            "p999_ms": measured.quantile_ms(0.999),
            "peak_rss_mib": server.peak_mib()?,
        }),
    );
    server.stop()
}

/// The promised load, with everything running: latency and lag.
fn steady(arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let place = new_place(arguments)?;
    let loads = if arguments.services {
        &STEADY_ON_SERVICES[..]
    } else {
        &STEADY[..]
    };
    for &(name, per_second) in loads {
        let time = Duration::from_secs(arguments.seconds * 2);
        let traffic = Rc::new(Traffic::new(
            Kind::Life,
            (per_second * time.as_secs_f64()) as usize,
        )?);
        let server = Server::start(Role::Whole, &place)?;
        let measured = client::post(&server.address, &traffic, Pace::Open { per_second, time })?;
        expect_all_accepted(&measured)?;
        let after = drained(&server, measured.accepted, Instant::now())?;
        let metrics = server.metrics()?;
        report.add(
            name,
            json!({
                "per_second": measured.rate(),
                "drained_after_seconds": after,
                "p50_ms": measured.quantile_ms(0.5),
                "p99_ms": measured.quantile_ms(0.99),
                "p999_ms": measured.quantile_ms(0.999),
                "lag_p50": metrics.bound("tallyhook_apply_lag_seconds", 0.5),
                "lag_p99": metrics.bound("tallyhook_apply_lag_seconds", 0.99),
                "start_to_ready_ms": millis(server.start),
                "peak_rss_mib": server.peak_mib()?,
            }),
        );
        server.stop()?;
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The measurements, printed one by one or as one object at the end.
struct Report {
    json: bool,
    values: BTreeMap<String, Value>,
}

impl Report {
    fn machine(&mut self, dir: &Path) -> anyhow::Result<()> {
        let processor = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = processor
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let filesystem = filesystem(dir)?;
        if filesystem.ends_with("tmpfs") || filesystem.ends_with("overlay") {
            eprintln!(
                "note: {} is on {filesystem}: its commits cost less than a disk's, or other",
                dir.display()
            );
        }
        let machine = json!({
            "processor": model.map(|(_, name)| name.trim()),
            "cores": std::thread::available_parallelism()?.get(),
            "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
            "filesystem": filesystem,
        });
        self.add("machine", machine);
        Ok(())
    }

    #[expect(clippy::print_stdout, reason = "what this program is for")]
    fn add(&mut self, part: &str, values: Value) {
        if !self.json {
            println!("{part}");
            for (name, value) in values.as_object().into_iter().flatten() {
                match value.as_f64() {
                    Some(number) if value.is_f64() => println!("  {name:<30} {number:>12.2}"),
                    _ => println!("  {name:<30} {:>12}", value.to_string().trim_matches('"')),
                }
            }
        }
        self.values.insert(part.to_owned(), values);
    }

    #[expect(clippy::print_stdout, reason = "what this program is for")]
    fn end(&self) {
        if self.json {
            println!("{}", json!(self.values));
        }
    }
}

/// The kind of filesystem that `folder` is on, with its device.
fn filesystem(folder: &Path) -> anyhow::Result<String> {
    let folder = folder.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let fields = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let around = fields.filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]));
    let nearest = around
        .max_by_key(|fields| fields[1].len())
        .context("no filesystem")?;
    Ok(format!("{} {}", nearest[0], nearest[2]))
}
