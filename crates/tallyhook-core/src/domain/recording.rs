//! One batch of changes as plain data: what the store read, and what it has to write.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::join::{Dated, Join, take_greater};
use super::notification::{StatusChange, SyncSource};
use super::numbers::Numbers;
use super::pull_request::PullRequest;
use super::repository::{Repository, RepositoryAccess, RepositoryDetails};
use super::task::TaskKey;
use super::waiting_change::WaitingChange;
use crate::delivery::{DeliveryId, Moment};
use crate::event::FetchedCommit;
use crate::github::types::{AccountId, InstallationId, PrKey, RepoId, ReviewId, Timestamp};

/// A pull request as it was read, with the version that a write must find.
#[derive(Clone, Debug)]
pub struct StoredPullRequest {
    pub pull_request: PullRequest,
    /// 0 while there is no row.
    pub version: i64,
    /// Its repository as the store knows it; `None` while there is no row.
    pub repository: Option<Dated<RepositoryDetails>>,
    /// The [`PullRequestRecord::parties_hash`] of the stored rows; `None` while there are none.
    pub parties_hash: Option<i64>,
}

impl StoredPullRequest {
    /// The most recent timeline entries and observations that are stored in the row; more become a
    /// segment.
    pub const MOST_RECENT: usize = 128;

    /// Returns the state of one without a row.
    pub fn unknown(key: PrKey) -> Self {
        Self {
            pull_request: PullRequest::unknown(key),
            version: 0,
            repository: None,
            parties_hash: None,
        }
    }

    /// Returns whether the next write stores the recent part of the history as a segment, and not
    /// in the row.
    pub fn fills_segment(&self) -> bool {
        self.pull_request.recent_len() > Self::MOST_RECENT
    }

    /// Returns whether the next write deletes the segments that are stored: others took the place of
    /// facts that they have.
    pub fn replaces_segments(&self) -> bool {
        self.version > 0 && !self.pull_request.extends_segments()
    }

    /// Returns the name of its repository, as far as it is known.
    pub fn repo_name(&self) -> Option<&str> {
        let repository = self.repository.as_ref()?;
        Some(&repository.value.name)
    }
}

/// A pull request to be written.
#[derive(Clone, Debug)]
pub struct PullRequestRecord {
    pub known: StoredPullRequest,
    /// `None` until a snapshot of it was seen.
    pub numbers: Option<Numbers>,
    /// The reviews that changed.
    pub reviews: BTreeSet<ReviewId>,
}

impl PullRequestRecord {
    /// Returns a hash of those that are waited for and of the review requests, which have rows of
    /// their own: a write leaves them alone while it stays the same. `None` if there are none. A
    /// later version may hash otherwise; then they are written once more.
    pub fn parties_hash(&self) -> Option<i64> {
        let turns = &self.numbers.as_ref()?.turns;
        let who = turns
            .waiting
            .as_ref()
            .map_or(&[][..], |waiting| &waiting.who);
        if who.is_empty() && turns.pairs.is_empty() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        who.len().hash(&mut hasher);
        for waiter in who {
            (&waiter.party, waiter.since).hash(&mut hasher);
        }
        turns.pairs.hash(&mut hasher);
        Some(hasher.finish().cast_signed())
    }

    /// Returns the pull request as it is once it was written.
    pub fn written(self) -> StoredPullRequest {
        let parties_hash = self.parties_hash();
        let mut known = self.known;
        let as_segment = known.fills_segment();
        known.pull_request.stored(as_segment);
        StoredPullRequest {
            version: known.version + 1,
            parties_hash,
            ..known
        }
    }
}

/// The final state of a delivery that a batch finishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishedDelivery {
    Applied(DeliveryId),
    /// With the reason.
    Ignored(DeliveryId, String),
}

impl FinishedDelivery {
    pub fn id(&self) -> DeliveryId {
        match self {
            Self::Applied(id) | Self::Ignored(id, _) => *id,
        }
    }

    /// The value of the label `outcome` of metrics.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Applied(_) => "applied",
            Self::Ignored(..) => "ignored",
        }
    }
}

/// The facts about a repository that a batch showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryObservation {
    pub repository: Repository,
    /// Other names that it was seen with, by the time of the last sight.
    pub former_names: BTreeMap<String, Timestamp>,
    /// The receipt of its newest webhook.
    pub last_delivery: Option<Moment>,
    /// The start of its tracking if it was unknown before; `None` leaves it untracked. Ignored for
    /// a known repository.
    pub tracks: Option<Moment>,
}

impl Join for RepositoryObservation {
    fn join(&mut self, other: Self) -> bool {
        let is_renamed = self.join_names(&other);
        let tracks = [self.tracks, other.tracks].into_iter().flatten().min();
        let tracks_before = tracks != self.tracks;
        self.tracks = tracks;
        is_renamed
            | tracks_before
            | self.repository.join(other.repository)
            | take_greater(&mut self.last_delivery, other.last_delivery)
    }
}

impl RepositoryObservation {
    /// Adds the names of `other`, which is about to be joined. The one that stays is among them if
    /// there are two.
    fn join_names(&mut self, other: &Self) -> bool {
        let (seen, seen_besides) = (&self.repository.seen, &other.repository.seen);
        let mut names = other.former_names.clone();
        if seen.value.name != seen_besides.value.name {
            names.insert(seen.value.name.clone(), seen.at);
            names.insert(seen_besides.value.name.clone(), seen_besides.at);
        }
        let mut is_new = false;
        for (name, at) in names {
            let known = self.former_names.get(&name);
            if known.is_none_or(|known| *known < at) {
                self.former_names.insert(name, at);
                is_new = true;
            }
        }
        is_new
    }
}

/// A change of a pull request's status, and the source that it was learnt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullRequestChange {
    pub key: PrKey,
    pub change: StatusChange,
    pub source: SyncSource,
}

/// The commits of a pull request as of the latest fetch that asked for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCommits {
    pub key: PrKey,
    /// The `updated_at` of the fetched pull request.
    pub at: Timestamp,
    pub commits: Vec<FetchedCommit>,
}

/// One batch of changes, written all or nothing.
#[derive(Clone, Debug, Default)]
pub struct BatchWrite {
    pub pull_requests: Vec<PullRequestRecord>,
    /// Those of them whose stored facts are dropped first, with the dates of their repositories: they
    /// replace what is known instead of adding to it.
    pub replaced: Vec<PrKey>,
    pub repositories: Vec<RepositoryObservation>,
    /// The number of changes that the poller found and no webhook brought.
    pub missed: Vec<(RepoId, u64)>,
    /// Access to all repositories of an installation.
    pub installations: Vec<(InstallationId, Dated<RepositoryAccess>)>,
    /// Status changes in the order in which they were learnt. Those worth a notification enter the
    /// outbox.
    pub changes: Vec<PullRequestChange>,
    /// Changes of the parties that pull requests wait for. Those worth a notification enter the
    /// outbox, after the status changes.
    pub waits: Vec<WaitingChange>,
    /// Pull requests whose status, or the time of it, differs from before: their tasks follow.
    pub moved: BTreeSet<PrKey>,
    /// All task keys that a pull request names now, where they differ from before.
    pub mentions: Vec<(PrKey, BTreeSet<TaskKey>)>,
    /// The authors that pull requests did not have before, by login in lower case, with the time at
    /// which they were seen.
    pub logins: BTreeMap<(String, AccountId), Timestamp>,
    /// The lists of commits that are no older than those that are known.
    pub commits: Vec<ListedCommits>,
    /// Branches that were pushed to, if the caller tracks them: the tasks on these branches become
    /// due.
    pub pushes: BTreeSet<(RepoId, String)>,
    pub finished: Vec<FinishedDelivery>,
}

/// Another worker wrote first, or finished one of the deliveries: nothing was written. Load and
/// apply again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionConflict;
