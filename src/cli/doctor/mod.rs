//! `tallyhook doctor`

mod finding;
mod github;
mod here;
mod webhook;

use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use self::finding::{Finding, State};
use self::here::Stored;
use super::{Failure, Outcome, Sources, output};
use crate::config::Config;

/// How long one check may take.
const CHECKING: Duration = Duration::from_secs(5);
/// What to do where nothing can be asked over HTTPS.
const CERTIFICATES: &str = "install the certificates of authorities on this machine: most systems have them in the \
                            package ca-certificates";

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Settings that cannot be read are a finding, too.
    pub(super) async fn run(self, sources: Outcome<Sources>) -> Outcome {
        let findings = match sources.and_then(|sources| Ok(Config::new(&sources)?)) {
            Ok(config) => examine(&config).await,
            Err(Failure::Usage(error)) => vec![unreadable(&error)],
            Err(Failure::Failed(error)) => vec![unreadable(&format!("{error:#}"))],
        };
        if self.json {
            output::json(&findings)?;
        } else {
            print(&findings)?;
        }
        match findings
            .iter()
            .filter(|finding| finding.state == State::Wrong)
            .count()
        {
            0 => Ok(()),
            1 => Err(Failure::Failed(anyhow::anyhow!("one thing is wrong"))),
            wrong => Err(Failure::Failed(anyhow::anyhow!("{wrong} things are wrong"))),
        }
    }
}

fn unreadable(error: &str) -> Finding {
    Finding::wrong(
        "settings",
        error,
        "set it right, then look again: all else follows from the settings",
    )
}

async fn examine(config: &Config) -> Vec<Finding> {
    let (database, Stored { tracked, channels }) = here::database(config).await;
    let (broker, listener, worktrees, github) = tokio::join!(
        within("broker", here::broker(config)),
        within("listener", here::listener(config)),
        within("working trees", here::worktrees(config)),
        github::examine(config, &tracked),
    );
    let (settings, channels) = (here::settings(config), here::channels(config, &channels));
    [
        settings, database, broker, listener, channels, worktrees, github,
    ]
    .concat()
}

/// What a check finds, or that it takes too long.
async fn within(check: &'static str, findings: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    timeout(CHECKING, findings)
        .await
        .unwrap_or_else(|_| vec![silent(check)])
}

fn silent(check: &'static str) -> Finding {
    let found = format!("no answer within {} s", CHECKING.as_secs());
    Finding::wrong(
        check,
        found,
        "see that it runs, and that nothing between here and there swallows what is sent",
    )
}

fn print(findings: &[Finding]) -> Outcome {
    let mut table = output::table(&["", "what", "how it is", "what to do"]);
    for finding in findings {
        table.add_row([
            finding.state.as_str(),
            &finding.title(),
            &finding.found,
            &finding.advice,
        ]);
    }
    output::line(&table.to_string())
}
