//! `tallyhook worktrees`

use clap::Args;
use serde::Serialize;
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::task::TaskId;
use tallyhook_core::github::types::PrNumber;
use tallyhook_store::{OpenMode, Task, TaskFilter, TeamStore};
use uuid::Uuid;

use super::{CommandResult, SettingSources, output};
use crate::config::{Config, ConfigError};
use crate::tasks::{CleanupOutcome, WorktreeCleaner};

/// Tasks of one query.
const PAGE: u32 = 100;

#[derive(Debug, Args)]
pub(super) struct WorktreesArgs {
    /// Remove those of merged tasks, unless that would lose something
    #[arg(long)]
    remove: bool,
    /// Only list them and what would be done, as without `--remove`
    #[arg(long, conflicts_with = "remove")]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The outcome of a task's working tree.
#[derive(Debug, Serialize)]
struct WorktreeReport {
    task_id: TaskId,
    key: Option<String>,
    worktree: String,
    verdict: WorktreeOutcome,
    /// The reason why it is kept.
    reason: Option<String>,
    /// The pull request that was merged.
    pr_id: Option<Uuid>,
    pr_number: Option<PrNumber>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum WorktreeOutcome {
    InUse,
    Removed,
    WouldRemove,
    /// The folder is not on this machine.
    Missing,
    Kept,
}

impl WorktreesArgs {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let Self {
            remove,
            // The default; scripts name it.
            dry_run: _,
            json,
        } = self;
        let config = Config::new(&sources)?;
        let root = config.tasks.worktree_root.ok_or_else(|| {
            ConfigError::new(
                "WORKTREE_ROOT is not set: set it to the folder that contains the working trees",
            )
        })?;
        let store = tallyhook_store::open(&config.database_url, OpenMode::Shared).await?;
        let cleaner = WorktreeCleaner {
            store: store.clone(),
            root,
        };
        let mut lines = Vec::new();
        let mut tasks = Vec::new();
        for (team, _) in store.all_teams().await? {
            tasks.extend(with_worktrees(&store.of_team(team)).await?);
        }
        for (task, worktree) in tasks {
            let cleaned = cleaner.clean(&task, !remove).await?;
            lines.push(line(task, worktree, cleaned));
        }
        store.close().await;
        match json {
            true => output::json_list(lines),
            false => print(&lines),
        }
    }
}

/// Returns every task of a team with a working tree, the newest first.
async fn with_worktrees(store: &TeamStore) -> tallyhook_store::Result<Vec<(Task, String)>> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = store.tasks(&TaskFilter::default(), before, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        before = Some((last.created_at, last.id));
        found.extend(
            page.into_iter()
                .filter_map(|task| task.place.worktree.clone().map(|path| (task, path))),
        );
    }
}

fn line(task: Task, worktree: String, cleaned: CleanupOutcome) -> WorktreeReport {
    let (verdict, key, reason) = match cleaned {
        CleanupOutcome::InUse => (WorktreeOutcome::InUse, None, None),
        CleanupOutcome::Removed(key) => (WorktreeOutcome::Removed, Some(key), None),
        CleanupOutcome::WouldRemove(key) => (WorktreeOutcome::WouldRemove, Some(key), None),
        CleanupOutcome::Missing(key) => (WorktreeOutcome::Missing, Some(key), None),
        CleanupOutcome::Kept(key, reason) => {
            (WorktreeOutcome::Kept, Some(key), Some(reason.to_string()))
        }
    };
    WorktreeReport {
        task_id: task.id,
        key: task.key.map(|key| key.to_string()),
        worktree,
        verdict,
        reason,
        pr_id: key.map(PullRequest::id),
        pr_number: key.map(|key| key.number),
    }
}

fn print(lines: &[WorktreeReport]) -> CommandResult {
    let mut table = output::table([
        output::text("task"),
        output::text("working tree"),
        output::whole("pull request"),
        output::whole("outcome"),
        output::note("reason", 2),
    ]);
    for line in lines {
        let verdict = match line.verdict {
            WorktreeOutcome::InUse => "in use",
            WorktreeOutcome::Removed => "removed",
            WorktreeOutcome::WouldRemove => "would be removed",
            WorktreeOutcome::Missing => "not on this machine",
            WorktreeOutcome::Kept => "kept",
        };
        table.add_row([
            line.key.clone().unwrap_or_else(|| line.task_id.to_string()),
            line.worktree.clone(),
            line.pr_number
                .map(|number| format!("#{number}"))
                .unwrap_or_default(),
            verdict.to_owned(),
            line.reason.clone().unwrap_or_default(),
        ]);
    }
    table.print("no task has a working tree")
}
