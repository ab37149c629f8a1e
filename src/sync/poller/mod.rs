//! The poller: finds changes that no webhook reported, runs backfills and polls watched pull
//! requests.
//!
//! A round lists the changes of each tracked repository, which costs nothing where nothing changed,
//! and fetches every changed pull request completely: a review or a label whose webhook was lost
//! shows nowhere else. One process at a time polls.

mod installations;
mod outage;
mod round;
mod watched;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_github_client::Client;
use tallyhook_store::{LeaderRole, RunState, Store};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use self::outage::{Outage, OutageProgress};
pub use self::round::{PollRound, PolledRepository, UnfetchedPullRequest};
use crate::config::SyncConfig;
use crate::leader::{LeaderWork, Leadership, while_leading};
use crate::sync::backfill::{self, BackfillOutcome, BackfillRunner};
use crate::sync::fetch::PullRequestFetcher;

/// The interval at which the loops check for work.
const TICK: Duration = Duration::from_secs(1);

/// Asks GitHub for changes that webhooks missed.
#[derive(Clone)]
pub struct Poller {
    pub client: Client,
    pub store: Store,
    pub settings: SyncConfig,
    /// `owner/name` of a repository that is tracked without a request.
    pub default_repository: Option<String>,
}

impl LeaderWork for Poller {
    /// Polls, backfills and watches until this process loses the role. The next leader continues
    /// with unfinished work.
    async fn lead(&mut self, leadership: &Leadership<'_>) {
        let work = async {
            tokio::select! {
                () = self.poll() => {}
                () = self.backfill() => {}
                () = self.monitor() => {}
            }
        };
        leadership.run_until_ended(work).await;
    }
}

impl Poller {
    /// Polls until `stopping` becomes true, while this process holds the role.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        let store = self.store.clone();
        while_leading(&store, LeaderRole::Poller, stopping, &mut self).await;
    }

    /// Runs rounds at the configured interval and on request.
    async fn poll(&self) {
        let mut next = Instant::now();
        let mut has_default = false;
        let (mut outage, mut failing) = (Outage::default(), BTreeSet::new());
        loop {
            match outage.watch(&self.client).await {
                OutageProgress::None => {}
                OutageProgress::Ended => next = Instant::now(),
                OutageProgress::Lasts => {
                    sleep(TICK).await;
                    continue;
                }
            }
            let is_requested = self.is_round_requested().await;
            if next <= Instant::now() || is_requested {
                next = Instant::now() + self.settings.interval;
                if !has_default {
                    let tracked = self.track_default().await;
                    has_default = tracked.is_ok();
                    if let Err(error) = tracked {
                        tracing::warn!(
                            repo.name = self.default_repository,
                            %error,
                            "cannot track the default repository; the next round tries again"
                        );
                    }
                }
                match self.round(is_requested).await {
                    Ok(round) => {
                        if self.client.outage().is_none() {
                            round.log_failures(&mut failing);
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "a poll round failed; the next one starts in time")
                    }
                }
            }
            sleep(TICK).await;
        }
    }

    /// Runs backfills, one after the other.
    async fn backfill(&self) {
        let backfill = BackfillRunner {
            client: self.client.clone(),
            store: self.store.clone(),
        };
        loop {
            if self.client.outage().is_some() {
                sleep(TICK).await;
                continue;
            }
            match self
                .store
                .claim_run(None, Utc::now(), backfill::lease_until())
                .await
            {
                Ok(Some(run)) => {
                    let outcome = backfill.run(run, |_| {}).await;
                    let is_database_up = outcome.is_ok();
                    log_outcome(outcome);
                    if is_database_up {
                        continue;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot read pending backfills; trying again")
                }
            }
            sleep(TICK).await;
        }
    }

    async fn is_round_requested(&self) -> bool {
        self.store
            .poller_stats()
            .await
            .is_ok_and(|stats| stats.asked_at.is_some())
    }

    fn fetcher(&self, source: Source) -> PullRequestFetcher {
        PullRequestFetcher {
            client: self.client.clone(),
            store: self.store.clone(),
            source,
            lane: Lane::Live,
            commits: self.settings.backfill.commits,
        }
    }
}

fn log_outcome(outcome: tallyhook_store::Result<BackfillOutcome>) {
    match outcome {
        Ok(BackfillOutcome::Finished(run)) => {
            let (repo, prs, failed) = (&run.repo_name, run.prs_done, run.errors.len());
            match (&run.error, run.state) {
                (Some(error), RunState::Failed) => {
                    tracing::warn!(
                        repo.name = repo,
                        error,
                        "the backfill of {repo} failed: {error}"
                    );
                }
                _ => tracing::info!(
                    repo.name = repo,
                    prs,
                    failed,
                    "the backfill of {repo} is done: {prs} pull requests, {failed} failed"
                ),
            }
        }
        Ok(BackfillOutcome::Deferred(run, until)) => tracing::warn!(
            repo.name = run.repo_name,
            %until,
            error = run.error,
            "the backfill of {} waits for GitHub until {until}",
            run.repo_name
        ),
        Ok(BackfillOutcome::LeaseLost) => {
            tracing::info!("a backfill was cancelled, or another process continues it");
        }
        Err(error) => tracing::error!(
            %error,
            "a backfill was interrupted; it continues when the database is back"
        ),
    }
}
