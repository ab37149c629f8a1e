//! `tallyhook worktrees`

use clap::Args;
use serde::Serialize;
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::task::TaskId;
use tallyhook_core::github::types::PrNumber;
use tallyhook_store::{OpenMode, Store, Task};
use uuid::Uuid;

use super::{Outcome, Sources, output};
use crate::config::{Config, ConfigError};
use crate::tasks::{Cleaned, Cleaner};

/// Tasks that are read at once.
const PAGE: u32 = 100;

#[derive(Debug, Args)]
pub(super) struct Worktrees {
    /// Only say what would become of each
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of a task's working tree.
#[derive(Debug, Serialize)]
struct Line {
    task_id: TaskId,
    key: Option<String>,
    worktree: String,
    verdict: Verdict,
    /// Why it is kept.
    reason: Option<String>,
    /// The pull request that was merged.
    pr_id: Option<Uuid>,
    pr_number: Option<PrNumber>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    InUse,
    Removed,
    WouldRemove,
    /// Nothing is there on this machine.
    Missing,
    Kept,
}

impl Worktrees {
    pub(super) async fn run(self, sources: Sources) -> Outcome {
        let config = Config::new(&sources)?;
        let root = config.tasks.worktree_root.ok_or_else(|| {
            ConfigError::new(
                "WORKTREE_ROOT is not set: set it to the folder below which the working trees are",
            )
        })?;
        let store = tallyhook_store::open(&config.database_url, OpenMode::Shared).await?;
        let cleaner = Cleaner {
            store: store.clone(),
            root,
        };
        let mut lines = Vec::new();
        for (task, worktree) in with_worktrees(&store).await? {
            let cleaned = cleaner.clean(&task, self.dry_run).await?;
            lines.push(line(task, worktree, cleaned));
        }
        store.close().await;
        if self.json {
            output::json(&lines)
        } else {
            print(&lines)
        }
    }
}

/// Every task that has one, the newest first.
async fn with_worktrees(store: &Store) -> tallyhook_store::Result<Vec<(Task, String)>> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = store.tasks(None, before, PAGE).await?;
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

fn line(task: Task, worktree: String, cleaned: Cleaned) -> Line {
    let (verdict, key, reason) = match cleaned {
        Cleaned::InUse => (Verdict::InUse, None, None),
        Cleaned::Removed(key) => (Verdict::Removed, Some(key), None),
        Cleaned::WouldRemove(key) => (Verdict::WouldRemove, Some(key), None),
        Cleaned::Missing(key) => (Verdict::Missing, Some(key), None),
        Cleaned::Kept(key, reason) => (Verdict::Kept, Some(key), Some(reason.to_string())),
    };
    Line {
        task_id: task.id,
        key: task.key.map(|key| key.to_string()),
        worktree,
        verdict,
        reason,
        pr_id: key.map(PullRequest::id),
        pr_number: key.map(|key| key.number),
    }
}

fn print(lines: &[Line]) -> Outcome {
    if lines.is_empty() {
        return output::line("no task has a working tree");
    }
    let mut table = output::table(&["task", "working tree", "pull request", "", "reason"]);
    for line in lines {
        let verdict = match line.verdict {
            Verdict::InUse => "in use",
            Verdict::Removed => "removed",
            Verdict::WouldRemove => "would be removed",
            Verdict::Missing => "not on this machine",
            Verdict::Kept => "kept",
        };
        table.add_row([
            line.key.clone().unwrap_or_else(|| line.task_id.to_string()),
            // People chose it: nothing of it may move the terminal's cursor.
            line.worktree.escape_debug().to_string(),
            line.pr_number
                .map(|number| format!("#{number}"))
                .unwrap_or_default(),
            verdict.to_owned(),
            line.reason.clone().unwrap_or_default(),
        ]);
    }
    output::line(&table.to_string())
}
