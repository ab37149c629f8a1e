//! `tallyhook backfill`

use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde::Serialize;
use tallyhook_core::github::types::{RepoId, Timestamp};
use tallyhook_github_client::Client;
use tallyhook_github_client::hooks::HookOwner;
use tallyhook_store::{
    OpenMode, PullRequestError, RunOptions, RunState, Store, SyncOutcome, SyncRun,
};

use super::{Failure, Outcome, Sources, github, output};
use crate::config::Config;
use crate::sync::backfill::{self, Backfill as Walker, Ended};
use crate::sync::fetch;

/// A run of a process that is no more is free again after so long.
const LOOKING: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Backfill {
    /// Whose pull requests
    #[arg(value_name = "OWNER/REPO")]
    repo: String,
    /// How far back, by their last update (beats `GITHUB_SYNC_DAYS_BACK`)
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
    /// At most so many, the latest (beats `GITHUB_SYNC_MAX_PRS`)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_prs: Option<u32>,
    /// Ask for the dates of the commits, too, from which coding time follows
    #[arg(long)]
    commits: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Serialize)]
struct Report {
    repo: String,
    state: RunState,
    prs_done: u64,
    reviews_synced: u64,
    /// Everything that was updated since then is here; null while the run is not done.
    complete_since: Option<Timestamp>,
    github_requests: u64,
    errors: Vec<PullRequestError>,
}

impl Backfill {
    pub(super) async fn run(self, sources: Sources) -> Outcome {
        let config = Config::new(&sources)?;
        let repo = &self.repo;
        HookOwner::repository(repo).map_err(|_| {
            Failure::Usage(format!("`{repo}` is no repository: expected OWNER/REPO"))
        })?;
        let client = github::client(&config, "to read pull requests")?;
        let defaults = RunOptions::from(config.sync.backfill);
        let options = RunOptions {
            days_back: self.days.unwrap_or(defaults.days_back),
            max_prs: self.max_prs.unwrap_or(defaults.max_prs),
            commits: self.commits || defaults.commits,
        };
        let store = tallyhook_store::open(&config.database_url, OpenMode::Shared).await?;
        let walker = Walker { client, store };
        let ended = self.walk(&walker, options).await;
        walker.store.close().await;
        self.tell(ended?)
    }

    async fn walk(&self, walker: &Walker, options: RunOptions) -> anyhow::Result<SyncRun> {
        let repo = tracked(&walker.client, &walker.store, &self.repo).await?;
        let asked = walker.store.request_run(repo, &options, Utc::now()).await?;
        let asked = asked.context("the repository is not tracked any more")?;
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
                "one is unfinished already, and goes on as it was asked for"
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

    fn tell(&self, run: SyncRun) -> Outcome {
        let failed = run.errors.len();
        let error = run.error.clone();
        let report = Report {
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
            Some(error) => Err(Failure::Failed(anyhow::anyhow!(error))),
            None if failed > 0 => Err(Failure::Failed(anyhow::anyhow!(
                "{failed} pull requests could not be fetched: run it again to try them once more"
            ))),
            None => Ok(()),
        }
    }
}

/// The repository's id; it is tracked from now on.
async fn tracked(client: &Client, store: &Store, name: &str) -> anyhow::Result<RepoId> {
    let info = match client.repository(name).await {
        Ok(info) => info,
        Err(error) => {
            // Of one that is tracked already this is its state, for whoever asks the server.
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
            &fetch::seen(id, info.full_name, Some(info.private)),
            Utc::now(),
        )
        .await?;
    Ok(id)
}

/// Works on the run, or waits for the process that does: a server takes what is asked for, too.
async fn finish(
    walker: &Walker,
    asked: &SyncRun,
    progress: impl Fn(&SyncRun),
) -> anyhow::Result<SyncRun> {
    let store = &walker.store;
    let mut told = false;
    loop {
        if let Some(run) = store
            .claim_run(Some(asked.repo), Utc::now(), backfill::lease())
            .await?
        {
            if run.prs_done > 0 {
                tracing::warn!(prs = run.prs_done, "goes on where it stopped");
            }
            match walker.run(run, &progress).await? {
                Ended::Finished(run) => return Ok(run),
                Ended::PutOff(run, until) => bail!(put_off(run, until)),
                Ended::LetGo => {}
            }
        }
        let run = store
            .sync_run(asked.id)
            .await?
            .context("the backfill is not known any more")?;
        progress(&run);
        match run.state {
            RunState::Done | RunState::Failed => return Ok(run),
            RunState::Cancelled => bail!("the backfill was cancelled"),
            RunState::Queued | RunState::Running => {}
        }
        if !told {
            tracing::warn!("another process works on it, or did until just now: waiting for it");
            told = true;
        }
        tokio::time::sleep(LOOKING).await;
    }
}

fn put_off(run: SyncRun, until: DateTime<Utc>) -> String {
    format!(
        "{} of {} pull requests are fetched, and GitHub has to be left alone until {}: {}; run it again then, it goes on \
         where it stopped",
        run.prs_done,
        run.prs_total
            .map_or("the".to_owned(), |total| total.to_string()),
        until.to_rfc3339_opts(SecondsFormat::Secs, true),
        run.error.unwrap_or_default(),
    )
}

fn print(report: &Report) -> Outcome {
    let mut table = output::table(&["", &report.repo]);
    let since = report
        .complete_since
        .map_or("-".to_owned(), |since| match since.epoch() {
            0 => "its beginning".to_owned(),
            _ => since.to_string(),
        });
    for (what, value) in [
        ("pull requests", report.prs_done.to_string()),
        ("reviews", report.reviews_synced.to_string()),
        ("complete since", since),
        ("requests to GitHub", report.github_requests.to_string()),
        ("could not be fetched", report.errors.len().to_string()),
    ] {
        table.add_row([what.to_owned(), value]);
    }
    output::line(&table.to_string())?;
    if !report.errors.is_empty() {
        let mut table = output::table(&["pull request", "why it could not be fetched"]);
        for PullRequestError { pr, error } in &report.errors {
            table.add_row([format!("#{pr}"), error.clone()]);
        }
        output::line(&table.to_string())?;
    }
    output::line(
        "What was fetched is in the inbox: a server that runs applies it, at once if it is running now.",
    )
}
