//! The cases of the definitions, with their answers. In each, the account 0 is the author, 1 to 3 are other people
//! and 4 is a bot; the pull request is opened at hour 0.

use std::collections::BTreeSet;

use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::pull_request::{ApplyOutcome, PullRequest, Source};
use tallyhook_core::domain::timings::{Flag, PullRequestState, Timings, timings};
use tallyhook_core::event::ReviewState::{self, Approved, ChangesRequested, Commented, Dismissed};
use tallyhook_core::event::{CommitDates, FactKind, PullRequestEvent};
use tallyhook_core::github::types::{Account, AccountId, AccountKind, Timestamp};

use testkit::histories;
use testkit::histories::Step::{self, *};

const HOUR: i64 = 3600;
const NONE: [Flag; 0] = [];

/// The events of a history, dated in hours since the step before.
fn story(draft: bool, steps: &[(i64, Step)]) -> Vec<PullRequestEvent> {
    let steps: Vec<_> = steps
        .iter()
        .map(|(hours, step)| (hours * HOUR, step.clone()))
        .collect();
    histories::events(draft, None, &steps)
}

fn known(events: &[PullRequestEvent]) -> PullRequest {
    let mut pull_request = PullRequest::unknown(histories::KEY);
    for event in events {
        pull_request.apply(event, Source::Webhook);
    }
    pull_request
}

fn numbers(events: &[PullRequestEvent]) -> Timings {
    timings(&known(events), &Bots::default()).unwrap()
}

fn told(draft: bool, steps: &[(i64, Step)]) -> Timings {
    numbers(&story(draft, steps))
}

/// Hours since the opening.
fn hour(at: Option<Timestamp>) -> Option<i64> {
    let opened = story(false, &[])[0]
        .pull_request
        .as_ref()
        .unwrap()
        .created_at;
    at.map(|at| (at.epoch() - opened.epoch()) / HOUR)
}

/// Coding, pickup, review, merge wait, redraft, closed in hours.
fn stages(timings: &Timings) -> [Option<i64>; 6] {
    let stages = timings.stages;
    [
        stages.coding,
        stages.pickup,
        stages.review,
        stages.merge_wait,
        stages.redraft,
        stages.closed,
    ]
    .map(|seconds| seconds.map(|seconds| seconds / HOUR))
}

fn flags(timings: &Timings) -> Vec<Flag> {
    timings.flags.iter().copied().collect()
}

#[test]
fn created_at_ten_and_merged_at_three_the_next_day_is_29_hours() {
    let timings = told(false, &[(29, Merge)]);
    assert_eq!(timings.cycle_time, Some(29 * HOUR));
    assert_eq!(stages(&timings), [None, None, None, Some(29), None, None]);
    assert_eq!(flags(&timings), [Flag::MergedWithoutReview]);
    assert_eq!(timings.review_time, None);
}

#[test]
fn a_bot_s_comment_is_no_response() {
    let timings = told(
        false,
        &[
            (0, Comment(4)),
            (0, Review(4, Approved)),
            (5, Review(1, Commented)),
        ],
    );
    assert_eq!(
        (
            hour(timings.first_response_at),
            hour(timings.first_review_at)
        ),
        (Some(5), Some(5))
    );
}

#[test]
fn bots_are_known_by_type_then_login_then_list() {
    let account = |login: &str, kind| Account {
        id: AccountId(1),
        login: login.to_owned(),
        kind,
    };
    let bots = Bots::new(["Deployer"]);
    for (login, kind, bot) in [
        ("renovate[bot]", AccountKind::Bot, true),
        ("Renovate", AccountKind::Bot, true),
        ("renovate[bot]", AccountKind::User, true),
        ("deployer", AccountKind::User, true),
        ("mara", AccountKind::User, false),
        ("acme", AccountKind::Other, false),
    ] {
        assert_eq!(
            bots.contains(&account(login, kind)),
            bot,
            "{login} {kind:?}"
        );
    }
}

#[test]
fn reviews_of_the_author_are_ignored() {
    let timings = told(
        false,
        &[
            (1, Review(0, Approved)),
            (1, Comment(0)),
            (2, Review(1, Approved)),
            (1, Merge),
        ],
    );
    assert_eq!(
        (
            hour(timings.first_review_at),
            hour(timings.first_response_at)
        ),
        (Some(4), Some(4))
    );
    assert_eq!(
        stages(&timings),
        [None, Some(4), Some(0), Some(1), None, None]
    );
}

#[test]
fn two_days_as_a_draft_are_coding_and_two_hours_until_the_review_are_pickup() {
    let timings = told(true, &[(48, Ready), (2, Review(1, Approved)), (3, Merge)]);
    assert_eq!(
        stages(&timings),
        [Some(48), Some(2), Some(0), Some(3), None, None]
    );
    assert_eq!(
        (timings.review_time, hour(timings.ready_at)),
        (Some(50 * HOUR), Some(48))
    );
}

#[test]
fn back_to_draft_is_redraft_and_ready_stays_the_first() {
    let timings = told(
        false,
        &[
            (1, ConvertToDraft),
            (20, Ready),
            (2, Review(1, Approved)),
            (1, Merge),
        ],
    );
    assert_eq!(hour(timings.ready_at), Some(0));
    assert_eq!(
        stages(&timings),
        [None, Some(3), Some(0), Some(1), Some(20), None]
    );
}

#[test]
fn reviewed_only_as_a_draft_is_not_without_review() {
    let timings = told(true, &[(1, Review(1, Approved)), (1, Ready), (1, Merge)]);
    assert_eq!(flags(&timings), [Flag::ReviewedInDraft]);
    assert_eq!(
        (timings.first_review_at, timings.final_approval_at),
        (None, None)
    );
    assert_eq!(stages(&timings), [Some(2), None, None, Some(1), None, None]);
}

#[test]
fn an_approval_as_a_draft_counts_from_the_first_review_after_ready() {
    let timings = told(
        true,
        &[
            (1, Review(1, Approved)),
            (1, Ready),
            (3, Review(2, Commented)),
            (1, Merge),
        ],
    );
    assert_eq!(hour(timings.final_approval_at), Some(5));
    assert_eq!(flags(&timings), NONE);
}

#[test]
fn merged_as_a_draft_has_only_coding() {
    let timings = told(true, &[(1, Review(1, Approved)), (3, Merge)]);
    assert_eq!(stages(&timings), [Some(4), None, None, None, None, None]);
    assert_eq!(
        flags(&timings),
        [Flag::MergedAsDraft, Flag::ReviewedInDraft]
    );
    assert_eq!(timings.ready_at, None);
}

#[test]
fn push_after_the_merge_changes_nothing() {
    let mut events = story(false, &[(1, Review(1, Approved)), (1, Push), (1, Merge)]);
    let in_order = known(&events);
    events.swap(2, 3);
    assert_eq!(known(&events), in_order);
    assert_eq!(numbers(&events).state, PullRequestState::Merged);
}

#[test]
fn a_missed_reopening_shows_in_the_next_newer_snapshot() {
    let mut events = story(false, &[(1, Close), (5, Reopen), (2, Push)]);
    events.remove(2);
    let timings = numbers(&events);
    assert_eq!(timings.state, PullRequestState::Open);
    assert_eq!(flags(&timings), [Flag::Reopened]);

    let mut merged = story(false, &[(1, Close), (5, Reopen), (2, Push), (1, Merge)]);
    merged.remove(2);
    // It was open again when it was next seen, at hour 8.
    assert_eq!(
        stages(&numbers(&merged)),
        [None, None, None, Some(2), None, Some(7)]
    );
}

#[test]
fn a_missed_ready_for_review_shows_in_the_next_snapshot_that_is_no_draft() {
    let mut events = story(true, &[(10, Ready), (2, Review(1, Approved)), (1, Merge)]);
    events.remove(1);
    let timings = numbers(&events);
    assert_eq!(hour(timings.ready_at), Some(12));
    assert_eq!(
        stages(&timings),
        [Some(12), Some(0), Some(0), Some(1), None, None]
    );
}

#[test]
fn two_events_within_one_second_both_count() {
    let timings = told(
        false,
        &[
            (1, Review(1, Commented)),
            (0, Review(2, Approved)),
            (1, Merge),
        ],
    );
    assert_eq!(
        stages(&timings),
        [None, Some(1), Some(0), Some(1), None, None]
    );
}

#[test]
fn an_older_edit_after_a_newer_one_is_stale_and_keeps_its_place_in_the_timeline() {
    let events = story(false, &[(1, Retitle(1)), (1, Label(1)), (1, Retitle(2))]);
    let mut pull_request = known(&events[..1]);
    assert_eq!(
        pull_request.apply(&events[3], Source::Webhook),
        ApplyOutcome::Changed
    );
    assert_eq!(
        pull_request.apply(&events[1], Source::Webhook),
        ApplyOutcome::Stale
    );
    assert_eq!(
        pull_request.apply(&events[1], Source::Webhook),
        ApplyOutcome::Unchanged
    );
    pull_request.apply(&events[2], Source::Webhook);
    let conversation = &pull_request.conversation.as_ref().unwrap().value;
    assert_eq!(conversation.title.as_deref(), Some("title 2"));
    assert_eq!(conversation.labels, ["label-1"]);
    assert_eq!(pull_request, known(&events));
    assert_eq!(
        pull_request
            .timeline
            .times_of(FactKind::TitleEdited)
            .count(),
        2
    );
}

#[test]
fn a_review_of_an_unknown_pull_request_makes_a_stub_and_is_kept() {
    let events = story(false, &[(2, Review(1, Approved))]);
    let stub = known(&events[1..]);
    let timings = timings(&stub, &Bots::default()).unwrap();
    assert_eq!(flags(&timings), [Flag::HistoryIncomplete, Flag::Stub]);
    assert_eq!(
        (stub.reviews.len(), hour(timings.first_review_at)),
        (1, Some(2))
    );
    assert_eq!(stub.diff, None);
}

#[test]
fn a_dismissed_approval_ends_then_and_the_first_review_stays() {
    let timings = told(
        false,
        &[
            (1, Review(1, Approved)),
            (4, Dismiss(0)),
            (1, Review(2, Approved)),
            (1, Merge),
        ],
    );
    assert_eq!(
        stages(&timings),
        [None, Some(1), Some(5), Some(1), None, None]
    );
    let unapproved = told(
        false,
        &[(1, Review(1, Approved)), (4, Dismiss(0)), (1, Merge)],
    );
    assert_eq!(flags(&unapproved), [Flag::MergedWithoutApproval]);
    assert_eq!(
        stages(&unapproved),
        [None, Some(1), Some(5), None, None, None]
    );
}

#[test]
fn dismissal_keeps_the_original_state_in_either_order() {
    let events = story(false, &[(1, Review(1, Approved)), (4, Dismiss(0))]);
    let swapped = [events[0].clone(), events[2].clone(), events[1].clone()];
    for events in [events.as_slice(), swapped.as_slice()] {
        let pull_request = known(events);
        let review = pull_request.reviews.values().next().unwrap();
        assert_eq!(
            (review.state(), review.original_state),
            (Dismissed, Some(Approved))
        );
    }
}

#[test]
fn dismissing_a_superseded_review_changes_nothing_and_the_older_opinion_does_not_return() {
    let superseded = told(
        false,
        &[
            (1, Review(1, ChangesRequested)),
            (1, Review(1, Approved)),
            (1, Dismiss(0)),
            (1, Merge),
        ],
    );
    assert_eq!(hour(superseded.final_approval_at), Some(2));
    let not_back = told(
        false,
        &[
            (1, Review(1, Approved)),
            (1, Review(1, ChangesRequested)),
            (1, Dismiss(1)),
            (1, Merge),
        ],
    );
    assert_eq!(flags(&not_back), [Flag::MergedWithoutApproval]);
}

#[test]
fn approval_dismissed_at_an_unknown_time_never_held() {
    let mut events = story(
        false,
        &[(1, Review(1, Approved)), (4, Dismiss(0)), (1, Merge)],
    );
    events[2].review.as_mut().unwrap().dismissed_at = None;
    assert_eq!(flags(&numbers(&events)), [Flag::MergedWithoutApproval]);
}

#[test]
fn review_first_seen_dismissed_replaces_and_holds_nothing() {
    let mut events = story(
        false,
        &[
            (1, Review(1, Approved)),
            (1, Review(1, ChangesRequested)),
            (1, Dismiss(1)),
            (1, Merge),
        ],
    );
    events.remove(2);
    assert_eq!(flags(&numbers(&events)), [Flag::MergedWithoutApproval]);
}

#[test]
fn an_approval_dismissed_after_the_merge_stood_at_it() {
    let timings = told(
        false,
        &[(1, Review(1, Approved)), (1, Merge), (1, Dismiss(0))],
    );
    assert_eq!(hour(timings.final_approval_at), Some(1));
}

#[test]
fn approved_then_pushed_stands_and_is_flagged() {
    let timings = told(false, &[(1, Review(1, Approved)), (1, Push), (2, Merge)]);
    assert_eq!(flags(&timings), [Flag::PushedAfterApproval]);
    assert_eq!(
        stages(&timings),
        [None, Some(1), Some(0), Some(3), None, None]
    );
    let again = told(
        false,
        &[
            (1, Review(1, Approved)),
            (1, Push),
            (1, Review(2, Approved)),
            (2, Merge),
        ],
    );
    assert_eq!(flags(&again), NONE);
}

#[test]
fn the_latest_opinion_counts_and_comments_change_none() {
    let steps = [
        (1, Review(1, ChangesRequested)),
        (1, Review(1, Approved)),
        (1, Review(1, Commented)),
        (1, Merge),
    ];
    assert_eq!(hour(told(false, &steps).final_approval_at), Some(2));
}

#[test]
fn approval_is_complete_only_without_a_request_for_changes() {
    let steps = [
        (1, Review(1, Approved)),
        (1, Review(2, ChangesRequested)),
        (3, Review(2, Approved)),
        (1, Merge),
    ];
    let timings = told(false, &steps);
    assert_eq!(
        stages(&timings),
        [None, Some(1), Some(4), Some(1), None, None]
    );
    let standing = told(
        false,
        &[
            (1, Review(1, Approved)),
            (1, Review(2, ChangesRequested)),
            (1, Merge),
        ],
    );
    assert_eq!(flags(&standing), [Flag::MergedWithChangesRequested]);
}

#[test]
fn at_one_second_a_request_for_changes_wins() {
    for steps in [
        [
            (1, Review(1, Approved)),
            (0, Review(1, ChangesRequested)),
            (1, Merge),
        ],
        [
            (1, Review(1, ChangesRequested)),
            (0, Review(1, Approved)),
            (1, Merge),
        ],
    ] {
        assert_eq!(
            flags(&told(false, &steps)),
            [Flag::MergedWithChangesRequested]
        );
    }
}

#[test]
fn opinions_of_bots_do_not_count() {
    let timings = told(
        false,
        &[
            (1, Review(4, ChangesRequested)),
            (1, Review(1, Approved)),
            (1, Merge),
        ],
    );
    assert_eq!(hour(timings.final_approval_at), Some(2));
}

#[test]
fn a_review_at_the_merge_counts_and_a_later_one_does_not() {
    let at = told(false, &[(2, Review(1, Approved)), (0, Merge)]);
    assert_eq!(stages(&at), [None, Some(2), Some(0), Some(0), None, None]);
    let later = told(
        false,
        &[(2, Merge), (1, Review(1, Approved)), (0, Comment(2))],
    );
    assert_eq!(
        (later.first_review_at, later.first_response_at),
        (None, None)
    );
    assert_eq!(flags(&later), [Flag::MergedWithoutReview]);
}

#[test]
fn an_inline_comment_counts_at_its_review() {
    let mut events = story(false, &[(2, Review(1, Commented)), (0, InlineComment(1))]);
    events[2].facts[0].at = Timestamp::clamped(events[2].facts[0].at.epoch() - HOUR);
    assert_eq!(hour(numbers(&events).first_response_at), Some(2));
    // Its review got lost: then it counts on its own.
    events.remove(1);
    assert_eq!(hour(numbers(&events).first_response_at), Some(1));
}

#[test]
fn closed_is_taken_out_of_the_stage_it_falls_in() {
    let steps = [
        (1, Close),
        (10, Reopen),
        (1, Review(1, Approved)),
        (1, Close),
        (5, Reopen),
        (1, Merge),
    ];
    let timings = told(false, &steps);
    assert_eq!(
        stages(&timings),
        [None, Some(2), Some(0), Some(2), None, Some(15)]
    );
    assert_eq!(flags(&timings), [Flag::Reopened]);
}

#[test]
fn a_second_that_is_both_closed_and_redraft_is_closed() {
    let steps = [
        (2, ConvertToDraft),
        (1, Close),
        (2, Reopen),
        (2, Ready),
        (1, Review(1, Approved)),
        (1, Merge),
    ];
    assert_eq!(
        stages(&told(false, &steps)),
        [None, Some(3), Some(0), Some(1), Some(3), Some(2)]
    );
}

#[test]
fn closed_without_a_merge_has_no_cycle_time() {
    let timings = told(false, &[(1, Review(1, Approved)), (1, Close)]);
    assert_eq!(
        (timings.state, timings.cycle_time, timings.review_time),
        (PullRequestState::Closed, None, Some(HOUR))
    );
    assert_eq!(stages(&timings), [None; 6]);
    assert_eq!(timings.final_approval_at, None);
    // A review after the end is none.
    let late = told(false, &[(1, Close), (1, Review(1, Approved))]);
    assert_eq!(late.first_review_at, None);
}

#[test]
fn first_commits_are_believed_within_reason() {
    let with = |first: Option<i64>, last: i64, prehistoric| {
        let mut events = story(false, &[(1, Review(1, Approved)), (1, Merge)]);
        let opened = events[0].pull_request.as_ref().unwrap().created_at.epoch();
        let at = |hours: i64| Timestamp::clamped(opened + hours * HOUR);
        events[0].commits = Some(CommitDates {
            first: first.map(at),
            last: Some(at(last)),
            prehistoric,
            ..CommitDates::default()
        });
        numbers(&events)
    };
    let usual = with(Some(-10), 1, false);
    assert_eq!(
        (hour(usual.first_commit_at), stages(&usual)[0]),
        (Some(-10), Some(10))
    );
    assert_eq!(flags(&usual), NONE);
    let from_1970 = with(None, 0, true);
    assert_eq!(
        (from_1970.first_commit_at, stages(&from_1970)[0]),
        (None, None)
    );
    assert_eq!(flags(&from_1970), [Flag::ClockSkew]);
    let from_the_future = with(Some(1), 3, false);
    assert_eq!(
        (from_the_future.first_commit_at, flags(&from_the_future)),
        (None, vec![Flag::ClockSkew])
    );
}

#[test]
fn a_known_account_is_never_replaced_by_the_ghost() {
    let mut events = story(false, &[(1, Retitle(1))]);
    events[1].pull_request.as_mut().unwrap().author = Account::ghost();
    assert_eq!(known(&events).author.unwrap().value.0.login, "account-0");
    events.swap(0, 1);
    assert_eq!(known(&events).author.unwrap().value.0.login, "account-0");
}

#[test]
fn ghost_is_one_actor_whose_reviews_of_its_own_work_do_not_count() {
    let mut events = story(false, &[(1, Review(1, Approved)), (1, Review(2, Approved))]);
    for event in &mut events {
        event.pull_request.as_mut().unwrap().author = Account::ghost();
    }
    events[1].review.as_mut().unwrap().author = Account::ghost();
    assert_eq!(hour(numbers(&events).first_review_at), Some(2));
}

#[test]
fn opened_as_a_draft_follows_from_the_earliest_known_fact() {
    let lost_opening = |draft: bool, steps: &[(i64, Step)]| {
        let timings = numbers(&story(draft, steps)[1..]);
        assert!(timings.flags.contains(&Flag::HistoryIncomplete));
        hour(timings.ready_at)
    };
    assert_eq!(lost_opening(true, &[(3, Ready), (1, Push)]), Some(3));
    assert_eq!(
        lost_opening(false, &[(3, ConvertToDraft), (1, Ready)]),
        Some(0)
    );
    assert_eq!(lost_opening(true, &[(3, Push), (1, Ready)]), Some(4));
    assert_eq!(lost_opening(false, &[(3, Push)]), Some(0));
}

#[test]
fn a_review_s_edit_is_no_second_response() {
    let mut events = story(false, &[(1, Review(1, Approved)), (5, Retitle(1))]);
    let review = events[1].review.clone();
    events[2].action = "edited".to_owned();
    (events[2].review, events[2].facts) = (review, Vec::new());
    let pull_request = known(&events);
    assert_eq!(pull_request.reviews.len(), 1);
    assert_eq!(hour(numbers(&events).first_response_at), Some(1));
}

#[test]
fn every_state_of_a_review_has_one_name() {
    let names: BTreeSet<_> = [Commented, Approved, ChangesRequested, Dismissed]
        .map(ReviewState::as_str)
        .into();
    for name in names {
        assert_eq!(
            serde_json::to_value(
                serde_json::from_str::<ReviewState>(&format!("{name:?}")).unwrap()
            )
            .unwrap(),
            name
        );
    }
}
