//! One duration of many merged pull requests: its distribution, its single values, and the pull
//! requests at one of its percentiles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ranks::percentile;
use super::{AuthorFilter, ExclusionReason, MergedPullRequest, by_name, hours};
use crate::domain::timings::PullRequestDurations;
use crate::github::types::{PrKey, Timestamp};

/// A duration of merged pull requests.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    ToSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum DurationName {
    Cycle,
    ReviewTime,
    Coding,
    Pickup,
    Review,
    MergeWait,
    Redraft,
    Closed,
}

impl DurationName {
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the name that is written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Returns its definition in one sentence.
    pub const fn definition(self) -> &'static str {
        match self {
            Self::Cycle => "From creation to merge.",
            Self::ReviewTime => {
                "From creation to the first review by a person other than the author."
            }
            Self::Coding => {
                "From the first commit, or the creation where its date is unknown, to ready for \
                 review."
            }
            Self::Pickup => {
                "From ready for review to the first review by a person other than the author."
            }
            Self::Review => "From the first review to the final approval, or to the merge.",
            Self::MergeWait => {
                "From the final approval, or from ready where there was no review, to the merge."
            }
            Self::Redraft => "From converted to draft to ready for review again.",
            Self::Closed => "From closed to reopened.",
        }
    }

    /// Returns the seconds of this duration.
    pub const fn of(self, durations: &PullRequestDurations) -> Option<i64> {
        match self {
            Self::Cycle => durations.cycle_time,
            Self::ReviewTime => durations.review_time,
            Self::Coding => durations.stages.coding,
            Self::Pickup => durations.stages.pickup,
            Self::Review => durations.stages.review,
            Self::MergeWait => durations.stages.merge_wait,
            Self::Redraft => durations.stages.redraft,
            Self::Closed => durations.stages.closed,
        }
    }
}

/// The duration of one pull request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasuredPullRequest {
    pub key: PrKey,
    pub merged_at: Timestamp,
    pub seconds: i64,
}

impl MeasuredPullRequest {
    #[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
    pub fn hours(&self) -> f64 {
        hours(self.seconds as f64)
    }
}

/// One duration of merged pull requests, with their keys: 32 bytes for each.
#[derive(Debug)]
pub struct Measurements {
    measure: DurationName,
    authors: AuthorFilter,
    /// In the order of the merges.
    values: Vec<MeasuredPullRequest>,
    missing: usize,
    excluded: BTreeMap<ExclusionReason, u64>,
}

/// A duration as a histogram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DurationDistribution {
    pub of: DurationName,
    #[schema(example = 19)]
    pub n: usize,
    /// Pull requests that count and do not have this duration.
    pub missing: usize,
    /// From 0 on; each but the first ends at twice its beginning.
    pub bins: Vec<DistributionBin>,
    pub p50_hours: Option<f64>,
    /// Null below five values.
    pub p90_hours: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DistributionBin {
    pub from_hours: f64,
    /// Not in the bin itself.
    pub to_hours: f64,
    pub n: usize,
}

/// The values around a percentile.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedValue {
    pub hours: f64,
    /// The rank, from 1 to n; between two where it is no whole number.
    pub rank: f64,
    /// The pull request at the rank, or the two next to it.
    pub between: Vec<MeasuredPullRequest>,
    /// Pull requests around the rank in ascending order, those of `between` among them.
    pub around: Vec<MeasuredPullRequest>,
}

/// The end of the first bin: a quarter of an hour.
const FIRST_BIN: i64 = 900;
/// Pull requests that are listed on each side of a rank.
const AROUND: usize = 5;

impl Measurements {
    pub fn new(measure: DurationName, authors: AuthorFilter) -> Self {
        Self {
            measure,
            authors,
            values: Vec::new(),
            missing: 0,
            excluded: BTreeMap::new(),
        }
    }

    /// Adds the next pull request, in the order of their merges.
    pub fn add(&mut self, key: PrKey, merged: &MergedPullRequest) {
        match (
            merged.check(self.authors),
            self.measure.of(&merged.durations),
        ) {
            (Ok(false), _) => {}
            (Err(reason), _) => *self.excluded.entry(reason).or_default() += 1,
            (Ok(true), None) => self.missing += 1,
            (Ok(true), Some(seconds)) => self.values.push(MeasuredPullRequest {
                key,
                merged_at: merged.merged_at,
                seconds,
            }),
        }
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the number of pull requests that count and do not have this duration.
    pub const fn missing(&self) -> usize {
        self.missing
    }

    /// Returns how many do not count, by reason.
    pub fn excluded(&self) -> BTreeMap<String, u64> {
        by_name(&self.excluded)
    }

    /// Returns at most `limit` pull requests, spread evenly over the order of their merges.
    pub fn sample(&self, limit: usize) -> Vec<MeasuredPullRequest> {
        let shown = self.values.len().min(limit);
        let places = (0..shown).map(|number| number * self.values.len() / shown);
        places.map(|place| self.values[place]).collect()
    }

    /// Sorts the values into bins whose width doubles.
    pub fn distribution(mut self) -> DurationDistribution {
        self.sort();
        let mut bins: Vec<DistributionBin> = Vec::new();
        let (mut from, mut to) = (0, FIRST_BIN);
        let mut left = self.values.as_slice();
        while !left.is_empty() {
            let n = left.partition_point(|value| value.seconds < to);
            let (from_hours, to_hours) = (in_hours(from), in_hours(to));
            bins.push(DistributionBin {
                from_hours,
                to_hours,
                n,
            });
            left = &left[n..];
            (from, to) = (to, to.saturating_mul(2));
        }
        let few = self.values.len() < super::seconds_list::FEW;
        DurationDistribution {
            of: self.measure,
            n: self.values.len(),
            missing: self.missing,
            bins,
            p50_hours: self.percentile(0.5),
            p90_hours: self.percentile(0.9).filter(|_| !few),
        }
    }

    /// Returns the values around the percentile `p`; `None` if there is none.
    pub fn ranked(&mut self, p: f64) -> Option<RankedValue> {
        self.sort();
        let last = self.values.len().checked_sub(1)?;
        #[allow(clippy::cast_precision_loss, reason = "ranks are small")]
        let place = p.clamp(0.0, 1.0) * last as f64;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and n"
        )]
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        let around = low.saturating_sub(AROUND)..=(high + AROUND).min(last);
        Some(RankedValue {
            hours: self.percentile(p)?,
            rank: place + 1.0,
            between: self.values[low..=high].to_vec(),
            around: self.values[around].to_vec(),
        })
    }

    fn sort(&mut self) {
        self.values
            .sort_unstable_by_key(|value| (value.seconds, value.key));
    }

    fn percentile(&self, p: f64) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
        let seconds = |place: usize| self.values[place].seconds as f64;
        percentile(self.values.len(), seconds, p).map(hours)
    }
}

#[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
fn in_hours(seconds: i64) -> f64 {
    hours(seconds as f64)
}
