//! Everything that is computed from the facts of one pull request.

use super::people::Bots;
use super::pull_request::PullRequest;
use super::timings::{Timings, timings};
use super::waiting::{Turns, WaitingRules};

/// The settings that the numbers depend on. After a change of one, `tallyhook recompute` computes
/// the stored numbers again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberRules {
    pub bots: Bots,
    pub waiting: WaitingRules,
}

/// All numbers of one pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub timings: Timings,
    pub turns: Turns,
}

/// Computes the numbers of `pull_request`; `None` while no snapshot of it is known.
pub fn numbers(pull_request: &PullRequest, rules: &NumberRules) -> Option<Numbers> {
    Some(Numbers {
        timings: timings(pull_request, &rules.bots)?,
        turns: Turns::default(),
    })
}
