//! Late, repeated and reordered events are normal: any order ends in the same facts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::domain::apply::{ApplyRules, DecodedDelivery, apply_batch, keys_of};
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::recording::{PullRequestRecord, StoredPullRequest};
use tallyhook_core::domain::task::Patterns;
use tallyhook_core::domain::timings::{PullRequestState, Stage, Timings, timings};
use tallyhook_core::event::{
    Event, FactKind, FetchedPullRequest, PullRequestEvent, RequestedReviewers, SubjectKind,
};
use tallyhook_core::github::types::Timestamp;

use testkit::histories;

fn after<'a>(events: impl IntoIterator<Item = &'a PullRequestEvent>) -> PullRequest {
    let mut pull_request = PullRequest::unknown(histories::KEY);
    for event in events {
        pull_request.apply(event, Source::Webhook);
    }
    pull_request
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Ten thousand histories, each shuffled and with a few of its events repeated.
    #[test]
    fn any_order_with_repetition_ends_in_the_same_facts(
        draft in any::<bool>(),
        commit_age in prop::option::of(0_i64..1_000_000),
        steps in histories::steps(),
        keys in prop::collection::vec(any::<u32>(), 32),
        repeated in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let in_order = histories::events(draft, commit_age, &steps);
        let mut shuffled: Vec<_> = in_order.iter().chain(repeated.iter().map(|index| index.get(&in_order))).collect();
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        let expected = after(&in_order);
        let found = after(shuffled);
        prop_assert_eq!(timings(&found, &Bots::default()), timings(&expected, &Bots::default()));
        prop_assert_eq!(found, expected);
    }

    /// The known stages add up to the whole, to the second, even if deliveries were lost.
    #[test]
    fn stages_add_up(
        draft in any::<bool>(),
        commit_age in prop::option::of(0_i64..1_000_000),
        mut steps in histories::steps(),
        lost in prop::collection::vec(any::<bool>(), 32),
    ) {
        // A history that is closed in the end is opened again, so that most of them are merged.
        steps.extend([(5, histories::Step::Reopen), (5, histories::Step::Merge)]);
        let events = histories::events(draft, commit_age, &steps);
        let last = events.len() - 1;
        let seen = events.iter().enumerate().filter(|(place, _)| *place == last || !lost[*place]).map(|(_, event)| event);
        let pull_request = after(seen);
        let timings = timings(&pull_request, &Bots::default()).unwrap();
        let stages = timings.stages;
        if timings.state == PullRequestState::Merged {
            let merged_at = pull_request.merged_at.unwrap();
            let created_at = pull_request.created_at.unwrap();
            let start = match stages.coding {
                Some(_) => timings.first_commit_at.unwrap_or(created_at),
                None => timings.ready_at.unwrap(),
            };
            prop_assert_eq!(stages.total(), merged_at.epoch() - start.epoch());
        } else {
            prop_assert_eq!(stages, tallyhook_core::domain::timings::Stages::default());
            prop_assert!(timings.final_approval_at.is_none() && timings.cycle_time.is_none());
        }
        for stage in [stages.coding, stages.pickup, stages.review, stages.merge_wait, stages.redraft, stages.closed] {
            prop_assert!(stage.is_none_or(|seconds| seconds >= 0), "{:?}", stages);
        }
        prop_assert!(stages.redraft != Some(0) && stages.closed != Some(0));
        let steps: i64 = timings.steps.iter().map(|step| step.seconds).sum();
        prop_assert_eq!(steps, stages.total());
    }
}

/// Applies events as deliveries in batches of at most `size`, each to the result of the one before.
fn after_batches(events: &[&PullRequestEvent], size: usize) -> (PullRequest, Option<Timings>) {
    let rules = ApplyRules {
        numbers: NumberRules::default(),
        patterns: Patterns::parse(Patterns::DEFAULT).unwrap(),
        tracks_pushes: false,
        tracks_waiting: false,
    };
    let mut stored = StoredPullRequest::unknown(histories::KEY);
    let mut timings = None;
    for batch in events.chunks(size) {
        let events: Vec<_> = batch
            .iter()
            .map(|event| Event::PullRequest((*event).clone()))
            .collect();
        let deliveries: Vec<_> = (1..)
            .zip(&events)
            .map(|(id, event)| DecodedDelivery {
                id: DeliveryId(id),
                source: Source::Webhook,
                received_at: chrono::DateTime::UNIX_EPOCH,
                event,
            })
            .collect();
        assert_eq!(keys_of(&deliveries), BTreeSet::from([histories::KEY]));
        let applied = apply_batch(&deliveries, vec![stored.clone()], &rules);
        if stored.version == 0 {
            let again = apply_batch(&deliveries, vec![stored.clone()], &rules);
            assert_eq!(format!("{applied:?}"), format!("{again:?}"), "it is pure");
        }
        assert_eq!(applied.write.finished.len(), batch.len());
        if let Some(record) = applied.write.pull_requests.into_iter().next() {
            stored = record.known;
            timings = record.numbers.map(|numbers| numbers.timings);
        }
    }
    (stored.pull_request, timings)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same facts and numbers however the deliveries are ordered, repeated and cut into batches.
    #[test]
    fn any_cut_into_batches_ends_in_the_same_facts(
        draft in any::<bool>(),
        steps in histories::steps(),
        keys in prop::collection::vec(any::<u32>(), 32),
        repeated in prop::collection::vec(any::<Index>(), 0..6),
        size in 1_usize..12,
    ) {
        let in_order = histories::events(draft, Some(500), &steps);
        let mut shuffled: Vec<_> = in_order.iter().chain(repeated.iter().map(|index| index.get(&in_order))).collect();
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        let (found, numbers) = after_batches(&shuffled, size);
        let expected = after(&in_order);
        prop_assert_eq!(numbers, timings(&expected, &Bots::default()));
        prop_assert_eq!(found, expected);
    }
}

/// Returns the facts of an event as an earlier version stored them: without what identifies a
/// requested reviewer or a thread by now.
fn as_stored_before(event: &PullRequestEvent) -> PullRequestEvent {
    let mut event = event.clone();
    for fact in &mut event.facts {
        fact.subject_kind = None;
        if fact.kind == FactKind::ThreadResolved {
            fact.detail = None;
        }
    }
    if let Some(snapshot) = &mut event.pull_request {
        (snapshot.requested, snapshot.details) = (None, None);
    }
    event
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Facts that an earlier version stored count until the same ones are known better.
    #[test]
    fn facts_stored_before_are_replaced_by_better_known_ones(
        draft in any::<bool>(),
        steps in histories::steps(),
        keys in prop::collection::vec(any::<u32>(), 64),
        stored in prop::collection::vec(any::<bool>(), 32),
    ) {
        let events = histories::events(draft, Some(500), &steps);
        let old: Vec<_> = events.iter().map(as_stored_before).collect();
        // All of them were stored, and some of them arrive again.
        let again = events.iter().zip(&stored).filter(|(_, again)| **again).map(|(event, _)| event);
        let mut shuffled: Vec<_> = old.iter().chain(again).collect();
        let in_order = after(shuffled.iter().copied());
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        prop_assert_eq!(after(shuffled), in_order);
        let replaced = after(old.iter().chain(&events));
        prop_assert!(!replaced.timeline.has_partial_requests());
        prop_assert_eq!(replaced, after(&events));
    }
}

/// Stored segments have facts and observations. If one fact of them is replaced they are deleted, so
/// that all of both have to be written again.
#[test]
fn replaced_fact_of_a_segment_leaves_nothing_in_segments() {
    let mut steps = vec![(10, histories::Step::Request(1))];
    steps.extend((0..StoredPullRequest::MOST_RECENT).map(|_| (10, histories::Step::Label(1))));
    let events = histories::events(false, None, &steps);
    let old: Vec<_> = events.iter().map(as_stored_before).collect();
    let stored = PullRequestRecord {
        known: StoredPullRequest {
            pull_request: after(&old),
            ..StoredPullRequest::unknown(histories::KEY)
        },
        numbers: None,
        reviews: BTreeSet::new(),
    };
    assert!(stored.known.fills_segment());
    let mut known = stored.written();
    let PullRequest {
        timeline, observed, ..
    } = &known.pull_request;
    assert_eq!((timeline.recent().count(), observed.recent_len()), (0, 0));
    known.pull_request.apply(&events[1], Source::Webhook);
    assert!(known.replaces_segments());
    let PullRequest {
        timeline, observed, ..
    } = &known.pull_request;
    assert_eq!(timeline.recent().count(), timeline.len());
    assert_eq!(observed.recent_len(), observed.len());
}

/// A webhook, or the answer to a fetch after some of them.
#[derive(Clone, Debug)]
enum HistoryInput {
    Event(PullRequestEvent),
    Fetched(FetchedPullRequest),
}

fn after_all<'a>(inputs: impl IntoIterator<Item = &'a HistoryInput>) -> PullRequest {
    let mut pull_request = PullRequest::unknown(histories::KEY);
    for input in inputs {
        match input {
            HistoryInput::Event(event) => pull_request.apply(event, Source::Webhook),
            HistoryInput::Fetched(fetched) => pull_request.apply_fetched(fetched, Source::Poller),
        };
    }
    pull_request
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same with complete or truncated fetches in between, in any order too.
    #[test]
    fn any_order_with_fetches_ends_in_the_same_facts(
        draft in any::<bool>(),
        steps in histories::steps(),
        fetches in prop::collection::vec((any::<Index>(), any::<bool>(), any::<bool>()), 1..4),
        keys in prop::collection::vec(any::<u32>(), 32),
        repeated in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let events = histories::events(draft, Some(500), &steps);
        let fetched = fetches.iter().map(|(after, truncated, settled)| {
            HistoryInput::Fetched(histories::fetched(&events[..=after.index(events.len())], *truncated, *settled))
        });
        let in_order: Vec<_> = events.iter().cloned().map(HistoryInput::Event).chain(fetched).collect();
        let mut shuffled: Vec<_> = in_order.iter().chain(repeated.iter().map(|index| index.get(&in_order))).collect();
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        prop_assert_eq!(after_all(shuffled), after_all(&in_order));
    }

    /// A last fetch makes up for any lost webhooks in every number.
    #[test]
    fn a_fetch_makes_up_for_lost_webhooks(
        draft in any::<bool>(),
        mut steps in histories::steps(),
        lost in prop::collection::vec(any::<bool>(), 32),
    ) {
        // These stand without a review of their own, which no comment on a line does on GitHub.
        steps.retain(|(_, step)| !matches!(step, histories::Step::InlineComment(_)));
        // A timeline does not order the events of one second; snapshots in between may.
        steps.push((0, histories::Step::Label(1)));
        steps.iter_mut().for_each(|(pause, _)| *pause += 2);
        let events = histories::events(draft, Some(0), &steps);
        let fetched = HistoryInput::Fetched(histories::fetched(&events, false, true));
        let seen = events.iter().zip(&lost).filter(|(_, lost)| !**lost).map(|(event, _)| HistoryInput::Event(event.clone()));
        let lossy: Vec<_> = seen.chain([fetched.clone()]).collect();
        let (found, expected) = (after_all(&lossy), after_all([&fetched]));
        let numbers = |of: &PullRequest| timings(of, &Bots::default());
        prop_assert_eq!(numbers(&found), numbers(&expected));
        prop_assert_eq!(numbers(&found), numbers(&after(&events)));
        prop_assert_eq!(found.conversation, expected.conversation);
    }
}

#[test]
fn newest_lists_count_and_the_first_that_named_a_reviewer_is_remembered() {
    use histories::Step::{AutoMerge, Push, Request, Unrequest};
    let steps = [
        (10, Request(0)),
        (10, Request(1)),
        (0, AutoMerge(true)),
        (10, Push),
        (10, Unrequest(1)),
        (10, Request(1)),
        (10, Push),
    ];
    let events = histories::events(false, None, &steps);
    let opened_at = events[0].pull_request.as_ref().unwrap().updated_at.epoch();
    // The events of the first two requests are lost: later payloads have the lists.
    let mut found = after([&events[7], &events[4], &events[5], &events[6], &events[0]]);
    let requested = found.requested.clone().unwrap();
    let key = |kind, id| (kind, id);
    let (team, account) = (key(SubjectKind::Team, 101), key(SubjectKind::User, 101));
    assert_eq!(requested.at.epoch() - opened_at, 60);
    assert_eq!(
        requested.value.keys().collect::<Vec<_>>(),
        [account, team],
        "one id in two id spaces"
    );
    let first = |of| {
        found
            .first_requested
            .get(&of)
            .map(|at| at.epoch() - opened_at)
    };
    assert_eq!((first(team), first(account)), (Some(30), Some(30)));
    let details = found.details.clone().unwrap();
    assert_eq!(details.value.auto_merge, Some(true));
    assert!(details.value.author_association.unwrap().may_write());
    // A comment's payload has no lists, and an older one changes nothing but the first sight.
    let mut comment = events[7].clone();
    let snapshot = comment.pull_request.as_mut().unwrap();
    snapshot.updated_at = Timestamp::clamped(snapshot.updated_at.epoch() + 100);
    (snapshot.requested, snapshot.details) = (None, None);
    found.apply(&comment, Source::Webhook);
    found.apply(&events[1], Source::Webhook);
    assert_eq!(found.requested.as_ref(), Some(&requested));
    assert_eq!(found.details.as_ref(), Some(&details));
    assert_eq!(found.first_requested[&team].epoch() - opened_at, 10);
    assert_ne!(requested.value, RequestedReviewers::default());
}

/// Returns the stage of one second, from the state after the events up to it.
fn stage_of(second: i64, events: &[PullRequestEvent], timings: &Timings) -> Stage {
    let so_far = events
        .iter()
        .take_while(|event| event.pull_request.as_ref().unwrap().updated_at.epoch() <= second);
    let (mut open, mut draft) = (true, true);
    for event in so_far {
        let snapshot = event.pull_request.as_ref().unwrap();
        open = snapshot.conversation.open;
        draft = snapshot
            .branches
            .as_ref()
            .map_or(draft, |branches| branches.draft.unwrap());
    }
    // A snapshot of a closing may be dated a second late.
    let closed_by = |event: &PullRequestEvent| {
        let snapshot = event.pull_request.as_ref().unwrap();
        let closed_at = snapshot.conversation.closed_at.map(Timestamp::epoch);
        closed_at.is_some_and(|at| at <= second && second < snapshot.updated_at.epoch())
            && event.action == "closed"
    };
    let before = |at: Option<Timestamp>| at.is_none_or(|at| second < at.epoch());
    if !open || events.iter().any(closed_by) {
        Stage::Closed
    } else if before(timings.ready_at) {
        Stage::Coding
    } else if draft {
        Stage::Redraft
    } else if timings.first_review_at.is_none() {
        Stage::MergeWait
    } else if before(timings.first_review_at) {
        Stage::Pickup
    } else if before(timings.final_approval_at) {
        Stage::Review
    } else {
        Stage::MergeWait
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The stages equal a count with a clock.
    #[test]
    fn stages_equal_a_count_second_by_second(draft in any::<bool>(), mut steps in histories::steps()) {
        for (pause, _) in &mut steps {
            // Events of one second have no order to count by.
            *pause = 1 + *pause % 40;
        }
        steps.extend([(3, histories::Step::Reopen), (2, histories::Step::Merge)]);
        let events = histories::events(draft, None, &steps);
        let pull_request = after(&events);
        let timings = timings(&pull_request, &Bots::default()).unwrap();
        let (created_at, merged_at) = (pull_request.created_at.unwrap(), pull_request.merged_at.unwrap());
        let mut counted: BTreeMap<&'static str, i64> = BTreeMap::new();
        for second in created_at.epoch()..merged_at.epoch() {
            let name = match stage_of(second, &events, &timings) {
                Stage::Coding => "coding",
                Stage::Pickup => "pickup",
                Stage::Review => "review",
                Stage::MergeWait => "merge_wait",
                Stage::Redraft => "redraft",
                Stage::Closed => "closed",
            };
            *counted.entry(name).or_default() += 1;
        }
        let stages = timings.stages;
        for (name, seconds) in [
            ("coding", stages.coding),
            ("pickup", stages.pickup),
            ("review", stages.review),
            ("merge_wait", stages.merge_wait),
            ("redraft", stages.redraft),
            ("closed", stages.closed),
        ] {
            let expected = counted.get(name).copied().unwrap_or(0);
            prop_assert_eq!(seconds.unwrap_or(0), expected, "{} of {:?}", name, stages);
        }
    }
}
