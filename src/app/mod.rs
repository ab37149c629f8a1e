//! Putting the parts together: what `serve` and `demo` run.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::DefaultHeaders;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer, web};
use anyhow::{Context, bail};
use chrono::Utc;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::apply::ApplyRules;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_github_client::{Client, Clock};
use tallyhook_queue::{Queue, Use};
use tallyhook_store::{OpenMode, Store};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::{self, Api, Sockets, auth};
use crate::config::{Config, ConfigError};
use crate::ingest::{self, Ingest, Limits};
use crate::notify::{self, Channels, Notifier, Pace};
use crate::process::Worker;
use crate::relay::Relay;
use crate::sync::fetch::Fetcher;
use crate::sync::poller::Poller;
use crate::tasks::{Cleaner, Follower, Opener, Pushes};
use crate::telemetry;

/// Workers of one process. While one waits for the disk the other decodes.
const WORKERS: usize = 2;
/// After SIGTERM: how long requests under way, and then all workers together, may take to finish.
const GRACE: Duration = Duration::from_secs(3);
/// And everything together: whoever asked waits for ten seconds.
const FAREWELL: Duration = Duration::from_secs(9);
/// Of that, what the store may need to close.
const CLOSING: Duration = Duration::from_secs(1);
/// And the relay after them, with what the broker did not take.
const RELAY_GRACE: Duration = Duration::from_secs(1);
/// How long somebody may take nothing of an answer.
#[cfg(target_os = "linux")]
const NOT_TAKEN: Duration = Duration::from_secs(20);
/// The name under which the token of the first start is stored.
const ADMIN: &str = "admin";

/// A running Tallyhook.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    pub store: Store,
    /// Counts the workers' batches.
    pub progress: watch::Receiver<u64>,
    server: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
    queue: Option<Arc<Queue>>,
    stopping: watch::Sender<bool>,
    stopping_others: watch::Sender<bool>,
    workers: JoinSet<()>,
    relay: JoinSet<()>,
    /// What may be cut off at any point: the poller, the feed, the follower.
    others: JoinSet<()>,
    /// Finishes what it is sending.
    notifier: JoinSet<()>,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Takes webhooks in.
    pub ingest: bool,
    /// Works on deliveries, hands over what is due.
    pub worker: bool,
    /// Asks GitHub for what webhooks missed.
    pub poller: bool,
    /// Answers readers.
    pub api: bool,
}

impl Roles {
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

/// What differs between the ways of running it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub opening: OpenMode,
    pub limits: Limits,
    pub roles: Roles,
    pub pace: Pace,
    /// How often it is looked whether a client of `/ws` is there and may listen.
    pub heartbeat: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            opening: OpenMode::Exclusive,
            limits: Limits::default(),
            roles: Roles::ALL,
            pace: Pace::default(),
            heartbeat: Duration::from_secs(30),
        }
    }
}

impl Running {
    /// Opens the store and starts what the roles ask for.
    ///
    /// # Errors
    /// In words that say what to do: no secret, a database that cannot be used, a port that is taken.
    pub async fn start(config: &Config, options: Options) -> anyhow::Result<Self> {
        let roles = options.roles;
        let secrets = config.webhook_secrets.clone();
        if roles.ingest && secrets.is_none() {
            bail!("GITHUB_WEBHOOK_SECRET is not set: set it to the secret of your GitHub webhook");
        }
        telemetry::prometheus();
        let channels = Arc::new(Channels::new(&config.notify)?);
        let store = tallyhook_store::open(&config.database_url, options.opening).await?;
        let queue = if roles.ingest || roles.worker {
            Some(Arc::new(open_queue(config, roles)?))
        } else {
            None
        };
        let client = github_client(config)?;
        let admin_token = config.admin_token.as_deref().map(auth::hash);
        let api = Api {
            store: store.clone(),
            bots: config.bots.clone(),
            default_repository: config.default_repository.clone(),
            admin_token,
            queue: queue.clone(),
            takes_in: roles.ingest,
            polls: roles.poller,
            started: Utc::now(),
            counted: api::Counted::default(),
            github: client.clone(),
            sync: config.sync.clone(),
            behind: api::Behind::default(),
            hook_secret: config.hook_secret.clone(),
            channels: channels.clone(),
        };
        let notifier = Notifier {
            store: store.clone(),
            channels,
            pace: options.pace,
        };
        if roles.worker {
            notifier
                .open_channels()
                .await
                .context("cannot look up the channels")?;
        }
        let ingest = secrets
            .filter(|_| roles.ingest)
            .zip(queue.clone())
            .map(|(secrets, queue)| Ingest::new(secrets, store.clone(), queue, options.limits));
        let (feed, reader) = notify::feed(store.clone())
            .await
            .context("cannot read the outbox")?;
        let sockets = Sockets::new(feed, config.websocket_clients, options.heartbeat);
        let (server, address) = listen(config.listen, (api, sockets), ingest, roles)?;
        if roles.api && admin_token.is_none() {
            make_admin_token(config, &store).await?;
        }
        let handle = server.handle();
        let serving = tokio::spawn(server);
        let (stopping, _) = watch::channel(false);
        let (stopping_others, _) = watch::channel(false);
        let (sender, progress) = watch::channel(0);
        let (mut workers, mut relay, mut others, mut notifying) = (
            JoinSet::new(),
            JoinSet::new(),
            JoinSet::new(),
            JoinSet::new(),
        );
        if let Some(queue) = &queue {
            relay.spawn(relay_of(config, &store, queue, roles, &stopping).run());
            if roles.worker {
                start_workers(&mut workers, config, &store, queue, &sender);
                others.spawn(
                    Follower {
                        store: store.clone(),
                    }
                    .run(stopping_others.subscribe()),
                );
                if let Some(client) = client.clone().filter(|_| config.tasks.auto_pr) {
                    others
                        .spawn(pushes_of(config, client, &store).run(stopping_others.subscribe()));
                }
                if let Some(root) = config.tasks.worktree_root.clone() {
                    others.spawn(
                        Cleaner {
                            store: store.clone(),
                            root,
                        }
                        .run(stopping_others.subscribe()),
                    );
                }
            }
        }
        if let Some(client) = client.filter(|_| roles.poller) {
            others.spawn(poller_of(config, client, &store).run(stopping_others.subscribe()));
        }
        if roles.api {
            others.spawn(reader.run(stopping_others.subscribe()));
        }
        if roles.worker && notifier.channels.iter().len() > 0 {
            notifying.spawn(notifier.run(stopping_others.subscribe()));
        }
        tracing::info!(%address, "listening");
        if config.github_credentials.is_none() {
            tracing::info!(
                "GITHUB_TOKEN is not set: GitHub is asked for nothing that webhooks miss"
            );
        }
        Ok(Self {
            address,
            store,
            progress,
            server: handle,
            serving,
            queue,
            stopping,
            stopping_others,
            workers,
            relay,
            others,
            notifier: notifying,
        })
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

    /// Waits until a part of it ends by itself, which it does only on a failure.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            served = &mut self.serving => match served {
                Ok(Ok(())) => return anyhow::anyhow!("the server stopped"),
                Ok(Err(error)) => return anyhow::Error::new(error).context("the server failed"),
                Err(error) => Err(error),
            },
            Some(ended) = self.workers.join_next() => ended,
            Some(ended) = self.relay.join_next() => ended,
            Some(ended) = self.others.join_next() => ended,
            Some(ended) = self.notifier.join_next() => ended,
            () = broken(self.queue.as_deref()) => return anyhow::anyhow!("a connection's supervisor broke"),
        };
        match ended {
            Ok(()) => anyhow::anyhow!("a worker stopped"),
            Err(error) => anyhow::Error::new(error).context("a part of the server broke"),
        }
    }

    /// Takes nothing in any more, finishes what is under way, closes the store.
    pub async fn stop(mut self) {
        let deadline = Instant::now() + FAREWELL;
        // What the poller had in hand is asked for again by whoever comes next, and clients of the feed, which would
        // hold the server up, come back for what they miss.
        self.stopping_others.send_replace(true);
        self.server.stop(true).await;
        if let Some(queue) = &self.queue {
            queue.close();
            end(&mut self.workers, deadline.min(Instant::now() + GRACE)).await;
            // What the workers finished is acknowledged, what was taken in is published.
            drop(timeout_at(deadline, queue.finish()).await);
        }
        self.stopping.send_replace(true);
        end(&mut self.others, deadline.min(Instant::now() + RELAY_GRACE)).await;
        end(&mut self.relay, deadline.min(Instant::now() + RELAY_GRACE)).await;
        // What is being sent would be sent again if it was cut off. Receivers may take as long to answer as there is.
        end(&mut self.notifier, deadline - CLOSING).await;
        if timeout_at(deadline, self.store.close()).await.is_err() {
            tracing::warn!(
                "the database did not close in time; nothing that was committed is lost"
            );
        }
    }
}

/// Waits until a part of the queue ends by itself.
async fn broken(queue: Option<&Queue>) {
    match queue {
        Some(queue) => queue.broken().await,
        None => std::future::pending().await,
    }
}

/// Waits until all of them have ended, at the latest until `deadline`.
async fn end(tasks: &mut JoinSet<()>, deadline: Instant) {
    loop {
        match timeout_at(deadline, tasks.join_next()).await {
            Ok(None) => break,
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(error))) => tracing::error!(%error, "a task broke"),
            Err(_) => {
                // What it had in hand is in the inbox and is taken up again by another, or at the next start.
                tracing::warn!("a task did not end in time");
                tasks.shutdown().await;
            }
        }
    }
}

/// # Errors
/// [`ConfigError`] if `AMQP_URL` is no URL of a broker.
fn open_queue(config: &Config, roles: Roles) -> anyhow::Result<Queue> {
    let part = if roles.worker {
        Use::PublishAndConsume
    } else {
        Use::Publish
    };
    match &config.amqp_url {
        Some(url) => Queue::amqp(url, part).map_err(|error| ConfigError::new(error).into()),
        None => Ok(Queue::in_process()),
    }
}

/// # Errors
/// If TLS cannot be set up on this machine.
fn github_client(config: &Config) -> anyhow::Result<Option<Client>> {
    let Some(credentials) = config.github_credentials.clone() else {
        return Ok(None);
    };
    Client::with(
        config.github_api_url.clone(),
        credentials,
        Clock::System,
        config.sync.timeout,
    )
    .map(Some)
}

fn poller_of(config: &Config, client: Client, store: &Store) -> Poller {
    Poller {
        client,
        store: store.clone(),
        settings: config.sync.clone(),
        default_repository: config.default_repository.clone(),
    }
}

fn pushes_of(config: &Config, client: Client, store: &Store) -> Pushes {
    let fetcher = Fetcher {
        client,
        store: store.clone(),
        source: Source::Poller,
        lane: Lane::Live,
        commits: config.sync.backfill.commits,
    };
    Pushes {
        opener: Opener {
            fetcher,
            default_repository: config.default_repository.clone(),
        },
    }
}

fn relay_of(
    config: &Config,
    store: &Store,
    queue: &Arc<Queue>,
    roles: Roles,
    stopping: &watch::Sender<bool>,
) -> Relay {
    Relay {
        store: store.clone(),
        queue: queue.clone(),
        retention_days: config.retention_days,
        sweeps: roles.worker,
        stopping: stopping.subscribe(),
    }
}

fn start_workers(
    workers: &mut JoinSet<()>,
    config: &Config,
    store: &Store,
    queue: &Arc<Queue>,
    progress: &watch::Sender<u64>,
) {
    let turns = Arc::default();
    for _ in 0..WORKERS {
        let worker = Worker {
            store: store.clone(),
            queue: queue.clone(),
            rules: ApplyRules {
                bots: config.bots.clone(),
                patterns: config.tasks.patterns.clone(),
                tracks_pushes: config.tasks.auto_pr && config.github_credentials.is_some(),
            },
            turns: Arc::clone(&turns),
            progress: progress.clone(),
        };
        workers.spawn(worker.run());
    }
}

fn listen(
    address: SocketAddr,
    (api, sockets): (Api, Sockets),
    ingest: Option<Ingest>,
    roles: Roles,
) -> anyhow::Result<(actix_web::dev::Server, SocketAddr)> {
    let (api, sockets, ingest) = (
        web::Data::new(api),
        web::Data::new(sockets),
        ingest.map(web::Data::new),
    );
    let server = HttpServer::new(move || {
        App::new()
            .app_data(api.clone())
            .app_data(sockets.clone())
            .configure(|service| {
                if let Some(ingest) = &ingest {
                    service.app_data(ingest.clone());
                    service.route("/webhooks/github", web::post().to(ingest::receive));
                }
            })
            .wrap(
                DefaultHeaders::new()
                    .add(("X-Content-Type-Options", "nosniff"))
                    .add(("Cache-Control", "no-store")),
            )
            .configure(|service| api::routes(service, roles.api))
    });
    let server = server.on_connect(|connection, _| {
        if let Some(stream) = connection.downcast_ref() {
            end_when_nothing_is_taken(stream);
        }
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
    let address = server
        .addrs()
        .first()
        .copied()
        .context("the server listens nowhere")?;
    Ok((server.run(), address))
}

/// Lets the system end a connection whose other end has taken nothing of what waits for it for a while. Nobody else would:
/// the last that was written to a client of `/ws` before it was dropped stays to be sent.
fn end_when_nothing_is_taken(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(NOT_TAKEN)) {
        tracing::warn!(%error, "a connection will not be ended if its other end takes nothing");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

/// Makes the first token at the first start and writes it where only this user can read it.
async fn make_admin_token(config: &Config, store: &Store) -> anyhow::Result<()> {
    let tokens = store.tokens().await.context("cannot read the tokens")?;
    if tokens.iter().any(|token| token.name == ADMIN) {
        return Ok(());
    }
    let path = config.admin_token_path();
    // The file first: a token nobody can read would be lost. One that is there already, of a start that broke off or
    // of another database beside this one, stays valid for both.
    let (token, made_here) = match read_private(&path) {
        Some(token) => (token, false),
        None => {
            let token = auth::new_token();
            write_private(&path, &token)
                .with_context(|| format!("cannot write the admin token to {}", path.display()))?;
            (token, true)
        }
    };
    if !store
        .create_token(ADMIN, &auth::hash(&token), Utc::now())
        .await
        .context("cannot store the admin token")?
    {
        // Another process of the same database was faster and has the one that counts; in this folder that is its file.
        if made_here {
            std::fs::remove_file(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        return Ok(());
    }
    tracing::info!(file = %path.display(), "the API's admin token is in this file");
    Ok(())
}

/// The token in a file that only its owner can read; any other file is not to be trusted with one.
fn read_private(path: &Path) -> Option<String> {
    let private = std::fs::metadata(path).ok()?.permissions().mode() & 0o077 == 0;
    let token = std::fs::read_to_string(path)
        .ok()
        .filter(|_| private)?
        .trim()
        .to_owned();
    auth::is_token(&token).then_some(token)
}

fn write_private(path: &Path, token: &str) -> std::io::Result<()> {
    // Beside it first: whoever finds the file finds a whole token in it.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    // The mode above counts only for a new file.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
