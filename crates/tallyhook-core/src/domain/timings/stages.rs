//! The stages and flags of a pull request, and its durations.

use serde::{Deserialize, Serialize};
use strum::VariantArray;
use utoipa::ToSchema;

use crate::github::types::Timestamp;

/// A property of a pull request that readers of its numbers must know.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Flag {
    /// A commit is dated before git existed or after the end, or a time of the pull request itself
    /// cannot be; then it has no durations.
    ClockSkew,
    /// Neither the opening nor GitHub's own timeline is known.
    HistoryIncomplete,
    /// It was a draft when it was merged.
    MergedAsDraft,
    /// A reviewer's request for changes stood at the merge.
    MergedWithChangesRequested,
    /// Reviewed, but no approval stood at the merge.
    MergedWithoutApproval,
    /// No human other than the author reviewed it.
    MergedWithoutReview,
    /// No approval that stood at the merge was for the commit that was merged.
    PushedAfterApproval,
    /// Closed and opened again at least once.
    Reopened,
    /// Reviewed only while it was a draft.
    ReviewedInDraft,
    /// Only ever seen in part.
    Stub,
    /// GitHub has more of its reviews, timeline or commits than were fetched, or a text was cut.
    Truncated,
}

impl Flag {
    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// The duration of each stage, in whole seconds. `None` is unknown or not there, which is not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    pub coding: Option<i64>,
    pub pickup: Option<i64>,
    pub review: Option<i64>,
    pub merge_wait: Option<i64>,
    pub redraft: Option<i64>,
    pub closed: Option<i64>,
}

impl Stages {
    /// Sums seconds by stage. A stage of which there are none is `None`.
    pub(in crate::domain) fn sum(parts: impl IntoIterator<Item = (Stage, i64)>) -> Self {
        let mut stages = Self::default();
        for (stage, seconds) in parts {
            let sum = stages.seconds_mut(stage);
            *sum = Some(sum.unwrap_or(0) + seconds);
        }
        stages
    }

    /// Returns the stages that `known` has: 0 where there are no seconds of one.
    pub(in crate::domain) fn only_known_in(self, known: &Self) -> Self {
        let mut stages = Self::default();
        for stage in Stage::VARIANTS {
            let seconds = self.seconds(*stage).unwrap_or(0);
            *stages.seconds_mut(*stage) = known.seconds(*stage).map(|_| seconds);
        }
        stages
    }

    /// Returns the seconds of one stage.
    pub const fn seconds(&self, stage: Stage) -> Option<i64> {
        match stage {
            Stage::Coding => self.coding,
            Stage::Pickup => self.pickup,
            Stage::Review => self.review,
            Stage::MergeWait => self.merge_wait,
            Stage::Redraft => self.redraft,
            Stage::Closed => self.closed,
        }
    }

    const fn seconds_mut(&mut self, stage: Stage) -> &mut Option<i64> {
        match stage {
            Stage::Coding => &mut self.coding,
            Stage::Pickup => &mut self.pickup,
            Stage::Review => &mut self.review,
            Stage::MergeWait => &mut self.merge_wait,
            Stage::Redraft => &mut self.redraft,
            Stage::Closed => &mut self.closed,
        }
    }

    /// Returns the sum of the known stages, in seconds: from the start of coding to the merge, or
    /// from ready to the merge where coding is unknown.
    pub fn total(&self) -> i64 {
        let all = [
            self.coding,
            self.pickup,
            self.review,
            self.merge_wait,
            self.redraft,
            self.closed,
        ];
        all.into_iter().flatten().sum()
    }
}

/// All durations of a pull request, in whole seconds. `None` is unknown or not there, which is not
/// 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullRequestDurations {
    /// From creation to merge.
    pub cycle_time: Option<i64>,
    /// From creation to the first review.
    pub review_time: Option<i64>,
    pub stages: Stages,
}

impl PullRequestDurations {
    /// Returns whether one of them is below 0, as versions before the rule of impossible times
    /// stored them.
    pub fn has_negative(&self) -> bool {
        let Stages {
            coding,
            pickup,
            review,
            merge_wait,
            redraft,
            closed,
        } = self.stages;
        let all = [self.cycle_time, self.review_time, coding, pickup, review];
        let mut known = all
            .into_iter()
            .chain([merge_wait, redraft, closed])
            .flatten();
        known.any(|seconds| seconds < 0)
    }
}

/// One line of the explanation: a stretch of time with its stage and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub stage: Stage,
    pub from: Timestamp,
    pub to: Timestamp,
    /// Seconds that count for the stage: the stretch less what redraft and closed took out of it.
    pub seconds: i64,
    pub because: &'static str,
}

/// A stretch of time that counts for one stage. The segments of a pull request are in order, do not
/// overlap and leave no gap, so that their seconds add up to those of its stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageSegment {
    pub stage: Stage,
    pub from: Timestamp,
    pub to: Timestamp,
}

impl StageSegment {
    pub fn seconds(&self) -> i64 {
        self.to.epoch() - self.from.epoch()
    }
}

/// A stage of a pull request's life.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Stage {
    Coding,
    Pickup,
    Review,
    MergeWait,
    Redraft,
    Closed,
}

impl Stage {
    /// The stages in their order.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the name that is written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}
