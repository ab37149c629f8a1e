//! `tallyhook recover`

use chrono::{SecondsFormat, SubsecRound, TimeDelta, Utc};
use clap::Args;
use tallyhook_github_client::Credentials;
use tallyhook_github_client::hooks::HookOwner;

use super::{CommandFailure, CommandResult, SettingSources, github, output};
use crate::config::{Config, GITHUB_APP_ID, GITHUB_APP_PRIVATE_KEY};
use crate::sync::recover::{self, RecoveryReport, RecoveryRequest};

#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// Webhooks of this repository; default: the default repository
    #[arg(long, value_name = "OWNER/NAME", conflicts_with = "org")]
    repo: Option<String>,
    /// Webhooks of this organisation
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// The webhook of the App of `GITHUB_APP_ID`
    #[arg(long, conflicts_with_all = ["repo", "org", "hook"])]
    app: bool,
    /// Only this webhook; default: those that post to /webhooks/github, or all if none does
    #[arg(long, value_name = "ID")]
    hook: Option<i64>,
    /// Days to go back; GitHub keeps deliveries for about three days
    #[arg(
        long,
        value_name = "DAYS",
        default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=30)
    )]
    days: u32,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl RecoverArgs {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let config = Config::new(&sources)?;
        let owner = self.owner(&config)?;
        if self.app && !matches!(config.github_credentials, Some(Credentials::App(_))) {
            return Err(CommandFailure::Usage(format!(
                "only the App itself can read its deliveries: set {GITHUB_APP_ID} and \
                 {GITHUB_APP_PRIVATE_KEY}"
            )));
        }
        let rights = format!(
            "that may read the webhooks of {owner} (scope admin:repo_hook, of an organisation \
             admin:org_hook)"
        );
        let client = github::client(&config, &rights)?;
        let store = github::store(&config).await?;
        let since = Utc::now().trunc_subsecs(0) - TimeDelta::days(i64::from(self.days));
        let asked = RecoveryRequest {
            owner,
            hook: self.hook,
            since,
        };
        let bar = output::progress(0, "fetching");
        let report = recover::recover_deliveries(&client, &store, &asked, |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        })
        .await;
        bar.finish_and_clear();
        store.close().await;
        let report = report?;
        if self.json {
            output::json(&report)?
        } else {
            print(&report)?
        }
        match report.not_fetched.first() {
            None => Ok(()),
            Some(first) => Err(CommandFailure::Failed(anyhow::anyhow!(
                "{} of {} missing deliveries could not be fetched; the first: {}",
                report.not_fetched.len(),
                report.not_fetched.len() as u64 + report.recovered,
                first.why
            ))),
        }
    }

    fn owner(&self, config: &Config) -> CommandResult<HookOwner> {
        if self.app {
            return Ok(HookOwner::App);
        }
        if let Some(org) = &self.org {
            let name = org.parse().map_err(|_| {
                CommandFailure::Usage(format!("`{org}` is not the name of an organisation"))
            })?;
            return Ok(HookOwner::Organization(name));
        }
        let Some(repo) = self.repo.as_ref().or(config.default_repository.as_ref()) else {
            return Err(CommandFailure::Usage(
                "no webhook is selected: give --repo OWNER/NAME, --org NAME or --app, or set \
                 GITHUB_REPO_OWNER and \
                 GITHUB_REPO_NAME"
                    .to_owned(),
            ));
        };
        HookOwner::repository(repo).map_err(|_| {
            CommandFailure::Usage(format!("`{repo}` is not a repository: expected OWNER/NAME"))
        })
    }
}

fn print(report: &RecoveryReport) -> CommandResult {
    let mut table = output::table([output::whole("deliveries"), output::prose("which")]);
    let since = report.since.to_rfc3339_opts(SecondsFormat::Secs, true);
    let name =
        |hook: &Option<i64>| hook.map_or_else(|| "of the App".to_owned(), |id| id.to_string());
    let hooks: Vec<_> = report.hooks.iter().map(name).collect();
    for (number, what) in [
        (
            report.listed,
            format!(
                "attempts listed by GitHub since {since}, of webhook {}",
                hooks.join(", ")
            ),
        ),
        (report.failed, "failed at every attempt".to_owned()),
        (
            report.unused,
            "of these: events that are not used here".to_owned(),
        ),
        (report.already_here, "of these: already stored".to_owned()),
        (report.recovered, "of these: recovered".to_owned()),
        (
            report.not_fetched.len() as u64,
            "of these: could not be fetched".to_owned(),
        ),
    ] {
        table.add_row([number.to_string(), what]);
    }
    table.print("")?;
    if report.dead_letters > 0 {
        output::paragraph(&format!(
            "{} of the recovered deliveries are dead letters: see `tallyhook dead list`",
            report.dead_letters
        ))?;
    }
    if !report.not_fetched.is_empty() {
        let mut table = output::table([
            output::whole("missing"),
            output::text("event"),
            output::detail("last attempt"),
            output::note("why", 2),
        ]);
        for missing in &report.not_fetched {
            let at = missing
                .delivered_at
                .to_rfc3339_opts(SecondsFormat::Secs, true);
            table.add_row([&missing.guid, &missing.event, &at, &missing.why]);
        }
        table.print("")?;
    }
    output::line(&format!("{} requests to GitHub", report.github_requests))
}
