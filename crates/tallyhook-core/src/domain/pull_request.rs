//! The known facts of one pull request, and the merge of an event into them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::growing::GrowingMap;
use super::join::{Dated, Join, join_draft, join_open, take_earlier, take_greater};
use super::review::Review;
pub use super::timeline::Timeline;
use crate::event::{
    self, Branches, CommitDates, Conversation, Diff, Fact, FactKind, FetchedPullRequest,
    MergeState, PullRequestDetails, PullRequestEvent, PullRequestSnapshot, RequestedReviewers,
    SnapshotMark, SubjectKind,
};
use crate::github::types::{Account, PrKey, ReviewId, Timestamp};

/// The most addresses of co-authors that are kept.
const MOST_CO_AUTHORS: usize = 100;

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
    /// Guarded by the `updated_at` of payloads that list them.
    pub requested: Option<Dated<RequestedReviewers>>,
    /// The earliest `updated_at` of a payload that listed a reviewer, for requests whose own event
    /// was missed.
    pub first_requested: BTreeMap<(SubjectKind, i64), Timestamp>,
    /// Guarded by the `updated_at` of payloads that have them.
    pub details: Option<Dated<PullRequestDetails>>,
    /// As of the latest fetch while it was open.
    pub merge_state: Option<Dated<MergeState>>,
    /// Once set it stays.
    pub merged_at: Option<Timestamp>,
    /// As of the latest fetch that asked for them.
    pub commits: Option<Dated<CommitDates>>,
    /// The addresses of co-authors that its commits name, as far as they were fetched.
    pub co_authors: BTreeSet<String>,
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
            requested: None,
            first_requested: BTreeMap::new(),
            details: None,
            merge_state: None,
            merged_at: None,
            commits: None,
            co_authors: BTreeSet::new(),
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
            changed |= known.merge_answer(fetched);
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
        self.timeline.recent_len() + self.observed.recent_len()
    }

    /// Returns whether the segments that are stored are a part of this history.
    pub(super) fn extends_segments(&self) -> bool {
        self.timeline.extends_segments() && self.observed.extends_segments()
    }

    /// Notes that the history was stored, with its recent part as a segment or not.
    pub(super) fn stored(&mut self, as_segment: bool) {
        self.timeline.stored(as_segment);
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
        if self.timeline.extends_segments() != self.observed.extends_segments() {
            // Segments have entries of both, and are deleted for the sake of one.
            self.timeline.leave_segments();
            self.observed.leave_segments();
        }
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
        self.timeline.cover_until(at);
        self.observed.retain(|seen| *seen > at);
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
            | self.merge_reviewers(snapshot)
    }

    /// Merges the requested reviewers and the author's rights. Those of one second are united, be
    /// they fetched or not: an answer may lack them.
    fn merge_reviewers(&mut self, snapshot: &PullRequestSnapshot) -> bool {
        let at = snapshot.updated_at;
        let mut changed = false;
        for reviewer in snapshot.requested.iter().flat_map(RequestedReviewers::keys) {
            let mut first = self.first_requested.get(&reviewer).copied();
            if take_earlier(&mut first, Some(at)) {
                self.first_requested.extend(first.map(|at| (reviewer, at)));
                changed = true;
            }
        }
        let requested = snapshot.requested.clone().map(|value| Dated { at, value });
        let details = snapshot.details.clone().map(|value| Dated { at, value });
        changed | self.requested.join(requested) | self.details.join(details)
    }

    /// Merges the parts that only a fetch has.
    fn merge_answer(&mut self, fetched: &FetchedPullRequest) -> bool {
        let merge_state = fetched.merge_state_at.zip(fetched.merge_state.clone());
        let mut co_authors = self.co_authors.clone();
        let named = fetched.commit_list.iter();
        co_authors.extend(named.flat_map(|commit| commit.co_authors.iter().cloned()));
        // The first of a union are the first of the first of its parts.
        let co_authors = co_authors.into_iter().take(MOST_CO_AUTHORS).collect();
        let changed = self.co_authors != co_authors;
        self.co_authors = co_authors;
        changed
            | self
                .merge_state
                .join(merge_state.map(|(at, value)| Dated { at, value }))
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
                subject_kind: None,
                detail: None,
                actor: None,
            });
        }
        changed
    }
}
