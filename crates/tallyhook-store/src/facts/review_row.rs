//! Reviews as rows.

use std::collections::BTreeMap;

use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::review::Review;
use tallyhook_core::github::types::{Account, AccountId, PrKey, PrNumber, RepoId, ReviewId};

use super::row::{ReviewColumns, seconds, timestamp};
use crate::PullRequestRecord;
use crate::columns::{Name, Seconds};

impl ReviewColumns {
    /// The reviews that changed, by pull request and id: an event of another pull request with the
    /// same id is about another review.
    pub(crate) fn changed(records: &[PullRequestRecord]) -> Vec<Self> {
        let mut changed = BTreeMap::new();
        for record in records {
            let PullRequest { key, reviews, .. } = &record.known.pull_request;
            for review in record.reviews.iter().filter_map(|id| reviews.get(id)) {
                changed
                    .entry((*key, review.id))
                    .or_insert_with(|| Self::of(*key, review));
            }
        }
        changed.into_values().collect()
    }

    fn of(key: PrKey, review: &Review) -> Self {
        Self {
            github_review_id: review.id.0,
            repo_id: key.repo.0,
            number: key.number.0,
            reviewer_id: review.author.id.0,
            reviewer_login: review.author.login.clone(),
            reviewer_type: Name(review.author.kind),
            original_state: review.original_state.map(Name),
            submitted_at: Seconds(review.submitted_at),
            commit_id: review.commit_id.clone(),
            dismissed: review.dismissed,
            dismissed_at: seconds(review.dismissed_at),
        }
    }

    pub(crate) fn key(&self) -> PrKey {
        PrKey {
            repo: RepoId(self.repo_id),
            number: PrNumber(self.number),
        }
    }
}

impl From<ReviewColumns> for Review {
    fn from(row: ReviewColumns) -> Self {
        Self {
            id: ReviewId(row.github_review_id),
            author: Account {
                id: AccountId(row.reviewer_id),
                login: row.reviewer_login,
                kind: row.reviewer_type.0,
            },
            original_state: row.original_state.map(|Name(state)| state),
            submitted_at: row.submitted_at.0,
            commit_id: row.commit_id,
            dismissed: row.dismissed,
            dismissed_at: timestamp(row.dismissed_at),
        }
    }
}
