//! Putting the parts together: what `serve` and `demo` run.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpServer, web};
use anyhow::{Context, bail};
use chrono::Utc;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::{self, Api, auth};
use crate::config::Config;
use crate::ingest::{self, Ingest, Limits};
use crate::process::Worker;
use crate::queue::Queue;
use crate::relay::Relay;
use crate::store::{self, Opening, Store};
use crate::telemetry;

/// Workers of one process. While one waits for the disk the other decodes.
const WORKERS: usize = 2;
/// After SIGTERM: how long requests under way, and then all workers together, may take to finish.
const GRACE: Duration = Duration::from_secs(4);
/// The name under which the token of the first start is stored.
const ADMIN: &str = "admin";

/// A running Tallyhook.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    pub store: Arc<dyn Store>,
    /// Counts the workers' batches.
    pub progress: watch::Receiver<u64>,
    server: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
    queue: Arc<Queue>,
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What differs between the ways of running it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub opening: Opening,
    pub limits: Limits,
    /// Whether deliveries are worked on; a load test looks at accepting alone.
    pub work: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { opening: Opening::Alone, limits: Limits::default(), work: true }
    }
}

impl Running {
    /// Opens the store, starts server, workers and sweeper.
    ///
    /// # Errors
    /// In words that say what to do: no secret, a database that cannot be used, a port that is taken.
    pub async fn start(config: &Config, options: Options) -> anyhow::Result<Self> {
        let Some(secrets) = config.webhook_secrets.clone() else {
            bail!("GITHUB_WEBHOOK_SECRET is not set: set it to the secret of your GitHub webhook");
        };
        telemetry::prometheus();
        let store = store::open(&config.database_url, options.opening).await?;
        let queue = Arc::new(Queue::default());
        let now = Utc::now();
        let released = store.release_orphans(now).await.context("cannot read the inbox")?
            + store.hand_over_again(now).await.context("cannot read the inbox")?;
        if released > 0 {
            tracing::info!(deliveries = released, "deliveries of the last run are taken up again");
        }
        let admin_token = config.admin_token.as_deref().map(auth::hash);
        let api = Api::new(store.clone(), config.bots.clone(), config.default_repository.clone(), admin_token);
        let ingest = Ingest::new(secrets, store.clone(), queue.clone(), options.limits);
        let (server, address) = listen(config.listen, api, ingest)?;
        if admin_token.is_none() {
            make_admin_token(config, &*store).await?;
        }
        let handle = server.handle();
        let serving = tokio::spawn(server);
        let (stopping, _) = watch::channel(false);
        let (sender, progress) = watch::channel(0);
        let tasks = if options.work { workers(config, &store, &queue, &sender, &stopping) } else { JoinSet::new() };
        tracing::info!(%address, "listening");
        Ok(Self { address, store, progress, server: handle, serving, queue, stopping, tasks })
    }

    /// Waits until every stored delivery is finished.
    ///
    /// # Errors
    /// If the inbox cannot be read.
    pub async fn drained(&mut self) -> store::Result<()> {
        // Batches that end while the inbox is being counted are seen by the next round.
        while self.store.counts().await?.accepted > 0 {
            if timeout(Duration::from_secs(1), self.progress.changed()).await.is_ok_and(|changed| changed.is_err()) {
                break;
            }
        }
        Ok(())
    }

    /// Waits until a part of it ends by itself, which it does only on a failure.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            served = &mut self.serving => match served {
                Ok(Ok(())) => return anyhow::anyhow!("the server stopped"),
                Ok(Err(error)) => return anyhow::Error::new(error).context("the server failed"),
                Err(error) => Err(error),
            },
            Some(ended) = self.tasks.join_next() => ended,
        };
        match ended {
            Ok(()) => anyhow::anyhow!("a worker stopped"),
            Err(error) => anyhow::Error::new(error).context("a part of the server broke"),
        }
    }

    /// Takes nothing in any more, finishes what is under way, closes the store.
    pub async fn stop(mut self) {
        self.server.stop(true).await;
        self.stopping.send_replace(true);
        self.queue.close();
        let deadline = Instant::now() + GRACE;
        loop {
            match timeout_at(deadline, self.tasks.join_next()).await {
                Ok(None) => break,
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(error))) => tracing::error!(%error, "a task broke"),
                Err(_) => {
                    // What it had in hand is in the inbox and is taken up again at the next start.
                    tracing::warn!("a task did not end in time");
                    self.tasks.shutdown().await;
                }
            }
        }
        self.store.close().await;
    }
}

fn workers(
    config: &Config,
    store: &Arc<dyn Store>,
    queue: &Arc<Queue>,
    progress: &watch::Sender<u64>,
    stopping: &watch::Sender<bool>,
) -> JoinSet<()> {
    let relay = Relay {
        store: store.clone(),
        queue: queue.clone(),
        retention_days: config.retention_days,
        stopping: stopping.subscribe(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(relay.run());
    let turns = Arc::default();
    for _ in 0..WORKERS {
        let worker = Worker {
            store: store.clone(),
            queue: queue.clone(),
            bots: config.bots.clone(),
            turns: Arc::clone(&turns),
            progress: progress.clone(),
        };
        tasks.spawn(worker.run());
    }
    tasks
}

fn listen(address: SocketAddr, api: Api, ingest: Ingest) -> anyhow::Result<(actix_web::dev::Server, SocketAddr)> {
    let (api, ingest) = (web::Data::new(api), web::Data::new(ingest));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(api.clone())
            .app_data(ingest.clone())
            .wrap(DefaultHeaders::new().add(("X-Content-Type-Options", "nosniff")).add(("Cache-Control", "no-store")))
            .route("/webhooks/github", web::post().to(ingest::receive))
            .configure(api::routes)
    });
    let server = server.disable_signals().shutdown_timeout(GRACE.as_secs()).bind(address).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                "is taken: stop what uses it, or set TALLYHOOK_LISTEN to another (port 0 takes any free one)"
            }
            ErrorKind::PermissionDenied => "needs rights this user does not have: choose a port above 1023",
            _ => "cannot be listened on: TALLYHOOK_LISTEN must be an address of this machine",
        };
        anyhow::Error::new(error).context(format!("{address} {advice}"))
    })?;
    let address = server.addrs().first().copied().context("the server listens nowhere")?;
    Ok((server.run(), address))
}

/// Makes the first token at the first start and writes it where only this user can read it.
async fn make_admin_token(config: &Config, store: &dyn Store) -> anyhow::Result<()> {
    let tokens = store.tokens().await.context("cannot read the tokens")?;
    if tokens.iter().any(|token| token.name == ADMIN) {
        return Ok(());
    }
    let path = config.admin_token_path();
    // The file first: a token nobody can read would be lost. One that is there already, of a start that broke off or
    // of another database beside this one, stays valid for both.
    let token = match read_private(&path) {
        Some(token) => token,
        None => {
            let token = auth::new_token();
            write_private(&path, &token)
                .with_context(|| format!("cannot write the admin token to {}", path.display()))?;
            token
        }
    };
    store.create_token(ADMIN, &auth::hash(&token), Utc::now()).await.context("cannot store the admin token")?;
    tracing::info!(file = %path.display(), "the API's admin token is in this file");
    Ok(())
}

/// The token in a file that only its owner can read; any other file is not to be trusted with one.
fn read_private(path: &Path) -> Option<String> {
    let private = std::fs::metadata(path).ok()?.permissions().mode() & 0o077 == 0;
    let token = std::fs::read_to_string(path).ok().filter(|_| private)?.trim().to_owned();
    auth::is_token(&token).then_some(token)
}

fn write_private(path: &Path, token: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // The mode above counts only for a new file.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    writeln!(file, "{token}")?;
    file.sync_all()
}
