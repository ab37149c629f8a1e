//! Computing stored numbers again, from the facts: those of an earlier definition in the background
//! after an upgrade, and all of them by `tallyhook recompute`.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use tallyhook_core::domain::numbers::{NumberRules, numbers};
use tallyhook_core::domain::task::Patterns;
use tallyhook_core::domain::timings::DEFINITION;
use tallyhook_core::github::types::PrKey;
use tallyhook_store::{
    BatchWrite, LeaderRole, PullRequestRecord, Store, StoreError, VersionConflict,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::leader::{LeaderWork, Leadership, while_leading};

/// Pull requests of one transaction.
pub const PAGE: u32 = 200;
/// The pause after a failure of the database.
const RETRY: Duration = Duration::from_secs(10);
/// The time between two looks. While versions are exchanged, processes of the one before still
/// write its numbers.
const LOOK: Duration = Duration::from_secs(60);

/// The work of the process that holds the leader role `Renumberer`: it writes the numbers of an
/// earlier definition anew, page by page, and gives deliveries half of the time. Until then the old
/// numbers are served. A page that was written is no longer outdated, so that a process which is
/// killed leaves nothing to be done twice.
pub struct Renumbering {
    store: Store,
    rules: NumberRules,
    look: Duration,
    next_look: Instant,
    /// Pull requests that were logged as such, and are left alone.
    unreadable: BTreeSet<PrKey>,
}

impl Renumbering {
    pub fn new(store: Store, rules: NumberRules) -> Self {
        Self {
            store,
            rules,
            look: LOOK,
            next_look: Instant::now(),
            unreadable: BTreeSet::new(),
        }
    }

    #[must_use]
    pub fn looking_every(self, look: Duration) -> Self {
        Self { look, ..self }
    }

    /// Runs until `stopping` becomes true.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        let store = self.store.clone();
        while_leading(&store, LeaderRole::Renumberer, stopping, &mut self).await;
    }

    async fn renumber(&mut self) -> Result<(), StoreError> {
        let (mut after, mut renumbered, mut is_announced) = (None, 0, false);
        loop {
            let started = Instant::now();
            let mut keys = self.store.outdated_after(after, PAGE).await?;
            let Some(last) = keys.last().copied() else {
                break;
            };
            after = Some(last);
            keys.retain(|key| !self.unreadable.contains(key));
            if keys.is_empty() {
                continue;
            }
            if !is_announced {
                let outdated = self.store.count_outdated().await?;
                tracing::info!(
                    outdated,
                    "computing the numbers of {outdated} pull requests again, by definition \
                     {DEFINITION}; until then the old ones are shown"
                );
                is_announced = true;
            }
            let unreadable = write_again(&self.store, &keys, &self.rules, None).await?;
            tallyhook_core::crash_point::reached("renumbering.page_written");
            renumbered += keys.len() - unreadable.len();
            self.unreadable.extend(unreadable);
            sleep(started.elapsed()).await;
        }
        if is_announced {
            tracing::info!(
                renumbered,
                "the numbers of {renumbered} pull requests are of definition {DEFINITION} now"
            );
        }
        Ok(())
    }
}

impl LeaderWork for Renumbering {
    fn can_lead(&self) -> bool {
        self.next_look <= Instant::now()
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
        if is_done {
            self.next_look = Instant::now() + self.look;
        }
    }
}

/// Computes the numbers of `keys` again, with `patterns` also the tasks that they name, and writes
/// them. Returns those that cannot be, each of which is logged.
///
/// If a worker writes one of them in between, half as many are tried next, after a pause for that
/// worker: a page that takes longer than the time between two writes would never be written whole.
///
/// # Errors
/// If the database fails.
pub async fn write_again(
    store: &Store,
    keys: &[PrKey],
    rules: &NumberRules,
    patterns: Option<&Patterns>,
) -> Result<Vec<PrKey>, StoreError> {
    let (mut rest, mut size, mut unreadable) = (keys, keys.len(), Vec::new());
    while !rest.is_empty() {
        let started = Instant::now();
        let (page, behind) = rest.split_at(size.min(rest.len()));
        match write_page(store, page, rules, patterns).await {
            Ok(Ok(())) => {
                (rest, size) = (behind, size * 2);
                continue;
            }
            Ok(Err(VersionConflict)) => sleep(started.elapsed()).await,
            Err(error) if error.is_unreadable() || error.rejects_data() => {
                if let [key] = page {
                    tracing::error!(
                        repo_id = key.repo.0, number = key.number.0, %error,
                        "the numbers of {key} cannot be computed again: {error}"
                    );
                    unreadable.push(*key);
                    rest = behind;
                    continue;
                }
            }
            Err(error) => return Err(error),
        }
        size = (page.len() / 2).max(1);
    }
    Ok(unreadable)
}

async fn write_page(
    store: &Store,
    keys: &[PrKey],
    rules: &NumberRules,
    patterns: Option<&Patterns>,
) -> Result<Result<(), VersionConflict>, StoreError> {
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
    store.record(&write, Utc::now()).await
}
