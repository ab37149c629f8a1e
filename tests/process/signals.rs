//! The end of `serve` by signals: at once if nothing is in flight, and at once if it is asked twice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use testkit::Place;
use testkit::process::{SECRET, Serve, TOKEN, run, tallyhook};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Half a second on an idle machine; below the time that a request in flight would get.
const AT_ONCE: Duration = Duration::from_secs(2);

fn connect(serve: &Serve) -> TcpStream {
    TcpStream::connect(serve.url.trim_start_matches("http://")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_server_with_a_websocket_client_ends_at_once() {
    let place = Place::new().await;
    let serve = Serve::start(place.path());
    // A connection that has asked nothing, and a client of `/ws`.
    let _silent = connect(&serve);
    let url = format!("{}/ws", serve.url.replace("http:", "ws:"));
    let mut request = url.into_client_request().unwrap();
    let token = format!("Bearer {TOKEN}").parse().unwrap();
    request.headers_mut().insert("authorization", token);
    let mut socket = tokio_tungstenite::connect_async(request).await.unwrap().0;
    // It answers the close frame, as browsers do.
    let closing = tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} });

    let started = Instant::now();
    let (status, log) = serve.terminate();
    let took = started.elapsed();
    closing.await.unwrap();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert!(took < AT_ONCE, "it took {took:?}: {log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_a_server_that_waits_for_a_request() {
    let place = Place::new().await;
    let mut serve = Serve::start(place.path());
    // A request in flight, whose body does not come.
    let mut slow = connect(&serve);
    let head = "POST /webhooks/github HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\
                Content-Type: application/json\r\nExpect: 100-continue\r\nX-GitHub-Event: star\r\n\
                X-GitHub-Delivery: one\r\nX-Hub-Signature-256: sha256=00\r\n\r\n";
    slow.write_all(head.as_bytes()).unwrap();
    // The server is reading the body.
    let mut answer = [0; 64];
    let length = slow.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 100"), "{answer:?}");

    serve.ask_to_end();
    serve.wait_for("stopping");
    let started = Instant::now();
    serve.ask_to_end();
    let (status, log) = serve.wait();
    let took = started.elapsed();
    assert_eq!(status.code(), Some(1), "{log:#?}");
    assert!(took < AT_ONCE, "it took {took:?}: {log:#?}");
    let last = log.last().unwrap();
    assert!(last.contains("a second signal"), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_at_the_start_says_what_runs_where_and_with_which_settings() {
    let place = Place::embedded();
    std::fs::write(place.path().join("t.toml"), "sync_interval = '90s'\n").unwrap();
    let arguments = ["serve", "--config", "t.toml", "--log-format", "json"];
    let serve = Serve::start_command(&mut tallyhook(place.path(), &arguments));
    let line = serve.wait_for("tallyhook runs");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let version = run(&mut tallyhook(place.path(), &["-V"])).ok();
    assert_eq!(
        version.trim_end(),
        format!("tallyhook {}", line["version"].as_str().unwrap())
    );
    assert_eq!(
        format!("http://{}", line["address"].as_str().unwrap()),
        serve.url
    );
    for (field, value) in [
        ("database", "sqlite://test.db"),
        ("queue", "in this process"),
        ("roles", "ingest,worker,poller,api"),
        ("config", "t.toml"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    let line = line.to_string();
    assert!(!line.contains(SECRET) && !line.contains(TOKEN), "{line}");
    assert!(serve.terminate().0.success());
}
