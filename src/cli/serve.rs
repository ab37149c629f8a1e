//! `tallyhook serve`

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, GITHUB_WEBHOOK_SECRET, Outcome, Sources, TALLYHOOK_LISTEN};
use crate::app::{Options, Running};
use crate::config::Config;
use crate::store::Opening;

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address and port (beats `TALLYHOOK_LISTEN`); port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// What this process does; the embedded store and queue are for one process that does all
    #[arg(long, value_enum, default_value_t)]
    role: Role,
    /// Refuse a database that is not at this version, instead of bringing it there
    #[arg(long)]
    no_migrate: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Role {
    #[default]
    All,
}

impl Serve {
    pub(super) async fn run(self, sources: Sources) -> Outcome {
        let Role::All = self.role;
        if sources.names("AMQP_URL") {
            let message = "AMQP_URL is set, but this version has only the embedded queue: unset it to start";
            return Err(Failure::Usage(message.to_owned()));
        }
        let config = Config::new(&sources.with_flag(TALLYHOOK_LISTEN, self.listen))?;
        if config.webhook_secrets.is_none() {
            return Err(Failure::Usage(format!(
                "{GITHUB_WEBHOOK_SECRET} is not set: set it to the secret of your GitHub webhook \
                 (to look around without one, run `tallyhook demo`)"
            )));
        }
        let signalled = signals()?;
        let opening = if self.no_migrate { Opening::AloneAsIs } else { Opening::Alone };
        let mut running = Running::start(&config, Options { opening, ..Options::default() }).await?;
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
