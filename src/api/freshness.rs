//! Refreshing pull requests from GitHub: before an answer on request, or in the background after an
//! answer that is old.

use chrono::Utc;
use parking_lot::Mutex;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::types::{PrKey, Timestamp};
use tallyhook_github_client::Client;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ApiState;
use super::error::ApiError;
use crate::sync::fetch::{FetchError, PullRequestFetcher, RefreshError};

/// The most refreshes in the background; further ones are skipped until one ends.
const MAX_REFRESHES: usize = 4;

/// The refreshes under way in the background. Dropping it cancels them.
#[derive(Debug, Default)]
pub struct BackgroundRefresh(Mutex<JoinSet<()>>);

impl ApiState {
    /// Fetches a pull request from GitHub and applies it, before it is read.
    pub(super) async fn refresh(&self, name: &str, key: PrKey) -> Result<(), ApiError> {
        let fetcher = self.fetcher(self.github()?);
        let refreshed = timeout(self.sync.timeout, fetcher.refresh(name, key)).await;
        refreshed
            .unwrap_or(Err(RefreshError::Unanswered))
            .map_err(ApiError::from)
    }

    /// Starts a refresh in the background if the answer is older than `PR_CACHE_TTL`.
    pub(super) fn refresh_in_background(&self, name: &str, key: PrKey, as_of: Timestamp) {
        let age = Utc::now().timestamp() - as_of.epoch();
        let is_old = u64::try_from(age).is_ok_and(|age| age > self.sync.cache_ttl.as_secs());
        let is_up = |github: &&Client| !github.is_left_alone();
        let Some(github) = self.github.as_ref().filter(|_| is_old).filter(is_up) else {
            return;
        };
        let mut refreshes = self.refreshes.0.lock();
        while refreshes.try_join_next().is_some() {}
        if refreshes.len() < MAX_REFRESHES {
            let (fetcher, name, limit) = (self.fetcher(github), name.to_owned(), self.sync.timeout);
            refreshes.spawn(async move {
                if let Ok(Err(error)) = timeout(limit, fetcher.refresh(&name, key)).await {
                    tracing::warn!(
                        repo.name = name,
                        pr.number = key.number.0,
                        %error,
                        "cannot refresh {name}#{} in the background",
                        key.number
                    );
                }
            });
        }
    }

    pub(super) fn fetcher(&self, github: &Client) -> PullRequestFetcher {
        PullRequestFetcher {
            client: github.clone(),
            store: self.store.clone(),
            source: Source::Poller,
            lane: Lane::Live,
            commits: self.sync.backfill.commits,
        }
    }
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Fetch(FetchError::Github(error)) => error.into(),
            RefreshError::Fetch(FetchError::Store(error)) => error.into(),
            RefreshError::Fetch(error @ FetchError::ReplacedRepository { .. }) => {
                Self::Conflict(error.to_string())
            }
            RefreshError::Missing(_) => Self::NotFound("pull request"),
            RefreshError::NotGot(why) => Self::GithubFailed(why),
            error @ (RefreshError::Fetch(FetchError::Memory(_))
            | RefreshError::TooLate
            | RefreshError::Unanswered) => Self::GithubUnavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;

    use super::*;
    use tallyhook_core::github::types::RepoId;

    #[test]
    fn refresh_error_is_404_only_if_github_has_no_such_pull_request() {
        let why = || "resource limits".to_owned();
        let another = FetchError::ReplacedRepository {
            name: "a/b".to_owned(),
            before: RepoId(1),
            now: RepoId(2),
        };
        for (error, status) in [
            (RefreshError::Missing(why()), 404),
            (another.into(), 409),
            (RefreshError::NotGot(why()), 502),
            (RefreshError::TooLate, 503),
            (RefreshError::Unanswered, 503),
        ] {
            let message = error.to_string();
            let answer = ApiError::from(error);
            assert_eq!(answer.status_code(), status, "{answer}");
            assert!(status == 404 || answer.to_string() == message, "{answer}");
        }
    }
}
