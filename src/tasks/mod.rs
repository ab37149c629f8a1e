//! Tasks follow their pull requests: whatever changes those marks the task, and whoever has the part looks at what is
//! marked. And tasks have pull requests opened.

mod opening;

use std::sync::Arc;

use chrono::Utc;
use tokio::sync::watch;

pub use self::opening::{OpenError, Opener, PullRequestOf, Pushes, Wanted};
use crate::domain::notification::status;
use crate::domain::task::{LinkedPr, follow};
use crate::store::{Attendant, Due, Known, Part, Result, Settled, Store, Task, attend};

/// Tasks that are looked at in one go.
const PAGE: u32 = 64;

/// What is looked at here; what takes longer is for others.
const MINE: Due = Due { push: false, ..Due::ALL };

/// Lets tasks follow.
pub struct Follower {
    pub store: Arc<dyn Store>,
}

impl Follower {
    /// Looks at what is marked until `stopping` becomes true.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        attend(&self.store.clone(), stopping, &mut self).await;
        self.store.resign(Part::Follower).await;
    }

    /// Looks at every task that is marked.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn look(&self) -> Result<()> {
        loop {
            let tasks = self.store.due_tasks(MINE, Utc::now(), PAGE).await?;
            if tasks.is_empty() {
                return Ok(());
            }
            for task in &tasks {
                self.settle(task).await?;
            }
        }
    }

    /// Looks at one task. One that is marked again meanwhile stays marked.
    async fn settle(&self, task: &Task) -> Result<()> {
        let settled =
            if task.due.follow { self.follow(task).await? } else { Settled { done: MINE, ..Settled::default() } };
        self.store.settle_task(task, &settled, Utc::now()).await?;
        Ok(())
    }

    async fn follow(&self, task: &Task) -> Result<Settled> {
        let known = self.store.load(&task.prs).await?;
        let linked = |Known { pull_request, .. }: &Known| {
            let (status, since) = status(pull_request)?;
            Some(LinkedPr { key: pull_request.key, status, since })
        };
        let linked: Vec<_> = known.iter().filter_map(linked).collect();
        let moved = follow(&task.state, &linked);
        Ok(Settled { done: Due::FOLLOW, moved, ..Settled::default() })
    }
}

#[async_trait::async_trait]
impl Attendant for Follower {
    const TROUBLE: &str = "tasks cannot follow their pull requests";

    async fn act(&mut self) -> Result<()> {
        if self.store.lead(Part::Follower).await? { self.look().await } else { Ok(()) }
    }
}
