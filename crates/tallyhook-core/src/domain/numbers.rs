//! Everything that is computed from the facts of one pull request.

use super::business_time::{BusinessNumbers, Calendars, business_numbers};
use super::origin::{OriginRules, PullRequestOrigin, origin};
use super::people::Bots;
use super::pull_request::PullRequest;
use super::timings::{Timings, timings};
use super::waiting::{Turns, WaitingRules, turns};

/// The settings that the numbers depend on. After a change of one, `tallyhook recompute` computes
/// the stored numbers again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberRules {
    pub bots: Bots,
    pub calendars: Calendars,
    pub waiting: WaitingRules,
    pub origins: OriginRules,
}

/// All numbers of one pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub timings: Timings,
    /// `None` without a calendar for the repository.
    pub business: Option<BusinessNumbers>,
    pub turns: Turns,
    pub origin: PullRequestOrigin,
}

/// Computes the numbers of `pull_request`; `None` while no snapshot of it is known. `repo` is the
/// name of its repository, by which some of the rules choose; `None` while that is unknown.
pub fn numbers(
    pull_request: &PullRequest,
    repo: Option<&str>,
    rules: &NumberRules,
) -> Option<Numbers> {
    let timings = timings(pull_request, &rules.bots)?;
    let calendar = repo.and_then(|repo| rules.calendars.of_repository(repo));
    Some(Numbers {
        business: calendar.map(|calendar| business_numbers(pull_request, &timings, calendar)),
        origin: origin(pull_request, &timings, rules),
        timings,
        turns: turns(pull_request, repo, rules, None)?,
    })
}
