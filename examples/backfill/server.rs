//! The server that is measured: a process of its own, so that its memory is measured apart from
//! that of the GitHub it asks.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::Value;
use tallyhook::app::{RunningServer, ServerOptions};
use tallyhook::config::{Config, SettingSources};
use tallyhook::logging::{self, LogFormat};
use tallyhook_core::github::signature::Secrets;
use tallyhook_github_client::{Credentials, Token};
use tallyhook_store::{OpenMode, Store};

use testkit::github::GITHUB_TOKEN;

pub(crate) const SECRET: &str = "a secret of the load test";
const TOKEN: &str = "tallyhook_token_of_the_load_test";

/// The arguments of a child process.
#[derive(Args)]
pub(crate) struct Child {
    #[arg(long, hide = true, requires = "database")]
    github: Option<String>,
    #[arg(long, hide = true)]
    database: Option<String>,
}

impl Child {
    /// GitHub's address and the database's, of a process that is one.
    pub(crate) fn addresses(&self) -> Option<(&str, &str)> {
        self.github.as_deref().zip(self.database.as_deref())
    }
}

/// A running one; it ends with this value.
pub(crate) struct Server {
    child: std::process::Child,
    pub(crate) url: String,
    /// Its database, beside it.
    pub(crate) store: Store,
    pub(crate) http: reqwest::Client,
    // A child that writes to a closed pipe would end.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// On an empty database in `dir`, for a GitHub at `github`.
    pub(crate) async fn start(dir: &Path, github: &str) -> anyhow::Result<Self> {
        let folder = dir.join("database");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir(&folder)?;
        let database = format!("sqlite://{}", folder.join("backfill.db").display());
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--github", github, "--database", &database])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server's process cannot be started")?;
        let mut stdout = BufReader::new(child.stdout.take().context("the server has no output")?);
        let mut url = String::new();
        stdout.read_line(&mut url)?;
        ensure!(!url.is_empty(), "the server did not start");
        let store = tallyhook_store::open(&database, OpenMode::Shared).await?;
        Ok(Self {
            child,
            url: url.trim().to_owned(),
            store,
            http: reqwest::Client::new(),
            _stdout: stdout,
        })
    }

    /// Asks its API; anything but success is an error.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        answer(self.http.get(format!("{}{path}", self.url))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        answer(self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    /// The most memory it had resident, in MiB.
    pub(crate) fn peak_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .context("no VmHWM")?;
        let kib: f64 = line
            .split_whitespace()
            .nth(1)
            .context("no VmHWM")?
            .parse()?;
        Ok(kib / 1024.0)
    }

    /// Ends it in an orderly way.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.store.close().await;
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

async fn answer(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let response = request.bearer_auth(TOKEN).send().await?;
    let (status, answer) = (response.status(), response.text().await?);
    ensure!(status.is_success(), "{status} {answer}");
    Ok(serde_json::from_str(&answer)?)
}

/// Runs a child process: serves on a free port until its standard input ends.
pub(crate) async fn serve(github: &str, database: &str) -> anyhow::Result<()> {
    let _log = logging::init_logging(LogFormat::Text, true);
    let mut config = Config {
        webhook_secrets: Secrets::single(SECRET),
        github_credentials: Some(Credentials::Token(
            Token::parse(GITHUB_TOKEN).context("a token")?,
        )),
        github_api_url: github.parse().ok().context("GitHub's address")?,
        database_url: database.to_owned(),
        listen: "127.0.0.1:0".parse()?,
        admin_token: Some(TOKEN.to_owned()),
        token: None,
        ..Config::new(&SettingSources::default())?
    };
    config.sync.backfill.commits = true;
    let running = RunningServer::start(&config, ServerOptions::default()).await?;
    announce(&format!("http://{}", running.address));
    let parent_is_done = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(parent_is_done).await??;
    running.stop().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "how the parent learns the port")]
fn announce(url: &str) {
    println!("{url}");
}
