//! The merge of two values about one thing, independent of their order.
//!
//! Every `join` here is commutative, associative and idempotent, so any order and any repetition of
//! the same events ends in the same state. That is a theorem of semilattices rather than of our
//! care with special cases, and the property tests in `tests/it/order.rs` hold it.
//!
//! Two whole snapshots of one second cannot be ordered by a hash of each and have their gaps filled
//! as well: what fills a gap would depend on which one was first. So a tie is settled field by
//! field: known over unknown, and of two known values the greater.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::event::{
    Branches, CommitDates, Conversation, Diff, MergeState, PullRequestDetails, RequestedReviewers,
    Team,
};
use crate::github::types::{Account, Timestamp};

/// An order-independent merge; see the module.
pub trait Join {
    /// Merges `other` into `self`. Returns whether that changed it.
    fn join(&mut self, other: Self) -> bool;
}

/// A value with GitHub's timestamp: the newer one counts, and values of one second are joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dated<T> {
    pub at: Timestamp,
    pub value: T,
}

impl<T: Join> Join for Dated<T> {
    fn join(&mut self, other: Self) -> bool {
        match other.at.cmp(&self.at) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => self.value.join(other.value),
            std::cmp::Ordering::Greater => {
                *self = other;
                true
            }
        }
    }
}

impl<T: Join> Join for Option<T> {
    fn join(&mut self, other: Self) -> bool {
        match (self.as_mut(), other) {
            (Some(known), Some(other)) => known.join(other),
            (None, Some(other)) => {
                *self = Some(other);
                true
            }
            (_, None) => false,
        }
    }
}

/// Keeps the greater of two values. `None` is the smallest, so that known wins over unknown.
/// Returns whether that is the other one.
pub fn take_greater<T: Ord>(known: &mut T, other: T) -> bool {
    let is_greater = other > *known;
    if is_greater {
        *known = other;
    }
    is_greater
}

/// Keeps the earlier of two times, known over unknown. Returns whether that is the other one.
pub fn take_earlier(known: &mut Option<Timestamp>, other: Option<Timestamp>) -> bool {
    let is_earlier = other.is_some_and(|other| known.is_none_or(|known| other < known));
    if is_earlier {
        *known = other;
    }
    is_earlier
}

/// Keeps false over true. Returns whether that changed it.
fn take_false(known: &mut bool, other: bool) -> bool {
    let changed = *known && !other;
    *known &= other;
    changed
}

/// Keeps true over false. Returns whether that changed it.
pub fn take_true(known: &mut bool, other: bool) -> bool {
    let changed = !*known && other;
    *known |= other;
    changed
}

/// Keeps what either has. Returns whether that changed it.
pub fn take_all<T: Ord>(known: &mut BTreeSet<T>, other: BTreeSet<T>) -> bool {
    let before = known.len();
    known.extend(other);
    known.len() > before
}

/// Keeps a draft only while both say so, and known over unknown: most other events of the second in
/// which a pull request becomes ready (labels, requests by code owners) follow from it. Returns
/// whether that changed it.
pub fn join_draft(known: &mut Option<bool>, other: Option<bool>) -> bool {
    match (known.as_mut(), other) {
        (Some(known), Some(other)) => take_false(known, other),
        (None, Some(_)) => {
            *known = other;
            true
        }
        (_, None) => false,
    }
}

/// Keeps open only while both are: at one second closed beats open. Merged beats both, and stands
/// elsewhere since it never ends. Returns whether that changed it.
pub fn join_open(known: &mut bool, other: bool) -> bool {
    take_false(known, other)
}

// Each field is joined, also after one that changed: `|` and not `||`.

impl Join for Conversation {
    fn join(&mut self, other: Self) -> bool {
        join_open(&mut self.open, other.open)
            | take_greater(&mut self.closed_at, other.closed_at)
            | take_greater(&mut self.title, other.title)
            | take_greater(&mut self.body, other.body)
            | take_greater(&mut self.html_url, other.html_url)
            | take_greater(&mut self.labels, other.labels)
            | take_all(&mut self.marks, other.marks)
    }
}

impl Join for Branches {
    fn join(&mut self, other: Self) -> bool {
        join_draft(&mut self.draft, other.draft)
            | take_greater(&mut self.base_ref, other.base_ref)
            | take_greater(&mut self.head_ref, other.head_ref)
            | take_greater(&mut self.head_sha, other.head_sha)
            | take_greater(&mut self.head_repo, other.head_repo)
    }
}

impl Join for Diff {
    fn join(&mut self, other: Self) -> bool {
        take_greater(&mut self.additions, other.additions)
            | take_greater(&mut self.deletions, other.deletions)
            | take_greater(&mut self.changed_files, other.changed_files)
            | take_greater(&mut self.commits, other.commits)
    }
}

impl Join for CommitDates {
    fn join(&mut self, other: Self) -> bool {
        take_earlier(&mut self.first, other.first)
            | take_greater(&mut self.last, other.last)
            | take_true(&mut self.prehistoric, other.prehistoric)
            | take_earlier(&mut self.first_authored, other.first_authored)
            | take_greater(&mut self.last_authored, other.last_authored)
            | take_earlier(&mut self.first_committed, other.first_committed)
            | take_greater(&mut self.last_committed, other.last_committed)
    }
}

impl Join for RequestedReviewers {
    fn join(&mut self, other: Self) -> bool {
        let mut teams: BTreeMap<_, _> = BTreeMap::new();
        for team in self.teams.iter().chain(&other.teams) {
            let slug = teams.entry(team.id).or_insert(&team.slug);
            *slug = (*slug).max(&team.slug);
        }
        let teams = teams.into_iter().map(|(id, slug)| Team {
            id,
            slug: slug.clone(),
        });
        let teams = teams.collect();
        let changed = self.teams != teams;
        self.teams = teams;
        changed | join_accounts(&mut self.accounts, other.accounts)
    }
}

impl Join for PullRequestDetails {
    fn join(&mut self, other: Self) -> bool {
        take_greater(&mut self.author_association, other.author_association)
            | take_greater(&mut self.auto_merge, other.auto_merge)
            | take_greater(&mut self.merge_commit_sha, other.merge_commit_sha)
            | match (&mut self.assignees, other.assignees) {
                (Some(known), Some(other)) => join_accounts(known, other),
                (known @ None, other @ Some(_)) => {
                    *known = other;
                    true
                }
                (_, None) => false,
            }
    }
}

impl Join for MergeState {
    fn join(&mut self, other: Self) -> bool {
        // Answers of one second about two commits: the parts of the one belong together.
        match other.head_sha.cmp(&self.head_sha) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => {
                *self = other;
                true
            }
            std::cmp::Ordering::Equal => {
                take_greater(&mut self.review_decision, other.review_decision)
                    | take_greater(&mut self.conflicting, other.conflicting)
                    | take_earlier(
                        &mut self.required_check_failed_at,
                        other.required_check_failed_at,
                    )
                    | take_earlier(&mut self.checks_pending_since, other.checks_pending_since)
            }
        }
    }
}

/// Unites two lists of accounts by id. Returns whether that changed the first.
fn join_accounts(known: &mut Vec<Account>, other: Vec<Account>) -> bool {
    let mut joined: BTreeMap<_, Account> = BTreeMap::new();
    for account in known.iter().cloned().chain(other) {
        match joined.get_mut(&account.id) {
            Some(same) => drop(same.join(account)),
            None => drop(joined.insert(account.id, account)),
        }
    }
    let joined: Vec<_> = joined.into_values().collect();
    let changed = *known != joined;
    *known = joined;
    changed
}
