//! Working trees of tasks: removed once the task is done by a merge, unless something would be lost.

use std::path::{Path, PathBuf};

use chrono::Utc;
use tallyhook_core::domain::notification::Status;
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::task::{TaskStatus, follow};
use tallyhook_core::github::types::PrKey;
use tallyhook_store::{
    LeaderRole, OutboxPayload, PendingWork, Result, Store, Task, TaskCause, TaskUpdate,
    WorktreeKept,
};
use tokio::sync::watch;

use super::{AT_ONCE, is_of_branch, linked, settle};
use crate::leader::{OutboxWorker, run_worker};
use crate::tasks::worktree::{Candidate, Reason, Removal, remove};

/// Tasks that are looked at in one go.
const PAGE: u32 = 16;
/// Entries of a task's history among which the last word on its working tree is.
const HISTORY: u32 = 100;

/// Removes working trees.
pub struct Cleaner {
    pub store: Store,
    /// The folder below which all of them are.
    pub root: PathBuf,
}

/// What came of looking at a working tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// Nobody is done with it: the task has a pull request that is open, or none that was merged, or a person says so.
    InUse,
    /// It is removed; the pull request that was merged.
    Removed(PrKey),
    /// It would be removed, had it not been a dry run.
    WouldRemove(PrKey),
    /// Nothing is there on this machine: it is on another one, or whoever removed it had no time to tell.
    Missing(PrKey),
    Kept(PrKey, Reason),
}

impl Cleaner {
    /// Removes what is due until `stopping` becomes true.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        run_worker(&self.store.clone(), stopping, &mut self).await;
    }

    /// Looks at the working tree of every task that is marked.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn look(&self) -> Result<()> {
        loop {
            let tasks = self
                .store
                .due_tasks(PendingWork::CLEANUP, Utc::now(), PAGE)
                .await?;
            if tasks.is_empty() {
                return Ok(());
            }
            for task in &tasks {
                // Whoever listens hears first where the task goes. It comes again with the next page.
                match task.due.follow {
                    true => settle(&self.store, task).await?,
                    false => self.clean(task, false).await.map(drop)?,
                }
            }
        }
    }

    /// Removes the working tree of a task, if that may be done, and remembers what became of it; says only what would become
    /// of it in a dry run.
    ///
    /// # Errors
    /// If the database fails. Should that be after a removal, the next look finds nothing there, and remembers that alone.
    pub async fn clean(&self, task: &Task, dry_run: bool) -> Result<Cleaned> {
        let cleaned = self.removed(task, dry_run).await?;
        if !dry_run {
            let settled = self.settled(task, &cleaned).await?;
            // One that was marked meanwhile is looked at again.
            self.store
                .update_task_if_current(task, &settled, Utc::now())
                .await?;
        }
        Ok(cleaned)
    }

    async fn removed(&self, task: &Task, dry_run: bool) -> Result<Cleaned> {
        let (Some(path), Some(merged)) = (&task.place.worktree, self.merged(task).await?) else {
            return Ok(Cleaned::InUse);
        };
        // What GitHub does not tell of it cannot be compared.
        let branches = merged.branches.as_ref().map(|seen| &seen.value);
        let candidate = Candidate {
            root: &self.root,
            path: Path::new(path),
            branch: branches.map_or("", |branches| &branches.head_ref),
            head_sha: branches.map_or("", |branches| &branches.head_sha),
            merged: merged.merged_at.is_some(),
        };
        Ok(match remove(candidate, dry_run).await {
            Removal::Removed => Cleaned::Removed(merged.key),
            Removal::Kept(Reason::Gone) => Cleaned::Missing(merged.key),
            Removal::WouldRemove => Cleaned::WouldRemove(merged.key),
            Removal::Kept(reason) => Cleaned::Kept(merged.key, reason),
        })
    }

    /// The merged pull request that the working tree was for: of several that of the task's branch, else the last one.
    /// `None` unless the task is done by it.
    async fn merged(&self, task: &Task) -> Result<Option<PullRequest>> {
        let (mut prs, mut latest) = (Vec::with_capacity(task.prs.len()), None);
        for keys in task.prs.chunks(AT_ONCE) {
            let known = self.store.load(keys).await?;
            prs.extend(known.iter().filter_map(linked));
            let merged = known
                .into_iter()
                .map(|known| known.pull_request)
                .filter(|pr| pr.merged_at.is_some());
            latest = merged
                .chain(latest)
                .max_by_key(|pr| (is_of_branch(task, pr), pr.merged_at, pr.key));
        }
        // Where the task is about to go counts as well.
        let status = follow(&task.state, &prs).map_or(task.state.status, |moved| moved.to);
        if status != TaskStatus::Done || prs.iter().any(|pr| pr.status == Status::Open) {
            return Ok(None);
        }
        Ok(latest)
    }

    async fn settled(&self, task: &Task, cleaned: &Cleaned) -> Result<TaskUpdate> {
        let settled = TaskUpdate {
            done: PendingWork::CLEANUP,
            ..TaskUpdate::default()
        };
        let (cause, key, note, told) = match cleaned {
            Cleaned::InUse | Cleaned::WouldRemove(_) => return Ok(settled),
            Cleaned::Removed(key) => {
                let path = task.place.worktree.clone().unwrap_or_default();
                let noted = Some((TaskCause::WorktreeRemoved, Some(*key), path));
                return Ok(TaskUpdate {
                    noted,
                    worktree_removed: true,
                    ..settled
                });
            }
            Cleaned::Missing(key) => (
                TaskCause::WorktreeMissing,
                *key,
                Reason::Gone.to_string(),
                None,
            ),
            Cleaned::Kept(key, reason) => {
                let reason = reason.to_string();
                let kept = WorktreeKept {
                    task: task.id,
                    key: *key,
                    reason: reason.clone(),
                    at: Utc::now().into(),
                };
                (
                    TaskCause::WorktreeKept,
                    *key,
                    reason,
                    Some(OutboxPayload::WorktreeKept(kept)),
                )
            }
        };
        if self.is_said(task, cause, key, &note).await? {
            return Ok(settled);
        }
        Ok(TaskUpdate {
            noted: Some((cause, Some(key), note)),
            told,
            ..settled
        })
    }

    /// Whether this was the last thing of its kind that was said of the working tree. What machines say in turn are things
    /// of several kinds.
    async fn is_said(&self, task: &Task, cause: TaskCause, key: PrKey, note: &str) -> Result<bool> {
        let mut history = self.store.task_history(task.id, HISTORY).await?.into_iter();
        let last = history.find(|event| [cause, TaskCause::WorktreeRemoved].contains(&event.cause));
        Ok(last.is_some_and(|last| {
            (last.cause, last.pull_request, last.note.as_deref()) == (cause, Some(key), Some(note))
        }))
    }
}

#[async_trait::async_trait]
impl OutboxWorker for Cleaner {
    const ERROR_MESSAGE: &str = "working trees cannot be looked after";
    const ROLE: Option<LeaderRole> = Some(LeaderRole::Cleaner);

    async fn run_once(&mut self) -> Result<()> {
        self.look().await
    }
}
