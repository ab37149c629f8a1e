//! The segments of pull requests that are merged, closed or open.

use proptest::prelude::*;
use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::timings::{StageSegment, segments};
use tallyhook_core::event::ReviewState::{Approved, ChangesRequested};
use tallyhook_core::github::types::Timestamp;
use testkit::histories;
use testkit::histories::Step::{self, *};
use testkit::laws;

const HOUR: i64 = 3600;

fn known(draft: bool, commit_age: Option<i64>, steps: &[(i64, Step)]) -> PullRequest {
    let mut pull_request = PullRequest::unknown(histories::KEY);
    for event in histories::events(draft, commit_age, steps) {
        pull_request.apply(&event, Source::Webhook);
    }
    pull_request
}

/// Returns the segments as they are read 100 hours after the opening: `STAGE FROM-TO`, in hours.
fn read(draft: bool, steps: &[(i64, Step)]) -> Vec<String> {
    let steps = steps
        .iter()
        .map(|(hours, step)| (hours * HOUR, step.clone()));
    let pull_request = known(draft, None, &steps.collect::<Vec<_>>());
    let opened = pull_request.created_at.unwrap().epoch();
    let now = Timestamp::clamped(opened + 100 * HOUR);
    let words = |segment: StageSegment| {
        let hour = |at: Timestamp| (at.epoch() - opened) / HOUR;
        let stage = segment.stage.as_str();
        format!("{stage} {}-{}", hour(segment.from), hour(segment.to))
    };
    let found = segments(&pull_request, &Bots::default(), now);
    found.into_iter().map(words).collect()
}

#[test]
fn any_pull_request_has_segments_up_to_its_end_or_to_now() {
    let reviewed = [(2, Review(1, Approved))];
    for (draft, steps, expected) in [
        (false, &[][..], &["pickup 0-100"][..]),
        (true, &[], &["coding 0-100"]),
        (true, &[(4, Ready)], &["coding 0-4", "pickup 4-100"]),
        (false, &reviewed, &["pickup 0-2", "merge_wait 2-100"]),
        (
            false,
            &[(2, Review(1, ChangesRequested))],
            &["pickup 0-2", "review 2-100"],
        ),
        // The approval is withdrawn: the review goes on.
        (
            false,
            &[(2, Review(1, Approved)), (3, Review(1, ChangesRequested))],
            &["pickup 0-2", "review 2-100"],
        ),
        (
            false,
            &[(2, Review(1, Approved)), (3, ConvertToDraft)],
            &["pickup 0-2", "merge_wait 2-5", "redraft 5-100"],
        ),
        (
            false,
            &[(2, Close), (3, Reopen)],
            &["pickup 0-2", "closed 2-5", "pickup 5-100"],
        ),
        // Closed: nothing after the end.
        (false, &[(7, Close)], &["pickup 0-7"]),
        (true, &[(7, Close)], &["coding 0-7"]),
        (
            false,
            &[(2, Review(1, Approved)), (3, Close)],
            &["pickup 0-2", "merge_wait 2-5"],
        ),
        (
            false,
            &[(2, Close), (3, Reopen), (1, Close)],
            &["pickup 0-2", "closed 2-5", "pickup 5-6"],
        ),
        // Merged without a review, which nothing waited for.
        (false, &[(9, Merge)], &["merge_wait 0-9"]),
        (
            false,
            &[(2, Review(1, Approved)), (3, Merge)],
            &["pickup 0-2", "merge_wait 2-5"],
        ),
    ] {
        assert_eq!(read(draft, steps), expected, "{draft} {steps:?}");
    }
}

#[test]
fn clock_behind_that_of_github_takes_no_segment_away() {
    let pull_request = known(true, None, &[(50, Ready)]);
    let opened = pull_request.created_at.unwrap();
    let found = segments(&pull_request, &Bots::default(), opened);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].seconds(), 50);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    /// After each step, so that it is open and closed, too.
    #[test]
    fn each_second_is_in_one_segment(
        draft in any::<bool>(),
        commit_age in prop::option::of(0_i64..400_000),
        steps in histories::steps(),
    ) {
        let mut pull_request = PullRequest::unknown(histories::KEY);
        for event in histories::events(draft, commit_age, &steps) {
            pull_request.apply(&event, Source::Webhook);
            laws::segments_are_whole(&pull_request);
        }
    }
}
