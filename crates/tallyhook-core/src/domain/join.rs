//! The merge of two values about one thing, independent of their order.
//!
//! Every `join` here is commutative, associative and idempotent, so any order and any repetition of
//! the same events ends in the same state. That is a theorem of semilattices rather than of our
//! care with special cases, and the property tests in `tests/it/order.rs` hold it.
//!
//! Two whole snapshots of one second cannot be ordered by a hash of each and have their gaps filled
//! as well: what fills a gap would depend on which one was first. So a tie is settled field by
//! field: known over unknown, and of two known values the greater.

use serde::{Deserialize, Serialize};

use crate::event::{Branches, CommitDates, Conversation, Diff};
use crate::github::types::Timestamp;

/// An order-independent merge; see the module.
pub trait Join {
    /// Merges `other` into `self`.
    fn join(&mut self, other: Self);
}

/// A value with GitHub's timestamp: the newer one counts, and values of one second are joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dated<T> {
    pub at: Timestamp,
    pub value: T,
}

impl<T: Join> Join for Dated<T> {
    fn join(&mut self, other: Self) {
        match other.at.cmp(&self.at) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => self.value.join(other.value),
            std::cmp::Ordering::Greater => *self = other,
        }
    }
}

impl<T: Join> Join for Option<T> {
    fn join(&mut self, other: Self) {
        match (self.as_mut(), other) {
            (Some(known), Some(other)) => known.join(other),
            (None, Some(other)) => *self = Some(other),
            (_, None) => {}
        }
    }
}

/// Keeps the greater of two values. `None` is the smallest, so that known wins over unknown.
pub fn take_greater<T: Ord>(known: &mut T, other: T) {
    if other > *known {
        *known = other;
    }
}

/// Keeps the earlier of two times, known over unknown.
pub fn take_earlier(known: &mut Option<Timestamp>, other: Option<Timestamp>) {
    if let Some(other) = other
        && known.is_none_or(|known| other < known)
    {
        *known = Some(other);
    }
}

impl Join for Conversation {
    fn join(&mut self, other: Self) {
        // At one second closed beats open; merged beats both, and stands elsewhere since it never
        // ends.
        self.open &= other.open;
        take_greater(&mut self.closed_at, other.closed_at);
        take_greater(&mut self.title, other.title);
        take_greater(&mut self.body, other.body);
        take_greater(&mut self.html_url, other.html_url);
        take_greater(&mut self.labels, other.labels);
        self.marks.extend(other.marks);
    }
}

impl Join for Branches {
    fn join(&mut self, other: Self) {
        // Most other events of the second in which a pull request becomes ready (labels, requests
        // by code owners) follow from it, so ready beats draft.
        self.draft = match (self.draft, other.draft) {
            (Some(one), Some(two)) => Some(one && two),
            (one, two) => one.or(two),
        };
        take_greater(&mut self.base_ref, other.base_ref);
        take_greater(&mut self.head_ref, other.head_ref);
        take_greater(&mut self.head_sha, other.head_sha);
        take_greater(&mut self.head_repo, other.head_repo);
    }
}

impl Join for Diff {
    fn join(&mut self, other: Self) {
        take_greater(&mut self.additions, other.additions);
        take_greater(&mut self.deletions, other.deletions);
        take_greater(&mut self.changed_files, other.changed_files);
        take_greater(&mut self.commits, other.commits);
    }
}

impl Join for CommitDates {
    fn join(&mut self, other: Self) {
        take_earlier(&mut self.first, other.first);
        take_greater(&mut self.last, other.last);
        self.prehistoric |= other.prehistoric;
    }
}
