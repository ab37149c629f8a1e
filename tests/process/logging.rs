//! The log is no part of a request: where it cannot be written the server serves, and it ends in
//! order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream as BlockingStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use serde_json::{Value, json};
use testkit::Place;
use testkit::git::{commit, git};
use testkit::payloads::{Account, Pr, World, pull_request_event};
use testkit::process::{PATIENCE, Serve, TOKEN, signed, tallyhook};

/// The posts of a test. Each of them logs a line, all of them more than a pipe holds.
const POSTS: usize = 1_000;
const AT_ONCE: usize = 8;
/// The time after which the server is said to hang.
const HANG: Duration = Duration::from_secs(60);
/// A request that is none, as a client that speaks TLS sends it.
const MALFORMED: &[u8] = b"\x16\x03\x01\r\n\r\n";

/// A server with a log that is not read. It is killed at the end of the test.
struct Unread {
    child: Child,
    url: String,
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Both fail only if the process has exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Unread {
    fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let mut server = Self {
            child,
            url: String::new(),
        };
        server.url = format!("http://127.0.0.1:{}", listening_port(server.child.id()));
        server
    }

    fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Sends SIGTERM and returns the exit code, and the time it took.
    fn terminate(&mut self) -> (Option<i32>, Duration) {
        let asked = Instant::now();
        let kill = format!("kill -TERM {}", self.child.id());
        let sent = Command::new("/bin/sh").args(["-c", &kill]).status();
        assert!(sent.unwrap().success());
        while asked.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), asked.elapsed());
            }
            std::thread::yield_now();
        }
        panic!("it does not end within {PATIENCE:?} of SIGTERM");
    }
}

/// Returns the port of the process's listening socket, which the system lists by its inode.
fn listening_port(process: u32) -> u16 {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let sockets: Vec<_> = std::fs::read_dir(format!("/proc/{process}/fd"))
            .into_iter()
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter_map(|link| {
                let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
                Some(inode.to_owned())
            })
            .collect();
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let port = table.lines().skip(1).find_map(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            let is_listening =
                columns[3] == "0A" && sockets.iter().any(|inode| inode == columns[9]);
            let port = columns[1].rsplit_once(':')?.1;
            is_listening.then(|| u16::from_str_radix(port, 16).unwrap())
        });
        if let Some(port) = port {
            return port;
        }
    }
    panic!("process {process} does not listen");
}

/// Posts deliveries that become dead letters, each with a line in the log, and malformed requests
/// between them. Returns how many posts were answered with each status, 0 for none.
async fn post_and_disturb(server: &Unread) -> Vec<(u16, usize)> {
    let http = reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    let posting = stream::iter(0..POSTS)
        .map(|number| {
            let guid = format!("unreadable-{number}");
            let body = format!(r#"{{"action":"opened","pull_request":{number}}}"#);
            let post = signed(&http, &server.url, "pull_request", &guid, body.as_bytes());
            async move {
                disturb(server.address()).await;
                post.send()
                    .await
                    .map_or(0, |answer| answer.status().as_u16())
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<u16>>();
    let statuses = timeout(HANG, posting).await.expect("it does not hang");
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// Sends a malformed request, and does not wait for its answer.
async fn disturb(address: &str) {
    if let Ok(mut stream) = TcpStream::connect(address).await {
        drop(stream.write_all(MALFORMED).await);
    }
}

/// `dropped` is the reason under which dropped lines are counted.
async fn serves_and_ends(mut server: Unread, dropped: &str) {
    assert_eq!(post_and_disturb(&server).await, [(202, POSTS)]);
    let http = reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    let health = http.get(format!("{}/healthz", server.url)).send().await;
    assert_eq!(health.unwrap().status(), 200);
    let metrics = http.get(format!("{}/metrics", server.url)).send().await;
    let metrics = metrics.unwrap().text().await.unwrap();
    let counter = format!(r#"tallyhook_log_lines_dropped_total{{reason="{dropped}"}} "#);
    let lines: Option<u64> = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&counter)?.parse().ok());
    assert!(lines > Some(0), "no dropped line is counted: {metrics}");
    let (code, took) = server.terminate();
    assert_eq!(code, Some(0), "after {took:?}");
}

fn command(folder: &Path) -> Command {
    tallyhook(folder, &["serve", "--log-format", "json"])
}

#[tokio::test(flavor = "multi_thread")]
async fn server_whose_log_is_a_pipe_that_is_never_read_serves_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    // More lines than wait for a slow reader.
    let mut command = command(folder.path());
    let command = command.env("RUST_LOG", "trace");
    let mut server = Unread::start(command.stderr(Stdio::piped()));
    // Held open, and never read.
    let _log = server.child.stderr.take();
    serves_and_ends(server, "no_room").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_whose_log_is_a_closed_pipe_serves_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Unread::start(command(folder.path()).stderr(Stdio::piped()));
    drop(server.child.stderr.take());
    serves_and_ends(server, "failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_whose_log_is_on_a_full_disk_serves_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let server = Unread::start(command(folder.path()).stderr(full));
    serves_and_ends(server, "failed").await;
}

/// A stranger's requests that are none write one line a minute, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_write_one_line_a_minute_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Unread::start(command(folder.path()).stderr(Stdio::piped()));
    let log = server.child.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let lines = BufReader::new(log).lines().map_while(Result::ok);
        lines
            .filter(|line| line.contains("actix_http"))
            .collect::<Vec<_>>()
    });
    let sent = 500;
    for _ in 0..sent {
        let mut stream = BlockingStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(MALFORMED).unwrap();
        // Until the server has answered and closed.
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    let metrics = reqwest::get(format!("{}/metrics", server.url))
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    let suppressed = r#"tallyhook_log_lines_dropped_total{reason="repeated"} "#;
    let suppressed: usize = metrics
        .lines()
        .find_map(|line| line.strip_prefix(suppressed))
        .map_or(0, |count| count.parse().unwrap());
    assert_eq!(server.terminate().0, Some(0));
    let lines = log.join().unwrap();
    assert!((1..=2).contains(&lines.len()), "{} lines", lines.len());
    assert_eq!(suppressed + lines.len(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn automatic_removal_of_a_working_tree_is_a_line_of_the_log() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (root, repository) = (folder.path().join("root"), folder.path().join("repository"));
    std::fs::create_dir(&root).unwrap();
    git(folder.path(), &["init", "-q", "-b", "main", "repository"]);
    commit(&repository, "first");
    let tree = root.join("sort");
    let add = ["worktree", "add", "-q", "-b", "sort"];
    git(&repository, &[&add[..], &[tree.to_str().unwrap()]].concat());
    let mut command = tallyhook(place.path(), &["serve", "--log-format", "json"]);
    command
        .env("WORKTREE_ROOT", &root)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let serve = Serve::start_command(&mut command);

    let http = reqwest::Client::new();
    let task = json!({"key": "PROJ-7", "title": "Sort", "worktree": "sort"});
    let made = http
        .post(format!("{}/api/tasks", serve.url))
        .bearer_auth(TOKEN);
    assert_eq!(made.json(&task).send().await.unwrap().status(), 201);
    let mira = Account::user(900_000_101, "mira");
    let created = "2026-03-02T09:00:00Z";
    let mut pr = Pr::new(
        &World::acme(),
        7,
        Some(&mira),
        "PROJ-7: sort",
        "sort",
        created,
    );
    pr.head_sha = git(&tree, &["rev-parse", "HEAD"]);
    for action in ["opened", "closed"] {
        if action == "closed" {
            pr.merge(&mira, "2026-03-02T10:30:00Z");
        }
        let body = pull_request_event(&pr, action, &mira, json!({})).to_string();
        let post = signed(&http, &serve.url, "pull_request", action, body.as_bytes());
        assert_eq!(post.send().await.unwrap().status(), 202);
    }
    let line = serve.wait_for("removed the working tree");
    let line: Value = serde_json::from_str(&line).unwrap();
    let text = line["message"].as_str().unwrap();
    assert!(
        text.contains("sort") && text.contains("pull request #7"),
        "{line}"
    );
    assert_eq!((&line["path"], &line["pr"]), (&json!("sort"), &json!(7)));
    assert!(!tree.exists());
    assert!(serve.terminate().0.success());
}
