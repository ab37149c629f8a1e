//! The forms in which people have recorded deliveries.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::events::{Fields, event_of, is_payload, known};
use super::files::RecordingFile;
use super::values::json_of;
use super::{RecordedDelivery, guid_of};

/// Arrays of arrays, as `gh api --paginate --slurp` makes them, are not deeper.
const MAX_DEPTH: usize = 3;
/// The longest header that a server takes.
const MAX_HEADER: usize = 100;

/// The kinds of JSON that are no delivery.
const NO_OBJECT: &str = "values that are no object";
const NO_DELIVERY: &str = "objects that are no delivery";
const NO_PAYLOAD: &str = "deliveries without their payload, as GitHub lists them (`tallyhook \
                          recover` fetches those that failed)";
const NO_EVENT: &str = "payloads that do not show their event (--event sets it)";
const NO_JSON_PAYLOAD: &str = "deliveries whose payload is no JSON object";
const EVENTS_API: &str = "entries of GitHub's Events API, which are no webhooks";
const HAR: &str = "HAR archives";

/// A part of a recording, read.
pub(super) enum Shape {
    Delivery(RecordedDelivery),
    /// Not a delivery, but something of that kind.
    Other(&'static str),
}

impl RecordingFile<'_> {
    /// Reads one JSON value of this file: one delivery, or a list of some.
    pub(super) fn read_value<'t>(
        &self,
        value: &'t RawValue,
        depth: usize,
        found: &mut Vec<(&'t RawValue, Shape)>,
    ) {
        if value.get().starts_with('[') && depth < MAX_DEPTH {
            let items: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
            for item in items {
                self.read_value(item, depth + 1, found);
            }
            return;
        }
        let Ok(fields) = serde_json::from_str::<Fields<'t>>(value.get()) else {
            found.push((value, Shape::Other(NO_OBJECT)));
            return;
        };
        // Octokit's examples: a list of payloads under the name of their event.
        let examples = part::<Vec<&RawValue>>(&fields, "examples");
        if let (Some(event), Some(examples)) = (text(&fields, &["name"]), examples) {
            for example in examples {
                found.push((example, self.delivery(Wrapper::of_event(&event), example)));
            }
            return;
        }
        found.push((value, self.read_object(value, &fields)));
    }

    fn read_object(&self, value: &RawValue, fields: &Fields<'_>) -> Shape {
        let has = |name: &str| field(fields, &[name]).is_some();
        let is_of_events_api =
            text(fields, &["type"]).is_some_and(|kind| kind.ends_with("Event")) && has("payload");
        if is_of_events_api && has("actor") {
            return Shape::Other(EVENTS_API);
        } else if part::<Fields<'_>>(fields, "log").is_some_and(|log| log.contains_key("entries")) {
            return Shape::Other(HAR);
        }
        match Wrapper::read(fields) {
            Some((wrapper, Some(payload))) => self.delivery(wrapper, payload),
            Some((_, None)) => Shape::Other(NO_PAYLOAD),
            None => self.delivery(Wrapper::default(), value),
        }
    }

    /// Returns the delivery of a payload. The wrapper's event counts; of a bare payload that of
    /// `--event`, or else what it shows.
    fn delivery(&self, wrapper: Wrapper, payload: &RawValue) -> Shape {
        let Some(payload) = payload_json(payload) else {
            return Shape::Other(match wrapper.is_bare {
                true => NO_DELIVERY,
                false => NO_JSON_PAYLOAD,
            });
        };
        let shown = || {
            let payload: &RawValue = serde_json::from_str(&payload).ok()?;
            event_of(payload, self.path).map(str::to_owned)
        };
        let event = wrapper.event.or_else(|| self.event.map(str::to_owned));
        let Some(event) = event.or_else(shown) else {
            return Shape::Other(match is_payload(&payload) {
                true => NO_EVENT,
                false => NO_DELIVERY,
            });
        };
        let payload = payload.into_bytes();
        Shape::Delivery(RecordedDelivery {
            guid: wrapper.guid.unwrap_or_else(|| guid_of(&event, &payload)),
            event,
            delivered_at: wrapper.delivered_at,
            payload,
        })
    }
}

/// The statements of a recording about its payload.
#[derive(Debug)]
struct Wrapper {
    is_bare: bool,
    event: Option<String>,
    guid: Option<String>,
    delivered_at: Option<String>,
}

impl Default for Wrapper {
    fn default() -> Self {
        Self {
            is_bare: true,
            event: None,
            guid: None,
            delivered_at: None,
        }
    }
}

impl Wrapper {
    fn of_event(event: &str) -> Self {
        Self {
            is_bare: false,
            event: known_or_none(event),
            ..Self::default()
        }
    }

    /// Reads an object that has a payload, or should; `None` for any other.
    fn read<'t>(fields: &Fields<'t>) -> Option<(Self, Option<&'t RawValue>)> {
        let request = part::<Fields<'t>>(fields, "request");
        let is_of_api =
            has_all(fields, &["guid"]) && (request.is_some() || has_all(fields, &["event"]));
        let within = request.as_ref().unwrap_or(fields);
        let own_headers = part::<Fields<'t>>(within, "headers").or_else(|| part(within, "header"));
        // smee.io puts the headers beside the body.
        let headers = own_headers.as_ref().unwrap_or(within);
        let event = text(headers, &["x-github-event"]).filter(|event| is_header(event));
        let stated = text(fields, &["event", "event_name", "name"]);
        // GitHub Actions has a payload as `event`, beside its name.
        let of_actions = || field(fields, &["event_name"]).and(field(fields, &["event"]));
        let payload = field(within, &["payload", "body", "content", "data"]).or_else(of_actions);
        let has_headers = own_headers.is_some() && payload.is_some();
        let is_of_probot = has_all(fields, &["payload"]) && field(fields, &["action"]).is_none();
        let is_wrapper =
            event.is_some() || is_of_api || has_headers || is_of_probot || of_actions().is_some();
        let wrapper = Self {
            is_bare: false,
            event: event.or_else(|| known_or_none(&stated?)),
            guid: text(headers, &["x-github-delivery"])
                .or_else(|| text(fields, &["guid", "delivery", "id"]))
                .filter(|guid| is_header(guid)),
            delivered_at: text(fields, &["delivered_at"]),
        };
        is_wrapper.then_some((wrapper, payload))
    }
}

/// Returns the event of a name such as `pull_request` or Probot's `pull_request.opened`.
fn known_or_none(name: &str) -> Option<String> {
    known(name.split('.').next()?).map(str::to_owned)
}

fn is_header(text: &str) -> bool {
    (1..=MAX_HEADER).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Returns the field of the first of these names that is there, in any letter case, and not null.
fn field<'t>(fields: &Fields<'t>, names: &[&str]) -> Option<&'t RawValue> {
    let is_set = |value: &&RawValue| value.get() != "null";
    names.iter().find_map(|name| {
        let found = fields
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value).filter(is_set)
    })
}

fn has_all(fields: &Fields<'_>, names: &[&str]) -> bool {
    names.iter().all(|name| field(fields, &[name]).is_some())
}

/// Returns a field that has this form.
fn part<'t, T: serde::Deserialize<'t>>(fields: &Fields<'t>, name: &str) -> Option<T> {
    serde_json::from_str(field(fields, &[name])?.get()).ok()
}

/// Returns a text, or the first of a list of texts, as which some libraries write a header.
fn text(fields: &Fields<'_>, names: &[&str]) -> Option<String> {
    fn read<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
        serde_json::from_str(value.get()).ok()
    }
    names.iter().find_map(|name| {
        let value = field(fields, &[name])?;
        read::<String>(value).or_else(|| read::<Vec<String>>(value)?.into_iter().next())
    })
}

/// Returns a payload as JSON text; `None` if it is no object, nor a text that holds one as JSON, as
/// a form or in Base64.
fn payload_json(payload: &RawValue) -> Option<String> {
    let is_object = |text: &str| text.trim_start().starts_with('{');
    if is_object(payload.get()) {
        return Some(payload.get().to_owned());
    }
    let text: String = serde_json::from_str(payload.get()).ok()?;
    let decoded = || String::from_utf8(BASE64.decode(text.trim()).ok()?).ok();
    let json = [json_of(&text).into_owned(), decoded().unwrap_or_default()]
        .into_iter()
        .find(|text| is_object(text))?;
    serde_json::from_str::<&RawValue>(&json)
        .is_ok()
        .then_some(json)
}

#[cfg(test)]
mod tests {
    use super::super::Recordings;
    use super::*;

    const PAYLOAD: &str =
        r#"{"action":"opened","pull_request":{"number":1}, "repository":{"id":5}}"#;

    fn read(text: &str) -> Recordings {
        let mut found = Recordings::default();
        RecordingFile::new("x").read_text(text, None, &mut found);
        found
    }

    #[test]
    fn every_wrapper_gives_its_payload_byte_for_byte() {
        let quoted = serde_json::to_string(PAYLOAD).unwrap();
        let base64 = BASE64.encode(PAYLOAD);
        let form: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("payload", PAYLOAD)
            .finish();
        for text in [
            // GitHub's deliveries API, as it is, without headers, and paged.
            format!(
                r#"{{"guid":"g","event":"pull_request","request":{{"headers":{{"x-github-event":"pull_request"}},"payload":{PAYLOAD}}}}}"#
            ),
            format!(
                r#"{{"guid":"g","event":"pull_request","request":{{"headers":null,"payload":{PAYLOAD}}}}}"#
            ),
            format!(r#"[[{{"guid":"g","request":{{"payload":{PAYLOAD}}}}}]]"#),
            // Probot, Octokit, GitHub Actions, smee.io, and recorders of HTTP.
            format!(r#"{{"id":"g","name":"pull_request","payload":{PAYLOAD}}}"#),
            format!(r#"{{"id":"g","event":"pull_request.opened","payload":{PAYLOAD}}}"#),
            format!(r#"{{"id":"g","event_name":"pull_request_target","event":{PAYLOAD}}}"#),
            format!(
                r#"{{"x-github-event":"pull_request","x-github-delivery":"g","body":{PAYLOAD},"query":{{}}}}"#
            ),
            format!(
                "id: 1\ndata: {{\"x-github-event\":\"pull_request\",\"x-github-delivery\":\"g\",\"body\":{PAYLOAD}}}\n\n"
            ),
            format!(
                r#"{{"headers":{{"X-GitHub-Event":["pull_request"],"X-GitHub-Delivery":["g"]}},"body":{quoted}}}"#
            ),
            format!(
                r#"{{"Header":{{"X-GitHub-Event":["pull_request"],"X-GitHub-Delivery":["g"]}},"Body":"{base64}"}}"#
            ),
            format!(
                r#"{{"headers":{{"X-GitHub-Event":"pull_request","X-GitHub-Delivery":"g"}},"body":"{form}"}}"#
            ),
        ] {
            let found = read(&text);
            let expected = RecordedDelivery {
                event: "pull_request".to_owned(),
                guid: "g".to_owned(),
                delivered_at: None,
                payload: PAYLOAD.into(),
            };
            assert_eq!(found.deliveries, [expected], "{text}");
            assert_eq!(found.problems().count(), 0, "{text}");
        }
    }

    #[test]
    fn bare_payloads_are_read_and_have_a_stable_guid() {
        let form: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("payload", PAYLOAD)
            .finish();
        let examples =
            format!(r#"[{{"name":"pull_request","description":"","examples":[{PAYLOAD}]}}]"#);
        let mut guids = Vec::new();
        for text in [PAYLOAD, &form, &examples, &format!("[{PAYLOAD}]")] {
            let found = read(text);
            let [delivery] = &found.deliveries[..] else {
                panic!("{text}: {:?}", found.remarks());
            };
            assert_eq!(delivery.payload, PAYLOAD.as_bytes());
            guids.push(delivery.guid.clone());
        }
        assert_eq!(guids, vec![guid_of("pull_request", PAYLOAD.as_bytes()); 4]);
        assert_ne!(guid_of("ping", b"{}"), guid_of("push", b"{}"));
    }

    #[test]
    fn everything_else_is_named() {
        for (text, kind) in [
            (
                r#"{"id":1,"guid":"g","event":"push","delivered_at":"t","action":null}"#,
                NO_PAYLOAD,
            ),
            (
                r#"{"guid":"g","event":"push","request":{"headers":{},"payload":null}}"#,
                NO_PAYLOAD,
            ),
            (
                r#"{"guid":"g","event":"push","request":{"headers":{},"payload":"what"}}"#,
                NO_JSON_PAYLOAD,
            ),
            (
                r#"{"guid":"g","request":{"headers":{},"payload":{}}}"#,
                NO_DELIVERY,
            ),
            (
                r#"{"id":"1","type":"PushEvent","actor":{},"repo":{},"payload":{}}"#,
                EVENTS_API,
            ),
            (r#"{"log":{"entries":[]}}"#, HAR),
            (r#"{"name":"x","version":"1"}"#, NO_DELIVERY),
            (r#"{"action":"x"}"#, NO_EVENT),
            ("7", NO_OBJECT),
            ("[[[[[]]]]]", NO_OBJECT),
        ] {
            let found = read(text);
            let kinds: Vec<_> = found.left_out.keys().copied().collect();
            assert_eq!((found.deliveries.len(), kinds), (0, vec![kind]), "{text}");
        }
    }
}
