//! The statistics over many pull requests, against an independent implementation and by hand.

use serde::Deserialize;
use tallyhook_core::domain::metrics::{
    Aggregation, AuthorFilter, CohortAggregation, CohortPullRequest, Comparison, DurationName,
    Lifetimes, Measurements, MergedPullRequest, Verdict,
};
use tallyhook_core::domain::origin::Origin;
use tallyhook_core::domain::timings::{Flag, PullRequestDurations, PullRequestState, Stages};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};

/// The figures that `scripts/cohort-figures` writes.
#[derive(Deserialize)]
struct CohortFigures {
    sets: Vec<FigureSet>,
}

#[derive(Deserialize)]
struct FigureSet {
    lives: Vec<(i64, bool)>,
    percentiles: [Option<f64>; 3],
}

#[test]
fn cohort_percentiles_equal_lifelines() {
    let figures: CohortFigures = serde_json::from_str(include_str!("cohort_figures.json")).unwrap();
    assert_eq!(figures.sets.len(), 200);
    let mut found = 0;
    for set in figures.sets {
        let mut lifetimes = Lifetimes::default();
        for (seconds, ended) in &set.lives {
            lifetimes.add(*seconds, *ended);
        }
        let ours = lifetimes.percentiles([0.5, 0.75, 0.9]);
        for (ours, theirs) in ours.into_iter().zip(set.percentiles) {
            assert_eq!(ours.is_some(), theirs.is_some(), "{:?}", set.lives);
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                found += 1;
                #[allow(clippy::cast_precision_loss, reason = "small")]
                let difference = (ours as f64 - theirs).abs();
                assert!(difference < 1e-9, "{ours} {theirs} {:?}", set.lives);
            }
        }
    }
    assert!((200..600).contains(&found), "{found}");
}

fn at(hours: i64) -> Timestamp {
    Timestamp::clamped(1_772_445_600 + hours * 3600)
}

fn merged(hours: i64, cycle_time: i64) -> MergedPullRequest {
    MergedPullRequest {
        merged_at: at(hours),
        author_is_bot: false,
        origin: None,
        flags: Vec::new(),
        has_calendar: true,
        durations: PullRequestDurations {
            cycle_time: Some(cycle_time * 3600),
            ..PullRequestDurations::default()
        },
    }
}

/// One of each kind of author, with its cycle time in hours.
fn authors() -> [MergedPullRequest; 6] {
    let by = |hours, author_is_bot, origin| MergedPullRequest {
        author_is_bot,
        origin,
        ..merged(hours, hours)
    };
    [
        by(1, false, None),
        by(2, false, Some(Origin::Human)),
        by(3, false, Some(Origin::Assisted)),
        // On a branch of an agent.
        by(4, false, Some(Origin::Agent)),
        by(5, true, Some(Origin::Agent)),
        by(6, true, Some(Origin::Automation)),
    ]
}

#[test]
fn each_filter_of_authors_counts_its_own() {
    for (authors_wanted, values, excluded) in [
        (AuthorFilter::Human, &[1.0, 2.0, 3.0][..], 3),
        (AuthorFilter::Agent, &[4.0, 5.0], 0),
        (AuthorFilter::Automation, &[6.0], 0),
        (AuthorFilter::Bot, &[4.0, 5.0, 6.0], 0),
        (AuthorFilter::All, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0),
    ] {
        let mut aggregation = Aggregation::new(authors_wanted, None).by_origin();
        let mut measurements = Measurements::new(DurationName::Cycle, authors_wanted);
        let mut cohort = CohortAggregation::new(authors_wanted, at(100));
        for (number, pull_request) in (1..).zip(authors()) {
            aggregation.add(&pull_request);
            measurements.add(key(number), &pull_request);
            cohort.add(&CohortPullRequest {
                created_at: at(0),
                state: PullRequestState::Merged,
                ended_at: Some(pull_request.merged_at),
                first_review_at: None,
                author_is_bot: pull_request.author_is_bot,
                origin: pull_request.origin,
                flags: Vec::new(),
            });
        }
        let aggregates = aggregation.finish();
        let summary = &aggregates.all;
        let total: f64 = values.iter().sum();
        assert_eq!(summary.counted, values.len(), "{authors_wanted:?}");
        assert_eq!(
            summary.cycle_time.total_hours,
            Some(total),
            "{authors_wanted:?}"
        );
        assert_eq!(summary.excluded.values().sum::<u64>(), excluded);
        assert_eq!(measurements.len(), values.len());
        assert_eq!(cohort.finish().counted, values.len());
        let by_origin = aggregates.origins.values().map(|summary| summary.counted);
        assert_eq!(by_origin.sum::<usize>(), values.len());
    }
    let mut aggregation = Aggregation::new(AuthorFilter::All, None).by_origin();
    authors().iter().for_each(|merged| aggregation.add(merged));
    let origins = aggregation.finish().origins;
    let counted: Vec<_> = origins
        .iter()
        .map(|(origin, summary)| (*origin, summary.counted))
        .collect();
    assert_eq!(
        counted,
        [
            (None, 1),
            (Some(Origin::Human), 1),
            (Some(Origin::Assisted), 1),
            (Some(Origin::Agent), 2),
            (Some(Origin::Automation), 1)
        ]
    );
}

#[test]
fn totals_of_stages_add_up_and_intervals_hold_the_percentile() {
    let mut aggregation = Aggregation::new(AuthorFilter::Human, None);
    for hours in 1..=40 {
        let mut pull_request = merged(hours, 3 * hours);
        pull_request.durations.stages = Stages {
            pickup: Some(hours * 3600 - 1),
            review: Some(hours * 7200),
            merge_wait: Some(1),
            ..Stages::default()
        };
        aggregation.add(&pull_request);
    }
    let all = aggregation.finish().all;
    let stages = [
        &all.stages.pickup,
        &all.stages.review,
        &all.stages.merge_wait,
    ];
    let sum: f64 = stages.iter().filter_map(|stage| stage.total_hours).sum();
    assert!(
        (sum - all.cycle_time.total_hours.unwrap()).abs() < 1e-5,
        "{sum}"
    );
    assert_eq!(all.stages.coding.total_hours, None);
    // The ranks 14 and 27 of 40 for the median, 32 and 40 for 90 %.
    assert_eq!(all.cycle_time.p50_interval_hours, Some([42.0, 81.0]));
    assert_eq!(all.cycle_time.p50_hours, Some(61.5));
    assert_eq!(all.cycle_time.p90_interval_hours, Some([96.0, 120.0]));
}

#[test]
fn ranges_are_compared_at_their_border() {
    let mut comparison = Comparison::new(AuthorFilter::Human, at(100));
    for hours in 0..10 {
        comparison.add(&merged(90 + hours, 50 + hours));
    }
    for hours in 0..10 {
        comparison.add(&merged(100 + hours, 1 + hours));
    }
    let found = comparison.finish();
    assert_eq!((found.before.counted, found.now.counted), (10, 10));
    let cycle_time = found.compared.cycle_time;
    assert_eq!((cycle_time.n, cycle_time.n_before), (10, 10));
    assert_eq!(cycle_time.chance_faster, Some(1.0));
    assert_eq!(cycle_time.verdict, Some(Verdict::Faster));
    assert_eq!(cycle_time.p50_difference_hours, Some(-49.0));
    assert_eq!(found.compared.pickup.chance_faster, None);
}

#[test]
fn cohort_censors_what_is_open_or_abandoned() {
    let member = |state, ended: Option<i64>, reviewed: Option<i64>| CohortPullRequest {
        created_at: at(0),
        state,
        ended_at: ended.map(at),
        first_review_at: reviewed.map(at),
        author_is_bot: false,
        origin: None,
        flags: Vec::new(),
    };
    let mut cohort = CohortAggregation::new(AuthorFilter::Human, at(100));
    for pull_request in [
        member(PullRequestState::Merged, Some(10), Some(4)),
        member(PullRequestState::Merged, Some(30), None),
        member(PullRequestState::Closed, Some(20), None),
        member(PullRequestState::Open, None, Some(50)),
    ] {
        cohort.add(&pull_request);
    }
    // Its own times cannot be.
    cohort.add(&member(PullRequestState::Merged, Some(-1), None));
    cohort.add(&member(PullRequestState::Merged, None, None));
    cohort.add(&CohortPullRequest {
        flags: vec![Flag::Stub],
        ..member(PullRequestState::Open, None, None)
    });
    let found = cohort.finish();
    assert_eq!(
        (
            found.counted,
            found.merged,
            found.closed_unmerged,
            found.open
        ),
        (4, 2, 1, 1)
    );
    // Of 4 one is merged after 10 h, of the 2 that are left one after 30: 3/4, 3/8.
    let cycle_time = found.cycle_time;
    assert_eq!((cycle_time.n, cycle_time.censored), (4, 2));
    assert_eq!(
        (cycle_time.p50_hours, cycle_time.p75_hours),
        (Some(30.0), None)
    );
    // 3/4 after 4 h; those at 20 and 30 end without one; then 0.
    let review_time = found.review_time;
    assert_eq!(review_time.censored, 2);
    assert_eq!(
        [review_time.p50_hours, review_time.p90_hours],
        [Some(50.0), Some(50.0)]
    );
    assert_eq!(found.excluded["clock_skew"], 2);
    assert_eq!(found.excluded["stub"], 1);
}

fn key(number: i64) -> PrKey {
    PrKey {
        repo: RepoId(1),
        number: PrNumber(number),
    }
}

#[test]
fn one_duration_is_binned_sampled_and_traced_to_its_pull_requests() {
    let measured = |hours: &[i64]| {
        let mut measurements = Measurements::new(DurationName::Cycle, AuthorFilter::Human);
        for (number, hours) in (1..).zip(hours) {
            measurements.add(key(number), &merged(number, *hours));
        }
        measurements
    };
    let five = || measured(&[8, 0, 2, 1, 40]);
    let found = five().distribution();
    let bins: Vec<_> = found
        .bins
        .iter()
        .filter(|bin| bin.n > 0)
        .map(|bin| (bin.from_hours, bin.to_hours, bin.n))
        .collect();
    assert_eq!(
        bins,
        [
            (0.0, 0.25, 1),
            (1.0, 2.0, 1),
            (2.0, 4.0, 1),
            (8.0, 16.0, 1),
            (32.0, 64.0, 1)
        ]
    );
    assert_eq!((found.n, found.bins.len()), (5, 9));
    assert_eq!((found.p50_hours, found.p90_hours), (Some(2.0), Some(27.2)));

    let numbers = |sample: Vec<tallyhook_core::domain::metrics::MeasuredPullRequest>| {
        sample
            .iter()
            .map(|one| one.key.number.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(five().sample(10)), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(five().sample(2)), [1, 3]);
    assert_eq!(numbers(five().sample(0)), [0_i64; 0]);

    let median = five().ranked(0.5).unwrap();
    assert_eq!((median.hours, median.rank), (2.0, 3.0));
    assert_eq!(numbers(median.between), [3]);
    assert_eq!(numbers(median.around), [2, 4, 3, 1, 5]);
    let p90 = five().ranked(0.9).unwrap();
    assert_eq!((p90.hours, p90.rank), (27.2, 4.6));
    assert_eq!(numbers(p90.between), [1, 5]);
    assert!(measured(&[]).ranked(0.5).is_none());
    assert!(measured(&[]).distribution().bins.is_empty());
}
