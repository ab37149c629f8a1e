//! The log of a worker: every line about a delivery carries its GUID.

use std::io;
use std::sync::Arc;

use chrono::Utc;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sqlx::Connection;
use sqlx_sqlite::SqliteConnection;
use tallyhook::process::Worker;
use tallyhook_core::delivery::{DeliveryId, Lane};
use tallyhook_core::domain::apply::ApplyRules;
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::domain::task::Patterns;
use tallyhook_queue::{Publication, Queue};
use tallyhook_store::{AcceptOutcome, NewDelivery, NewState, OpenMode, Store, StoredBody};
use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use testkit::Place;
use testkit::payloads::{self, Account, Pr, World};

const GOOD: &str = "00000000-0000-4000-8000-000000000001";
const REFUSED: &str = "00000000-0000-4000-8000-000000000002";
const UNREADABLE: &str = "00000000-0000-4000-8000-000000000003";
/// The pull request that the database refuses.
const REFUSED_NUMBER: i64 = 13;
const MAX_ATTEMPTS: usize = 5;

/// A writer into memory.
#[derive(Clone, Default)]
pub(crate) struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogBuffer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl LogBuffer {
    pub(crate) fn lines(&self) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().clone()).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

fn opened(number: i64) -> Vec<u8> {
    let mira = Account::user(900_000_101, "mira");
    let (title, branch) = ("Answer 429", format!("rate-limit-{number}"));
    let at = "2026-03-02T09:00:00Z";
    let pull_request = Pr::new(&World::acme(), number, Some(&mira), title, &branch, at);
    payloads::pull_request_event(&pull_request, "opened", &mira, json!({}))
        .to_string()
        .into_bytes()
}

async fn accept(store: &Store, guid: &str, body: &[u8]) -> DeliveryId {
    let now = Utc::now();
    let delivery = NewDelivery {
        guid: guid.to_owned(),
        body_sha256: [guid.as_bytes()[35]; 32],
        event: "pull_request".to_owned(),
        action: None,
        repo: None,
        pr_number: None,
        source: Source::Webhook,
        lane: Lane::Live,
        received_at: now,
        body: StoredBody::compress(body).unwrap(),
        state: NewState::Pending { due: now },
    };
    match store.accept(delivery).await.unwrap() {
        AcceptOutcome::Stored(id) => id,
        other => panic!("{other:?}"),
    }
}

/// A store whose database refuses one pull request, as a constraint would.
async fn refusing_store(place: &Place) -> Store {
    let store = tallyhook_store::open(&place.database_url, OpenMode::Exclusive)
        .await
        .unwrap();
    let mut connection = SqliteConnection::connect(&place.database_url)
        .await
        .unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON pull_requests WHEN NEW.number = {REFUSED_NUMBER} \
         BEGIN SELECT RAISE(ABORT, 'refused by a test'); END"
    )))
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    store
}

/// Sends deliveries to the worker and waits until it has handled them.
async fn handle(queue: &Queue, progress: &mut watch::Receiver<u64>, ids: &[DeliveryId]) {
    let permits: Vec<_> = ids
        .iter()
        .map(|_| queue.try_reserve(Lane::Live).unwrap())
        .collect();
    for (permit, id) in permits.into_iter().zip(ids) {
        permit.send(*id, || Publication::bare(*id));
    }
    progress.changed().await.unwrap();
}

/// The spans of a JSON line.
fn spans(line: &Value) -> Vec<Value> {
    line["spans"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn every_line_about_a_failing_delivery_has_its_guid() {
    let (as_json, as_text) = (LogBuffer::default(), LogBuffer::default());
    let subscriber = tracing_subscriber::registry()
        .with(
            tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(as_json.clone()),
        )
        .with(
            tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(as_text.clone()),
        );
    let place = Place::embedded();
    let store = refusing_store(&place).await;
    let queue = Arc::new(Queue::in_process());
    let (sender, mut progress) = watch::channel(0);
    let worker = Worker {
        store: store.clone(),
        queue: queue.clone(),
        rules: ApplyRules {
            numbers: NumberRules::default(),
            patterns: Patterns::parse(Patterns::DEFAULT).unwrap(),
            tracks_pushes: false,
            tracks_waiting: false,
        },
        turns: Arc::default(),
        progress: sender,
    };
    let good = accept(&store, GOOD, &opened(12)).await;
    let refused = accept(&store, REFUSED, &opened(REFUSED_NUMBER)).await;
    let unreadable = accept(&store, UNREADABLE, b"{\"action\":\"opened\"}").await;

    // The worker runs on this thread, whose log this is.
    let _guard = tracing::subscriber::set_default(subscriber);
    let working = tokio::spawn(worker.run());
    handle(&queue, &mut progress, &[good, refused, unreadable]).await;
    for _ in 1..MAX_ATTEMPTS {
        handle(&queue, &mut progress, &[refused]).await;
    }
    queue.close();
    working.await.unwrap();
    store.close().await;

    let lines: Vec<Value> = as_json
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["target"].as_str().unwrap().starts_with("tallyhook"))
        .collect();
    let (batch, alone): (Vec<_>, Vec<_>) = lines
        .iter()
        .partition(|line| spans(line).iter().any(|span| span["name"] == "batch"));
    // The batch names the deliveries that were applied together; the unreadable one was not among them.
    let ids = format!("{good}, {refused}");
    assert_eq!(batch.len(), 1, "{batch:?}");
    assert_eq!(batch[0]["span"]["delivery.ids"], ids.as_str());
    let of = |guid: &str| {
        let lines = alone.iter().filter(|line| {
            let span = &line["span"];
            span["name"] == "delivery" && span["delivery.guid"] == guid
        });
        lines.count()
    };
    // Four failed attempts, and the dead letter.
    assert_eq!(
        (of(REFUSED), of(UNREADABLE), of(GOOD)),
        (MAX_ATTEMPTS, 1, 0),
        "{alone:#?}"
    );
    assert_eq!(alone.len(), MAX_ATTEMPTS + 1, "{alone:#?}");
    let failed = &alone
        .iter()
        .find(|line| line["span"]["delivery.guid"] == REFUSED);
    let span = &failed.unwrap()["span"];
    assert_eq!(span["repo"], "acme-corp/api-server");
    assert_eq!(
        (&span["pr"], &span["event"]),
        (&json!(REFUSED_NUMBER), &json!("pull_request"))
    );
    let text = as_text.lines();
    let with_guid = |guid: &str| text.iter().filter(|line| line.contains(guid)).count();
    assert_eq!(
        (with_guid(REFUSED), with_guid(UNREADABLE)),
        (MAX_ATTEMPTS, 1)
    );
}
