//! A range of merged pull requests beside the range before it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::superiority::DurationComparison;
use super::{AuthorFilter, MergedPullRequest, Summary, Tally};
use crate::github::types::Timestamp;

/// Each duration compared with the range before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparedDurations {
    pub cycle_time: DurationComparison,
    pub review_time: DurationComparison,
    pub coding: DurationComparison,
    pub pickup: DurationComparison,
    pub review: DurationComparison,
    pub merge_wait: DurationComparison,
    pub redraft: DurationComparison,
    pub closed: DurationComparison,
}

/// Two ranges and their comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ComparedRanges {
    pub now: Summary,
    pub before: Summary,
    pub compared: ComparedDurations,
}

/// The aggregation of two ranges of which the second begins where the first ends.
#[derive(Debug)]
pub struct Comparison {
    authors: AuthorFilter,
    begins: Timestamp,
    now: Tally,
    before: Tally,
}

impl Comparison {
    /// Compares pull requests merged from `begins` on with those before it.
    pub fn new(authors: AuthorFilter, begins: Timestamp) -> Self {
        Self {
            authors,
            begins,
            now: Tally::default(),
            before: Tally::default(),
        }
    }

    pub fn add(&mut self, merged: &MergedPullRequest) {
        let tally = match merged.merged_at < self.begins {
            true => &mut self.before,
            false => &mut self.now,
        };
        tally.add(merged, self.authors);
    }

    /// Computes the numbers.
    pub fn finish(mut self) -> ComparedRanges {
        // The summaries sort the lists, which the comparison needs.
        let (now, before) = (self.now.summary(), self.before.summary());
        let (lists, earlier) = (&self.now, &self.before);
        let compared = ComparedDurations {
            cycle_time: DurationComparison::of(&lists.cycle_time, &earlier.cycle_time),
            review_time: DurationComparison::of(&lists.review_time, &earlier.review_time),
            coding: DurationComparison::of(&lists.coding, &earlier.coding),
            pickup: DurationComparison::of(&lists.pickup, &earlier.pickup),
            review: DurationComparison::of(&lists.review, &earlier.review),
            merge_wait: DurationComparison::of(&lists.merge_wait, &earlier.merge_wait),
            redraft: DurationComparison::of(&lists.redraft, &earlier.redraft),
            closed: DurationComparison::of(&lists.closed, &earlier.closed),
        };
        ComparedRanges {
            now,
            before,
            compared,
        }
    }
}
