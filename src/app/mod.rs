//! Composition of a process: the parts that `serve` and `demo` run, and how they end.

mod admin_token;
mod connections;
mod listen;
mod open_files;
mod parts;
mod shutdown;
mod storage_watch;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use anyhow::{Context, bail};
use tallyhook_core::github::host::GithubHost;
use tallyhook_queue::Queue;
use tallyhook_store::{OpenMode, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::parts::SharedParts;
use self::shutdown::BackgroundTasks;
use crate::api::{OneTimeLogins, WebSocketServer};
use crate::config::{Config, GITHUB_API_URL, PublicUrl, TALLYHOOK_PUBLIC_URL, WebhookSecrets};
use crate::dashboard::{Links, is_taken};
use crate::ingest::{Ingest, IngestLimits};
use crate::notify::{self, HintFeed, RetryPolicy};
use crate::secrets::Vault;
use crate::telemetry;

/// A running Tallyhook.
pub struct RunningServer {
    /// The address it listens on.
    pub address: SocketAddr,
    pub store: Store,
    /// Links that start a session of this process.
    pub one_time_logins: Arc<OneTimeLogins>,
    /// The number of batches that the workers finished.
    pub progress: watch::Receiver<u64>,
    server: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
    queue: Option<Arc<Queue>>,
    tasks: BackgroundTasks,
    secrets: watch::Sender<WebhookSecrets>,
    vault: Vault,
}

/// The roles of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleSet {
    /// Accepts webhooks.
    pub ingest: bool,
    /// Applies deliveries, sweeps due ones, sends notifications.
    pub worker: bool,
    /// Fetches from GitHub what webhooks missed.
    pub poller: bool,
    /// Serves the API.
    pub api: bool,
}

impl RoleSet {
    pub const ALL: Self = Self {
        ingest: true,
        worker: true,
        poller: true,
        api: true,
    };
    pub const NONE: Self = Self {
        ingest: false,
        worker: false,
        poller: false,
        api: false,
    };
}

impl fmt::Display for RoleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles = [
            (self.ingest, "ingest"),
            (self.worker, "worker"),
            (self.poller, "poller"),
            (self.api, "api"),
        ];
        let names = roles.into_iter().filter(|(has, _)| *has);
        let names: Vec<_> = names.map(|(_, name)| name).collect();
        f.write_str(&names.join(","))
    }
}

/// The differences between `serve`, `demo` and tests.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    pub opening: OpenMode,
    pub limits: IngestLimits,
    pub roles: RoleSet,
    pub pace: RetryPolicy,
    /// Interval of pings to `/ws` clients, each with a check of the client's token.
    pub heartbeat: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            opening: OpenMode::Exclusive,
            limits: IngestLimits::default(),
            roles: RoleSet::ALL,
            pace: RetryPolicy::default(),
            heartbeat: Duration::from_secs(30),
        }
    }
}

impl RunningServer {
    /// Opens the store and starts the parts that the roles need.
    ///
    /// # Errors
    /// A missing secret, an unusable database or a port in use, with the next step.
    pub async fn start(config: &Config, options: ServerOptions) -> anyhow::Result<Self> {
        Self::start_on(Vec::new(), config, options).await
    }

    /// Starts on the listening sockets that were handed over; without any on the address of the
    /// settings.
    ///
    /// # Errors
    /// Those of [`RunningServer::start`].
    pub async fn start_on(
        handed_over: Vec<TcpListener>,
        config: &Config,
        options: ServerOptions,
    ) -> anyhow::Result<Self> {
        let roles = options.roles;
        if roles.ingest && config.webhook_secrets.is_none() {
            bail!("GITHUB_WEBHOOK_SECRET is not set: set it to the secret of your GitHub webhook");
        }
        let base = config.public_url.as_ref().map_or("", PublicUrl::path);
        if roles.api && is_taken(base) {
            bail!(
                "{TALLYHOOK_PUBLIC_URL} has the path `{base}`, which begins as a path of this \
                 server: choose another"
            );
        }
        telemetry::prometheus();
        let parts = SharedParts::open(config, options).await?;
        let host = github_host(config, &parts.store).await?;
        let links = Links::new(base, host.as_ref().map_or("github.com", GithubHost::as_str));
        let notifier = parts.notifier(options).await?;
        let secrets = watch::Sender::new(config.secrets_in_force());
        let ingest = parts.queue.clone().filter(|_| roles.ingest).map(|queue| {
            let (secrets, store) = (secrets.subscribe(), parts.store.clone());
            Ingest::new(secrets, store, queue, options.limits, host)
        });
        let (feed, reader) = notify::open_feed(parts.store.clone())
            .await
            .context("cannot read the outbox")?;
        let hints = Arc::new(HintFeed::new(parts.store.clone()));
        let feeds = (feed, hints.clone());
        let sockets = WebSocketServer::new(feeds, config.websocket_clients, options.heartbeat);
        let api = parts.api(config, roles, secrets.subscribe());
        let connections = open_files::max_connections(config.websocket_clients);
        let listeners = listen::listeners(config.listen, handed_over)?;
        let (server, address) =
            listen::serve(listeners, (api, sockets, links), ingest, roles, connections)?;
        if parts.github.is_none() {
            tracing::info!(
                "GITHUB_TOKEN is not set: what webhooks miss is not fetched from GitHub"
            );
        }
        if roles.api && config.admin_token.is_none() {
            admin_token::ensure(config, &parts.store).await?;
        }
        let handle = server.handle();
        let serving = tokio::spawn(server);
        let (batches, progress) = watch::channel(0);
        let mut tasks = BackgroundTasks::default();
        parts.spawn(config, roles, &batches, &mut tasks);
        if roles.api {
            tasks.cancellable.spawn(reader.run(tasks.stop_signal()));
            let stopping = tasks.stop_signal();
            tasks
                .cancellable
                .spawn(async move { hints.run(stopping).await });
        }
        if roles.worker && notifier.channels.iter().len() > 0 {
            tasks.notifier.spawn(notifier.run(tasks.stop_signal()));
        }
        tracing::info!(%address, "listening");
        tracing::info!(connections, "at most {connections} connections at once");
        Ok(Self {
            address,
            store: parts.store,
            one_time_logins: parts.one_time_logins,
            progress,
            server: handle,
            serving,
            queue: parts.queue,
            tasks,
            secrets,
            vault: parts.vault,
        })
    }

    /// Replaces the webhook secrets by those of new settings, for every request that is verified
    /// from now on, and the keys of stored secrets.
    pub fn replace_secrets(&self, config: &Config) {
        self.secrets.send_replace(config.secrets_in_force());
        self.vault.replace_source(config.key_source.clone());
    }

    /// Waits until every stored delivery is finished.
    ///
    /// # Errors
    /// If the inbox cannot be read.
    pub async fn drained(&mut self) -> tallyhook_store::Result<()> {
        // Batches that end while the inbox is being counted are seen by the next round.
        while self.store.counts().await?.accepted > 0 {
            if timeout(Duration::from_secs(1), self.progress.changed())
                .await
                .is_ok_and(|changed| changed.is_err())
            {
                break;
            }
        }
        Ok(())
    }

    /// Waits until a part ends by itself, which happens only on a failure.
    pub async fn failed(&mut self) -> anyhow::Error {
        let queue = self.queue.as_deref();
        let ended = tokio::select! {
            served = &mut self.serving => match served {
                Ok(Ok(())) => return anyhow::anyhow!("the HTTP server stopped"),
                Ok(Err(error)) => {
                    return anyhow::Error::new(error).context("the HTTP server failed");
                }
                Err(error) => Err(error),
            },
            ended = self.tasks.next_ended() => ended,
            () = broken(queue) => {
                return anyhow::anyhow!("the supervisor of a broker connection panicked");
            }
        };
        match ended {
            Ok(()) => anyhow::anyhow!("a background task stopped"),
            Err(error) => anyhow::Error::new(error).context("a background task panicked"),
        }
    }

    /// Stops accepting requests, finishes what is under way, closes the store.
    pub async fn stop(self) {
        let Self {
            store,
            server,
            queue,
            tasks,
            ..
        } = self;
        shutdown::run(&server, queue.as_deref(), tasks, &store).await;
    }
}

/// Returns the GitHub of the installation: of the stored facts, else of the settings; `None` if the
/// first delivery decides.
///
/// # Errors
/// If the two differ, after the store was closed: numeric ids are unique within one GitHub alone.
pub(crate) async fn github_host(
    config: &Config,
    store: &Store,
) -> anyhow::Result<Option<GithubHost>> {
    let stored = match &config.github_host {
        Some(host) => store.configure_github_host(host).await.map(Some),
        None => store.github_host().await,
    };
    let stored = stored.context("cannot read the GitHub of the stored facts")?;
    match (&stored, &config.github_host) {
        (Some(stored), Some(set)) if stored != set => {
            store.close().await;
            bail!(
                "{GITHUB_API_URL} is of {set}, and the database has the facts of {stored}, whose \
                 ids mean others there: use a database for each GitHub"
            )
        }
        _ => Ok(stored),
    }
}

/// Waits until a part of the queue ends by itself.
async fn broken(queue: Option<&Queue>) {
    match queue {
        Some(queue) => queue.broken().await,
        None => std::future::pending().await,
    }
}
