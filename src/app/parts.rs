//! Construction of the parts that share the store, the queue and the GitHub client.

use std::sync::Arc;

use anyhow::Context;
use chrono::Utc;
use parking_lot::Mutex;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::apply::ApplyRules;
use tallyhook_core::domain::notification::NotificationKind;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_github_client::{CallOrigin, Client, Clock};
use tallyhook_queue::{Queue, QueueUse};
use tallyhook_store::{DEFAULT_TEAM, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::shutdown::BackgroundTasks;
use super::storage_watch::StorageWatch;
use super::{RoleSet, ServerOptions};
use crate::api::{self, ApiState, DefaultRepository, OneTimeLogins, RecentUses, auth};
use crate::call_record::CallRecord;
use crate::config::{Config, ConfigError, WebhookSecrets};
use crate::notify::{Channels, Notifier, team_of_settings};
use crate::process::Worker;
use crate::relay::Relay;
use crate::renumbering::Renumbering;
use crate::secrets::Vault;
use crate::sync::fetch::PullRequestFetcher;
use crate::sync::poller::Poller;
use crate::tasks::{AutoPullRequests, PullRequestOpener, TaskFollower, WorktreeCleaner};

/// The number of workers of one process: while one waits for the disk the other decodes.
const WORKERS: usize = 2;

/// The parts that several others hold.
pub(super) struct SharedParts {
    pub(super) store: Store,
    /// `None` in a process without the roles ingest and worker.
    pub(super) queue: Option<Arc<Queue>>,
    /// `None` without credentials.
    pub(super) github: Option<Client>,
    pub(super) vault: Vault,
    /// Until it runs.
    calls: Mutex<Option<CallRecord>>,
    channels: Arc<Channels>,
    default_repository: Option<DefaultRepository>,
    uses: Arc<RecentUses>,
    pub(super) one_time_logins: Arc<OneTimeLogins>,
}

impl SharedParts {
    /// # Errors
    /// An invalid channel, an unusable database, an invalid `AMQP_URL`, or TLS that cannot be set
    /// up.
    pub(super) async fn open(config: &Config, options: ServerOptions) -> anyhow::Result<Self> {
        let roles = options.roles;
        let mut channels = Channels::new(&config.notify, &config.numbers.calendars)?;
        let store = tallyhook_store::open(&config.database_url, options.opening).await?;
        channels.find_teams(&config.notify, &store).await?;
        let default_repository = default_repository(config, &store).await?;
        let queue = if roles.ingest || roles.worker {
            Some(Arc::new(open_queue(config, roles)?))
        } else {
            None
        };
        let github = github_client(config)?;
        let calls = github.as_ref().map(|client| {
            let (record, log) = CallRecord::new(store.clone());
            // The client is new: nothing else records its requests.
            client.record_calls(log);
            record
        });
        let host = config.github_api_url.to_string();
        let vault = Vault::new(store.clone(), config.key_source.clone(), host);
        Ok(Self {
            vault,
            calls: Mutex::new(calls),
            store,
            queue,
            github,
            channels: Arc::new(channels),
            default_repository,
            uses: Arc::default(),
            one_time_logins: Arc::default(),
        })
    }

    /// Returns the notifier; with the role worker its channels are registered in the store.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn notifier(&self, options: ServerOptions) -> anyhow::Result<Notifier> {
        let notifier = Notifier {
            store: self.store.clone(),
            channels: self.channels.clone(),
            retry: options.pace,
        };
        if options.roles.worker {
            notifier
                .open_channels()
                .await
                .context("cannot read the channels from the database")?;
        }
        Ok(notifier)
    }

    pub(super) fn api(
        &self,
        config: &Config,
        roles: RoleSet,
        secrets: watch::Receiver<WebhookSecrets>,
    ) -> ApiState {
        ApiState {
            store: self.store.clone(),
            vault: self.vault.clone(),
            rules: Arc::new(config.numbers.clone()),
            show_people: config.show_people,
            default_repository: self.default_repository.clone(),
            admin_token: config.admin_token.as_deref().map(auth::hash),
            wrong_tokens: api::WrongTokens::default(),
            one_time_logins: self.one_time_logins.clone(),
            public_url: config.public_url.clone(),
            uses: self.uses.clone(),
            queue: self.queue.clone(),
            takes_in: roles.ingest,
            polls: roles.poller,
            started: Utc::now(),
            counts: api::CachedCounts::default(),
            shared: api::SharedReads::default(),
            github: self.client_of("api"),
            sync: config.sync.clone(),
            refreshes: api::BackgroundRefresh::default(),
            secrets,
            channels: self.channels.clone(),
            config: Arc::new(config.clone()),
            examining: tokio::sync::Mutex::default(),
        }
    }

    /// Returns a handle of the client whose requests are recorded as those of `actor`.
    fn client_of(&self, actor: &str) -> Option<Client> {
        let origin = CallOrigin {
            actor: Some(actor.into()),
            ..CallOrigin::default()
        };
        let client = self.github.as_ref()?;
        Some(client.with_origin(origin))
    }

    /// Starts the background tasks of the roles. `batches` counts the workers' batches.
    pub(super) fn spawn(
        &self,
        config: &Config,
        roles: RoleSet,
        batches: &watch::Sender<u64>,
        tasks: &mut BackgroundTasks,
    ) {
        if let Some(record) = self.calls.lock().take() {
            tasks.records.spawn(record.run(tasks.records_stop_signal()));
        }
        let storage = StorageWatch::new(self.store.clone());
        tasks.cancellable.spawn(storage.run(tasks.stop_signal()));
        if roles.api {
            let (uses, store, stopping) =
                (self.uses.clone(), self.store.clone(), tasks.stop_signal());
            tasks
                .cancellable
                .spawn(async move { uses.run(&store, stopping).await });
        }
        if let Some(queue) = &self.queue {
            let relay = Relay {
                store: self.store.clone(),
                queue: queue.clone(),
                retention_days: config.retention_days,
                audit_days: config.audit_days,
                github_calls_days: config.github_calls_days,
                sweeps: roles.worker,
                stopping: tasks.relay_stop_signal(),
            };
            tasks.relay.spawn(relay.run());
            if roles.worker {
                self.spawn_workers(config, queue, batches, &mut tasks.workers);
                self.spawn_task_followers(config, tasks);
                let renumbering = Renumbering::new(self.store.clone(), config.numbers.clone());
                tasks
                    .cancellable
                    .spawn(renumbering.run(tasks.stop_signal()));
            }
        }
        if let Some(client) = self.client_of("system:poller").filter(|_| roles.poller) {
            let poller = Poller {
                client,
                store: self.store.clone(),
                settings: config.sync.clone(),
                default_repository: config.default_repository.clone(),
            };
            tasks.cancellable.spawn(poller.run(tasks.stop_signal()));
        }
    }

    fn spawn_workers(
        &self,
        config: &Config,
        queue: &Arc<Queue>,
        batches: &watch::Sender<u64>,
        workers: &mut JoinSet<()>,
    ) {
        let turns = Arc::default();
        for _ in 0..WORKERS {
            let worker = Worker {
                store: self.store.clone(),
                queue: queue.clone(),
                rules: ApplyRules {
                    numbers: config.numbers.clone(),
                    patterns: config.tasks.patterns.clone(),
                    tracks_pushes: config.tasks.auto_pr && config.github_credentials.is_some(),
                    tracks_waiting: config.notify.accepts(NotificationKind::WaitingChange),
                },
                turns: Arc::clone(&turns),
                progress: batches.clone(),
            };
            workers.spawn(worker.run());
        }
    }

    /// Starts the tasks that move our tasks along: after their pull requests, and before them.
    fn spawn_task_followers(&self, config: &Config, tasks: &mut BackgroundTasks) {
        let store = &self.store;
        let follower = TaskFollower {
            store: store.clone(),
        };
        tasks.cancellable.spawn(follower.run(tasks.stop_signal()));
        if let Some(client) = self
            .client_of("system:opener")
            .filter(|_| config.tasks.auto_pr)
        {
            let fetcher = PullRequestFetcher {
                client,
                store: store.clone(),
                source: Source::Poller,
                lane: Lane::Live,
                commits: config.sync.backfill.commits,
            };
            let pushes = AutoPullRequests {
                opener: PullRequestOpener {
                    fetcher,
                    default_repository: config.default_repository.clone(),
                },
            };
            tasks.cancellable.spawn(pushes.run(tasks.stop_signal()));
        }
        if let Some(root) = config.tasks.worktree_root.clone() {
            let cleaner = WorktreeCleaner {
                store: store.clone(),
                root,
            };
            tasks.cancellable.spawn(cleaner.run(tasks.stop_signal()));
        }
    }
}

/// Returns the default repository of the settings with its team.
///
/// # Errors
/// [`ConfigError`] if there is no such team; another if the database fails.
async fn default_repository(
    config: &Config,
    store: &Store,
) -> anyhow::Result<Option<DefaultRepository>> {
    let Some(name) = config.default_repository.clone() else {
        return Ok(None);
    };
    let team = match &config.default_repository_team {
        Some(team) => team_of_settings(store, team, "GITHUB_REPO_TEAM").await?,
        None => DEFAULT_TEAM.0,
    };
    Ok(Some(DefaultRepository { name, team }))
}

/// # Errors
/// [`ConfigError`] if `AMQP_URL` is not the URL of a broker.
fn open_queue(config: &Config, roles: RoleSet) -> anyhow::Result<Queue> {
    let usage = if roles.worker {
        QueueUse::PublishAndConsume
    } else {
        QueueUse::Publish
    };
    match &config.amqp_url {
        Some(url) => Queue::amqp(url, usage).map_err(|error| ConfigError::new(error).into()),
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
