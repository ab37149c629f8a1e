//! `tallyhook serve`

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::pin::pin;

use clap::{Args, ValueEnum};
use tallyhook_store::OpenMode;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    CommandFailure, CommandResult, GITHUB_WEBHOOK_SECRET, SettingSources, TALLYHOOK_LISTEN,
};
use crate::app::{RoleSet, RunningServer, ServerOptions};
use crate::config::{Config, redacted_url};

/// The signals, for the long help.
const SIGNALS: &str = "Signals: SIGTERM and Ctrl-C stop the server, which finishes what is in \
                       flight within ten seconds; a second one ends it at once. SIGHUP reads the \
                       webhook secrets again.";

#[derive(Debug, Args)]
#[command(after_help = SIGNALS)]
pub(super) struct ServeArgs {
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        help = "Address and port; port 0 takes any free one [env: TALLYHOOK_LISTEN]"
    )]
    listen: Option<String>,
    /// The roles of this process: all, or a list such as `ingest,api`; a list needs `AMQP_URL` and
    /// PostgreSQL
    #[arg(long, value_enum, value_delimiter = ',', default_value = "all")]
    role: Vec<RoleArgument>,
    /// Refuse a database of another version instead of migrating it
    #[arg(long)]
    no_migrate: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RoleArgument {
    /// Everything
    All,
    /// Accepts webhooks
    Ingest,
    /// Applies deliveries and sends notifications
    Worker,
    /// Fetches from GitHub what webhooks missed
    Poller,
    /// Serves the API
    Api,
}

pub(super) fn role_set(arguments: &[RoleArgument]) -> RoleSet {
    arguments
        .iter()
        .fold(RoleSet::NONE, |roles, role| match role {
            RoleArgument::All => RoleSet::ALL,
            RoleArgument::Ingest => RoleSet {
                ingest: true,
                ..roles
            },
            RoleArgument::Worker => RoleSet {
                worker: true,
                ..roles
            },
            RoleArgument::Poller => RoleSet {
                poller: true,
                ..roles
            },
            RoleArgument::Api => RoleSet { api: true, ..roles },
        })
}

impl ServeArgs {
    /// `sources` reads the settings, at the start and again after SIGHUP.
    pub(super) async fn run(
        self,
        sources: impl Fn() -> CommandResult<SettingSources>,
        handed_over: Vec<TcpListener>,
    ) -> CommandResult {
        let roles = role_set(&self.role);
        let settings = || -> CommandResult<(Config, Option<PathBuf>)> {
            let sources = sources()?.with_flag(TALLYHOOK_LISTEN, self.listen.clone());
            let file = sources.config_file().map(Path::to_owned);
            Ok((Config::new(&sources)?, file))
        };
        let (config, file) = settings()?;
        let warnings = check_start(&config, roles)?;
        let mut signalled = pin!(signals()?);
        let mut hangup = signal(SignalKind::hangup())?;
        let opening = if self.no_migrate {
            OpenMode::ExclusiveUnmigrated
        } else {
            OpenMode::Exclusive
        };
        let options = ServerOptions {
            opening,
            roles,
            ..ServerOptions::default()
        };
        let mut running = tokio::select! {
            started = RunningServer::start_on(handed_over, &config, options) => started?,
            // A database that does not answer may take long.
            () = &mut signalled => return Ok(()),
        };
        log_start(&config, roles, &running, file.as_deref());
        log_secrets(&config, roles, &warnings);
        let ended = loop {
            tokio::select! {
                () = &mut signalled => break Ok(()),
                error = running.failed() => break Err(CommandFailure::Failed(error)),
                _ = hangup.recv() => replace_secrets(&running, roles, settings()),
            }
        };
        tracing::info!("stopping");
        stop(running).await?;
        ended
    }
}

/// Stops the server; a second signal ends that at once.
///
/// # Errors
/// If it was ended so.
pub(super) async fn stop(running: RunningServer) -> CommandResult {
    let again = signals()?;
    tokio::select! {
        () = running.stop() => Ok(()),
        () = again => Err(CommandFailure::Failed(anyhow::anyhow!(
            "ended at once by a second signal: deliveries that were answered are stored, and the \
             next start finishes them"
        ))),
    }
}

/// Checks what the roles need of the settings. Returns the warnings.
///
/// # Errors
/// A missing or weak setting, with the next step.
pub(super) fn check_start(config: &Config, roles: RoleSet) -> CommandResult<Vec<String>> {
    if roles != RoleSet::ALL
        && (config.amqp_url.is_none() || config.database_url.starts_with("sqlite"))
    {
        let message = "--role splits the work among processes, which need AMQP_URL and a \
                       DATABASE_URL of postgres:// in common: set both, or leave --role out";
        return Err(CommandFailure::Usage(message.to_owned()));
    }
    if roles.ingest && config.webhook_secrets.is_none() {
        return Err(CommandFailure::Usage(format!(
            "{GITHUB_WEBHOOK_SECRET} is not set: set it to the secret of your GitHub webhook \
             (`tallyhook init` makes one with a first configuration, `tallyhook demo` runs without)"
        )));
    }
    Ok(config.check_secrets(roles.ingest, roles.api)?)
}

/// Logs what runs, where and with which settings, in one line.
fn log_start(config: &Config, roles: RoleSet, running: &RunningServer, file: Option<&Path>) {
    let queue = config.amqp_url.as_deref().map(redacted_url);
    tracing::info!(
        version = env!("TALLYHOOK_VERSION"),
        address = %running.address,
        roles = %roles,
        database = redacted_url(&config.database_url),
        queue = queue.as_deref().unwrap_or("in this process"),
        config = %file.map_or("none".into(), Path::to_string_lossy),
        "tallyhook runs"
    );
}

/// Puts the webhook secrets of the settings as they are now in force. If these cannot be used,
/// nothing changes.
fn replace_secrets(
    running: &RunningServer,
    roles: RoleSet,
    settings: CommandResult<(Config, Option<PathBuf>)>,
) {
    let checked = settings.and_then(|(config, _)| {
        let warnings = check_start(&config, roles)?;
        Ok((config, warnings))
    });
    match checked {
        Ok((config, warnings)) => {
            running.replace_secrets(&config);
            log_secrets(&config, roles, &warnings);
        }
        Err(failure) => {
            let error = failure.text();
            tracing::error!(
                error,
                "SIGHUP: the settings cannot be used, keeping the secrets in force: {error}"
            );
        }
    }
}

fn log_secrets(config: &Config, roles: RoleSet, warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if let Some(secrets) = config.webhook_secrets.as_ref().filter(|_| roles.ingest) {
        let secrets = secrets.count();
        let plural = if secrets == 1 { "" } else { "s" };
        tracing::info!(secrets, "{secrets} secret{plural} in force for webhooks");
    }
}

/// Handles SIGTERM and Ctrl-C from this call on, and returns a future that waits for one of them.
pub(super) fn signals() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
