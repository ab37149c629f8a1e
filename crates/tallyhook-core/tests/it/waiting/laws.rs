//! The laws, which hold for every story.

use proptest::prelude::*;
use proptest::sample::Index;
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::waiting::{PairEnd, Turn, Turns, WaitingFor};
use tallyhook_core::event::PullRequestEvent;
use tallyhook_core::github::types::Timestamp;
use testkit::reviewing::{self, Story, dated};

use super::{after, second, time, turns};

/// The last event of every story is before.
const NOW: i64 = 1_000_000;

/// Checks all laws as of `now`. Of a closing and a reopening of one second the pull request keeps the
/// closing, so that its end is not that of the story.
fn check(turns: &Turns, pull_request: &PullRequest, now: Timestamp) {
    let conversation = &pull_request.conversation.as_ref().unwrap().value;
    let ended = conversation.closed_at.filter(|_| !conversation.open);
    check_steps(turns, ended, now);
    check_waiting(turns, conversation.open, now);
    check_pairs(turns, ended, now);
    check_rounds(turns, now);
}

/// Steps follow each other without a gap, from the creation to the end or `now`, and what waits now
/// is the last of them.
fn check_steps(turns: &Turns, ended: Option<Timestamp>, now: Timestamp) {
    let mut from = time(0);
    for step in &turns.steps {
        assert_eq!(step.from, from, "{turns:?}");
        let named = matches!(step.turn, Turn::Author | Turn::Reviewers);
        assert_eq!(named, !step.who.is_empty(), "{step:?}");
        assert!(step.to.is_none_or(|to| to > step.from), "{step:?}");
        from = step.to.unwrap_or(now);
    }
    let until = ended.unwrap_or(now);
    let time_by = turns.time_by(now);
    let sum: i64 = time_by.values().sum();
    assert_eq!(sum, until.epoch() - time(0).epoch(), "{time_by:?}");
    let (current, before) = turns.up_to_current();
    let lasting = current.map_or(0, |(_, since)| now.epoch() - since.epoch());
    let before: i64 = before.values().sum();
    assert_eq!(before + lasting, sum);
}

/// An open pull request waits for one thing, since a time between creation and now.
fn check_waiting(turns: &Turns, is_open: bool, now: Timestamp) {
    let Some(waiting) = &turns.waiting else {
        assert!(!is_open, "an open pull request waits for nothing");
        return;
    };
    assert!(is_open, "{waiting:?}");
    let life = time(0)..=now;
    assert!(
        life.contains(&waiting.since) && life.contains(&waiting.kind_since),
        "{waiting:?}"
    );
    assert!(
        waiting
            .who
            .iter()
            .all(|waiter| life.contains(&waiter.since)),
        "{waiting:?}"
    );
    let (turn, since) = turns.current().unwrap();
    assert_eq!(
        (turn.as_str(), since),
        (waiting.on.as_str(), waiting.kind_since)
    );
    let named = matches!(waiting.on, WaitingFor::Author | WaitingFor::Reviewers);
    assert_eq!(named, !waiting.who.is_empty(), "{waiting:?}");
    let by_bots = waiting.who.iter().any(|waiter| waiter.party.name() == "r4");
    let by_author = waiting.who.iter().any(|waiter| waiter.party.name() == "r0");
    assert!(
        !by_bots && by_author == (waiting.on == WaitingFor::Author),
        "{waiting:?}"
    );
    assert!(
        (1..=12).contains(&waiting.rule) && !waiting.because.is_empty(),
        "{waiting:?}"
    );
}

fn check_pairs(turns: &Turns, ended: Option<Timestamp>, now: Timestamp) {
    let last = ended.unwrap_or(now);
    for (place, pair) in turns.pairs.iter().enumerate() {
        let within = |at: Option<Timestamp>| at.is_none_or(|at| pair.asked_at <= at && at <= last);
        assert!(
            pair.asked_at >= time(0) && pair.asked_at <= last,
            "{pair:?}"
        );
        assert!(
            within(pair.ended_at) && within(pair.response_review_at),
            "{pair:?}"
        );
        assert!(within(pair.response_any_at), "{pair:?}");
        assert_eq!(
            pair.ended_at.is_some(),
            pair.end != PairEnd::Open,
            "{pair:?}"
        );
        assert!(pair.end != PairEnd::Open || ended.is_none(), "{pair:?}");
        let answered = pair.end == PairEnd::Answered;
        assert_eq!(answered, pair.response_review_at.is_some(), "{pair:?}");
        assert!(
            !answered || pair.response_any_at <= pair.response_review_at,
            "{pair:?}"
        );
        let earlier = turns.pairs[..place]
            .iter()
            .filter(|earlier| earlier.party == pair.party);
        assert_eq!(pair.k as usize, earlier.count() + 1, "{:?}", turns.pairs);
    }
}

fn check_rounds(turns: &Turns, now: Timestamp) {
    let time_by = turns.time_by(now);
    let total = |turn| time_by.get(&turn).copied().unwrap_or(0);
    let reviewers: i64 = turns
        .rounds
        .iter()
        .map(|round| round.reviewer_seconds)
        .sum();
    let author: i64 = turns
        .rounds
        .iter()
        .filter_map(|round| round.author_seconds)
        .sum();
    assert!(
        reviewers <= total(Turn::Reviewers) && author <= total(Turn::Author),
        "{turns:?}"
    );
    for (place, round) in turns.rounds.iter().enumerate() {
        assert!(round.handed_at <= round.first_review_at, "{round:?}");
        assert!(round.first_review_at <= round.last_review_at, "{round:?}");
        assert!(
            round
                .answered_at
                .is_none_or(|at| at >= round.last_review_at),
            "{round:?}"
        );
        let is_last = place + 1 == turns.rounds.len();
        assert!(is_last || round.answered_at.is_some(), "{:?}", turns.rounds);
        assert!(
            round.reviewer_seconds >= 0
                && round.author_seconds >= Some(0).min(round.author_seconds)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 7_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The laws on stories of which several deeds are often of one second, in any order of delivery
    /// and with repetition.
    #[test]
    fn every_second_is_one_party_s_turn_in_any_order_of_deliveries(
        draft in any::<bool>(),
        deeds in reviewing::deeds(0, 200_000 / 18),
        keys in prop::collection::vec(any::<u32>(), 32),
        repeated in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let events = Story::of(draft, &dated(&deeds)).events;
        let known = after(&events);
        let found = turns(&known, None);
        check(&found, &known, time(NOW));
        prop_assert!(!found.inferred);

        let mut shuffled: Vec<_> = events.iter().chain(repeated.iter().map(|index| index.get(&events))).collect();
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        prop_assert_eq!(turns(&after(shuffled), None), found);
    }

    /// As of a time, the turns are those of the events up to it.
    #[test]
    fn turns_as_of_a_time_depend_on_nothing_later(
        draft in any::<bool>(),
        deeds in reviewing::deeds(1, 1_000),
        at in 0_i64..10_000,
    ) {
        let events = Story::of(draft, &dated(&deeds)).events;
        let seen_by = |event: &&PullRequestEvent| second(event.pull_request.as_ref().unwrap().updated_at) <= at;
        let until: Vec<_> = events.iter().take_while(seen_by).cloned().collect();
        let found = turns(&after(&events), Some(time(at)));
        let known = after(&until);
        prop_assert_eq!(&found, &turns(&known, Some(time(at))));
        check(&found, &known, time(at));
    }

    /// Lost deliveries cost knowledge, not the laws.
    #[test]
    fn the_laws_hold_where_deliveries_were_lost(
        draft in any::<bool>(),
        deeds in reviewing::deeds(0, 10_000),
        lost in prop::collection::vec(any::<bool>(), 32),
    ) {
        let events = Story::of(draft, &dated(&deeds)).events;
        let last = events.len() - 1;
        let seen = events.iter().enumerate().filter(|(place, _)| *place == last || !lost[*place]);
        let known = after(seen.map(|(_, event)| event));
        check(&turns(&known, None), &known, time(NOW));
    }
}
