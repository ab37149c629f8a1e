//! Tasks follow their pull requests: whatever changes those marks the task, and whoever has the part looks at what is
//! marked. And tasks have pull requests opened, and their working trees removed.

mod cleanup;
mod opening;
pub mod worktree;

use chrono::Utc;
use tallyhook_core::domain::notification::status;
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::task::{LinkedPr, follow};
use tallyhook_store::{
    LeaderRole, PendingWork, Result, Store, StoredPullRequest, Task, TaskUpdate,
};
use tokio::sync::watch;

pub use self::cleanup::{Cleaned, Cleaner};
pub use self::opening::{OpenError, Opener, PullRequestOf, Pushes, Wanted};
use crate::leader::{OutboxWorker, run_worker};

/// Tasks that are looked at in one go.
const PAGE: u32 = 64;
/// Pull requests of one task that are in memory at the same time.
const AT_ONCE: usize = 100;

/// Lets tasks follow.
pub struct Follower {
    pub store: Store,
}

impl Follower {
    /// Looks at what is marked until `stopping` becomes true.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        run_worker(&self.store.clone(), stopping, &mut self).await;
    }

    /// Looks at every task that is marked.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn look(&self) -> Result<()> {
        loop {
            let tasks = self
                .store
                .due_tasks(PendingWork::FOLLOW, Utc::now(), PAGE)
                .await?;
            if tasks.is_empty() {
                return Ok(());
            }
            for task in &tasks {
                settle(&self.store, task).await?;
            }
        }
    }
}

/// Lets one task follow. One that is marked again meanwhile stays marked.
async fn settle(store: &Store, task: &Task) -> Result<()> {
    let prs = linked_prs(store, task).await?;
    let settled = TaskUpdate {
        done: PendingWork::FOLLOW,
        moved: follow(&task.state, &prs),
        ..TaskUpdate::default()
    };
    store
        .update_task_if_current(task, &settled, Utc::now())
        .await?;
    Ok(())
}

/// The pull requests of a task of which it is known what they are.
///
/// # Errors
/// If the database fails.
pub async fn linked_prs(store: &Store, task: &Task) -> Result<Vec<LinkedPr>> {
    let mut prs = Vec::with_capacity(task.prs.len());
    // An epic has thousands of them, and each comes with its reviews and its timeline.
    for keys in task.prs.chunks(AT_ONCE) {
        prs.extend(store.load(keys).await?.iter().filter_map(linked));
    }
    Ok(prs)
}

/// A pull request of a task, once it is known what it is.
fn linked(StoredPullRequest { pull_request, .. }: &StoredPullRequest) -> Option<LinkedPr> {
    let (status, since) = status(pull_request)?;
    Some(LinkedPr {
        key: pull_request.key,
        status,
        since,
    })
}

/// Whether it is from the task's branch, as far as GitHub tells.
fn is_of_branch(task: &Task, pull_request: &PullRequest) -> bool {
    pull_request
        .branches
        .as_ref()
        .is_some_and(|seen| task.place.branch.as_ref() == Some(&seen.value.head_ref))
}

#[async_trait::async_trait]
impl OutboxWorker for Follower {
    const ERROR_MESSAGE: &str = "tasks cannot follow their pull requests";
    const ROLE: Option<LeaderRole> = Some(LeaderRole::Follower);

    async fn run_once(&mut self) -> Result<()> {
        self.look().await
    }
}
