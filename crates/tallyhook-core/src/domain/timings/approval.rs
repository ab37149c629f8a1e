//! Since when a pull request was approved.

use std::collections::BTreeMap;

use crate::domain::review::Review;
use crate::event::ReviewState;
use crate::github::types::{AccountId, ReviewId, Timestamp};

/// What the reviews by human others amount to at the merge.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Approval {
    /// The moment at which approval became complete and stayed so: at least one approval, no request for changes.
    pub(super) complete_since: Option<Timestamp>,
    /// Somebody's request for changes stands.
    pub(super) changes_requested: bool,
    /// There was a review at all.
    pub(super) reviewed: bool,
    /// The commits of the approvals that stand; `None` where GitHub does not tell.
    pub(super) approved_commits: Vec<Option<String>>,
}

/// A reviewer's latest word: the review, and what it holds.
struct Opinion<'a> {
    review: &'a Review,
    holds: Option<ReviewState>,
}

/// What changes opinions. Within one second approvals come first, so that a request for changes wins, and
/// dismissals last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Submitted(Option<ReviewState>),
    Dismissed,
}

impl Approval {
    /// Goes through the reviews of human others up to the merge, second by second.
    pub(super) fn at_merge(reviews: &[&Review], merged_at: Timestamp) -> Self {
        let mut changes: Vec<(Timestamp, Change, ReviewId, &Review)> = Vec::new();
        for review in reviews {
            if let Some(opinion) = held(review) {
                changes.push((
                    review.submitted_at,
                    Change::Submitted(opinion),
                    review.id,
                    review,
                ));
            }
            if let Some(at) = review.dismissed_at {
                changes.push((
                    at.max(review.submitted_at),
                    Change::Dismissed,
                    review.id,
                    review,
                ));
            }
        }
        changes.retain(|(at, ..)| *at <= merged_at);
        changes.sort_by_key(|(at, change, id, _)| (*at, *change, *id));

        let mut opinions: BTreeMap<AccountId, Opinion<'_>> = BTreeMap::new();
        let mut complete_since = None;
        for second in changes.chunk_by(|(one, ..), (two, ..)| one == two) {
            for (_, change, _, review) in second {
                form(&mut opinions, *change, review);
            }
            complete_since = match is_complete(&opinions) {
                true => complete_since.or(Some(second[0].0)),
                false => None,
            };
        }
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

/// What a review held when it was submitted: `None` if it is no opinion (a comment), `Some(None)` if it took the
/// place of an older opinion and nobody knows what it said or how long it stood.
fn held(review: &Review) -> Option<Option<ReviewState>> {
    match review.original_state {
        Some(ReviewState::Commented) => None,
        Some(_) if review.dismissed && review.dismissed_at.is_none() => Some(None),
        Some(ReviewState::Dismissed) | None => Some(None),
        Some(opinion) => Some(Some(opinion)),
    }
}

fn form<'a>(opinions: &mut BTreeMap<AccountId, Opinion<'a>>, change: Change, review: &'a Review) {
    match change {
        Change::Submitted(holds) => {
            opinions.insert(review.author.id, Opinion { review, holds });
        }
        Change::Dismissed => {
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
