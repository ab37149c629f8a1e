//! A restart behind a listening socket that was handed over refuses nothing, and neither does a
//! change of the webhook secret.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_json::json;
use tallyhook_core::github::signature::Secrets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, timeout};

use testkit::payloads::{Account, Pr, World, pull_request_event};
use testkit::process::{PATIENCE, Serve, tallyhook};

/// 100 posts a second.
const PACE: Duration = Duration::from_millis(10);
const RESTARTS: usize = 10;
const ROTATIONS: usize = 5;

/// Posts at [`PACE`], each on a connection of its own, as GitHub does.
struct SteadyLoad {
    /// Each post holds the secret that it was signed with until it is answered.
    secret: watch::Sender<Arc<str>>,
    end: watch::Sender<bool>,
    /// The number of posts that were answered, or failed.
    answered: watch::Receiver<usize>,
    posting: JoinHandle<Vec<Result<u16, String>>>,
}

impl SteadyLoad {
    fn start(url: &str, secret: Arc<str>) -> Self {
        let (end, ended) = watch::channel(false);
        let (secret, current) = watch::channel(secret);
        let (counter, answered) = watch::channel(0);
        let posting = tokio::spawn(post_until(
            counter,
            ended,
            current,
            format!("{url}/webhooks/github"),
        ));
        Self {
            secret,
            end,
            answered,
            posting,
        }
    }

    /// Signs with another secret from now on. Returns the old one, for [`all_answered`].
    fn change_secret(&self, secret: Arc<str>) -> Weak<str> {
        Arc::downgrade(&self.secret.send_replace(secret))
    }

    /// Waits until as many more posts as a quarter of a second has are answered.
    async fn goes_on(&mut self) {
        let wanted = *self.answered.borrow() + 25;
        let more = self.answered.wait_for(|answered| *answered >= wanted);
        timeout(PATIENCE, more).await.unwrap().unwrap();
    }

    /// Ends the posting. Returns the number of posts, all of which must have been accepted.
    async fn all_accepted(self) -> usize {
        self.end.send_replace(true);
        let answers = self.posting.await.unwrap();
        let failed: Vec<_> = answers
            .iter()
            .filter(|answer| **answer != Ok(202))
            .collect();
        assert!(
            failed.is_empty(),
            "{} of {} failed, such as {:?}",
            failed.len(),
            answers.len(),
            failed[0]
        );
        answers.len()
    }
}

/// Waits until every post that was signed with an old secret is answered.
async fn all_answered(old: Weak<str>) {
    let started = Instant::now();
    while old.strong_count() > 0 {
        assert!(started.elapsed() < PATIENCE, "a post is not answered");
        tokio::task::yield_now().await;
    }
}

async fn post_until(
    answered: watch::Sender<usize>,
    ended: watch::Receiver<bool>,
    secret: watch::Receiver<Arc<str>>,
    url: String,
) -> Vec<Result<u16, String>> {
    let http = reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .timeout(PATIENCE)
        .build()
        .unwrap();
    let mut posts = JoinSet::new();
    let mut ticks = interval(PACE);
    let mut number = 0;
    while !*ended.borrow() {
        ticks.tick().await;
        number += 1;
        let secret = secret.borrow().clone();
        let post = post(http.clone(), url.clone(), secret, number);
        let answered = answered.clone();
        posts.spawn(async move {
            let answer = post.await;
            answered.send_modify(|answered| *answered += 1);
            answer
        });
    }
    posts.join_all().await
}

async fn post(
    http: reqwest::Client,
    url: String,
    secret: Arc<str>,
    number: i64,
) -> Result<u16, String> {
    let mira = Account::user(900_000_101, "mira");
    let created = "2026-11-02T10:00:00Z";
    let pr = Pr::new(&World::acme(), number, Some(&mira), "New", "new", created);
    let body = pull_request_event(&pr, "opened", &mira, json!({})).to_string();
    let signature = Secrets::single(&secret).unwrap().sign(body.as_bytes());
    let request = http
        .post(url)
        .header("Content-Type", "application/json")
        .header("X-GitHub-Event", "pull_request")
        .header("X-GitHub-Delivery", format!("delivery-{number}"))
        .header("X-Hub-Signature-256", signature.to_header())
        .body(body);
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    Ok(answer.status().as_u16())
}

fn secret(number: usize) -> Arc<str> {
    format!("secret-number-{number}-of-the-tests").into()
}

/// The place of the webhook secrets, which a running server reads again.
#[derive(Clone, Copy, Debug)]
enum SecretPlace {
    /// A list in the configuration file.
    Configuration,
    /// The file that `GITHUB_WEBHOOK_SECRET_FILE` names.
    File,
}

impl SecretPlace {
    fn path(self, folder: &Path) -> PathBuf {
        folder.join("secrets")
    }

    /// Replaces the secrets by those of these numbers, in one step.
    fn write(self, folder: &Path, numbers: &[usize]) {
        let secrets: Vec<_> = numbers.iter().map(|number| secret(*number)).collect();
        let text = match self {
            Self::Configuration => format!("github_webhook_secret = {secrets:?}\n"),
            Self::File => secrets.join("\n"),
        };
        let new = folder.join("secrets.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(folder)).unwrap();
    }

    /// Returns a command that serves with the secrets of this place.
    fn serve(self, folder: &Path) -> Command {
        let path = self.path(folder);
        let mut command = tallyhook(folder, &["serve", "--log-format", "json"]);
        command.env_remove("GITHUB_WEBHOOK_SECRET");
        match self {
            Self::Configuration => command.arg("--config").arg(path),
            Self::File => command.env("GITHUB_WEBHOOK_SECRET_FILE", path),
        };
        command
    }
}

/// Wraps a command so that it is handed a listening socket as systemd hands one over: as descriptor
/// 3, with its own process id in the environment.
fn behind(socket: &TcpListener, command: &Command) -> Command {
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&0 </dev/null";
    let mut wrapped = Command::new("/bin/sh");
    wrapped
        .args(["-c", script])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    wrapped
}

/// Waits until the server has applied `posts` deliveries.
async fn applied(serve: &Serve, posts: usize) {
    let http = reqwest::Client::new();
    let wanted = format!(r#"tallyhook_inbox{{state="applied"}} {posts}"#);
    let started = Instant::now();
    loop {
        let url = format!("{}/metrics", serve.url);
        let metrics = http.get(url).send().await.unwrap().text().await.unwrap();
        if metrics.lines().any(|line| line == wanted) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "no `{wanted}` in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restarts_behind_a_handed_over_socket_refuse_nothing_while_the_secret_changes() {
    let folder = tempfile::tempdir().unwrap();
    let place = SecretPlace::Configuration;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    place.write(folder.path(), &[0, 1]);
    let mut serve = Serve::start_command(&mut behind(&socket, &place.serve(folder.path())));
    assert_eq!(
        serve.url, url,
        "it does not listen on the socket it was handed"
    );
    let mut load = SteadyLoad::start(&url, secret(0));
    for restart in 1..=RESTARTS {
        // GitHub's secret changes after a start with the old and the new one.
        let old = load.change_secret(secret(restart));
        place.write(folder.path(), &[restart - 1, restart, restart + 1]);
        let (status, log) = serve.terminate();
        assert!(status.success(), "{status}: {log:#?}");
        serve = Serve::start_command(&mut behind(&socket, &place.serve(folder.path())));
        all_answered(old).await;
        load.goes_on().await;
    }
    let posts = load.all_accepted().await;
    eprintln!("{RESTARTS} restarts: {posts} posts, 0 refused");
    assert!(posts > 10 * RESTARTS, "{posts} posts");
    applied(&serve, posts).await;
}

/// While the secret changes at GitHub both are in force, and afterwards the new one alone.
async fn rotation_refuses_nothing(place: SecretPlace) {
    let folder = tempfile::tempdir().unwrap();
    place.write(folder.path(), &[0]);
    let serve = Serve::start_command(&mut place.serve(folder.path()));
    let mut load = SteadyLoad::start(&serve.url, secret(0));
    for number in 1..=ROTATIONS {
        place.write(folder.path(), &[number - 1, number]);
        serve.reload();
        let both = serve.wait_for("2 secrets in force");
        assert!(both.contains("INFO"), "{both}");
        load.goes_on().await;
        all_answered(load.change_secret(secret(number))).await;
        load.goes_on().await;
        place.write(folder.path(), &[number]);
        serve.reload();
        serve.wait_for("1 secret in force");
        load.goes_on().await;
    }
    let old = post(
        reqwest::Client::new(),
        format!("{}/webhooks/github", serve.url),
        secret(ROTATIONS - 1),
        0,
    );
    assert_eq!(
        old.await,
        Ok(401),
        "a secret that was removed is still valid"
    );
    let posts = load.all_accepted().await;
    eprintln!("{ROTATIONS} rotations by {place:?}: {posts} posts, 0 refused");
    applied(&serve, posts).await;

    // A file that cannot be used changes nothing.
    std::fs::remove_file(place.path(folder.path())).unwrap();
    serve.reload();
    let kept = serve.wait_for("keeping the secrets in force");
    assert!(kept.contains("ERROR"), "{kept}");
    let posted = post(
        reqwest::Client::new(),
        format!("{}/webhooks/github", serve.url),
        secret(ROTATIONS),
        0,
    );
    assert_eq!(posted.await, Ok(202));
    assert!(serve.terminate().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rotation_in_the_configuration_file_refuses_nothing() {
    rotation_refuses_nothing(SecretPlace::Configuration).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rotation_in_a_file_of_the_secrets_alone_refuses_nothing() {
    rotation_refuses_nothing(SecretPlace::File).await;
}

/// A restart does not wait for clients that keep a connection and send nothing.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_at_once_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(folder.path());
    let address = serve.url.strip_prefix("http://").unwrap();
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        idle.push(stream);
    }
    let asked = Instant::now();
    let (status, log) = serve.terminate();
    assert!(status.success(), "{status}: {log:#?}");
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(2), "it ended after {took:?}");
}
