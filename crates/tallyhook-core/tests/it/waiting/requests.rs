//! Review requests with their answers, and rounds, worked out by hand.

use tallyhook_core::domain::waiting::{PairEnd, ReviewPair, ReviewRound, Turns, WaitingFor};
use tallyhook_core::event::ReviewState::{Approved, ChangesRequested, Commented};
use tallyhook_core::event::{Fact, FactKind};
use tallyhook_core::github::types::Timestamp;
use testkit::reviewing::Deed::{self, *};
use testkit::reviewing::{AUTHOR, BACKEND, BOT, Story, account};

use super::{after, second, time, turns};

fn turns_of(draft: bool, deeds: &[(i64, Deed)]) -> Turns {
    turns(&after(&Story::of(draft, deeds).events), None)
}

/// Name, k, asked, end, time of the end, first review and first word, in seconds.
type Request<'p> = (
    &'p str,
    u32,
    i64,
    PairEnd,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

fn request(pair: &ReviewPair) -> Request<'_> {
    let seconds = |at: Option<Timestamp>| at.map(second);
    (
        pair.party.name(),
        pair.k,
        second(pair.asked_at),
        pair.end,
        seconds(pair.ended_at),
        seconds(pair.response_review_at),
        seconds(pair.response_any_at),
    )
}

#[test]
fn requests_are_answered_withdrawn_ended_or_open() {
    use PairEnd::{Answered, Ended, Open, Withdrawn};
    type Case = (&'static str, bool, Vec<(i64, Deed)>, Vec<Request<'static>>);
    let cases: [Case; 14] = [
        (
            "answered by a review, after a comment",
            false,
            vec![(10, Ask(1)), (20, Comment(1)), (30, Review(1, Approved))],
            vec![("r1", 1, 10, Answered, Some(30), Some(30), Some(20))],
        ),
        (
            "asked again after the answer is another request",
            false,
            vec![
                (10, Ask(1)),
                (30, Review(1, Commented)),
                (50, Ask(1)),
                (80, Review(1, Approved)),
            ],
            vec![
                ("r1", 1, 10, Answered, Some(30), Some(30), Some(30)),
                ("r1", 2, 50, Answered, Some(80), Some(80), Some(80)),
            ],
        ),
        (
            "a draft's request begins when it is ready",
            true,
            vec![
                (10, Ask(1)),
                (15, Comment(1)),
                (40, Ready),
                (60, Review(1, Approved)),
            ],
            vec![("r1", 1, 40, Answered, Some(60), Some(60), Some(60))],
        ),
        (
            "a review of the draft is no answer",
            true,
            vec![
                (5, Ask(1)),
                (7, Review(1, Commented)),
                (40, Ready),
                (60, Review(1, Approved)),
            ],
            vec![("r1", 1, 40, Answered, Some(60), Some(60), Some(60))],
        ),
        (
            "a review of the draft in the second of the request",
            true,
            vec![(5, Ask(1)), (5, Review(1, Approved)), (40, Ready)],
            vec![("r1", 1, 40, Open, None, None, None)],
        ),
        (
            "a request before another draft keeps its time",
            false,
            vec![
                (10, Ask(1)),
                (20, ToDraft),
                (25, Ask(2)),
                (40, Ready),
                (60, Review(1, Approved)),
            ],
            vec![
                ("r1", 1, 10, Answered, Some(60), Some(60), Some(60)),
                ("r2", 1, 40, Open, None, None, None),
            ],
        ),
        (
            "removed",
            false,
            vec![
                (10, Ask(1)),
                (20, Comment(1)),
                (40, Unask(1)),
                (50, Review(1, Approved)),
            ],
            vec![("r1", 1, 10, Withdrawn, Some(40), None, Some(20))],
        ),
        (
            "over before an answer",
            false,
            vec![
                (10, Ask(1)),
                (20, Ask(2)),
                (30, Review(2, Approved)),
                (50, Merge),
            ],
            vec![
                ("r1", 1, 10, Ended, Some(50), None, None),
                ("r2", 1, 20, Answered, Some(30), Some(30), Some(30)),
            ],
        ),
        (
            "answered in the second of the merge",
            false,
            vec![(10, Ask(1)), (50, Review(1, Approved)), (50, Merge)],
            vec![("r1", 1, 10, Answered, Some(50), Some(50), Some(50))],
        ),
        (
            "answered in the second of the request",
            false,
            vec![(10, Ask(1)), (10, Review(1, Approved))],
            vec![("r1", 1, 10, Answered, Some(10), Some(10), Some(10))],
        ),
        (
            "closed and reopened in between",
            false,
            vec![(10, Ask(1)), (20, Close), (60, Reopen)],
            vec![("r1", 1, 10, Open, None, None, None)],
        ),
        (
            "a team's by a member, and again",
            false,
            vec![
                (10, Ask(BACKEND)),
                (20, Ask(1)),
                (25, Review(1, Commented)),
                (30, Review(5, Commented)),
                (40, Ask(BACKEND)),
            ],
            vec![
                ("backend", 1, 10, Answered, Some(30), Some(30), Some(30)),
                ("r1", 1, 20, Answered, Some(25), Some(25), Some(25)),
                ("backend", 2, 40, Open, None, None, None),
            ],
        ),
        (
            "a bot's is none",
            false,
            vec![(10, Ask(BOT)), (20, Review(BOT, Commented))],
            vec![],
        ),
        (
            "without a request there is none",
            false,
            vec![(20, Review(2, Approved))],
            vec![],
        ),
    ];
    for (name, draft, deeds, expected) in cases {
        let turns = turns_of(draft, &deeds);
        let found: Vec<_> = turns.pairs.iter().map(request).collect();
        assert_eq!(found, expected, "{name}");
    }
}

/// Hand-over, first and last review, answer; seconds of the reviewers and of the author.
type Round = (i64, i64, i64, Option<i64>, i64, Option<i64>);

fn round(round: &ReviewRound) -> Round {
    (
        second(round.handed_at),
        second(round.first_review_at),
        second(round.last_review_at),
        round.answered_at.map(second),
        round.reviewer_seconds,
        round.author_seconds,
    )
}

#[test]
fn rounds_are_blocks_of_reviews_with_the_author_s_answers() {
    type Case = (&'static str, bool, Vec<(i64, Deed)>, Vec<Round>);
    let cases: [Case; 7] = [
        (
            "none",
            false,
            vec![(10, Ask(1)), (20, Push(AUTHOR))],
            vec![],
        ),
        (
            "three rounds",
            false,
            vec![
                (10, Ask(1)),
                (30, Review(1, ChangesRequested)),
                (50, Push(AUTHOR)),
                (60, Push(AUTHOR)),
                (80, Review(1, ChangesRequested)),
                (90, Ask(1)),
                (95, Review(1, Approved)),
                (99, Merge),
            ],
            // No one was asked for the first ten seconds.
            vec![
                (0, 30, 30, Some(50), 20, Some(20)),
                (50, 80, 80, Some(90), 30, Some(10)),
                (90, 95, 95, None, 5, Some(4)),
            ],
        ),
        (
            "two reviews in a row are one round, and the author's turn begins with the first",
            false,
            vec![
                (10, Ask(1)),
                (30, Review(1, ChangesRequested)),
                (40, Review(2, Commented)),
                (70, Push(AUTHOR)),
            ],
            vec![(0, 30, 40, Some(70), 20, Some(30))],
        ),
        (
            "a review of a draft is none",
            true,
            vec![
                (10, Review(1, Commented)),
                (20, Ready),
                (25, Review(1, Approved)),
            ],
            vec![(20, 25, 25, None, 5, None)],
        ),
        (
            "a draft in between is the author's",
            false,
            vec![
                (10, Review(1, ChangesRequested)),
                (20, ToDraft),
                (30, Push(AUTHOR)),
                (40, Ready),
                (55, Review(1, Approved)),
            ],
            vec![
                (0, 10, 10, Some(30), 0, Some(20)),
                (30, 55, 55, None, 15, None),
            ],
        ),
        (
            "time closed is no one's",
            false,
            vec![
                (10, Ask(1)),
                (20, Close),
                (60, Reopen),
                (70, Review(1, Approved)),
            ],
            vec![(0, 70, 70, None, 20, None)],
        ),
        (
            "bots neither review nor answer",
            false,
            vec![
                (5, Review(BOT, Commented)),
                (10, Review(1, ChangesRequested)),
                (20, Push(BOT)),
            ],
            vec![(0, 10, 10, None, 0, None)],
        ),
    ];
    for (name, draft, deeds, expected) in cases {
        let turns = turns_of(draft, &deeds);
        let found: Vec<_> = turns.rounds.iter().map(round).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn each_turn_is_a_line() {
    let hour = 3_600;
    let deeds = [
        (2 * hour, Ask(1)),
        (53 * hour, Review(1, ChangesRequested)),
        (54 * hour, Close),
        (55 * hour, Reopen),
        (56 * hour, Push(AUTHOR)),
    ];
    let turns = turns_of(false, &deeds);
    assert_eq!(
        turns.lines(time(57 * hour + 90)),
        [
            "2 h for no one, no one is asked",
            "2 d 3 h for r1, asked on 2 March",
            "1 h for r0, changes requested by r1 on 4 March and not answered by a push",
            "1 h closed until it was opened again",
            "1 h for r0, changes requested by r1 on 4 March and not answered by a push",
            "1 h 1 min for r1, to look again after the push of 4 March, so far",
        ]
    );
}

fn pushed(at: i64, kind: FactKind, commit: i64, by: u8) -> Fact {
    Fact {
        at: time(at),
        kind,
        subject: None,
        subject_kind: None,
        detail: Some(format!("{commit:040x}")),
        actor: Some(account(by)),
    }
}

#[test]
fn a_commit_stands_for_a_push_only_where_none_is_known() {
    use FactKind::{Committed, Pushed};
    let objection = (30, Review(1, ChangesRequested));
    let after_commit = (60, Review(1, ChangesRequested));
    let by_author = |at, kind| pushed(at, kind, at, AUTHOR);
    type Case<'c> = (
        &'c str,
        Vec<(i64, Deed)>,
        Vec<Fact>,
        (WaitingFor, i64, bool),
    );
    let cases: [Case<'_>; 7] = [
        (
            "of an unknown push",
            vec![objection.clone()],
            vec![by_author(50, Committed)],
            (WaitingFor::Reviewers, 50, true),
        ),
        (
            "a bot's",
            vec![objection.clone()],
            vec![pushed(50, Committed, 50, BOT)],
            (WaitingFor::Author, 30, false),
        ),
        (
            "with a push that follows",
            vec![objection.clone()],
            vec![by_author(50, Committed), by_author(60, Pushed)],
            (WaitingFor::Reviewers, 60, false),
        ),
        (
            "answered before a later push",
            vec![objection.clone(), after_commit.clone()],
            vec![by_author(50, Committed), by_author(90, Pushed)],
            (WaitingFor::Reviewers, 90, true),
        ),
        (
            "unanswered before a later push, as of before it",
            vec![objection.clone(), (60, Comment(2))],
            vec![by_author(50, Committed), by_author(250, Pushed)],
            (WaitingFor::Reviewers, 50, true),
        ),
        (
            "by a clock that is ahead",
            vec![(20, Ask(1)), after_commit],
            vec![
                pushed(50, Pushed, 7, AUTHOR),
                pushed(65, Committed, 7, AUTHOR),
            ],
            (WaitingFor::Author, 60, false),
        ),
        (
            "before the creation",
            vec![objection],
            vec![by_author(-5, Committed), by_author(0, Committed)],
            (WaitingFor::Author, 30, false),
        ),
    ];
    for (name, deeds, facts, expected) in cases {
        let mut known = after(&Story::of(false, &deeds).events);
        known.timeline.extend(facts);
        let found = turns(&known, Some(time(200)));
        let waiting = found.waiting.unwrap();
        let found = (waiting.on, second(waiting.since), found.inferred);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn late_push_leaves_the_turns_before_it_as_they_were() {
    let deeds = [
        (10, Review(1, ChangesRequested)),
        (40, Review(1, ChangesRequested)),
        (60, Review(1, Approved)),
    ];
    let mut known = after(&Story::of(false, &deeds).events);
    known
        .timeline
        .extend([20, 50].map(|at| pushed(at, FactKind::Committed, at, AUTHOR)));
    let before = turns(&known, Some(time(79))).steps;
    assert_eq!(before.len(), 6, "{before:?}");
    known.timeline.add(pushed(80, FactKind::Pushed, 80, AUTHOR));
    assert_eq!(turns(&known, Some(time(100))).steps, before);
}

/// A request that was stored without the kind of its reviewer.
#[test]
fn a_request_of_unknown_kind_to_a_known_bot_is_a_bot_s() {
    const COPILOT: i64 = 175_728_472;
    for (id, deeds, expected) in [
        (COPILOT, vec![], WaitingFor::Nobody),
        (
            account(BOT).id.0,
            vec![(5, Review(BOT, Commented))],
            WaitingFor::Nobody,
        ),
        (account(BOT).id.0, vec![], WaitingFor::Reviewers),
    ] {
        let mut known = after(&Story::of(false, &deeds).events);
        known.timeline.add(Fact {
            subject: Some(id),
            detail: Some("Copilot".to_owned()),
            ..pushed(20, FactKind::ReviewRequested, 0, AUTHOR)
        });
        let found = turns(&known, None);
        assert_eq!(found.waiting.unwrap().on, expected, "{id}");
        assert_eq!(found.pairs.is_empty(), expected == WaitingFor::Nobody);
    }
}

#[test]
fn the_lists_of_those_asked_replace_missed_events() {
    let story = Story::of(
        false,
        &[
            (10, Ask(1)),
            (20, Ask(2)),
            (30, Ask(BACKEND)),
            (40, Unask(1)),
            (50, Label),
        ],
    );
    // The requests of r2 and the team, and the removal of r1's, were missed: what is known is that
    // r2 was listed at 30, and r1 no longer at 50.
    let seen = [
        &story.events[0],
        &story.events[1],
        &story.events[3],
        &story.events[5],
    ];
    let mut without_request = seen[2].clone();
    without_request.facts.clear();
    let known = after([seen[0], seen[1], &without_request, seen[3]]);
    let waiting = turns(&known, None).waiting.unwrap();
    let who = waiting.who.iter();
    let who: Vec<_> = who
        .map(|waiter| (waiter.party.name(), second(waiter.since)))
        .collect();
    assert_eq!(who, [("r2", 30), ("backend", 30)]);
    let pairs = turns(&known, None).pairs;
    assert_eq!(
        (pairs[0].end, pairs[0].ended_at),
        (PairEnd::Withdrawn, Some(time(50)))
    );
}
