//! `tallyhook backfill`

use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde::Serialize;
use tallyhook_core::github::types::{RepoId, Timestamp};
use tallyhook_github_client::Client;
use tallyhook_github_client::hooks::HookOwner;
use tallyhook_store::{PullRequestError, RunOptions, RunState, Store, SyncOutcome, SyncRun};

use super::{CommandFailure, CommandResult, SettingSources, github, output};
use crate::config::Config;
use crate::sync::backfill::{self, BackfillOutcome, BackfillRunner};
use crate::sync::fetch;

/// Interval of looking for the end of a run in another process, and for a run whose process died.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct BackfillArgs {
    /// The repository
    #[arg(value_name = "OWNER/REPO")]
    repo: String,
    #[arg(
        long,
        value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(1..=36_500),
        help = "Days of history, by the last update of a pull request [env: GITHUB_SYNC_DAYS_BACK]"
    )]
    days: Option<u32>,
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        help = "Maximum number of pull requests, the latest first [env: GITHUB_SYNC_MAX_PRS]"
    )]
    max_prs: Option<u32>,
    #[arg(
        long,
        help = "Fetch the dates of the commits, too, which give the coding time [env: \
                GITHUB_SYNC_COMMITS]"
    )]
    commits: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// The result of a backfill.
#[derive(Serialize)]
struct BackfillReport {
    repo: String,
    state: RunState,
    prs_done: u64,
    reviews_synced: u64,
    /// Everything updated since then is stored; null until the run is done.
    complete_since: Option<Timestamp>,
    github_requests: u64,
    errors: Vec<PullRequestError>,
}

impl BackfillArgs {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let config = Config::new(&sources)?;
        let repo = &self.repo;
        HookOwner::repository(repo).map_err(|_| {
            CommandFailure::Usage(format!("`{repo}` is not a repository: expected OWNER/REPO"))
        })?;
        let client = github::client(&config, "to read pull requests")?;
        let defaults = RunOptions::from(config.sync.backfill);
        let options = RunOptions {
            days_back: self.days.unwrap_or(defaults.days_back),
            max_prs: self.max_prs.unwrap_or(defaults.max_prs),
            commits: self.commits || defaults.commits,
        };
        let store = github::store(&config).await?;
        let walker = BackfillRunner { client, store };
        let ended = self.walk(&walker, options).await;
        walker.store.close().await;
        self.report(ended?)
    }

    async fn walk(&self, walker: &BackfillRunner, options: RunOptions) -> anyhow::Result<SyncRun> {
        let repo = track(&walker.client, &walker.store, &self.repo).await?;
        let asked = walker.store.request_run(repo, &options, Utc::now()).await?;
        let asked = asked.context("the repository is no longer tracked")?;
        if asked.options != options {
            let RunOptions {
                days_back,
                max_prs,
                commits,
            } = asked.options;
            tracing::warn!(
                days_back,
                max_prs,
                commits,
                "an unfinished backfill continues with its own options"
            );
        }
        let bar = output::progress(0, "fetching");
        let finished = finish(walker, &asked, |run| {
            bar.set_length(run.prs_total.unwrap_or(run.prs_done));
            bar.set_position(run.prs_done);
        })
        .await;
        bar.finish_and_clear();
        finished
    }

    fn report(&self, run: SyncRun) -> CommandResult {
        let failed = run.errors.len();
        let (error, state) = (run.error.clone(), run.state);
        let report = BackfillReport {
            repo: run.repo_name,
            state: run.state,
            prs_done: run.prs_done,
            reviews_synced: run.reviews_synced,
            complete_since: run.complete_since,
            github_requests: run.github_requests,
            errors: run.errors,
        };
        if self.json {
            output::json(&report)?;
        } else {
            print(&report)?;
        }
        match error {
            Some(error) if state == RunState::Done => {
                tracing::warn!(repo.name = self.repo, "{error}");
                Ok(())
            }
            Some(error) => Err(CommandFailure::Failed(anyhow::anyhow!(error))),
            None if failed > 0 => Err(CommandFailure::Failed(anyhow::anyhow!(
                "{failed} pull requests could not be fetched: run the command again to retry them"
            ))),
            None => Ok(()),
        }
    }
}

/// Tracks the repository and returns its id.
async fn track(client: &Client, store: &Store, name: &str) -> anyhow::Result<RepoId> {
    let info = match client.repository(name).await {
        Ok(info) => info,
        Err(error) => {
            // The API shows the error as the state of a repository that is tracked already.
            if let Some(id) = store.repository_id(name).await? {
                store
                    .record_sync(id, &SyncOutcome::Failed(error.to_string()), Utc::now())
                    .await?;
            }
            return Err(error.into());
        }
    };
    let id = info.id;
    store
        .track(
            &fetch::observed_repository(id, info.full_name, Some(info.private)),
            Utc::now(),
        )
        .await?;
    Ok(id)
}

/// Works on the run, or waits for another process that does: a server takes new runs, too.
async fn finish(
    walker: &BackfillRunner,
    asked: &SyncRun,
    progress: impl Fn(&SyncRun),
) -> anyhow::Result<SyncRun> {
    let store = &walker.store;
    let mut logged = false;
    loop {
        if let Some(run) = store
            .claim_run(Some(asked.repo), Utc::now(), backfill::lease_until())
            .await?
        {
            if run.prs_done > 0 {
                tracing::warn!(
                    prs = run.prs_done,
                    "the backfill continues where it stopped"
                );
            }
            match walker.run(run, &progress).await? {
                BackfillOutcome::Finished(run) => return Ok(run),
                BackfillOutcome::Deferred(run, until) => bail!(put_off(run, until)),
                BackfillOutcome::LeaseLost => {}
            }
        }
        let run = store
            .sync_run(asked.id)
            .await?
            .context("the backfill was deleted")?;
        progress(&run);
        match run.state {
            RunState::Done | RunState::Failed => return Ok(run),
            RunState::Cancelled => bail!("the backfill was cancelled"),
            RunState::Queued | RunState::Running => {}
        }
        if !logged {
            tracing::warn!(
                "another process works on the backfill, or did until just now: waiting for it"
            );
            logged = true;
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

fn put_off(run: SyncRun, until: DateTime<Utc>) -> String {
    format!(
        "{} of {} pull requests are fetched, and GitHub refuses requests until {}: {}; run the \
         command again then, \
         it continues where it stopped",
        run.prs_done,
        run.prs_total
            .map_or("the".to_owned(), |total| total.to_string()),
        until.to_rfc3339_opts(SecondsFormat::Secs, true),
        run.error.unwrap_or_default(),
    )
}

fn print(report: &BackfillReport) -> CommandResult {
    let since = report
        .complete_since
        .map_or("-".to_owned(), |since| match since.epoch() {
            0 => "its beginning".to_owned(),
            _ => since.to_string(),
        });
    output::fields(&[
        ("repository", report.repo.clone()),
        ("pull requests", report.prs_done.to_string()),
        ("reviews", report.reviews_synced.to_string()),
        ("complete since", since),
        ("requests to GitHub", report.github_requests.to_string()),
        ("could not be fetched", report.errors.len().to_string()),
    ])?;
    if !report.errors.is_empty() {
        let mut table = output::table([output::whole("pull request"), output::prose("error")]);
        for PullRequestError { pr, error } in &report.errors {
            table.add_row([format!("#{pr}"), error.clone()]);
        }
        table.print("")?;
    }
    output::paragraph(
        "The fetched pull requests are in the inbox: a running server applies them now, otherwise \
         the next one.",
    )
}
