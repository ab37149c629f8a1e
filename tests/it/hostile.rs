//! Whatever is in a request: its headers and its form let nothing odd through. Bodies are held by
//! `hostile` among core's tests.

use std::sync::LazyLock;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::select;
use tallyhook::ingest::{self, DeliveryHeaders, WebhookRefusal};
use tallyhook_core::event::NAMES;
use tallyhook_core::github::signature::{Secrets, Signature};

use testkit::{Fixture, laws};

static FIXTURES: LazyLock<Vec<Fixture>> = LazyLock::new(testkit::fixtures);

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
    fn any_form_is_refused_or_decoded(name in select(NAMES), body in prop::collection::vec(any::<u8>(), 0..300)) {
        let form = [b"payload=".as_slice(), &body].concat();
        let payload = ingest::form_payload(&form).unwrap();
        laws::check(name, &payload);
        prop_assert!(String::from_utf8(payload).is_ok());
        // Where it is no form with that field, it is refused and nothing else.
        prop_assert!(matches!(ingest::form_payload(&body), Ok(_) | Err(WebhookRefusal::NotJson)));
    }

    #[test]
    fn a_form_carries_its_payload_whole(fixture in any::<prop::sample::Index>(), other in "[a-oq-z]{1,9}") {
        let Fixture { payload, .. } = fixture.get(&FIXTURES);
        let text = std::str::from_utf8(payload).unwrap();
        let form = form_urlencoded::Serializer::new(String::new()).append_pair(&other, "{}").append_pair("payload", text).finish();
        prop_assert_eq!(&ingest::form_payload(form.as_bytes()).unwrap(), payload);
    }

    #[test]
    fn odd_headers_are_refused(
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

/// One parse of the published signature, so that the property above is about signatures at all.
#[test]
fn a_right_signature_is_accepted() {
    let header = format!("sha256={}", "0f".repeat(32));
    let headers = headers(&[("x-hub-signature-256", header.as_bytes())]);
    assert_eq!(ingest::signature(&headers).ok(), Signature::parse(&header));
}
