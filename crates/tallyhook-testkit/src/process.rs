//! The program as a process, driven through its port, signals and streams, and killed at the end of
//! the test.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;
use tallyhook_core::github::signature::Secrets;

/// The limit of every wait; a test that would hang fails instead.
pub const PATIENCE: Duration = Duration::from_secs(10);
pub const SECRET: &str = "a-secret-of-the-tests";
pub const TOKEN: &str = "tallyhook_token_of_the_tests";

/// Returns a command that runs the program in `folder` with the tests' settings and nothing of the
/// caller's environment.
pub fn tallyhook(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = bare(folder, arguments);
    command
        .env("GITHUB_WEBHOOK_SECRET", SECRET)
        .env("TALLYHOOK_LISTEN", "127.0.0.1:0")
        .env("TALLYHOOK_ADMIN_TOKEN", TOKEN)
        .env("DATABASE_URL", "sqlite://test.db");
    // A place on services names them in this file.
    if let Ok(services) = std::fs::read_to_string(folder.join("services")) {
        let (database, broker) = services.trim_end().split_once('\n').unwrap();
        command
            .env("DATABASE_URL", database)
            .env("AMQP_URL", broker);
    }
    command
}

/// Returns a command that runs the program in `folder` with an empty environment, as a new user has
/// it.
pub fn bare(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null());
    command
}

/// Returns the path of the program under test, which cargo and nextest put into the environment of
/// integration tests.
fn program() -> OsString {
    std::env::var_os("CARGO_BIN_EXE_tallyhook")
        .expect("the program is known to integration tests of the package `tallyhook` only")
}

/// The exit code and output of a finished command.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command until it exits.
pub fn run(command: &mut Command) -> Ended {
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
    /// Returns the standard output of a command that succeeded and wrote nothing to standard error.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// Asserts that the command failed with this exit code, nothing on standard output, and one
    /// line on standard error that contains each of `words`.
    #[track_caller]
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.stdout, "", "{}", self.stderr);
        self.failed_after_output(code, words);
    }

    /// Makes the assertions of [`Ended::failed`] except the one on standard output.
    #[track_caller]
    pub fn failed_after_output(&self, code: i32, words: &[&str]) {
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
pub struct Serve {
    child: Child,
    log: Receiver<String>,
    pub url: String,
}

impl Drop for Serve {
    fn drop(&mut self) {
        // Both fail only if the process has exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the lines of a process's output as they arrive.
pub fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    // This thread ends with the process, whose exit closes the pipe.
    std::thread::spawn(move || {
        BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    lines
}

impl Serve {
    /// Starts `serve` in `folder` and waits until it listens.
    pub fn start(folder: &Path) -> Self {
        Self::start_command(&mut tallyhook(folder, &["serve", "--log-format", "json"]))
    }

    /// Starts a command that logs JSON and waits for its line `listening`.
    pub fn start_command(command: &mut Command) -> Self {
        Self::try_start(command)
            .unwrap_or_else(|(status, log)| panic!("{status} before it listened: {log:#?}"))
    }

    /// Starts a command that may exit before it listens; the error has its exit status and log.
    pub fn try_start(command: &mut Command) -> Result<Self, (ExitStatus, Vec<String>)> {
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = lines_of(child.stderr.take().unwrap());
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

    /// Sends SIGTERM and waits for the exit. Returns the exit status and the log since the line
    /// `listening`.
    pub fn terminate(mut self) -> (ExitStatus, Vec<String>) {
        self.ask_to_end();
        self.wait()
    }

    /// Returns the process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub fn ask_to_end(&self) {
        self.signal("TERM");
    }

    /// Sends SIGHUP.
    pub fn reload(&self) {
        self.signal("HUP");
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("/bin/sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Returns a size of the process in MiB, as Linux names it: `VmRSS`, or `VmHWM` for the most
    /// there has been.
    pub fn resident_mib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib = line.split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() / 1024
    }

    /// Returns the exit status if the process has exited.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the next log line that contains `words`, and returns it.
    #[track_caller]
    pub fn wait_for(&self, words: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("{error} before a line with `{words}`: {seen:#?}"),
            }
        }
    }

    /// Returns the log lines since the previous call.
    pub fn logged(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for the exit. Returns the exit status and the log since the line `listening`.
    pub fn wait(&mut self) -> (ExitStatus, Vec<String>) {
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

/// Returns the address if this is the log line `listening`.
fn listening(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "listening").then(|| line["address"].as_str().unwrap().to_owned())
}

/// Returns the request of a signed delivery to a [`Serve`].
pub fn signed(
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

/// Gets a path of the API of a [`Serve`].
pub async fn get(http: &reqwest::Client, url: &str, path: &str) -> Value {
    let response = http
        .get(format!("{url}{path}"))
        .bearer_auth(TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

/// Returns an answer of the API without what depends on the time of reading: how long an open pull
/// request waits, and for whom it has waited.
pub fn timeless(mut answer: Value) -> Value {
    match &mut answer {
        Value::Object(fields) => {
            for name in ["as_of", "applied_until", "time_by", "business_hours"] {
                fields.remove(name);
            }
            if fields.get("state").is_some_and(|state| state == "open") {
                fields.remove("explain");
            }
            fields
                .values_mut()
                .for_each(|value| *value = timeless(value.take()));
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| *item = timeless(item.take())),
        _ => {}
    }
    answer
}

/// Returns every pull request of the fixtures' repository as the API shows it, by number.
pub async fn pull_requests(http: &reqwest::Client, url: &str) -> Vec<Value> {
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
        let path = format!("/api/repos/acme-corp/api-server/prs/{}", number.unwrap());
        let one = timeless(get(http, url, &path).await);
        found.push(one);
    }
    found
}
