//! Review requests with their answers, and rounds of review.

use std::collections::BTreeMap;

use super::life::Life;
use super::types::{PairEnd, Party, ReviewPair, ReviewRound, Turn, Turns};
use crate::event::SubjectKind;
use crate::github::types::Timestamp;

/// The kind and id of a person or team.
type PartyKey = (SubjectKind, i64);

/// The requests so far.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    pairs: Vec<PairDraft>,
    /// The place of the latest request to each.
    latest: BTreeMap<PartyKey, usize>,
}

#[derive(Debug)]
struct PairDraft {
    party: PartyKey,
    k: u32,
    asked_at: Timestamp,
    /// It was a draft when they were asked, and is one still.
    in_draft: bool,
    /// The last review while it is a draft, which is no answer.
    reviewed_draft_at: Option<Timestamp>,
    end: Option<(Timestamp, PairEnd)>,
    response_any_at: Option<Timestamp>,
}

impl Pairs {
    /// Notes a request, unless one is open. Returns the number of requests to that party so far.
    pub(super) fn ask(&mut self, party: PartyKey, at: Timestamp, in_draft: bool) -> u32 {
        let latest = self.latest_of(party);
        let k = latest.as_ref().map_or(0, |pair| pair.k);
        if latest.is_some_and(|pair| pair.end.is_none()) {
            return k;
        }
        self.latest.insert(party, self.pairs.len());
        self.pairs.push(PairDraft {
            party,
            k: k + 1,
            asked_at: at,
            in_draft,
            reviewed_draft_at: None,
            end: None,
            response_any_at: None,
        });
        k + 1
    }

    /// Makes the requests of a draft begin when it is ready.
    pub(super) fn become_ready(&mut self, at: Timestamp) {
        for place in self.latest.values() {
            let pair = &mut self.pairs[*place];
            if pair.in_draft && pair.end.is_none() {
                (pair.asked_at, pair.in_draft, pair.response_any_at) = (at, false, None);
            }
        }
    }

    /// Notes a comment of someone who may be asked.
    pub(super) fn respond(&mut self, party: PartyKey, at: Timestamp) {
        if let Some(pair) = self.open(party) {
            pair.response_any_at.get_or_insert(at);
        }
    }

    /// Notes the end of a request. A person's review of a draft is not one: the request begins when
    /// it is ready. A team's is, since later reviews of its members are not known as theirs.
    pub(super) fn end(&mut self, party: PartyKey, at: Timestamp, end: PairEnd) {
        if let Some(pair) = self.open(party) {
            if pair.in_draft && end == PairEnd::Answered && party.0 == SubjectKind::User {
                pair.reviewed_draft_at = Some(at);
                return;
            }
            pair.end = Some((at, end));
            if end == PairEnd::Answered {
                pair.response_any_at.get_or_insert(at);
            }
        }
    }

    /// Returns true if the latest request to that party ended or was reviewed at `at`.
    pub(super) fn has_ended_at(&self, party: PartyKey, at: Timestamp) -> bool {
        let latest = self.latest.get(&party).map(|place| &self.pairs[*place]);
        latest.is_some_and(|pair| {
            let ended_at = pair.end.map(|(ended, _)| ended);
            [ended_at, pair.reviewed_draft_at].contains(&Some(at))
        })
    }

    fn latest_of(&mut self, party: PartyKey) -> Option<&mut PairDraft> {
        self.pairs.get_mut(*self.latest.get(&party)?)
    }

    fn open(&mut self, party: PartyKey) -> Option<&mut PairDraft> {
        self.latest_of(party).filter(|pair| pair.end.is_none())
    }

    /// Returns the pairs by time of the request. One whose party has no name is left out.
    pub(super) fn finish(
        self,
        ended_at: Option<Timestamp>,
        party: impl Fn(PartyKey) -> Option<Party>,
    ) -> Vec<ReviewPair> {
        let mut pairs: Vec<_> = self
            .pairs
            .into_iter()
            .filter_map(|pair| {
                let over = ended_at.map(|ended| (ended, PairEnd::Ended));
                let (ended_at, end) = match pair.end.or(over) {
                    Some((at, end)) => (Some(at), end),
                    None => (None, PairEnd::Open),
                };
                Some(ReviewPair {
                    party: party(pair.party)?,
                    k: pair.k,
                    asked_at: pair.asked_at,
                    end,
                    ended_at,
                    response_review_at: ended_at.filter(|_| end == PairEnd::Answered),
                    response_any_at: pair.response_any_at,
                })
            })
            .collect();
        pairs.sort_by_key(|pair| pair.asked_at);
        pairs
    }
}

/// The blocks of reviews so far, each with the author's answer to it.
#[derive(Debug, Default)]
pub(super) struct Rounds(Vec<RoundDraft>);

#[derive(Debug)]
struct RoundDraft {
    first_review_at: Timestamp,
    last_review_at: Timestamp,
    answered_at: Option<Timestamp>,
}

impl Rounds {
    pub(super) fn reviewed(&mut self, at: Timestamp) {
        match self
            .0
            .last_mut()
            .filter(|round| round.answered_at.is_none())
        {
            Some(round) => round.last_review_at = at,
            None => self.0.push(RoundDraft {
                first_review_at: at,
                last_review_at: at,
                answered_at: None,
            }),
        }
    }

    /// Notes a push or a request after a review.
    pub(super) fn answered(&mut self, at: Timestamp) {
        if let Some(round) = self.0.last_mut() {
            round.answered_at.get_or_insert(at);
        }
    }

    /// Returns the rounds, with times cut from the turns.
    pub(super) fn finish(self, life: &Life<'_>, turns: &Turns) -> Vec<ReviewRound> {
        let mut handed_at = life.ready_at.unwrap_or(life.created_at);
        let rounds = self.0.into_iter().map(|round| {
            let until = round.answered_at.or(life.ended_at);
            let author_seconds =
                until.map(|until| turns.seconds_of(Turn::Author, round.last_review_at, until));
            let finished = ReviewRound {
                handed_at,
                first_review_at: round.first_review_at,
                last_review_at: round.last_review_at,
                answered_at: round.answered_at,
                reviewer_seconds: turns.seconds_of(
                    Turn::Reviewers,
                    handed_at,
                    round.first_review_at,
                ),
                author_seconds,
            };
            handed_at = round.answered_at.unwrap_or(round.last_review_at);
            finished
        });
        rounds.collect()
    }
}
