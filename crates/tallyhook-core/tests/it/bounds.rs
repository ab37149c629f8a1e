//! Bounds of numbers: percentiles are in order and no duration is negative, for any facts.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::select;
use tallyhook_core::domain::metrics::{
    Aggregation, AuthorFilter, DurationSummary, MergedPullRequest,
};
use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::task::Patterns;
use tallyhook_core::domain::timings::{Flag, PullRequestDurations, Stages, timings};
use tallyhook_core::event::{self, Event, PullRequestEvent};
use tallyhook_core::github::types::Timestamp;

use testkit::histories;

fn any_seconds() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        1 => Just(None),
        4 => (-1_000_000_i64..10_000_000).prop_map(Some),
        1 => any::<i64>().prop_map(Some),
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, -1, 0, i64::from(u32::MAX)]).prop_map(Some),
    ]
}

fn any_durations() -> impl Strategy<Value = PullRequestDurations> {
    prop::collection::vec(any_seconds(), 8).prop_map(|seconds| PullRequestDurations {
        cycle_time: seconds[0],
        review_time: seconds[1],
        stages: Stages {
            coding: seconds[2],
            pickup: seconds[3],
            review: seconds[4],
            merge_wait: seconds[5],
            redraft: seconds[6],
            closed: seconds[7],
        },
    })
}

/// A time of a snapshot that is set to a value, which cannot be.
#[derive(Clone, Copy, Debug)]
enum Poison {
    Updated,
    Created,
    Closed,
    Merged,
}

/// An hour after the longest history.
const RECEIVED_AT: i64 = 1_772_445_600 + 14 * 200_000 + 3600;

fn poisons() -> impl Strategy<Value = Vec<Option<(Poison, i64)>>> {
    let field = select(vec![
        Poison::Updated,
        Poison::Created,
        Poison::Closed,
        Poison::Merged,
    ]);
    let at = prop_oneof![
        Just(i64::MIN),
        Just(i64::MAX),
        Just(0),
        Just(1_199_145_599),
        Just(RECEIVED_AT + 86_401),
    ];
    prop::collection::vec(prop::option::weighted(0.4, (field, at)), 32)
}

/// Returns the event as a worker applies it, with one of its times set to `at`.
fn bounded(mut event: PullRequestEvent, poison: Option<(Poison, i64)>) -> PullRequestEvent {
    if let (Some((field, at)), Some(snapshot)) = (poison, &mut event.pull_request) {
        let at = Timestamp::clamped(at);
        match field {
            Poison::Updated => snapshot.updated_at = at,
            Poison::Created => snapshot.created_at = at,
            Poison::Closed => snapshot.conversation.closed_at = Some(at),
            Poison::Merged => snapshot.merged_at = Some(at),
        }
    }
    let mut event = Event::PullRequest(event);
    event::without_impossible_times(&mut event, Timestamp::clamped(RECEIVED_AT));
    event.pull_request().cloned().unwrap()
}

fn joined<'a>(events: impl IntoIterator<Item = &'a PullRequestEvent>) -> PullRequest {
    let mut pull_request = PullRequest::unknown(histories::KEY);
    for event in events {
        pull_request.apply(event, Source::Webhook);
    }
    pull_request
}

fn assert_in_order(summary: &DurationSummary) {
    let percentiles = [summary.p50_hours, summary.p75_hours, summary.p90_hours];
    let known: Vec<f64> = percentiles.into_iter().flatten().collect();
    assert!(
        known.is_sorted() && known.iter().all(|hours| *hours >= 0.0),
        "{summary:?}"
    );
    if let Some(values) = &summary.values {
        assert!(
            values.is_sorted() && values.iter().all(|hours| *hours >= 0.0),
            "{summary:?}"
        );
    }
    assert!(
        summary.mean_hours.is_none_or(|mean| mean >= 0.0),
        "{summary:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whichever times of whichever events are impossible: any order ends in the same facts, none of
    /// which is absurd, and the next genuine event clears the mark.
    #[test]
    fn impossible_times_end_in_the_same_facts_in_any_order(
        draft in any::<bool>(),
        steps in histories::steps(),
        poisons in poisons(),
        keys in prop::collection::vec(any::<u32>(), 32),
    ) {
        let genuine = histories::events(draft, None, &steps);
        let sent: Vec<_> = genuine
            .iter()
            .zip(poisons)
            .map(|(event, poison)| bounded(event.clone(), poison))
            .collect();
        let mut shuffled: Vec<_> = sent.iter().chain(&sent).collect();
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        let (expected, found) = (joined(&sent), joined(shuffled));
        prop_assert_eq!(&found, &expected);

        let numbers = timings(&found, &Bots::default()).unwrap();
        let durations = PullRequestDurations {
            cycle_time: numbers.cycle_time,
            review_time: numbers.review_time,
            stages: numbers.stages,
        };
        prop_assert!(!durations.has_negative(), "{:?}", numbers);
        let plausible = 1_199_145_600..=RECEIVED_AT + 86_400;
        let times = [found.created_at, found.merged_at, numbers.ready_at, numbers.first_review_at];
        let guards = found.conversation.iter().map(|dated| dated.at).chain(times.into_iter().flatten());
        for at in guards.chain(found.observed.keys().copied()).chain(found.timeline.iter().map(|fact| fact.at)) {
            prop_assert!(plausible.contains(&at.epoch()), "{at}");
        }

        let mut last = genuine.last().unwrap().clone();
        last.pull_request.as_mut().unwrap().updated_at = Timestamp::clamped(RECEIVED_AT);
        let healed = joined(sent.iter().chain([&bounded(last, None)]));
        let numbers = timings(&healed, &Bots::default()).unwrap();
        prop_assert!(!numbers.flags.contains(&Flag::ClockSkew), "{:?}", numbers.flags);
        prop_assert_eq!(healed.merged_at, joined(&genuine).merged_at);
    }

    #[test]
    fn percentiles_are_in_order_for_any_durations(
        all in prop::collection::vec(any_durations(), 0..40),
    ) {
        let mut aggregation = Aggregation::new(AuthorFilter::Human, None);
        for durations in all.iter().copied() {
            aggregation.add(&MergedPullRequest {
                has_calendar: true,
                merged_at: Timestamp::clamped(1_772_445_600),
                author_is_bot: false,
                origin: None,
                flags: Vec::new(),
                durations,
            });
        }
        let summary = aggregation.finish().all;
        for one in [
            &summary.cycle_time,
            &summary.review_time,
            &summary.stages.coding,
            &summary.stages.pickup,
            &summary.stages.review,
            &summary.stages.merge_wait,
            &summary.stages.redraft,
            &summary.stages.closed,
        ] {
            assert_in_order(one);
        }
        let excluded: u64 = summary.excluded.values().sum();
        let counted = summary.cycle_time.n + summary.cycle_time.missing;
        prop_assert_eq!(counted as u64 + excluded, all.len() as u64);
    }
}

/// The shortest of three readings, so that a pause of the machine counts for little.
#[expect(clippy::disallowed_methods, reason = "the test measures the time")]
fn reading_time(patterns: &Patterns, body: &str) -> Duration {
    let read = || {
        let started = Instant::now();
        patterns.keys("", "", body);
        started.elapsed()
    };
    (0..3).map(|_| read()).min().unwrap()
}

/// A match that reads on to the end of the text, again and again, as often as the text allows: eight
/// times the text takes eight times the time, not 64 times.
#[test]
fn task_keys_take_time_in_proportion_to_the_text() {
    for (pattern, word) in [
        (r"[A-Z]+(?:.*!)?", "A "),
        (r"(?s)[A-Z]+-\d+(?:.*END)?", "A-1 "),
        (r"\d+(?:[^!]*!)?", "1 "),
        (Patterns::DEFAULT, "AB-1 "),
        // As Markdown, which never ends what it begins.
        (Patterns::DEFAULT, "AB-1 <code>"),
        (Patterns::DEFAULT, "AB-1 [`*"),
        (Patterns::DEFAULT, "AB-1\n> - <!-"),
    ] {
        let patterns = Patterns::parse(pattern).unwrap();
        let text = word.repeat(64 * 1024 / word.len());
        let eighth = text[..text.len() / 8].to_owned();
        assert_in_proportion(&patterns, &eighth, &text);
    }
    // Half of it opens quotes or lists in one another, and every further line looks at each of them.
    let patterns = Patterns::parse(Patterns::DEFAULT).unwrap();
    for nested in ["> ", "+ ", "1. "] {
        let [eighth, text] = [4 * 1024, 32 * 1024].map(|half| {
            let (opened, lines) = (nested.repeat(half / nested.len()), "a\n".repeat(half / 2));
            format!("{opened}AB-1\n{lines}")
        });
        assert_in_proportion(&patterns, &eighth, &text);
    }
}

fn assert_in_proportion(patterns: &Patterns, eighth: &str, whole: &str) {
    let beginning: String = whole.chars().take(16).collect();
    let [eighth, whole] = [eighth, whole].map(|text| reading_time(patterns, text));
    // Between the two, so that a busy machine decides nothing.
    assert!(
        whole < eighth * 24,
        "`{beginning}`: {eighth:?} for an eighth of {whole:?}"
    );
}

/// The bound itself: a key behind more matches than are looked at is not found.
#[test]
fn task_key_behind_a_flood_of_others_is_not_looked_for() {
    let patterns = Patterns::parse(r"[A-Z]+-\d+").unwrap();
    let names_last = |before: usize| {
        let keys = patterns.keys("", "", &format!("{} Z-9", "A-1 ".repeat(before)));
        keys.iter().any(|key| key.as_str() == "Z-9")
    };
    assert!(names_last(200) && !names_last(300));
}
