//! What holds for every body, however it came about. Shared by `tests/hostile.rs` and the targets of `fuzz/`.

use std::sync::LazyLock;

use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::pull_request::{Outcome, PullRequest, Source};
use tallyhook_core::domain::repository;
use tallyhook_core::domain::timings::{State, timings};
use tallyhook_core::event::{self, Event, PullRequestEvent};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};

/// A story with a draft, two reviews, a push and a merge, for bodies to be told on top of.
const STORY: &str = include_str!("../../fixtures/02-draft-then-ready.jsonl");

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

/// Decodes `body` as `name`. What decodes can be applied, alone or after a story, and again, and its stages add up.
///
/// # Panics
/// If a law is broken, or the code under test panics.
pub(crate) fn check(name: &str, body: &[u8]) -> Option<Event> {
    let event = event::decode(name, body).ok()?;
    drop(repository::observed(&event, Timestamp::clamped(0)));
    if let Some(told) = event.pull_request() {
        applies(PullRequest::unknown(told.key()), told);
        applies(KNOWN.clone(), told);
    }
    let sent = serde_json::to_string(&event).expect("an event can be written");
    let read: Event = serde_json::from_str(&sent).expect("an event that was written can be read");
    assert_eq!(read, event, "an event comes back from the queue as it was");
    Some(event)
}

fn applies(mut pull_request: PullRequest, told: &PullRequestEvent) {
    pull_request.apply(told, Source::Webhook);
    let once = pull_request.clone();
    let outcome = pull_request.apply(told, Source::Webhook);
    assert_eq!(
        (outcome, &pull_request),
        (Outcome::Unchanged, &once),
        "a repetition changes something"
    );
    stages_add_up(&pull_request);
}

/// The stages of a merged pull request add up to the span from its start to its merge, to the second.
fn stages_add_up(pull_request: &PullRequest) {
    let Some(timings) = timings(pull_request, &Bots::default()) else {
        return;
    };
    let stages = timings.stages;
    let steps: i64 = timings.steps.iter().map(|step| step.seconds).sum();
    assert_eq!(
        steps,
        stages.total(),
        "the explanation tells of another time than the stages"
    );
    if timings.state != State::Merged {
        assert_eq!(steps, 0, "only what is merged has stages");
        return;
    }
    let moment = |at: Option<tallyhook_core::github::types::Timestamp>| {
        at.expect("a merged pull request has it").epoch()
    };
    let start = match stages.coding {
        Some(_) => moment(timings.first_commit_at.or(pull_request.created_at)),
        None => moment(timings.ready_at),
    };
    assert_eq!(
        stages.total(),
        moment(pull_request.merged_at) - start,
        "{stages:?}"
    );
}
