//! What webhooks missed, found by asking: the poller's rounds, its turn at backfills, and watched pull requests.
//!
//! A round lists what changed in each tracked repository, which costs nothing where nothing did, and fetches every pull
//! request that changed whole: a review or a label that no webhook told of shows in nothing else. One process at a time
//! does it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::repository::{Access, Seen};
use tallyhook_core::event::FetchedPullRequest;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_github_client::pulls::{Listed, NotGot};
use tallyhook_github_client::{Client, Conditional, GithubError};
use tallyhook_store::{
    LeaderRole, Moment, RunState, Store, SyncOutcome, SyncRun, TrackedRepository,
    WatchedPullRequest,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::config::Sync;
use crate::leader::LeaderLease;
use crate::sync::backfill::{self, Backfill, Ended};
use crate::sync::fetch::{Brought, FetchError, Fetcher, seen};

/// How often it is looked whether there is something to do.
const TICK: Duration = Duration::from_secs(1);
/// Listings are read so far behind what they showed last: GitHub's replicas may be late.
const OVERLAP: i64 = 5 * 60;
/// Everything is compared this often.
const RECONCILE: TimeDelta = TimeDelta::hours(24);
/// A backfill that failed goes on after so long.
const FAILED_AGAIN: TimeDelta = TimeDelta::hours(1);
/// A stub that could not be fetched is tried again after so long.
const HOPELESS: TimeDelta = TimeDelta::hours(6);
/// Pages of one listing: ten thousand pull requests.
const PAGES: usize = 100;

/// Asks GitHub for what webhooks missed.
#[derive(Clone)]
pub struct Poller {
    pub client: Client,
    pub store: Store,
    pub settings: Sync,
    /// `owner/name`: tracked from the start.
    pub default_repository: Option<String>,
}

/// What a round came to.
#[derive(Debug, Default, Serialize)]
pub struct Round {
    pub repositories: Vec<Polled>,
    /// What it cost.
    pub github_requests: u64,
}

/// What came of one repository.
#[derive(Debug, Serialize)]
pub struct Polled {
    /// `owner/name`
    pub repo: String,
    /// Pull requests that were fetched, since they may have changed.
    pub fetched: u64,
    /// Those of them of which no webhook had told.
    pub missed: Vec<PrNumber>,
    /// Those that could not be fetched.
    pub not_fetched: Vec<NotFetched>,
    /// Why the repository could not be asked for.
    pub error: Option<String>,
}

/// A pull request that could not be fetched.
#[derive(Debug, Serialize)]
pub struct NotFetched {
    pub number: PrNumber,
    pub why: String,
}

impl Round {
    fn tell(&self) {
        for polled in &self.repositories {
            if let Some(error) = polled.failure() {
                tracing::warn!(
                    repo = polled.repo,
                    error,
                    "a repository could not be polled"
                );
            }
        }
    }
}

impl Polled {
    /// What is to be told of it as a whole.
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

/// How far a listing is to be read.
struct Reach {
    back_to: Timestamp,
    /// All that differs is fetched, not only what changed lately.
    reconciles: bool,
}

impl Poller {
    /// Works until `stopping` is raised, while this process has the part.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let stopped = async move {
            // An error is a sender that is gone, which nobody waits for either.
            drop(stopping.wait_for(|stopping| *stopping).await);
        };
        tokio::select! {
            () = stopped => self.store.release_role(LeaderRole::Poller).await,
            () = self.take_turns() => {}
        }
    }

    /// Works whenever it is this process's part. What is under way when it is another's is left to that one.
    async fn take_turns(&self) {
        loop {
            let lease = LeaderLease::new(LeaderRole::Poller);
            if lease.renew(&self.store).await.unwrap_or(false) {
                tokio::select! {
                    () = lease.wait_lost(&self.store) => {
                        tracing::warn!("another process polls GitHub now, or the database does not answer");
                    }
                    () = self.poll() => {}
                    () = self.backfill() => {}
                    () = self.monitor() => {}
                }
            }
            sleep(TICK).await;
        }
    }

    async fn poll(&self) {
        let mut next = Instant::now();
        let mut has_default = false;
        loop {
            let asked = self.is_asked_for().await;
            if next <= Instant::now() || asked {
                next = Instant::now() + self.settings.interval;
                if !has_default {
                    let tracked = self.track_default().await;
                    has_default = tracked.is_ok();
                    if let Err(error) = tracked {
                        tracing::warn!(repo = self.default_repository, %error, "the default repository cannot be tracked");
                    }
                }
                match self.round(asked).await {
                    Ok(round) => round.tell(),
                    Err(error) => tracing::error!(%error, "a round of the poller failed"),
                }
            }
            sleep(TICK).await;
        }
    }

    async fn backfill(&self) {
        let backfill = Backfill {
            client: self.client.clone(),
            store: self.store.clone(),
        };
        loop {
            match self
                .store
                .claim_run(None, Utc::now(), backfill::lease())
                .await
            {
                Ok(Some(run)) => tell(backfill.run(run, |_| {}).await),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "backfills cannot be looked for"),
            }
            sleep(TICK).await;
        }
    }

    async fn monitor(&self) {
        let interval =
            TimeDelta::from_std(self.settings.monitor.poll_interval).unwrap_or(TimeDelta::MAX);
        let at_once = self.settings.monitor.concurrent;
        loop {
            let due = Utc::now().checked_sub_signed(interval).unwrap_or_default();
            match self.store.watched(due, at_once).await {
                Ok(watched) => {
                    stream::iter(watched)
                        .for_each_concurrent(at_once as usize, |watched| self.look_at(watched))
                        .await;
                }
                Err(error) => tracing::error!(%error, "watched pull requests cannot be read"),
            }
            sleep(TICK).await;
        }
    }

    async fn is_asked_for(&self) -> bool {
        self.store
            .poller_stats()
            .await
            .is_ok_and(|stats| stats.asked_at.is_some())
    }

    /// One round over all tracked repositories. What is so young that a webhook may be on its way is left to the next one,
    /// unless somebody `asked` for this one.
    ///
    /// # Errors
    /// If the database fails. What GitHub fails is told of the repository it is about.
    pub async fn round(&self, asked: bool) -> tallyhook_store::Result<Round> {
        let asked_before = self.client.requests();
        self.store.start_poll(Utc::now()).await?;
        let tracked = self.store.tracked().await?.into_iter();
        let visible: Vec<_> = tracked
            .filter(|repository| repository.access == Access::Granted)
            .collect();
        self.begin_backfills(&visible).await?;
        let repositories: Vec<_> = stream::iter(visible)
            .map(|repository| self.repository(repository, asked))
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
        Ok(Round {
            repositories,
            github_requests: self.client.requests() - asked_before,
        })
    }

    /// Tracks the default repository, if that is known to nobody here.
    ///
    /// # Errors
    /// If GitHub does not show it, or the store fails.
    pub async fn track_default(&self) -> Result<(), FetchError> {
        let Some(name) = &self.default_repository else {
            return Ok(());
        };
        if self.store.repository_id(name).await?.is_none() {
            let info = self.client.repository(name).await?;
            self.store
                .track(
                    &seen(info.id, info.full_name, Some(info.private)),
                    Utc::now(),
                )
                .await?;
        }
        Ok(())
    }

    /// A repository that webhooks made known has a history, too; and what made a backfill fail may be mended.
    async fn begin_backfills(
        &self,
        repositories: &[TrackedRepository],
    ) -> tallyhook_store::Result<()> {
        let now = Utc::now();
        let is_settled = |run: &SyncRun| match run.state {
            RunState::Failed => run.finished_at.is_none_or(|at| now - at < FAILED_AGAIN),
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

    async fn repository(
        &self,
        repository: TrackedRepository,
        asked: bool,
    ) -> tallyhook_store::Result<Polled> {
        let mut polled = Polled {
            repo: repository.name.clone(),
            fetched: 0,
            missed: Vec::new(),
            not_fetched: Vec::new(),
            error: None,
        };
        // As of before it was asked, which may take its time.
        let now = Utc::now();
        let outcome = self.ask_patiently(&repository, asked, &mut polled).await;
        let state = match (outcome, polled.failure()) {
            (Err(FetchError::Store(error)), _) => return Err(error),
            (Err(error), _) => {
                polled.error = Some(error.to_string());
                SyncOutcome::Failed(error.to_string())
            }
            (Ok((watermark, reconciled)), Some(failure)) => {
                self.give_up_old(&repository, watermark, reconciled, now)
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

    /// A pull request that cannot be fetched is tried for a day in every round, and then with everything else once a day:
    /// else what there is to be listed since it failed would grow without end.
    async fn give_up_old(
        &self,
        repository: &TrackedRepository,
        newest: Option<Timestamp>,
        reconciled: bool,
        now: Moment,
    ) -> tallyhook_store::Result<()> {
        let day_ago = Timestamp::from(now - RECONCILE);
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

    /// The same as [`Self::ask_about`], again and again while GitHub cannot be reached.
    async fn ask_patiently(
        &self,
        repository: &TrackedRepository,
        asked: bool,
        polled: &mut Polled,
    ) -> Result<(Option<Timestamp>, bool), FetchError> {
        let mut tries = 0;
        loop {
            match self.ask_about(repository, asked, polled).await {
                Err(FetchError::Github(GithubError::Unreachable { .. }))
                    if tries < self.settings.retry_attempts =>
                {
                    tries += 1;
                    (polled.fetched, polled.missed, polled.not_fetched) =
                        (0, Vec::new(), Vec::new());
                    self.client.wait(self.settings.retry_delay).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Fetches what changed. The newest update that was listed, and whether all of it was compared.
    async fn ask_about(
        &self,
        repository: &TrackedRepository,
        asked: bool,
        polled: &mut Polled,
    ) -> Result<(Option<Timestamp>, bool), FetchError> {
        let reach = self.reach(repository);
        // What is younger is listed again by the next round, which begins behind the watermark.
        let young = Timestamp::clamped(Utc::now().timestamp() - FetchedPullRequest::WEBHOOKS_TAKE);
        let mut newest = None;
        let mut stubs: BTreeSet<PrNumber> = self
            .store
            .incomplete_pull_requests(
                repository.id,
                Utc::now() - HOPELESS,
                self.settings.batch_size,
            )
            .await?
            .into_iter()
            .collect();
        let mut wanted = stubs.clone();
        let mut is_whole = false;
        for page in 1..=PAGES {
            let Conditional {
                value: listed,
                more,
                ..
            } = self.client.changed(&repository.name, page).await?;
            if let Some(other) = listed
                .iter()
                .map(Listed::repo)
                .find(|repo| *repo != repository.id)
            {
                return Err(self.moved(repository, other).await?);
            }
            newest = newest.max(listed.iter().map(|listed| listed.updated_at).max());
            let recent = |listed: &&Listed| listed.updated_at >= reach.back_to;
            let due = |listed: &&Listed| asked || listed.updated_at <= young;
            let recently: Vec<_> = listed.iter().filter(recent).filter(due).copied().collect();
            wanted.extend(self.changed(repository.id, &recently).await?);
            is_whole = !more || !listed.iter().all(|listed| recent(&listed));
            if is_whole {
                break;
            }
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        for batch in wanted.chunks(self.settings.batch_size as usize) {
            self.fetch(repository, batch, polled).await?;
        }
        // A stub that cannot be had lets others go first for a while.
        stubs.retain(|stub| {
            polled
                .not_fetched
                .iter()
                .any(|failed| failed.number == *stub)
        });
        let keys: Vec<_> = stubs
            .into_iter()
            .map(|number| PrKey {
                repo: repository.id,
                number,
            })
            .collect();
        self.store.mark_checked(&keys, Utc::now()).await?;
        Ok((newest.filter(|_| is_whole), reach.reconciles && is_whole))
    }

    /// The name belongs to another repository now: ours is looked for by its id, and asked for by its new name from the
    /// next round on.
    async fn moved(
        &self,
        repository: &TrackedRepository,
        other: RepoId,
    ) -> Result<FetchError, FetchError> {
        if let Ok(info) = self.client.repository_by_id(repository.id).await {
            let seen = Some(Seen {
                name: info.full_name,
                private: Some(info.private),
            });
            let brought = Brought {
                seen,
                ..Brought::default()
            };
            self.fetcher(Source::Poller)
                .follow_rename(repository.id, &repository.name, &brought)
                .await?;
        }
        Ok(FetchError::Another {
            name: repository.name.clone(),
            before: repository.id,
            now: other,
        })
    }

    fn reach(&self, repository: &TrackedRepository) -> Reach {
        let now = Utc::now();
        let reconciles = repository
            .reconciled_at
            .is_none_or(|at| now - at > RECONCILE);
        // Before that it is for the backfill to tell.
        let since = Timestamp::from(repository.tracked_since);
        let back_to = match (reconciles, repository.watermark) {
            (true, Some(watermark)) => {
                let days_back = TimeDelta::days(self.settings.backfill.days_back.into());
                let all = repository
                    .complete_since
                    .unwrap_or(since)
                    .max((now - days_back).into());
                // After a long pause what was not listed since is more than that.
                all.min(Timestamp::clamped(watermark.epoch() - OVERLAP))
            }
            (_, watermark) => {
                Timestamp::clamped(watermark.max(Some(since)).unwrap_or(since).epoch() - OVERLAP)
            }
        };
        Reach {
            back_to,
            reconciles,
        }
    }

    /// Those that GitHub shows otherwise than they were fetched last, if ever.
    async fn changed(
        &self,
        repo: RepoId,
        listed: &[Listed],
    ) -> tallyhook_store::Result<Vec<PrNumber>> {
        let keys: Vec<_> = listed
            .iter()
            .map(|listed| PrKey {
                repo,
                number: listed.number,
            })
            .collect();
        let known = self.store.load(&keys).await?;
        let changed = listed
            .iter()
            .zip(known)
            .filter(|(listed, known)| known.pull_request.fetched_at() < Some(listed.updated_at));
        Ok(changed.map(|(listed, _)| listed.number).collect())
    }

    async fn fetch(
        &self,
        repository: &TrackedRepository,
        numbers: &[PrNumber],
        polled: &mut Polled,
    ) -> Result<(), FetchError> {
        let keys: Vec<_> = numbers
            .iter()
            .map(|number| PrKey {
                repo: repository.id,
                number: *number,
            })
            .collect();
        let known: BTreeMap<PrNumber, PullRequest> = self
            .store
            .load(&keys)
            .await?
            .into_iter()
            .map(|known| (known.pull_request.key.number, known.pull_request))
            .collect();
        let fetcher = self.fetcher(Source::Poller);
        let brought = fetcher
            .numbers(&repository.name, Some(repository.id), numbers)
            .await?;
        fetcher
            .follow_rename(repository.id, &repository.name, &brought)
            .await?;
        let missed = brought.fetched.iter().filter(|fetched| {
            let is_old = fetched.is_beyond_webhooks(Utc::now().into());
            is_old
                && known
                    .get(&fetched.number)
                    .is_some_and(|known| known.is_behind(fetched))
        });
        polled.missed.extend(missed.map(|fetched| fetched.number));
        polled.fetched += brought.fetched.len() as u64;
        let not_got = brought
            .not_got
            .into_iter()
            .map(|NotGot { number, why, .. }| NotFetched { number, why });
        polled.not_fetched.extend(not_got);
        Ok(())
    }

    fn fetcher(&self, source: Source) -> Fetcher {
        Fetcher {
            client: self.client.clone(),
            store: self.store.clone(),
            source,
            lane: Lane::Live,
            commits: self.settings.backfill.commits,
        }
    }

    /// Asks for one pull request, as often as is set.
    async fn look_at(&self, watched: WatchedPullRequest) {
        let WatchedPullRequest {
            repo_name, number, ..
        } = &watched;
        let mut tries = 0;
        let outcome = loop {
            tries += 1;
            match self.look_once(repo_name, *number).await {
                // What GitHub refuses it refuses again.
                Err(FetchError::Github(
                    GithubError::Unreachable { .. } | GithubError::TooMuch { .. },
                )) if tries <= self.settings.monitor.max_retries => {
                    self.client.wait(self.settings.monitor.retry_delay).await;
                }
                outcome => {
                    break outcome
                        .map_err(|error| error.to_string())
                        .and_then(|ended| ended);
                }
            }
        };
        let noted = match &outcome {
            // It ended: what comes after is in no need of being watched.
            Ok(true) => self.store.unwatch(repo_name, *number).await.map(drop),
            Ok(false) => {
                self.store
                    .record_watch_check(repo_name, *number, Utc::now(), Ok(()))
                    .await
            }
            Err(why) => {
                tracing::warn!(
                    repo = repo_name,
                    number = number.0,
                    error = why,
                    "a watched pull request was not got"
                );
                self.store
                    .record_watch_check(repo_name, *number, Utc::now(), Err(why))
                    .await
            }
        };
        if let Err(error) = noted {
            tracing::error!(%error, "a watched pull request could not be noted");
        }
    }

    /// Whether the pull request has ended.
    async fn look_once(
        &self,
        repo_name: &str,
        number: PrNumber,
    ) -> Result<Result<bool, String>, FetchError> {
        let brought = self
            .fetcher(Source::Monitor)
            .numbers(repo_name, None, &[number])
            .await?;
        Ok(match brought.not_got.into_iter().next() {
            Some(NotGot { why, .. }) => Err(why),
            None => Ok(brought
                .fetched
                .iter()
                .all(|fetched| !fetched.pull_request.conversation.open)),
        })
    }
}

fn tell(ended: tallyhook_store::Result<Ended>) {
    match ended {
        Ok(Ended::Finished(run)) => {
            let (repo, prs, failed) = (&run.repo_name, run.prs_done, run.errors.len());
            match (&run.error, run.state) {
                (Some(error), RunState::Failed) => tracing::warn!(repo, error, "a backfill failed"),
                _ => tracing::info!(repo, prs, failed, "a backfill is done"),
            }
        }
        Ok(Ended::PutOff(run, until)) => {
            tracing::warn!(repo = run.repo_name, %until, error = run.error, "a backfill waits for GitHub");
        }
        Ok(Ended::LetGo) => {
            tracing::info!("a backfill was cancelled, or another process goes on with it")
        }
        Err(error) => {
            tracing::error!(%error, "a backfill broke off; it goes on when the database is back")
        }
    }
}
