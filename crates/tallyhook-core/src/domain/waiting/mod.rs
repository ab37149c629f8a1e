//! The turns on a pull request, their beginnings and reasons: one walk over its facts.

mod acts;
mod explain;
mod life;
mod pairs;
mod party;
mod reason;
mod rules;
mod types;
mod walk;

use std::collections::BTreeMap;

use self::life::Life;
use self::walk::Walk;
use super::numbers::NumberRules;
use super::pull_request::PullRequest;
use crate::github::types::Timestamp;

pub use self::reason::WaitingReason;
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

impl WaitingRules {
    /// Returns the slugs of the teams that review in `repo` where no one is asked.
    fn default_teams(&self, repo: Option<&str>) -> &[String] {
        let Some(repo) = repo.filter(|_| !self.default_reviewers.is_empty()) else {
            return &[];
        };
        let name = repo.to_ascii_lowercase();
        let owner = name.split_once('/').map(|(owner, _)| format!("{owner}/*"));
        let teams = self.default_reviewers.get(&name);
        let of_owner = || self.default_reviewers.get(&owner?);
        teams.or_else(of_owner).map_or(&[], Vec::as_slice)
    }
}

impl Default for WaitingRules {
    fn default() -> Self {
        Self {
            required_approvals: 1,
            default_reviewers: BTreeMap::new(),
        }
    }
}

/// Computes whose turn it was and is on `pull_request`: of all its facts, which is the form that is
/// stored, or up to `as_of`. `repo` is the name of its repository, by which the default reviewers
/// are chosen. `None` while no snapshot is known, and for a time before its creation.
pub fn turns(
    pull_request: &PullRequest,
    repo: Option<&str>,
    rules: &NumberRules,
    as_of: Option<Timestamp>,
) -> Option<Turns> {
    let life = Life::of(pull_request, repo, rules, as_of)?;
    Some(Walk::over(&life))
}
