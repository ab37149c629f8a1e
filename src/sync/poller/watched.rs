//! Pull requests that are watched by polling, including those of untracked repositories.

use chrono::{TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::types::PrNumber;
use tallyhook_github_client::GithubError;
use tallyhook_github_client::pulls::FetchFailure;
use tallyhook_store::WatchedPullRequest;
use tokio::time::sleep;

use super::{Poller, TICK};
use crate::sync::fetch::FetchError;

impl Poller {
    /// Polls watched pull requests when they are due.
    pub(super) async fn monitor(&self) {
        let interval =
            TimeDelta::from_std(self.settings.monitor.poll_interval).unwrap_or(TimeDelta::MAX);
        let concurrency = self.settings.monitor.concurrent;
        loop {
            if self.client.outage().is_some() {
                sleep(TICK).await;
                continue;
            }
            let due = Utc::now().checked_sub_signed(interval).unwrap_or_default();
            match self.store.watched(due, concurrency).await {
                Ok(watched) => {
                    stream::iter(watched)
                        .for_each_concurrent(concurrency as usize, |watched| {
                            self.poll_watched(watched)
                        })
                        .await;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot read the watched pull requests; trying again")
                }
            }
            sleep(TICK).await;
        }
    }

    /// Fetches a watched pull request, with the configured retries, and records the result.
    async fn poll_watched(&self, watched: WatchedPullRequest) {
        let WatchedPullRequest {
            repo_name, number, ..
        } = &watched;
        let mut attempts = 0;
        let outcome = loop {
            attempts += 1;
            match self.fetch_watched(repo_name, *number).await {
                // A refusal would be repeated, so only these are retried.
                Err(FetchError::Github(
                    GithubError::Unreachable { .. } | GithubError::TooMuch { .. },
                )) if attempts <= self.settings.monitor.max_retries
                    && self.client.outage().is_none() =>
                {
                    self.client.wait(self.settings.monitor.retry_delay).await;
                }
                outcome => {
                    break outcome
                        .map_err(|error| error.to_string())
                        .and_then(|ended| ended);
                }
            }
        };
        let recorded = match &outcome {
            // It is closed or merged, so it is not watched any longer.
            Ok(true) => self.store.end_watches(repo_name, *number).await,
            Ok(false) => {
                self.store
                    .record_watch_check(repo_name, *number, Utc::now(), Ok(()))
                    .await
            }
            // It is still due after the outage, which is logged as a whole.
            Err(_) if self.client.outage().is_some() => Ok(()),
            Err(error) => {
                tracing::warn!(
                    repo.name = repo_name,
                    pr.number = number.0,
                    error,
                    "cannot fetch the watched pull request {repo_name}#{number}: {error}"
                );
                self.store
                    .record_watch_check(repo_name, *number, Utc::now(), Err(error))
                    .await
            }
        };
        if let Err(error) = recorded {
            tracing::error!(
                repo.name = repo_name,
                pr.number = number.0,
                %error,
                "cannot record the check of the watched pull request {repo_name}#{number}"
            );
        }
    }

    /// Fetches a pull request. Returns true if it is closed or merged; the inner error is the
    /// reason why this one could not be fetched.
    async fn fetch_watched(
        &self,
        repo_name: &str,
        number: PrNumber,
    ) -> Result<Result<bool, String>, FetchError> {
        let outcome = self
            .fetcher(Source::Monitor)
            .fetch_numbers(repo_name, None, &[number])
            .await?;
        Ok(match outcome.not_got.into_iter().next() {
            Some(FetchFailure { reason, .. }) => Err(reason),
            None => Ok(outcome
                .fetched
                .iter()
                .all(|fetched| !fetched.pull_request.conversation.open)),
        })
    }
}
