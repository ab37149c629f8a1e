//! The known facts of one review.

use serde::{Deserialize, Serialize};

use super::join::{Join, take_earlier, take_greater, take_true};
use crate::event::{self, ReviewState};
use crate::github::types::{Account, ReviewId, Timestamp};

/// One review, joined from every event that showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    pub id: ReviewId,
    pub author: Account,
    /// The state at its submission; `None` if it was dismissed before any event showed it.
    pub original_state: Option<ReviewState>,
    pub submitted_at: Timestamp,
    pub commit_id: Option<String>,
    pub dismissed: bool,
    /// The time of its dismissal; `None` while it stands, or if the time is unknown.
    pub dismissed_at: Option<Timestamp>,
}

impl Review {
    /// Returns its present state.
    pub fn state(&self) -> ReviewState {
        match self.original_state {
            Some(state) if !self.dismissed => state,
            _ => ReviewState::Dismissed,
        }
    }

    /// Returns its opinion at its submission: `None` if it is a comment, `Some(None)` if it
    /// replaced an older opinion and its state, or the time for which it stood, is unknown.
    pub(super) fn opinion(&self) -> Option<Option<ReviewState>> {
        match self.original_state {
            Some(ReviewState::Commented) => None,
            Some(_) if self.dismissed && self.dismissed_at.is_none() => Some(None),
            Some(ReviewState::Dismissed) | None => Some(None),
            Some(opinion) => Some(Some(opinion)),
        }
    }
}

impl From<event::ReviewSnapshot> for Review {
    fn from(seen: event::ReviewSnapshot) -> Self {
        let dismissed = seen.state == ReviewState::Dismissed;
        Self {
            id: seen.id,
            author: seen.author,
            original_state: (!dismissed).then_some(seen.state),
            submitted_at: seen.submitted_at,
            commit_id: seen.commit_id,
            dismissed,
            dismissed_at: seen.dismissed_at,
        }
    }
}

impl Join for Review {
    fn join(&mut self, other: Self) -> bool {
        // A dismissal is final and keeps what the review said before, which the REST API forgets.
        let submitted_before = other.submitted_at < self.submitted_at;
        self.submitted_at = self.submitted_at.min(other.submitted_at);
        submitted_before
            | take_true(&mut self.dismissed, other.dismissed)
            | take_earlier(&mut self.dismissed_at, other.dismissed_at)
            | take_greater(&mut self.original_state, other.original_state)
            | take_greater(&mut self.commit_id, other.commit_id)
            | self.author.join(other.author)
    }
}

/// Two values of one account: the ghost never replaces a known account; of two names the greater
/// stays.
impl Join for Account {
    fn join(&mut self, other: Self) -> bool {
        let is_greater = (!other.is_ghost(), &other) > (!self.is_ghost(), self);
        if is_greater {
            *self = other;
        }
        is_greater
    }
}
