//! The known facts of one pull request, and the merge of an event into them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use strum::VariantArray;
use uuid::Uuid;

use super::growing::GrowingMap;
use super::join::{Dated, Join, join_draft, join_open, take_earlier, take_greater};
use super::review::Review;
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
    pub observed: GrowingMap<Timestamp, Observed>,
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
    fn join(&mut self, other: Self) -> bool {
        join_open(&mut self.open, other.open) | join_draft(&mut self.draft, other.draft)
    }
}

/// The author. The ghost is dated before everything, so that a known account is never replaced by
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author(pub Account);

impl Join for Author {
    fn join(&mut self, other: Self) -> bool {
        self.0.join(other.0)
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

/// The facts of a pull request, each once, with their actors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline(GrowingMap<FactKey, Option<Account>>);

/// The identity of a fact. By kind first, since most questions are about one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FactKey {
    kind: FactKind,
    at: Timestamp,
    subject: Option<i64>,
    detail: Option<String>,
}

impl FactKey {
    /// Returns a key that is before all others of `kind`.
    const fn first_of(kind: FactKind) -> Self {
        Self {
            kind,
            at: Timestamp::clamped(i64::MIN),
            subject: None,
            detail: None,
        }
    }

    fn split(fact: Fact) -> (Self, Option<Account>) {
        let key = Self {
            kind: fact.kind,
            at: fact.at,
            subject: fact.subject,
            detail: fact.detail,
        };
        (key, fact.actor)
    }

    fn fact(&self, actor: Option<&Account>) -> Fact {
        Fact {
            at: self.at,
            kind: self.kind,
            subject: self.subject,
            detail: self.detail.clone(),
            actor: actor.cloned(),
        }
    }
}

impl Timeline {
    /// Returns a timeline of the facts that the segments of a stored pull request have.
    pub fn of_segments(facts: impl IntoIterator<Item = Fact>) -> Self {
        Self(GrowingMap::of_segments(
            facts.into_iter().map(FactKey::split),
        ))
    }

    /// Merges a fact; for one that is there already only its actor counts. Returns whether that
    /// changed the timeline.
    pub fn add(&mut self, fact: Fact) -> bool {
        let (key, actor) = FactKey::split(fact);
        self.0.join(key, actor)
    }

    /// Returns the facts by time, those of one second in the order of [`FactKind`].
    pub fn iter(&self) -> impl Iterator<Item = Fact> + '_ {
        by_time(self.0.iter())
    }

    /// Returns the facts that no segment has, in the same order.
    pub fn recent(&self) -> impl Iterator<Item = Fact> + '_ {
        by_time(self.0.recent())
    }

    /// Returns the times of all facts of `kind`, earliest first.
    pub fn times_of(&self, kind: FactKind) -> impl DoubleEndedIterator<Item = Timestamp> + '_ {
        self.of(kind).map(|(key, _)| key.at)
    }

    /// Returns time, subject and actor of each fact of `kind`, earliest first.
    pub fn acts(
        &self,
        kind: FactKind,
    ) -> impl Iterator<Item = (Timestamp, Option<i64>, Option<&Account>)> + '_ {
        self.of(kind)
            .map(|(key, actor)| (key.at, key.subject, actor.as_ref()))
    }

    /// Returns whether it was opened as a draft, or `None` if the opening itself is unknown.
    pub fn opened_as_draft(&self) -> Option<bool> {
        let (opened, _) = self.of(FactKind::Opened).next()?;
        Some(opened.detail.is_some())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(
        &self,
        kind: FactKind,
    ) -> impl DoubleEndedIterator<Item = (&FactKey, &Option<Account>)> + '_ {
        let after = FactKind::VARIANTS.get(kind as usize + 1);
        let end = after.map_or(Bound::Unbounded, |after| {
            Bound::Excluded(FactKey::first_of(*after))
        });
        self.0
            .range((Bound::Included(FactKey::first_of(kind)), end))
    }
}

fn by_time<'a>(
    facts: impl Iterator<Item = (&'a FactKey, &'a Option<Account>)>,
) -> impl Iterator<Item = Fact> + 'a {
    let mut facts: Vec<_> = facts.collect();
    facts.sort_by_key(|(key, _)| (key.at, *key));
    facts
        .into_iter()
        .map(|(key, actor)| key.fact(actor.as_ref()))
}

impl Extend<Fact> for Timeline {
    fn extend<I: IntoIterator<Item = Fact>>(&mut self, facts: I) {
        self.0.extend(facts.into_iter().map(FactKey::split));
    }
}

impl FromIterator<Fact> for Timeline {
    fn from_iter<I: IntoIterator<Item = Fact>>(facts: I) -> Self {
        let mut timeline = Self::default();
        timeline.extend(facts);
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
            observed: GrowingMap::default(),
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
            let mut changed = false;
            if let Some(snapshot) = &event.pull_request {
                changed |= known.merge_snapshot(snapshot);
                changed |= known.commits.join(event.commits.map(|value| Dated {
                    at: snapshot.updated_at,
                    value,
                }));
            }
            for fact in &event.facts {
                changed |= known.add_fact(fact.clone());
            }
            if let Some(review) = &event.review {
                changed |= known.merge_review(review);
            }
            changed
        })
    }

    /// Merges a fetched pull request.
    pub fn apply_fetched(&mut self, fetched: &FetchedPullRequest, source: Source) -> ApplyOutcome {
        self.merge(source, Some(&fetched.pull_request), |known| {
            let at = fetched.pull_request.updated_at;
            let mut changed = match (fetched.settled, fetched.truncated) {
                (true, false) => known.trust_until(at),
                (true, true) => take_greater(&mut known.truncated_at, Some(at)),
                (false, _) => false,
            };
            let is_complete =
                fetched.settled && !fetched.truncated && known.whole_until == Some(at);
            if is_complete {
                changed |= known.merge_lasting_facts(&fetched.pull_request);
                changed |= known.merge_state(&fetched.pull_request);
                for fact in &fetched.timeline {
                    changed |= known.timeline.add(fact.clone());
                }
            } else {
                changed |= known.merge_snapshot(&fetched.pull_request);
                for fact in &fetched.timeline {
                    changed |= known.add_fact(fact.clone());
                }
            }
            changed |= known
                .commits
                .join(fetched.commits.map(|value| Dated { at, value }));
            for review in &fetched.reviews {
                changed |= known.merge_review(review);
            }
            changed
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

    /// Returns the number of timeline entries and observations that no stored segment has.
    pub(super) fn recent_len(&self) -> usize {
        self.timeline.0.recent_len() + self.observed.recent_len()
    }

    /// Returns whether the segments that are stored are a part of this history.
    pub(super) fn extends_segments(&self) -> bool {
        self.timeline.0.extends_segments() && self.observed.extends_segments()
    }

    /// Notes that the history was stored, with its recent part as a segment or not.
    pub(super) fn stored(&mut self, as_segment: bool) {
        self.timeline.0.stored(as_segment);
        self.observed.stored(as_segment);
    }

    fn merge(
        &mut self,
        source: Source,
        snapshot: Option<&PullRequestSnapshot>,
        merge_facts: impl FnOnce(&mut Self) -> bool,
    ) -> ApplyOutcome {
        let stale = snapshot.is_some_and(|snapshot| self.is_newer_than(snapshot));
        let changed = take_greater(&mut self.source, Some(source)) | merge_facts(self);
        match (changed, stale) {
            (false, _) => ApplyOutcome::Unchanged,
            (true, true) => ApplyOutcome::Stale,
            (true, false) => ApplyOutcome::Changed,
        }
    }

    fn merge_review(&mut self, review: &event::ReviewSnapshot) -> bool {
        let review = Review::from(review.clone());
        match self.reviews.entry(review.id) {
            Entry::Vacant(entry) => {
                entry.insert(review);
                true
            }
            Entry::Occupied(mut entry) => entry.get_mut().join(review),
        }
    }

    /// Makes GitHub's timeline the only source of the facts before `at` that it covers, and the
    /// fetched snapshot the only source of the state at `at`.
    fn trust_until(&mut self, at: Timestamp) -> bool {
        if self.whole_until >= Some(at) {
            return false;
        }
        self.whole_until = Some(at);
        self.timeline
            .0
            .retain(|fact| fact.at >= at || !fact.kind.is_fetched());
        self.observed.retain(|seen| *seen > at);
        if !self.extends_segments() {
            // Segments have entries of both.
            self.timeline.0.leave_segments();
            self.observed.leave_segments();
        }
        self.conversation.take_if(|known| known.at == at);
        self.branches.take_if(|known| known.at == at);
        self.diff.take_if(|known| known.at == at);
        true
    }

    fn is_covered_by_github(&self, at: Timestamp) -> bool {
        self.whole_until.is_some_and(|until| at < until)
    }

    fn add_fact(&mut self, fact: Fact) -> bool {
        let is_covered = fact.kind.is_fetched() && self.is_covered_by_github(fact.at);
        !is_covered && self.timeline.add(fact)
    }

    fn is_newer_than(&self, snapshot: &PullRequestSnapshot) -> bool {
        self.conversation
            .as_ref()
            .is_some_and(|known| known.at > snapshot.updated_at)
    }

    fn merge_snapshot(&mut self, snapshot: &PullRequestSnapshot) -> bool {
        let changed = self.merge_lasting_facts(snapshot);
        // The state at the end of that second was fetched; a webhook may have been sent in the
        // middle of it.
        let is_fetched = self.whole_until == Some(snapshot.updated_at);
        changed | (!is_fetched && self.merge_state(snapshot))
    }

    /// Merges the fields that do not depend on other changes within the same second.
    fn merge_lasting_facts(&mut self, snapshot: &PullRequestSnapshot) -> bool {
        let at = snapshot.updated_at;
        let author = Dated {
            at: if snapshot.author.is_ghost() {
                Timestamp::clamped(0)
            } else {
                at
            },
            value: Author(snapshot.author.clone()),
        };
        take_greater(&mut self.github_id, snapshot.github_id)
            | take_earlier(&mut self.created_at, Some(snapshot.created_at))
            | take_earlier(&mut self.merged_at, snapshot.merged_at)
            | self.author.join(Some(author))
            | self.merge_end_dates(snapshot)
    }

    fn merge_state(&mut self, snapshot: &PullRequestSnapshot) -> bool {
        let at = snapshot.updated_at;
        let conversation = Dated {
            at,
            value: snapshot.conversation.clone(),
        };
        let branches = snapshot.branches.clone().map(|value| Dated { at, value });
        let diff = snapshot.diff.clone().map(|value| Dated { at, value });
        self.conversation.join(Some(conversation))
            | self.branches.join(branches)
            | self.diff.join(diff)
            | self.merge_observation(snapshot)
    }

    fn merge_observation(&mut self, snapshot: &PullRequestSnapshot) -> bool {
        let is_misdated = snapshot
            .conversation
            .marks
            .contains(&SnapshotMark::ClockSkew);
        if is_misdated || self.is_covered_by_github(snapshot.updated_at) {
            return false;
        }
        let observed = Observed {
            open: snapshot.conversation.open,
            draft: snapshot
                .branches
                .as_ref()
                .and_then(|branches| branches.draft),
        };
        self.observed.join(snapshot.updated_at, observed)
    }

    /// Adds the end of a closed pull request, which every snapshot dates, even if the `closed`
    /// delivery was lost.
    fn merge_end_dates(&mut self, snapshot: &PullRequestSnapshot) -> bool {
        let closed = snapshot
            .conversation
            .closed_at
            .map(|at| (at, FactKind::Closed));
        let merged = snapshot.merged_at.map(|at| (at, FactKind::Merged));
        let mut changed = false;
        for (at, kind) in closed.into_iter().chain(merged) {
            changed |= self.add_fact(Fact {
                at,
                kind,
                subject: None,
                detail: None,
                actor: None,
            });
        }
        changed
    }
}
