//! Backfill of a repository's history: its pull requests, latest update first, page by page into
//! the inbox.
//!
//! The cursor is stored after each page, so that a backfill continues where it stopped after a
//! kill, a rate limit or an outage. A pull request that changes while the backfill runs moves to
//! the front of the list, behind the cursor: a closing pass reads the list from the front to where
//! the backfill began. A pull request that is in the inbox already is a duplicate delivery and
//! changes nothing.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tallyhook_core::backoff::Backoff;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::types::{PrNumber, Timestamp};
use tallyhook_github_client::pulls::{FetchFailure, FetchedPage};
use tallyhook_github_client::{Client, GithubError};
use tallyhook_store::{MAX_RUN_ERRORS, PullRequestError, RunState, Store, SyncRun};
use tokio::time::interval;

use crate::sync::fetch::{FetchError, FetchOutcome, PullRequestFetcher};

/// Pull requests per page. GitHub ends a request after ten seconds, which limits the size.
const PAGE_SIZE: u32 = 25;
/// The smallest page, below which only single pull requests are requested.
const MIN_PAGE_SIZE: u32 = 5;
/// Pull requests on the first page of the closing pass, which mostly finds nothing.
const CLOSING_PAGE_SIZE: u32 = 5;
/// Retries of a request that cannot be made smaller, and the delay between them.
const RETRIES: u32 = 4;
const RETRY_DELAY: Backoff = Backoff {
    first: Duration::from_secs(2),
    max: Duration::from_secs(2),
};
/// The duration of a run's lease, and the interval of its renewal.
const LEASE: TimeDelta = TimeDelta::seconds(15);
const RENEW_INTERVAL: Duration = Duration::from_secs(5);
/// The delay after GitHub could not be reached.
const OUTAGE_DELAY: TimeDelta = TimeDelta::seconds(15);

/// The result of working on a run.
#[derive(Debug)]
pub enum BackfillOutcome {
    /// The run is done or failed, as its state says.
    Finished(SyncRun),
    /// The run continues after this time, in any process: GitHub limits us or is unreachable.
    Deferred(SyncRun, DateTime<Utc>),
    /// The run was cancelled, or another process took its lease.
    LeaseLost,
}

/// The progress of a backfill, as stored in the run in JSON: field names are part of the format.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct BackfillCursor {
    /// Pull requests that were last updated before this time are skipped.
    back_to: Timestamp,
    phase: BackfillPhase,
    /// GitHub's cursor, after which the next page begins.
    cursor: Option<String>,
    /// The size of the next page.
    size: u32,
    /// The latest update when the backfill began, which is the end of the closing pass.
    newest: Option<Timestamp>,
    /// The earliest update that was fetched.
    oldest: Option<Timestamp>,
    /// The backfill reached the end of the list.
    to_the_end: bool,
    /// Pull requests to retry one by one at the end.
    again: Vec<PrNumber>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BackfillPhase {
    Walking,
    Closing,
    Repairing,
}

/// Executes backfill runs.
#[derive(Clone)]
pub struct BackfillRunner {
    pub client: Client,
    pub store: Store,
}

/// The reason why a run stops early.
enum BackfillStop {
    LeaseLost,
    Failed(FetchError),
}

impl<E: Into<FetchError>> From<E> for BackfillStop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Returns the expiry of a lease that is taken or renewed now.
pub fn lease_until() -> DateTime<Utc> {
    Utc::now() + LEASE
}

impl BackfillRunner {
    /// Continues a leased run until it is finished or cannot continue. Calls `progress` after every
    /// page.
    ///
    /// # Errors
    /// If the database fails. Failures of GitHub are in the run.
    pub async fn run(
        &self,
        run: SyncRun,
        progress: impl Fn(&SyncRun),
    ) -> tallyhook_store::Result<BackfillOutcome> {
        let mut backfill = BackfillRun {
            fetcher: PullRequestFetcher {
                client: self.client.for_backfill(),
                store: self.store.clone(),
                source: Source::Backfill,
                lane: Lane::Backfill,
                commits: run.options.commits,
            },
            cursor: BackfillCursor::restore(&run),
            requests_before: run.github_requests,
            run,
            progress,
        };
        let leased = backfill.run.clone();
        let stopped = tokio::select! {
            stopped = backfill.walk() => stopped,
            () = self.wait_lease_lost(&leased) => Err(BackfillStop::LeaseLost),
        };
        backfill.update_request_count();
        let BackfillRun { mut run, .. } = backfill;
        let mut retry_at = None;
        match stopped {
            Ok(()) => {
                run.state = RunState::Done;
                run.error = withheld(&self.client);
            }
            Err(BackfillStop::LeaseLost) => return Ok(BackfillOutcome::LeaseLost),
            Err(BackfillStop::Failed(FetchError::Store(error))) => return Err(error),
            Err(BackfillStop::Failed(error)) => {
                run.error = Some(error.to_string());
                retry_at = retry_time(&error);
                if retry_at.is_none() {
                    run.state = RunState::Failed;
                }
            }
        }
        if let Some(until) = retry_at {
            let is_leased = self.store.save_run(&run, Utc::now(), until).await?;
            return Ok(if is_leased {
                BackfillOutcome::Deferred(run, until)
            } else {
                BackfillOutcome::LeaseLost
            });
        }
        let saved = self.store.save_run(&run, Utc::now(), lease_until()).await?;
        Ok(if saved {
            BackfillOutcome::Finished(run)
        } else {
            BackfillOutcome::LeaseLost
        })
    }

    /// Renews the lease of a run until it is lost or the run is cancelled.
    async fn wait_lease_lost(&self, run: &SyncRun) {
        let mut renewal = interval(RENEW_INTERVAL);
        loop {
            renewal.tick().await;
            // A failing database also fails the run itself.
            if let Ok(false) = self.store.renew_run(run, lease_until()).await {
                return;
            }
        }
    }
}

/// Returns the facts that GitHub withholds from a client, and the next step; `None` if there are
/// none.
fn withheld(client: &Client) -> Option<String> {
    let facts = client.unknown_facts();
    (!facts.is_empty()).then(|| {
        format!(
            "everything is fetched but {}: `tallyhook doctor` says what the token or the server \
             lacks; sync again once it is there",
            facts.join(", ")
        )
    })
}

/// Returns the time of a retry; `None` if a person has to remove the cause first.
fn retry_time(error: &FetchError) -> Option<DateTime<Utc>> {
    match error {
        FetchError::Github(GithubError::Limited { until }) => Some(*until),
        FetchError::Github(GithubError::Unreachable { .. }) => Some(Utc::now() + OUTAGE_DELAY),
        _ => None,
    }
}

impl BackfillCursor {
    /// Returns the stored cursor of a run, or that of its beginning.
    fn restore(run: &SyncRun) -> Self {
        let stored = run
            .walk
            .as_deref()
            .and_then(|walk| serde_json::from_str(walk).ok());
        stored.unwrap_or_else(|| {
            let back_to = run.asked_at - TimeDelta::days(run.options.days_back.into());
            Self {
                back_to: back_to.into(),
                phase: BackfillPhase::Walking,
                cursor: None,
                size: PAGE_SIZE,
                newest: None,
                oldest: None,
                to_the_end: false,
                again: Vec::new(),
            }
        })
    }
}

/// A run in progress.
struct BackfillRun<P> {
    fetcher: PullRequestFetcher,
    run: SyncRun,
    cursor: BackfillCursor,
    requests_before: u64,
    progress: P,
}

impl<P: Fn(&SyncRun)> BackfillRun<P> {
    /// Runs the remaining phases.
    async fn walk(&mut self) -> Result<(), BackfillStop> {
        while self.cursor.phase == BackfillPhase::Walking {
            self.fetch_page().await?;
        }
        while self.cursor.phase == BackfillPhase::Closing {
            self.fetch_closing_page().await?;
        }
        self.retry_failed().await?;
        self.run.complete_since = Some(match self.cursor.to_the_end {
            true => Timestamp::clamped(0),
            false => self
                .cursor
                .oldest
                .unwrap_or(self.cursor.back_to)
                .max(self.cursor.back_to),
        });
        Ok(())
    }

    /// Fetches one page of the history.
    async fn fetch_page(&mut self) -> Result<(), BackfillStop> {
        let remaining = u64::from(self.run.options.max_prs).saturating_sub(self.run.prs_done);
        let FetchedPage {
            pull_requests: mut got,
            total,
            next,
        } = self
            .page(u32::try_from(remaining).unwrap_or(u32::MAX))
            .await?;
        let all = got.complete.len() + got.failures.len();
        let page = got
            .complete
            .iter()
            .map(|whole| whole.pull_request.updated_at);
        let (newest, oldest) = (page.clone().max(), page.min());
        self.cursor.newest = self.cursor.newest.or(newest);
        got.complete
            .retain(|whole| whole.pull_request.updated_at >= self.cursor.back_to);
        let is_past = oldest.is_some_and(|oldest| oldest < self.cursor.back_to);
        self.cursor.oldest = oldest.or(self.cursor.oldest);
        let outcome = self.fetcher.store_fetched(got, Some(self.run.repo)).await?;
        self.fetcher
            .follow_rename(self.run.repo, &self.run.repo_name, &outcome)
            .await?;
        self.count(&outcome);
        self.run.prs_done = self.run.prs_done.min(self.run.options.max_prs.into());
        let expected = total.map(|total| total.min(self.run.options.max_prs.into()));
        self.cursor.to_the_end = next.is_none() && !is_past;
        self.cursor.cursor = next.filter(|_| all > 0);
        let is_full = self.run.prs_done >= u64::from(self.run.options.max_prs);
        let is_finished = is_past || is_full || self.cursor.cursor.is_none();
        self.run.prs_total = if is_finished {
            Some(self.run.prs_done)
        } else {
            expected
        };
        if is_finished {
            (self.cursor.phase, self.cursor.cursor, self.cursor.size) =
                (BackfillPhase::Closing, None, CLOSING_PAGE_SIZE);
        }
        self.save().await
    }

    /// Fetches one page of the closing pass: pull requests that were updated since the backfill
    /// began.
    async fn fetch_closing_page(&mut self) -> Result<(), BackfillStop> {
        let FetchedPage {
            pull_requests: mut got,
            next,
            ..
        } = self.page(u32::MAX).await?;
        let (began, all) = (self.cursor.newest, got.complete.len());
        got.complete
            .retain(|whole| Some(whole.pull_request.updated_at) >= began);
        let is_finished = got.complete.len() < all || next.is_none();
        let outcome = self.fetcher.store_fetched(got, Some(self.run.repo)).await?;
        self.record_failures(&outcome.not_got);
        (self.cursor.cursor, self.cursor.size) = (next, PAGE_SIZE);
        if is_finished {
            self.cursor.phase = BackfillPhase::Repairing;
        }
        self.save().await
    }

    /// Retries failed pull requests one by one.
    async fn retry_failed(&mut self) -> Result<(), BackfillStop> {
        while let Some(number) = self.cursor.again.last().copied() {
            let mut attempts = 0;
            let not_got = loop {
                let outcome = self
                    .fetcher
                    .fetch_numbers(&self.run.repo_name, Some(self.run.repo), &[number])
                    .await?;
                attempts += 1;
                match outcome.not_got.into_iter().next() {
                    Some(not_got) if !not_got.missing && attempts < RETRIES => {
                        self.wait_before_retry().await
                    }
                    last => break last,
                }
            };
            self.cursor.again.pop();
            self.run.errors.retain(|error| error.pr != number.0);
            self.record_failures(not_got.as_slice());
            self.save().await?;
        }
        Ok(())
    }

    /// Fetches the page at the cursor, smaller if GitHub cannot answer a larger one. A single pull
    /// request that GitHub cannot answer at all is skipped.
    async fn page(&mut self, max: u32) -> Result<FetchedPage, BackfillStop> {
        let (mut size, mut retries) = (self.cursor.size.min(max).max(1), 0);
        let (client, name) = (self.fetcher.client.clone(), self.run.repo_name.clone());
        loop {
            let after = self.cursor.cursor.as_deref();
            match client
                .pull_request_page(&name, size, after, self.fetcher.commits)
                .await
            {
                Ok(page) => return Ok(page),
                Err(GithubError::TooMuch { .. }) if size > MIN_PAGE_SIZE => {
                    size = (size / 2).max(MIN_PAGE_SIZE);
                    self.cursor.size = size;
                }
                Err(GithubError::TooMuch { .. }) if retries < RETRIES => {
                    retries += 1;
                    self.wait_before_retry().await;
                }
                Err(GithubError::TooMuch { .. }) if size > 1 => size = 1,
                Err(GithubError::TooMuch { .. }) => {
                    return Ok(self.skip_page(&name).await?);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Skips the pull request after the cursor. A GitHub that cannot answer with a number alone is
    /// down.
    async fn skip_page(&self, name: &str) -> Result<FetchedPage, GithubError> {
        let client = &self.fetcher.client;
        let skipped = client.skip_page(name, 1, self.cursor.cursor.as_deref());
        skipped.await.map_err(|error| match error {
            GithubError::TooMuch { path, reason } => GithubError::Unreachable {
                origin: path,
                reason,
            },
            error => error,
        })
    }

    async fn wait_before_retry(&self) {
        self.fetcher
            .client
            .wait(RETRY_DELAY.jittered(1, rand::random()))
            .await;
    }

    fn count(&mut self, outcome: &FetchOutcome) {
        self.run.prs_done += outcome.fetched.len() as u64 + outcome.not_got.len() as u64;
        self.run.reviews_synced += outcome
            .fetched
            .iter()
            .map(|fetched| fetched.reviews.len() as u64)
            .sum::<u64>();
        self.record_failures(&outcome.not_got);
    }

    /// Records failures of single pull requests and schedules their retry.
    fn record_failures(&mut self, not_got: &[FetchFailure]) {
        for FetchFailure { number, reason, .. } in not_got {
            if self.run.errors.len() < MAX_RUN_ERRORS {
                self.run.errors.push(PullRequestError {
                    pr: number.0,
                    error: reason.clone(),
                });
            }
            if self.cursor.phase != BackfillPhase::Repairing {
                self.cursor.again.push(*number);
            }
        }
    }

    /// Updates the number of requests to GitHub.
    fn update_request_count(&mut self) {
        self.run.github_requests = self.requests_before + self.fetcher.client.requests_of_handle();
    }

    /// Stores the progress and renews the lease.
    async fn save(&mut self) -> Result<(), BackfillStop> {
        self.run.error = None;
        self.run.walk = serde_json::to_string(&self.cursor).ok();
        self.update_request_count();
        tallyhook_core::crash_point::reached("backfill.page_stored");
        let is_leased = self
            .fetcher
            .store
            .save_run(&self.run, Utc::now(), lease_until())
            .await?;
        (self.progress)(&self.run);
        if is_leased {
            Ok(())
        } else {
            Err(BackfillStop::LeaseLost)
        }
    }
}
