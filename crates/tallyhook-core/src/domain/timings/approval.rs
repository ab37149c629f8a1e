//! The time since which a pull request was approved.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bots, History, PullRequest};
use crate::domain::review::Review;
use crate::event::ReviewState;
use crate::github::types::{AccountId, ReviewId, Timestamp};

/// The result of the reviews by human others at the merge.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Approval {
    /// The time from which on approval stayed complete: at least one approval, no request for
    /// changes.
    pub(super) complete_since: Option<Timestamp>,
    /// A request for changes stands.
    pub(super) changes_requested: bool,
    /// There was a review at all.
    pub(super) reviewed: bool,
    /// The commits of the approvals that stand; `None` where GitHub does not show it.
    pub(super) approved_commits: Vec<Option<String>>,
}

/// A reviewer's latest opinion: the review, and the state that stands.
struct Opinion<'a> {
    review: &'a Review,
    holds: Option<ReviewState>,
}

/// A change of an opinion. Within one second approvals are first, so that a request for changes
/// wins, and dismissals last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OpinionChange {
    Submitted(Option<ReviewState>),
    Dismissed,
}

impl Approval {
    /// Evaluates the reviews of human others up to the merge, second by second.
    pub(super) fn at_merge(reviews: &[&Review], merged_at: Timestamp) -> Self {
        let mut opinions: BTreeMap<AccountId, Opinion<'_>> = BTreeMap::new();
        let mut complete_since = None;
        each_second(reviews, merged_at, &mut opinions, |at, opinions| {
            complete_since = match is_complete(opinions) {
                true => complete_since.or(Some(at)),
                false => None,
            };
        });
        Self {
            complete_since,
            changes_requested: standing(&opinions, ReviewState::ChangesRequested)
                .next()
                .is_some(),
            reviewed: reviews
                .iter()
                .any(|review| review.submitted_at <= merged_at),
            approved_commits: standing(&opinions, ReviewState::Approved)
                .map(|review| review.commit_id.clone())
                .collect(),
        }
    }
}

/// Returns the reviews by human others whose opinions stand: none of them was dismissed, or replaced
/// by a newer one.
pub fn standing_reviews(pull_request: &PullRequest, bots: &Bots) -> BTreeSet<ReviewId> {
    let history = History::of(pull_request, bots);
    let reviews = history.map_or_else(Vec::new, |history| history.human_reviews());
    let mut opinions = BTreeMap::new();
    let end_of_time = Timestamp::clamped(i64::MAX);
    each_second(&reviews, end_of_time, &mut opinions, |_, _| ());
    let held = opinions.values().filter(|opinion| opinion.holds.is_some());
    held.map(|opinion| opinion.review.id).collect()
}

/// Follows the opinions of reviewers up to `until`, and passes them on after each second that has
/// changes.
fn each_second<'a>(
    reviews: &[&'a Review],
    until: Timestamp,
    opinions: &mut BTreeMap<AccountId, Opinion<'a>>,
    mut after: impl FnMut(Timestamp, &BTreeMap<AccountId, Opinion<'a>>),
) {
    let mut changes: Vec<(Timestamp, OpinionChange, ReviewId, &Review)> = Vec::new();
    for review in reviews {
        if let Some(opinion) = review.opinion() {
            let change = OpinionChange::Submitted(opinion);
            changes.push((review.submitted_at, change, review.id, review));
        }
        if let Some(at) = review.dismissed_at {
            let at = at.max(review.submitted_at);
            changes.push((at, OpinionChange::Dismissed, review.id, review));
        }
    }
    changes.retain(|(at, ..)| *at <= until);
    changes.sort_by_key(|(at, change, id, _)| (*at, *change, *id));
    for second in changes.chunk_by(|(one, ..), (two, ..)| one == two) {
        for (_, change, _, review) in second {
            apply_change(opinions, *change, review);
        }
        after(second[0].0, opinions);
    }
}

fn apply_change<'a>(
    opinions: &mut BTreeMap<AccountId, Opinion<'a>>,
    change: OpinionChange,
    review: &'a Review,
) {
    match change {
        OpinionChange::Submitted(holds) => {
            opinions.insert(review.author.id, Opinion { review, holds });
        }
        OpinionChange::Dismissed => {
            // Dismissing a review that a newer one replaced changes nothing.
            if let Some(opinion) = opinions
                .get_mut(&review.author.id)
                .filter(|opinion| opinion.review.id == review.id)
            {
                opinion.holds = None;
            }
        }
    }
}

fn standing<'a>(
    opinions: &'a BTreeMap<AccountId, Opinion<'_>>,
    state: ReviewState,
) -> impl Iterator<Item = &'a Review> {
    let holding = opinions
        .values()
        .filter(move |opinion| opinion.holds == Some(state));
    holding.map(|opinion| opinion.review)
}

fn is_complete(opinions: &BTreeMap<AccountId, Opinion<'_>>) -> bool {
    standing(opinions, ReviewState::Approved).next().is_some()
        && standing(opinions, ReviewState::ChangesRequested)
            .next()
            .is_none()
}
