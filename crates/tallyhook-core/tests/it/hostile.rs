//! Whatever is in a body: nothing panics, and what decodes keeps the laws. `fuzz/` asks the same for longer.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use tallyhook_core::event::{self, NAMES, Undecodable};

use testkit::Fixture;
use testkit::laws;

static FIXTURES: LazyLock<Vec<(Fixture, Value)>> = LazyLock::new(|| {
    let fixtures = testkit::fixtures()
        .into_iter()
        .filter(|fixture| NAMES.contains(&fixture.event.as_str()));
    let parsed = fixtures.map(|fixture| {
        let payload = serde_json::from_slice(&fixture.payload).unwrap();
        (fixture, payload)
    });
    parsed.collect()
});

/// The fields that are read; mutations of others would say little.
const READ: [&str; 47] = [
    "action",
    "number",
    "pull_request",
    "review",
    "comment",
    "issue",
    "repository",
    "sender",
    "label",
    "milestone",
    "assignee",
    "requested_reviewer",
    "requested_team",
    "changes",
    "reason",
    "before",
    "after",
    "ref",
    "merge_group",
    "installation",
    "id",
    "login",
    "type",
    "title",
    "body",
    "state",
    "draft",
    "user",
    "html_url",
    "created_at",
    "updated_at",
    "closed_at",
    "merged_at",
    "labels",
    "head",
    "base",
    "additions",
    "commits",
    "sha",
    "repo",
    "submitted_at",
    "commit_id",
    "pull_request_review_id",
    "full_name",
    "pushed_at",
    "name",
    "from",
];

#[derive(Clone, Debug)]
enum Mutation {
    Replace(Value),
    Remove,
    Wrap,
    /// Takes the value that stands at another place.
    Copy(prop::sample::Index),
}

fn hostile_value() -> impl Strategy<Value = Value> {
    let fixed = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!(0.5),
        json!(""),
        json!("open"),
        json!("closed"),
        json!("dismissed"),
        json!("approved"),
        json!("-"),
        json!("\u{0}\u{202e}\u{1f600}"),
        json!("0001-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:59Z"),
        json!("2026-02-30T25:61:61Z"),
        json!("1969-12-31T23:59:60+23:59"),
        json!([]),
        json!({}),
        json!([null]),
        json!({"id": 1, "login": "x", "name": "y"}),
    ];
    prop_oneof![
        4 => select(fixed),
        2 => (0_i64..4_000_000_000).prop_map(Value::from),
        2 => (1_772_000_000_i64..1_773_000_000).prop_map(|at| json!(testkit::payloads::rfc3339(at))),
        1 => ".{0,40}".prop_map(Value::from),
        1 => any::<f64>().prop_map(|number| json!(number)),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        5 => hostile_value().prop_map(Mutation::Replace),
        2 => Just(Mutation::Remove),
        1 => Just(Mutation::Wrap),
        2 => any::<prop::sample::Index>().prop_map(Mutation::Copy),
    ]
}

/// The pointers to every value under a key that is read.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let path = format!("{path}/{key}");
                places(field, &path, found);
                if READ.contains(&key.as_str()) {
                    found.push(path);
                }
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                places(item, &format!("{path}/{place}"), found);
            }
        }
        _ => {}
    }
}

fn mutate(payload: &mut Value, at: prop::sample::Index, mutation: Mutation) {
    let mut found = Vec::new();
    places(payload, "", &mut found);
    if found.is_empty() {
        return;
    }
    let path = at.get(&found);
    let (parent, key) = path.rsplit_once('/').unwrap();
    let copied = match &mutation {
        Mutation::Copy(from) => payload.pointer(from.get::<String>(&found)).cloned(),
        _ => None,
    };
    let Some(fields) = payload.pointer_mut(parent).and_then(Value::as_object_mut) else {
        return;
    };
    match mutation {
        Mutation::Replace(value) => drop(fields.insert(key.to_owned(), value)),
        Mutation::Remove => drop(fields.remove(key)),
        Mutation::Wrap => {
            let inner = fields.remove(key).unwrap_or_default();
            fields.insert(key.to_owned(), json!([inner]));
        }
        Mutation::Copy(_) => drop(fields.insert(key.to_owned(), copied.unwrap_or_default())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn real_payloads_with_wrong_values_keep_the_laws(
        fixture in any::<prop::sample::Index>(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), mutation()), 1..5),
        told_as in prop::option::weighted(0.1, select(NAMES)),
    ) {
        let (Fixture { event, .. }, payload) = fixture.get(&FIXTURES);
        let mut payload = payload.clone();
        for (at, mutation) in mutations {
            mutate(&mut payload, at, mutation);
        }
        let body = payload.to_string();
        let name = told_as.unwrap_or(event);
        if laws::check(name, body.as_bytes()).is_none() {
            let refused = event::decode(name, body.as_bytes()).unwrap_err();
            prop_assert!(!matches!(refused, Undecodable::NotJson(_) | Undecodable::UnusedEvent(_)), "{refused}");
        }
    }

    #[test]
    fn damaged_bytes_never_panic(
        fixture in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (Fixture { event, payload, .. }, _) = fixture.get(&FIXTURES);
        let mut body = payload.clone();
        for (at, byte) in damage {
            let place = at.index(body.len());
            body[place] = byte;
        }
        body.truncate(cut.map_or(body.len(), |cut| cut.index(payload.len())));
        laws::check(event, &body);
    }

    #[test]
    fn any_bytes_are_refused_or_decoded(name in select(NAMES), body in prop::collection::vec(any::<u8>(), 0..300)) {
        laws::check(name, &body);
    }

}

/// Deep bodies are refused or passed over; the stack is never what decides.
#[test]
fn deep_bodies_do_not_exhaust_the_stack() {
    for depth in [100, 127, 128, 129, 100_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let (_, payload) = &FIXTURES[0];
            let unread =
                payload
                    .to_string()
                    .replacen('{', &format!(r#"{{"custom_properties":{deep},"#), 1);
            let read = payload
                .to_string()
                .replacen('{', &format!(r#"{{"label":{deep},"#), 1);
            assert!(
                laws::check("pull_request", unread.as_bytes()).is_some(),
                "{depth}"
            );
            for name in NAMES {
                laws::check(name, read.as_bytes());
                assert!(
                    laws::check(name, deep.as_bytes()).is_none(),
                    "{name} {depth}"
                );
            }
        }
    }
}

/// Valid JSON of another shape is kept for a person to inspect, even if serde reports the mistake as
/// one of syntax; anything else is refused as no JSON.
#[test]
fn json_of_another_shape_is_undecodable_not_invalid_json() {
    let told = |from: &str, to: &str| {
        let (Fixture { event, .. }, payload) = &FIXTURES[0];
        let body = payload.to_string();
        assert!(body.contains(from), "{from}");
        event::decode(event, body.replacen(from, to, 1).as_bytes()).unwrap_err()
    };
    assert!(matches!(
        told(r#""state":"open""#, r#""state":["open"]"#),
        Undecodable::Shape(_)
    ));
    assert!(matches!(
        told(r#""state":"open""#, r#""state":[open]"#),
        Undecodable::NotJson(_)
    ));
    let mut body = FIXTURES[0].1.to_string().into_bytes();
    let place = body
        .windows(9)
        .position(|window| window == br#""title":""#)
        .unwrap();
    body[place + 9] = 0xff;
    assert!(matches!(
        event::decode("pull_request", &body),
        Err(Undecodable::NotJson(_))
    ));
}

/// Found by the property above: a closing dated before the creation counted time that no other stage lost.
#[test]
fn what_happened_before_the_creation_takes_no_time() {
    let merged = FIXTURES
        .iter()
        .filter(|(_, payload)| payload["pull_request"]["merged"] == true);
    let told = merged.map(|(Fixture { event, .. }, payload)| {
        let mut payload = payload.clone();
        payload["pull_request"]["closed_at"] = json!(0);
        assert!(laws::check(event, payload.to_string().as_bytes()).is_some());
    });
    assert!(told.count() > 10);
}

/// A name that stands twice is a mistake of the sender, for a person to look at.
#[test]
fn a_repeated_field_is_no_event() {
    let (Fixture { event, .. }, payload) = &FIXTURES[0];
    let twice = payload
        .to_string()
        .replacen('{', r#"{"pull_request":null,"#, 1);
    assert!(matches!(
        event::decode(event, twice.as_bytes()),
        Err(Undecodable::Shape(_))
    ));
}

#[test]
fn body_of_another_event_is_refused_for_its_missing_field() {
    for (_, payload) in FIXTURES.iter() {
        for name in NAMES {
            laws::check(name, payload.to_string().as_bytes());
        }
    }
    let empty = Value::Object(Map::new()).to_string();
    for name in NAMES {
        assert!(
            matches!(
                event::decode(name, empty.as_bytes()),
                Err(Undecodable::Shape(_))
            ),
            "{name}"
        );
    }
}

/// A body is one event, under any name of a header: it decodes under one at most.
#[test]
fn body_decodes_under_its_own_name_alone() {
    let (mut ambiguous, mut undecoded) = (Vec::new(), Vec::new());
    for (Fixture { event, .. }, payload) in FIXTURES.iter() {
        let body = payload.to_string();
        let names = names_of(body.as_bytes());
        match names[..] {
            [] => undecoded.push(event),
            [only] if only == event => {}
            _ => ambiguous.push(format!("{event}: {names:?}")),
        }
    }
    // Comments on issues decode under no name.
    assert!(undecoded.iter().all(|event| *event == "issue_comment") && undecoded.len() < 5);
    assert_eq!(ambiguous, Vec::<String>::new(), "of {}", FIXTURES.len());
}

fn names_of(body: &[u8]) -> Vec<&'static str> {
    let decodes = |name: &&str| event::decode(name, body).is_ok();
    NAMES.iter().copied().filter(decodes).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same for parts of several payloads in one.
    #[test]
    fn mixed_payloads_decode_under_one_name_at_most(
        parts in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..4),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), mutation()), 0..3),
    ) {
        let mut mixed = Map::new();
        for (fixture, kept) in parts {
            let (_, payload) = fixture.get(&FIXTURES);
            let fields = payload.as_object().unwrap().iter().enumerate();
            let fields = fields.filter(|(place, _)| kept & (1 << (place % 32)) != 0);
            mixed.extend(fields.map(|(_, (name, field))| (name.clone(), field.clone())));
        }
        let mut mixed = Value::Object(mixed);
        for (at, mutation) in mutations {
            mutate(&mut mixed, at, mutation);
        }
        let names = names_of(mixed.to_string().as_bytes());
        prop_assert!(names.len() <= 1, "{names:?}");
    }
}
