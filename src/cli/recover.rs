//! `tallyhook recover`

use chrono::{SecondsFormat, SubsecRound, TimeDelta, Utc};
use clap::Args;
use tallyhook_github_client::Credentials;
use tallyhook_github_client::hooks::HookOwner;
use tallyhook_store::OpenMode;

use super::{Failure, Outcome, Sources, github, output};
use crate::config::{Config, GITHUB_APP_ID, GITHUB_APP_PRIVATE_KEY};
use crate::sync::recover::{self, Asked, Report};

#[derive(Debug, Args)]
pub(super) struct Recover {
    /// Of this repository's webhooks; the default repository unless told
    #[arg(long, value_name = "OWNER/NAME", conflicts_with = "org")]
    repo: Option<String>,
    /// Of this organisation's webhooks
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// Of the webhook of the App that `GITHUB_APP_ID` names
    #[arg(long, conflicts_with_all = ["repo", "org", "hook"])]
    app: bool,
    /// Of this webhook alone; unless told, of those that post to /webhooks/github, or of all where none does
    #[arg(long, value_name = "ID")]
    hook: Option<i64>,
    /// How far back; GitHub remembers about three days
    #[arg(long, value_name = "DAYS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=30))]
    days: u32,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Recover {
    pub(super) async fn run(self, sources: Sources) -> Outcome {
        let config = Config::new(&sources)?;
        let owner = self.owner(&config)?;
        if self.app && !matches!(config.github_credentials, Some(Credentials::App(_))) {
            return Err(Failure::Usage(format!(
                "the deliveries of an App are told to itself alone: set {GITHUB_APP_ID} and {GITHUB_APP_PRIVATE_KEY}"
            )));
        }
        let rights = format!(
            "that may read the webhooks of {owner} (scope admin:repo_hook, of an organisation admin:org_hook)"
        );
        let client = github::client(&config, &rights)?;
        let store = tallyhook_store::open(&config.database_url, OpenMode::Shared).await?;
        let since = Utc::now().trunc_subsecs(0) - TimeDelta::days(i64::from(self.days));
        let asked = Asked {
            owner,
            hook: self.hook,
            since,
        };
        let bar = output::progress(0, "fetching");
        let report = recover::run(&client, &store, &asked, |done, all| {
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
            Some(first) => Err(Failure::Failed(anyhow::anyhow!(
                "{} of {} missing deliveries could not be fetched; the first: {}",
                report.not_fetched.len(),
                report.not_fetched.len() as u64 + report.recovered,
                first.why
            ))),
        }
    }

    fn owner(&self, config: &Config) -> Outcome<HookOwner> {
        if self.app {
            return Ok(HookOwner::App);
        }
        if let Some(org) = &self.org {
            let name = org
                .parse()
                .map_err(|_| Failure::Usage(format!("`{org}` is no name of an organisation")))?;
            return Ok(HookOwner::Organization(name));
        }
        let Some(repo) = self.repo.as_ref().or(config.default_repository.as_ref()) else {
            return Err(Failure::Usage(
                "whose deliveries? Tell with --repo OWNER/NAME, --org NAME or --app, or set GITHUB_REPO_OWNER and \
                 GITHUB_REPO_NAME"
                    .to_owned(),
            ));
        };
        HookOwner::repository(repo)
            .map_err(|_| Failure::Usage(format!("`{repo}` is no repository: expected OWNER/NAME")))
    }
}

fn print(report: &Report) -> Outcome {
    let mut table = output::table(&["deliveries", ""]);
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
        (report.already_here, "of these: already here".to_owned()),
        (report.recovered, "of these: recovered".to_owned()),
        (
            report.not_fetched.len() as u64,
            "of these: could not be fetched".to_owned(),
        ),
    ] {
        table.add_row([number.to_string(), what]);
    }
    output::line(&table.to_string())?;
    if report.dead_letters > 0 {
        output::line(&format!(
            "{} of the recovered are dead letters: see `tallyhook dead list`",
            report.dead_letters
        ))?;
    }
    if !report.not_fetched.is_empty() {
        let mut table = output::table(&["missing", "event", "last attempt", "why"]);
        for missing in &report.not_fetched {
            let at = missing
                .delivered_at
                .to_rfc3339_opts(SecondsFormat::Secs, true);
            table.add_row([&missing.guid, &missing.event, &at, &missing.why]);
        }
        output::line(&table.to_string())?;
    }
    output::line(&format!("{} requests to GitHub", report.github_requests))
}
