//! Whose turn it is on a pull request, since when and why: one walk over its facts.

mod types;

use std::collections::BTreeMap;

pub use self::types::{
    PairEnd, Party, ReviewPair, ReviewRound, Turn, TurnStep, Turns, Waiter, Waiting, WaitingFor,
};

/// The settings of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingRules {
    /// The approvals that complete a review where GitHub's own decision is unknown.
    pub required_approvals: usize,
    /// The slugs of the teams that review where no one is asked, by `owner/name` or `owner/*` in
    /// lower case.
    pub default_reviewers: BTreeMap<String, Vec<String>>,
}

impl Default for WaitingRules {
    fn default() -> Self {
        Self {
            required_approvals: 1,
            default_reviewers: BTreeMap::new(),
        }
    }
}
