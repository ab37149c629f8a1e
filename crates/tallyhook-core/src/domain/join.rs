//! The merge of two values about one thing, independent of their order.
//!
//! Every `join` here is commutative, associative and idempotent, so any order and any repetition of
//! the same events ends in the same state. That is a theorem of semilattices rather than of our
//! care with special cases, and the property tests in `tests/it/order.rs` hold it.
//!
//! Two whole snapshots of one second cannot be ordered by a hash of each and have their gaps filled
//! as well: what fills a gap would depend on which one was first. So a tie is settled field by
//! field: known over unknown, and of two known values the greater.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::event::{Branches, CommitDates, Conversation, Diff};
use crate::github::types::Timestamp;

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
    }
}
