//! The load of reviews: requests and their answers by team or person, and how few people give most
//! of the reviews. Nothing is said of a group of fewer than five people.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::seconds_list::SecondsList;
use crate::domain::people::Bots;
use crate::domain::waiting::PairEnd;
use crate::github::types::{Account, AccountId, Timestamp};

/// Fewer people than this are too few to speak of: each could be guessed.
const FEWEST_PEOPLE: usize = 5;

/// A review request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestOutcome {
    /// GitHub's id of the team or person, or the name of one without.
    pub party: Result<i64, String>,
    pub name: String,
    pub asked_at: Timestamp,
    pub end: PairEnd,
    pub response_review_at: Option<Timestamp>,
    /// True if it was made in the range; false for an older one that is open.
    pub in_range: bool,
}

/// The load of one team or person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartyRequests {
    /// Requests that are open now, whenever they were made.
    pub asked_now: usize,
    /// The time of the oldest of them.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub oldest: Option<Timestamp>,
    /// Requests that were made in the range.
    pub asked: usize,
    /// Those of them that were answered by a review.
    pub answered: usize,
    pub withdrawn: usize,
    /// Those whose pull request ended without an answer.
    pub unanswered: usize,
    /// Those that are open.
    pub open: usize,
}

/// The load of a team or person, with its pace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PartyLoad {
    #[schema(example = "backend")]
    pub name: String,
    /// True if fewer than five people have answered for the team: the numbers are left out, since
    /// they would be those of single people.
    pub too_few_people: bool,
    #[serde(flatten)]
    pub requests: PartyRequests,
    /// The median from request to answer, of those that were answered.
    #[schema(example = 3.5)]
    pub p50_hours: Option<f64>,
}

/// The spread of the reviews of merged pull requests over their reviewers, without names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReviewConcentration {
    #[schema(example = 9)]
    pub reviewers: Option<usize>,
    #[schema(example = 120)]
    pub reviews: Option<usize>,
    /// True if there are fewer than five reviewers: all that speaks of them is null.
    pub too_few_people: bool,
    /// The share of the one reviewer with most of them.
    #[schema(example = 0.41)]
    pub top_1_share: Option<f64>,
    /// The share of the three with most of them.
    pub top_3_share: Option<f64>,
    pub merged_pull_requests: u64,
    pub reviews_per_merged_pull_request: Option<f64>,
}

/// The load of reviews, one request and review after the other, in any order.
#[derive(Debug, Default)]
pub struct LoadAggregation {
    parties: BTreeMap<Result<i64, String>, PartyTally>,
    reviews: BTreeMap<AccountId, usize>,
}

#[derive(Debug, Default)]
struct PartyTally {
    /// The newest request decides the name.
    named: Option<(Timestamp, String)>,
    requests: PartyRequests,
    pace: SecondsList,
    people: BTreeSet<AccountId>,
}

impl LoadAggregation {
    pub fn add_request(&mut self, request: RequestOutcome) {
        let tally = self.parties.entry(request.party).or_default();
        tally.named = tally
            .named
            .take()
            .max(Some((request.asked_at, request.name)));
        let requests = &mut tally.requests;
        if request.end == PairEnd::Open {
            requests.asked_now += 1;
            let oldest = requests.oldest.unwrap_or(request.asked_at);
            requests.oldest = Some(oldest.min(request.asked_at));
        }
        if !request.in_range {
            return;
        }
        requests.asked += 1;
        *match request.end {
            PairEnd::Answered => &mut requests.answered,
            PairEnd::Withdrawn => &mut requests.withdrawn,
            PairEnd::Ended => &mut requests.unanswered,
            PairEnd::Open => &mut requests.open,
        } += 1;
        if let (PairEnd::Answered, Some(at)) = (request.end, request.response_review_at) {
            let waited = at.epoch() - request.asked_at.epoch();
            tally
                .pace
                .extend(Some(waited).filter(|waited| *waited >= 0));
        }
    }

    /// Adds a person who answered for a team.
    pub fn add_answerer(&mut self, party: Result<i64, String>, person: AccountId) {
        self.parties.entry(party).or_default().people.insert(person);
    }

    /// Adds a review of a merged pull request; those of bots and of its author count for nothing.
    pub fn add_review(&mut self, reviewer: &Account, author: AccountId, bots: &Bots) {
        if reviewer.id != author && !bots.contains(reviewer) {
            *self.reviews.entry(reviewer.id).or_default() += 1;
        }
    }

    /// Computes the load of teams, by name. Those for which too few people answered have no numbers.
    pub fn teams(&mut self) -> Vec<PartyLoad> {
        self.parties(|tally| tally.people.len() < FEWEST_PEOPLE)
    }

    /// Computes the load of people, by name.
    pub fn people(&mut self) -> Vec<PartyLoad> {
        self.parties(|_| false)
    }

    fn parties(&mut self, is_hidden: impl Fn(&PartyTally) -> bool) -> Vec<PartyLoad> {
        let parties = std::mem::take(&mut self.parties).into_values();
        let mut loads: Vec<_> = parties
            .filter_map(|mut tally| {
                let (_, name) = tally.named.take()?;
                let too_few_people = is_hidden(&tally);
                tally.pace.sort();
                Some(PartyLoad {
                    name,
                    too_few_people,
                    p50_hours: tally
                        .pace
                        .percentile(0.5)
                        .map(super::hours)
                        .filter(|_| !too_few_people),
                    requests: match too_few_people {
                        true => PartyRequests::default(),
                        false => tally.requests,
                    },
                })
            })
            .collect();
        loads.sort_by(|one, other| one.name.cmp(&other.name));
        loads
    }

    /// Computes how few people give most of the reviews of `merged` pull requests.
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub fn concentration(&self, merged: u64) -> ReviewConcentration {
        let mut counts: Vec<_> = self.reviews.values().copied().collect();
        counts.sort_unstable_by(|one, other| other.cmp(one));
        let reviews: usize = counts.iter().sum();
        let too_few_people = counts.len() < FEWEST_PEOPLE;
        if too_few_people {
            return ReviewConcentration {
                too_few_people,
                merged_pull_requests: merged,
                ..ReviewConcentration::default()
            };
        }
        let share = |people: usize| {
            let most: usize = counts.iter().take(people).sum();
            Some(six_decimals(most as f64 / reviews as f64))
        };
        ReviewConcentration {
            reviewers: Some(counts.len()),
            reviews: Some(reviews),
            too_few_people,
            top_1_share: share(1),
            top_3_share: share(3),
            merged_pull_requests: merged,
            reviews_per_merged_pull_request: (merged > 0)
                .then(|| six_decimals(reviews as f64 / merged as f64)),
        }
    }
}

fn six_decimals(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::types::AccountKind;

    fn request(party: i64, at: i64, end: PairEnd, answered: Option<i64>) -> RequestOutcome {
        RequestOutcome {
            party: Ok(party),
            name: format!("team-{party}-{at}"),
            asked_at: Timestamp::clamped(at * 3600),
            end,
            response_review_at: answered.map(|at| Timestamp::clamped(at * 3600)),
            in_range: at >= 10,
        }
    }

    #[test]
    fn requests_are_counted_by_their_end_and_small_teams_are_hidden() {
        let mut load = LoadAggregation::default();
        for one in [
            request(1, 5, PairEnd::Open, None),
            request(1, 10, PairEnd::Answered, Some(12)),
            request(1, 20, PairEnd::Answered, Some(26)),
            request(1, 21, PairEnd::Withdrawn, None),
            request(1, 22, PairEnd::Ended, None),
            request(1, 23, PairEnd::Open, None),
            request(2, 11, PairEnd::Answered, Some(12)),
        ] {
            load.add_request(one);
        }
        for person in 0..5 {
            load.add_answerer(Ok(1), AccountId(person));
            load.add_answerer(Ok(2), AccountId(person.min(3)));
        }
        let teams = load.teams();
        assert_eq!(
            teams[0],
            PartyLoad {
                name: "team-1-23".to_owned(),
                too_few_people: false,
                requests: PartyRequests {
                    asked_now: 2,
                    oldest: Some(Timestamp::clamped(5 * 3600)),
                    asked: 5,
                    answered: 2,
                    withdrawn: 1,
                    unanswered: 1,
                    open: 1,
                },
                p50_hours: Some(4.0),
            }
        );
        assert_eq!(
            (
                teams[1].too_few_people,
                teams[1].p50_hours,
                teams[1].requests.asked
            ),
            (true, None, 0)
        );
    }

    #[test]
    fn concentration_names_nobody_and_hides_few_reviewers() {
        let mut load = LoadAggregation::default();
        let account = |id: i64, login: &str| Account {
            id: AccountId(id),
            login: login.to_owned(),
            kind: AccountKind::User,
        };
        let bots = Bots::default();
        for (id, reviews) in [(1, 5), (2, 2), (3, 1), (4, 1)] {
            for _ in 0..reviews {
                load.add_review(&account(id, "someone"), AccountId(99), &bots);
            }
        }
        load.add_review(&account(99, "author"), AccountId(99), &bots);
        load.add_review(&account(98, "linter[bot]"), AccountId(99), &bots);
        let four = load.concentration(3);
        assert_eq!(
            four,
            ReviewConcentration {
                too_few_people: true,
                merged_pull_requests: 3,
                ..ReviewConcentration::default()
            }
        );
        load.add_review(&account(5, "fifth"), AccountId(99), &bots);
        let five = load.concentration(4);
        assert_eq!((five.reviewers, five.reviews), (Some(5), Some(10)));
        assert_eq!((five.top_1_share, five.top_3_share), (Some(0.5), Some(0.8)));
        assert_eq!(five.reviews_per_merged_pull_request, Some(2.5));
        assert_eq!(load.concentration(0).reviews_per_merged_pull_request, None);
    }
}
