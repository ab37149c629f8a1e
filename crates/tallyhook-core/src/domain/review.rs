//! What is known of one review.

use serde::{Deserialize, Serialize};

use super::join::{Join, take_earlier, take_greater};
use crate::event::{self, ReviewState};
use crate::github::types::{Account, ReviewId, Timestamp};

/// One review, joined from every event that showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    pub id: ReviewId,
    pub author: Account,
    /// What it said when it was submitted; `None` when it was dismissed before anybody here saw it.
    pub original_state: Option<ReviewState>,
    pub submitted_at: Timestamp,
    pub commit_id: Option<String>,
    pub dismissed: bool,
    /// When; `None` while it stands, and when nothing told.
    pub dismissed_at: Option<Timestamp>,
}

impl Review {
    /// What it says now.
    pub fn state(&self) -> ReviewState {
        match self.original_state {
            Some(state) if !self.dismissed => state,
            _ => ReviewState::Dismissed,
        }
    }
}

impl From<event::Review> for Review {
    fn from(seen: event::Review) -> Self {
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
    fn join(&mut self, other: Self) {
        // A dismissal is final and keeps what the review said before, which the REST API forgets.
        self.dismissed |= other.dismissed;
        take_earlier(&mut self.dismissed_at, other.dismissed_at);
        take_greater(&mut self.original_state, other.original_state);
        take_greater(&mut self.commit_id, other.commit_id);
        self.submitted_at = self.submitted_at.min(other.submitted_at);
        join_account(&mut self.author, other.author);
    }
}

/// A known account is never replaced by the ghost; of two names of one account the greater stays.
pub(super) fn join_account(known: &mut Account, other: Account) {
    if (!other.is_ghost(), &other) > (!known.is_ghost(), known) {
        *known = other;
    }
}
