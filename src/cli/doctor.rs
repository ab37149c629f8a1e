//! `tallyhook doctor`

use clap::Args;
use tallyhook_core::text::with_causes;

use super::{CommandFailure, CommandResult, SettingSources, output};
use crate::config::Config;
use crate::doctor::{self, CheckState, Finding};

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// Runs all checks. Settings that cannot be read are a finding, too.
    pub(super) async fn run(self, sources: CommandResult<SettingSources>) -> CommandResult {
        let settings = sources.and_then(|sources| Ok(Config::new(&sources)?));
        let findings = match settings {
            Ok(config) => doctor::examine(&config).await,
            Err(CommandFailure::Usage(error)) => vec![doctor::unreadable(&error)],
            Err(CommandFailure::Failed(error)) => {
                vec![doctor::unreadable(&with_causes(error.as_ref()))]
            }
        };
        if self.json {
            output::json(&findings)?;
        } else {
            print(&findings)?;
        }
        let wrong = findings
            .iter()
            .filter(|finding| finding.state == CheckState::Wrong);
        match wrong.count() {
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
