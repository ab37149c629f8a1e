//! What is on this machine, and what it runs on: settings, database, broker, listener.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use chrono::{TimeDelta, Utc};
use serde_json::Value;
use tallyhook_store::{
    ChannelRecord, DatabaseInfo, DatabaseNotReady, OpenMode, Store, TrackedRepository,
};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::{CERTIFICATES, CHECKING, Finding, silent};
use crate::config::{
    AMQP_URL, Config, ConfigError, DATABASE_URL, GITHUB_WEBHOOK_SECRET, TALLYHOOK_LISTEN,
};
use crate::notify::Channels;
use crate::tasks::worktree;

/// Shorter secrets can be guessed by whoever has a signed delivery and time.
const SHORTEST_SECRET: usize = 16;
/// Bytes of disk below which it gets tight, and below which it is a matter of hours.
const TIGHT: u64 = 1 << 30;
const FULL: u64 = 100 << 20;
/// GitHub refuses what an App signed with a clock that is further off.
const CLOCK_WRONG: TimeDelta = TimeDelta::seconds(60);
const CLOCK_OFF: TimeDelta = TimeDelta::seconds(5);

pub(super) fn settings(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("settings", "every one of them can be read")];
    let longer = "make one with `openssl rand -hex 32`";
    let secret = match config
        .webhook_secrets
        .as_ref()
        .map(|secrets| secrets.shortest())
    {
        None => Finding::wrong(
            "webhook secret",
            format!("{GITHUB_WEBHOOK_SECRET} is not set: `serve` takes no webhooks in without"),
            format!("{longer}, and give it to GitHub, too"),
        ),
        Some(length) if length < SHORTEST_SECRET => Finding::warning(
            "webhook secret",
            format!("one of {GITHUB_WEBHOOK_SECRET} has less than {SHORTEST_SECRET} characters"),
            format!("{longer}; while GitHub has the old one, set both"),
        ),
        Some(_) => Finding::ok("webhook secret", "is set"),
    };
    findings.push(secret);
    if config
        .admin_token
        .as_ref()
        .is_some_and(|token| token.len() < SHORTEST_SECRET)
    {
        let found = format!("TALLYHOOK_ADMIN_TOKEN has less than {SHORTEST_SECRET} characters");
        findings.push(Finding::warning("admin token", found, longer));
    }
    findings
}

/// What is known from the database for other checks; nothing where it cannot be read.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) tracked: Vec<TrackedRepository>,
    pub(super) channels: Vec<ChannelRecord>,
}

/// How the database is, and what is in it.
pub(super) async fn database(config: &Config) -> (Vec<Finding>, Stored) {
    let looking = async {
        match tallyhook_store::open(&config.database_url, OpenMode::Shared).await {
            Ok(store) => {
                let seen = look(&store).await;
                store.close().await;
                seen
            }
            Err(error) => (vec![not_opened(&error)], Stored::default()),
        }
    };
    let (mut findings, stored) = timeout(CHECKING, looking)
        .await
        .unwrap_or_else(|_| (vec![silent("database")], Stored::default()));
    findings.extend(config.database_file().and_then(disk));
    (findings, stored)
}

async fn look(store: &Store) -> (Vec<Finding>, Stored) {
    let seen = async {
        let stored = Stored {
            tracked: store.tracked().await?,
            channels: store.channels().await?,
        };
        Ok::<_, tallyhook_store::StoreError>((store.describe().await?, stored))
    };
    let (
        DatabaseInfo {
            server,
            now,
            read_only,
        },
        stored,
    ) = match seen.await {
        Ok(seen) => seen,
        Err(error) => {
            return (
                vec![Finding::wrong(
                    "database",
                    error.to_string(),
                    "see the log of the database",
                )],
                Stored::default(),
            );
        }
    };
    let mut findings = vec![match read_only {
        None => Finding::ok(
            "database",
            format!(
                "{server}, of this version, {} repositories tracked",
                stored.tracked.len()
            ),
        ),
        Some(why) => {
            let advice = "let this user write to it, and to its folder";
            Finding::wrong(
                "database",
                format!("{server}, to which nothing can be written: {why}"),
                advice,
            )
        }
    }];
    findings.extend(now.map(|now| clock("the database server", Utc::now() - now)));
    (findings, stored)
}

fn not_opened(error: &anyhow::Error) -> Finding {
    let makes = "nothing: `tallyhook serve` does it at its start, `tallyhook migrate` does it now";
    match error.downcast_ref::<DatabaseNotReady>() {
        Some(DatabaseNotReady::Missing(path)) => match tempfile::tempfile_in(folder_of(path)) {
            Ok(_) => Finding::warning(
                "database",
                format!("there is none at {} yet", path.display()),
                makes,
            ),
            Err(error) => Finding::wrong(
                "database",
                format!(
                    "there is none at {}, and none can be made: {error}",
                    path.display()
                ),
                format!("make its folder and let this user write to it, or set {DATABASE_URL}"),
            ),
        },
        Some(DatabaseNotReady::Empty) => {
            Finding::warning("database", "it has no tables yet", makes)
        }
        Some(DatabaseNotReady::OtherVersion { applied, known }) if applied < known => {
            Finding::warning(
                "database",
                format!("it has {applied} migrations of {known}"),
                makes,
            )
        }
        Some(DatabaseNotReady::OtherVersion { applied, known }) => Finding::wrong(
            "database",
            format!("it has {applied} migrations, and this version of tallyhook knows {known}"),
            "use the newer tallyhook that it was used with",
        ),
        None => Finding::wrong(
            "database",
            format!("{error:#}"),
            format!("set {DATABASE_URL} right, or start it"),
        ),
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// How much room there is for the database; `None` where the system does not tell.
fn disk(database: &Path) -> Option<Finding> {
    let space = rustix::fs::statvfs(folder_of(database)).ok()?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let found = format!("{} MiB are free for the database", free >> 20);
    let advice =
        "make room, or lower DELIVERY_RETENTION_DAYS: what cannot be stored is answered with 503";
    Some(match free {
        ..FULL => Finding::wrong("disk", found, advice),
        FULL..TIGHT => Finding::warning("disk", found, advice),
        _ => Finding::ok("disk", found),
    })
}

/// What it means that this machine's clock is so far `ahead` of that of `whom`.
pub(super) fn clock(whom: &str, ahead: TimeDelta) -> Finding {
    let side = if ahead < TimeDelta::zero() {
        "behind"
    } else {
        "ahead of"
    };
    let found = format!("{} s {side} that of {whom}", ahead.num_seconds().abs());
    let advice = "let both machines set their clocks by NTP";
    match ahead.abs() {
        off if off > CLOCK_WRONG => Finding::wrong("clock", found, advice),
        off if off > CLOCK_OFF => Finding::warning("clock", found, advice),
        _ => Finding::ok("clock", format!("that of {whom} tells the same time")),
    }
}

pub(super) async fn broker(config: &Config) -> Vec<Finding> {
    let Some(url) = &config.amqp_url else {
        return vec![Finding::ok(
            "broker",
            format!("{AMQP_URL} is not set: the queue is inside the process"),
        )];
    };
    vec![match tallyhook_queue::look(url).await {
        Ok(None) => Finding::ok("broker", "it answers, and has every exchange and queue"),
        Ok(Some(missing)) => Finding::warning(
            "broker",
            format!("it answers, and has no {missing} yet"),
            "nothing: `tallyhook serve` makes its exchanges and queues at its start",
        ),
        Err(error) => Finding::wrong(
            "broker",
            error,
            format!("start it, or set {AMQP_URL} right: until then deliveries wait in the inbox"),
        ),
    }]
}

/// Whether `serve` could listen, or does.
pub(super) async fn listener(config: &Config) -> Vec<Finding> {
    let address = config.listen;
    let error = match TcpListener::bind(address).await {
        Ok(_) if address.port() == 0 => {
            return vec![Finding::ok("listener", "any free port will do")];
        }
        Ok(_) => {
            return vec![Finding::ok(
                "listener",
                format!("{address} is free: no server runs there"),
            )];
        }
        Err(error) => error,
    };
    vec![match (error.kind(), readiness(address).await) {
        (ErrorKind::AddrInUse, Some(ready)) => served(address, &ready),
        (ErrorKind::AddrInUse, None) => Finding::wrong(
            "listener",
            format!("{address} is taken by something else"),
            format!("stop what uses it, or set {TALLYHOOK_LISTEN} to another"),
        ),
        _ => {
            let advice = format!(
                "set {TALLYHOOK_LISTEN} to an address of this machine and a port above 1023"
            );
            Finding::wrong(
                "listener",
                format!("{address} cannot be listened on: {error}"),
                advice,
            )
        }
    }]
}

/// What our own server says of itself; `None` if it is not ours.
async fn readiness(address: SocketAddr) -> Option<Value> {
    // Where it listens on every address it is reached at this machine's own.
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("http://{}/readyz", SocketAddr::new(host, address.port()));
    // No proxy stands before this machine.
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(CHECKING / 2)
        .build()
        .ok()?;
    let body = http.get(url).send().await.ok()?.bytes().await.ok()?;
    let ready: Value = serde_json::from_slice(&body).ok()?;
    ["status", "database", "migrations", "queue"]
        .iter()
        .all(|part| ready[part].is_string())
        .then_some(ready)
}

/// Whatever parts it names, and what else here tells of those that are not well.
fn served(address: SocketAddr, ready: &Value) -> Finding {
    let states = ready
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(part, state)| Some((part.as_str(), state.as_str()?)));
    let (whole, parts): (Vec<_>, Vec<_>) = states.partition(|(part, _)| *part == "status");
    let status = whole.first().map_or("", |(_, status)| status);
    let told: Vec<_> = parts
        .iter()
        .map(|(part, state)| format!("{part} {state}"))
        .collect();
    let found = format!(
        "a server of ours answers at {address}: {status}; {}",
        told.join(", ")
    );
    let unwell = parts
        .iter()
        .filter(|(_, state)| !matches!(*state, "ok" | "not_used"));
    let told_of = unwell.map(|(part, _)| match *part {
        "queue" => "what is said here of the broker",
        "poller" => "what is said here of GitHub",
        "notifier" => "what is said here of channels",
        _ => "what is said here of the database",
    });
    let advice = format!(
        "see {}",
        told_of
            .chain(["the server's log"])
            .collect::<Vec<_>>()
            .join(", ")
    );
    match status {
        "ready" => Finding::ok("listener", found),
        "degraded" => Finding::warning("listener", found, advice),
        _ => Finding::wrong("listener", found, advice),
    }
}

/// Whether notifications arrive where they are sent to. Nothing is sent: `notify test` does that.
pub(super) fn channels(config: &Config, records: &[ChannelRecord]) -> Vec<Finding> {
    let channels = match Channels::new(&config.notify) {
        Ok(channels) => channels,
        Err(error) => {
            let advice = if error.is::<ConfigError>() {
                "set its address right"
            } else {
                CERTIFICATES
            };
            return vec![Finding::wrong("channel", format!("{error:#}"), advice)];
        }
    };
    let findings = channels.iter().map(|channel| {
        let record = records.iter().find(|record| record.name == channel.name);
        arrives(&channel.name, &channel.origin(), record).of(&channel.name)
    });
    let findings: Vec<_> = findings.collect();
    if findings.is_empty() {
        return vec![Finding::ok(
            "channel",
            "there is none: notifications are heard at `/ws` alone",
        )];
    }
    findings
}

fn arrives(name: &str, origin: &str, record: Option<&ChannelRecord>) -> Finding {
    let advice = format!("`tallyhook notify test {name}` tells what its receiver answers");
    match record {
        None => Finding::ok(
            "channel",
            format!("it sends to {origin}; nothing was sent yet"),
        ),
        Some(ChannelRecord { state, .. }) if state.failures > 0 => {
            let why = state
                .last_error
                .as_ref()
                .map(|(why, _)| format!(": {why}"))
                .unwrap_or_default();
            Finding::wrong(
                "channel",
                format!(
                    "the last {} attempts at {origin} failed{why}",
                    state.failures
                ),
                advice,
            )
        }
        Some(ChannelRecord { told, .. }) if told.dead > 0 => {
            let found = format!(
                "it sends to {origin}; {} notifications were given up",
                told.dead
            );
            Finding::warning(
                "channel",
                found,
                "`tallyhook notify list` and GET /api/notifications tell which",
            )
        }
        Some(ChannelRecord { told, .. }) => Finding::ok(
            "channel",
            format!("it sends to {origin}; {} notifications arrived", told.sent),
        ),
    }
}

/// Whether working trees can be looked after.
pub(super) async fn worktrees(config: &Config) -> Vec<Finding> {
    let Some(root) = &config.tasks.worktree_root else {
        return vec![Finding::ok(
            "working trees",
            "WORKTREE_ROOT is not set: none is removed",
        )];
    };
    if !root.is_dir() {
        let found = format!("WORKTREE_ROOT is {}, which is no folder", root.display());
        return vec![Finding::wrong(
            "working trees",
            found,
            "make it, or set WORKTREE_ROOT to the folder that they are in",
        )];
    }
    vec![match worktree::version().await {
        Ok(git) => Finding::ok(
            "working trees",
            format!("those below {} are looked after by {git}", root.display()),
        ),
        Err(error) => Finding::wrong("working trees", error.to_string(), "install git"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::State;
    use tallyhook_store::{ChannelState, EventId, NotificationCounts};

    #[test]
    fn a_channel_is_as_well_as_its_last_attempts() {
        let record = |failures, dead| {
            let last_error = Some(("answered with 404".to_owned(), Utc::now()));
            let state = ChannelState {
                place: EventId(7),
                rests_until: None,
                failures,
                last_error,
            };
            ChannelRecord {
                name: "slack".to_owned(),
                state,
                told: NotificationCounts {
                    sent: 5,
                    dead,
                    ..NotificationCounts::default()
                },
            }
        };
        for (failures, dead, state, words) in [
            (0, 0, State::Ok, "5 notifications arrived"),
            (0, 2, State::Warning, "2 notifications were given up"),
            (
                3,
                2,
                State::Wrong,
                "the last 3 attempts at https://h failed: answered with 404",
            ),
        ] {
            let finding = arrives("slack", "https://h", Some(&record(failures, dead)));
            assert!(
                finding.state == state && finding.found.contains(words),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn the_part_of_a_server_that_is_not_well_is_told() {
        let address = "127.0.0.1:8080".parse().unwrap();
        let told = |status: &str, queue: &str, poller: &str, notifier: &str| {
            let ready = serde_json::json!({
                "status": status, "database": "ok", "migrations": "ok", "queue": queue, "poller": poller,
                "notifier": notifier,
            });
            served(address, &ready)
        };
        let ready = told("ready", "not_used", "ok", "ok");
        assert_eq!((ready.state, ready.advice.as_str()), (State::Ok, ""));
        assert!(ready.found.ends_with(
            "ready; database ok, migrations ok, notifier ok, poller ok, queue not_used"
        ));
        for (queue, poller, notifier, of) in [
            ("degraded", "ok", "ok", "of the broker"),
            ("ok", "degraded", "not_used", "of GitHub"),
            ("ok", "ok", "degraded", "of channels"),
            (
                "ok",
                "degraded",
                "degraded",
                "of channels, what is said here of GitHub",
            ),
        ] {
            let finding = told("degraded", queue, poller, notifier);
            assert_eq!(finding.state, State::Warning);
            assert_eq!(
                finding.advice,
                format!("see what is said here {of}, the server's log")
            );
        }
        assert_eq!(told("not_ready", "failing", "ok", "ok").state, State::Wrong);
    }

    #[test]
    fn room_on_the_disk_is_told() {
        let found = disk(Path::new("any.db")).unwrap().found;
        assert!(
            found.ends_with(" MiB are free for the database") && !found.starts_with('0'),
            "{found}"
        );
    }
}
