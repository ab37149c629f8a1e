//! Computing stored numbers again, from the facts: those of an earlier definition in the background
//! after an upgrade, and all of them by `tallyhook recompute`.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use tallyhook_core::domain::numbers::{NumberRules, numbers};
use tallyhook_core::domain::task::Patterns;
use tallyhook_core::domain::timings::DEFINITION;
use tallyhook_core::github::types::PrKey;
use tallyhook_store::{BatchWrite, LeaderRole, PullRequestRecord, Store, StoreError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::leader::{LeaderWork, Leadership, while_leading};

/// Pull requests of one transaction.
pub const PAGE: u32 = 200;
/// The pause after a failure of the database.
const RETRY: Duration = Duration::from_secs(10);

/// The work of the process that holds the leader role `Renumberer`: it writes the numbers of an
/// earlier definition anew, page by page, and gives deliveries half of the time. Until then the old
/// numbers are served. A page that was written is no longer outdated, so that a process which is
/// killed leaves nothing to be done twice.
pub struct Renumbering {
    store: Store,
    rules: NumberRules,
    is_done: bool,
}

impl Renumbering {
    pub const fn new(store: Store, rules: NumberRules) -> Self {
        Self {
            store,
            rules,
            is_done: false,
        }
    }

    /// Runs until `stopping` becomes true.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        let store = self.store.clone();
        while_leading(&store, LeaderRole::Renumberer, stopping, &mut self).await;
    }

    async fn renumber(&self) -> Result<(), StoreError> {
        let outdated = self.store.count_outdated().await?;
        if outdated == 0 {
            return Ok(());
        }
        tracing::info!(
            outdated,
            "computing the numbers of {outdated} pull requests again, by definition {DEFINITION}; \
             until then the old ones are shown"
        );
        let (mut after, mut renumbered) = (None, 0);
        loop {
            let started = Instant::now();
            let keys = self.store.outdated_after(after, PAGE).await?;
            let Some(last) = keys.last() else { break };
            write_again(&self.store, &keys, &self.rules, None).await?;
            tallyhook_core::crash_point::reached("renumbering.page_written");
            after = Some(*last);
            renumbered += keys.len();
            sleep(started.elapsed()).await;
        }
        tracing::info!(
            renumbered,
            "the numbers of {renumbered} pull requests are of definition {DEFINITION} now"
        );
        Ok(())
    }
}

impl LeaderWork for Renumbering {
    fn can_lead(&self) -> bool {
        !self.is_done
    }

    async fn lead(&mut self, leadership: &Leadership<'_>) {
        let mut is_done = false;
        let work = async {
            match self.renumber().await {
                Ok(()) => is_done = true,
                Err(StoreError::Closed) => {}
                Err(error) => {
                    tracing::error!(
                        %error,
                        "numbers cannot be computed again; retrying in {} s", RETRY.as_secs()
                    );
                    sleep(RETRY).await;
                }
            }
        };
        leadership.run_until_ended(work).await;
        self.is_done = is_done;
    }
}

/// Computes the numbers of `keys` again, with `patterns` also the tasks that they name, and writes
/// them.
///
/// # Errors
/// If the database fails.
pub async fn write_again(
    store: &Store,
    keys: &[PrKey],
    rules: &NumberRules,
    patterns: Option<&Patterns>,
) -> Result<(), StoreError> {
    // If a worker writes one of them in between, this page is read and computed again.
    loop {
        let stored = store.load(keys).await?.into_iter();
        let pull_requests: Vec<_> = stored
            .map(|known| PullRequestRecord {
                numbers: numbers(&known.pull_request, known.repo_name(), rules),
                reviews: BTreeSet::new(),
                known,
            })
            .collect();
        let mentions = patterns.into_iter().flat_map(|patterns| {
            pull_requests.iter().map(|record| {
                let pull_request = &record.known.pull_request;
                let named = patterns.named_by(pull_request, &rules.bots);
                (pull_request.key, named)
            })
        });
        let write = BatchWrite {
            mentions: mentions.collect(),
            pull_requests,
            ..BatchWrite::default()
        };
        if store.record(&write, Utc::now()).await?.is_ok() {
            return Ok(());
        }
    }
}
