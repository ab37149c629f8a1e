//! The rows of the people and teams that pull requests wait for, and of review requests.

use serde::Serialize;
use tallyhook_core::domain::waiting::{PairEnd, Party, ReviewPair, Waiter};
use tallyhook_core::github::types::PrKey;

use super::table_columns::columns;
use crate::columns::{Name, Seconds};
use crate::{BatchWrite, PullRequestRecord};

columns! {
    /// A person or team that an open pull request waits for.
    #[derive(Serialize)]
    PartyColumns {
        repo_id: i64,
        number: i64,
        place: i64,
        kind: &'static str,
        party_id: Option<i64>,
        name: String,
        since: Seconds,
    }
}

columns! {
    /// A review request with its answer.
    #[derive(Serialize)]
    PairColumns {
        repo_id: i64,
        number: i64,
        place: i64,
        kind: &'static str,
        party_id: Option<i64>,
        name: String,
        k: i64,
        asked_at: Seconds,
        outcome: Name<PairEnd>,
        ended_at: Option<Seconds>,
        response_review_at: Option<Seconds>,
        response_any_at: Option<Seconds>,
    }
}

/// The rows of pull requests where they changed: those of `keys` are replaced.
#[derive(Default)]
pub(super) struct ChangedParties {
    pub(super) keys: Vec<PrKey>,
    pub(super) parties: Vec<PartyColumns>,
    pub(super) pairs: Vec<PairColumns>,
}

impl ChangedParties {
    pub(super) fn of(write: &BatchWrite) -> Self {
        let mut changed = Self::default();
        for record in &write.pull_requests {
            let key = record.known.pull_request.key;
            let is_same = record.parties_hash() == record.known.parties_hash;
            if !is_same || write.replaced.contains(&key) {
                changed.add(key, record);
            }
        }
        changed
    }

    fn add(&mut self, key: PrKey, record: &PullRequestRecord) {
        self.keys.push(key);
        let Some(numbers) = &record.numbers else {
            return;
        };
        let waiting = numbers.turns.waiting.iter();
        let who = waiting.flat_map(|waiting| &waiting.who);
        let party = |(place, waiter)| PartyColumns::of(key, place, waiter);
        self.parties.extend((0..).zip(who).map(party));
        let pair = |(place, pair)| PairColumns::of(key, place, pair);
        self.pairs.extend((0..).zip(&numbers.turns.pairs).map(pair));
    }
}

/// Kind, id and name of a party.
fn party(party: &Party) -> (&'static str, Option<i64>, String) {
    match party {
        Party::Account { id, login } => ("account", Some(id.0), login.clone()),
        Party::Team { id, slug } => ("team", *id, slug.clone()),
    }
}

impl PartyColumns {
    fn of(key: PrKey, place: i64, waiter: &Waiter) -> Self {
        let (kind, party_id, name) = party(&waiter.party);
        Self {
            repo_id: key.repo.0,
            number: key.number.0,
            place,
            kind,
            party_id,
            name,
            since: Seconds(waiter.since),
        }
    }
}

impl PairColumns {
    fn of(key: PrKey, place: i64, pair: &ReviewPair) -> Self {
        let (kind, party_id, name) = party(&pair.party);
        Self {
            repo_id: key.repo.0,
            number: key.number.0,
            place,
            kind,
            party_id,
            name,
            k: i64::from(pair.k),
            asked_at: Seconds(pair.asked_at),
            outcome: Name(pair.end),
            ended_at: pair.ended_at.map(Seconds),
            response_review_at: pair.response_review_at.map(Seconds),
            response_any_at: pair.response_any_at.map(Seconds),
        }
    }
}
