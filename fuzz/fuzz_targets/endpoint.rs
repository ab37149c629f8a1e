//! What the endpoint reads of a request: four header values and a body, separated by line feeds.
#![no_main]

use std::sync::LazyLock;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tallyhook_core::github::signature::Secrets;
use tallyhook::ingest::{self, DeliveryHeaders};

use testkit::laws;

static SECRETS: LazyLock<Secrets> = LazyLock::new(|| Secrets::parse("one\ntwo").expect("there are two"));

const NAMES: [&str; 4] = ["content-type", "x-hub-signature-256", "x-github-event", "x-github-delivery"];

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(5, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in NAMES {
        if let Ok(value) = HeaderValue::from_bytes(parts.next().unwrap_or_default()) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    let body = parts.next().unwrap_or_default();
    if let Ok(signature) = ingest::signature(&headers) {
        let header = headers.get("x-hub-signature-256").and_then(|value| value.to_str().ok()).expect("it was read");
        assert_eq!(signature.to_header(), header.to_ascii_lowercase());
        assert!(!SECRETS.verify(body, &signature), "a signature was guessed");
    }
    assert!(SECRETS.verify(body, &SECRETS.sign(body)));
    let read = DeliveryHeaders::read(&headers);
    for text in [&read.event, &read.guid].into_iter().flatten() {
        assert!(text.len() <= DeliveryHeaders::MAX_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let event = read.event.unwrap_or_default();
    match ingest::media_type(&headers) {
        Ok(true) => {
            if let Ok(payload) = ingest::form_payload(body) {
                laws::check(&event, &payload);
            }
        }
        Ok(false) => drop(laws::check(&event, body)),
        Err(_) => {}
    }
});
