//! Pull requests that are opened for tasks: since a person wants it, or since the task's branch was pushed to.

use chrono::{DateTime, TimeDelta, Utc};
use tallyhook_core::domain::notification::Status;
use tallyhook_core::domain::task::{TaskId, TaskStatus};
use tallyhook_core::github::types::PrKey;
use tallyhook_github_client::GithubError;
use tallyhook_github_client::creation::{NewPull, NotOpened, Opened};
use tallyhook_store::{
    LeaderRole, PendingWork, Result, Store, StoreError, StoredPullRequest, Task, TaskCause,
    TaskRef, TaskUpdate,
};
use thiserror::Error;
use tokio::sync::watch;

use super::{AT_ONCE, is_of_branch, linked};
use crate::leader::{OutboxWorker, run_worker};
use crate::sync::fetch::{Fetcher, RefreshError};

/// Tasks that are looked at in one go.
const PAGE: u32 = 16;
/// Letters that GitHub lets a title have.
const TITLE: usize = 256;
/// How often a task's history is written to while others write to the task.
const TRIES: usize = 8;
/// GitHub was not there: after so many tries the next push decides.
const MOST_TRIES: u32 = 8;
/// Before the second try, doubled for each after it.
const AGAIN: TimeDelta = TimeDelta::seconds(30);

/// Opens pull requests of tasks.
#[derive(Clone)]
pub struct Opener {
    pub fetcher: Fetcher,
    /// `owner/name`, for tasks that name none.
    pub default_repository: Option<String>,
}

/// What somebody says of a pull request; the rest follows from its task.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `owner/name`
    pub repo: Option<String>,
    pub head: Option<String>,
    pub base: Option<String>,
    pub title: Option<String>,
    pub body: Option<String>,
    pub draft: bool,
}

/// The pull request of a task, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequestOf {
    /// `owner/name`, as it was asked for.
    pub repo: String,
    pub opened: Opened,
}

/// Why a task has no pull request.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the task has no repository, and there is no default one")]
    NoRepository,
    #[error("the task has no branch")]
    NoBranch,
    #[error(transparent)]
    NotOpened(#[from] NotOpened),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Opener {
    /// Opens the pull request of a task or finds the one that is open, links it, and lets the task's history tell it.
    ///
    /// # Errors
    /// [`OpenError`]. Nothing is lost by asking again.
    pub async fn open(&self, task: &Task, wanted: &Wanted) -> Result<PullRequestOf, OpenError> {
        let Wanted {
            repo,
            head,
            base,
            title,
            body,
            draft,
        } = wanted;
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
            .unwrap_or_else(|| task.title.chars().take(TITLE).collect());
        let (base, body) = (base.as_deref(), body.as_deref().unwrap_or_default());
        let new = NewPull {
            head,
            base,
            title: &title,
            body,
            draft: *draft,
        };
        let opened = self.fetcher.client.create_pull(repo, &new).await?;
        let is_linked_now = self
            .fetcher
            .store
            .link_task(task.id, opened.key, Utc::now())
            .await?;
        if opened.created || is_linked_now {
            let how = if opened.created { "opened" } else { "found" };
            self.note(task.id, opened.key, format!("{how} {}", opened.html_url))
                .await?;
        }
        Ok(PullRequestOf {
            repo: repo.clone(),
            opened,
        })
    }

    /// Sees to it that what GitHub shows of it is known here, whether or not its webhook comes.
    ///
    /// # Errors
    /// [`RefreshError`]; then its webhook or the poller tells it later.
    pub async fn fetch(&self, of: &PullRequestOf) -> Result<(), RefreshError> {
        self.fetcher.refresh(&of.repo, of.opened.key).await
    }

    /// Lets a task's history tell of its pull request. Pushes to its branch are done with by that.
    async fn note(&self, id: TaskId, key: PrKey, how: String) -> Result<()> {
        let store = &self.fetcher.store;
        let noted = Some((TaskCause::PullRequestMade, Some(key), how));
        let settled = TaskUpdate {
            done: PendingWork::PUSH,
            noted,
            ..TaskUpdate::default()
        };
        for _ in 0..TRIES {
            let Some(task) = store.task(&TaskRef::Id(id)).await? else {
                return Ok(());
            };
            if store
                .update_task_if_current(&task, &settled, Utc::now())
                .await?
            {
                return Ok(());
            }
        }
        tracing::warn!(task = %id, "the history of a task lacks that its pull request was opened");
        Ok(())
    }
}

/// Opens the pull requests of tasks whose branch was pushed to while they are implemented.
pub struct Pushes {
    pub opener: Opener,
}

impl Pushes {
    /// Looks at what was pushed to until `stopping` becomes true.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        let store = self.opener.fetcher.store.clone();
        run_worker(&store, stopping, &mut self).await;
    }

    fn store(&self) -> &Store {
        &self.opener.fetcher.store
    }

    async fn settle(&self, task: &Task) -> Result<()> {
        let done = TaskUpdate {
            done: PendingWork::PUSH,
            ..TaskUpdate::default()
        };
        let settled = match task.state.status {
            TaskStatus::Implementing if self.is_open(task).await? => done,
            TaskStatus::Implementing => match self.opener.open(task, &Wanted::default()).await {
                Ok(of) => {
                    if let Err(error) = self.opener.fetch(&of).await {
                        tracing::warn!(task = %task.id, %error, "what was opened for a task is not known here yet");
                    }
                    done
                }
                // The branch was taken from it meanwhile.
                Err(OpenError::NoRepository | OpenError::NoBranch) => done,
                Err(OpenError::Store(error)) => return Err(error),
                Err(OpenError::NotOpened(why)) => self.refused(task, &why).await?,
            },
            _ => done,
        };
        // Whoever pushed, or said something else, in between has marked it again.
        self.store()
            .update_task_if_current(task, &settled, Utc::now())
            .await
            .map(|_| ())
    }

    /// Whether a pull request of the task is open from its branch, wherever that is to go: a person chose so.
    async fn is_open(&self, task: &Task) -> Result<bool> {
        let Some(name) = &task.place.repo else {
            return Ok(false);
        };
        let repo = self.store().repository_id(name).await?;
        let is_open = |known: &StoredPullRequest| {
            is_of_branch(task, &known.pull_request)
                && linked(known)
                    .is_some_and(|pr| pr.status == Status::Open && Some(pr.key.repo) == repo)
        };
        for keys in task.prs.chunks(AT_ONCE) {
            if self.store().load(keys).await?.iter().any(is_open) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What passes is tried again; what does not is told once, and the next push tries again.
    async fn refused(&self, task: &Task, why: &NotOpened) -> Result<TaskUpdate> {
        if let Some(again) = again(why, task.tries, Utc::now()) {
            return Ok(TaskUpdate {
                again: Some(again),
                ..TaskUpdate::default()
            });
        }
        let note = why.to_string();
        let last = self.store().task_history(task.id, 1).await?.pop();
        let is_told = last.is_some_and(|last| {
            last.cause == TaskCause::PullRequestRefused
                && last.note.as_deref() == Some(note.as_str())
        });
        tracing::warn!(task = %task.id, reason = %note, "no pull request was opened for a task");
        let noted = (!is_told).then_some((TaskCause::PullRequestRefused, None, note));
        Ok(TaskUpdate {
            done: PendingWork::PUSH,
            noted,
            ..TaskUpdate::default()
        })
    }
}

/// When what was tried in vain `tries` times before is to be tried again; `None` if that is of no use.
fn again(why: &NotOpened, tries: u32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let later = now + AGAIN * 2_i32.pow(tries.min(MOST_TRIES));
    match why {
        NotOpened::Github(_) if tries + 1 >= MOST_TRIES => None,
        NotOpened::Github(GithubError::Limited { until }) => Some(later.max(*until)),
        NotOpened::Github(GithubError::Unreachable { .. }) => Some(later),
        _ => None,
    }
}

#[async_trait::async_trait]
impl OutboxWorker for Pushes {
    const ERROR_MESSAGE: &str = "no pull requests can be opened for tasks";
    const ROLE: Option<LeaderRole> = Some(LeaderRole::Opener);

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
                self.settle(task).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again_later_each_time_and_not_for_ever() {
        let now = DateTime::from_timestamp(1_772_445_600, 0).unwrap();
        let text = String::new;
        let unreachable = NotOpened::Github(GithubError::Unreachable {
            origin: text(),
            reason: text(),
        });
        let waits =
            (0..9).map(|tries| again(&unreachable, tries, now).map(|at| (at - now).num_seconds()));
        let waits: Vec<_> = waits.collect();
        assert_eq!(waits[..7], [30, 60, 120, 240, 480, 960, 1920].map(Some));
        assert_eq!(waits[7..], [None, None]);
        let until = now + TimeDelta::hours(2);
        assert_eq!(
            again(&NotOpened::Github(GithubError::Limited { until }), 0, now),
            Some(until)
        );
        for final_answer in [
            NotOpened::NothingNew {
                head: text(),
                base: text(),
            },
            NotOpened::Github(GithubError::Unauthorized { message: text() }),
        ] {
            assert_eq!(again(&final_answer, 0, now), None);
        }
    }
}
