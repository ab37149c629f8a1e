//! `tallyhook serve`

use clap::{Args, ValueEnum};
use tallyhook_store::OpenMode;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, GITHUB_WEBHOOK_SECRET, Outcome, Sources, TALLYHOOK_LISTEN};
use crate::app::{Options, Roles, Running};
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address and port (beats `TALLYHOOK_LISTEN`); port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// What this process does: all of it, or a list such as `ingest,api`; partial roles need `AMQP_URL` and PostgreSQL
    #[arg(long, value_enum, value_delimiter = ',', default_value = "all")]
    role: Vec<Role>,
    /// Refuse a database that is not at this version, instead of bringing it there
    #[arg(long)]
    no_migrate: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Everything
    All,
    /// Takes webhooks in
    Ingest,
    /// Works on deliveries and hands over what is due
    Worker,
    /// Asks GitHub for what webhooks missed
    Poller,
    /// Answers readers
    Api,
}

fn roles(told: &[Role]) -> Roles {
    told.iter().fold(Roles::NONE, |roles, role| match role {
        Role::All => Roles::ALL,
        Role::Ingest => Roles {
            ingest: true,
            ..roles
        },
        Role::Worker => Roles {
            worker: true,
            ..roles
        },
        Role::Poller => Roles {
            poller: true,
            ..roles
        },
        Role::Api => Roles { api: true, ..roles },
    })
}

impl Serve {
    pub(super) async fn run(self, sources: Sources) -> Outcome {
        let roles = roles(&self.role);
        let config = Config::new(&sources.with_flag(TALLYHOOK_LISTEN, self.listen))?;
        if roles != Roles::ALL
            && (config.amqp_url.is_none() || config.database_url.starts_with("sqlite"))
        {
            let message = "--role splits the work among processes, which need AMQP_URL and a DATABASE_URL of \
                           postgres:// in common: set both, or leave --role out";
            return Err(Failure::Usage(message.to_owned()));
        }
        if roles.ingest && config.webhook_secrets.is_none() {
            return Err(Failure::Usage(format!(
                "{GITHUB_WEBHOOK_SECRET} is not set: set it to the secret of your GitHub webhook \
                 (to look around without one, run `tallyhook demo`)"
            )));
        }
        let signalled = signals()?;
        let opening = if self.no_migrate {
            OpenMode::ExclusiveUnmigrated
        } else {
            OpenMode::Exclusive
        };
        let mut running = Running::start(
            &config,
            Options {
                opening,
                roles,
                ..Options::default()
            },
        )
        .await?;
        let ended = tokio::select! {
            () = signalled => Ok(()),
            error = running.failed() => Err(Failure::Failed(error)),
        };
        tracing::info!("stopping");
        running.stop().await;
        ended
    }
}

/// Takes SIGTERM and Ctrl-C over, from this call on; what is returned waits for one of them.
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
