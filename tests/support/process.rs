//! The program itself as a process: started, talked to through its port, signals and streams, and never left behind.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;
use tallyhook_core::github::signature::Secrets;

/// Nothing that is waited for takes this long; a test that would hang fails instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// White space separates secrets in the environment, so this one has none.
pub(crate) const SECRET: &str = "a-secret-of-the-tests";
pub(crate) const TOKEN: &str = "tallyhook_token_of_the_tests";

/// The program in `folder`, with an environment that a shell of this machine did not touch and with usual settings.
pub(crate) fn tallyhook(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = bare(folder, arguments);
    command
        .env("GITHUB_WEBHOOK_SECRET", SECRET)
        .env("TALLYHOOK_LISTEN", "127.0.0.1:0")
        .env("TALLYHOOK_ADMIN_TOKEN", TOKEN)
        .env("DATABASE_URL", "sqlite://test.db");
    // A place on services says where they are.
    if let Ok(services) = std::fs::read_to_string(folder.join("services")) {
        let (database, broker) = services.trim_end().split_once('\n').unwrap();
        command
            .env("DATABASE_URL", database)
            .env("AMQP_URL", broker);
    }
    command
}

/// The program as a new user has it: nothing is set.
pub(crate) fn bare(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallyhook"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null());
    command
}

/// A command that is over: its exit code and what it wrote.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended {
        code: status.code(),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

impl Ended {
    /// Its standard output, of a command that must have succeeded without a word of complaint.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// Asserts that it failed as a program should: with this code, nothing on standard output, and one line of
    /// complaint that holds each of `words`.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.stdout, "", "{}", self.stderr);
        self.failed_after_output(code, words);
    }

    /// The same of a command that has told something before.
    #[track_caller]
    pub(crate) fn failed_after_output(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert!(self.stderr.starts_with("tallyhook: "), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no `{word}` in: {}",
                self.stderr
            );
        }
    }
}

/// A running `serve`, killed when the test is done with it or fails.
pub(crate) struct Serve {
    child: Child,
    log: Receiver<String>,
    pub(crate) url: String,
}

impl Drop for Serve {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Serve {
    /// Starts `serve` in `folder` and waits until it listens.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_command(&mut tallyhook(folder, &["serve", "--log-format", "json"]))
    }

    /// Starts a command that logs JSON and waits for its line `listening`.
    pub(crate) fn start_command(command: &mut Command) -> Self {
        Self::try_start(command)
            .unwrap_or_else(|(status, log)| panic!("{status} before it listened: {log:#?}"))
    }

    /// Starts a command that may end before it listens: how it ended, and its log.
    pub(crate) fn try_start(command: &mut Command) -> Result<Self, (ExitStatus, Vec<String>)> {
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        // Ends with the process, whose end closes the pipe.
        std::thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        let mut serve = Self {
            child,
            log,
            url: String::new(),
        };
        let mut seen = Vec::new();
        loop {
            match serve.log.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some(address) = listening(&line) {
                        serve.url = format!("http://{address}");
                        return Ok(serve);
                    }
                    seen.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err((serve.child.wait().unwrap(), seen));
                }
                Err(RecvTimeoutError::Timeout) => panic!("it does not listen: {seen:#?}"),
            }
        }
    }

    /// Asks it to end, and waits until it has: how it ended, and what it logged since it listened.
    pub(crate) fn terminate(mut self) -> (ExitStatus, Vec<String>) {
        self.ask_to_end();
        self.wait()
    }

    /// SIGTERM.
    pub(crate) fn ask_to_end(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(
            Command::new("/bin/sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it logged since it listened and nobody has asked for yet.
    pub(crate) fn logged(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits until it has ended: how, and what it logged since it listened.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Vec<String>) {
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return (self.child.wait().unwrap(), seen),
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {seen:#?}"),
            }
        }
    }
}

/// The address in the log line `listening`.
fn listening(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "listening").then(|| line["address"].as_str().unwrap().to_owned())
}

/// A signed delivery of a `serve` of these tests.
pub(crate) fn signed(
    http: &reqwest::Client,
    url: &str,
    event: &str,
    guid: &str,
    body: &[u8],
) -> reqwest::RequestBuilder {
    http.post(format!("{url}/webhooks/github"))
        .header("Content-Type", "application/json")
        .header("X-GitHub-Event", event)
        .header("X-GitHub-Delivery", guid)
        .header(
            "X-Hub-Signature-256",
            Secrets::single(SECRET).unwrap().sign(body).to_header(),
        )
        .body(body.to_vec())
}

/// Asks the API of a `serve` of these tests.
pub(crate) async fn get(http: &reqwest::Client, url: &str, path: &str) -> Value {
    let response = http
        .get(format!("{url}{path}"))
        .bearer_auth(TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

/// Every pull request of the fixtures' repository as the API shows it, by number.
pub(crate) async fn pull_requests(http: &reqwest::Client, url: &str) -> Vec<Value> {
    let list = get(http, url, "/api/prs?per_page=100").await;
    let mut numbers: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["number"].as_i64())
        .collect();
    numbers.sort_unstable();
    let mut found = Vec::with_capacity(numbers.len());
    for number in numbers {
        found.push(
            get(
                http,
                url,
                &format!("/api/repos/acme-corp/api-server/prs/{}", number.unwrap()),
            )
            .await,
        );
    }
    found
}
