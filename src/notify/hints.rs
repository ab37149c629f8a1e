//! Hints for pages that are open: what changed, so that they ask again. The table of changes is read
//! once for all clients of a process, and only while there are any.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tallyhook_store::{
    ChangeAudience, ChangeId, ChangeKind, ChangedThing, Moment, Result, Store, StoredChange, TeamId,
};
use tokio::sync::{broadcast, watch};
use tokio::time::{MissedTickBehavior, interval};
use utoipa::ToSchema;

/// The interval at which changes are read. A page gathers hints for as long again.
const READ_INTERVAL: Duration = Duration::from_millis(250);
/// Changes that are read again each time: one whose transaction took longer appears behind later
/// ones.
const OVERLAP: i64 = 256;
/// Changes of one read.
const PAGE: u32 = 1024;
/// The time for which changes are kept.
pub const CHANGES_KEPT: TimeDelta = TimeDelta::minutes(10);
/// A process and the database may have clocks that differ by so much.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::seconds(5);
/// Hints that are buffered for a client that falls behind; then it is to ask for everything.
const BUFFER: usize = 1024;

/// A frame of `/ws?hints=1`: something changed, and what shows it is to be read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HintFrame {
    /// Always `hint`.
    #[serde(rename = "type")]
    pub kind: HintType,
    /// The kind of thing that changed.
    pub of: HintKind,
    /// `owner/name`; null if it may be any, or belongs to none.
    pub repo: Option<String>,
    /// Of a pull request; null if it may be any.
    pub number: Option<i64>,
    #[schema(format = "date-time")]
    pub at: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HintType {
    Hint,
}

/// The kinds of things that hints are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HintKind {
    Pr,
    Repo,
    SyncRun,
    Inbox,
    Task,
    Channel,
    Notification,
}

impl From<ChangeKind> for HintKind {
    fn from(kind: ChangeKind) -> Self {
        match kind {
            ChangeKind::PullRequest => Self::Pr,
            ChangeKind::Repository => Self::Repo,
            ChangeKind::SyncRun => Self::SyncRun,
            ChangeKind::Inbox => Self::Inbox,
            ChangeKind::Task => Self::Task,
            ChangeKind::Channel => Self::Channel,
            ChangeKind::Notification => Self::Notification,
        }
    }
}

impl HintFrame {
    fn new(thing: ChangedThing, at: Moment) -> Self {
        Self {
            kind: HintType::Hint,
            of: thing.kind.into(),
            repo: thing.repo,
            number: thing.number.map(|number| number.0),
            at: at.to_rfc3339_opts(SecondsFormat::Millis, true),
        }
    }
}

/// A hint with the readers who may learn of the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressedHint {
    pub frame: HintFrame,
    audience: ChangeAudience,
}

impl AddressedHint {
    fn new(thing: ChangedThing, at: Moment) -> Self {
        let audience = thing.audience.clone();
        let frame = HintFrame::new(thing, at);
        Self { frame, audience }
    }

    /// Returns true for a reader of a team, who may be an operator.
    pub fn is_for(&self, team: TeamId, is_operator: bool) -> bool {
        self.audience.includes(team, is_operator)
    }

    /// Returns the hints that anything may have changed.
    fn everything() -> Vec<Arc<Self>> {
        let now = Utc::now();
        let kinds = ChangeKind::ALL.map(ChangedThing::any);
        kinds.map(|thing| Arc::new(Self::new(thing, now))).into()
    }
}

/// The hints of a process.
pub struct HintFeed {
    store: Store,
    frames: broadcast::Sender<Arc<AddressedHint>>,
}

/// The changes that were read.
#[derive(Debug, Default)]
struct ReadPlace {
    newest: ChangeId,
    /// The last of them, which are read again.
    seen: BTreeSet<ChangeId>,
}

/// The hints for one client.
pub struct HintSubscription {
    frames: broadcast::Receiver<Arc<AddressedHint>>,
    /// Those to be returned first.
    before: Vec<Arc<AddressedHint>>,
}

impl HintFeed {
    pub fn new(store: Store) -> Self {
        let (frames, _) = broadcast::channel(BUFFER);
        Self { store, frames }
    }

    /// Subscribes to the hints of changes since a time, or from now on.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn subscribe(&self, since: Option<Moment>) -> Result<HintSubscription> {
        let frames = self.frames.subscribe();
        let mut before = match since {
            Some(since) => self.hints_since(since).await?,
            None => Vec::new(),
        };
        before.reverse();
        Ok(HintSubscription { frames, before })
    }

    /// Returns the hints of what changed since a time.
    async fn hints_since(&self, since: Moment) -> Result<Vec<Arc<AddressedHint>>> {
        let since = since - CLOCKS_DIFFER;
        if since < Utc::now() - CHANGES_KEPT {
            return Ok(AddressedHint::everything());
        }
        let newest = self.store.newest_change().await?;
        let first = newest - i64::from(PAGE);
        let changes = self.store.changes_after(first, PAGE).await?;
        let is_cut = changes.len() == PAGE as usize;
        if is_cut && changes.first().is_some_and(|oldest| oldest.at >= since) {
            return Ok(AddressedHint::everything());
        }
        let changes = changes.into_iter().filter(|change| change.at >= since);
        Ok(hints(changes))
    }

    /// Reads changes until `stopping` is true.
    pub async fn run(&self, mut stopping: watch::Receiver<bool>) {
        let mut ticks = interval(READ_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        let mut place = None;
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                _ = ticks.tick() => {}
            }
            if self.frames.receiver_count() == 0 {
                place = None;
                continue;
            }
            let read = self.read(&mut place).await;
            if let Err(error) = &read
                && !is_failing
            {
                tracing::error!(%error, "the changes for open pages cannot be read; retrying");
            }
            is_failing = read.is_err();
        }
    }

    /// Sends the hints of new changes to all clients.
    async fn read(&self, place: &mut Option<ReadPlace>) -> Result<()> {
        let is_first = place.is_none();
        if is_first {
            *place = Some(ReadPlace {
                newest: self.store.newest_change().await?,
                seen: BTreeSet::new(),
            });
        }
        let place = place.get_or_insert_default();
        loop {
            let from = place.newest - OVERLAP;
            let mut changes = self.store.changes_after(from, PAGE).await?;
            let is_full = changes.len() == PAGE as usize;
            // The first client subscribed since the last look.
            let fresh = Utc::now() - CLOCKS_DIFFER;
            changes
                .retain(|change| place.seen.insert(change.id) && (!is_first || change.at >= fresh));
            let last = place.seen.last().copied().unwrap_or_default();
            place.newest = place.newest.max(last);
            place.seen = place.seen.split_off(&(place.newest - OVERLAP));
            for hint in hints(changes.into_iter()) {
                // An error means that there is no client any more.
                drop(self.frames.send(hint));
            }
            if !is_full {
                return Ok(());
            }
        }
    }
}

/// Returns the hints of changes, each thing once.
fn hints(changes: impl Iterator<Item = StoredChange>) -> Vec<Arc<AddressedHint>> {
    let mut seen = BTreeSet::new();
    let mut hints = Vec::new();
    for change in changes {
        for thing in change.things {
            if seen.insert(thing.clone()) {
                hints.push(Arc::new(AddressedHint::new(thing, change.at)));
            }
        }
    }
    hints
}

impl HintSubscription {
    /// Waits for the next hint; `None` when the process stops. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<AddressedHint>> {
        if let Some(hint) = self.before.pop() {
            return Some(hint);
        }
        match self.frames.recv().await {
            Ok(hint) => Some(hint),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.before = AddressedHint::everything();
                self.before.pop()
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
