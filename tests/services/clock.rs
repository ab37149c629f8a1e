//! A system's clock that is wrong, as libfaketime shows it to the program.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::payloads::{Account, Pr, World, pull_request_event};
use testkit::process::{PATIENCE, Serve, run, signed, tallyhook};

const BEFORE: usize = 49;
const AFTER: usize = 5;
/// Twice the time in which old deliveries were deleted after a start.
const WATCHED: Duration = Duration::from_secs(8);

/// Returns `serve` under a clock that differs from the system's by the content of a file.
fn under_false_clock(folder: &Path, offset: &str) -> Command {
    set_clock(folder, offset);
    let mut command = tallyhook(folder, &["serve", "--log-format", "json"]);
    command
        // The loader puts the name of the machine's folder for $LIB.
        .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1")
        .env("FAKETIME_TIMESTAMP_FILE", folder.join("offset"))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

fn set_clock(folder: &Path, offset: &str) {
    std::fs::write(folder.join("offset.new"), offset).unwrap();
    std::fs::rename(folder.join("offset.new"), folder.join("offset")).unwrap();
}

/// Posts deliveries of pull requests with these numbers, and waits until `all` are applied.
async fn post(serve: &Serve, numbers: std::ops::Range<usize>, all: usize) {
    let http = reqwest::Client::new();
    let mira = Account::user(900_000_101, "mira");
    for number in numbers {
        let created = "2026-11-02T10:00:00Z";
        let number = i64::try_from(number).unwrap();
        let pr = Pr::new(&World::acme(), number, Some(&mira), "New", "new", created);
        let body = pull_request_event(&pr, "opened", &mira, json!({})).to_string();
        let guid = format!("delivery-{number}");
        let post = signed(&http, &serve.url, "pull_request", &guid, body.as_bytes());
        assert_eq!(post.send().await.unwrap().status(), 202);
    }
    let started = Instant::now();
    while stored(serve).await != all {
        assert!(
            started.elapsed() < PATIENCE,
            "{} of {all}",
            stored(serve).await
        );
    }
}

/// Returns the number of applied deliveries that are stored.
async fn stored(serve: &Serve) -> usize {
    let metrics = reqwest::get(format!("{}/metrics", serve.url))
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    let applied = metrics
        .lines()
        .find_map(|line| line.strip_prefix(r#"tallyhook_inbox{state="applied"} "#));
    applied.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn start_with_a_clock_five_years_ahead_deletes_no_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(folder.path());
    post(&serve, 0..BEFORE, BEFORE).await;
    assert!(serve.terminate().0.success());

    let serve = Serve::start_command(&mut under_false_clock(folder.path(), "+1826d"));
    let started = Instant::now();
    post(&serve, BEFORE..BEFORE + AFTER, BEFORE + AFTER).await;
    while started.elapsed() < WATCHED {
        assert_eq!(
            stored(&serve).await,
            BEFORE + AFTER,
            "after {:?}",
            started.elapsed()
        );
    }
    let (status, log) = serve.terminate();
    assert!(status.success());
    let warned = log
        .iter()
        .any(|line| line.contains("retention is behind this machine's clock"));
    assert!(warned, "{log:#?}");

    let exported = run(&mut tallyhook(folder.path(), &["deliveries", "export"])).ok();
    let with_body = exported
        .lines()
        .filter(|line| line.contains("\"payload\""))
        .count();
    assert_eq!(with_body, BEFORE + AFTER);
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_that_jumps_while_the_server_runs_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start_command(&mut under_false_clock(folder.path(), "+0"));
    post(&serve, 0..1, 1).await;
    set_clock(folder.path(), "+1826d");
    let line = serve.wait_for("the system's clock moved");
    assert!(line.contains("WARN"), "{line}");
    post(&serve, 1..2, 2).await;
    assert!(serve.terminate().0.success());
}
