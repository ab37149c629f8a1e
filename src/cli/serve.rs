//! `tallyhook serve`

use std::net::TcpListener;
use std::pin::pin;

use clap::{Args, ValueEnum};
use tallyhook_store::OpenMode;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    CommandFailure, CommandResult, GITHUB_WEBHOOK_SECRET, SettingSources, TALLYHOOK_LISTEN,
};
use crate::app::{RoleSet, RunningServer, ServerOptions};
use crate::config::Config;

#[derive(Debug, Args)]
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
enum RoleArgument {
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

fn role_set(arguments: &[RoleArgument]) -> RoleSet {
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
        let settings = || -> CommandResult<Config> {
            let sources = sources()?.with_flag(TALLYHOOK_LISTEN, self.listen.clone());
            Ok(Config::new(&sources)?)
        };
        let config = settings()?;
        if roles != RoleSet::ALL
            && (config.amqp_url.is_none() || config.database_url.starts_with("sqlite"))
        {
            let message = "--role splits the work among processes, which need AMQP_URL and a \
                           DATABASE_URL of \
                           postgres:// in common: set both, or leave --role out";
            return Err(CommandFailure::Usage(message.to_owned()));
        }
        if roles.ingest && config.webhook_secrets.is_none() {
            return Err(CommandFailure::Usage(format!(
                "{GITHUB_WEBHOOK_SECRET} is not set: set it to the secret of your GitHub webhook \
                 (`tallyhook demo` runs without one)"
            )));
        }
        let warnings = config.check_secrets(roles.ingest, roles.api)?;
        let mut signalled = pin!(signals()?);
        let mut hangup = signal(SignalKind::hangup())?;
        let opening = if self.no_migrate {
            OpenMode::ExclusiveUnmigrated
        } else {
            OpenMode::Exclusive
        };
        let mut running = RunningServer::start_on(
            handed_over,
            &config,
            ServerOptions {
                opening,
                roles,
                ..ServerOptions::default()
            },
        )
        .await?;
        log_secrets(&config, roles, &warnings);
        let ended = loop {
            tokio::select! {
                () = &mut signalled => break Ok(()),
                error = running.failed() => break Err(CommandFailure::Failed(error)),
                _ = hangup.recv() => replace_secrets(&running, roles, settings()),
            }
        };
        tracing::info!("stopping");
        running.stop().await;
        ended
    }
}

/// Puts the webhook secrets of the settings as they are now in force. If these cannot be used,
/// nothing changes.
fn replace_secrets(running: &RunningServer, roles: RoleSet, settings: CommandResult<Config>) {
    let checked = settings.and_then(|config| {
        let warnings = config.check_secrets(roles.ingest, roles.api)?;
        if roles.ingest && config.webhook_secrets.is_none() {
            let message = format!("{GITHUB_WEBHOOK_SECRET} is not set");
            return Err(CommandFailure::Usage(message));
        }
        Ok((config, warnings))
    });
    match checked {
        Ok((config, warnings)) => {
            running.replace_secrets(&config);
            log_secrets(&config, roles, &warnings);
        }
        Err(failure) => {
            let (_, error) = failure.report();
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
