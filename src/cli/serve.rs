//! `tallyhook serve`

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
    /// Address and port (beats `TALLYHOOK_LISTEN`); port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT")]
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
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let roles = role_set(&self.role);
        let config = Config::new(&sources.with_flag(TALLYHOOK_LISTEN, self.listen))?;
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
        let signalled = signals()?;
        let opening = if self.no_migrate {
            OpenMode::ExclusiveUnmigrated
        } else {
            OpenMode::Exclusive
        };
        let mut running = RunningServer::start(
            &config,
            ServerOptions {
                opening,
                roles,
                ..ServerOptions::default()
            },
        )
        .await?;
        log_secrets(&config, roles, &warnings);
        let ended = tokio::select! {
            () = signalled => Ok(()),
            error = running.failed() => Err(CommandFailure::Failed(error)),
        };
        tracing::info!("stopping");
        running.stop().await;
        ended
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
