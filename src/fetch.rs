//! Pull requests from GitHub into the inbox, whole: from there they go the way of any webhook.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::future::try_join_all;
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::domain::pull_request::Source;
use crate::event::{self, FetchedPullRequest};
use crate::github::client::pulls::{Got, NotGot};
use crate::github::client::{Client, GithubError};
use crate::github::types::{PrKey, PrNumber, RepoId};
use crate::queue::{DeliveryId, Lane};
use crate::store::{Accepted, DeliveryState, NewDelivery, Store, StoreError};

/// How long somebody who wants the latest waits until it is applied.
const APPLYING: Duration = Duration::from_secs(5);
const LOOKING: Duration = Duration::from_millis(20);

/// Fetches pull requests.
#[derive(Clone)]
pub struct Fetcher {
    pub client: Client,
    pub store: Arc<dyn Store>,
    pub source: Source,
    pub lane: Lane,
    /// Whether the dates of the commits are asked for.
    pub commits: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Brought {
    /// As GitHub calls the repository now.
    pub name: Option<String>,
    /// In the inbox, be it since now or from before.
    pub fetched: Vec<FetchedPullRequest>,
    /// Those of them that were not there before.
    pub new: Vec<DeliveryId>,
    pub not_got: Vec<NotGot>,
}

/// Why nothing could be brought.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error(transparent)]
    Github(#[from] GithubError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name was given to another repository.
    #[error("{name} is another repository on GitHub now (id {now} instead of {before}): track it anew")]
    Another { name: String, before: RepoId, now: RepoId },
    #[error("there is no memory for an answer: {0}")]
    Memory(#[from] std::io::Error),
}

/// Why what is known of a pull request is not known to be what GitHub shows.
#[derive(Debug, Error)]
pub enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    NotGot(String),
    #[error("what GitHub shows is not applied yet")]
    TooLate,
}

impl From<StoreError> for RefreshError {
    fn from(error: StoreError) -> Self {
        Self::Fetch(error.into())
    }
}

impl Fetcher {
    /// Brings those of the repository `of` (`owner/name`, known as `repo` if it is known) that have these numbers.
    ///
    /// # Errors
    /// [`FetchError`]; what concerns one of them alone is told in what is brought.
    pub async fn numbers(&self, of: &str, repo: Option<RepoId>, numbers: &[PrNumber]) -> Result<Brought, FetchError> {
        let mut brought = Brought::default();
        let mut parts = vec![numbers];
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            match self.client.numbered(of, part, self.commits).await {
                Ok(got) => brought.add(self.take_in(got, repo).await?),
                Err(GithubError::TooMuch { .. }) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error @ GithubError::TooMuch { .. }) => {
                    let why = error.to_string();
                    brought.not_got.extend(part.iter().map(|number| NotGot { number: *number, why: why.clone() }));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(brought)
    }

    /// Puts what was got into the inbox.
    ///
    /// # Errors
    /// [`FetchError`]; what concerns one pull request alone is told in what is brought.
    pub async fn take_in(&self, got: Got, repo: Option<RepoId>) -> Result<Brought, FetchError> {
        let Got { repository, whole, not_got } = got;
        if let (Some(before), Some(now)) = (repo, repository.id)
            && before != now
        {
            return Err(FetchError::Another { name: repository.name_with_owner, before, now });
        }
        let mut brought = Brought { not_got, ..Brought::default() };
        let now = Utc::now();
        for whole in whole {
            let number = whole.pull_request.number;
            match event::fetched(&repository, whole.pull_request, self.commits, whole.truncated, now.into()) {
                Ok(fetched) => brought.fetched.push(fetched),
                Err(unusable) => {
                    brought.not_got.push(NotGot { number, why: unusable.to_string() });
                }
            }
        }
        let accepted = brought.fetched.iter().map(|fetched| async {
            let delivery = NewDelivery::fetched(fetched.clone(), self.source, self.lane, now)?;
            Ok::<_, FetchError>(self.store.accept(delivery).await?)
        });
        brought.new = try_join_all(accepted).await?.into_iter().filter_map(newly).collect();
        brought.name = Some(repository.name_with_owner);
        Ok(brought)
    }

    /// Makes sure that what is known of a pull request is what GitHub shows now, and is applied. Costs nothing where
    /// nothing has changed.
    ///
    /// # Errors
    /// If GitHub does not tell, or what it told is not applied in time.
    pub async fn refresh(&self, of: &str, key: PrKey) -> Result<(), RefreshError> {
        let known = self.store.load(&[key]).await?;
        let is_whole = known.first().is_some_and(|known| known.pull_request.whole_until.is_some());
        let asked_at = Utc::now();
        let is_unchanged = self.client.is_unchanged(of, key.number).await.map_err(FetchError::from)?;
        if !(is_unchanged && is_whole) {
            let brought = self.numbers(of, Some(key.repo), &[key.number]).await?;
            if let Some(NotGot { why, .. }) = brought.not_got.into_iter().next() {
                return Err(RefreshError::NotGot(why));
            }
            self.applied(&brought.new).await?;
        }
        Ok(self.store.checked(&[key], asked_at).await?)
    }

    async fn applied(&self, ids: &[DeliveryId]) -> Result<(), RefreshError> {
        let deadline = Instant::now() + APPLYING;
        for id in ids {
            while self.store.delivery(*id).await?.is_some_and(|delivery| delivery.state == DeliveryState::Accepted) {
                if Instant::now() > deadline {
                    return Err(RefreshError::TooLate);
                }
                sleep(LOOKING).await;
            }
        }
        Ok(())
    }
}

impl Brought {
    fn add(&mut self, more: Self) {
        self.name = more.name.or(self.name.take());
        self.fetched.extend(more.fetched);
        self.new.extend(more.new);
        self.not_got.extend(more.not_got);
    }
}

fn newly(accepted: Accepted) -> Option<DeliveryId> {
    match accepted {
        Accepted::Stored(id) | Accepted::Requeued(id) => Some(id),
        Accepted::Duplicate => None,
    }
}
