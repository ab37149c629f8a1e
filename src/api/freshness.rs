//! Pull requests as GitHub shows them now: asked for by somebody who waits, or behind an answer that is old.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::types::{PrKey, Timestamp};
use tallyhook_github_client::Client;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Api;
use super::error::ApiError;
use crate::sync::fetch::{FetchError, Fetcher, RefreshError};

/// Questions to GitHub that nobody waits for; more at once are not asked.
const BEHIND: usize = 4;

/// What is being asked behind answers. Ends with the server.
#[derive(Debug, Default)]
pub struct Behind(Mutex<JoinSet<()>>);

impl Api {
    /// Sees to it that what is known of a pull request is what GitHub shows now.
    pub(super) async fn refresh(&self, name: &str, key: PrKey) -> Result<(), ApiError> {
        let fetcher = self.fetcher(self.github()?);
        let refreshed = timeout(self.sync.timeout, fetcher.refresh(name, key)).await;
        refreshed
            .unwrap_or(Err(RefreshError::Unanswered))
            .map_err(ApiError::from)
    }

    /// The same behind an answer that is as of longer ago than is set.
    pub(super) fn refresh_behind(&self, name: &str, key: PrKey, as_of: Timestamp) {
        let age = Utc::now().timestamp() - as_of.epoch();
        let is_old = u64::try_from(age).is_ok_and(|age| age > self.sync.cache_ttl.as_secs());
        let Some(github) = self.github.as_ref().filter(|_| is_old) else {
            return;
        };
        let mut asking = self.behind.0.lock().unwrap_or_else(PoisonError::into_inner);
        while asking.try_join_next().is_some() {}
        if asking.len() < BEHIND {
            let (fetcher, name, patience) =
                (self.fetcher(github), name.to_owned(), self.sync.timeout);
            asking.spawn(async move {
                if let Ok(Err(error)) = timeout(patience, fetcher.refresh(&name, key)).await {
                    tracing::warn!(repo = name, number = key.number.0, %error, "a pull request could not be refreshed");
                }
            });
        }
    }

    pub(super) fn fetcher(&self, github: &Client) -> Fetcher {
        Fetcher {
            client: github.clone(),
            store: Arc::clone(&self.store),
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
            RefreshError::Fetch(error @ FetchError::Another { .. }) => {
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
    fn only_what_github_does_not_have_is_not_found() {
        let why = || "resource limits".to_owned();
        let another = FetchError::Another {
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
            let told = error.to_string();
            let answer = ApiError::from(error);
            assert_eq!(answer.status_code(), status, "{answer}");
            assert!(status == 404 || answer.to_string() == told, "{answer}");
        }
    }
}
