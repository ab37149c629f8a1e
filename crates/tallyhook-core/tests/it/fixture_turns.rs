//! The turns, requests and rounds of the shipped fixtures are those that stand beside them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::waiting::{PairEnd, Turns, turns};
use tallyhook_core::event::{Event, decode};
use tallyhook_core::github::types::{PrKey, Timestamp};

const REPO: &str = "acme-corp/api-server";

/// Returns the events of the fixtures about pull requests, by time of delivery.
fn events() -> Vec<Event> {
    let fixtures = testkit::fixtures().into_iter();
    let events = fixtures.filter_map(|fixture| decode(&fixture.event, &fixture.payload).ok());
    events.collect()
}

fn known<'a>(events: impl IntoIterator<Item = &'a Event>) -> BTreeMap<PrKey, PullRequest> {
    let mut known = BTreeMap::new();
    for event in events {
        let Some(event) = event.pull_request() else {
            continue;
        };
        let pull_request = known
            .entry(event.key())
            .or_insert_with(|| PullRequest::unknown(event.key()));
        pull_request.apply(event, Source::Webhook);
    }
    known
}

/// The turns in the form of the files: one entry for each stretch of one kind.
fn as_written(turns: &Turns, as_of: Timestamp) -> Value {
    let mut stretches: Vec<Value> = Vec::new();
    for step in &turns.steps {
        if stretches
            .last()
            .is_none_or(|last| last["turn"] != step.turn.as_str())
        {
            stretches.push(json!({"turn": step.turn.as_str(), "from": step.from.to_string()}));
        }
    }
    let waiting = turns.waiting.as_ref().map(|waiting| {
        let who = waiting.who.iter();
        let who = who.map(|one| json!({"who": one.party.name(), "since": one.since.to_string()}));
        json!({
            "for": waiting.on.as_str(),
            "who": who.collect::<Vec<_>>(),
            "since": waiting.since.to_string(),
            "kind_since": waiting.kind_since.to_string(),
            "rule": waiting.rule,
        })
    });
    let time = |time: Option<Timestamp>| json!(time.map(|time| time.to_string()));
    let pairs = turns.pairs.iter().map(|pair| {
        json!({
            "party": pair.party.name(),
            "k": pair.k,
            "asked_at": pair.asked_at.to_string(),
            "end": PairEnd::as_str(pair.end),
            "ended_at": time(pair.ended_at),
            "response_review_at": time(pair.response_review_at),
            "response_any_at": time(pair.response_any_at),
        })
    });
    let seconds: BTreeMap<_, _> = turns
        .time_by(as_of)
        .into_iter()
        .map(|(turn, seconds)| (turn.as_str(), seconds))
        .collect();
    json!({
        "waiting": waiting,
        "turns": stretches,
        "time_by": seconds,
        "pairs": pairs.collect::<Vec<_>>(),
        "rounds": turns.rounds.len(),
    })
}

/// The same of a file; its hours are whole seconds.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the story is three weeks long"
)]
fn as_expected(expected: &Value) -> Value {
    let hours = expected["time_by_hours"].as_object().unwrap();
    let seconds: BTreeMap<_, _> = hours
        .iter()
        .map(|(turn, hours)| (turn, (hours.as_f64().unwrap() * 3600.0).round() as i64))
        .collect();
    let mut found = json!({"time_by": seconds});
    for name in ["waiting", "turns", "pairs", "rounds"] {
        found[name] = expected[name].clone();
    }
    found
}

/// Asserts the turns of every fixture that states them.
#[expect(clippy::disallowed_methods, reason = "the expected turns are files")]
fn assert_turns(known: &BTreeMap<PrKey, PullRequest>) {
    let mut checked = 0;
    for path in testkit::fixture_files("expected.json") {
        let expected: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let Some(as_of) = expected["as_of"].as_str() else {
            continue;
        };
        let as_of = Timestamp::parse(as_of).unwrap();
        let number = expected["number"].as_i64().unwrap();
        let pull_request = known.values().find(|one| one.key.number.0 == number);
        let rules = NumberRules::default();
        let found = turns(pull_request.unwrap(), Some(REPO), &rules, None).unwrap();
        assert_eq!(
            as_written(&found, as_of),
            as_expected(&expected),
            "{}",
            path.display()
        );
        checked += 1;
    }
    assert_eq!(checked, 16);
}

#[test]
fn every_fixture_has_its_turns_requests_and_rounds() {
    assert_turns(&known(&events()));
}

#[test]
fn order_and_repetition_of_the_fixtures_change_no_turn() {
    let events = events();
    for step in [7, 11, 29] {
        // Coprime to their number, so that each comes up; every third one comes up twice.
        let count = events.len();
        let order = (0..count).map(|place| place * step % count);
        let again = (0..count).rev().step_by(3);
        let order: Vec<_> = order.chain(again).map(|place| &events[place]).collect();
        assert_turns(&known(order));
    }
}
