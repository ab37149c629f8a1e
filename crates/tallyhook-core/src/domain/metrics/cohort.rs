//! Cohorts: the pull requests that were created in a range, with those that have not ended counted
//! for as long as they have lived.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AuthorFilter, ExclusionReason, by_name, hours};
use crate::domain::origin::Origin;
use crate::domain::timings::{Flag, PullRequestState};
use crate::github::types::Timestamp;

/// A pull request as a cohort reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CohortPullRequest {
    pub created_at: Timestamp,
    pub state: PullRequestState,
    /// The time of its merge, or of its closing without one.
    pub ended_at: Option<Timestamp>,
    pub first_review_at: Option<Timestamp>,
    pub author_is_bot: bool,
    pub origin: Option<Origin>,
    pub flags: Vec<Flag>,
}

/// The pull requests that were created in a range.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Cohort)]
pub struct CohortSummary {
    /// Pull requests that were created in the range and count.
    #[schema(example = 120)]
    pub counted: usize,
    pub merged: usize,
    pub closed_unmerged: usize,
    pub open: usize,
    /// From creation to merge.
    pub cycle_time: CensoredSummary,
    /// From creation to the first review.
    pub review_time: CensoredSummary,
    /// Pull requests that do not count, by reason.
    pub excluded: BTreeMap<String, u64>,
}

/// A duration that has not ended for some of the pull requests. Percentiles are read off the
/// Kaplan-Meier curve, and null where it does not fall that far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CensoredSummary {
    /// Pull requests with this duration, ended or not.
    #[schema(example = 120)]
    pub n: usize,
    /// Pull requests of which it has not ended, and those closed before it could.
    #[schema(example = 14)]
    pub censored: usize,
    #[schema(example = 21.5)]
    pub p50_hours: Option<f64>,
    pub p75_hours: Option<f64>,
    pub p90_hours: Option<f64>,
}

/// A summary of a cohort that is filled one pull request after the other, in any order.
#[derive(Debug)]
pub struct CohortAggregation {
    authors: AuthorFilter,
    now: Timestamp,
    summary: CohortSummary,
    excluded: BTreeMap<ExclusionReason, u64>,
    cycle_time: Lifetimes,
    review_time: Lifetimes,
}

impl CohortAggregation {
    /// Begins a cohort, in which the open pull requests have lived until `now`.
    pub fn new(authors: AuthorFilter, now: Timestamp) -> Self {
        Self {
            authors,
            now,
            summary: CohortSummary::default(),
            excluded: BTreeMap::new(),
            cycle_time: Lifetimes::default(),
            review_time: Lifetimes::default(),
        }
    }

    pub fn add(&mut self, member: &CohortPullRequest) {
        match self.authors.admits(member.author_is_bot, member.origin) {
            Ok(true) => {}
            Ok(false) => return,
            Err(reason) => return self.exclude(reason),
        }
        let until = match member.state {
            PullRequestState::Open => Some(self.now.max(member.created_at)),
            PullRequestState::Closed | PullRequestState::Merged => member.ended_at,
        };
        let since = |at: Timestamp| at.epoch() - member.created_at.epoch();
        let lived = until.map(since).filter(|lived| *lived >= 0);
        let Some(lived) = lived else {
            return self.exclude(ExclusionReason::ClockSkew);
        };
        if member.flags.contains(&Flag::MergedAsDraft) {
            return self.exclude(ExclusionReason::MergedAsDraft);
        } else if member.flags.contains(&Flag::Stub) {
            return self.exclude(ExclusionReason::Stub);
        }
        self.summary.counted += 1;
        *match member.state {
            PullRequestState::Open => &mut self.summary.open,
            PullRequestState::Closed => &mut self.summary.closed_unmerged,
            PullRequestState::Merged => &mut self.summary.merged,
        } += 1;
        let merged = member.state == PullRequestState::Merged;
        self.cycle_time.add(lived, merged);
        match member.first_review_at.map(since) {
            Some(reviewed) if reviewed >= 0 => self.review_time.add(reviewed, true),
            _ => self.review_time.add(lived, false),
        }
    }

    fn exclude(&mut self, reason: ExclusionReason) {
        *self.excluded.entry(reason).or_default() += 1;
    }

    /// Computes the numbers.
    pub fn finish(self) -> CohortSummary {
        CohortSummary {
            cycle_time: self.cycle_time.summary(),
            review_time: self.review_time.summary(),
            excluded: by_name(&self.excluded),
            ..self.summary
        }
    }
}

/// Seconds that something lasted, and whether it had ended by then.
#[derive(Debug, Default)]
pub struct Lifetimes(Vec<(i64, bool)>);

impl Lifetimes {
    pub fn add(&mut self, seconds: i64, ended: bool) {
        self.0.push((seconds, ended));
    }

    fn summary(mut self) -> CensoredSummary {
        let [p50, p75, p90] = self.percentiles([0.5, 0.75, 0.9]);
        #[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
        let in_hours = |seconds: i64| hours(seconds as f64);
        CensoredSummary {
            n: self.0.len(),
            censored: self.0.iter().filter(|(_, ended)| !ended).count(),
            p50_hours: p50.map(in_hours),
            p75_hours: p75.map(in_hours),
            p90_hours: p90.map(in_hours),
        }
    }

    /// Returns, for each of `wanted` in ascending order, the first time at which the Kaplan-Meier
    /// estimate of those that have not ended is no more than the rest. One that is censored at a
    /// time counts among those that were there at that time.
    pub fn percentiles<const N: usize>(&mut self, wanted: [f64; N]) -> [Option<i64>; N] {
        // A product of quotients can be a little more than the fraction that it stands for.
        const ROUNDING: f64 = 1e-12;
        self.0.sort_unstable();
        let mut found = [None; N];
        let mut next = 0;
        let mut left = self.0.len();
        let mut share = 1.0;
        for same in self.0.chunk_by(|one, other| one.0 == other.0) {
            let ended = same.iter().filter(|(_, ended)| *ended).count();
            #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
            let lasting = (left - ended) as f64 / left as f64;
            share *= lasting;
            left -= same.len();
            while ended > 0 && next < N && share <= 1.0 - wanted[next] + ROUNDING {
                found[next] = same.first().map(|(seconds, _)| *seconds);
                next += 1;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_count_those_that_have_not_ended() {
        let percentiles = |lives: &[(i64, bool)]| {
            let mut lifetimes = Lifetimes(lives.to_vec());
            lifetimes.percentiles([0.5, 0.75, 0.9])
        };
        assert_eq!(percentiles(&[]), [None; 3]);
        assert_eq!(percentiles(&[(5, false)]), [None; 3]);
        assert_eq!(percentiles(&[(5, true)]), [Some(5); 3]);
        // All have ended: the ordered values themselves.
        let ended: Vec<_> = (1..=10).map(|n| (n, true)).collect();
        assert_eq!(percentiles(&ended), [Some(5), Some(8), Some(9)]);
        // Left 4, one ends: 3/4. Left 2 after one is censored, one ends: 3/8. Then 0.
        let some = [(1, true), (2, false), (3, true), (3, false)];
        assert_eq!(percentiles(&some), [Some(3), None, None]);
        // At one time those that end are counted among all that are there.
        let one_time = [(3, false), (3, true)];
        assert_eq!(percentiles(&one_time), [Some(3), None, None]);
    }
}
