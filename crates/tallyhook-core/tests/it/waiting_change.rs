//! Changes of waiting: one for each change of the parties, in any order of the deliveries.

use std::collections::BTreeSet;
use std::slice::from_ref;

use proptest::prelude::*;
use proptest::sample::Index;
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::domain::apply::{ApplyRules, DecodedDelivery, apply_batch};
use tallyhook_core::domain::notification::SyncSource;
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::domain::recording::StoredPullRequest;
use tallyhook_core::domain::task::Patterns;
use tallyhook_core::domain::waiting::{Party, Turn, TurnStep, Turns, Waiter, Waiting, WaitingFor};
use tallyhook_core::domain::waiting_change::{WaitedFor, WaitedParty, WaitingChange};
use tallyhook_core::event::{Event, PullRequestEvent};
use tallyhook_core::github::types::{AccountId, Timestamp};

use testkit::histories;

fn rules() -> ApplyRules {
    ApplyRules {
        numbers: NumberRules::default(),
        patterns: Patterns::parse(Patterns::DEFAULT).unwrap(),
        tracks_pushes: false,
        tracks_waiting: true,
    }
}

/// Applies an event to what is stored. Returns what is stored then, and the change.
fn apply(
    stored: &mut StoredPullRequest,
    waiting: &mut Option<WaitedFor>,
    event: &PullRequestEvent,
) -> Option<WaitingChange> {
    let event = Event::PullRequest(event.clone());
    let delivery = DecodedDelivery {
        id: DeliveryId(1),
        source: Source::Webhook,
        received_at: chrono::DateTime::UNIX_EPOCH,
        event: &event,
    };
    let mut write = apply_batch(&[delivery], vec![stored.clone()], &rules()).write;
    if let Some(record) = write.pull_requests.pop() {
        let turns = record.numbers.as_ref().map(|numbers| &numbers.turns);
        let now = turns.and_then(|turns| turns.waiting.as_ref());
        *waiting = now.map(WaitedFor::from);
        *stored = record.known;
    }
    assert!(write.waits.len() <= 1);
    write.waits.pop()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each change begins with the parties of the one before, ends with those that are waited for,
    /// and a repetition of everything is none.
    #[test]
    fn changes_follow_the_waiting_in_any_order(
        draft in any::<bool>(),
        steps in histories::steps(),
        keys in prop::collection::vec(any::<u32>(), 32),
        repeated in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let in_order = histories::events(draft, Some(500), &steps);
        let mut shuffled: Vec<_> = in_order.iter().chain(repeated.iter().map(|index| index.get(&in_order))).collect();
        let mut keys = keys.into_iter().cycle();
        shuffled.sort_by_cached_key(|_| keys.next());
        let (mut stored, mut waiting) = (StoredPullRequest::unknown(histories::KEY), None);
        for event in &shuffled {
            let before = waiting.clone();
            let change = apply(&mut stored, &mut waiting, event);
            if let Some(WaitingChange { parties, .. }) = &change {
                prop_assert_eq!(&parties.old, &before);
                prop_assert_eq!(Some(&parties.new), waiting.as_ref());
                prop_assert_ne!(Some(&parties.new), before.as_ref());
            } else {
                let is_same = waiting.is_none() || parties(waiting.as_ref()) == parties(before.as_ref());
                prop_assert!(is_same, "{:?} {:?}", before, waiting);
            }
        }
        let end = waiting.clone();
        for event in &in_order {
            prop_assert_eq!(apply(&mut stored, &mut waiting, event), None);
        }
        prop_assert_eq!(waiting, end);
    }
}

/// Returns the kind of party, and its names in an order of their own.
fn parties(waiting: Option<&WaitedFor>) -> Option<(WaitingFor, BTreeSet<String>)> {
    let waiting = waiting?;
    let names = waiting.who.iter().map(|party| format!("{party:?}"));
    Some((waiting.on, names.collect()))
}

fn second(at: i64) -> Timestamp {
    Timestamp::clamped(1_772_500_000 + at)
}

fn account(id: i64, login: &str) -> Party {
    Party::Account {
        id: AccountId(id),
        login: login.to_owned(),
    }
}

/// The turns of a pull request: parties with the beginnings of their steps.
fn turns(steps: &[(&[Party], i64)], since: i64) -> Turns {
    let step = |(who, from): &(&[Party], i64)| TurnStep {
        turn: Turn::Reviewers,
        who: who.to_vec(),
        from: second(*from),
        to: None,
        because: String::new(),
    };
    let who = steps.last().unwrap().0.iter();
    let who = who.map(|party| Waiter {
        party: party.clone(),
        since: second(since),
        because: String::new(),
    });
    Turns {
        waiting: Some(Waiting {
            on: WaitingFor::Reviewers,
            who: who.collect(),
            since: second(since),
            kind_since: second(since),
            because: "asked".to_owned(),
            rule: 7,
            also: Vec::new(),
            since_is_latest: false,
        }),
        steps: steps.iter().map(step).collect(),
        ..Turns::default()
    }
}

#[test]
fn change_is_one_of_the_parties_and_begins_with_their_step() {
    let (ines, yuki) = (account(1, "ines"), account(2, "yuki"));
    let team = Party::Team {
        id: Some(1),
        slug: "backend".to_owned(),
    };
    let of = |old: Option<&Turns>, new: &Turns| {
        let old = old.and_then(|turns| turns.waiting.as_ref());
        WaitingChange::of(histories::KEY, SyncSource::Worker, old, new)
    };
    let one = turns(&[(from_ref(&ines), 5)], 5);
    let first = of(None, &one).unwrap();
    assert_eq!((first.at, &first.parties.old), (second(5), &None));

    // The other one answered: the rest is waited for in this way since then, two reasons long.
    let both = turns(&[(&[ines.clone(), yuki.clone()], 5)], 5);
    let left: &[Party] = from_ref(&yuki);
    let rest = turns(
        &[(&[ines.clone(), yuki.clone()], 5), (left, 20), (left, 30)],
        5,
    );
    let change = of(Some(&both), &rest).unwrap();
    assert_eq!(change.at, second(20));
    let logins = |who: &WaitedFor| {
        let names = who.who.iter().map(|party| match party {
            WaitedParty::Login(login) | WaitedParty::Team(login) => login.clone(),
        });
        names.collect::<BTreeSet<_>>()
    };
    assert_eq!(
        logins(&change.parties.old.unwrap()),
        BTreeSet::from(["ines".to_owned(), "yuki".to_owned()])
    );
    assert_eq!(
        logins(&change.parties.new),
        BTreeSet::from(["yuki".to_owned()])
    );

    // Another time, another login of the account, another order: none.
    let renamed = account(1, "ines-acme");
    for same in [
        turns(&[(from_ref(&ines), 9)], 9),
        turns(&[(&[renamed], 5)], 5),
    ] {
        assert_eq!(of(Some(&one), &same), None);
    }
    let mut turned = both.clone();
    turned.waiting.as_mut().unwrap().who.reverse();
    assert_eq!(of(Some(&both), &turned), None);
    // A team of the same number is another party.
    assert!(of(Some(&one), &turns(&[(&[team], 5)], 5)).is_some());
    // The end is no change.
    assert_eq!(of(Some(&one), &Turns::default()), None);
}
