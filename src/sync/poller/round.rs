//! One round of the poller over all tracked repositories.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::repository::{RepositoryAccess, RepositoryDetails};
use tallyhook_core::event::FetchedPullRequest;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_github_client::pulls::{FetchFailure, PullRequestSummary};
use tallyhook_github_client::{ConditionalResponse, GithubError};
use tallyhook_store::{Moment, RunState, SyncOutcome, SyncRun, TrackedRepository};

use super::Poller;
use crate::sync::fetch::{FetchError, FetchOutcome, observed_repository};

/// The overlap of listings with what they showed before, in seconds: GitHub's replicas may be
/// late.
const OVERLAP: i64 = 5 * 60;
/// The interval at which all pull requests are compared.
const RECONCILE_INTERVAL: TimeDelta = TimeDelta::hours(24);
/// The delay before a failed backfill is started again.
const BACKFILL_RETRY_DELAY: TimeDelta = TimeDelta::hours(1);
/// The delay before an incomplete pull request is fetched again.
const INCOMPLETE_RETRY_DELAY: TimeDelta = TimeDelta::hours(6);
/// Pages of one listing: ten thousand pull requests.
const MAX_PAGES: usize = 100;
/// The result of a round.
#[derive(Debug, Default, Serialize)]
pub struct PollRound {
    pub repositories: Vec<PolledRepository>,
    /// Requests to GitHub.
    pub github_requests: u64,
}

/// The result of a round for one repository.
#[derive(Debug, Serialize)]
pub struct PolledRepository {
    /// `owner/name`
    pub repo: String,
    /// Pull requests that were fetched because they may have changed.
    pub fetched: u64,
    /// Fetched pull requests with changes that no webhook reported.
    pub missed: Vec<PrNumber>,
    /// Pull requests that could not be fetched.
    pub not_fetched: Vec<UnfetchedPullRequest>,
    /// The error that ended the round for this repository.
    pub error: Option<String>,
}

/// A pull request that could not be fetched.
#[derive(Debug, Serialize)]
pub struct UnfetchedPullRequest {
    pub number: PrNumber,
    pub why: String,
}

impl PollRound {
    /// Logs the failures of repositories that are not yet `failing` in one line, and once when all
    /// are polled again.
    pub(super) fn log_failures(&self, failing: &mut BTreeSet<String>) {
        let failures = self.repositories.iter().filter_map(|polled| {
            let error = polled.failure()?;
            Some((polled.repo.clone(), error))
        });
        let failures: BTreeMap<_, _> = failures.collect();
        let mut new = failures.iter().filter(|(repo, _)| !failing.contains(*repo));
        if let Some((repo, error)) = new.next() {
            match new.count() {
                0 => tracing::warn!(repo.name = repo, error, "cannot poll {repo}: {error}"),
                more => tracing::warn!(
                    repo.name = repo,
                    repo.more = more,
                    error,
                    "cannot poll {repo} and {more} more repositories: {error}; the API shows the \
                     error of each"
                ),
            }
        } else if failures.is_empty() && !failing.is_empty() {
            tracing::info!("every repository is polled again");
        }
        *failing = failures.into_keys().collect();
    }
}

impl PolledRepository {
    /// Returns the failure to report for the repository, if there is one.
    pub fn failure(&self) -> Option<String> {
        self.error.clone().or_else(|| {
            let first = self.not_fetched.first()?;
            let (number, why) = (first.number, &first.why);
            Some(match self.not_fetched.len() {
                1 => format!("#{number} could not be fetched: {why}"),
                more => {
                    format!("{more} pull requests could not be fetched, the first #{number}: {why}")
                }
            })
        })
    }
}

/// The range of a listing.
struct ListingRange {
    back_to: Timestamp,
    /// All pull requests are compared, not only recently changed ones.
    reconciles: bool,
}

/// The changed pull requests of a listing.
struct ChangeListing {
    /// The newest update of all listed pull requests.
    newest: Option<Timestamp>,
    changed: Vec<PrNumber>,
    /// False if the listing ended at [`MAX_PAGES`].
    is_complete: bool,
}

impl Poller {
    /// Runs one round over all tracked repositories. Changes so young that their webhook may still
    /// arrive are left to the next round, unless this one was requested.
    ///
    /// # Errors
    /// If the database fails. Failures of GitHub are in the result of their repository.
    pub async fn round(&self, is_requested: bool) -> tallyhook_store::Result<PollRound> {
        let requests_before = self.client.requests();
        self.store.start_poll(Utc::now()).await?;
        self.confirm_lost_installations().await?;
        let tracked = self.store.tracked().await?.into_iter();
        let visible: Vec<_> = tracked
            .filter(|repository| repository.access == RepositoryAccess::Granted)
            .collect();
        self.request_backfills(&visible).await?;
        let repositories: Vec<_> = stream::iter(visible)
            .map(|repository| self.poll_and_record(repository, is_requested))
            .buffer_unordered(self.settings.max_concurrent as usize)
            .collect()
            .await;
        let mut repositories = repositories
            .into_iter()
            .collect::<tallyhook_store::Result<Vec<_>>>()?;
        repositories.sort_by(|one, two| one.repo.cmp(&two.repo));
        let failed = repositories
            .iter()
            .filter(|polled| polled.failure().is_some())
            .count() as u64;
        let statistics = serde_json::to_value(self.client.statistics()).unwrap_or_default();
        self.store
            .finish_poll(Utc::now(), failed, &statistics)
            .await?;
        Ok(PollRound {
            repositories,
            github_requests: self.client.requests() - requests_before,
        })
    }

    /// Tracks the default repository unless it is known already.
    ///
    /// # Errors
    /// If GitHub does not show the repository, or the database fails.
    pub async fn track_default(&self) -> Result<(), FetchError> {
        let Some(name) = &self.default_repository else {
            return Ok(());
        };
        if self.store.repository_id(name).await?.is_none() {
            let info = self.client.repository(name).await?;
            self.store
                .track(
                    &observed_repository(info.id, info.full_name, Some(info.private)),
                    Utc::now(),
                )
                .await?;
        }
        Ok(())
    }

    /// Requests backfills of repositories without one, which are those that webhooks made known,
    /// and of those whose backfill failed some time ago, because the cause may have been removed.
    async fn request_backfills(
        &self,
        repositories: &[TrackedRepository],
    ) -> tallyhook_store::Result<()> {
        let now = Utc::now();
        let is_settled = |run: &SyncRun| match run.state {
            RunState::Failed => run
                .finished_at
                .is_none_or(|at| now - at < BACKFILL_RETRY_DELAY),
            _ => true,
        };
        let latest = self.store.latest_runs().await?;
        let settled: BTreeSet<_> = latest
            .iter()
            .filter(|run| is_settled(run))
            .map(|run| run.repo)
            .collect();
        for repository in repositories
            .iter()
            .filter(|repository| !settled.contains(&repository.id))
        {
            let failed = latest.iter().find(|run| run.repo == repository.id);
            let options = failed.map_or_else(|| self.settings.backfill.into(), |run| run.options);
            self.store.request_run(repository.id, &options, now).await?;
        }
        Ok(())
    }

    /// Polls a repository and records the result.
    async fn poll_and_record(
        &self,
        repository: TrackedRepository,
        is_requested: bool,
    ) -> tallyhook_store::Result<PolledRepository> {
        let mut polled = PolledRepository {
            repo: repository.name.clone(),
            fetched: 0,
            missed: Vec::new(),
            not_fetched: Vec::new(),
            error: None,
        };
        // The time before the requests, which may take long.
        let now = Utc::now();
        let outcome = self
            .poll_with_retries(&repository, is_requested, &mut polled)
            .await;
        let state = match (outcome, polled.failure()) {
            (Err(FetchError::Store(error)), _) => return Err(error),
            (Err(error), _) => {
                polled.error = Some(error.to_string());
                SyncOutcome::Failed(error.to_string())
            }
            (Ok((watermark, reconciled)), Some(failure)) => {
                self.advance_past_failures(&repository, watermark, reconciled, now)
                    .await?;
                SyncOutcome::Failed(failure)
            }
            (Ok((watermark, reconciled)), None) => SyncOutcome::Polled {
                watermark,
                reconciled,
            },
        };
        self.store.record_sync(repository.id, &state, now).await?;
        Ok(polled)
    }

    /// Advances the watermark to a day ago although pull requests failed. A pull request that
    /// cannot be fetched is tried in every round for a day, and then only by the daily comparison:
    /// otherwise the listing since its failure would grow without end.
    async fn advance_past_failures(
        &self,
        repository: &TrackedRepository,
        newest: Option<Timestamp>,
        reconciled: bool,
        now: Moment,
    ) -> tallyhook_store::Result<()> {
        let day_ago = Timestamp::from(now - RECONCILE_INTERVAL);
        let watermark = newest.map(|newest| newest.min(day_ago));
        if watermark > repository.watermark && repository.watermark.is_some() {
            self.store
                .record_sync(
                    repository.id,
                    &SyncOutcome::Polled {
                        watermark,
                        reconciled,
                    },
                    now,
                )
                .await?;
        }
        Ok(())
    }

    /// Calls [`Self::poll_repository`], with retries while GitHub is unreachable.
    async fn poll_with_retries(
        &self,
        repository: &TrackedRepository,
        is_requested: bool,
        polled: &mut PolledRepository,
    ) -> Result<(Option<Timestamp>, bool), FetchError> {
        let mut retries = 0;
        loop {
            match self.poll_repository(repository, is_requested, polled).await {
                // During an outage the next round is the retry.
                Err(FetchError::Github(GithubError::Unreachable { .. }))
                    if retries < self.settings.retry_attempts && self.client.outage().is_none() =>
                {
                    retries += 1;
                    (polled.fetched, polled.missed, polled.not_fetched) =
                        (0, Vec::new(), Vec::new());
                    self.client.wait(self.settings.retry_delay).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Fetches the changed pull requests of a repository. Returns the new watermark, and true if
    /// all pull requests were compared.
    async fn poll_repository(
        &self,
        repository: &TrackedRepository,
        is_requested: bool,
        polled: &mut PolledRepository,
    ) -> Result<(Option<Timestamp>, bool), FetchError> {
        let range = self.range(repository);
        let asked_at = Utc::now();
        let incomplete: BTreeSet<PrNumber> = self
            .store
            .incomplete_pull_requests(
                repository.id,
                asked_at - INCOMPLETE_RETRY_DELAY,
                self.settings.batch_size,
            )
            .await?
            .into_iter()
            .collect();
        let listing = self.list_changes(repository, &range, is_requested).await?;
        let mut numbers = incomplete.clone();
        numbers.extend(listing.changed);
        let numbers: Vec<_> = numbers.into_iter().collect();
        for batch in numbers.chunks(self.settings.batch_size as usize) {
            self.fetch(repository, batch, polled).await?;
        }
        // One that cannot be fetched, or stays incomplete all the same, yields to others for a while.
        let keys: Vec<_> = incomplete
            .into_iter()
            .map(|number| PrKey {
                repo: repository.id,
                number,
            })
            .collect();
        self.store.mark_checked(&keys, asked_at).await?;
        let is_complete = listing.is_complete;
        Ok((
            listing.newest.filter(|_| is_complete),
            range.reconciles && is_complete,
        ))
    }

    /// Lists a repository's pull requests back to the beginning of `range`, and finds the changed
    /// ones.
    async fn list_changes(
        &self,
        repository: &TrackedRepository,
        range: &ListingRange,
        is_requested: bool,
    ) -> Result<ChangeListing, FetchError> {
        // Younger changes are listed again by the next round, which starts behind the watermark.
        let young = Timestamp::clamped(Utc::now().timestamp() - FetchedPullRequest::WEBHOOKS_TAKE);
        let mut listing = ChangeListing {
            newest: None,
            changed: Vec::new(),
            is_complete: false,
        };
        for page in 1..=MAX_PAGES {
            let ConditionalResponse {
                value: listed,
                has_more: more,
                ..
            } = self
                .client
                .pull_request_summaries(&repository.name, page)
                .await?;
            if let Some(other) = listed
                .iter()
                .map(PullRequestSummary::repo)
                .find(|repo| *repo != repository.id)
            {
                return Err(self.replaced(repository, other).await?);
            }
            let newest = listed.iter().map(|listed| listed.updated_at).max();
            listing.newest = listing.newest.max(newest);
            let in_range = |listed: &&PullRequestSummary| listed.updated_at >= range.back_to;
            let is_due = |listed: &&PullRequestSummary| is_requested || listed.updated_at <= young;
            let due: Vec<_> = listed
                .iter()
                .filter(in_range)
                .filter(is_due)
                .copied()
                .collect();
            listing
                .changed
                .extend(self.changed(repository.id, &due).await?);
            listing.is_complete = !more || !listed.iter().all(|listed| in_range(&listed));
            if listing.is_complete {
                break;
            }
        }
        Ok(listing)
    }

    /// Handles a name that belongs to another repository now. Ours is looked up by its id; the next
    /// round uses its new name.
    async fn replaced(
        &self,
        repository: &TrackedRepository,
        other: RepoId,
    ) -> Result<FetchError, FetchError> {
        if let Ok(info) = self.client.repository_by_id(repository.id).await {
            let seen = Some(RepositoryDetails {
                name: info.full_name,
                private: Some(info.private),
            });
            let outcome = FetchOutcome {
                seen,
                ..FetchOutcome::default()
            };
            self.fetcher(Source::Poller)
                .follow_rename(repository.id, &repository.name, &outcome)
                .await?;
        }
        Ok(FetchError::ReplacedRepository {
            name: repository.name.clone(),
            before: repository.id,
            now: other,
        })
    }

    fn range(&self, repository: &TrackedRepository) -> ListingRange {
        let now = Utc::now();
        let reconciles = repository
            .reconciled_at
            .is_none_or(|at| now - at > RECONCILE_INTERVAL);
        // The time before tracking is the backfill's.
        let since = Timestamp::from(repository.tracked_since);
        let back_to = match (reconciles, repository.watermark) {
            (true, Some(watermark)) => {
                let days_back = TimeDelta::days(self.settings.backfill.days_back.into());
                let all = repository
                    .complete_since
                    .unwrap_or(since)
                    .max((now - days_back).into());
                // After a long pause of the poller the watermark lies further back.
                all.min(Timestamp::clamped(watermark.epoch() - OVERLAP))
            }
            (_, watermark) => {
                Timestamp::clamped(watermark.max(Some(since)).unwrap_or(since).epoch() - OVERLAP)
            }
        };
        ListingRange {
            back_to,
            reconciles,
        }
    }

    /// Returns the numbers of listed pull requests that changed since they were fetched, or never
    /// were.
    async fn changed(
        &self,
        repo: RepoId,
        listed: &[PullRequestSummary],
    ) -> tallyhook_store::Result<Vec<PrNumber>> {
        let keys: Vec<_> = listed
            .iter()
            .map(|listed| PrKey {
                repo,
                number: listed.number,
            })
            .collect();
        let stored = self.store.load(&keys).await?;
        let changed = listed
            .iter()
            .zip(stored)
            .filter(|(listed, stored)| stored.pull_request.fetched_at() < Some(listed.updated_at));
        Ok(changed.map(|(listed, _)| listed.number).collect())
    }

    /// Fetches pull requests and notes which of them have changes that webhooks missed.
    async fn fetch(
        &self,
        repository: &TrackedRepository,
        numbers: &[PrNumber],
        polled: &mut PolledRepository,
    ) -> Result<(), FetchError> {
        let keys: Vec<_> = numbers
            .iter()
            .map(|number| PrKey {
                repo: repository.id,
                number: *number,
            })
            .collect();
        let stored: BTreeMap<PrNumber, PullRequest> = self
            .store
            .load(&keys)
            .await?
            .into_iter()
            .map(|stored| (stored.pull_request.key.number, stored.pull_request))
            .collect();
        let fetcher = self.fetcher(Source::Poller);
        let outcome = fetcher
            .fetch_numbers(&repository.name, Some(repository.id), numbers)
            .await?;
        fetcher
            .follow_rename(repository.id, &repository.name, &outcome)
            .await?;
        let missed = outcome.fetched.iter().filter(|fetched| {
            let is_old = fetched.is_beyond_webhooks(Utc::now().into());
            is_old
                && stored
                    .get(&fetched.number)
                    .is_some_and(|stored| stored.is_behind(fetched))
        });
        polled.missed.extend(missed.map(|fetched| fetched.number));
        polled.fetched += outcome.fetched.len() as u64;
        let not_got = outcome
            .not_got
            .into_iter()
            .map(|FetchFailure { number, reason, .. }| UnfetchedPullRequest {
                number,
                why: reason,
            });
        polled.not_fetched.extend(not_got);
        Ok(())
    }
}
