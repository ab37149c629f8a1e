//! The reason of a wait, finer than its kind.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::WaitingFor;

/// A reason to wait, finer than the kind.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum WaitingReason {
    Draft,
    Queued,
    LeftQueue,
    Conflict,
    ChangesRequested,
    CheckFailed,
    FirstReview,
    AnotherLook,
    Comments,
    NobodyAsked,
    BasePr,
    Checks,
    Merge,
}

impl WaitingReason {
    /// The reasons that one rule alone has, for which the author or the maintainers are waited for.
    pub const BY_RULE: [(u8, Self); 6] = [
        (1, Self::Draft),
        (3, Self::LeftQueue),
        (4, Self::Conflict),
        (5, Self::ChangesRequested),
        (6, Self::CheckFailed),
        (8, Self::Comments),
    ];

    /// Returns the reason of a rule; `reviewed` is true if a person has reviewed before.
    pub fn of(on: WaitingFor, rule: u8, reviewed: bool) -> Self {
        match on {
            WaitingFor::Reviewers if reviewed => Self::AnotherLook,
            WaitingFor::Reviewers => Self::FirstReview,
            WaitingFor::Nobody => Self::NobodyAsked,
            WaitingFor::BasePr => Self::BasePr,
            WaitingFor::MergeQueue => Self::Queued,
            WaitingFor::Ci => Self::Checks,
            WaitingFor::Author | WaitingFor::Maintainers => {
                let known = Self::BY_RULE.iter().find(|(known, _)| *known == rule);
                known.map_or(Self::Merge, |(_, reason)| *reason)
            }
        }
    }

    /// Returns the name that is written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}
