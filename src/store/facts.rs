//! The facts: what is known of pull requests and repositories.

use std::collections::BTreeSet;

use super::{Change, DeliveryId, Moment, Result};
use crate::domain::join::{Dated, Join};
use crate::domain::pull_request::PullRequest;
use crate::domain::repository::{Access, Repository};
use crate::domain::task::TaskKey;
use crate::domain::timings::Timings;
use crate::github::types::{InstallationId, PrKey, RepoId, ReviewId};

/// A pull request as it was read, with the version that a write must find.
#[derive(Clone, Debug)]
pub struct Known {
    pub pull_request: PullRequest,
    /// 0 while there is no row.
    pub version: i64,
}

/// A pull request to be written.
#[derive(Clone, Debug)]
pub struct PullRequestRecord {
    pub known: Known,
    /// `None` while no snapshot of it was seen.
    pub timings: Option<Timings>,
    /// The reviews that changed.
    pub reviews: BTreeSet<ReviewId>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    Applied(DeliveryId),
    Ignored(DeliveryId, String),
}

impl Finished {
    pub fn id(&self) -> DeliveryId {
        match self {
            Self::Applied(id) | Self::Ignored(id, _) => *id,
        }
    }

    /// As metrics name it.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Applied(_) => "applied",
            Self::Ignored(..) => "ignored",
        }
    }
}

/// What a batch showed of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub repository: Repository,
    /// The newest webhook of it.
    pub last_delivery: Option<Moment>,
    /// Since when it is tracked if this is its first sight; `None`: it is not. Of one that is there nothing changes by it.
    pub tracks: Option<Moment>,
}

impl Join for Sighting {
    fn join(&mut self, other: Self) {
        self.repository.join(other.repository);
        self.last_delivery = self.last_delivery.max(other.last_delivery);
        self.tracks = [self.tracks, other.tracks].into_iter().flatten().min();
    }
}

/// One batch of changes, all or nothing.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    pub pull_requests: Vec<PullRequestRecord>,
    pub repositories: Vec<Sighting>,
    /// How many changes were found by asking that no webhook had told.
    pub missed: Vec<(RepoId, u64)>,
    /// Access to all repositories of an installation.
    pub installations: Vec<(InstallationId, Dated<Access>)>,
    /// What pull requests became, in the order in which it was learnt. Those that are worth telling enter the outbox.
    pub changes: Vec<Change>,
    /// Pull requests whose status, or since when it is so, is another now: their tasks are to follow.
    pub moved: BTreeSet<PrKey>,
    /// All keys of tasks that a pull request names now, where these are others than before.
    pub mentions: Vec<(PrKey, BTreeSet<TaskKey>)>,
    /// Branches that were pushed to, where that is of interest: tasks that are worked on there are to be looked at.
    pub pushes: BTreeSet<(RepoId, String)>,
    pub finished: Vec<Finished>,
}

/// Somebody else wrote first, or finished one of the deliveries: nothing was written, load and apply again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict;

/// Use cases of the facts. `record` is the one way in which a fact is written.
#[async_trait::async_trait]
pub trait Facts: Send + Sync {
    /// What is known of each key; one of which nothing is known comes as [`PullRequest::unknown`].
    async fn load(&self, keys: &[PrKey]) -> Result<Vec<Known>>;

    /// Writes facts and numbers, and finishes the deliveries they came from, in one transaction.
    async fn record(&self, recording: &Recording, now: Moment) -> Result<std::result::Result<(), Conflict>>;

    /// Keys after `after` in ascending order, at most `limit`: for walking over all pull requests.
    async fn keys_after(&self, after: Option<PrKey>, limit: u32) -> Result<Vec<PrKey>>;
}
