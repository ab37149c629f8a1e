//! Tasks: their status follows their pull requests, pull requests are opened for them, and their
//! working trees are removed. A change marks the task as due; the leader of each role handles the
//! due tasks.

mod cleanup;
mod opening;
pub mod worktree;

use chrono::Utc;
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::task::{LinkedPr, follow};
use tallyhook_store::{
    LeaderRole, PendingWork, Result, Store, StoredPullRequest, Task, TaskUpdate,
};
use tokio::sync::watch;

pub use self::cleanup::{CleanupOutcome, WorktreeCleaner};
pub use self::opening::{
    AutoPullRequests, OpenError, PullRequestOpener, PullRequestOptions, TaskPullRequest,
};
use crate::leader::{OutboxWorker, lead_worker};

/// Due tasks that are read at once.
const PAGE: u32 = 64;
/// Pull requests of one task that are in memory at the same time.
const LOAD_BATCH: usize = 100;

/// Updates tasks whose pull requests changed.
pub struct TaskFollower {
    pub store: Store,
}

impl TaskFollower {
    /// Updates due tasks until `stopping` is true.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        let store = self.store.clone();
        lead_worker(&store, LeaderRole::Follower, stopping, &mut self).await;
    }

    /// Updates every due task.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn follow_due(&self) -> Result<()> {
        loop {
            let tasks = self
                .store
                .due_tasks(PendingWork::FOLLOW, Utc::now(), PAGE)
                .await?;
            if tasks.is_empty() {
                return Ok(());
            }
            for task in &tasks {
                follow_pull_requests(&self.store, task).await?;
            }
        }
    }
}

/// Moves a task to the status that its pull requests imply. A task that was marked again in between
/// stays due.
async fn follow_pull_requests(store: &Store, task: &Task) -> Result<()> {
    let prs = linked_prs(store, task).await?;
    let update = TaskUpdate {
        done: PendingWork::FOLLOW,
        moved: follow(&task.state, &prs, Utc::now().into()),
        ..TaskUpdate::default()
    };
    store
        .update_task_if_current(task, &update, Utc::now())
        .await?;
    Ok(())
}

/// Returns the pull requests of a task whose status is known.
///
/// # Errors
/// If the database fails.
pub async fn linked_prs(store: &Store, task: &Task) -> Result<Vec<LinkedPr>> {
    let mut prs = Vec::with_capacity(task.prs.len());
    // In batches: an epic has thousands of pull requests, each with its reviews and its timeline.
    for keys in task.prs.chunks(LOAD_BATCH) {
        prs.extend(store.load(keys).await?.iter().filter_map(linked));
    }
    Ok(prs)
}

/// Returns a pull request as tasks see it; `None` while its status is unknown.
fn linked(known: &StoredPullRequest) -> Option<LinkedPr> {
    LinkedPr::of(&known.pull_request)
}

/// Returns true if the pull request's head is the task's branch. False while GitHub has not shown
/// its branches.
fn is_of_branch(task: &Task, pull_request: &PullRequest) -> bool {
    pull_request
        .branches
        .as_ref()
        .is_some_and(|seen| task.place.branch.as_ref() == Some(&seen.value.head_ref))
}

#[async_trait::async_trait]
impl OutboxWorker for TaskFollower {
    const ERROR_MESSAGE: &str = "cannot update tasks from their pull requests";

    async fn run_once(&mut self) -> Result<()> {
        self.follow_due().await
    }
}
