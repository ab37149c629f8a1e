//! The numbers that are computed from the facts of a pull request: ready, reviewed and approved,
//! and its stages.
//!
//! One pure function of a versioned definition. Durations are whole seconds; the known
//! stages add up to the span from start to merge exactly ([`Stages::total`]).

mod approval;
mod intervals;
mod pauses;
mod segments;
mod stages;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::approval::Approval;
pub use self::approval::standing_reviews;
pub(super) use self::intervals::Interval;
use self::intervals::ToggleHistory;
pub(super) use self::pauses::Pauses;
pub use self::segments::segments;
pub use self::stages::{Flag, PullRequestDurations, Stage, StageSegment, Stages, Step};
use super::join::Dated;
use super::people::Bots;
use super::pull_request::PullRequest;
use crate::event::{Branches, FIRST_COMMIT_EVER, FactKind, SnapshotMark};
use crate::github::types::{Account, ReviewId, Timestamp};

/// The version of the definitions; stored with the numbers that follow them.
pub const DEFINITION: i64 = 2;

/// The state of a pull request: open, closed without a merge, or merged.
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
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
#[schema(as = State)]
pub enum PullRequestState {
    Open,
    Closed,
    Merged,
}

impl PullRequestState {
    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// All numbers that are computed from the facts of one pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timings {
    pub state: PullRequestState,
    pub author_is_bot: bool,
    pub first_commit_at: Option<Timestamp>,
    pub ready_at: Option<Timestamp>,
    pub first_response_at: Option<Timestamp>,
    pub first_review_at: Option<Timestamp>,
    pub final_approval_at: Option<Timestamp>,
    /// Seconds from creation to merge.
    pub cycle_time: Option<i64>,
    /// Seconds from creation to the first review.
    pub review_time: Option<i64>,
    pub stages: Stages,
    pub flags: BTreeSet<Flag>,
    pub steps: Vec<Step>,
    /// The time of the steps, each second once.
    pub segments: Vec<StageSegment>,
}

/// Computes the numbers of `pull_request`; `None` while no snapshot of it is known.
pub fn timings(pull_request: &PullRequest, bots: &Bots) -> Option<Timings> {
    let history = History::of(pull_request, bots)?;
    let approval = history.merged_at.map(|at| history.approval(at));
    let times = history.review_times(approval.as_ref());
    let (mut steps, mut segments) = history
        .merged_at
        .map_or_else(Default::default, |merged_at| {
            history.steps(times, merged_at)
        });
    let mut cycle_time = history.merged_at.map(|at| seconds(history.created_at, at));
    let mut review_time = times
        .first_review_at
        .map(|at| seconds(history.created_at, at));
    let is_misdated = history.is_misdated(times, history.merged_at, &steps);
    if is_misdated {
        steps.clear();
        segments.clear();
        (cycle_time, review_time) = (None, None);
    }
    Some(Timings {
        state: history.state,
        author_is_bot: bots.contains(history.author),
        first_commit_at: history.first_commit_at,
        ready_at: history.ready_at,
        first_response_at: history.first_response_at(),
        first_review_at: times.first_review_at,
        final_approval_at: times.final_approval_at,
        cycle_time,
        review_time,
        stages: Stages::sum(steps.iter().map(|step| (step.stage, step.seconds))),
        flags: history.flags(times, approval.as_ref(), is_misdated),
        steps,
        segments,
    })
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.epoch() - from.epoch()
}

#[derive(Clone, Copy)]
struct ReviewTimes {
    first_review_at: Option<Timestamp>,
    final_approval_at: Option<Timestamp>,
}

/// The facts in order of time.
struct History<'a> {
    pull_request: &'a PullRequest,
    bots: &'a Bots,
    author: &'a Account,
    state: PullRequestState,
    created_at: Timestamp,
    merged_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    first_commit_at: Option<Timestamp>,
    opened_as_draft: bool,
    ready_at: Option<Timestamp>,
    /// Closed and reopened.
    closed: Vec<Interval>,
    /// In draft again after it had been ready.
    redraft: Vec<Interval>,
    merged_as_draft: bool,
}

impl<'a> History<'a> {
    fn of(pull_request: &'a PullRequest, bots: &'a Bots) -> Option<Self> {
        let conversation = &pull_request.conversation.as_ref()?.value;
        let created_at = pull_request.created_at?;
        let author = &pull_request.author.as_ref()?.value.0;
        let merged_at = pull_request.merged_at;
        let (state, ended_at) = match (merged_at, conversation.open) {
            (Some(at), _) => (PullRequestState::Merged, Some(at)),
            (None, true) => (PullRequestState::Open, None),
            (None, false) if pull_request.is_merged() => {
                (PullRequestState::Merged, conversation.closed_at)
            }
            (None, false) => (PullRequestState::Closed, conversation.closed_at),
        };
        let Pauses {
            opened_as_draft,
            drafts,
            closed,
            ready_at,
        } = Pauses::of(pull_request, created_at, ended_at);
        let redraft = drafts.iter().skip(usize::from(opened_as_draft)).copied();
        Some(Self {
            pull_request,
            bots,
            author,
            state,
            created_at,
            merged_at,
            ended_at,
            first_commit_at: first_commit_at(pull_request, created_at),
            opened_as_draft,
            ready_at,
            closed: closed
                .into_iter()
                .filter(|interval| interval.to.is_some())
                .collect(),
            redraft: redraft.collect(),
            merged_as_draft: merged_at.is_some()
                && drafts.last().is_some_and(|last| last.to.is_none()),
        })
    }

    /// Returns whether `at` lies between ready and the end, both included.
    fn is_under_review(&self, at: Timestamp) -> bool {
        self.ready_at.is_some_and(|ready| at >= ready)
            && self.ended_at.is_none_or(|ended| at <= ended)
    }

    fn is_human_other(&self, account: &Account) -> bool {
        self.bots.is_human_other(account, self.author)
    }

    fn human_reviews(&self) -> Vec<&'a super::review::Review> {
        let reviews = self.pull_request.reviews.values();
        reviews
            .filter(|review| self.is_human_other(&review.author))
            .collect()
    }

    fn first_review_at(&self) -> Option<Timestamp> {
        let reviews = self.pull_request.reviews.values();
        let first = reviews
            .filter(|review| self.is_under_review(review.submitted_at))
            .filter(|review| self.is_human_other(&review.author));
        first.map(|review| review.submitted_at).min()
    }

    /// Returns the approval as it stood at `at`.
    fn approval(&self, at: Timestamp) -> Approval {
        Approval::at_merge(&self.human_reviews(), at)
    }

    fn review_times(&self, approval: Option<&Approval>) -> ReviewTimes {
        let first_review_at = self.first_review_at();
        let held_since = approval.and_then(|approval| approval.complete_since);
        // An approval given in draft counts from the first review after it was ready.
        let final_approval_at =
            first_review_at.and_then(|first| held_since.map(|since| since.max(first)));
        ReviewTimes {
            first_review_at,
            final_approval_at,
        }
    }

    /// Returns whether its times cannot be right; `steps` lead to `end`.
    fn is_misdated(&self, times: ReviewTimes, end: Option<Timestamp>, steps: &[Step]) -> bool {
        let is_early = |at: Timestamp| at < self.created_at;
        self.pull_request.has_mark(SnapshotMark::ClockSkew)
            || end.into_iter().chain(times.first_review_at).any(is_early)
            || steps.iter().any(|step| step.to < step.from)
    }

    fn first_response_at(&self) -> Option<Timestamp> {
        let timeline = &self.pull_request.timeline;
        let known = &self.pull_request.reviews;
        let is_response = |(at, _, actor): &(Timestamp, _, Option<&Account>)| {
            self.is_under_review(*at) && actor.is_some_and(|actor| self.is_human_other(actor))
        };
        let comment = timeline.acts(FactKind::Commented).find(is_response);
        // An inline comment counts when its review was submitted; on its own only where that review
        // is unknown.
        let inline = timeline
            .acts(FactKind::ReviewCommented)
            .filter(|(_, review, _)| !review.is_some_and(|id| known.contains_key(&ReviewId(id))))
            .find(is_response);
        let comments = comment.into_iter().chain(inline).map(|(at, ..)| at);
        comments.chain(self.first_review_at()).min()
    }

    fn flags(
        &self,
        times: ReviewTimes,
        approval: Option<&Approval>,
        is_misdated: bool,
    ) -> BTreeSet<Flag> {
        let pull_request = self.pull_request;
        let unapproved = approval.filter(|_| times.final_approval_at.is_none());
        let facts = [
            (Flag::ClockSkew, is_misdated || self.has_misdated_commit()),
            (
                Flag::HistoryIncomplete,
                pull_request.timeline.opened_as_draft().is_none(),
            ),
            (Flag::MergedAsDraft, self.merged_as_draft),
            (
                Flag::PushedAfterApproval,
                approval.is_some_and(|approval| self.pushed_after(times, approval)),
            ),
            (Flag::Reopened, !self.closed.is_empty()),
            (Flag::Stub, pull_request.diff.is_none()),
            (
                Flag::Truncated,
                pull_request.is_truncated() || pull_request.has_mark(SnapshotMark::Truncated),
            ),
        ];
        let flags = facts
            .into_iter()
            .filter_map(|(flag, holds)| holds.then_some(flag));
        flags
            .chain(unapproved.map(|approval| self.why_unapproved(times, approval)))
            .collect()
    }

    /// The one reason why a merged pull request has no final approval.
    fn why_unapproved(&self, times: ReviewTimes, approval: &Approval) -> Flag {
        if !approval.reviewed {
            Flag::MergedWithoutReview
        } else if times.first_review_at.is_none() {
            Flag::ReviewedInDraft
        } else if approval.changes_requested {
            Flag::MergedWithChangesRequested
        } else {
            Flag::MergedWithoutApproval
        }
    }

    fn pushed_after(&self, times: ReviewTimes, approval: &Approval) -> bool {
        let head = self
            .pull_request
            .branches
            .as_ref()
            .map(|Dated { value, .. }| value);
        let is_head = |commit: &Option<String>| match (commit, head) {
            (Some(commit), Some(Branches { head_sha, .. })) => commit == head_sha,
            _ => true,
        };
        times.final_approval_at.is_some() && !approval.approved_commits.iter().any(is_head)
    }

    fn has_misdated_commit(&self) -> bool {
        self.pull_request
            .commits
            .as_ref()
            .is_some_and(|Dated { value: dates, .. }| {
                let too_late = self
                    .ended_at
                    .zip(dates.last)
                    .is_some_and(|(ended, last)| last > ended);
                dates.prehistoric || too_late
            })
    }
}

/// Returns the time from which an open pull request is or was ready for review, as the numbers have
/// it; `None` while it never was.
pub(super) fn ready_at(pull_request: &PullRequest) -> Option<Timestamp> {
    let created_at = pull_request.created_at?;
    if pull_request.timeline.opened_as_draft() == Some(false) {
        return Some(created_at);
    }
    let draft = draft_history(pull_request, created_at, None);
    first_ready(&draft, &draft.intervals(created_at), created_at)
}

fn first_ready(
    draft: &ToggleHistory,
    drafts: &[Interval],
    created_at: Timestamp,
) -> Option<Timestamp> {
    match draft.starts_on {
        true => drafts.first().and_then(|first| first.to),
        false => Some(created_at),
    }
}

fn first_commit_at(pull_request: &PullRequest, created_at: Timestamp) -> Option<Timestamp> {
    let first = pull_request.commits.as_ref()?.value.first?;
    (FIRST_COMMIT_EVER..=created_at)
        .contains(&first)
        .then_some(first)
}

/// Draft, on and off. What it was at first follows from the earliest fact: the opening, a change, a
/// snapshot.
fn draft_history(
    pull_request: &PullRequest,
    created_at: Timestamp,
    ended_at: Option<Timestamp>,
) -> ToggleHistory {
    let timeline = &pull_request.timeline;
    let lived = |at: &Timestamp| *at >= created_at && ended_at.is_none_or(|ended| *at <= ended);
    // A snapshot of the end is often dated a second after it, and later ones show what it was at
    // the end.
    let by_end = |at: Timestamp| ended_at.map_or(at, |ended| at.min(ended));
    let on: BTreeSet<_> = timeline
        .times_of(FactKind::ConvertedToDraft)
        .filter(lived)
        .collect();
    let off: BTreeSet<_> = timeline
        .times_of(FactKind::ReadyForReview)
        .filter(lived)
        .collect();
    let mut observed: Vec<(Timestamp, bool)> = Vec::new();
    let mut last: Option<(Timestamp, bool)> = None;
    for (at, seen) in pull_request.observed.range(created_at..) {
        let Some(draft) = seen.draft else { continue };
        let at = by_end(*at);
        // Of those at the end only the first counts: a draft can be made ready after it was closed.
        if last.is_some_and(|(last, _)| last >= at) {
            continue;
        }
        // A long history repeats itself: only what differs from the snapshot before, or follows a
        // change, can reveal one that was missed.
        let repeats = last.is_some_and(|(since, seen)| {
            let changes = |times: &BTreeSet<_>| times.range(since..=at).next().is_some();
            seen == draft && !changes(&on) && !changes(&off)
        });
        if !repeats {
            observed.push((at, draft));
        }
        last = Some((at, draft));
    }
    let first_change = match (on.first(), off.first()) {
        (Some(on), Some(off)) => Some(off <= on),
        (None, Some(_)) => Some(true),
        (Some(_), None) => Some(false),
        (None, None) => None,
    };
    let starts_on = timeline
        .opened_as_draft()
        .or(first_change)
        .or(observed.first().map(|(_, draft)| *draft))
        .unwrap_or(false);
    ToggleHistory {
        starts_on,
        on,
        off,
        observed,
    }
}

/// Closed, on and off, before the merge. A missed reopening shows in the first snapshot that is
/// open again.
fn closed_history(pull_request: &PullRequest, merged_at: Option<Timestamp>) -> ToggleHistory {
    let timeline = &pull_request.timeline;
    // The closing of the merge itself is none; a reopening may be in the very second of it.
    let before = |at: &Timestamp| merged_at.is_none_or(|merged| *at < merged);
    let until = |at: &Timestamp| merged_at.is_none_or(|merged| *at <= merged);
    let on: BTreeSet<_> = timeline.times_of(FactKind::Closed).filter(before).collect();
    // Of the snapshots after a closing the first that is open reveals the reopening, up to the next
    // closing; one of the same second settles the order of both. All others change nothing.
    let mut observed = Vec::new();
    let mut closings = on.iter().peekable();
    while let Some(closed) = closings.next() {
        let next = closings
            .peek()
            .map_or(Bound::Unbounded, |next| Bound::Excluded(**next));
        let seen = pull_request
            .observed
            .range((Bound::Included(*closed), next));
        let mut open = seen.filter(|(at, seen)| seen.open && before(at)).peekable();
        let at_once = open.next_if(|(at, _)| *at == closed);
        observed.extend(
            at_once
                .into_iter()
                .chain(open.next())
                .map(|(at, _)| (*at, false)),
        );
    }
    ToggleHistory {
        starts_on: false,
        on,
        off: timeline
            .times_of(FactKind::Reopened)
            .filter(until)
            .collect(),
        observed,
    }
}

/// Returns the time of the last reopening, known or inferred; `None` if there was none, or if it is
/// closed since.
pub(super) fn last_reopened_at(pull_request: &PullRequest) -> Option<Timestamp> {
    let closed =
        closed_history(pull_request, pull_request.merged_at).intervals(pull_request.created_at?);
    let seen = match closed.last() {
        Some(last) => Some(last.to?),
        None => None,
    };
    // The closing before a reopening may have been missed.
    seen.max(pull_request.timeline.times_of(FactKind::Reopened).last())
}
