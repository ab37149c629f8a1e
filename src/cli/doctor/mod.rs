//! `tallyhook doctor`

mod calendars;
mod files;
mod finding;
mod github;
mod here;
mod inbox;
mod names;
mod settings;
mod webhook;

use std::time::Duration;

use clap::Args;
use tallyhook_core::text::with_causes;
use tokio::time::timeout;

use self::finding::{CheckState, Finding};
use super::{CommandFailure, CommandResult, SettingSources, output};
use crate::config::Config;

/// The time limit of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// The advice if no TLS client can be created.
const CERTIFICATES: &str = "install the certificates of authorities on this machine: most systems \
                            have them in the \
                            package ca-certificates";

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// Runs all checks. Settings that cannot be read are a finding, too.
    pub(super) async fn run(self, sources: CommandResult<SettingSources>) -> CommandResult {
        let settings = sources.and_then(|sources| Ok((Config::new(&sources)?, sources)));
        let findings = match settings {
            Ok((config, sources)) => examine(&config, &sources).await,
            Err(CommandFailure::Usage(error)) => vec![unreadable(&error)],
            Err(CommandFailure::Failed(error)) => vec![unreadable(&with_causes(error.as_ref()))],
        };
        if self.json {
            output::json(&findings)?;
        } else {
            print(&findings)?;
        }
        match findings
            .iter()
            .filter(|finding| finding.state == CheckState::Wrong)
            .count()
        {
            0 => Ok(()),
            1 => Err(CommandFailure::Failed(anyhow::anyhow!(
                "one thing is wrong"
            ))),
            wrong => Err(CommandFailure::Failed(anyhow::anyhow!(
                "{wrong} things are wrong"
            ))),
        }
    }
}

fn unreadable(error: &str) -> Finding {
    Finding::wrong(
        "settings",
        error,
        "fix it, then run `tallyhook doctor` again: the other checks need the settings",
    )
}

async fn examine(config: &Config, sources: &SettingSources) -> Vec<Finding> {
    let (database, stored) = here::database(config).await;
    let (broker, listener, worktrees, github) = tokio::join!(
        within("broker", here::broker(config)),
        within("listener", here::listener(config)),
        within("working trees", here::worktrees(config)),
        github::examine(config, &stored.tracked),
    );
    [
        settings::settings(config, sources),
        files::secret_files(config, sources),
        database,
        inbox::examine(&stored),
        broker,
        listener,
        here::channels(config, &stored.channels),
        worktrees,
        github,
    ]
    .concat()
}

/// Runs a check within the time limit.
async fn within(check: &'static str, findings: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    timeout(CHECK_TIMEOUT, findings)
        .await
        .unwrap_or_else(|_| vec![silent(check)])
}

fn silent(check: &'static str) -> Finding {
    let found = format!("no answer within {} s", CHECK_TIMEOUT.as_secs());
    Finding::wrong(
        check,
        found,
        "check that it runs, and that no firewall drops the packets",
    )
}

fn print(findings: &[Finding]) -> CommandResult {
    let mut table = output::table([
        output::whole("state"),
        output::text("check"),
        output::prose("found"),
        output::note("next step", usize::MAX),
    ]);
    for finding in findings {
        table.add_row([
            finding.state.as_str(),
            &finding.title(),
            &finding.found,
            &finding.advice,
        ]);
    }
    table.print("")
}
