//! Pull requests from GitHub into the inbox, whole: from there they go the way of any webhook.

use std::time::Duration;

use chrono::Utc;
use futures_util::future::try_join_all;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::join::Dated;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::repository::{Access, Repository, Seen};
use tallyhook_core::event::{self, FetchedPullRequest};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};
use tallyhook_github_client::pulls::{Got, NotGot};
use tallyhook_github_client::{Client, GithubError};
use tallyhook_store::{
    AcceptOutcome, BatchWrite, DeliveryState, RepositoryObservation, Store, StoreError,
};
use thiserror::Error;
use tokio::time::{Instant, sleep};

/// How long somebody who wants the latest waits until it is applied.
const APPLYING: Duration = Duration::from_secs(5);
const LOOKING: Duration = Duration::from_millis(20);

/// Fetches pull requests.
#[derive(Clone)]
pub struct Fetcher {
    pub client: Client,
    pub store: Store,
    pub source: Source,
    pub lane: Lane,
    /// Whether the dates of the commits are asked for.
    pub commits: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Brought {
    /// As GitHub shows the repository now.
    pub seen: Option<Seen>,
    /// In the inbox, be it since now or from before.
    pub fetched: Vec<FetchedPullRequest>,
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
    #[error(
        "{name} is another repository on GitHub now (id {now} instead of {before}): track it anew"
    )]
    Another {
        name: String,
        before: RepoId,
        now: RepoId,
    },
    #[error("there is no memory for an answer: {0}")]
    Memory(#[from] std::io::Error),
}

/// Why what is known of a pull request is not known to be what GitHub shows.
#[derive(Debug, Error)]
pub enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// GitHub says that there is none.
    #[error("{0}")]
    Missing(String),
    #[error("{0}")]
    NotGot(String),
    #[error("what GitHub shows is not applied yet")]
    TooLate,
    #[error("GitHub did not answer in time")]
    Unanswered,
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
    pub async fn numbers(
        &self,
        of: &str,
        repo: Option<RepoId>,
        numbers: &[PrNumber],
    ) -> Result<Brought, FetchError> {
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
                    let not_got = |number: &PrNumber| NotGot {
                        number: *number,
                        why: why.clone(),
                        missing: false,
                    };
                    brought.not_got.extend(part.iter().map(not_got));
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
        let Got {
            repository,
            whole,
            not_got,
            asked_at,
        } = got;
        if let (Some(before), Some(now)) = (repo, repository.id)
            && before != now
        {
            return Err(FetchError::Another {
                name: repository.name_with_owner,
                before,
                now,
            });
        }
        let mut brought = Brought {
            not_got,
            ..Brought::default()
        };
        for whole in whole {
            let number = whole.pull_request.number;
            match event::fetched(
                &repository,
                whole.pull_request,
                self.commits,
                whole.truncated,
                asked_at.into(),
            ) {
                Ok(fetched) => brought.fetched.push(fetched),
                Err(unusable) => {
                    brought.not_got.push(NotGot {
                        number,
                        why: unusable.to_string(),
                        missing: false,
                    });
                }
            }
        }
        let now = Utc::now();
        let accepted = brought.fetched.iter().map(|fetched| async {
            let delivery = crate::incoming::fetched(fetched.clone(), self.source, self.lane, now)?;
            Ok::<AcceptOutcome, FetchError>(self.store.accept(delivery).await?)
        });
        try_join_all(accepted).await?;
        brought.seen = Some(Seen {
            name: repository.name_with_owner,
            private: Some(repository.is_private),
        });
        Ok(brought)
    }

    /// Makes sure that what is known of a pull request is what GitHub shows now, and is applied. Costs nothing where
    /// nothing has changed.
    ///
    /// # Errors
    /// If GitHub does not tell, or what it told is not applied in time.
    pub async fn refresh(&self, of: &str, key: PrKey) -> Result<(), RefreshError> {
        let asked_at = Utc::now();
        let listed = self
            .client
            .listed(of, key.number)
            .await
            .map_err(FetchError::from)?;
        let known = self.store.load(&[key]).await?;
        let is_current = known
            .first()
            .is_some_and(|known| known.pull_request.fetched_at() >= Some(listed.updated_at));
        if !is_current {
            let brought = self.numbers(of, Some(key.repo), &[key.number]).await?;
            match brought.not_got.into_iter().next() {
                Some(NotGot {
                    why, missing: true, ..
                }) => return Err(RefreshError::Missing(why)),
                Some(NotGot { why, .. }) => return Err(RefreshError::NotGot(why)),
                None => self.applied(key).await?,
            }
        }
        Ok(self.store.mark_checked(&[key], asked_at).await?)
    }

    /// Waits until everything that was fetched of a pull request is applied, be it since now or from before.
    async fn applied(&self, key: PrKey) -> Result<(), RefreshError> {
        let guid = PullRequest::id(key).to_string();
        let deadline = Instant::now() + APPLYING;
        loop {
            let fetched = self.store.deliveries_by_guid(&guid).await?;
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
            sleep(LOOKING).await;
        }
    }

    /// Notes that GitHub led us to a repository under another name: the webhook that told so was missed.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn follow_rename(
        &self,
        repo: RepoId,
        before: &str,
        brought: &Brought,
    ) -> Result<(), StoreError> {
        let Some(Seen { name, private }) = brought.seen.clone().filter(|seen| seen.name != before)
        else {
            return Ok(());
        };
        tracing::info!(before, now = name, "a repository was renamed");
        let sighting = RepositoryObservation {
            repository: seen(repo, name, private),
            last_delivery: None,
            tracks: None,
        };
        let recording = BatchWrite {
            repositories: vec![sighting],
            ..BatchWrite::default()
        };
        let _conflict_of_none = self.store.record(&recording, Utc::now()).await?;
        Ok(())
    }
}

/// A repository as GitHub shows it now.
pub fn seen(id: RepoId, name: String, private: Option<bool>) -> Repository {
    let at = Utc::now().into();
    Repository {
        id,
        seen: Dated {
            at,
            value: Seen { name, private },
        },
        installation: None,
        access: Dated {
            at,
            value: Access::Granted,
        },
    }
}

impl Brought {
    fn add(&mut self, more: Self) {
        self.seen = more.seen.or(self.seen.take());
        self.fetched.extend(more.fetched);
        self.not_got.extend(more.not_got);
    }
}
