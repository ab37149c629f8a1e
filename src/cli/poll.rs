//! `tallyhook poll`

use clap::Args;

use super::{CommandFailure, CommandResult, SettingSources, github, output};
use crate::config::Config;
use crate::sync::poller::{PollRound, Poller};

#[derive(Debug, Args)]
pub(super) struct PollArgs {
    /// Run one round now; a server polls by itself at every `SYNC_INTERVAL`
    #[arg(long, required = true)]
    once: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl PollArgs {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let config = Config::new(&sources)?;
        let client = github::client(&config, "to read pull requests")?;
        let store = github::store(&config).await?;
        let poller = Poller {
            client,
            store,
            settings: config.sync.clone(),
            default_repository: config.default_repository.clone(),
        };
        let default = poller.track_default().await;
        let round = poller.round(true).await;
        poller.store.close().await;
        let round = round?;
        if self.json {
            output::json(&round)?;
        } else {
            print(&round)?;
        }
        let default = default.err().map(|error| {
            (
                config.default_repository.unwrap_or_default(),
                error.to_string(),
            )
        });
        let failed = round
            .repositories
            .iter()
            .filter_map(|polled| Some((polled.repo.clone(), polled.failure()?)));
        match default
            .into_iter()
            .chain(failed)
            .collect::<Vec<_>>()
            .as_slice()
        {
            [] => Ok(()),
            [(repo, why), rest @ ..] => {
                let others = if rest.is_empty() {
                    String::new()
                } else {
                    format!(", and {} more failed", rest.len())
                };
                Err(CommandFailure::Failed(anyhow::anyhow!(
                    "{repo}: {why}{others}"
                )))
            }
        }
    }
}

fn print(round: &PollRound) -> CommandResult {
    let mut table = output::table([
        output::text("repository"),
        output::whole("fetched"),
        output::prose("missed by webhooks"),
        output::note("error", 2),
    ]);
    for polled in &round.repositories {
        let missed: Vec<_> = polled
            .missed
            .iter()
            .map(|number| format!("#{number}"))
            .collect();
        table.add_row([
            polled.repo.clone(),
            polled.fetched.to_string(),
            missed.join(" "),
            polled.failure().unwrap_or_default(),
        ]);
    }
    table.print(
        "no repository is tracked: add one with `tallyhook backfill OWNER/REPO` or POST /api/repos",
    )?;
    output::line(&format!("{} requests to GitHub", round.github_requests))
}
