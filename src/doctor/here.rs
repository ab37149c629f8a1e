//! Checks of this machine and its services: database, broker, listener, channels.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use chrono::{TimeDelta, Utc};
use serde_json::Value;
use tallyhook_core::text::with_causes;
use tallyhook_store::files::{self, folder_of};
use tallyhook_store::{
    ChannelRecord, DatabaseInfo, DatabaseNotReady, DeliveryCounts, LOW_SPACE, NO_SPACE, OpenMode,
    Store, TrackedRepository,
};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::files::{database_file, file_access};
use super::{CERTIFICATES, CHECK_TIMEOUT, Finding, calendars, names, secrets, silent};
use crate::config::{AMQP_URL, Config, ConfigError, DATABASE_URL, TALLYHOOK_LISTEN};
use crate::notify::Channels;
use crate::tasks::worktree;

/// GitHub refuses the signature of an App whose clock differs by more.
const MAX_CLOCK_OFFSET: TimeDelta = TimeDelta::seconds(60);
const CLOCK_WARNING: TimeDelta = TimeDelta::seconds(5);

/// The rows that other checks need; empty if the database cannot be read.
#[derive(Default)]
pub(super) struct StoredForChecks {
    pub(super) tracked: Vec<TrackedRepository>,
    pub(super) channels: Vec<ChannelRecord>,
    pub(super) inbox: Option<DeliveryCounts>,
}

/// Checks the database, and reads the rows for the other checks.
pub(super) async fn database(config: &Config) -> (Vec<Finding>, StoredForChecks) {
    let file = config.database_file().as_deref().and_then(database_file);
    let checking = async {
        match tallyhook_store::open(&config.database_url, OpenMode::Shared).await {
            Ok(store) => {
                let (mut findings, stored) = check_store(&store).await;
                findings.extend(names::findings(config, &store).await);
                findings.extend(calendars::findings(config, &store).await);
                findings.extend(secrets::findings(config, &store).await);
                store.close().await;
                (findings, stored)
            }
            Err(error) => (vec![not_opened(&error)], StoredForChecks::default()),
        }
    };
    let (mut findings, stored) = timeout(CHECK_TIMEOUT, checking)
        .await
        .unwrap_or_else(|_| (vec![silent("database")], StoredForChecks::default()));
    findings.extend(file);
    findings.extend(config.database_file().as_deref().and_then(disk));
    (findings, stored)
}

/// Checks the database of a server within its process, and reads the rows for the other checks.
pub(super) async fn database_in_use(
    config: &Config,
    store: &Store,
) -> (Vec<Finding>, StoredForChecks) {
    let checking = async {
        let (mut findings, stored) = check_store(store).await;
        findings.extend(names::findings(config, store).await);
        findings.extend(calendars::findings(config, store).await);
        findings.extend(secrets::findings(config, store).await);
        (findings, stored)
    };
    let (mut findings, stored) = timeout(CHECK_TIMEOUT, checking)
        .await
        .unwrap_or_else(|_| (vec![silent("database")], StoredForChecks::default()));
    if let Some((fault, _)) = store.condition().fault {
        let found = format!("nothing can be stored now: {}", fault.as_str());
        findings.push(Finding::wrong("database", found, "see the server's log"));
    }
    let file = config.database_file();
    findings.extend(file.as_deref().and_then(file_access));
    findings.extend(file.as_deref().and_then(disk));
    (findings, stored)
}

async fn check_store(store: &Store) -> (Vec<Finding>, StoredForChecks) {
    let seen = async {
        let stored = StoredForChecks {
            tracked: store.tracked().await?,
            channels: store.channels().await?,
            inbox: Some(store.counts().await?),
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
                StoredForChecks::default(),
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
            let advice = "give this user write access to it and its folder";
            Finding::wrong("database", format!("{server}, read-only: {why}"), advice)
        }
    }];
    findings.extend(now.map(|now| clock("the database server", Utc::now() - now)));
    (findings, stored)
}

fn not_opened(error: &anyhow::Error) -> Finding {
    let migrates =
        "none: `tallyhook serve` migrates it at its start, `tallyhook migrate` does it now";
    match error.downcast_ref::<DatabaseNotReady>() {
        Some(DatabaseNotReady::Missing(path)) => match tempfile::tempfile_in(folder_of(path)) {
            Ok(_) => Finding::warning(
                "database",
                format!("{} does not exist yet", path.display()),
                migrates,
            ),
            Err(error) => Finding::wrong(
                "database",
                format!(
                    "{} does not exist and cannot be created: {error}",
                    path.display()
                ),
                format!("create its folder and give this user write access, or set {DATABASE_URL}"),
            ),
        },
        Some(DatabaseNotReady::Empty) => {
            Finding::warning("database", "it has no tables yet", migrates)
        }
        Some(DatabaseNotReady::OtherVersion { applied, known }) if applied < known => {
            Finding::warning(
                "database",
                format!("it has {applied} migrations of {known}"),
                migrates,
            )
        }
        Some(DatabaseNotReady::OtherVersion { applied, known }) => Finding::wrong(
            "database",
            format!("it has {applied} migrations, and this version of tallyhook knows {known}"),
            "use the newer version of tallyhook that migrated it",
        ),
        None => Finding::wrong(
            "database",
            with_causes(error.as_ref()),
            format!("fix {DATABASE_URL}, or start the database"),
        ),
    }
}

/// Checks the free disk space of the database; `None` if the system cannot report it.
fn disk(database: &Path) -> Option<Finding> {
    let free = files::free_bytes(database)?;
    let found = format!("{} MiB are free for the database", free >> 20);
    let advice = "free some space, or lower DELIVERY_RETENTION_DAYS: a delivery that cannot be \
                  stored is answered with 503";
    Some(match free {
        ..NO_SPACE => Finding::wrong("disk", found, advice),
        NO_SPACE..LOW_SPACE => Finding::warning("disk", found, advice),
        _ => Finding::ok("disk", found),
    })
}

/// Checks the offset of this machine's clock from that of `other`.
pub(super) fn clock(other: &str, ahead: TimeDelta) -> Finding {
    let side = if ahead < TimeDelta::zero() {
        "behind"
    } else {
        "ahead of"
    };
    let found = format!("{} s {side} that of {other}", ahead.num_seconds().abs());
    let advice = "synchronise the clocks of both machines by NTP";
    match ahead.abs() {
        off if off > MAX_CLOCK_OFFSET => Finding::wrong("clock", found, advice),
        off if off > CLOCK_WARNING => Finding::warning("clock", found, advice),
        _ => Finding::ok("clock", format!("in sync with that of {other}")),
    }
}

pub(super) async fn broker(config: &Config) -> Vec<Finding> {
    let Some(url) = &config.amqp_url else {
        return vec![Finding::ok(
            "broker",
            format!("{AMQP_URL} is not set: the queue is inside the process"),
        )];
    };
    vec![match tallyhook_queue::find_missing_topology(url).await {
        Ok(None) => Finding::ok("broker", "it answers, and has every exchange and queue"),
        Ok(Some(missing)) => Finding::warning(
            "broker",
            format!("it answers, and has no {missing} yet"),
            "none: `tallyhook serve` declares its exchanges and queues at its start",
        ),
        Err(error) => Finding::wrong(
            "broker",
            error,
            format!("start it, or fix {AMQP_URL}: until then deliveries wait in the inbox"),
        ),
    }]
}

/// Checks that the address is free, or that our server listens on it.
pub(super) async fn listener(config: &Config) -> Vec<Finding> {
    let address = config.listen;
    let error = match TcpListener::bind(address).await {
        Ok(_) if address.port() == 0 => {
            return vec![Finding::ok("listener", "port 0: any free port")];
        }
        Ok(_) => {
            return vec![Finding::ok(
                "listener",
                format!("{address} is free: no server is running"),
            )];
        }
        Err(error) => error,
    };
    vec![match (error.kind(), readiness(address).await) {
        (ErrorKind::AddrInUse, Some(ready)) => served(address, &ready),
        (ErrorKind::AddrInUse, None) => Finding::wrong(
            "listener",
            format!("{address} is in use by another program"),
            format!("stop that program, or set {TALLYHOOK_LISTEN} to another address"),
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

/// Reads `/readyz` of our own server; `None` if another program answers.
async fn readiness(address: SocketAddr) -> Option<Value> {
    // A server that listens on every address is reached at loopback.
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("http://{}/readyz", SocketAddr::new(host, address.port()));
    // A proxy of the environment must not be asked for this machine.
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(CHECK_TIMEOUT / 2)
        .build()
        .ok()?;
    let body = http.get(url).send().await.ok()?.bytes().await.ok()?;
    let ready: Value = serde_json::from_slice(&body).ok()?;
    ["status", "database", "migrations", "queue"]
        .iter()
        .all(|part| ready[part].is_string())
        .then_some(ready)
}

/// Reports the parts of a server, with pointers to the checks of those that fail.
fn served(address: SocketAddr, ready: &Value) -> Finding {
    let states = ready
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(part, state)| Some((part.as_str(), state.as_str()?)));
    // A reason explains the state of the database.
    let states = states.filter(|(part, _)| *part != "reason");
    let (whole, parts): (Vec<_>, Vec<_>) = states.partition(|(part, _)| *part == "status");
    let status = whole.first().map_or("", |(_, status)| status);
    let listed: Vec<_> = parts
        .iter()
        .map(|(part, state)| format!("{part} {state}"))
        .collect();
    let found = format!(
        "a tallyhook server answers at {address}: {status}; {}{}",
        listed.join(", "),
        ready["reason"]
            .as_str()
            .map(|reason| format!("; reason: {reason}"))
            .unwrap_or_default()
    );
    let failing = parts
        .iter()
        .filter(|(_, state)| !matches!(*state, "ok" | "not_used"));
    let checks = failing.map(|(part, _)| match *part {
        "queue" => "the check of the broker",
        "poller" => "the check of GitHub",
        "notifier" => "the check of channels",
        "secrets" => "the check of secrets",
        _ => "the check of the database",
    });
    let advice = format!(
        "see {}",
        checks
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

/// Checks the last attempts of every channel. Sends nothing: `notify test` does that.
pub(super) fn channels(config: &Config, records: &[ChannelRecord]) -> Vec<Finding> {
    let channels = match Channels::new(&config.notify, &config.numbers.calendars) {
        Ok(channels) => channels,
        Err(error) => {
            let advice = if error.is::<ConfigError>() {
                "fix its URL"
            } else {
                CERTIFICATES
            };
            return vec![Finding::wrong(
                "channel",
                with_causes(error.as_ref()),
                advice,
            )];
        }
    };
    let findings = channels.iter().map(|channel| {
        let record = records.iter().find(|record| record.name == channel.name);
        channel_finding(&channel.name, &channel.origin(), record).of(&channel.name)
    });
    let findings: Vec<_> = findings.collect();
    if findings.is_empty() {
        return vec![Finding::ok(
            "channel",
            "no channel is configured: notifications are sent at `/ws` only",
        )];
    }
    findings
}

fn channel_finding(name: &str, origin: &str, record: Option<&ChannelRecord>) -> Finding {
    let advice = format!("`tallyhook notify test {name}` shows the answer of its receiver");
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
        Some(ChannelRecord { counts, .. }) if counts.dead > 0 => {
            let found = format!(
                "it sends to {origin}; {} notifications were given up",
                counts.dead
            );
            Finding::warning(
                "channel",
                found,
                "`tallyhook notify list` and GET /api/notifications show which",
            )
        }
        Some(ChannelRecord { counts, .. }) => Finding::ok(
            "channel",
            format!(
                "it sends to {origin}; {} notifications arrived",
                counts.sent
            ),
        ),
    }
}

/// Checks that working trees can be removed: the folder and git.
pub(super) async fn worktrees(config: &Config) -> Vec<Finding> {
    let Some(root) = &config.tasks.worktree_root else {
        return vec![Finding::ok(
            "working trees",
            "WORKTREE_ROOT is not set: none is removed",
        )];
    };
    if !root.is_dir() {
        let found = format!("WORKTREE_ROOT is {}, which is not a folder", root.display());
        return vec![Finding::wrong(
            "working trees",
            found,
            "create it, or set WORKTREE_ROOT to the folder that contains them",
        )];
    }
    vec![match worktree::version().await {
        Ok(git) => Finding::ok(
            "working trees",
            format!("those below {} are handled by {git}", root.display()),
        ),
        Err(error) => Finding::wrong("working trees", error.to_string(), "install git"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckState;
    use tallyhook_store::{ChannelState, DEFAULT_TEAM, EventId, NotificationCounts};

    #[test]
    fn channel_state_follows_its_last_attempts() {
        let record = |failures, dead| {
            let last_error = Some(("answered with 404".to_owned(), Utc::now()));
            let state = ChannelState {
                digest_day: None,
                place: EventId(7),
                rests_until: None,
                failures,
                last_error,
            };
            ChannelRecord {
                name: "slack".to_owned(),
                team: DEFAULT_TEAM.0,
                state,
                counts: NotificationCounts {
                    sent: 5,
                    dead,
                    ..NotificationCounts::default()
                },
            }
        };
        for (failures, dead, state, words) in [
            (0, 0, CheckState::Ok, "5 notifications arrived"),
            (0, 2, CheckState::Warning, "2 notifications were given up"),
            (
                3,
                2,
                CheckState::Wrong,
                "the last 3 attempts at https://h failed: answered with 404",
            ),
        ] {
            let finding = channel_finding("slack", "https://h", Some(&record(failures, dead)));
            assert!(
                finding.state == state && finding.found.contains(words),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn failing_part_of_a_server_is_named() {
        let address = "127.0.0.1:8080".parse().unwrap();
        let finding_of = |status: &str, queue: &str, poller: &str, notifier: &str| {
            let ready = serde_json::json!({
                "status": status, "database": "ok", "migrations": "ok", "queue": queue, "poller": poller,
                "notifier": notifier,
            });
            served(address, &ready)
        };
        let ready = finding_of("ready", "not_used", "ok", "ok");
        assert_eq!((ready.state, ready.advice.as_str()), (CheckState::Ok, ""));
        assert!(ready.found.ends_with(
            "ready; database ok, migrations ok, notifier ok, poller ok, queue not_used"
        ));
        for (queue, poller, notifier, of) in [
            ("degraded", "ok", "ok", "the check of the broker"),
            ("ok", "degraded", "not_used", "the check of GitHub"),
            ("ok", "ok", "degraded", "the check of channels"),
            (
                "ok",
                "degraded",
                "degraded",
                "the check of channels, the check of GitHub",
            ),
        ] {
            let finding = finding_of("degraded", queue, poller, notifier);
            assert_eq!(finding.state, CheckState::Warning);
            assert_eq!(finding.advice, format!("see {of}, the server's log"));
        }
        assert_eq!(
            finding_of("not_ready", "failing", "ok", "ok").state,
            CheckState::Wrong
        );
    }

    #[test]
    fn free_disk_space_is_shown() {
        let found = disk(Path::new("any.db")).unwrap().found;
        assert!(
            found.ends_with(" MiB are free for the database") && !found.starts_with('0'),
            "{found}"
        );
    }
}
