//! Bodies that were stored before the endpoint refused them, or that only some readers of JSON
//! take: `deliveries export` leaves them out and says so, `deliveries show` shows them as text.

use chrono::Utc;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_store::{AcceptOutcome, NewDelivery, NewState, StoredBody};

use testkit::process::{run, tallyhook};
use testkit::{Place, TestServer};

/// Stores bodies as they are, finished.
async fn stored(bodies: &[(String, Vec<u8>)]) -> Place {
    let server = TestServer::start().await;
    for (guid, body) in bodies {
        let delivery = NewDelivery {
            guid: guid.clone(),
            body_sha256: Sha256::digest(body).into(),
            event: "pull_request".to_owned(),
            action: None,
            repo: None,
            pr_number: None,
            source: Source::Webhook,
            lane: Lane::Live,
            received_at: Utc::now(),
            body: StoredBody::compress(body).unwrap(),
            state: NewState::Ignored {
                reason: "of a test".to_owned(),
            },
        };
        let accepted = server.running.store.accept(delivery).await.unwrap();
        assert!(matches!(accepted, AcceptOutcome::Stored(_)));
    }
    server.stop().await
}

fn odd_bodies() -> Vec<Vec<u8>> {
    let deep = format!(
        "{{\n\"a\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    vec![
        b"{\"unused\":\"\xff\"}".to_vec(),
        b"{\"unused\":\"\xc3\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\n\"a\":\"\\ud83d\"}".to_vec(),
        b"{\"a\":\"\\udc00\"\r\n}".to_vec(),
        b"{\n\"a\":1e400}".to_vec(),
        b"{\n\"a\":[-1e999]}".to_vec(),
        deep.into_bytes(),
        b"no JSON".to_vec(),
        Vec::new(),
    ]
}

#[tokio::test]
async fn export_leaves_odd_bodies_out_and_says_how_many() {
    let mut bodies: Vec<_> = (0..90)
        .map(|place| {
            (
                format!("plain-{place}"),
                format!("{{\n\"number\":{place}}}").into_bytes(),
            )
        })
        .collect();
    for (place, body) in odd_bodies().into_iter().enumerate() {
        bodies.insert(place * 10, (format!("odd-{place}"), body));
    }
    let place = stored(&bodies).await;
    let export = |arguments: &[&str]| {
        let arguments = [&["deliveries", "export"], arguments].concat();
        run(&mut tallyhook(place.path(), &arguments))
    };
    let ended = export(&[]);
    ended.failed_after_output(1, &["10 of 100 deliveries", "`deliveries show`"]);
    let numbers: Vec<_> = ended
        .stdout
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["request"]["payload"]["number"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(numbers, (0..90).collect::<Vec<_>>());
    export(&["--output", "all.jsonl"]).failed(1, &["10 of 100 deliveries"]);
    let written = std::fs::read_to_string(place.path().join("all.jsonl")).unwrap();
    assert_eq!(written, ended.stdout);
}

#[tokio::test]
async fn odd_body_is_shown_as_text() {
    let mut bodies = odd_bodies();
    bodies.push(format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes());
    bodies.push(b"{\"a\":\"\\ud83d\"}".to_vec());
    bodies.push(b"{\"\x1b]0;title\x07\":\"\xff\"}".to_vec());
    let guids = (0..bodies.len()).map(|place| format!("odd-{place}"));
    let bodies: Vec<_> = guids.zip(bodies).collect();
    let place = stored(&bodies).await;
    for (guid, body) in &bodies {
        let shown = run(&mut tallyhook(place.path(), &["deliveries", "show", guid])).ok();
        assert!(
            !shown.contains(|c: char| c.is_control() && c != '\n'),
            "{guid}"
        );
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let text = String::from_utf8_lossy(body);
        assert_eq!(shown["payload"].as_str(), Some(&*text), "{guid}");
    }
}
