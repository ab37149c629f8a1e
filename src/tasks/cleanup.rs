//! Cleanup of tasks' working trees: a tree is removed once a merge has finished its task, unless
//! something in it would be lost.

use std::path::{Path, PathBuf};

use chrono::Utc;
use tallyhook_core::domain::notification::PullRequestStatus;
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::task::{TaskStatus, follow};
use tallyhook_core::github::types::PrKey;
use tallyhook_core::text::one_line;
use tallyhook_store::{
    LeaderRole, OutboxPayload, PendingWork, Result, Store, Task, TaskCause, TaskUpdate,
    WorktreeKept,
};
use tokio::sync::watch;

use super::{LOAD_BATCH, follow_pull_requests, is_of_branch, linked};
use crate::leader::{OutboxWorker, lead_worker};
use crate::tasks::worktree::{KeepReason, RemovalOutcome, WorktreeCheck, remove};

/// Due tasks that are read at once.
const PAGE: u32 = 16;
/// Entries of a task's history that are searched for the last one about its working tree.
const HISTORY: u32 = 100;

/// Removes the working trees of finished tasks.
pub struct WorktreeCleaner {
    pub store: Store,
    /// The folder that contains all working trees.
    pub root: PathBuf,
}

/// The result of checking one task's working tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleanupOutcome {
    /// The task is not finished by a merge: it has an open pull request, no merged one, or a person
    /// set another status.
    InUse,
    /// It was removed, because this pull request was merged.
    Removed(PrKey),
    /// It can be removed; this was a dry run.
    WouldRemove(PrKey),
    /// The path does not exist on this machine: the tree is on another one, or the process that
    /// removed it ended before it recorded that.
    Missing(PrKey),
    Kept(PrKey, KeepReason),
}

impl WorktreeCleaner {
    /// Cleans up due tasks until `stopping` is true.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        let store = self.store.clone();
        lead_worker(&store, LeaderRole::Cleaner, stopping, &mut self).await;
    }

    /// Checks the working tree of every due task.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn clean_due(&self) -> Result<()> {
        loop {
            let tasks = self
                .store
                .due_tasks(PendingWork::CLEANUP, Utc::now(), PAGE)
                .await?;
            if tasks.is_empty() {
                return Ok(());
            }
            for task in &tasks {
                // The task's status is updated first, so that its notification precedes the
                // cleanup's. It stays due for cleanup, so that the next page contains it again.
                if task.due.follow {
                    follow_pull_requests(&self.store, task).await?;
                } else {
                    self.clean(task, false).await.map(drop)?;
                }
            }
        }
    }

    /// Removes the working tree of a task if that loses nothing, and records the outcome. A dry run
    /// only returns the outcome.
    ///
    /// # Errors
    /// If the database fails. After a removal that could not be recorded, the next check finds the
    /// path missing and records that.
    pub async fn clean(&self, task: &Task, dry_run: bool) -> Result<CleanupOutcome> {
        let outcome = self.remove_if_merged(task, dry_run).await?;
        if let CleanupOutcome::Removed(key) = &outcome {
            log_removal(task, *key);
        }
        if !dry_run {
            let update = self.update_for(task, &outcome).await?;
            // If the task was marked in between, it stays due and is checked again.
            self.store
                .update_task_if_current(task, &update, Utc::now())
                .await?;
        }
        Ok(outcome)
    }

    async fn remove_if_merged(&self, task: &Task, dry_run: bool) -> Result<CleanupOutcome> {
        let (Some(path), Some(merged)) = (&task.place.worktree, self.finishing_merge(task).await?)
        else {
            return Ok(CleanupOutcome::InUse);
        };
        // Without branches, which GitHub has not shown yet, the check keeps the tree.
        let branches = merged.branches.as_ref().map(|seen| &seen.value);
        let check = WorktreeCheck {
            root: &self.root,
            path: Path::new(path),
            branch: branches.map_or("", |branches| &branches.head_ref),
            head_sha: branches.map_or("", |branches| &branches.head_sha),
            merged: merged.merged_at.is_some(),
        };
        Ok(match remove(check, dry_run).await {
            RemovalOutcome::Removed => CleanupOutcome::Removed(merged.key),
            RemovalOutcome::Kept(KeepReason::Gone) => CleanupOutcome::Missing(merged.key),
            RemovalOutcome::WouldRemove => CleanupOutcome::WouldRemove(merged.key),
            RemovalOutcome::Kept(reason) => CleanupOutcome::Kept(merged.key, reason),
        })
    }

    /// Returns the merged pull request that finished the task: the one of the task's branch, else
    /// the last merged one. `None` unless the task is finished by a merge.
    async fn finishing_merge(&self, task: &Task) -> Result<Option<PullRequest>> {
        let (mut prs, mut latest) = (Vec::with_capacity(task.prs.len()), None);
        for keys in task.prs.chunks(LOAD_BATCH) {
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
        // A status that the task is about to get counts already.
        let moved = follow(&task.state, &prs, Utc::now().into());
        let status = moved.map_or(task.state.status, |moved| moved.to);
        if status != TaskStatus::Done || prs.iter().any(|pr| pr.status == PullRequestStatus::Open) {
            return Ok(None);
        }
        Ok(latest)
    }

    /// Returns the update of the task that records the outcome.
    async fn update_for(&self, task: &Task, outcome: &CleanupOutcome) -> Result<TaskUpdate> {
        let update = TaskUpdate {
            done: PendingWork::CLEANUP,
            ..TaskUpdate::default()
        };
        let (cause, key, note, event) = match outcome {
            CleanupOutcome::InUse | CleanupOutcome::WouldRemove(_) => return Ok(update),
            CleanupOutcome::Removed(key) => {
                let path = task.place.worktree.clone().unwrap_or_default();
                let noted = Some((TaskCause::WorktreeRemoved, Some(*key), path));
                return Ok(TaskUpdate {
                    noted,
                    worktree_removed: true,
                    ..update
                });
            }
            CleanupOutcome::Missing(key) => (
                TaskCause::WorktreeMissing,
                *key,
                KeepReason::Gone.to_string(),
                None,
            ),
            CleanupOutcome::Kept(key, reason) => {
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
        if self.is_recorded(task, cause, key, &note).await? {
            return Ok(update);
        }
        Ok(TaskUpdate {
            noted: Some((cause, Some(key), note)),
            payload: event,
            ..update
        })
    }

    /// Returns true if the task's history has this outcome as the last one of its kind. Kinds are
    /// compared separately because several machines with different outcomes may take turns.
    async fn is_recorded(
        &self,
        task: &Task,
        cause: TaskCause,
        key: PrKey,
        note: &str,
    ) -> Result<bool> {
        let store = self.store.of_team(task.team);
        let mut history = store.task_history(task.id, HISTORY).await?.into_iter();
        let last = history.find(|event| [cause, TaskCause::WorktreeRemoved].contains(&event.cause));
        Ok(last.is_some_and(|last| {
            (last.cause, last.pull_request, last.note.as_deref()) == (cause, Some(key), Some(note))
        }))
    }
}

fn log_removal(task: &Task, merged: PrKey) {
    let path = one_line(task.place.worktree.as_deref().unwrap_or_default(), 200);
    let (repo, number) = (merged.repo.0, merged.number.0);
    tracing::info!(
        task.id = %task.id,
        repo.id = repo,
        pr = number,
        path,
        "removed the working tree {path} of task {}: pull request #{number} is merged, and the \
         branch stays",
        task.id
    );
}

#[async_trait::async_trait]
impl OutboxWorker for WorktreeCleaner {
    const ERROR_MESSAGE: &str = "cannot clean up working trees";

    async fn run_once(&mut self) -> Result<()> {
        self.clean_due().await
    }
}
