//! The request budget: the precedence of live work over backfill, and the circuit breaker.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tallyhook_github_client::{
    BreakerState, Client, ClientStatistics, Clock, Credentials, GithubError, Token, VirtualTime,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{REPO, again, fake, seconds};
use testkit::github::{Fault, GITHUB_TOKEN};

/// An answer with `remaining` of an allowance of 5,000, which is reset in ten minutes.
fn leaving(remaining: u32, resource: &str) -> Fault {
    let (remaining, reset) = (
        remaining.to_string(),
        (Utc::now().timestamp() + 600).to_string(),
    );
    let headers = [
        ("X-RateLimit-Limit", "5000"),
        ("X-RateLimit-Remaining", remaining.as_str()),
        ("X-RateLimit-Reset", reset.as_str()),
        ("X-RateLimit-Resource", resource),
    ];
    Fault::answer(200, &headers, r#"{"data": {"repository": {}}}"#)
}

async fn query(client: &Client) {
    client
        .graphql::<Value>("{ repository { id } }", &json!({}), "acme-corp/api-server")
        .await
        .unwrap();
}

#[tokio::test]
async fn backfill_leaves_a_fifth_to_live_work() {
    let (github, live, time) = fake().await;
    let backfill = live.for_backfill();
    github.next([leaving(1000, "core")]);
    backfill.get::<Value>(REPO).await.unwrap();
    github.next([leaving(999, "core"), leaving(998, "core")]);
    backfill.get::<Value>(REPO).await.unwrap();
    live.get::<Value>(REPO).await.unwrap();
    assert_eq!(time.waits().len(), 0, "a fifth is left, or it is live work");

    // Queries have an allowance of their own.
    github.next([leaving(4000, "graphql")]);
    query(&backfill).await;
    assert_eq!(time.waits().len(), 0);
    backfill.get::<Value>(REPO).await.unwrap();
    assert!(
        matches!(seconds(&time)[..], [595..=601]),
        "{:?}",
        time.waits()
    );

    github.next([
        leaving(7, "graphql"),
        leaving(6, "graphql"),
        Fault::None,
        leaving(5000, "graphql"),
    ]);
    query(&backfill).await;
    query(&live).await;
    backfill.get::<Value>(REPO).await.unwrap();
    assert_eq!(time.waits().len(), 1);
    query(&backfill).await;
    assert_eq!(time.waits().len(), 2);
    github.stop().await;
}

#[tokio::test]
async fn without_limits_no_request_waits() {
    let (github, live, time) = fake().await;
    github.next(again(&Fault::answer(200, &[], "{}"), 3));
    for client in [&live.for_backfill(), &live, &live.for_backfill()] {
        client.get::<Value>(REPO).await.unwrap();
    }
    assert_eq!(
        (time.waits(), live.statistics().allowances),
        (vec![], vec![])
    );
    github.stop().await;
}

#[tokio::test]
async fn rate_limit_met_by_backfill_holds_for_all() {
    let (github, live, time) = fake().await;
    github.next([Fault::message(429, &[("Retry-After", "7200")], "")]);
    for client in [live.for_backfill(), live] {
        let error = client.get::<Value>(REPO).await.unwrap_err();
        assert_eq!(
            error,
            GithubError::Limited {
                until: time.now() + TimeDelta::hours(2)
            }
        );
    }
    assert_eq!(github.asked().len(), 1);
    github.stop().await;
}

#[tokio::test]
async fn live_work_overtakes_running_backfill() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let token = Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap());
    let live = Client::new(api, token).unwrap();
    let backfill: Vec<_> = (0..3)
        .map(|_| tokio::spawn(get(live.for_backfill(), "/backfill")))
        .collect();
    let mut held = [
        accept(&listener, "/backfill").await,
        accept(&listener, "/backfill").await,
    ]
    .into_iter();
    // The third request of backfill was sent before it, and has no permit until one of the two is
    // answered.
    for _ in 0..20 {
        let asking = tokio::spawn(get(live.clone(), "/live"));
        answer(accept(&listener, "/live").await).await;
        asking.await.unwrap().unwrap();
    }
    answer(held.next().unwrap()).await;
    answer(accept(&listener, "/backfill").await).await;
    answer(held.next().unwrap()).await;
    for asked in backfill {
        asked.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn request_in_backoff_blocks_no_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let token = Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap());
    let backfill = Client::new(api, token).unwrap().for_backfill();
    let waiting: Vec<_> = (0..2)
        .map(|_| tokio::spawn(get(backfill.clone(), "/waiting")))
        .collect();
    for _ in &waiting {
        let mut stream = accept(&listener, "/waiting").await;
        let busy = b"HTTP/1.1 503 Busy\r\nConnection: close\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(busy).await.unwrap();
    }
    let asking = tokio::spawn(get(backfill, "/third"));
    // The third is sent long before the two are retried.
    let third = tokio::time::timeout(Duration::from_secs(20), accept(&listener, "/third"));
    answer(third.await.unwrap()).await;
    asking.await.unwrap().unwrap();
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn get(client: Client, path: &'static str) -> Result<Value, GithubError> {
    client.get(path).await
}

/// Accepts the next request, and asserts its path.
async fn accept(listener: &TcpListener, path: &str) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with(&format!("GET {path} ")), "{head}");
    stream
}

async fn answer(mut stream: TcpStream) {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        .await
        .unwrap();
}

fn breaker(client: &Client) -> BreakerState {
    client.statistics().breaker.state
}

#[tokio::test]
async fn circuit_breaker_opens_after_repeated_failures() {
    let (github, client, time) = fake().await;
    // The fifth consecutive failure is within the second call, which is not retried after it.
    github.next(
        again(&Fault::status(503), 4)
            .into_iter()
            .chain([Fault::Truncated]),
    );
    client.get::<Value>(REPO).await.unwrap_err();
    assert_eq!(breaker(&client), BreakerState::Closed);
    client.get::<Value>(REPO).await.unwrap_err();
    assert_eq!(
        (breaker(&client), github.asked().len()),
        (BreakerState::Open, 5)
    );

    let until = client.statistics().breaker.until.unwrap();
    for client in [&client, &client.for_backfill()] {
        let error = client.get::<Value>(REPO).await.unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("the response broke off") && message.contains(&until.to_string()),
            "{error}"
        );
        assert!(matches!(error, GithubError::Unreachable { .. }));
    }
    assert_eq!(
        (
            github.asked().len(),
            client
                .statistics()
                .last_error
                .unwrap()
                .contains("no request is sent")
        ),
        (0, true)
    );

    time.pass(Duration::from_secs(5));
    assert_eq!(breaker(&client), BreakerState::HalfOpen);
    github.next([Fault::status(500)]);
    client.get::<Value>(REPO).await.unwrap_err();
    assert_eq!(
        (breaker(&client), github.asked().len()),
        (BreakerState::Open, 1),
        "one trial"
    );
    time.pass(Duration::from_secs(9));
    client.get::<Value>(REPO).await.unwrap_err();
    time.pass(Duration::from_secs(1));
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(
        (breaker(&client), github.asked().len()),
        (BreakerState::Closed, 1)
    );
    github.stop().await;
}

#[tokio::test]
async fn expensive_query_or_refusal_does_not_open_the_circuit_breaker() {
    let (github, client, _) = fake().await;
    github.next(again(&Fault::status(504), 6));
    for _ in 0..6 {
        let error = client
            .graphql::<Value>("{ repository { id } }", &json!({}), "a/b")
            .await
            .unwrap_err();
        assert!(matches!(error, GithubError::TooMuch { .. }), "{error}");
    }
    github.next(again(&Fault::message(404, &[], "Not Found"), 6));
    for _ in 0..6 {
        client.get::<Value>(REPO).await.unwrap_err();
    }
    assert_eq!(breaker(&client), BreakerState::Closed);
    github.stop().await;
}

#[tokio::test]
async fn statistics_cover_all_handles() {
    let github = testkit::github::FakeGithub::start().await;
    github.add_repository(7, "acme-corp/api-server");
    let time = VirtualTime::starting_at(Utc::now());
    let token = Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap());
    let client = Client::with(
        github.api(),
        token,
        Clock::Virtual(time.clone()),
        Duration::from_millis(200),
    )
    .unwrap();
    github.next([
        Fault::status(502),
        Fault::Slow(Duration::from_secs(20)),
        Fault::None,
        Fault::status(404),
    ]);
    client.get_conditional::<Value>(REPO).await.unwrap();
    client.for_backfill().get::<Value>(REPO).await.unwrap_err();
    client.get_conditional::<Value>(REPO).await.unwrap();
    let statistics: ClientStatistics = client.statistics();
    let reset = statistics.allowances[0].resets_at;
    assert_eq!(
        serde_json::to_value(&statistics).unwrap(),
        json!({
            "requests": 5, "failed": 3,
            "by_status": {"2xx": 1, "3xx": 1, "4xx": 1, "5xx": 1, "none": 1},
            "allowances": [{
                "resource": "core", "installation": null, "limit": 5000, "remaining": 4999, "resets_at": reset,
            }],
            "breaker": {"state": "closed", "until": null},
            "last_error": format!("GitHub has no {REPO}, or this token may not see it"),
        })
    );
    assert_eq!(client.requests(), 5);
    github.stop().await;
}
