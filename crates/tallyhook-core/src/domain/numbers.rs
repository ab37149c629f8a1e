//! Everything that is computed from the facts of one pull request.

use super::origin::{OriginRules, PullRequestOrigin, origin};
use super::people::Bots;
use super::pull_request::PullRequest;
use super::timings::{Timings, timings};

/// The settings that the numbers depend on. After a change of one, `tallyhook recompute` computes
/// the stored numbers again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberRules {
    pub bots: Bots,
    pub origins: OriginRules,
}

/// All numbers of one pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub timings: Timings,
    pub origin: PullRequestOrigin,
}

/// Computes the numbers of `pull_request`; `None` while no snapshot of it is known.
pub fn numbers(pull_request: &PullRequest, rules: &NumberRules) -> Option<Numbers> {
    let timings = timings(pull_request, &rules.bots)?;
    Some(Numbers {
        origin: origin(pull_request, &timings, rules),
        timings,
    })
}
