//! A repository's history: its pull requests, latest update first, page by page into the inbox.
//!
//! The walk is written down after each page, so that it goes on where it stopped, be it after a kill, a limit or an
//! outage. What changes while it is under way moves to the front, where the walk has been: a closing pass goes once more
//! from the front to where it began. What is there already is the same delivery once more, and changes nothing.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::types::{PrNumber, Timestamp};
use tallyhook_github_client::pulls::{GotPage, NotGot};
use tallyhook_github_client::{Client, GithubError};
use tallyhook_store::{MAX_RUN_ERRORS, PullRequestError, RunState, Store, SyncRun};
use tokio::time::interval;

use crate::sync::fetch::{Brought, FetchError, Fetcher};

/// Pull requests of a page: GitHub takes at most ten seconds for an answer.
const PAGE: u32 = 25;
/// Fewer are not asked for at once, unless these cannot be had.
const SMALLEST: u32 = 5;
/// Of the closing pass, which mostly finds nothing.
const CLOSING: u32 = 5;
/// What fails at its smallest is asked for so often again.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(2);
/// How long a run stays whose it is, and how often that is said again.
const LEASE: TimeDelta = TimeDelta::seconds(15);
const RENEWAL: Duration = Duration::from_secs(5);
/// When GitHub is asked again that could not be reached.
const OUTAGE: TimeDelta = TimeDelta::minutes(1);

/// How a run ended, for now.
#[derive(Debug)]
pub enum Ended {
    /// It is done, or failed for good; what is stored says which.
    Finished(SyncRun),
    /// GitHub wants to be left alone until then; whoever takes it after that goes on.
    PutOff(SyncRun, DateTime<Utc>),
    /// Somebody cancelled it, or another process has it.
    LetGo,
}

/// Where a walk is, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Walk {
    /// What was updated before is left alone.
    back_to: Timestamp,
    phase: Phase,
    /// After which the next page is.
    cursor: Option<String>,
    /// Pull requests of the next page.
    size: u32,
    /// The latest update of all when it began: to where the closing pass goes.
    newest: Option<Timestamp>,
    /// The earliest update that was reached.
    oldest: Option<Timestamp>,
    /// Nothing is behind it that was not fetched.
    to_the_end: bool,
    /// To be tried once more at the end.
    again: Vec<PrNumber>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Walking,
    Closing,
    Repairing,
}

/// Works on runs.
#[derive(Clone)]
pub struct Backfill {
    pub client: Client,
    pub store: Store,
}

/// Why a run does not go on.
enum Stop {
    LetGo,
    Failed(FetchError),
}

impl<E: Into<FetchError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Until when a run that is taken now, or saved now, is its taker's.
pub fn lease() -> DateTime<Utc> {
    Utc::now() + LEASE
}

impl Backfill {
    /// Goes on with a run that was taken, until it is finished or cannot go on; tells `progress` after every page.
    ///
    /// # Errors
    /// If the database fails. What GitHub fails is in the run.
    pub async fn run(
        &self,
        run: SyncRun,
        progress: impl Fn(&SyncRun),
    ) -> tallyhook_store::Result<Ended> {
        let mut walking = Walking {
            fetcher: Fetcher {
                client: self.client.for_backfill(),
                store: self.store.clone(),
                source: Source::Backfill,
                lane: Lane::Backfill,
                commits: run.options.commits,
            },
            walk: Walk::of(&run),
            asked_before: run.github_requests,
            run,
            progress,
        };
        let kept = walking.run.clone();
        let stopped = tokio::select! {
            stopped = walking.walk() => stopped,
            () = self.lost(&kept) => Err(Stop::LetGo),
        };
        walking.reckon();
        let Walking { mut run, .. } = walking;
        let put_off = match stopped {
            Ok(()) => None,
            Err(Stop::LetGo) => return Ok(Ended::LetGo),
            Err(Stop::Failed(FetchError::Store(error))) => return Err(error),
            Err(Stop::Failed(error)) => {
                run.error = Some(error.to_string());
                until(&error)
            }
        };
        if let Some(until) = put_off {
            let kept = self.store.save_run(&run, Utc::now(), until).await?;
            return Ok(if kept {
                Ended::PutOff(run, until)
            } else {
                Ended::LetGo
            });
        }
        run.state = if run.error.is_some() {
            RunState::Failed
        } else {
            RunState::Done
        };
        let saved = self.store.save_run(&run, Utc::now(), lease()).await?;
        Ok(if saved {
            Ended::Finished(run)
        } else {
            Ended::LetGo
        })
    }

    /// Keeps a run for this process; ends once it is somebody else's or cancelled.
    async fn lost(&self, run: &SyncRun) {
        let mut renewal = interval(RENEWAL);
        loop {
            renewal.tick().await;
            // A database that fails is met by the walk itself.
            if let Ok(false) = self.store.renew_run(run, lease()).await {
                return;
            }
        }
    }
}

/// When it is worthwhile to ask again; `None` if that takes somebody who mends something.
fn until(error: &FetchError) -> Option<DateTime<Utc>> {
    match error {
        FetchError::Github(GithubError::Limited { until }) => Some(*until),
        FetchError::Github(GithubError::Unreachable { .. }) => Some(Utc::now() + OUTAGE),
        _ => None,
    }
}

impl Walk {
    /// Where the run was, or its beginning.
    fn of(run: &SyncRun) -> Self {
        let known = run
            .walk
            .as_deref()
            .and_then(|walk| serde_json::from_str(walk).ok());
        known.unwrap_or_else(|| {
            let back_to = run.asked_at - TimeDelta::days(run.options.days_back.into());
            Self {
                back_to: back_to.into(),
                phase: Phase::Walking,
                cursor: None,
                size: PAGE,
                newest: None,
                oldest: None,
                to_the_end: false,
                again: Vec::new(),
            }
        })
    }
}

/// A run that is under way.
struct Walking<P> {
    fetcher: Fetcher,
    run: SyncRun,
    walk: Walk,
    asked_before: u64,
    progress: P,
}

impl<P: Fn(&SyncRun)> Walking<P> {
    async fn walk(&mut self) -> Result<(), Stop> {
        while self.walk.phase == Phase::Walking {
            self.step().await?;
        }
        while self.walk.phase == Phase::Closing {
            self.close().await?;
        }
        self.repair().await?;
        self.run.complete_since = Some(match self.walk.to_the_end {
            true => Timestamp::clamped(0),
            false => self
                .walk
                .oldest
                .unwrap_or(self.walk.back_to)
                .max(self.walk.back_to),
        });
        self.run.error = None;
        Ok(())
    }

    /// One page of the walk.
    async fn step(&mut self) -> Result<(), Stop> {
        let left = u64::from(self.run.options.max_prs).saturating_sub(self.run.prs_done);
        let GotPage {
            mut got,
            total,
            next,
        } = self.page(u32::try_from(left).unwrap_or(u32::MAX)).await?;
        let all = got.whole.len() + got.not_got.len();
        let page = got.whole.iter().map(|whole| whole.pull_request.updated_at);
        let (newest, oldest) = (page.clone().max(), page.min());
        self.walk.newest = self.walk.newest.or(newest);
        got.whole
            .retain(|whole| whole.pull_request.updated_at >= self.walk.back_to);
        let is_past = oldest.is_some_and(|oldest| oldest < self.walk.back_to);
        self.walk.oldest = oldest.or(self.walk.oldest);
        let brought = self.fetcher.take_in(got, Some(self.run.repo)).await?;
        self.fetcher
            .follow_rename(self.run.repo, &self.run.repo_name, &brought)
            .await?;
        self.count(&brought);
        self.run.prs_done = self.run.prs_done.min(self.run.options.max_prs.into());
        let most = total.map(|total| total.min(self.run.options.max_prs.into()));
        self.walk.to_the_end = next.is_none() && !is_past;
        self.walk.cursor = next.filter(|_| all > 0);
        let is_full = self.run.prs_done >= u64::from(self.run.options.max_prs);
        let is_over = is_past || is_full || self.walk.cursor.is_none();
        self.run.prs_total = if is_over {
            Some(self.run.prs_done)
        } else {
            most
        };
        if is_over {
            (self.walk.phase, self.walk.cursor, self.walk.size) = (Phase::Closing, None, CLOSING);
        }
        self.save().await
    }

    /// One page of the closing pass: what was updated since the walk began.
    async fn close(&mut self) -> Result<(), Stop> {
        let GotPage { mut got, next, .. } = self.page(u32::MAX).await?;
        let (began, all) = (self.walk.newest, got.whole.len());
        got.whole
            .retain(|whole| Some(whole.pull_request.updated_at) >= began);
        let is_over = got.whole.len() < all || next.is_none();
        let brought = self.fetcher.take_in(got, Some(self.run.repo)).await?;
        self.note(&brought.not_got);
        (self.walk.cursor, self.walk.size) = (next, PAGE);
        if is_over {
            self.walk.phase = Phase::Repairing;
        }
        self.save().await
    }

    /// Once more, and by themselves, those that failed.
    async fn repair(&mut self) -> Result<(), Stop> {
        while let Some(number) = self.walk.again.last().copied() {
            let mut tries = 0;
            let not_got = loop {
                let brought = self
                    .fetcher
                    .numbers(&self.run.repo_name, Some(self.run.repo), &[number])
                    .await?;
                tries += 1;
                match brought.not_got.into_iter().next() {
                    Some(not_got) if !not_got.missing && tries < TRIES => self.pause().await,
                    last => break last,
                }
            };
            self.walk.again.pop();
            self.run.errors.retain(|error| error.pr != number.0);
            self.note(not_got.as_slice());
            self.save().await?;
        }
        Ok(())
    }

    /// The page at the cursor, of fewer if GitHub cannot give as many. One that it cannot give at all is passed over.
    async fn page(&mut self, most: u32) -> Result<GotPage, Stop> {
        let (mut size, mut tries) = (self.walk.size.min(most).max(1), 0);
        let (client, of) = (self.fetcher.client.clone(), self.run.repo_name.clone());
        loop {
            let after = self.walk.cursor.as_deref();
            match client.page(&of, size, after, self.fetcher.commits).await {
                Ok(page) => return Ok(page),
                Err(GithubError::TooMuch { .. }) if size > SMALLEST => {
                    size = (size / 2).max(SMALLEST);
                    self.walk.size = size;
                }
                Err(GithubError::TooMuch { .. }) if tries < TRIES => {
                    tries += 1;
                    self.pause().await;
                }
                Err(GithubError::TooMuch { .. }) if size > 1 => size = 1,
                Err(GithubError::TooMuch { .. }) => {
                    return Ok(client.passed_over(&of, 1, after).await?);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn pause(&self) {
        self.fetcher
            .client
            .wait(PAUSE.mul_f64(rand::random_range(0.5..1.0)))
            .await;
    }

    fn count(&mut self, brought: &Brought) {
        self.run.prs_done += brought.fetched.len() as u64 + brought.not_got.len() as u64;
        self.run.reviews_synced += brought
            .fetched
            .iter()
            .map(|fetched| fetched.reviews.len() as u64)
            .sum::<u64>();
        self.note(&brought.not_got);
    }

    fn note(&mut self, not_got: &[NotGot]) {
        for NotGot { number, why, .. } in not_got {
            if self.run.errors.len() < MAX_RUN_ERRORS {
                self.run.errors.push(PullRequestError {
                    pr: number.0,
                    error: why.clone(),
                });
            }
            if self.walk.phase != Phase::Repairing {
                self.walk.again.push(*number);
            }
        }
    }

    /// What it cost so far.
    fn reckon(&mut self) {
        self.run.github_requests = self.asked_before + self.fetcher.client.requests_of_handle();
    }

    async fn save(&mut self) -> Result<(), Stop> {
        self.run.walk = serde_json::to_string(&self.walk).ok();
        self.reckon();
        tallyhook_core::crash_point::reached("backfill.page_stored");
        let kept = self
            .fetcher
            .store
            .save_run(&self.run, Utc::now(), lease())
            .await?;
        (self.progress)(&self.run);
        if kept { Ok(()) } else { Err(Stop::LetGo) }
    }
}
