//! The database under a failing machine: no room, a failing page, a lock held by others, a file that
//! is removed or replaced. Nothing that was answered with 2xx is lost, `/readyz` says 503 while
//! nothing can be stored, and intake heals by itself.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use sqlx::{ConnectOptions, Connection};
use sqlx_sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::task::JoinHandle;

use testkit::process::{self, Serve, bare, run, tallyhook};
use testkit::{Fixture, PATIENCE, Place};

/// The limit from the end of a fault to the first delivery that is stored, and from the begin of a
/// fault to `/readyz` with 503.
const SOON: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

fn fixture() -> Fixture {
    let mut fixtures = testkit::fixtures().into_iter();
    fixtures.find(|it| it.event == "pull_request").unwrap()
}

fn database(place: &Place) -> PathBuf {
    place.path().join("test.db")
}

async fn connect(place: &Place) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(database(place));
    options.connect().await.unwrap()
}

/// Posts a delivery that is stored as a row of its own. Returns the status of the answer.
async fn post(http: &reqwest::Client, url: &str, guid: &str) -> u16 {
    let Fixture { event, payload, .. } = fixture();
    let request = process::signed(http, url, &event, guid, &payload);
    request.send().await.unwrap().status().as_u16()
}

async fn ready(http: &reqwest::Client, url: &str) -> (u16, Value) {
    let answer = http.get(format!("{url}/readyz")).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Polls until `/readyz` has this status. Returns its parts and the time that it took.
async fn ready_becomes(http: &reqwest::Client, url: &str, status: u16) -> (Value, Duration) {
    let since = Instant::now();
    loop {
        let (found, parts) = ready(http, url).await;
        if found == status {
            return (parts, since.elapsed());
        }
        assert!(since.elapsed() < PATIENCE, "{status} never: {parts}");
        tokio::time::sleep(POLL).await;
    }
}

/// Posts until a delivery is answered with `status`. Returns its GUID and the time that it took.
async fn post_becomes(
    http: &reqwest::Client,
    url: &str,
    name: &str,
    status: u16,
) -> (String, Duration) {
    let since = Instant::now();
    for number in 0.. {
        let guid = format!("{name}-{number}");
        let found = post(http, url, &guid).await;
        if found == status {
            return (guid, since.elapsed());
        }
        assert!(since.elapsed() < PATIENCE, "{status} never: {found}");
        tokio::time::sleep(POLL).await;
    }
    unreachable!("numbers do not end")
}

/// Deliveries that are posted in the background, one after the other.
struct BackgroundPosts {
    stopping: Arc<AtomicBool>,
    task: JoinHandle<BTreeSet<String>>,
}

impl BackgroundPosts {
    fn start(http: &reqwest::Client, url: &str, name: &str) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let (http, url, name) = (http.clone(), url.to_owned(), name.to_owned());
        let stopped = stopping.clone();
        let task = tokio::spawn(async move {
            let mut stored = BTreeSet::new();
            let mut number = 0;
            while !stopped.load(Ordering::SeqCst) {
                number += 1;
                let guid = format!("{name}-{number}");
                match post(&http, &url, &guid).await {
                    202 => drop(stored.insert(guid)),
                    503 => {}
                    other => panic!("{guid}: {other}"),
                }
            }
            stored
        });
        Self { stopping, task }
    }

    /// Returns the GUIDs of all that were answered with 202.
    async fn stop(self) -> BTreeSet<String> {
        self.stopping.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

/// Returns the GUIDs in a database that no server uses.
async fn guids(place: &Place) -> BTreeSet<String> {
    let mut database = connect(place).await;
    let query = sqlx::query_scalar("SELECT guid FROM deliveries");
    let guids: Vec<String> = query.fetch_all(&mut database).await.unwrap();
    database.close().await.unwrap();
    guids.into_iter().collect()
}

/// Starts a server whose writes to files can be made to fail: without this, the signal that such a
/// write raises would end it.
fn serve_with_limits(place: &Place) -> Serve {
    let plain = tallyhook(place.path(), &["serve", "--log-format", "json"]);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(plain.get_program())
        .args(plain.get_args())
        .current_dir(place.path())
        .env_clear()
        .envs(
            plain
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    Serve::start_command(&mut command)
}

fn limit_file_size(serve: &Serve, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    let pid = Pid::from_raw(serve.id().cast_signed());
    prlimit(pid, Resource::Fsize, limit).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_writes_under_load_lose_nothing_and_heal_alone() {
    let place = Place::embedded();
    let serve = serve_with_limits(&place);
    let (http, url) = (reqwest::Client::new(), serve.url.clone());
    let mut stored = BTreeSet::new();
    for round in 0..10 {
        let load = BackgroundPosts::start(&http, &url, &format!("load-{round}"));
        post_becomes(&http, &url, &format!("before-{round}"), 202).await;
        limit_file_size(&serve, Some(0));
        let (_, refused) = post_becomes(&http, &url, &format!("during-{round}"), 503).await;
        let (parts, not_ready) = ready_becomes(&http, &url, 503).await;
        assert!(
            refused < SOON && not_ready < SOON,
            "{refused:?} {not_ready:?}"
        );
        assert_eq!(
            (&parts["database"], &parts["status"]),
            (&"failing".into(), &"not_ready".into())
        );
        limit_file_size(&serve, None);
        let (_, healed) = post_becomes(&http, &url, &format!("after-{round}"), 202).await;
        let (_, is_ready) = ready_becomes(&http, &url, 200).await;
        assert!(healed < SOON && is_ready < SOON, "{healed:?} {is_ready:?}");
        stored.extend(load.stop().await);
    }
    let (status, log) = serve.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    let failures = log
        .iter()
        .filter(|line| line.contains("deliveries cannot be stored"));
    assert!(
        failures.count() <= 20,
        "logged once for each fault: {log:#?}"
    );
    let lost: Vec<_> = stored.difference(&guids(&place).await).cloned().collect();
    assert_eq!(lost, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_page_refuses_deliveries_until_it_can_be_read() {
    let place = Place::embedded();
    let first = Serve::start(place.path());
    let http = reqwest::Client::new();
    assert_eq!(post(&http, &first.url, "before").await, 202);
    assert_eq!(first.terminate().0.code(), Some(0));

    let mut connection = connect(&place).await;
    let query = "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema \
                 WHERE name = 'delivery_bodies'";
    let (page, size): (i64, i64) = sqlx::query_as(query)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(database(&place))
        .unwrap();
    let at = (page - 1).unsigned_abs() * size.unsigned_abs();
    let mut good = vec![0; usize::try_from(size).unwrap()];
    file.read_exact_at(&mut good, at).unwrap();
    file.write_all_at(&vec![0xff; good.len()], at).unwrap();

    let serve = Serve::start(place.path());
    let (_, refused) = post_becomes(&http, &serve.url, "during", 503).await;
    assert!(refused < SOON);
    let load = BackgroundPosts::start(&http, &serve.url, "load");
    let (parts, not_ready) = ready_becomes(&http, &serve.url, 503).await;
    assert!(not_ready < SOON, "{not_ready:?}");
    assert_eq!(parts["reason"], "failing");
    file.write_all_at(&good, at).unwrap();
    let (guid, healed) = post_becomes(&http, &serve.url, "after", 202).await;
    assert!(healed < SOON, "{healed:?}");
    ready_becomes(&http, &serve.url, 200).await;
    let stored = load.stop().await;
    assert_eq!(serve.terminate().0.code(), Some(0));
    let guids = guids(&place).await;
    assert!(guids.contains(&guid) && guids.contains("before") && guids.is_superset(&stored));
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_held_by_another_process_makes_an_idle_server_not_ready() {
    let place = Place::embedded();
    let serve = Serve::start(place.path());
    let http = reqwest::Client::new();
    ready_becomes(&http, &serve.url, 200).await;
    let mut other = connect(&place).await;
    let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let (parts, not_ready) = ready_becomes(&http, &serve.url, 503).await;
    assert_eq!(parts["database"], "failing");
    assert!(not_ready < 3 * SOON, "{not_ready:?}");
    held.rollback().await.unwrap();
    ready_becomes(&http, &serve.url, 200).await;
    assert_eq!(post(&http, &serve.url, "after").await, 202);
}

/// Asserts that a server whose file is not the one at the path refuses deliveries and says so.
async fn refuses(place: &Place, http: &reqwest::Client, serve: &Serve) {
    // Not one is answered with 202, since it would be lost.
    assert_eq!(post(http, &serve.url, "during").await, 503);
    let (parts, not_ready) = ready_becomes(http, &serve.url, 503).await;
    assert!(not_ready < SOON, "{not_ready:?}");
    assert_eq!(parts["database"], "failing");
    testkit::eventually("the reason is shown", async || {
        ready(http, &serve.url).await.1["reason"] == "replaced"
    })
    .await;
    assert_eq!(post(http, &serve.url, "later").await, 503);
    let doctor = run(&mut tallyhook(place.path(), &["doctor", "--json"]));
    assert_eq!(doctor.code, Some(1), "{}", doctor.stdout);
    assert!(
        doctor.stdout.contains("removed or replaced"),
        "{}",
        doctor.stdout
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_database_is_refused_until_it_is_put_back() {
    let place = Place::embedded();
    let serve = Serve::start(place.path());
    let http = reqwest::Client::new();
    assert_eq!(post(&http, &serve.url, "before").await, 202);
    let away = place.path().join("away.db");
    fs::rename(database(&place), &away).unwrap();
    refuses(&place, &http, &serve).await;
    fs::rename(&away, database(&place)).unwrap();
    let (_, healed) = post_becomes(&http, &serve.url, "after", 202).await;
    assert!(healed < SOON, "{healed:?}");
    ready_becomes(&http, &serve.url, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_database_is_refused() {
    let place = Place::embedded();
    let serve = Serve::start(place.path());
    let http = reqwest::Client::new();
    let copy = place.path().join("copy.db");
    fs::copy(database(&place), &copy).unwrap();
    fs::rename(&copy, database(&place)).unwrap();
    refuses(&place, &http, &serve).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_write_ahead_log_loses_nothing_that_was_answered() {
    for removed in ["test.db-wal", "test.db-shm"] {
        nothing_is_lost_without(removed).await;
    }
}

async fn nothing_is_lost_without(removed: &str) {
    let place = Place::embedded();
    let mut serve = Serve::start(place.path());
    let http = reqwest::Client::new();
    let load = BackgroundPosts::start(&http, &serve.url, "load");
    let (before, _) = post_becomes(&http, &serve.url, "before", 202).await;
    fs::remove_file(place.path().join(removed)).unwrap();
    assert_eq!(post(&http, &serve.url, "during").await, 503);
    let mut stored = load.stop().await;
    stored.insert(before);
    let saved = |line: &String| line.contains("everything committed is in the database itself");
    let since = Instant::now();
    while !serve.logged().iter().any(saved) {
        assert!(since.elapsed() < PATIENCE);
        tokio::time::sleep(POLL).await;
    }
    serve.kill();
    serve.wait();
    let next = Serve::start(place.path());
    assert_eq!(post(&http, &next.url, "after").await, 202);
    assert_eq!(next.terminate().0.code(), Some(0));
    let guids = guids(&place).await;
    let lost: Vec<_> = stored.difference(&guids).collect();
    assert_eq!(lost, Vec::<&String>::new());
}

/// Asserts that a server does not start, and that its last line has each of `words`.
fn refused_start(command: &mut Command, words: &[&str]) {
    let Err((status, log)) = Serve::try_start(command) else {
        panic!("it started");
    };
    let last = log.last().unwrap();
    assert_eq!(status.code(), Some(1), "{log:#?}");
    for word in words {
        assert!(last.contains(word), "no `{word}` in {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_server_is_refused_by_the_database_itself() {
    let place = Place::embedded();
    let serve = Serve::start(place.path());
    let is_refused = |name: &str| {
        let mut command = tallyhook(place.path(), &["serve", "--log-format", "json"]);
        command.env("DATABASE_URL", format!("sqlite://{name}"));
        refused_start(&mut command, &["another tallyhook is serving", name]);
    };
    fs::hard_link(database(&place), place.path().join("link.db")).unwrap();
    is_refused("link.db");
    fs::remove_file(place.path().join("test.db.lock")).unwrap();
    is_refused("test.db");
    let http = reqwest::Client::new();
    assert_eq!(post(&http, &serve.url, "after").await, 202);
    assert_eq!(ready(&http, &serve.url).await.0, 200);
}

/// Starts a server that creates its admin token.
fn serve_with_token_file(place: &Place) -> Command {
    let mut command = bare(place.path(), &["serve", "--log-format", "json"]);
    command
        .env("GITHUB_WEBHOOK_SECRET", process::SECRET)
        .env("TALLYHOOK_LISTEN", "127.0.0.1:0")
        .env("DATABASE_URL", "sqlite://test.db");
    command
}

#[test]
fn symbolic_links_in_the_folder_lead_to_no_other_file() {
    for planted in ["test.db.lock", "tallyhook-admin-token"] {
        let (place, elsewhere) = (Place::embedded(), Place::embedded());
        let victim = elsewhere.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o600)).unwrap();
        symlink(&victim, place.path().join(planted)).unwrap();
        let started = Serve::try_start(&mut serve_with_token_file(&place));
        assert_eq!(started.is_ok(), planted == "tallyhook-admin-token");
        drop(started);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }
}

#[test]
fn files_are_for_their_user_alone() {
    let place = Place::embedded();
    let serve = Serve::start_command(&mut serve_with_token_file(&place));
    let names: Vec<_> = fs::read_dir(place.path())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(names.len() >= 5, "{names:?}");
    for file in names {
        let mode = file.metadata().unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", file.file_name());
    }
    drop(serve);
    let export = place.path().join("export.jsonl");
    fs::write(&export, "").unwrap();
    fs::set_permissions(&export, Permissions::from_mode(0o644)).unwrap();
    let exporting = ["deliveries", "export", "--output", "export.jsonl"];
    run(&mut tallyhook(place.path(), &exporting)).ok();
    assert_eq!(fs::metadata(&export).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn folder_that_every_user_can_write_is_refused_with_the_next_step() {
    let place = Place::embedded();
    let mode = |mode| fs::set_permissions(place.path(), Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    let mut serve = tallyhook(place.path(), &["serve", "--log-format", "json"]);
    refused_start(&mut serve, &["every user", "chmod o-w"]);
    // The sticky bit keeps users from each other's files, and a group was chosen by someone.
    for allowed in [0o1777, 0o770] {
        mode(allowed);
        drop(Serve::start(place.path()));
    }
}

#[test]
fn database_that_every_user_can_read_is_reported() {
    let place = Place::embedded();
    drop(Serve::start(place.path()));
    let readable = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    readable(&database(&place));
    let doctor = run(&mut tallyhook(place.path(), &["doctor", "--json"])).ok();
    assert!(
        doctor.contains("every user of this machine can read"),
        "{doctor}"
    );
    // It ends right after it opened the database.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut serve = tallyhook(place.path(), &["serve"]);
    serve.env("TALLYHOOK_LISTEN", taken.local_addr().unwrap().to_string());
    let log = run(&mut serve).stderr;
    assert!(
        log.contains("every user of this machine can read the database"),
        "{log}"
    );
}
