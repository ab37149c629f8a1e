//! The cost of a backfill, and its effect on live deliveries: `cargo run --release --example
//! backfill`.
//!
//! A GitHub of its own, on this machine, has the history; the server that fetches it is a process
//! of its own. `docs/operate/performance.md` describes how to read the numbers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use chrono::{TimeDelta, Utc};
use clap::Parser;
use serde_json::json;

#[path = "backfill/live.rs"]
mod live;
#[path = "backfill/server.rs"]
mod server;

use server::Server;
use testkit::github::growth::{Growth, people};
use testkit::github::world::Webhook;
use testkit::github::{FakeGithub, GITHUB_TOKEN, Resource};

/// The repository whose history is fetched, and the one of live deliveries.
const HISTORY: &str = "acme-corp/api-server";
const LIVE: &str = "acme-corp/site";
/// Interval of reading the server's progress.
const LOOKING: Duration = Duration::from_millis(50);

#[derive(Parser)]
#[command(about = "Measures backfills, and live deliveries beside one")]
struct Arguments {
    /// Number of pull requests of the larger history.
    #[arg(long, default_value_t = 1000)]
    pulls: usize,
    /// Delay of each answer of the fake GitHub, in milliseconds.
    #[arg(long, default_value_t = 300)]
    latency: u64,
    /// Live deliveries in a second.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// For how long live deliveries are measured without a backfill beside them.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Where the databases go; must be on a disk.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/backfill"))]
    dir: PathBuf,
    #[command(flatten)]
    child: server::Child,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some((github, database)) = arguments.child.addresses() {
        return server::serve(github, database).await;
    }
    if cfg!(debug_assertions) {
        bail!("numbers of a debug build say nothing: run with --release");
    }
    std::fs::create_dir_all(&arguments.dir)?;
    let slow = Duration::from_millis(arguments.latency);
    for (pulls, latency) in [
        (100, slow),
        (arguments.pulls, slow),
        (arguments.pulls, Duration::ZERO),
    ] {
        alone(&arguments.dir, pulls, latency).await?;
    }
    for latency in [slow, Duration::ZERO] {
        beside(&arguments, latency).await?;
    }
    reserve(&arguments).await?;
    std::fs::remove_dir_all(&arguments.dir).context("cannot remove the databases of the run")
}

#[expect(clippy::print_stdout, reason = "what this program is for")]
fn say(line: &str) {
    println!("{line}");
}

/// A GitHub with so long a history, whose answers take so long, and a server with an empty
/// database.
async fn start(
    dir: &Path,
    pulls: usize,
    latency: Duration,
) -> anyhow::Result<(FakeGithub, Server)> {
    let github = FakeGithub::start().await;
    github.add_repository(7, HISTORY);
    let until = (Utc::now() - TimeDelta::hours(1)).into();
    github.world(|world| {
        world.grow(
            HISTORY,
            Growth {
                seed: 1,
                pulls,
                ties: true,
                until,
            },
        )
    });
    github.slow_down(latency);
    let server = Server::start(dir, &github.url).await?;
    Ok((github, server))
}

/// Measures the time from the request until the history is fetched, and until it is applied.
async fn fetched(server: &Server, pulls: usize) -> anyhow::Result<(Duration, Duration)> {
    let asked = Instant::now();
    server.post("/api/repos", &json!({"repo": HISTORY})).await?;
    let run = loop {
        let runs = server.get("/api/sync-runs").await?;
        let run = &runs["items"][0];
        if run["finished_at"].is_string() {
            break run.clone();
        }
        tokio::time::sleep(LOOKING).await;
    };
    let fetched = asked.elapsed();
    let is_whole = run["state"] == "done" && run["prs_done"] == pulls && run["errors"] == json!([]);
    ensure!(is_whole, "the backfill ended as {run}");
    while server.store.counts().await?.accepted > 0 {
        tokio::time::sleep(LOOKING).await;
    }
    Ok((fetched, asked.elapsed()))
}

async fn alone(dir: &Path, pulls: usize, latency: Duration) -> anyhow::Result<()> {
    let (github, server) = start(dir, pulls, latency).await?;
    let idle = server.peak_mib()?;
    let (fetched, applied) = fetched(&server, pulls).await?;
    let requests = github.requests();
    let points: u64 = requests
        .iter()
        .filter(|one| one.resource == Resource::Graphql)
        .map(|one| one.cost)
        .sum();
    // The repository, its list, and for each pull request itself, its reviews and its commits.
    let rest = 1 + pulls.div_ceil(100) + 3 * pulls;
    say(&format!(
        "{pulls} pull requests, {} ms an answer: {} requests ({rest} by REST), {points} points, fetched in {:.1} s, \
         applied in {:.1} s, memory {:.0} MiB ({idle:.0} before)",
        latency.as_millis(),
        requests.len(),
        fetched.as_secs_f64(),
        applied.as_secs_f64(),
        server.peak_mib()?,
    ));
    server.stop().await?;
    github.stop().await;
    Ok(())
}

/// Live deliveries, without a backfill and beside one.
async fn beside(arguments: &Arguments, latency: Duration) -> anyhow::Result<()> {
    let (github, server) = start(&arguments.dir, arguments.pulls, latency).await?;
    github.add_repository(8, LIVE);
    let until = (Utc::now() - TimeDelta::hours(1)).into();
    let growth = Growth {
        seed: 2,
        pulls: 600,
        ties: true,
        until,
    };
    let mut webhooks = github.world(|world| world.grow(LIVE, growth));
    webhooks.retain(|webhook| webhook.event.starts_with("pull_request"));
    let mut webhooks = webhooks.into_iter();
    // Warm-up: connections, statements and caches are opened once.
    live::deliver(
        &server,
        webhooks.by_ref(),
        arguments.rate,
        live::lasting(Duration::from_secs(2)),
    )
    .await?;
    let seconds = Duration::from_secs(arguments.seconds);
    let idle = live::deliver(
        &server,
        webhooks.by_ref(),
        arguments.rate,
        live::lasting(seconds),
    )
    .await?;
    let (over, is_over) = tokio::sync::oneshot::channel::<()>();
    let history = async {
        let times = fetched(&server, arguments.pulls).await;
        drop(over);
        times
    };
    let is_over = async { drop(is_over.await) };
    let (history, busy) = tokio::join!(
        history,
        live::deliver(&server, webhooks, arguments.rate, is_over)
    );
    let ((fetched, applied), busy) = (history?, busy?);
    say(&format!(
        "live deliveries, {}/s, posted to applied: {idle}; beside a backfill of {}, {} ms an answer ({:.1} s, applied in \
         {:.1} s): {busy}; p99 {:.2} times as long; memory {:.0} MiB",
        arguments.rate,
        arguments.pulls,
        latency.as_millis(),
        fetched.as_secs_f64(),
        applied.as_secs_f64(),
        busy.quantile(0.99).as_secs_f64() / idle.quantile(0.99).as_secs_f64(),
        server.peak_mib()?,
    ));
    server.stop().await?;
    github.stop().await;
    Ok(())
}

/// A backfill larger than the rate limit: the rest of the limit is left for requests that a client
/// waits for.
async fn reserve(arguments: &Arguments) -> anyhow::Result<()> {
    let (github, server) = start(&arguments.dir, arguments.pulls, Duration::ZERO).await?;
    // A point for each page, were none of them left to others.
    let allowed = arguments.pulls.div_ceil(25) as u64;
    github.allow(GITHUB_TOKEN, Resource::Graphql, allowed, allowed);
    server.post("/api/repos", &json!({"repo": HISTORY})).await?;
    let taken = loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let requests = github.requests();
        ensure!(
            server.get("/api/sync-runs").await?["items"][0]["finished_at"].is_null(),
            "{allowed} points were enough: let there be more pull requests"
        );
        // No request for some seconds: it waits.
        if requests.is_empty() {
            break server.get("/api/sync-runs").await?["items"][0]["prs_done"].clone();
        }
    };
    let newest = server.get("/api/prs?per_page=5").await?;
    let (mut answered, mut refused) = (0, 0);
    for item in newest["items"].as_array().into_iter().flatten() {
        let number = item["number"].as_i64().context("a number")?;
        // A change, so that the answer is not a 304 and costs a point.
        let now = Utc::now().into();
        let _: Vec<Webhook> = github.world(|world| {
            world.act(
                HISTORY,
                number,
                &people()[0],
                now,
                &testkit::github::acts::Act::Comment,
            )
        });
        match server
            .get(&format!("/api/repos/{HISTORY}/prs/{number}?fresh=true"))
            .await
        {
            Ok(_) => answered += 1,
            Err(error) => {
                say(&format!("refused: {error:#}"));
                refused += 1;
            }
        }
    }
    let points: u64 = github.requests().iter().map(|one| one.cost).sum();
    say(&format!(
        "of {allowed} points an hour a backfill took what it may, for {taken} pull requests, and waits; then {answered} \
         fresh answers to readers ({points} requests and points), {refused} refused",
    ));
    server.stop().await?;
    github.stop().await;
    Ok(())
}
