//! No absurd number: percentiles in order and durations of at least 0, whatever the facts say.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tallyhook_core::domain::metrics::{
    Aggregation, AuthorFilter, DurationSummary, MergedPullRequest,
};
use tallyhook_core::domain::task::Patterns;
use tallyhook_core::domain::timings::{PullRequestDurations, Stages};
use tallyhook_core::github::types::Timestamp;

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

    #[test]
    fn percentiles_are_in_order_for_any_durations(
        all in prop::collection::vec(any_durations(), 0..40),
    ) {
        let mut aggregation = Aggregation::new(AuthorFilter::Human, None);
        for durations in all.iter().copied() {
            aggregation.add(&MergedPullRequest {
                merged_at: Timestamp::clamped(1_772_445_600),
                author_is_bot: false,
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
fn reading_time(patterns: &Patterns, body: &str) -> Duration {
    let read = || {
        let started = Instant::now();
        patterns.keys("", "", body);
        started.elapsed()
    };
    (0..3).map(|_| read()).min().unwrap()
}

/// A match that reads on to the end of the text, again and again, as often as the text allows: twice
/// the text takes twice the time, not four times.
#[test]
fn task_keys_take_time_in_proportion_to_the_text() {
    for (pattern, word) in [
        (r"[A-Z]+(?:.*!)?", "A "),
        (r"(?s)[A-Z]+-\d+(?:.*END)?", "A-1 "),
        (r"\d+(?:[^!]*!)?", "1 "),
        (Patterns::DEFAULT, "AB-1 "),
    ] {
        let patterns = Patterns::parse(pattern).unwrap();
        let text = word.repeat(64 * 1024 / word.len());
        let whole = reading_time(&patterns, &text);
        let half = reading_time(&patterns, &text[..text.len() / 2]);
        assert!(
            whole < half * 3,
            "`{pattern}`: {half:?} for a half of {whole:?}"
        );
        assert!(whole < Duration::from_millis(500), "`{pattern}`: {whole:?}");
    }
}
