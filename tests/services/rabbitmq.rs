//! Behaviour with a broker only: messages for subscribers, copies of dead letters, and deliveries
//! while it is away.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tallyhook::app::{RoleSet as Roles, ServerOptions};
use tallyhook::config::Config;
use tallyhook_core::event::message;
use tallyhook_store::{DeliveryFilter, DeliveryState};

use testkit::broker::Broker;
use testkit::{Fixture, Place, TestServer};

async fn start(url: &str, folder: Place) -> TestServer {
    let config = Config {
        amqp_url: Some(url.to_owned()),
        ..testkit::config(&folder)
    };
    TestServer::start_as(&config, folder, ServerOptions::default()).await
}

async fn post_all(server: &TestServer, deliveries: &[Fixture]) {
    for one in deliveries {
        let (status, answer) = server.post(&one.event, &one.guid, &one.payload).await;
        assert!(status == 202 || status == 200, "{answer}");
    }
}

/// Asserts that every stored delivery is applied or ignored.
async fn assert_all_finished(server: &TestServer) {
    let stored = server
        .running
        .store
        .deliveries(&DeliveryFilter::default(), 1000)
        .await
        .unwrap();
    assert!(
        stored
            .iter()
            .all(|one| matches!(one.state, DeliveryState::Applied | DeliveryState::Ignored))
    );
}

/// Waits until the server has every connection that it needs, or none of them.
async fn until_connected(server: &TestServer, connected: bool) {
    let started = std::time::Instant::now();
    loop {
        let ready: Value = server
            .http
            .get(format!("{}/readyz", server.url))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        if (ready["queue"] == "ok") == connected {
            return;
        }
        assert!(started.elapsed().as_secs() < 60, "{ready}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Removes messages from a queue until it has those of `count` deliveries. Returns one for each,
/// since a republished delivery has several.
async fn messages(broker: &Broker, queue: &str, count: usize) -> Vec<Value> {
    let started = std::time::Instant::now();
    let mut messages = BTreeMap::new();
    while messages.len() < count {
        for message in broker.get(queue, 500).await {
            messages.insert(
                message["properties"]["message_id"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
                message,
            );
        }
        assert!(
            started.elapsed().as_secs() < 60,
            "messages of {} of {count} deliveries came",
            messages.len()
        );
    }
    messages.into_values().collect()
}

#[tokio::test]
async fn topology_check_declares_nothing() {
    let broker = Broker::new().await;
    for _ in 0..2 {
        assert_eq!(
            tallyhook_queue::find_missing_topology(&broker.url).await,
            Ok(Some("tallyhook.v1.unrouted"))
        );
    }
    let server = start(&broker.url, Place::embedded()).await;
    until_connected(&server, true).await;
    assert_eq!(
        tallyhook_queue::find_missing_topology(&broker.url).await,
        Ok(None)
    );
    server.stop().await;
    let (server, _) = broker.url.rsplit_once('/').unwrap();
    let refused = tallyhook_queue::find_missing_topology(&format!("{server}/nowhere"))
        .await
        .unwrap_err();
    assert!(
        !refused.contains(server.split(':').nth(2).unwrap().split('@').next().unwrap()),
        "{refused}"
    );
}

#[tokio::test]
async fn subscribers_receive_every_event_as_the_schema_says() {
    let broker = Broker::new().await;
    let mut server = start(&broker.url, Place::embedded()).await;
    until_connected(&server, true).await;
    broker.subscribe("of-a-subscriber").await;
    let fixtures = testkit::fixtures();
    post_all(&server, &fixtures).await;
    server.drained().await;

    let stored = server
        .running
        .store
        .deliveries(&DeliveryFilter::default(), 1000)
        .await
        .unwrap();
    // Some were ignored when they were stored; subscribers get no message about those.
    let worked: Vec<_> = stored.iter().filter(|one| one.attempts > 0).collect();
    let messages = messages(&broker, "of-a-subscriber", worked.len()).await;
    assert_eq!(messages.len(), worked.len());
    let schema: Value = serde_json::from_str(&message::schema().unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for sent in &messages {
        let payload: Value = serde_json::from_str(sent["payload"].as_str().unwrap()).unwrap();
        if let Err(error) = validator.validate(&payload) {
            panic!("{error} at {}: {payload}", error.instance_path());
        }
        let id = payload["delivery_id"].as_i64().unwrap();
        let delivery = worked.iter().find(|one| one.id.0 == id).unwrap();
        let properties = &sent["properties"];
        assert_eq!(properties["message_id"], id.to_string());
        assert_eq!(
            (&properties["content_type"], &properties["delivery_mode"]),
            (&json!("application/json"), &json!(2))
        );
        let kind = delivery
            .action
            .as_ref()
            .map_or(delivery.event.clone(), |a| {
                format!("{}.{a}", delivery.event)
            });
        assert_eq!(properties["type"], kind);
        assert_eq!(sent["routing_key"], format!("live.{}", delivery.event));
        assert_eq!(
            (&payload["v"], &payload["source"]),
            (&json!(1), &json!("webhook"))
        );
        assert_eq!(payload["guid"], delivery.guid);
        assert_eq!(payload["event"]["type"], delivery.event);
        assert_eq!(
            payload["event"]["repo"]["name"].as_str(),
            delivery.repo.as_deref()
        );
        // A message has neither GitHub's body nor any part of it beyond the event.
        assert!(
            sent["payload"]
                .as_str()
                .unwrap()
                .find("_url\":\"https://api.")
                .is_none()
        );
    }
    server.stop().await;
}

/// The published schema is a contract with subscribers: a change is deliberate, made in the file,
/// and in `v` if it is incompatible.
#[test]
fn message_schema_equals_the_published_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/events.v1.schema.json");
    let promised = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        message::schema().unwrap().trim(),
        promised.trim(),
        "run: tallyhook openapi --events > {path}"
    );
}

#[tokio::test]
async fn moving_the_copy_of_a_dead_letter_to_the_live_queue_requeues_it() {
    let broker = Broker::new().await;
    let mut server = start(&broker.url, Place::embedded()).await;
    until_connected(&server, true).await;
    let fixture = testkit::fixtures()
        .into_iter()
        .find(|one| one.event == "pull_request")
        .unwrap();
    post_all(&server, std::slice::from_ref(&fixture)).await;
    server
        .post("pull_request", "broken", br#"{"action":"opened"}"#)
        .await;
    server.drained().await;
    let copies = messages(&broker, "tallyhook.v1.dead", 1).await;
    let [copy] = &copies[..] else {
        panic!("{copies:?}")
    };
    let headers = &copy["properties"]["headers"];
    assert!(
        headers["tallyhook-reason"]
            .as_str()
            .unwrap()
            .contains("cannot be decoded"),
        "{headers}"
    );
    assert_eq!(headers["tallyhook-event"], "pull_request");

    let dead = &server
        .running
        .store
        .deliveries_by_guid("broken")
        .await
        .unwrap()[0];
    assert_eq!((dead.state, dead.attempts), (DeliveryState::Dead, 0));
    broker.put("tallyhook.v1.live", copy).await;
    // It is dead again for the same reason, which shows that it was retried, and a second copy
    // shows that it was published again.
    assert_eq!(messages(&broker, "tallyhook.v1.dead", 1).await.len(), 1);
    let dead = &server
        .running
        .store
        .deliveries_by_guid("broken")
        .await
        .unwrap()[0];
    assert_eq!((dead.state, dead.attempts), (DeliveryState::Dead, 1));
    server.stop().await;
}

#[tokio::test]
async fn message_without_a_delivery_id_is_discarded_without_blocking_others() {
    let broker = Broker::new().await;
    let mut server = start(&broker.url, Place::embedded()).await;
    until_connected(&server, true).await;
    for properties in [
        json!({}),
        json!({"message_id": "x"}),
        json!({"message_id": "99999"}),
        json!({"message_id": "-1"}),
    ] {
        let forged =
            json!({"properties": properties, "payload": "{\"v\":1}", "payload_encoding": "string"});
        broker.put("tallyhook.v1.live", &forged).await;
    }
    let fixtures = testkit::fixtures();
    post_all(&server, &fixtures).await;
    server.drained().await;
    assert_all_finished(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn message_properties_that_are_too_long_are_cut() {
    let broker = Broker::new().await;
    let mut server = start(&broker.url, Place::embedded()).await;
    until_connected(&server, true).await;
    let fixture = testkit::fixtures()
        .into_iter()
        .find(|one| one.event == "pull_request")
        .unwrap();
    let mut body: Value = serde_json::from_slice(&fixture.payload).unwrap();
    body["action"] = json!("x".repeat(1000));
    server
        .post("pull_request", "long", &serde_json::to_vec(&body).unwrap())
        .await;
    // A delivery with a long repository name, which ends dead.
    body["repository"]["full_name"] = json!(format!("acme-corp/{}", "y".repeat(100_000)));
    body["pull_request"] = json!(7);
    server
        .post("pull_request", "dead", &serde_json::to_vec(&body).unwrap())
        .await;
    post_all(&server, &testkit::fixtures()).await;
    server.drained().await;
    assert_eq!(messages(&broker, "tallyhook.v1.dead", 1).await.len(), 1);
    assert_eq!(
        server
            .running
            .store
            .deliveries_by_guid("long")
            .await
            .unwrap()[0]
            .state,
        DeliveryState::Applied
    );
    until_connected(&server, true).await;
    server.stop().await;
}

#[tokio::test]
async fn deleted_queue_is_declared_again_and_its_deliveries_are_republished() {
    let broker = Broker::new().await;
    let mut server = start(&broker.url, Place::embedded()).await;
    until_connected(&server, true).await;
    let fixtures = testkit::fixtures();
    let (before, after) = fixtures.split_at(fixtures.len() / 2);
    post_all(&server, before).await;
    broker.delete("tallyhook.v1.live").await;
    post_all(&server, after).await;
    server.drained().await;
    until_connected(&server, true).await;
    assert_all_finished(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn without_a_broker_deliveries_are_accepted_and_wait() {
    // A port that was just free, so that nothing listens on it.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = start(
        &format!("amqp://tallyhook:secret@{free}/%2f"),
        Place::embedded(),
    )
    .await;
    let fixtures = testkit::fixtures();
    post_all(&server, &fixtures).await;
    let response = server
        .http
        .get(format!("{}/readyz", server.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let ready: Value = response.json().await.unwrap();
    assert_eq!(
        (&ready["status"], &ready["queue"]),
        (&json!("degraded"), &json!("degraded"))
    );
    let counts = server.running.store.counts().await.unwrap();
    assert!(counts.accepted > 20 && counts.applied == 0, "{counts:?}");
    let folder = server.stop().await;

    // With a broker all of them are processed.
    let broker = Broker::new().await;
    let mut server = start(&broker.url, folder).await;
    server.drained().await;
    let finished = server.running.store.counts().await.unwrap();
    assert_eq!(
        (finished.applied + finished.ignored, finished.dead),
        (counts.accepted + counts.ignored, 0)
    );
    until_connected(&server, true).await;
    server.stop().await;
}

/// Returns the status and the queue's state in `/readyz` of a process with these roles.
async fn readiness(place: Place, broker: &str, roles: Roles) -> (u16, Value) {
    let config = Config {
        amqp_url: Some(broker.to_owned()),
        ..testkit::config(&place)
    };
    let server = TestServer::start_as(
        &config,
        place,
        ServerOptions {
            roles,
            ..ServerOptions::default()
        },
    )
    .await;
    let response = server
        .http
        .get(format!("{}/readyz", server.url))
        .send()
        .await
        .unwrap();
    let answer = (
        response.status().as_u16(),
        response.json::<Value>().await.unwrap()["queue"].clone(),
    );
    server.stop().await;
    answer
}

#[tokio::test]
async fn each_role_is_ready_when_it_can_do_its_own_work() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let no_broker = format!("amqp://tallyhook:secret@{free}/%2f");
    let none = Roles::NONE;
    for (roles, expected) in [
        (
            Roles {
                ingest: true,
                ..none
            },
            (200, json!("degraded")),
        ),
        (
            Roles {
                worker: true,
                ..none
            },
            (503, json!("failing")),
        ),
        (Roles { api: true, ..none }, (200, json!("not_used"))),
        (
            Roles {
                worker: true,
                api: true,
                ..none
            },
            (503, json!("failing")),
        ),
    ] {
        assert_eq!(
            readiness(Place::embedded(), &no_broker, roles).await,
            expected,
            "{roles:?}"
        );
    }
}

#[tokio::test]
async fn each_role_serves_its_own_paths_and_all_serve_the_operator_s() {
    let broker = Broker::new().await;
    let none = Roles::NONE;
    for (roles, takes_in, answers) in [
        (
            Roles {
                ingest: true,
                ..none
            },
            401,
            404,
        ),
        (
            Roles {
                worker: true,
                ..none
            },
            404,
            404,
        ),
        (Roles { api: true, ..none }, 404, 200),
    ] {
        let place = Place::embedded();
        let config = Config {
            amqp_url: Some(broker.url.clone()),
            ..testkit::config(&place)
        };
        let server = TestServer::start_as(
            &config,
            place,
            ServerOptions {
                roles,
                ..ServerOptions::default()
            },
        )
        .await;
        let posted = server.http.post(format!("{}/webhooks/github", server.url));
        let posted = posted
            .header("Content-Type", "application/json")
            .send()
            .await
            .unwrap()
            .status();
        assert_eq!(
            (posted.as_u16(), server.get("/api/prs").await.0),
            (takes_in, answers),
            "{roles:?}"
        );
        for path in ["/healthz", "/metrics"] {
            let open = server
                .http
                .get(format!("{}{path}", server.url))
                .send()
                .await
                .unwrap();
            assert_eq!(open.status(), 200, "{path} {roles:?}");
        }
        server.stop().await;
    }
}
