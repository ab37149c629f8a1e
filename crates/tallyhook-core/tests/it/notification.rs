//! In any order of the deliveries, each change is notified at most once, and the last one is the present status.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use tallyhook_core::domain::notification::{
    PullRequestStatus, StatusChange, change, is_worth_notification, status,
};
use tallyhook_core::domain::pull_request::{ApplyOutcome, PullRequest, Source};
use tallyhook_core::event::{FactKind, FetchedPullRequest, PullRequestEvent};
use tallyhook_core::github::types::Timestamp;

use testkit::histories::{self, Step};

/// A webhook, or what was fetched after so many of them.
#[derive(Clone, Debug)]
enum HistoryInput {
    Event(PullRequestEvent),
    Fetched(FetchedPullRequest),
}

/// Applies them one by one: what they end in, and the changes with what brought them.
fn live_through<'a>(
    inputs: impl IntoIterator<Item = &'a HistoryInput>,
) -> (PullRequest, Vec<(StatusChange, ApplyOutcome)>) {
    let mut known = PullRequest::unknown(histories::KEY);
    let mut changes = Vec::new();
    for input in inputs {
        let before = status(&known).map(|(before, _)| before);
        let outcome = match input {
            HistoryInput::Event(event) => known.apply(event, Source::Webhook),
            HistoryInput::Fetched(fetched) => known.apply_fetched(fetched, Source::Poller),
        };
        changes.extend(change(before, &known).map(|change| (change, outcome)));
    }
    (known, changes)
}

/// Separates flips by seconds: three flips within one second are changes that no payload distinguishes.
fn separate_flips(steps: &mut [(i64, Step)]) {
    for (pause, step) in steps {
        if matches!(step, Step::Close | Step::Merge) {
            *pause += 1;
        }
    }
}

/// The statuses with their times, from the facts of the deliveries in order.
fn lived(events: &[PullRequestEvent]) -> Vec<(PullRequestStatus, Timestamp)> {
    let facts = events.iter().flat_map(|event| &event.facts);
    let flips = facts.filter_map(|fact| match fact.kind {
        FactKind::Opened | FactKind::Reopened => Some((PullRequestStatus::Open, fact.at)),
        FactKind::Closed => Some((PullRequestStatus::Closed, fact.at)),
        FactKind::Merged => Some((PullRequestStatus::Merged, fact.at)),
        _ => None,
    });
    flips.collect()
}

fn statuses_of(changes: &[(StatusChange, ApplyOutcome)]) -> Vec<(PullRequestStatus, Timestamp)> {
    changes
        .iter()
        .map(|(change, _)| (change.new, change.at))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_order_every_change_is_notified_once(
        draft in any::<bool>(),
        mut steps in histories::steps(),
        repeated in prop::collection::vec(0_usize..4, 1..14),
    ) {
        separate_flips(&mut steps);
        let events = histories::events(draft, None, &steps);
        let mut repetitions = repeated.into_iter().cycle();
        let inputs: Vec<_> = events
            .iter()
            .flat_map(|event| std::iter::repeat_n(HistoryInput::Event(event.clone()), 1 + repetitions.next().unwrap_or(0)))
            .collect();
        let (_, changes) = live_through(&inputs);
        prop_assert_eq!(statuses_of(&changes), lived(&events));
        let olds = changes.iter().map(|(change, _)| change.old);
        let expected = std::iter::once(None).chain(lived(&events).into_iter().map(|(new, _)| Some(new)));
        prop_assert!(olds.eq(expected.take(changes.len())));
    }

    #[test]
    fn in_any_order_no_change_is_notified_twice_and_the_last_is_the_status(
        draft in any::<bool>(),
        apart in any::<bool>(),
        mut steps in histories::steps(),
        fetches in prop::collection::vec((any::<Index>(), any::<bool>()), 0..3),
        lost in prop::collection::vec(prop::bool::weighted(0.2), 32),
        keys in prop::collection::vec(any::<u32>(), 32),
        repeated in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        separate_flips(&mut steps);
        if apart {
            steps.iter_mut().filter(|(_, step)| matches!(step, Step::Reopen)).for_each(|(pause, _)| *pause += 1);
        }
        let events = histories::events(draft, None, &steps);
        let fetched = fetches.iter().map(|(after, truncated)| {
            HistoryInput::Fetched(histories::fetched(&events[..=after.index(events.len())], *truncated, true))
        });
        let heard = events.iter().zip(&lost).filter(|(_, lost)| !**lost).map(|(event, _)| HistoryInput::Event(event.clone()));
        let in_order: Vec<_> = heard.chain(fetched).collect();
        prop_assume!(!in_order.is_empty());
        let mut shuffled: Vec<_> = in_order.iter().chain(repeated.iter().map(|index| index.get(&in_order))).collect();
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        let (known, changes) = live_through(shuffled);

        for (change, outcome) in &changes {
            prop_assert_eq!(*outcome, ApplyOutcome::Changed, "{:?}", change);
        }
        // Each starts from the status before, so that no change is empty and none is left out.
        let mut before = None;
        for (change, _) in &changes {
            prop_assert_eq!(change.old, before);
            prop_assert_ne!(change.old, Some(change.new));
            before = Some(change.new);
        }
        prop_assert_eq!(before, status(&known).map(|(status, _)| status));
        let outbox: BTreeSet<_> = statuses_of(&changes).into_iter().collect();
        // Seen closed and open within one second before the reopening is known: the change may be taken back.
        prop_assert!(outbox.len() == changes.len() || !apart, "{:?}", changes);
    }

    /// Every order ends in the same status and time.
    #[test]
    fn any_order_ends_in_the_same_status_and_time(
        draft in any::<bool>(),
        mut steps in histories::steps(),
        keys in prop::collection::vec(any::<u32>(), 32),
    ) {
        separate_flips(&mut steps);
        let events = histories::events(draft, None, &steps);
        let mut shuffled: Vec<_> = events.iter().cloned().map(HistoryInput::Event).collect();
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        prop_assert_eq!(status(&live_through(&shuffled).0), lived(&events).last().copied());
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::clamped(1_772_445_600 + seconds)
}

fn notified(
    changes: &[(StatusChange, ApplyOutcome)],
) -> Vec<(Option<PullRequestStatus>, PullRequestStatus, Timestamp)> {
    changes
        .iter()
        .map(|(change, _)| (change.old, change.new, change.at))
        .collect()
}

fn history(steps: &[(i64, Step)]) -> Vec<HistoryInput> {
    histories::events(false, None, steps)
        .into_iter()
        .map(HistoryInput::Event)
        .collect()
}

#[test]
fn status_known_to_have_ended_is_not_notified() {
    let events = history(&[
        (10, Step::Close),
        (10, Step::Reopen),
        (10, Step::Merge),
        (10, Step::Label(1)),
    ]);
    let (_, changes) = live_through(events.iter().rev());
    assert_eq!(
        notified(&changes),
        [(None, PullRequestStatus::Merged, at(30))]
    );
}

#[test]
fn a_push_that_is_late_leaves_it_merged() {
    let events = history(&[(10, Step::Push), (10, Step::Merge)]);
    let (_, changes) = live_through([&events[0], &events[2], &events[1], &events[2]]);
    assert_eq!(
        notified(&changes),
        [
            (None, PullRequestStatus::Open, at(0)),
            (
                Some(PullRequestStatus::Open),
                PullRequestStatus::Merged,
                at(20)
            )
        ]
    );
}

#[test]
fn missed_reopening_is_dated_by_its_first_snapshot_and_notified_once() {
    let events = history(&[
        (10, Step::Close),
        (10, Step::Reopen),
        (10, Step::Push),
        (10, Step::Push),
    ]);
    let (known, changes) =
        live_through([&events[0], &events[1], &events[3], &events[4], &events[2]]);
    let expected = [
        (None, PullRequestStatus::Open, at(0)),
        (
            Some(PullRequestStatus::Open),
            PullRequestStatus::Closed,
            at(10),
        ),
        (
            Some(PullRequestStatus::Closed),
            PullRequestStatus::Open,
            at(30),
        ),
    ];
    assert_eq!(notified(&changes), expected);
    assert_eq!(
        status(&known),
        Some((PullRequestStatus::Open, at(20))),
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
        assert_eq!(
            status(&known),
            Some((PullRequestStatus::Open, since)),
            "{heard:?}"
        );
    }
}

#[test]
fn closed_and_reopened_within_one_second_is_open() {
    let events = history(&[(10, Step::Close), (0, Step::Reopen)]);
    let (known, changes) = live_through(&events);
    assert_eq!(
        notified(&changes).last(),
        Some(&(
            Some(PullRequestStatus::Closed),
            PullRequestStatus::Open,
            at(10)
        ))
    );
    assert_eq!(status(&known), Some((PullRequestStatus::Open, at(10))));
    // After a reopening that arrives first the closing is no change.
    let (_, changes) = live_through([&events[0], &events[2], &events[1]]);
    assert_eq!(notified(&changes), [(None, PullRequestStatus::Open, at(0))]);
}

#[test]
fn changes_before_tracking_are_not_notified() {
    let change = StatusChange {
        old: None,
        new: PullRequestStatus::Merged,
        at: at(10),
    };
    // GitHub's clock may be five minutes behind.
    assert!(!is_worth_notification(change.at, at(311)));
    assert!(is_worth_notification(change.at, at(310)));
    assert!(is_worth_notification(change.at, at(9)));
}
