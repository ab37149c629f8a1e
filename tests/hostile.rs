//! Whatever is in a body: nothing panics, and what decodes keeps the laws. `fuzz/` asks the same for longer.

#[path = "support/laws.rs"]
mod laws;
mod support;

use std::sync::LazyLock;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use tallyhook::ingest::{self, DeliveryHeaders, WebhookRefusal};
use tallyhook_core::event::{self, NAMES, Undecodable};
use tallyhook_core::github::signature::{Secrets, Signature};

use support::Fixture;

static FIXTURES: LazyLock<Vec<(Fixture, Value)>> = LazyLock::new(|| {
    let fixtures = support::fixtures()
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
        2 => (1_772_000_000_i64..1_773_000_000).prop_map(|at| json!(support::payloads::rfc3339(at))),
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

fn headers(fields: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            map.append(HeaderName::from_static(name), value);
        }
    }
    map
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn real_payloads_with_wrong_values_keep_the_laws(
        fixture in any::<prop::sample::Index>(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), mutation()), 1..5),
        told_as in prop::option::weighted(0.1, select(&NAMES[..])),
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
    fn any_bytes_are_refused_or_decoded(name in select(&NAMES[..]), body in prop::collection::vec(any::<u8>(), 0..300)) {
        laws::check(name, &body);
        let form = [b"payload=".as_slice(), &body].concat();
        let payload = ingest::form_payload(&form).unwrap();
        laws::check(name, &payload);
        prop_assert!(String::from_utf8(payload).is_ok());
        // Where it is no form with that field, it is refused and nothing else.
        prop_assert!(matches!(ingest::form_payload(&body), Ok(_) | Err(WebhookRefusal::NotJson)));
    }

    #[test]
    fn a_form_carries_its_payload_whole(fixture in any::<prop::sample::Index>(), other in "[a-oq-z]{1,9}") {
        let (Fixture { payload, .. }, _) = fixture.get(&FIXTURES);
        let text = std::str::from_utf8(payload).unwrap();
        let form = form_urlencoded::Serializer::new(String::new()).append_pair(&other, "{}").append_pair("payload", text).finish();
        prop_assert_eq!(&ingest::form_payload(form.as_bytes()).unwrap(), payload);
    }

    #[test]
    fn headers_let_nothing_odd_through(
        signature in prop_oneof!["sha256=[0-9a-fA-F]{60,68}", "(sha1|sha256|SHA256)?=?[0-9a-z ]{0,70}"],
        text in prop::collection::vec(any::<u8>(), 0..140),
        kind in "(application/json|application/x-www-form-urlencoded|text/[a-z]{1,5})(;[ -~]{0,20})?",
    ) {
        let headers = headers(&[
            ("x-hub-signature-256", signature.as_bytes()),
            ("x-github-event", &text),
            ("x-github-delivery", &text),
            ("content-type", kind.as_bytes()),
        ]);
        if let Ok(parsed) = ingest::signature(&headers) {
            prop_assert_eq!(parsed.to_header(), signature.to_lowercase());
            let verified = Secrets::single("a secret").unwrap().verify(b"{}", &parsed);
            prop_assert!(!verified);
        }
        let read = DeliveryHeaders::read(&headers);
        for value in [read.event, read.guid].into_iter().flatten() {
            prop_assert!(value.len() <= DeliveryHeaders::MAX_LENGTH && value.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        prop_assert_eq!(ingest::media_type(&headers).ok(), match kind.split(';').next() {
            Some("application/json") => Some(false),
            Some("application/x-www-form-urlencoded") => Some(true),
            _ => None,
        });
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

/// Undecodable JSON is kept as a dead letter, whatever serde's error; any other body is refused.
#[test]
fn json_of_another_shape_is_not_called_something_else() {
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
        told(r#""title":""#, r#""title":"\ud83d"#),
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

/// One parse of the published signature, so that the property above is about signatures at all.
#[test]
fn a_right_signature_is_let_through() {
    let header = format!("sha256={}", "0f".repeat(32));
    let headers = headers(&[("x-hub-signature-256", header.as_bytes())]);
    assert_eq!(ingest::signature(&headers).ok(), Signature::parse(&header));
}
