//! Fetching of complete pull requests into the inbox. From there they are processed like webhooks.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::Utc;
use futures_util::future::try_join_all;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::join::Dated;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::repository::{Repository, RepositoryAccess, RepositoryDetails};
use tallyhook_core::event::{self, FetchedPullRequest};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};
use tallyhook_github_client::pulls::{FetchFailure, FetchedPullRequests};
use tallyhook_github_client::{Client, GithubError};
use tallyhook_store::{
    AcceptOutcome, BatchWrite, DeliveryState, RepositoryObservation, Store, StoreError,
};
use thiserror::Error;
use tokio::time::{Instant, sleep};

/// The time limit for a fetched pull request to be applied when a caller waits for it.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);
const APPLY_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Fetches pull requests.
#[derive(Clone)]
pub struct PullRequestFetcher {
    pub client: Client,
    pub store: Store,
    pub source: Source,
    pub lane: Lane,
    /// Fetch the dates of the commits, too.
    pub commits: bool,
}

/// The result of a fetch.
#[derive(Debug, Default)]
pub struct FetchOutcome {
    /// The repository as GitHub shows it now.
    pub seen: Option<RepositoryDetails>,
    /// Pull requests that are in the inbox, stored by this fetch or an earlier one.
    pub fetched: Vec<FetchedPullRequest>,
    pub not_got: Vec<FetchFailure>,
}

/// The failure of a whole fetch.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error(transparent)]
    Github(#[from] GithubError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name belongs to another repository now.
    #[error(
        "{name} is another repository on GitHub now (id {now} instead of {before}): track it again"
    )]
    ReplacedRepository {
        name: String,
        before: RepoId,
        now: RepoId,
    },
    #[error("cannot compress a pull request for the inbox: {0}")]
    Memory(#[from] std::io::Error),
}

/// The reason why a stored pull request could not be brought up to date.
#[derive(Debug, Error)]
pub enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// GitHub has no such pull request.
    #[error("{0}")]
    Missing(String),
    #[error("{0}")]
    NotGot(String),
    #[error("the fetched pull request is not applied yet; try again")]
    TooLate,
    #[error("GitHub did not answer in time")]
    Unanswered,
}

impl From<StoreError> for RefreshError {
    fn from(error: StoreError) -> Self {
        Self::Fetch(error.into())
    }
}

impl PullRequestFetcher {
    /// Fetches the pull requests with these numbers of the repository `name` (`owner/name`). `repo`
    /// is its id if it is known.
    ///
    /// # Errors
    /// [`FetchError`]; failures of single pull requests are in the result.
    pub async fn fetch_numbers(
        &self,
        name: &str,
        repo: Option<RepoId>,
        numbers: &[PrNumber],
    ) -> Result<FetchOutcome, FetchError> {
        let mut outcome = FetchOutcome::default();
        let mut parts = vec![numbers];
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            match self
                .client
                .pull_requests_by_number(name, part, self.commits)
                .await
            {
                Ok(got) => outcome.add(self.store_fetched(got, repo).await?),
                Err(GithubError::TooMuch { .. }) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error @ GithubError::TooMuch { .. }) => {
                    let why = error.to_string();
                    let not_got = |number: &PrNumber| FetchFailure {
                        number: *number,
                        reason: why.clone(),
                        missing: false,
                    };
                    outcome.not_got.extend(part.iter().map(not_got));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(outcome)
    }

    /// Stores fetched pull requests in the inbox.
    ///
    /// # Errors
    /// [`FetchError`]; failures of single pull requests are in the result.
    pub async fn store_fetched(
        &self,
        got: FetchedPullRequests,
        repo: Option<RepoId>,
    ) -> Result<FetchOutcome, FetchError> {
        let FetchedPullRequests {
            repository,
            complete,
            failures: not_got,
            asked_at,
        } = got;
        if let (Some(before), Some(now)) = (repo, repository.id)
            && before != now
        {
            return Err(FetchError::ReplacedRepository {
                name: repository.name_with_owner,
                before,
                now,
            });
        }
        let mut outcome = FetchOutcome {
            not_got,
            ..FetchOutcome::default()
        };
        for whole in complete {
            let number = whole.pull_request.number;
            let left_out = whole.left_out;
            match event::fetched(
                &repository,
                whole.pull_request,
                self.commits,
                whole.truncated,
                asked_at.into(),
            ) {
                Ok(fetched) => outcome.fetched.push(fetched),
                Err(unusable) => {
                    outcome.not_got.push(FetchFailure {
                        number,
                        reason: left_out.unwrap_or_else(|| unusable.to_string()),
                        missing: false,
                    });
                }
            }
        }
        let now = Utc::now();
        let accepted = outcome.fetched.iter().map(|fetched| async {
            let delivery = crate::incoming::fetched(fetched.clone(), self.source, self.lane, now)?;
            Ok::<AcceptOutcome, FetchError>(self.store.accept(delivery).await?)
        });
        try_join_all(accepted).await?;
        outcome.seen = Some(RepositoryDetails {
            name: repository.name_with_owner,
            private: Some(repository.is_private),
        });
        Ok(outcome)
    }

    /// Brings a stored pull request up to date with GitHub and waits until the change is applied.
    /// An unchanged pull request costs no request of the rate limit.
    ///
    /// # Errors
    /// If GitHub fails, or the change is not applied in time.
    pub async fn refresh(&self, name: &str, key: PrKey) -> Result<(), RefreshError> {
        let asked_at = Utc::now();
        let listed = self
            .client
            .pull_request_summary(name, key.number)
            .await
            .map_err(FetchError::from)?;
        let stored = self.store.load(&[key]).await?;
        let is_current = stored
            .first()
            .is_some_and(|stored| stored.pull_request.fetched_at() >= Some(listed.updated_at));
        if !is_current {
            let outcome = self
                .fetch_numbers(name, Some(key.repo), &[key.number])
                .await?;
            match outcome.not_got.into_iter().next() {
                Some(FetchFailure {
                    reason,
                    missing: true,
                    ..
                }) => return Err(RefreshError::Missing(reason)),
                Some(FetchFailure { reason, .. }) => return Err(RefreshError::NotGot(reason)),
                None => self.wait_applied(key).await?,
            }
        }
        Ok(self.store.mark_checked(&[key], asked_at).await?)
    }

    /// Waits until every fetched version of a pull request in the inbox is applied.
    async fn wait_applied(&self, key: PrKey) -> Result<(), RefreshError> {
        let guid = PullRequest::id(key).to_string();
        let deadline = Instant::now() + APPLY_TIMEOUT;
        loop {
            let mut fetched = self.store.deliveries_by_guid(&guid).await?;
            // The header with a webhook's GUID is not signed, and a pull request's id no secret.
            fetched.retain(|delivery| delivery.source != Source::Webhook);
            if !fetched
                .iter()
                .any(|delivery| delivery.state == DeliveryState::Accepted)
            {
                let newest = fetched.into_iter().max_by_key(|delivery| delivery.id);
                let dead = newest.filter(|delivery| delivery.state == DeliveryState::Dead);
                return dead.map_or(Ok(()), |dead| {
                    Err(RefreshError::NotGot(dead.reason.unwrap_or_default()))
                });
            }
            if Instant::now() > deadline {
                return Err(RefreshError::TooLate);
            }
            sleep(APPLY_CHECK_INTERVAL).await;
        }
    }

    /// Records a new name of the repository, whose webhook was missed, if GitHub redirected to it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn follow_rename(
        &self,
        repo: RepoId,
        before: &str,
        outcome: &FetchOutcome,
    ) -> Result<(), StoreError> {
        let Some(RepositoryDetails { name, private }) =
            outcome.seen.clone().filter(|seen| seen.name != before)
        else {
            return Ok(());
        };
        tracing::info!(
            repo.id = repo.0,
            before,
            repo.name = name,
            "the repository {before} was renamed to {name}"
        );
        let observation = RepositoryObservation {
            repository: observed_repository(repo, name, private),
            former_names: BTreeMap::new(),
            last_delivery: None,
            tracks: None,
        };
        let recording = BatchWrite {
            repositories: vec![observation],
            ..BatchWrite::default()
        };
        // The batch has no pull request, so there is no version that could conflict.
        let _no_conflict = self.store.record(&recording, Utc::now()).await?;
        Ok(())
    }
}

/// Returns a repository with the name and visibility that GitHub shows now.
pub fn observed_repository(id: RepoId, name: String, private: Option<bool>) -> Repository {
    let at = Utc::now().into();
    Repository {
        id,
        seen: Dated {
            at,
            value: RepositoryDetails { name, private },
        },
        installation: None,
        access: Dated {
            at,
            value: RepositoryAccess::Granted,
        },
    }
}

impl FetchOutcome {
    fn add(&mut self, more: Self) {
        self.seen = more.seen.or(self.seen.take());
        self.fetched.extend(more.fetched);
        self.not_got.extend(more.not_got);
    }
}
