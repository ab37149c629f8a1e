//! Laws that hold for every body. Shared by core's test `hostile` and the targets of `fuzz/`.

use std::sync::LazyLock;

use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::pull_request::{ApplyOutcome, PullRequest, Source};
use tallyhook_core::domain::repository;
use tallyhook_core::domain::timings::{
    Flag, PullRequestState, Stage, StageSegment, segments, timings,
};
use tallyhook_core::event::{self, Event, PullRequestEvent};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};

/// A history with a draft, two reviews, a push and a merge, which bodies are applied on top of.
const STORY: &str = include_str!("../../../fixtures/02-draft-then-ready.jsonl");

/// A month after the history.
const RECEIVED_AT: Timestamp = Timestamp::clamped(1_775_000_000);

static KNOWN: LazyLock<PullRequest> = LazyLock::new(|| {
    let mut known = PullRequest::unknown(PrKey {
        repo: RepoId(1),
        number: PrNumber(1),
    });
    for line in STORY.lines() {
        let delivery: serde_json::Value = serde_json::from_str(line).expect("a fixture is JSON");
        let name = delivery["event"].as_str().expect("a delivery has an event");
        let payload = delivery["request"]["payload"].to_string();
        if let Ok(Event::PullRequest(event)) = event::decode(name, payload.as_bytes()) {
            known.apply(&event, Source::Webhook);
        }
    }
    known
});

/// Decodes `body` as the event `name`. A decoded event can be applied, alone or after a history,
/// and again, and its stages add up.
///
/// # Panics
/// If a law is broken, or the code under test panics.
pub fn check(name: &str, body: &[u8]) -> Option<Event> {
    let event = event::decode(name, body).ok()?;
    drop(repository::observed(&event, Timestamp::clamped(0)));
    let mut bounded = event.clone();
    event::without_impossible_times(&mut bounded, RECEIVED_AT);
    for event in [&event, &bounded]
        .into_iter()
        .filter_map(Event::pull_request)
    {
        applies(PullRequest::unknown(event.key()), event);
        applies(KNOWN.clone(), event);
    }
    let sent = serde_json::to_string(&event).expect("an event can be written");
    let read: Event = serde_json::from_str(&sent).expect("an event that was written can be read");
    assert_eq!(read, event, "an event comes back from the queue as it was");
    Some(event)
}

fn applies(mut pull_request: PullRequest, event: &PullRequestEvent) {
    pull_request.apply(event, Source::Webhook);
    let once = pull_request.clone();
    let outcome = pull_request.apply(event, Source::Webhook);
    assert_eq!(
        (outcome, &pull_request),
        (ApplyOutcome::Unchanged, &once),
        "a repetition changes something"
    );
    stages_add_up(&pull_request);
    segments_are_whole(&pull_request);
}

/// The stages of a merged pull request add up to the span from its start to its merge, to the
/// second.
fn stages_add_up(pull_request: &PullRequest) {
    let Some(timings) = timings(pull_request, &Bots::default()) else {
        return;
    };
    let stages = timings.stages;
    let steps: i64 = timings.steps.iter().map(|step| step.seconds).sum();
    assert_eq!(
        steps,
        stages.total(),
        "the explanation and the stages differ"
    );
    for &stage in Stage::ALL {
        let segments = timings.segments.iter();
        let segments = segments.filter(|segment| segment.stage == stage);
        let seconds: i64 = segments.map(StageSegment::seconds).sum();
        let of_stage = stages.seconds(stage).unwrap_or(0);
        assert_eq!(
            seconds,
            of_stage,
            "the segments and the stage {} differ",
            stage.as_str()
        );
    }
    assert!(
        timings
            .segments
            .windows(2)
            .all(|two| two[0].to == two[1].from),
        "segments overlap or leave a gap: {timings:?}"
    );
    assert!(
        timings.steps.iter().all(|step| step.seconds >= 0)
            && timings.cycle_time.is_none_or(|seconds| seconds >= 0)
            && timings.review_time.is_none_or(|seconds| seconds >= 0),
        "a duration is negative: {timings:?}"
    );
    if timings.state != PullRequestState::Merged || timings.cycle_time.is_none() {
        assert_eq!(
            steps, 0,
            "only what is merged, at a time that can be, has stages"
        );
        return;
    }
    let epoch = |at: Option<Timestamp>| at.expect("a merged pull request has it").epoch();
    let start = match stages.coding {
        Some(_) => epoch(timings.first_commit_at.or(pull_request.created_at)),
        None => epoch(timings.ready_at),
    };
    assert_eq!(
        stages.total(),
        epoch(pull_request.merged_at) - start,
        "{stages:?}"
    );
}

/// Each second of any pull request is in one segment, up to its end or to the time of reading.
pub fn segments_are_whole(pull_request: &PullRequest) {
    let Some(timings) = timings(pull_request, &Bots::default()) else {
        return;
    };
    let now = Timestamp::clamped(4_000_000_000);
    let segments = segments(pull_request, &Bots::default(), now);
    if timings.cycle_time.is_some() {
        assert_eq!(segments, timings.segments, "those of a merged one differ");
    }
    let seen = pull_request.conversation.as_ref();
    let closed_at = seen.and_then(|seen| seen.value.closed_at);
    let end = match timings.state {
        PullRequestState::Open => {
            let known = [
                timings.ready_at,
                timings.first_review_at,
                pull_request.created_at,
            ];
            known.into_iter().flatten().chain([now]).max()
        }
        _ => pull_request.merged_at.or(closed_at),
    };
    let start = timings.first_commit_at.or(pull_request.created_at);
    let (Some(start), Some(end)) = (start, end) else {
        return;
    };
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        let is_misdated = timings.flags.contains(&Flag::ClockSkew)
            || pull_request.created_at.is_some_and(|created| end < created);
        assert!(
            start >= end || is_misdated,
            "no segment from {start} to {end}: {timings:?}"
        );
        return;
    };
    assert_eq!((first.from, last.to), (start, end), "{segments:?}");
    assert!(
        segments.windows(2).all(|two| two[0].to == two[1].from),
        "segments overlap or leave a gap: {segments:?}"
    );
}
