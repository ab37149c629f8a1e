//! The known facts of one pull request, and the merge of an event into them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::join::{Dated, Join, take_earlier, take_greater};
use super::review::{Review, join_account};
use crate::event::{
    self, Branches, CommitDates, Conversation, Diff, Fact, FactKind, FetchedPullRequest,
    PullRequestEvent, PullRequestSnapshot, SnapshotMark,
};
use crate::github::types::{Account, PrKey, ReviewId, Timestamp};

/// A pull request, joined from every event that showed it: any order and repetition ends in the
/// same value.
///
/// The three dated groups are the guards: a snapshot older than a group changes nothing in it, and
/// a payload that lacks a group leaves it as it is. The timeline facts of a stale snapshot still
/// count.
///
/// GitHub's own timeline, once it was fetched completely, is the truth up to that time: of the
/// facts that it covers, none from another source is kept for the time before, whether it arrived
/// earlier or arrives later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    pub key: PrKey,
    pub github_id: Option<i64>,
    pub created_at: Option<Timestamp>,
    pub author: Option<Dated<Author>>,
    /// Guarded by the `updated_at` of every payload; `None` while only a merge group spoke of it.
    pub conversation: Option<Dated<Conversation>>,
    /// Guarded by the `updated_at` of payloads with a pull request; `None` while only comments were seen.
    pub branches: Option<Dated<Branches>>,
    /// Guarded by the `updated_at` of full payloads; `None` makes it a stub.
    pub diff: Option<Dated<Diff>>,
    /// Once set it stays.
    pub merged_at: Option<Timestamp>,
    /// As of the latest fetch that asked for them.
    pub commits: Option<Dated<CommitDates>>,
    /// Up to when GitHub's own timeline is known.
    pub whole_until: Option<Timestamp>,
    /// As of when a fetch did not get to the end of its lists.
    pub truncated_at: Option<Timestamp>,
    pub timeline: Timeline,
    /// The states that snapshots showed, by their `updated_at`, which reveal missed reopenings and drafts.
    pub observed: BTreeMap<Timestamp, Observed>,
    pub reviews: BTreeMap<ReviewId, Review>,
    /// The best source of its facts.
    pub source: Option<Source>,
}

/// The state of the pull request in one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub open: bool,
    pub draft: Option<bool>,
}

impl Join for Observed {
    fn join(&mut self, other: Self) {
        self.open &= other.open;
        self.draft = match (self.draft, other.draft) {
            (Some(one), Some(two)) => Some(one && two),
            (one, two) => one.or(two),
        };
    }
}

/// The author. The ghost is dated before everything, so that a known account is never replaced by
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author(pub Account);

impl Join for Author {
    fn join(&mut self, other: Self) {
        join_account(&mut self.0, other.0);
    }
}

/// The source of a pull request's facts. A later variant outranks an earlier one.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Source {
    Backfill,
    Monitor,
    Poller,
    Webhook,
}

impl Source {
    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// The facts of a pull request, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline(BTreeMap<FactKey, Option<Account>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FactKey {
    at: Timestamp,
    kind: FactKind,
    subject: Option<i64>,
    detail: Option<String>,
}

impl Timeline {
    /// Merges a fact; for one that is there already only its actor counts.
    pub fn add(&mut self, fact: Fact) {
        let key = FactKey {
            at: fact.at,
            kind: fact.kind,
            subject: fact.subject,
            detail: fact.detail,
        };
        match self.0.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(fact.actor);
            }
            Entry::Occupied(mut entry) => match (entry.get_mut(), fact.actor) {
                (Some(known), Some(actor)) => join_account(known, actor),
                (unknown @ None, actor) => *unknown = actor,
                (Some(_), None) => {}
            },
        }
    }

    /// Returns the facts by time, those of one second in the order of [`FactKind`].
    pub fn iter(&self) -> impl Iterator<Item = Fact> + '_ {
        self.0.iter().map(|(key, actor)| Fact {
            at: key.at,
            kind: key.kind,
            subject: key.subject,
            detail: key.detail.clone(),
            actor: actor.clone(),
        })
    }

    /// Returns the times of all facts of `kind`, earliest first.
    pub fn times_of(&self, kind: FactKind) -> impl Iterator<Item = Timestamp> + '_ {
        self.0
            .keys()
            .filter(move |key| key.kind == kind)
            .map(|key| key.at)
    }

    /// Returns time, subject and actor of each fact of `kind`, earliest first.
    pub fn acts(
        &self,
        kind: FactKind,
    ) -> impl Iterator<Item = (Timestamp, Option<i64>, Option<&Account>)> + '_ {
        let facts = self.0.iter().filter(move |(key, _)| key.kind == kind);
        facts.map(|(key, actor)| (key.at, key.subject, actor.as_ref()))
    }

    /// Returns whether it was opened as a draft, or `None` if the opening itself is unknown.
    pub fn opened_as_draft(&self) -> Option<bool> {
        let opened = self.0.keys().find(|key| key.kind == FactKind::Opened)?;
        Some(opened.detail.is_some())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Fact> for Timeline {
    fn from_iter<I: IntoIterator<Item = Fact>>(facts: I) -> Self {
        let mut timeline = Self::default();
        for fact in facts {
            timeline.add(fact);
        }
        timeline
    }
}

/// The effect of an event on a pull request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// New facts were merged.
    Changed,
    /// All facts were known: a repetition.
    Unchanged,
    /// Its snapshot is older than the known one; its timeline facts may still be new.
    Stale,
}

impl PullRequest {
    /// Returns a pull request of which nothing is known yet.
    pub fn unknown(key: PrKey) -> Self {
        Self {
            key,
            github_id: None,
            created_at: None,
            author: None,
            conversation: None,
            branches: None,
            diff: None,
            merged_at: None,
            commits: None,
            whole_until: None,
            truncated_at: None,
            timeline: Timeline::default(),
            observed: BTreeMap::new(),
            reviews: BTreeMap::new(),
            source: None,
        }
    }

    /// Returns the public `pr_id`: the UUID version 5 of repository id and number.
    pub fn id(key: PrKey) -> Uuid {
        // The namespace is the version 5 UUID of our own name among URLs, fixed for ever.
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"tallyhook:pull-request");
        Uuid::new_v5(&namespace, key.to_string().as_bytes())
    }

    /// Merges a webhook event.
    pub fn apply(&mut self, event: &PullRequestEvent, source: Source) -> ApplyOutcome {
        self.merge(source, event.pull_request.as_ref(), |known| {
            if let Some(snapshot) = &event.pull_request {
                known.merge_snapshot(snapshot);
                known.commits.join(event.commits.map(|value| Dated {
                    at: snapshot.updated_at,
                    value,
                }));
            }
            for fact in &event.facts {
                known.add_fact(fact.clone());
            }
            if let Some(review) = &event.review {
                known.merge_review(review);
            }
        })
    }

    /// Merges a fetched pull request.
    pub fn apply_fetched(&mut self, fetched: &FetchedPullRequest, source: Source) -> ApplyOutcome {
        self.merge(source, Some(&fetched.pull_request), |known| {
            let at = fetched.pull_request.updated_at;
            match (fetched.settled, fetched.truncated) {
                (true, false) => known.trust_until(at),
                (true, true) => take_greater(&mut known.truncated_at, Some(at)),
                (false, _) => {}
            }
            let is_complete =
                fetched.settled && !fetched.truncated && known.whole_until == Some(at);
            if is_complete {
                known.merge_lasting_facts(&fetched.pull_request);
                known.merge_state(&fetched.pull_request);
                fetched
                    .timeline
                    .iter()
                    .for_each(|fact| known.timeline.add(fact.clone()));
            } else {
                known.merge_snapshot(&fetched.pull_request);
                fetched
                    .timeline
                    .iter()
                    .for_each(|fact| known.add_fact(fact.clone()));
            }
            known
                .commits
                .join(fetched.commits.map(|value| Dated { at, value }));
            for review in &fetched.reviews {
                known.merge_review(review);
            }
        })
    }

    /// Returns whether `fetched` has unknown facts: a newer update, or, if the history before was
    /// complete, a review.
    pub fn is_behind(&self, fetched: &FetchedPullRequest) -> bool {
        let seen_at = self.conversation.as_ref().map(|known| known.at);
        let lacks_review = fetched
            .reviews
            .iter()
            .any(|review| !self.reviews.contains_key(&review.id));
        seen_at < Some(fetched.pull_request.updated_at)
            || (self.whole_until.is_some() && lacks_review)
    }

    /// Returns whether its latest snapshot was marked so.
    pub fn has_mark(&self, mark: SnapshotMark) -> bool {
        let latest = self.conversation.as_ref();
        latest.is_some_and(|latest| latest.value.marks.contains(&mark))
    }

    /// Returns whether it was merged as far as is known: at a known time, or by the latest snapshot.
    pub fn is_merged(&self) -> bool {
        let is_open = |latest: &Dated<Conversation>| latest.value.open;
        self.merged_at.is_some()
            || (self.has_mark(SnapshotMark::UndatedMerge)
                && !self.conversation.as_ref().is_some_and(is_open))
    }

    /// Returns the `updated_at` of the latest fetch, be it complete or truncated.
    pub fn fetched_at(&self) -> Option<Timestamp> {
        self.whole_until.max(self.truncated_at)
    }

    /// Returns whether GitHub has facts of it that were not fetched.
    pub fn is_truncated(&self) -> bool {
        self.truncated_at > self.whole_until
    }

    fn merge(
        &mut self,
        source: Source,
        snapshot: Option<&PullRequestSnapshot>,
        merge_facts: impl FnOnce(&mut Self),
    ) -> ApplyOutcome {
        let before = self.clone();
        let stale = snapshot.is_some_and(|snapshot| self.is_newer_than(snapshot));
        take_greater(&mut self.source, Some(source));
        merge_facts(self);
        match (*self == before, stale) {
            (true, _) => ApplyOutcome::Unchanged,
            (false, true) => ApplyOutcome::Stale,
            (false, false) => ApplyOutcome::Changed,
        }
    }

    fn merge_review(&mut self, review: &event::ReviewSnapshot) {
        let review = Review::from(review.clone());
        match self.reviews.entry(review.id) {
            Entry::Vacant(entry) => {
                entry.insert(review);
            }
            Entry::Occupied(mut entry) => entry.get_mut().join(review),
        }
    }

    /// Makes GitHub's timeline the only source of the facts before `at` that it covers, and the
    /// fetched snapshot the only source of the state at `at`.
    fn trust_until(&mut self, at: Timestamp) {
        if self.whole_until >= Some(at) {
            return;
        }
        self.whole_until = Some(at);
        self.timeline
            .0
            .retain(|fact, _| fact.at >= at || !fact.kind.is_fetched());
        self.observed = self.observed.split_off(&at);
        self.observed.remove(&at);
        self.conversation.take_if(|known| known.at == at);
        self.branches.take_if(|known| known.at == at);
        self.diff.take_if(|known| known.at == at);
    }

    fn is_covered_by_github(&self, at: Timestamp) -> bool {
        self.whole_until.is_some_and(|until| at < until)
    }

    fn add_fact(&mut self, fact: Fact) {
        if !(fact.kind.is_fetched() && self.is_covered_by_github(fact.at)) {
            self.timeline.add(fact);
        }
    }

    fn is_newer_than(&self, snapshot: &PullRequestSnapshot) -> bool {
        self.conversation
            .as_ref()
            .is_some_and(|known| known.at > snapshot.updated_at)
    }

    fn merge_snapshot(&mut self, snapshot: &PullRequestSnapshot) {
        self.merge_lasting_facts(snapshot);
        // The state at the end of that second was fetched; a webhook may have been sent in the
        // middle of it.
        if self.whole_until != Some(snapshot.updated_at) {
            self.merge_state(snapshot);
        }
    }

    /// Merges the fields that do not depend on other changes within the same second.
    fn merge_lasting_facts(&mut self, snapshot: &PullRequestSnapshot) {
        let at = snapshot.updated_at;
        take_greater(&mut self.github_id, snapshot.github_id);
        take_earlier(&mut self.created_at, Some(snapshot.created_at));
        take_earlier(&mut self.merged_at, snapshot.merged_at);
        self.author.join(Some(Dated {
            at: if snapshot.author.is_ghost() {
                Timestamp::clamped(0)
            } else {
                at
            },
            value: Author(snapshot.author.clone()),
        }));
        self.merge_end_dates(snapshot);
    }

    fn merge_state(&mut self, snapshot: &PullRequestSnapshot) {
        let at = snapshot.updated_at;
        self.conversation.join(Some(Dated {
            at,
            value: snapshot.conversation.clone(),
        }));
        self.branches
            .join(snapshot.branches.clone().map(|value| Dated { at, value }));
        self.diff
            .join(snapshot.diff.clone().map(|value| Dated { at, value }));
        self.merge_observation(snapshot);
    }

    fn merge_observation(&mut self, snapshot: &PullRequestSnapshot) {
        let is_misdated = snapshot
            .conversation
            .marks
            .contains(&SnapshotMark::ClockSkew);
        if is_misdated || self.is_covered_by_github(snapshot.updated_at) {
            return;
        }
        let observed = Observed {
            open: snapshot.conversation.open,
            draft: snapshot
                .branches
                .as_ref()
                .and_then(|branches| branches.draft),
        };
        match self.observed.entry(snapshot.updated_at) {
            Entry::Vacant(entry) => {
                entry.insert(observed);
            }
            Entry::Occupied(mut entry) => entry.get_mut().join(observed),
        }
    }

    /// Adds the end of a closed pull request, which every snapshot dates, even if the `closed`
    /// delivery was lost.
    fn merge_end_dates(&mut self, snapshot: &PullRequestSnapshot) {
        let closed = snapshot
            .conversation
            .closed_at
            .map(|at| (at, FactKind::Closed));
        let merged = snapshot.merged_at.map(|at| (at, FactKind::Merged));
        for (at, kind) in closed.into_iter().chain(merged) {
            self.add_fact(Fact {
                at,
                kind,
                subject: None,
                detail: None,
                actor: None,
            });
        }
    }
}
