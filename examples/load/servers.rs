//! The servers under load, each a process of its own, so that what it takes is measured apart from
//! what the client takes.

#![allow(dead_code, reason = "every program that measures uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::{Context, bail};
use chrono::Utc;
use tallyhook::app::{RoleSet, RunningServer, ServerOptions};
use tallyhook::config::{Config, SettingSources};
use tallyhook::logging::{self, LogFormat};
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::signature::{Secrets, Signature};
use tallyhook_store::{NewDelivery, NewState, OpenMode, Store, StoredBody};

use crate::place::Place;
use crate::traffic::SECRET;

/// The token of the API.
pub(crate) const TOKEN: &str = "tallyhook_token_of_the_load_test";

/// Which server a child process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Tallyhook, workers and all.
    Whole,
    /// Tallyhook with its workers paused.
    Paused,
    /// Tallyhook that takes webhooks in, and nothing else.
    TakingIn,
    /// Tallyhook that works on deliveries, and nothing else.
    Working,
    /// Tallyhook that answers readers, and nothing else.
    Answering,
    /// actix, the signature, and the same grouped insert of the same compressed body; nothing is
    /// decoded.
    Baseline,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Paused => "paused",
            Self::TakingIn => "taking-in",
            Self::Working => "working",
            Self::Answering => "answering",
            Self::Baseline => "baseline",
        }
    }

    const fn roles(self) -> RoleSet {
        match self {
            Self::Whole => RoleSet::ALL,
            Self::Paused => RoleSet {
                worker: false,
                ..RoleSet::ALL
            },
            Self::TakingIn => RoleSet {
                ingest: true,
                ..RoleSet::NONE
            },
            Self::Working => RoleSet {
                worker: true,
                ..RoleSet::NONE
            },
            Self::Answering => RoleSet {
                api: true,
                ..RoleSet::NONE
            },
            Self::Baseline => RoleSet::NONE,
        }
    }
}

/// A server in a process of its own; it ends with this value.
pub(crate) struct Server {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
    /// From starting the process until `/readyz` said 200.
    pub(crate) start: Duration,
    // A child that writes to a closed pipe would end.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start(role: Role, place: &Place) -> anyhow::Result<Self> {
        let started = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--child", role.name()])
            .args(place.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server's process cannot be started")?;
        let mut stdout = BufReader::new(child.stdout.take().context("the server has no output")?);
        let mut address = String::new();
        stdout.read_line(&mut address)?;
        let address = address.trim().to_owned();
        if address.is_empty() {
            bail!("the server did not start");
        }
        // A broker that is not connected yet is no failure to the server, and none of what is
        // measured.
        let ready = || get(&address, "/readyz").is_ok_and(|answer| answer.contains("\"ready\""));
        while role != Role::Baseline && !ready() {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Self {
            child,
            address,
            start: started.elapsed(),
            _stdout: stdout,
        })
    }

    /// The most memory it had resident, in MiB.
    pub(crate) fn peak_mib(&self) -> anyhow::Result<f64> {
        self.mib("VmHWM:")
    }

    /// The memory it has resident, in MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        self.mib("VmRSS:")
    }

    fn mib(&self, what: &'static str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with(what))
            .context(what)?;
        let kib: f64 = line.split_whitespace().nth(1).context(what)?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Seconds of processor it took so far.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("no process name")?;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<f64>);
        // The kernel reports hundredths of a second, independent of its own clock rate.
        Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
    }

    pub(crate) fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics(get(&self.address, "/metrics")?))
    }

    /// Ends it in an orderly way.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            bail!("the server ended with {status}")
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` there is nothing to end any more.
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A page of `/metrics`.
pub(crate) struct Metrics(String);

impl Metrics {
    /// The value of the series with exactly this name and these labels.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.lines()
            .find(|(name, _)| *name == series)
            .map_or(0.0, |(_, value)| value)
    }

    /// Returns the number of deliveries this process has applied. The gauges of the inbox are up to
    /// a second old, this is not.
    pub(crate) fn applied(&self) -> f64 {
        let is_applied = |name: &str| {
            name.starts_with("tallyhook_deliveries_total{") && name.contains("\"applied\"")
        };
        self.lines()
            .filter(|(name, _)| is_applied(name))
            .map(|(_, value)| value)
            .sum()
    }

    /// The bucket of a histogram under whose bound `part` of the values lie, as `<= 0.025`.
    pub(crate) fn bound(&self, histogram: &str, part: f64) -> String {
        let all = self.value(&format!("{histogram}_count"));
        let prefix = format!("{histogram}_bucket{{le=\"");
        let mut buckets = self
            .lines()
            .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value)));
        let found = buckets.find(|(_, count)| *count >= all * part);
        found.map_or("unknown".to_owned(), |(rest, _)| {
            format!("<= {} s", rest.trim_end_matches("\"}"))
        })
    }

    fn lines(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name, value.parse().ok()?))
        })
    }
}

/// The body of a plain GET; anything but 200 is an error.
fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without an end of its head")?;
    if head.starts_with("HTTP/1.1 200") {
        Ok(body.to_owned())
    } else {
        bail!("{path} answered {head}")
    }
}

/// Runs a child process: serves on a free port until its standard input ends.
pub(crate) async fn serve(role: Role, place: Place) -> anyhow::Result<()> {
    let _log = logging::init_logging(LogFormat::Text, true);
    let config = Config {
        webhook_secrets: Secrets::single(SECRET),
        database_url: place.database_url.context("no database")?,
        listen: "127.0.0.1:0".parse()?,
        admin_token: Some(TOKEN.to_owned()),
        token: None,
        amqp_url: place.amqp_url,
        ..Config::new(&SettingSources::default())?
    };
    if role == Role::Baseline {
        return baseline(&config).await;
    }
    let running = RunningServer::start(
        &config,
        ServerOptions {
            roles: role.roles(),
            ..ServerOptions::default()
        },
    )
    .await?;
    announce(&running.address.to_string());
    parent_is_done().await?;
    running.stop().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "how the parent learns the port")]
fn announce(address: &str) {
    println!("{address}");
}

async fn parent_is_done() -> anyhow::Result<()> {
    let wait = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(wait).await??;
    Ok(())
}

async fn baseline(config: &Config) -> anyhow::Result<()> {
    let store = tallyhook_store::open(&config.database_url, OpenMode::Exclusive).await?;
    let secrets = config.webhook_secrets.clone().context("no secret")?;
    let data = (web::Data::new(store.clone()), web::Data::new(secrets));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.0.clone())
            .app_data(data.1.clone())
            .app_data(web::PayloadConfig::new(25 << 20))
            .route("/webhooks/github", web::post().to(accept))
    });
    let server = server.disable_signals().bind(config.listen)?;
    announce(
        &server
            .addrs()
            .first()
            .context("the server has no listening address")?
            .to_string(),
    );
    let server = server.run();
    let handle = server.handle();
    let serving = tokio::spawn(server);
    parent_is_done().await?;
    handle.stop(true).await;
    serving.await??;
    store.close().await;
    Ok(())
}

/// The least that an endpoint must do which keeps what GitHub sends.
async fn accept(
    request: HttpRequest,
    body: web::Bytes,
    store: web::Data<Store>,
    secrets: web::Data<Secrets>,
) -> HttpResponse {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let (Some(signature), Some(event), Some(guid)) = (
        header("x-hub-signature-256").and_then(Signature::parse),
        header("x-github-event"),
        header("x-github-delivery"),
    ) else {
        return HttpResponse::BadRequest().finish();
    };
    if !secrets.verify(&body, &signature) {
        return HttpResponse::Unauthorized().finish();
    }
    let Ok(compressed) = StoredBody::compress(&body) else {
        return HttpResponse::ServiceUnavailable().finish();
    };
    let now = Utc::now();
    let delivery = NewDelivery {
        guid: guid.to_owned(),
        // Every GUID of a run is another one, so that the key needs no digest here.
        body_sha256: [0; 32],
        event: event.to_owned(),
        action: None,
        repo: None,
        pr_number: None,
        source: Source::Webhook,
        lane: Lane::Live,
        received_at: now,
        body: compressed,
        state: NewState::Pending { due: now },
    };
    match store.accept(delivery).await {
        Ok(_) => HttpResponse::Accepted()
            .json(serde_json::json!({"status": "accepted", "delivery": guid})),
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}
