//! The turns: the cases of the definition, its laws, and a second implementation.

mod cases;
mod laws;
mod oracle;
mod requests;

use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::waiting::{self, Turns};
use tallyhook_core::event::PullRequestEvent;
use tallyhook_core::github::types::Timestamp;
use testkit::histories;
use testkit::reviewing::CREATED;

/// Applies events in that order.
fn after<'a>(events: impl IntoIterator<Item = &'a PullRequestEvent>) -> PullRequest {
    let mut pull_request = PullRequest::unknown(histories::KEY);
    for event in events {
        pull_request.apply(event, Source::Webhook);
    }
    pull_request
}

fn turns(pull_request: &PullRequest, as_of: Option<Timestamp>) -> Turns {
    waiting::turns(pull_request, None, &NumberRules::default(), as_of).unwrap()
}

/// The time that many seconds after the creation.
fn time(second: i64) -> Timestamp {
    Timestamp::clamped(CREATED + second)
}

/// The seconds from the creation to a time.
fn second(at: Timestamp) -> i64 {
    at.epoch() - CREATED
}
