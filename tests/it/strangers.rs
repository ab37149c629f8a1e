//! Clients without a secret or a token that hold what every client needs: connections, and room
//! for bodies.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::payloads::{self, Account, Pr, World};
use testkit::{TOKEN, TestServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// A header of the right form, for no secret.
const FORGED: &str = "sha256=0000000000000000000000000000000000000000000000000000000000000000";
const EACH: usize = 200;
const LIFETIME: Duration = Duration::from_secs(10);

/// A client that sends something and then one more byte each second, or nothing.
#[derive(Clone)]
struct Stranger {
    kind: &'static str,
    first: Vec<u8>,
    dripped: Option<u8>,
    reads: bool,
}

impl Stranger {
    fn new(kind: &'static str, first: impl Into<Vec<u8>>, dripped: Option<u8>) -> Self {
        let (first, reads) = (first.into(), true);
        Self {
            kind,
            first,
            dripped,
            reads,
        }
    }

    /// Returns the lifetime of one connection, at most a little more than [`LIFETIME`].
    async fn lifetime(self, address: SocketAddr) -> Duration {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let opened = Instant::now();
        let sent = timeout(LIFETIME, connection.write_all(&self.first)).await;
        if sent.is_ok_and(|sent| sent.is_err()) {
            return opened.elapsed();
        }
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut answer = vec![0; 4096];
        while opened.elapsed() < LIFETIME + Duration::from_secs(1) {
            tokio::select! {
                read = connection.read(&mut answer), if self.reads => {
                    if !read.is_ok_and(|bytes| bytes > 0) {
                        break;
                    }
                }
                _ = ticks.tick() => {
                    let sent = match self.dripped {
                        Some(byte) => connection.write_all(&[byte]).await,
                        None => Ok(()),
                    };
                    let broken = socket2::SockRef::from(&connection).take_error();
                    if sent.is_err() || broken.is_ok_and(|error| error.is_some()) {
                        break;
                    }
                }
            }
        }
        opened.elapsed()
    }
}

fn post(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n{headers}\r\n")
}

/// Returns a client of every kind that could stay for ever.
fn strangers() -> Vec<Stranger> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let signed = format!("{chunked}X-Hub-Signature-256: {FORGED}\r\n");
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let whole = "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n";
    let chunk = "1000\r\nfirst bytes of a chunk";
    vec![
        Stranger::new("nothing", "", None),
        Stranger::new("a dripped first head", "GET /healthz HT", Some(b'T')),
        Stranger::new("an idle connection after an answer", whole, None),
        Stranger::new("a dripped second head", whole, Some(b'G')),
        Stranger::new("half a second head", format!("{whole}GET /hea"), None),
        Stranger::new(
            "a 401 before the end of a chunked body",
            post("/webhooks/github", chunked),
            None,
        ),
        Stranger::new(
            "a 401 within a dripped chunk",
            post("/webhooks/github", chunked) + chunk,
            Some(b'x'),
        ),
        Stranger::new(
            "a chunked body that is too slow",
            post("/webhooks/github", &signed) + chunk,
            Some(b'x'),
        ),
        Stranger::new(
            "a 404 within a dripped chunk",
            post("/nope", chunked) + chunk,
            Some(b'x'),
        ),
        Stranger::new(
            "a 200 within a dripped chunk",
            format!("GET /healthz HTTP/1.1\r\nHost: t\r\n{chunked}\r\n{chunk}"),
            Some(b'x'),
        ),
        Stranger::new(
            "a 401 of the API within a dripped chunk",
            post("/api/tasks", chunked) + chunk,
            Some(b'x'),
        ),
        Stranger::new(
            "a 401 of the API within a body of known length",
            post("/api/tasks", "Content-Length: 1000\r\n"),
            Some(b'x'),
        ),
        Stranger::new(
            "a silent body to the API",
            post("/api/tasks", &format!("{token}Content-Length: 1000\r\n")),
            None,
        ),
        Stranger::new(
            "a dripped body to the API",
            post("/api/tasks", &format!("{token}Content-Length: 1000\r\n")),
            Some(b' '),
        ),
        Stranger::new(
            "a dripped chunk to the API",
            post("/api/tasks", &format!("{token}{chunked}")) + chunk,
            Some(b' '),
        ),
    ]
}

/// Opens connections of each kind, and asserts that the server closes all of them in time.
async fn assert_closed(server: &TestServer, strangers: Vec<Stranger>, each: usize) {
    let address = server.running.address;
    let mut lives = JoinSet::new();
    for stranger in strangers {
        for _ in 0..each {
            let stranger = stranger.clone();
            lives.spawn(async move { (stranger.kind, stranger.lifetime(address).await) });
        }
    }
    let mut open = std::collections::BTreeMap::<_, usize>::new();
    for (kind, life) in lives.join_all().await {
        if life > LIFETIME {
            *open.entry(kind).or_default() += 1;
        }
    }
    assert!(open.is_empty(), "still open: {open:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kind_of_connection_lives_longer_than_ten_seconds() {
    let server = TestServer::start().await;
    assert_closed(&server, strangers(), EACH).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_reads_none_of_its_answers_is_closed() {
    let server = TestServer::start().await;
    let requests = "GET /nope HTTP/1.1\r\nHost: t\r\n\r\n".repeat(200_000);
    let mut unread = Stranger::new("pipelined requests, answers unread", requests, None);
    unread.reads = false;
    assert_closed(&server, vec![unread], 4).await;
    server.stop().await;
}

/// Returns a genuine delivery of about 20 KB.
fn genuine(number: i64) -> Vec<u8> {
    let mira = Account::user(900_000_101, "mira");
    let world = World::acme();
    let at = "2026-03-02T09:00:00Z";
    let pull_request = Pr::new(&world, number, Some(&mira), "A title", "a-branch", at);
    let more = json!({"padding": "p".repeat(20_000)});
    let event = payloads::pull_request_event(&pull_request, "opened", &mira, more);
    event.to_string().into_bytes()
}

/// Sends a body but for its last byte, again and again.
async fn hold(address: SocketAddr, bytes: usize) {
    let head = post(
        "/webhooks/github",
        &format!("X-Hub-Signature-256: {FORGED}\r\nContent-Length: {bytes}\r\n"),
    );
    let body = vec![b' '; bytes - 1];
    loop {
        let Ok(mut connection) = TcpStream::connect(address).await else {
            continue;
        };
        let sent = async {
            connection.write_all(head.as_bytes()).await?;
            connection.write_all(&body).await?;
            // Until the server answers.
            connection.read_to_end(&mut Vec::new()).await
        };
        drop(sent.await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_hold_every_byte_of_the_budget_refuse_no_genuine_delivery() {
    let server = TestServer::start().await;
    let address = server.running.address;
    let mut strangers = JoinSet::new();
    // Four of the large ones and the small ones are 80 MiB less 180 bytes, the others press on.
    for _ in 0..8 {
        strangers.spawn(hold(address, 20_657_000));
    }
    for _ in 0..150 {
        strangers.spawn(hold(address, 8_386));
    }
    let mut ticks = interval(Duration::from_millis(50));
    let mut answers = Vec::new();
    for number in 1..=160 {
        ticks.tick().await;
        let sent = Instant::now();
        let (status, _) = server
            .post(
                "pull_request",
                &format!("genuine-{number}"),
                &genuine(number),
            )
            .await;
        answers.push((status, sent.elapsed()));
    }
    strangers.shutdown().await;
    let refused = answers.iter().filter(|(status, _)| *status != 202).count();
    let slowest = answers.iter().map(|(_, time)| *time).max().unwrap();
    assert_eq!(
        refused,
        0,
        "of {}; the slowest took {slowest:?}",
        answers.len()
    );
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let metrics = server
        .http
        .get(format!("{}/metrics", server.url))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    for reason in ["too_slow", "displaced"] {
        let counted = format!("tallyhook_requests_refused_total{{reason=\"{reason}\"}} ");
        assert!(metrics.contains(&counted), "no {counted} in {metrics}");
    }
    server.stop().await;
}

/// Returns the answer to a request that stays unfinished, and the time until it.
async fn answer_to(address: SocketAddr, sent: &[&[u8]]) -> (String, Duration) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let started = Instant::now();
    for part in sent {
        connection.write_all(part).await.unwrap();
    }
    let mut answer = Vec::new();
    let read = timeout(LIFETIME, connection.read_to_end(&mut answer)).await;
    read.expect("it is answered and closed").unwrap();
    (String::from_utf8(answer).unwrap(), started.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_length_over_the_cap_is_refused_at_once() {
    let server = TestServer::start().await;
    for length in ["26214401", "18446744073709551615"] {
        let headers = format!("X-Hub-Signature-256: {FORGED}\r\nContent-Length: {length}\r\n");
        let head = post("/webhooks/github", &headers);
        let (answer, time) = answer_to(server.running.address, &[head.as_bytes()]).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("too_large"), "{answer}");
        assert!(time < Duration::from_secs(3), "{time:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_body_that_stops_is_given_up_before_the_time_of_a_small_one() {
    let server = TestServer::start().await;
    let headers = format!("X-Hub-Signature-256: {FORGED}\r\nContent-Length: 10000000\r\n");
    let head = post("/webhooks/github", &headers);
    let part = vec![b' '; 3_000_000];
    let (answer, time) = answer_to(server.running.address, &[head.as_bytes(), &part]).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("too_slow"),
        "{answer}"
    );
    assert!(time < Duration::from_millis(5500), "{time:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_body_to_the_api_is_answered_with_408_and_a_large_one_with_413() {
    let server = TestServer::start().await;
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    for (length, expected) in [("100", "408"), ("3000000", "413")] {
        let headers = format!("{token}Content-Length: {length}\r\n");
        let head = post("/api/tasks", &headers);
        let (answer, _) = answer_to(server.running.address, &[head.as_bytes(), b"{"]).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{answer}"
        );
        assert!(answer.contains("{\"error\":{\"code\":\"too_"), "{answer}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_all_answered_to_a_client_that_reads() {
    let server = TestServer::start().await;
    let mut connection = TcpStream::connect(server.running.address).await.unwrap();
    let (mut reader, mut writer) = connection.split();
    let request = "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let requests = request.repeat(4999) + last;
    let mut answers = String::new();
    let (sent, read) = tokio::join!(
        writer.write_all(requests.as_bytes()),
        timeout(LIFETIME, reader.read_to_string(&mut answers))
    );
    sent.unwrap();
    read.unwrap().unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 5000);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_payloads_of_one_guid_are_links_and_the_list_has_pages() {
    let mut server = TestServer::start().await;
    let large = |number: usize| {
        let padding = "p".repeat(1_100_000 + number);
        format!("{{\"action\":\"{number}\",\"padding\":\"{padding}\"}}").into_bytes()
    };
    for number in 0..3 {
        let (status, _) = server.post("pull_request", "one", &large(number)).await;
        assert_eq!(status, 202);
    }
    let small = br#"{"action":"opened"}"#;
    assert_eq!(server.post("pull_request", "one", small).await.0, 202);
    server.drained().await;
    let (_, first) = server.get("/api/deliveries/one?per_page=2").await;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let cursor = first["next"].as_str().unwrap();
    let (_, second) = server
        .get(&format!("/api/deliveries/one?per_page=2&cursor={cursor}"))
        .await;
    let items: Vec<_> = [&first, &second]
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .collect();
    assert!(items.len() == 4 && second["next"].is_null());
    for (number, item) in items.iter().take(3).enumerate() {
        assert!(item["payload"].is_null());
        let (status, payload) = server.get(item["payload_url"].as_str().unwrap()).await;
        assert_eq!(
            (status, &payload["action"]),
            (200, &json!(number.to_string()))
        );
    }
    assert_eq!(items[3]["payload"], json!({"action": "opened"}));
    assert_eq!(items[3].get("payload_url"), None);
    assert_eq!(server.get("/api/delivery-payloads/999").await.0, 404);
    server.stop().await;
}
