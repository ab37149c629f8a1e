//! Delivery of notifications to channels: filters, order, retries, and receivers that fail.

mod channels;
mod waiting;

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tallyhook::app::{RoleSet, ServerOptions};
use tallyhook::config::{
    ChannelConfig, ChannelFilter, ChannelHours, ChannelReceiver, ChannelSecret,
};
use tallyhook::notify::RetryPolicy;
use tallyhook_core::backoff::Backoff;
use tallyhook_core::domain::notification::{PullRequestStatus, StatusChange, SyncSource};
use tallyhook_core::github::signature::{Secrets, Signature};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_store::{
    AttemptResult, BatchWrite, DEFAULT_TEAM, NotificationAttempt, PullRequestChange,
};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use uuid::Uuid;

use testkit::payloads::{self, Account, Pr, World};
use testkit::receiver::{Receiver, Reply};
use testkit::{Place, TOKEN, TestServer};

const REPO: &str = "acme-corp/api-server";
const WEB: (RepoId, &str) = (RepoId(8), "acme-corp/web");
const LONG_AGO: DateTime<Utc> = DateTime::UNIX_EPOCH;
const SIGNED_WITH: &str = "a secret of the receiver";
/// As short as the resolution of the database's timestamps allows.
const QUICK: RetryPolicy = RetryPolicy {
    backoff: Backoff {
        first: Duration::from_millis(2),
        max: Duration::from_millis(10),
    },
    slack_interval: Duration::from_millis(150),
};

fn webhook(name: &str, receiver: &Receiver) -> ChannelConfig {
    ChannelConfig {
        name: name.to_owned(),
        team: None,
        receiver: ChannelReceiver::Webhook {
            secret: ChannelSecret::parse(SIGNED_WITH),
        },
        url: format!("{}/hook", receiver.url),
        filter: ChannelFilter::default(),
        hours: ChannelHours::default(),
    }
}

fn slack(receiver: &Receiver) -> ChannelConfig {
    ChannelConfig {
        receiver: ChannelReceiver::Slack,
        ..webhook("slack", receiver)
    }
}

async fn start_in(place: Place, channels: Vec<ChannelConfig>) -> TestServer {
    let mut config = testkit::config(&place);
    config.notify.channels = channels;
    TestServer::start_as(
        &config,
        place,
        ServerOptions {
            pace: QUICK,
            ..ServerOptions::default()
        },
    )
    .await
}

/// Starts a server that tracks the two repositories of these tests.
async fn start(channels: Vec<ChannelConfig>) -> TestServer {
    let server = start_in(Place::new().await, channels).await;
    track(&server).await;
    server
}

async fn track(server: &TestServer) {
    for (id, name) in [(repo_id(), REPO), WEB] {
        server.track(id, name, LONG_AGO).await;
    }
}

fn mira() -> Account {
    Account::user(900_000_101, "mira")
}

fn pull_request(number: i64) -> Pr {
    Pr::new(
        &World::acme(),
        number,
        Some(&mira()),
        "Answer <!here> & 429",
        "rate-limit",
        "2026-03-02T09:00:00Z",
    )
}

fn repo_id() -> RepoId {
    let payload = payloads::pull_request_event(&pull_request(1), "opened", &mira(), json!({}));
    RepoId(payload["repository"]["id"].as_i64().unwrap())
}

async fn post(server: &mut TestServer, pr: &Pr, action: &str) {
    let body = payloads::pull_request_event(pr, action, &mira(), json!({}))
        .to_string()
        .into_bytes();
    assert_eq!(
        server
            .post("pull_request", &Uuid::new_v4().to_string(), &body)
            .await
            .0,
        202
    );
    server.drained().await;
}

/// Records status changes of pull requests in one transaction.
async fn record(server: &TestServer, repo: RepoId, changes: &[(i64, PullRequestStatus)]) {
    let change = |(number, new): &(i64, PullRequestStatus)| PullRequestChange {
        key: PrKey {
            repo,
            number: PrNumber(*number),
        },
        change: StatusChange {
            old: None,
            new: *new,
            at: Timestamp::clamped(*number),
        },
        source: SyncSource::Worker,
    };
    let recording = BatchWrite {
        changes: changes.iter().map(change).collect(),
        ..BatchWrite::default()
    };
    server
        .running
        .store
        .record(&recording, Utc::now())
        .await
        .unwrap()
        .unwrap();
}

async fn record_opened(server: &TestServer, numbers: impl IntoIterator<Item = i64>) {
    let opened: Vec<_> = numbers
        .into_iter()
        .map(|number| (number, PullRequestStatus::Open))
        .collect();
    record(server, repo_id(), &opened).await;
}

async fn channel(server: &TestServer, name: &str) -> Value {
    let (status, answer) = server.get("/api/channels").await;
    assert_eq!(status, 200);
    answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["name"] == name)
        .unwrap()
        .clone()
}

/// Waits until nothing is pending on a channel, and returns its counts: sent, dead, superseded.
async fn settled(server: &TestServer, name: &str) -> [u64; 3] {
    let newest = server
        .running
        .store
        .newest_event()
        .await
        .unwrap()
        .to_string();
    loop {
        let channel = channel(server, name).await;
        let counts = &channel["told"];
        if channel["place"] == newest && counts["pending"] == 0 {
            return ["sent", "dead", "superseded"].map(|state| counts[state].as_u64().unwrap());
        }
    }
}

/// Returns a channel's notification of a pull request.
async fn notification(server: &TestServer, name: &str, number: i64) -> Value {
    let (_, list) = server
        .get(&format!("/api/notifications?channel={name}&per_page=100"))
        .await;
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .find(|item| item["notification"]["pr_number"] == number)
        .unwrap()
        .clone()
}

#[tokio::test]
async fn webhook_gets_the_websocket_frame_with_idempotency_key_and_signature() {
    let mut receiver = Receiver::start().await;
    let mut server = start(vec![webhook("ops", &receiver)]).await;
    let mut request = format!("{}/ws", server.url.replace("http:", "ws:"))
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let mut pr = pull_request(7);
    post(&mut server, &pr, "opened").await;
    pr.merge(&mira(), "2026-03-03T14:00:00Z");
    post(&mut server, &pr, "closed").await;

    for (status, at) in [
        ("OPEN", "2026-03-02T09:00:00Z"),
        ("MERGED", "2026-03-03T14:00:00Z"),
    ] {
        let sent = receiver.next().await;
        let received = socket.next().await.unwrap().unwrap().into_text().unwrap();
        assert_eq!(
            (sent.path.as_str(), sent.body.as_str()),
            ("/hook", received.as_str())
        );
        let signature = Signature::parse(sent.header("x-hub-signature-256")).unwrap();
        assert!(
            Secrets::single(SIGNED_WITH)
                .unwrap()
                .verify(sent.body.as_bytes(), &signature)
        );
        assert_eq!(sent.json()["new_status"], status);
        let pr_id = sent.json()["pr_id"].as_str().unwrap().parse().unwrap();
        let key = Uuid::new_v5(&pr_id, format!("{status} {at}").as_bytes()).to_string();
        let names = [
            "content-type",
            "x-tallyhook-event",
            "x-tallyhook-delivery",
            "idempotency-key",
        ];
        assert_eq!(
            names.map(|name| sent.header(name)),
            ["application/json", "pr_status_change", &key, &key]
        );
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(sent.header("user-agent"), format!("Tallyhook/{version}"));
        // Standard Webhooks: the signature covers id and time, too.
        assert_eq!(sent.header("webhook-id"), key);
        let timestamp: i64 = sent.header("webhook-timestamp").parse().unwrap();
        let secret = ChannelSecret::parse(SIGNED_WITH).unwrap();
        assert_eq!(
            sent.header("webhook-signature"),
            secret.sign_as_standard(&key, timestamp, &sent.body)
        );
        assert!((Utc::now().timestamp() - timestamp).abs() < 60);
    }
    assert_eq!(settled(&server, "ops").await, [2, 0, 0]);
    server.stop().await;
}

#[tokio::test]
async fn every_event_is_sent_once_and_in_order() {
    let mut receiver = Receiver::start().await;
    let server = start(vec![webhook("ops", &receiver)]).await;
    // More than one page of the outbox.
    for from in [0, 300] {
        record_opened(&server, from..from + 300).await;
    }
    assert!(receiver.numbers(600).await.into_iter().eq(0..600));
    assert_eq!(settled(&server, "ops").await, [600, 0, 0]);
    assert!(receiver.try_next().is_none());
    server.stop().await;
}

#[tokio::test]
async fn failing_receiver_pauses_and_gets_its_notifications_in_order_later() {
    let mut receiver = Receiver::start().await;
    let server = start(vec![webhook("ops", &receiver)]).await;
    receiver.replies([
        Reply::Status(500, "", "no\nway"),
        Reply::Close,
        Reply::Status(408, "", ""),
    ]);
    record_opened(&server, [1, 2]).await;
    let (mut keys, mut numbers) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let sent = receiver.next().await;
        numbers.push(sent.json()["pr_number"].as_i64().unwrap());
        keys.push(sent.header("idempotency-key").to_owned());
    }
    assert_eq!(numbers, [1, 1, 1, 1, 2]);
    keys.dedup();
    assert_eq!(keys.len(), 2);
    assert_eq!(settled(&server, "ops").await, [2, 0, 0]);
    let first = notification(&server, "ops", 1).await;
    assert_eq!(
        (&first["attempts"], &first["answer"]),
        (&json!(4), &json!("200 OK: ok"))
    );
    let channel = channel(&server, "ops").await;
    assert_eq!(
        (&channel["failures"], &channel["rests_until"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(channel["last_error"], "408 Request Timeout");
    server.stop().await;
}

#[tokio::test]
async fn failing_channel_is_reported_and_keeps_the_process_in_service() {
    let mut receiver = Receiver::start().await;
    let place = Place::new().await;
    let mut config = testkit::config(&place);
    config.notify.channels = vec![webhook("ops", &receiver)];
    let pace = RetryPolicy {
        backoff: Backoff {
            first: Duration::from_hours(2),
            max: Duration::from_hours(2),
        },
        ..QUICK
    };
    let server = TestServer::start_as(
        &config,
        place,
        ServerOptions {
            pace,
            ..ServerOptions::default()
        },
    )
    .await;
    track(&server).await;
    let (status, ready) = server.get("/readyz").await;
    // Other parts, such as a broker that is still connecting, are not checked here.
    assert_eq!((status, &ready["notifier"]), (200, &json!("ok")));
    receiver.replies([Reply::Status(500, "", "")]);
    record_opened(&server, [1, 2]).await;
    receiver.next().await;
    let stats = loop {
        let stats = server.get("/api/sync/stats").await.1["notifier"][0].take();
        if stats["failures"] == 1 {
            break stats;
        }
    };
    assert_eq!(
        (&stats["channel"], &stats["pending"]),
        (&json!("ops"), &json!(2))
    );
    assert!(stats["pending_since"].is_string(), "{stats}");
    let (status, ready) = server.get("/readyz").await;
    assert_eq!(
        (status, &ready["status"], &ready["notifier"]),
        (200, &json!("degraded"), &json!("degraded"))
    );
    let metrics = server
        .http
        .get(format!("{}/metrics", server.url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for line in [
        "notifications_pending{channel=\"ops\"} 2\n",
        "notifications_dead{channel=\"ops\"} 0\n",
        "channel_failures{channel=\"ops\"} 1\n",
    ] {
        assert!(
            metrics.contains(&format!("\ntallyhook_{line}")),
            "{metrics}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn events_without_a_worker_are_reported() {
    let receiver = Receiver::start().await;
    let server = start(vec![webhook("ops", &receiver)]).await;
    let place = server.stop().await;
    let mut config = testkit::config(&place);
    config.notify.channels = vec![webhook("ops", &receiver)];
    let roles = RoleSet {
        worker: false,
        ..RoleSet::ALL
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
    let stats = async || server.get("/api/sync/stats").await.1["notifier"][0].take();
    assert_eq!(
        stats().await,
        json!({"channel": "ops", "pending": 0, "pending_since": null, "failures": 0})
    );
    let at = Utc::now() - TimeDelta::minutes(11);
    for (number, at) in [(1, at), (2, Utc::now())] {
        let change = StatusChange {
            old: None,
            new: PullRequestStatus::Open,
            at: Timestamp::clamped(number),
        };
        let key = PrKey {
            repo: repo_id(),
            number: PrNumber(number),
        };
        let changes = vec![PullRequestChange {
            key,
            change,
            source: SyncSource::Worker,
        }];
        let recording = BatchWrite {
            changes,
            ..BatchWrite::default()
        };
        server
            .running
            .store
            .record(&recording, at)
            .await
            .unwrap()
            .unwrap();
    }
    let stats = stats().await;
    let since = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    assert_eq!(
        (&stats["pending"], &stats["pending_since"]),
        (&json!(2), &json!(since)),
        "{stats}"
    );
    assert_eq!(server.get("/readyz").await.1["notifier"], "degraded");
    server.stop().await;
}

#[tokio::test]
async fn retry_after_is_kept_and_does_not_count_as_an_attempt() {
    let mut receiver = Receiver::start().await;
    let server = start(vec![slack(&receiver)]).await;
    receiver.replies([Reply::Status(429, "Retry-After: 1\r\n", "slow down")]);
    record_opened(&server, [1]).await;
    let asked = receiver.next().await;
    let resting = loop {
        let channel = channel(&server, "slack").await;
        if channel["last_error"] == "429 Too Many Requests: slow down" {
            break channel;
        }
    };
    assert!(resting["rests_until"].is_string(), "{resting}");
    record_opened(&server, [2]).await;
    let (again, next) = (receiver.next().await, receiver.next().await);
    assert!(
        again.at - asked.at >= Duration::from_secs(1),
        "{:?}",
        again.at - asked.at
    );
    assert_eq!(asked.body, again.body);
    assert_ne!(asked.body, next.body);
    assert_eq!(settled(&server, "slack").await, [2, 0, 0]);
    assert_eq!(notification(&server, "slack", 1).await["attempts"], 1);
    server.stop().await;
}

#[tokio::test]
async fn undeliverable_notification_is_dead_after_ten_attempts() {
    let mut receiver = Receiver::start().await;
    let server = start(vec![webhook("ops", &receiver)]).await;
    receiver.replies((0..10).map(|_| Reply::Status(503, "", "<down>")));
    record_opened(&server, [1, 2]).await;
    let numbers = receiver.numbers(11).await;
    assert_eq!(numbers, [[1; 10].as_slice(), &[2]].concat());
    assert_eq!(settled(&server, "ops").await, [1, 1, 0]);
    let dead = notification(&server, "ops", 1).await;
    let received =
        ["state", "attempts", "answer", "next_attempt_at"].map(|name| dead[name].clone());
    assert_eq!(
        received,
        [
            json!("dead"),
            json!(10),
            json!("503 Service Unavailable: <down>"),
            Value::Null
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn rejected_notification_delays_no_other_and_is_dead_after_three_attempts() {
    let mut receiver = Receiver::start().await;
    let server = start(vec![webhook("ops", &receiver)]).await;
    let refused = || Reply::Status(400, "", "");
    receiver.replies([
        refused(),
        Reply::Status(200, "", ""),
        refused(),
        Reply::Status(302, "Location: /elsewhere\r\n", ""),
    ]);
    record_opened(&server, [1, 2]).await;
    let mut received = Vec::new();
    for _ in 0..4 {
        let sent = receiver.next().await;
        received.push((
            sent.path.clone(),
            sent.json()["pr_number"].as_i64().unwrap(),
        ));
    }
    assert_eq!(
        received,
        [1, 2, 1, 1].map(|number| ("/hook".to_owned(), number))
    );
    assert_eq!(settled(&server, "ops").await, [1, 1, 0]);
    assert_eq!(notification(&server, "ops", 1).await["answer"], "302 Found");
    assert!(receiver.try_next().is_none());
    server.stop().await;
}

#[tokio::test]
async fn superseded_notification_is_not_sent_after_a_newer_one() {
    let mut receiver = Receiver::start().await;
    let server = start(vec![webhook("ops", &receiver)]).await;
    receiver.replies([Reply::Status(400, "", "")]);
    record(
        &server,
        repo_id(),
        &[
            (1, PullRequestStatus::Open),
            (2, PullRequestStatus::Open),
            (1, PullRequestStatus::Merged),
        ],
    )
    .await;
    let received = [
        receiver.change().await,
        receiver.change().await,
        receiver.change().await,
    ];
    let expected =
        [(1, "OPEN"), (2, "OPEN"), (1, "MERGED")].map(|(number, new)| (number, new.to_owned()));
    assert_eq!(received, expected);
    assert_eq!(settled(&server, "ops").await, [2, 0, 1]);
    assert!(receiver.try_next().is_none());
    server.stop().await;
}

#[tokio::test]
async fn slack_gets_text_at_its_rate_limit_until_its_webhook_is_deleted() {
    let mut receiver = Receiver::start().await;
    let mut server = start(vec![slack(&receiver)]).await;
    let mut pr = pull_request(7);
    post(&mut server, &pr, "opened").await;
    pr.merge(&mira(), "2026-03-03T14:00:00Z");
    post(&mut server, &pr, "closed").await;
    let (opened, merged) = (receiver.next().await, receiver.next().await);
    assert!(
        merged.at - opened.at >= QUICK.slack_interval,
        "{:?}",
        merged.at - opened.at
    );
    let blocks = merged.json()["blocks"].clone();
    let text = blocks[0]["text"]["text"].as_str().unwrap();
    let url =
        payloads::pull_request_event(&pr, "closed", &mira(), json!({}))["pull_request"]["html_url"]
            .clone();
    let expected = format!(
        "*<{}|{REPO}#7>* was merged after 29.0 h",
        url.as_str().unwrap()
    );
    assert_eq!(text, expected);
    assert_eq!(
        blocks[1]["text"],
        json!({"type": "plain_text", "text": "Answer &lt;!here&gt; &amp; 429", "emoji": false})
    );
    assert!(!merged.headers.contains_key("x-hub-signature-256"));

    receiver.replies([Reply::Status(404, "", "no_service")]);
    record_opened(&server, [8]).await;
    receiver.next().await;
    assert_eq!(settled(&server, "slack").await, [2, 1, 0]);
    let dead = notification(&server, "slack", 8).await;
    assert_eq!(
        (&dead["attempts"], &dead["answer"]),
        (&json!(1), &json!("404 Not Found: no_service"))
    );
    server.stop().await;
}

#[tokio::test]
async fn silent_receiver_delays_no_other_channel() {
    let (mut silent, mut quick) = (Receiver::start().await, Receiver::start().await);
    let place = Place::new().await;
    let mut config = testkit::config(&place);
    config.notify.channels = vec![webhook("silent", &silent), webhook("quick", &quick)];
    config.notify.timeout = Duration::from_secs(1);
    let server = TestServer::start_as(
        &config,
        place,
        ServerOptions {
            pace: QUICK,
            ..ServerOptions::default()
        },
    )
    .await;
    track(&server).await;
    silent.replies([Reply::Silence]);
    record_opened(&server, [1, 2]).await;
    silent.next().await;
    assert_eq!(quick.numbers(2).await, [1, 2]);
    assert_eq!(channel(&server, "silent").await["told"]["pending"], 2);
    assert_eq!(silent.numbers(2).await, [1, 2]);
    assert_eq!(settled(&server, "silent").await, [2, 0, 0]);
    assert_eq!(
        channel(&server, "silent").await["last_error"],
        "no answer within 1s"
    );
    server.stop().await;
}

#[tokio::test]
async fn shutdown_records_the_message_in_flight_and_later_events_are_not_lost() {
    let (mut ops, mut late) = (Receiver::start().await, Receiver::start().await);
    let server = start(vec![webhook("ops", &ops)]).await;
    let (finish, until) = oneshot::channel();
    ops.replies([Reply::Held(until)]);
    record_opened(&server, [1]).await;
    assert_eq!(ops.numbers(1).await, [1]);
    // The process is stopping when the receiver answers.
    let answered = async { finish.send(()).unwrap() };
    let (place, ()) = futures_util::future::join(server.stop(), answered).await;

    let server = start_in(place, Vec::new()).await;
    record_opened(&server, [2]).await;
    let place = server.stop().await;
    // One channel existed before, the other is new.
    let server = start_in(place, vec![webhook("ops", &ops), webhook("late", &late)]).await;
    record_opened(&server, [3]).await;
    assert_eq!(ops.numbers(2).await, [2, 3]);
    assert_eq!(late.numbers(1).await, [3]);
    assert_eq!(settled(&server, "ops").await, [3, 0, 0]);
    assert_eq!(settled(&server, "late").await, [1, 0, 0]);
    server.stop().await;
}

#[tokio::test]
async fn notification_sent_by_another_process_is_not_sent_again() {
    let mut receiver = Receiver::start().await;
    let server = start(vec![webhook("ops", &receiver)]).await;
    let (finish, until) = oneshot::channel();
    receiver.replies([Reply::Held(until)]);
    record_opened(&server, 1..6).await;
    assert_eq!(receiver.numbers(1).await, [1]);
    // These were read with the first. Another process that took the lease sends them all.
    let store = &server.running.store;
    for row in store
        .of_team(DEFAULT_TEAM.0)
        .due_notifications("ops", Utc::now(), 99)
        .await
        .unwrap()
    {
        let attempt = NotificationAttempt {
            channel: "ops",
            event: row.event.id,
            answer: "200 OK",
            at: Utc::now(),
        };
        assert!(
            store
                .of_team(DEFAULT_TEAM.0)
                .record_attempt(&attempt, AttemptResult::Sent, None)
                .await
                .unwrap()
        );
    }
    finish.send(()).unwrap();
    record_opened(&server, [6]).await;
    assert_eq!(receiver.numbers(1).await, [6]);
    assert_eq!(settled(&server, "ops").await, [6, 0, 0]);
    assert!(receiver.try_next().is_none());
    server.stop().await;
}

#[cfg(feature = "services")]
#[tokio::test]
async fn one_of_two_workers_sends_and_the_other_takes_over() {
    let mut receiver = Receiver::start().await;
    let place = Place::on_services().await;
    let mut config = testkit::config(&place);
    config.notify.channels = vec![webhook("ops", &receiver)];
    let options = ServerOptions {
        pace: QUICK,
        ..ServerOptions::default()
    };
    let one = TestServer::start_as(&config, place, options).await;
    let other = tallyhook::app::RunningServer::start(&config, options)
        .await
        .unwrap();
    track(&one).await;
    record_opened(&one, 1..100).await;
    assert!(receiver.numbers(99).await.into_iter().eq(1..100));
    assert_eq!(settled(&one, "ops").await, [99, 0, 0]);
    // Events from the time without a leader are sent by the next one.
    let place = one.stop().await;
    config.notify.channels.clear();
    let here = TestServer::start_as(&config, place, options).await;
    record_opened(&here, 100..200).await;
    assert!(receiver.numbers(100).await.into_iter().eq(100..200));
    other.stop().await;
    here.stop().await;
}
