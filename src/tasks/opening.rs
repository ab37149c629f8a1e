//! Opening of pull requests for tasks: on request, or after a push to the task's branch.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tallyhook_core::backoff::Backoff;
use tallyhook_core::domain::notification::PullRequestStatus;
use tallyhook_core::domain::task::{TaskId, TaskStatus};
use tallyhook_core::github::types::PrKey;
use tallyhook_github_client::GithubError;
use tallyhook_github_client::open_pull_request::{
    NewPullRequest, OpenPullRequestError, OpenedPullRequest,
};
use tallyhook_store::{
    LeaderRole, PendingWork, Result, Store, StoreError, StoredPullRequest, Task, TaskCause,
    TaskRef, TaskUpdate, TeamId,
};
use thiserror::Error;
use tokio::sync::watch;

use super::{LOAD_BATCH, is_of_branch, linked};
use crate::leader::{OutboxWorker, lead_worker};
use crate::sync::fetch::{PullRequestFetcher, RefreshError};

/// Due tasks that are read at once.
const PAGE: u32 = 16;
/// GitHub's limit for the title of a pull request, in characters.
const MAX_TITLE: usize = 256;
/// Attempts to write to a task's history while others change the task.
const HISTORY_ATTEMPTS: usize = 8;
/// Attempts while GitHub is unreachable or limits us. After that only the next push tries again.
const MAX_ATTEMPTS: u32 = 8;
/// The delay between these attempts.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(30),
    max: Duration::from_hours(2),
};

/// Opens pull requests of tasks.
#[derive(Clone)]
pub struct PullRequestOpener {
    pub fetcher: PullRequestFetcher,
    /// `owner/name`, for tasks that name none.
    pub default_repository: Option<String>,
}

/// The fields of a new pull request that the caller sets. The task provides the others.
#[derive(Clone, Debug, Default)]
pub struct PullRequestOptions {
    /// `owner/name`
    pub repo: Option<String>,
    pub head: Option<String>,
    pub base: Option<String>,
    pub title: Option<String>,
    pub body: Option<String>,
    pub draft: bool,
}

/// The open pull request of a task, with its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPullRequest {
    /// `owner/name`, as requested.
    pub repo: String,
    pub opened: OpenedPullRequest,
}

/// The reason why no pull request was opened for a task.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the task has no repository, and there is no default one")]
    NoRepository,
    #[error("the task has no branch")]
    NoBranch,
    #[error(transparent)]
    NotOpened(#[from] OpenPullRequestError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PullRequestOpener {
    /// Opens a pull request for a task or finds the open one, links it, and records it in the
    /// task's history.
    ///
    /// # Errors
    /// [`OpenError`]. A repeated call finds the pull request if it was opened.
    pub async fn open(
        &self,
        task: &Task,
        options: &PullRequestOptions,
    ) -> Result<TaskPullRequest, OpenError> {
        let PullRequestOptions {
            repo,
            head,
            base,
            title,
            body,
            draft,
        } = options;
        let repo = repo
            .as_ref()
            .or(task.place.repo.as_ref())
            .or(self.default_repository.as_ref());
        let repo = repo.ok_or(OpenError::NoRepository)?;
        let head = head
            .as_ref()
            .or(task.place.branch.as_ref())
            .ok_or(OpenError::NoBranch)?;
        let title = title
            .clone()
            .unwrap_or_else(|| task.title.chars().take(MAX_TITLE).collect());
        let (base, body) = (base.as_deref(), body.as_deref().unwrap_or_default());
        let new = NewPullRequest {
            head,
            base,
            title: &title,
            body,
            draft: *draft,
        };
        let opened = self.fetcher.client.open_pull_request(repo, &new).await?;
        let is_linked_now = self
            .fetcher
            .store
            .of_team(task.team)
            .link_task(task.id, opened.key, Utc::now())
            .await?;
        if opened.created || is_linked_now {
            let how = if opened.created { "opened" } else { "found" };
            self.record_opened(
                (task.team, task.id),
                opened.key,
                format!("{how} {}", opened.html_url),
            )
            .await?;
        }
        Ok(TaskPullRequest {
            repo: repo.clone(),
            opened,
        })
    }

    /// Fetches the pull request and waits until it is applied, independent of its webhook.
    ///
    /// # Errors
    /// [`RefreshError`]; then its webhook or the poller delivers it later.
    pub async fn fetch(&self, pull_request: &TaskPullRequest) -> Result<(), RefreshError> {
        self.fetcher
            .refresh(&pull_request.repo, pull_request.opened.key)
            .await
    }

    /// Records the pull request in the task's history. That also completes pending pushes to its
    /// branch.
    async fn record_opened(
        &self,
        (team, id): (TeamId, TaskId),
        key: PrKey,
        note: String,
    ) -> Result<()> {
        let store = &self.fetcher.store;
        let update = TaskUpdate {
            done: PendingWork::PUSH,
            noted: Some((TaskCause::PullRequestMade, Some(key), note)),
            ..TaskUpdate::default()
        };
        for _ in 0..HISTORY_ATTEMPTS {
            let task = store.of_team(team).task(&TaskRef::Id(id)).await?;
            let Some(task) = task else {
                return Ok(());
            };
            if store
                .update_task_if_current(&task, &update, Utc::now())
                .await?
            {
                return Ok(());
            }
        }
        tracing::warn!(
            task.id = %id,
            "cannot record the opened pull request in the history of task {id}: it changed \
             {HISTORY_ATTEMPTS} times in between"
        );
        Ok(())
    }
}

/// Opens pull requests for tasks in implementation after a push to their branch.
pub struct AutoPullRequests {
    pub opener: PullRequestOpener,
}

impl AutoPullRequests {
    /// Handles pushes until `stopping` is true.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        let store = self.opener.fetcher.store.clone();
        lead_worker(&store, LeaderRole::Opener, stopping, &mut self).await;
    }

    fn store(&self) -> &Store {
        &self.opener.fetcher.store
    }

    /// Handles the pushes to one task's branch.
    async fn handle_push(&self, task: &Task) -> Result<()> {
        let done = TaskUpdate {
            done: PendingWork::PUSH,
            ..TaskUpdate::default()
        };
        let update = match task.state.status {
            TaskStatus::Implementing if self.has_open_pull_request(task).await? => done,
            TaskStatus::Implementing => {
                match self.opener.open(task, &PullRequestOptions::default()).await {
                    Ok(pull_request) => {
                        self.fetch_opened(task, &pull_request).await;
                        done
                    }
                    // The task's branch was removed in between.
                    Err(OpenError::NoRepository | OpenError::NoBranch) => done,
                    Err(OpenError::Store(error)) => return Err(error),
                    Err(OpenError::NotOpened(reason)) => self.not_opened(task, &reason).await?,
                }
            }
            _ => done,
        };
        // A push or a change in between has marked the task again; then this update does not apply.
        self.store()
            .update_task_if_current(task, &update, Utc::now())
            .await
            .map(|_| ())
    }

    /// Fetches a pull request that was opened for a task.
    async fn fetch_opened(&self, task: &Task, pull_request: &TaskPullRequest) {
        let Err(error) = self.opener.fetch(pull_request).await else {
            return;
        };
        let (repo, number) = (&pull_request.repo, pull_request.opened.key.number.0);
        tracing::warn!(
            task.id = %task.id,
            repo.name = repo,
            pr.number = number,
            %error,
            "{repo}#{number} was opened for task {}, but cannot be fetched yet; its webhook or the \
             poller delivers it",
            task.id
        );
    }

    /// Returns true if an open pull request of the task has the task's branch as its head. Its base
    /// does not matter: a person chose it.
    async fn has_open_pull_request(&self, task: &Task) -> Result<bool> {
        let Some(name) = &task.place.repo else {
            return Ok(false);
        };
        let store = self.store().of_team(task.team);
        let repo = store.repository_id(name).await?;
        let is_open = |known: &StoredPullRequest| {
            is_of_branch(task, &known.pull_request)
                && linked(known).is_some_and(|pr| {
                    pr.status == PullRequestStatus::Open && Some(pr.key.repo) == repo
                })
        };
        for keys in task.prs.chunks(LOAD_BATCH) {
            if self.store().load(keys).await?.iter().any(is_open) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Schedules a retry of a transient failure. A permanent one is recorded in the task's history,
    /// once as long as it stays the same, and only the next push tries again.
    async fn not_opened(&self, task: &Task, reason: &OpenPullRequestError) -> Result<TaskUpdate> {
        if let Some(at) = retry_at(reason, task.tries, Utc::now()) {
            return Ok(TaskUpdate {
                again: Some(at),
                ..TaskUpdate::default()
            });
        }
        let note = reason.to_string();
        let store = self.store().of_team(task.team);
        let last = store.task_history(task.id, 1).await?.pop();
        let is_recorded = last.is_some_and(|last| {
            last.cause == TaskCause::PullRequestRefused
                && last.note.as_deref() == Some(note.as_str())
        });
        tracing::warn!(
            task.id = %task.id,
            reason = note,
            "no pull request was opened for task {}: {note}",
            task.id
        );
        let noted = (!is_recorded).then_some((TaskCause::PullRequestRefused, None, note));
        Ok(TaskUpdate {
            done: PendingWork::PUSH,
            noted,
            ..TaskUpdate::default()
        })
    }
}

/// Returns the time of the next attempt after a failure that followed `attempts` others; `None` if
/// a retry cannot help.
fn retry_at(
    reason: &OpenPullRequestError,
    attempts: u32,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let later = now + BACKOFF.delay(attempts + 1);
    match reason {
        OpenPullRequestError::Github(_) if attempts + 1 >= MAX_ATTEMPTS => None,
        OpenPullRequestError::Github(GithubError::Limited { until }) => Some(later.max(*until)),
        OpenPullRequestError::Github(
            GithubError::Unreachable { .. } | GithubError::Unknown { .. },
        ) => Some(later),
        _ => None,
    }
}

#[async_trait::async_trait]
impl OutboxWorker for AutoPullRequests {
    const ERROR_MESSAGE: &str = "cannot open pull requests for tasks";

    async fn run_once(&mut self) -> Result<()> {
        loop {
            let tasks = self
                .store()
                .due_tasks(PendingWork::PUSH, Utc::now(), PAGE)
                .await?;
            if tasks.is_empty() {
                return Ok(());
            }
            for task in &tasks {
                self.handle_push(task).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use tallyhook_github_client::CredentialOwner;

    use super::*;

    #[test]
    fn unreachable_github_is_retried_with_backoff_up_to_the_last_attempt() {
        let now = DateTime::from_timestamp(1_772_445_600, 0).unwrap();
        let text = String::new;
        let unreachable = OpenPullRequestError::Github(GithubError::Unreachable {
            origin: text(),
            reason: text(),
        });
        let delay =
            |attempts| retry_at(&unreachable, attempts, now).map(|at| (at - now).num_seconds());
        let delays: Vec<_> = (0..9).map(delay).collect();
        assert_eq!(delays[..7], [30, 60, 120, 240, 480, 960, 1920].map(Some));
        assert_eq!(delays[7..], [None, None]);
        let until = now + TimeDelta::hours(2);
        assert_eq!(
            retry_at(
                &OpenPullRequestError::Github(GithubError::Limited { until }),
                0,
                now
            ),
            Some(until)
        );
        for permanent in [
            OpenPullRequestError::NoNewCommits {
                head: text(),
                base: text(),
            },
            OpenPullRequestError::Github(GithubError::Unauthorized {
                message: text(),
                owner: CredentialOwner::Setting,
            }),
        ] {
            assert_eq!(retry_at(&permanent, 0, now), None);
        }
    }
}
