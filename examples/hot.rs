//! One pull request with a long history, and one event that names very many repositories:
//! `cargo run --release --example hot`. With `--services` on PostgreSQL and RabbitMQ.
//!
//! Measures what an event costs after so many others of the same pull request, how long a burst of
//! them takes, and how long others wait for them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::{Value, json};
use tallyhook_core::github::signature::Secrets;
use tokio::task::JoinSet;

#[path = "load/place.rs"]
mod place;
#[path = "load/servers.rs"]
mod servers;
#[expect(dead_code, reason = "only its secret is used")]
#[path = "load/traffic.rs"]
mod traffic;

use place::Place;
use servers::{Role, Server, TOKEN};
use testkit::payloads::{self, Account, Comment, Pr, Review, World};
use traffic::SECRET;

/// Requests at once.
const AT_ONCE: usize = 16;
/// Events by which the cost of one is measured, and their number per second.
const SAMPLE: usize = 300;
const PER_SECOND: f64 = 100.0;
/// The hot pull request; the others are numbered after it.
const HOT: i64 = 1;

#[derive(Parser)]
#[command(about = "Measures one pull request with a long history, and giant installation events")]
struct Arguments {
    /// Lengths of the history at which an event and a burst are measured.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 5_000, 10_000])]
    facts: Vec<usize>,
    /// Events of a burst.
    #[arg(long, default_value_t = 1_000)]
    burst: usize,
    /// Repositories of one installation event.
    #[arg(long, value_delimiter = ',', default_values_t = [5_000, 50_000, 150_000])]
    repositories: Vec<usize>,
    /// Where the databases go; must be on a disk.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/hot"))]
    dir: PathBuf,
    #[arg(long)]
    services: bool,
    #[arg(long, value_enum, hide = true)]
    child: Option<Role>,
    #[command(flatten)]
    place: Place,
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
    if !arguments.facts.is_empty() {
        let server = Server::start(Role::Whole, &new_place(&arguments)?)?;
        hot_pull_request(&arguments, &server)?;
        server.stop()?;
    }
    for repositories in &arguments.repositories {
        let server = Server::start(Role::Whole, &new_place(&arguments)?)?;
        installation(*repositories, &server)?;
        server.stop()?;
    }
    std::fs::remove_dir_all(&arguments.dir).context("cannot remove the databases of the run")
}

fn new_place(arguments: &Arguments) -> anyhow::Result<Place> {
    if arguments.services {
        Place::on_services()
    } else {
        Place::embedded(&arguments.dir)
    }
}

#[expect(clippy::print_stdout, reason = "what this program is for")]
fn report(part: &str, values: &Value) {
    println!("{part} {values}");
}

/// A client of one server.
#[derive(Clone)]
struct Sender {
    url: String,
    http: reqwest::Client,
    secrets: Arc<Secrets>,
}

impl Sender {
    fn new(server: &Server) -> anyhow::Result<Self> {
        Ok(Self {
            url: format!("http://{}", server.address),
            http: reqwest::Client::new(),
            secrets: Arc::new(Secrets::single(SECRET).context("the secret is empty")?),
        })
    }

    async fn post(&self, event: &str, payload: &Value) -> anyhow::Result<Duration> {
        let body = payload.to_string().into_bytes();
        let request = self
            .http
            .post(format!("{}/webhooks/github", self.url))
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", event)
            .header("X-GitHub-Delivery", uuid::Uuid::new_v4().to_string())
            .header("X-Hub-Signature-256", self.secrets.sign(&body).to_header())
            .body(body);
        let sent = Instant::now();
        let status = request.send().await?.status();
        if status != 202 {
            bail!("a delivery was answered with {status}");
        }
        Ok(sent.elapsed())
    }

    async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let request = self.http.get(format!("{}{path}", self.url));
        Ok(request.bearer_auth(TOKEN).send().await?)
    }
}

/// Events of the hot pull request, in the order of time: labels that a bot puts and takes away,
/// reviews, comments.
fn event(place: usize) -> (&'static str, Value) {
    let (author, bot) = (Account::user(501, "mona"), Account::bot(502, "flapper"));
    let reviewer = Account::user(503, "rita");
    let id = i64::try_from(place).unwrap_or_default();
    let at = payloads::rfc3339(payloads::epoch_seconds("2026-03-02T09:00:00Z") + 2 * id);
    let mut pr = other(HOT);
    if place == 0 {
        return (
            "pull_request",
            payloads::pull_request_event(&pr, "opened", &author, json!({})),
        );
    }
    pr.touch(&at);
    let label = json!({"label": {"id": 1, "name": format!("flap-{}", place % 7)}});
    match place % 4 {
        0 => (
            "pull_request",
            payloads::pull_request_event(&pr, "labeled", &bot, label),
        ),
        1 => (
            "pull_request",
            payloads::pull_request_event(&pr, "unlabeled", &bot, label),
        ),
        2 => {
            let review = Review {
                id: 4_300_000_000 + id,
                reviewer: Some(reviewer.clone()),
                state: "commented".to_owned(),
                body: None,
                commit_id: pr.head_sha.clone(),
                submitted_at: at,
            };
            (
                "pull_request_review",
                payloads::review_event(&pr, "submitted", &review, &reviewer),
            )
        }
        _ => {
            let comment = Comment {
                id: 4_200_000_000 + id,
                author: Some(reviewer.clone()),
                body: "again".to_owned(),
                created_at: at,
            };
            (
                "issue_comment",
                payloads::issue_comment_event(&pr, "created", &comment, &reviewer),
            )
        }
    }
}

/// A pull request that was just opened.
fn other(number: i64) -> Pr {
    let author = Account::user(501, "mona");
    Pr::new(
        &World::acme(),
        number,
        Some(&author),
        "Sort",
        "sort",
        "2026-03-02T09:00:00Z",
    )
}

async fn burst(sender: &Sender, places: std::ops::Range<usize>) -> anyhow::Result<()> {
    let mut requests = JoinSet::new();
    for place in places {
        if requests.len() == AT_ONCE {
            requests.join_next().await.context("no request")???;
        }
        let sender = sender.clone();
        requests.spawn(async move {
            let (event, payload) = event(place);
            sender.post(event, &payload).await
        });
    }
    while let Some(ended) = requests.join_next().await {
        ended??;
    }
    Ok(())
}

async fn paced(sender: &Sender, places: std::ops::Range<usize>) -> anyhow::Result<()> {
    let started = Instant::now();
    for (turn, place) in places.enumerate() {
        let due = started + Duration::from_secs_f64(turn as f64 / PER_SECOND);
        tokio::time::sleep_until(due.into()).await;
        let (event, payload) = event(place);
        sender.post(event, &payload).await?;
    }
    Ok(())
}

async fn drained(server: &Server, applied: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    while server.metrics()?.applied() < applied as f64 {
        if started.elapsed() > Duration::from_secs(300) {
            bail!("not applied after five minutes");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Opens one pull request after the other until `done`. Returns their number and the longest time
/// until the API showed one.
async fn others(sender: Sender, first: i64, done: Arc<AtomicBool>) -> anyhow::Result<(i64, f64)> {
    let author = Account::user(501, "mona");
    let (mut number, mut longest) = (first, 0.0_f64);
    while !done.load(Ordering::Relaxed) {
        let payload = payloads::pull_request_event(&other(number), "opened", &author, json!({}));
        let sent = Instant::now();
        sender.post("pull_request", &payload).await?;
        let path = format!("/api/repos/acme-corp/api-server/prs/{number}");
        while sender.get(&path).await?.status() != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        longest = longest.max(sent.elapsed().as_secs_f64());
        number += 1;
    }
    Ok((number - first, longest))
}

#[tokio::main]
async fn hot_pull_request(arguments: &Arguments, server: &Server) -> anyhow::Result<()> {
    let sender = Sender::new(server)?;
    let (mut next, mut rest) = (0, 0);
    for facts in &arguments.facts {
        let filled = Instant::now();
        if *facts > next {
            burst(&sender, next..*facts).await?;
            next = *facts;
        }
        drained(server, next + rest).await?;
        let filling = filled.elapsed().as_secs_f64();
        let before = server.processor_seconds()?;
        paced(&sender, next..next + SAMPLE).await?;
        next += SAMPLE;
        drained(server, next + rest).await?;
        let cost = (server.processor_seconds()? - before) / SAMPLE as f64;

        let done = Arc::new(AtomicBool::new(false));
        let first = 1_000 + i64::try_from(rest)?;
        let waiting = tokio::spawn(others(sender.clone(), first, done.clone()));
        let (before, started) = (server.processor_seconds()?, Instant::now());
        burst(&sender, next..next + arguments.burst).await?;
        next += arguments.burst;
        let posted = started.elapsed().as_secs_f64();
        drained(server, next + rest).await?;
        let seconds = started.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        let (opened, longest) = waiting.await??;
        rest += usize::try_from(opened)?;
        drained(server, next + rest).await?;
        let burst_cost = (server.processor_seconds()? - before) / (arguments.burst as f64);
        report(
            &format!("{facts} facts:"),
            &json!({
                "filled_in_seconds": filling,
                "event_processor_ms": cost * 1000.0,
                "burst_posted_in_seconds": posted,
                "burst_done_in_seconds": seconds,
                "burst_processor_ms_per_event": burst_cost * 1000.0,
                "others": opened,
                "longest_wait_of_others_seconds": longest,
                "retries": server.metrics()?.value("tallyhook_retries_total"),
                "resident_mib": server.resident_mib()?,
            }),
        );
    }
    Ok(())
}

#[tokio::main]
async fn installation(repositories: usize, server: &Server) -> anyhow::Result<()> {
    let sender = Sender::new(server)?;
    let repository = |id: usize| {
        json!({"id": 5_000_000 + id, "full_name": format!("acme-corp/r{id}"), "name": format!("r{id}"),
               "private": true, "node_id": format!("R_kgDO{id}")})
    };
    let added: Vec<_> = (0..repositories).map(repository).collect();
    let account = json!({"id": 900_000_001, "login": "acme-corp", "type": "Organization"});
    let giant = json!({
        "action": "added", "repository_selection": "selected", "requester": null,
        "installation": {"id": 77, "account": account},
        "repositories_added": added, "repositories_removed": [],
        "sender": {"id": 501, "login": "mona", "type": "User"},
    });
    let started = Instant::now();
    sender.post("installation_repositories", &giant).await?;
    let (mut slowest, mut posted) = (0.0_f64, 0);
    let author = Account::user(501, "mona");
    let done = loop {
        let payload =
            payloads::pull_request_event(&other(1_000 + posted), "opened", &author, json!({}));
        let latency = sender.post("pull_request", &payload).await?;
        slowest = slowest.max(latency.as_secs_f64());
        posted += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
        if server.metrics()?.value(
            "tallyhook_deliveries_total{event=\"installation_repositories\",outcome=\"applied\"}",
        ) > 0.0
        {
            break started.elapsed().as_secs_f64();
        }
    };
    let started = Instant::now();
    let answer = sender.get("/api/repos").await?.bytes().await?;
    report(
        &format!("{repositories} repositories:"),
        &json!({
            "applied_in_seconds": done,
            "small_posts": posted,
            "slowest_small_post_seconds": slowest,
            "list_seconds": started.elapsed().as_secs_f64(),
            "list_bytes": answer.len(),
            "peak_rss_mib": server.peak_mib()?,
        }),
    );
    Ok(())
}
