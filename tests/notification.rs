//! Whatever the order of the deliveries, each change is told at most once, and the last one told is how it is.

#[path = "support/histories.rs"]
mod histories;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use tallyhook_core::domain::notification::{Status, StatusChange, change, notifies, status};
use tallyhook_core::domain::pull_request::{Outcome, PullRequest, Source};
use tallyhook_core::event::{FactKind, FetchedPullRequest, PullRequestEvent};
use tallyhook_core::github::types::Timestamp;

use histories::Step;

/// A webhook, or what was fetched after so many of them.
#[derive(Clone, Debug)]
enum Told {
    Event(PullRequestEvent),
    Fetched(FetchedPullRequest),
}

/// Applies them one by one: what they end in, and the changes with what brought them.
fn live_through<'a>(
    told: impl IntoIterator<Item = &'a Told>,
) -> (PullRequest, Vec<(StatusChange, Outcome)>) {
    let mut known = PullRequest::unknown(histories::KEY);
    let mut changes = Vec::new();
    for told in told {
        let before = status(&known).map(|(before, _)| before);
        let outcome = match told {
            Told::Event(event) => known.apply(event, Source::Webhook),
            Told::Fetched(fetched) => known.apply_fetched(fetched, Source::Poller),
        };
        changes.extend(change(before, &known).map(|change| (change, outcome)));
    }
    (known, changes)
}

/// One who flips a pull request three times within a second makes changes that nothing tells apart: neither do we.
fn tellable(steps: &mut [(i64, Step)]) {
    for (pause, step) in steps {
        if matches!(step, Step::Close | Step::Merge) {
            *pause += 1;
        }
    }
}

/// What became of it and when, as the facts of the deliveries tell it in order.
fn lived(events: &[PullRequestEvent]) -> Vec<(Status, Timestamp)> {
    let facts = events.iter().flat_map(|event| &event.facts);
    let flips = facts.filter_map(|fact| match fact.kind {
        FactKind::Opened | FactKind::Reopened => Some((Status::Open, fact.at)),
        FactKind::Closed => Some((Status::Closed, fact.at)),
        FactKind::Merged => Some((Status::Merged, fact.at)),
        _ => None,
    });
    flips.collect()
}

fn told_of(changes: &[(StatusChange, Outcome)]) -> Vec<(Status, Timestamp)> {
    changes
        .iter()
        .map(|(change, _)| (change.new, change.at))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_order_every_change_is_told_once(
        draft in any::<bool>(),
        mut steps in histories::steps(),
        repeated in prop::collection::vec(0_usize..4, 1..14),
    ) {
        tellable(&mut steps);
        let events = histories::events(draft, None, &steps);
        let mut repetitions = repeated.into_iter().cycle();
        let told: Vec<_> = events
            .iter()
            .flat_map(|event| std::iter::repeat_n(Told::Event(event.clone()), 1 + repetitions.next().unwrap_or(0)))
            .collect();
        let (_, changes) = live_through(&told);
        prop_assert_eq!(told_of(&changes), lived(&events));
        let olds = changes.iter().map(|(change, _)| change.old);
        let expected = std::iter::once(None).chain(lived(&events).into_iter().map(|(new, _)| Some(new)));
        prop_assert!(olds.eq(expected.take(changes.len())));
    }

    #[test]
    fn in_any_order_no_change_is_told_twice_and_the_last_is_how_it_is(
        draft in any::<bool>(),
        apart in any::<bool>(),
        mut steps in histories::steps(),
        fetches in prop::collection::vec((any::<Index>(), any::<bool>()), 0..3),
        lost in prop::collection::vec(prop::bool::weighted(0.2), 32),
        keys in prop::collection::vec(any::<u32>(), 32),
        repeated in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        tellable(&mut steps);
        if apart {
            steps.iter_mut().filter(|(_, step)| matches!(step, Step::Reopen)).for_each(|(pause, _)| *pause += 1);
        }
        let events = histories::events(draft, None, &steps);
        let fetched = fetches.iter().map(|(after, truncated)| {
            Told::Fetched(histories::fetched(&events[..=after.index(events.len())], *truncated, true))
        });
        let heard = events.iter().zip(&lost).filter(|(_, lost)| !**lost).map(|(event, _)| Told::Event(event.clone()));
        let in_order: Vec<_> = heard.chain(fetched).collect();
        prop_assume!(!in_order.is_empty());
        let mut shuffled: Vec<_> = in_order.iter().chain(repeated.iter().map(|index| index.get(&in_order))).collect();
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        let (known, changes) = live_through(shuffled);

        for (change, outcome) in &changes {
            prop_assert_eq!(*outcome, Outcome::Changed, "{:?}", change);
        }
        // Each starts from what was told before, so that none is of nothing and none is left out.
        let mut before = None;
        for (change, _) in &changes {
            prop_assert_eq!(change.old, before);
            prop_assert_ne!(change.old, Some(change.new));
            before = Some(change.new);
        }
        prop_assert_eq!(before, status(&known).map(|(status, _)| status));
        let outbox: BTreeSet<_> = told_of(&changes).into_iter().collect();
        // Seen closed and seen open within one second, and nothing heard yet of the reopening: it may be taken back.
        prop_assert!(outbox.len() == changes.len() || !apart, "{:?}", changes);
    }

    /// Whoever hears everything agrees in the end on what it is and since when.
    #[test]
    fn in_any_order_it_is_the_same_since_the_same_moment(
        draft in any::<bool>(),
        mut steps in histories::steps(),
        keys in prop::collection::vec(any::<u32>(), 32),
    ) {
        tellable(&mut steps);
        let events = histories::events(draft, None, &steps);
        let mut shuffled: Vec<_> = events.iter().cloned().map(Told::Event).collect();
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        prop_assert_eq!(status(&live_through(&shuffled).0), lived(&events).last().copied());
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::clamped(1_772_445_600 + seconds)
}

fn told(changes: &[(StatusChange, Outcome)]) -> Vec<(Option<Status>, Status, Timestamp)> {
    changes
        .iter()
        .map(|(change, _)| (change.old, change.new, change.at))
        .collect()
}

fn history(steps: &[(i64, Step)]) -> Vec<Told> {
    histories::events(false, None, steps)
        .into_iter()
        .map(Told::Event)
        .collect()
}

#[test]
fn what_is_known_to_be_over_is_not_told() {
    let events = history(&[
        (10, Step::Close),
        (10, Step::Reopen),
        (10, Step::Merge),
        (10, Step::Label(1)),
    ]);
    let (_, changes) = live_through(events.iter().rev());
    assert_eq!(told(&changes), [(None, Status::Merged, at(30))]);
}

#[test]
fn a_push_that_is_late_leaves_it_merged() {
    let events = history(&[(10, Step::Push), (10, Step::Merge)]);
    let (_, changes) = live_through([&events[0], &events[2], &events[1], &events[2]]);
    assert_eq!(
        told(&changes),
        [
            (None, Status::Open, at(0)),
            (Some(Status::Open), Status::Merged, at(20))
        ]
    );
}

#[test]
fn a_missed_reopening_is_dated_by_the_first_sight_of_it_and_told_once() {
    let events = history(&[
        (10, Step::Close),
        (10, Step::Reopen),
        (10, Step::Push),
        (10, Step::Push),
    ]);
    let (known, changes) =
        live_through([&events[0], &events[1], &events[3], &events[4], &events[2]]);
    let expected = [
        (None, Status::Open, at(0)),
        (Some(Status::Open), Status::Closed, at(10)),
        (Some(Status::Closed), Status::Open, at(30)),
    ];
    assert_eq!(told(&changes), expected);
    assert_eq!(
        status(&known),
        Some((Status::Open, at(20))),
        "once it is known, it is dated rightly"
    );
}

#[test]
fn a_reopening_counts_even_if_its_closing_was_missed() {
    let events = history(&[
        (10, Step::Close),
        (10, Step::Reopen),
        (10, Step::Close),
        (10, Step::Reopen),
    ]);
    for (heard, since) in [
        (&[0, 2][..], at(20)),
        (&[0, 1, 2, 4], at(40)),
        (&[4], at(40)),
    ] {
        let (known, _) = live_through(heard.iter().map(|place| &events[*place]));
        assert_eq!(status(&known), Some((Status::Open, since)), "{heard:?}");
    }
}

#[test]
fn closed_and_reopened_within_one_second_is_open() {
    let events = history(&[(10, Step::Close), (0, Step::Reopen)]);
    let (known, changes) = live_through(&events);
    assert_eq!(
        told(&changes).last(),
        Some(&(Some(Status::Closed), Status::Open, at(10)))
    );
    assert_eq!(status(&known), Some((Status::Open, at(10))));
    // Whoever hears of the reopening first has nothing to tell of the closing.
    let (_, changes) = live_through([&events[0], &events[2], &events[1]]);
    assert_eq!(told(&changes), [(None, Status::Open, at(0))]);
}

#[test]
fn the_time_before_tracking_tells_nobody() {
    let change = StatusChange {
        old: None,
        new: Status::Merged,
        at: at(10),
    };
    assert!(!notifies(&change, at(11)));
    assert!(notifies(&change, at(10)) && notifies(&change, at(9)));
}
