//! The commands of docs/guides/backup-upgrade.md, run as written: they back up and restore.

use std::path::Path;
use std::process::Command;

use chrono::Utc;
use serde_json::Value;
use tallyhook::app::ServerOptions;

use testkit::process::timeless;
use testkit::{Place, TestServer};

/// Returns the guide's blocks of commands in order: back up and restore SQLite, back up and restore
/// PostgreSQL.
fn commands() -> [String; 4] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides/backup-upgrade.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let blocks = guide
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned());
    let blocks: Vec<_> = blocks.collect();
    blocks
        .try_into()
        .expect("the guide has four blocks of commands")
}

fn run(commands: &str, folder: &Path, database_url: &str) {
    let output = Command::new("bash")
        .args(["-euc", commands])
        .current_dir(folder)
        .env("DATABASE_URL", database_url)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{commands}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Returns everything that the API shows of the fixtures.
async fn seen(server: &TestServer) -> Vec<Value> {
    let mut seen = Vec::new();
    for path in [
        "/api/prs?per_page=100",
        "/api/metrics/cycle-time?bucket=week",
        "/api/deliveries?per_page=100",
    ] {
        seen.push(timeless(server.get(path).await.1));
    }
    assert!(seen[0]["items"].as_array().unwrap().len() > 20);
    seen
}

/// Fills a database, backs it up while the server runs, changes it afterwards, and restores it.
async fn backed_up_and_restored(place: Place, backup: &str, restore: &str) {
    let fixtures = testkit::fixtures();
    let (before, after) = fixtures.split_at(fixtures.len() - 8);
    let mut server = TestServer::start_in(place, ServerOptions::default()).await;
    for one in before {
        server.post(&one.event, &one.guid, &one.payload).await;
    }
    server.drained().await;
    // A dead delivery at the time of the backup, which must be dead after the restore.
    server
        .post("pull_request", "dead", br#"{"action":"opened"}"#)
        .await;
    let expected = seen(&server).await;
    let url = server.place.database_url.clone();
    run(backup, server.place.path(), &url);

    for one in after {
        server.post(&one.event, &one.guid, &one.payload).await;
    }
    server.drained().await;
    assert_ne!(seen(&server).await, expected);
    let place = server.stop().await;
    run(restore, place.path(), &url);

    let mut server = TestServer::start_in(place, ServerOptions::default()).await;
    assert_eq!(seen(&server).await, expected);
    // The restored server works: dead deliveries can be retried, and later ones can be redelivered.
    let dead = server.running.store.dead_groups().await.unwrap();
    assert_eq!(dead.iter().map(|group| group.deliveries).sum::<u64>(), 1);
    for one in after {
        assert!(server.post(&one.event, &one.guid, &one.payload).await.0 < 300);
    }
    server.drained().await;
    assert!(
        server
            .running
            .store
            .purge(Utc::now(), Utc::now(), 10)
            .await
            .unwrap()
            .bodies
            > 0
    );
    server.stop().await;
}

#[tokio::test]
async fn sqlite_is_backed_up_beside_a_running_server_and_restored() {
    let [backup, restore, ..] = commands();
    backed_up_and_restored(
        Place::embedded(),
        &backup.replace("tallyhook.db", "test.db"),
        &restore.replace("tallyhook.db", "test.db"),
    )
    .await;
}

#[tokio::test]
async fn postgresql_is_backed_up_beside_running_processes_and_restored() {
    let [_, _, backup, restore] = commands();
    backed_up_and_restored(Place::on_services().await, &backup, &restore).await;
}
