//! The webhook endpoint from outside: every row of its table of answers, over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tallyhook::app::{RunningServer, ServerOptions};
use tallyhook::ingest::IngestLimits;
use tallyhook_core::github::host::GithubHost;
use tallyhook_core::github::signature::Secrets;

use testkit::payloads::{self, Account, Comment, Pr, World};
use testkit::{Place, SECRET, TestServer, assert_refused, sign};

const GUID: &str = "0b1c6a52-7b6e-4d0e-9a5a-2f4de1c0a001";

fn mira() -> Account {
    Account::user(900_000_101, "mira")
}

fn pull_request() -> Pr {
    let title = "Answer 429 when the rate limit is reached";
    Pr::new(
        &World::acme(),
        7,
        Some(&mira()),
        title,
        "rate-limit",
        "2026-03-02T09:00:00Z",
    )
}

/// The delivery of an opened pull request.
fn opened() -> Vec<u8> {
    payloads::pull_request_event(&pull_request(), "opened", &mira(), json!({}))
        .to_string()
        .into_bytes()
}

fn with_limits(limits: IngestLimits) -> ServerOptions {
    ServerOptions {
        limits,
        ..ServerOptions::default()
    }
}

async fn send(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Returns the stored deliveries, newest first.
async fn stored(server: &TestServer) -> Vec<Value> {
    let (status, list) = server.get("/api/deliveries?per_page=100").await;
    assert_eq!(status, 200, "{list}");
    list["items"].as_array().unwrap().clone()
}

fn form(body: &[u8]) -> Vec<u8> {
    let payload = std::str::from_utf8(body).unwrap();
    form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", payload)
        .finish()
        .into_bytes()
}

fn form_request(server: &TestServer, guid: &str, form: &[u8], signature: String) -> RequestBuilder {
    server
        .http
        .post(format!("{}/webhooks/github", server.url))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("X-GitHub-Event", "pull_request")
        .header("X-GitHub-Delivery", guid)
        .header("X-Hub-Signature-256", signature)
        .body(form.to_vec())
}

#[tokio::test]
async fn a_delivery_is_accepted_once_and_applied() {
    let mut server = TestServer::start().await;
    let first = server.post("pull_request", GUID, &opened()).await;
    assert_eq!(
        first,
        (202, json!({"status": "accepted", "delivery": GUID}))
    );
    let again = server.post("pull_request", GUID, &opened()).await;
    assert_eq!(
        again,
        (202, json!({"status": "duplicate", "delivery": GUID}))
    );
    server.drained().await;
    let late = server.post("pull_request", GUID, &opened()).await;
    assert_eq!(late.1["status"], "duplicate");

    let stored = stored(&server).await;
    assert_eq!(stored.len(), 1);
    assert_eq!(
        (&stored[0]["state"], &stored[0]["attempts"]),
        (&json!("applied"), &json!(1))
    );
    assert_eq!(stored[0]["body_bytes"], opened().len());
    let (status, found) = server.get("/api/prs/7").await;
    assert_eq!(
        (status, &found["title"], &found["author"]),
        (200, &json!(pull_request().title), &json!("mira"))
    );
    server.stop().await;
}

#[tokio::test]
async fn one_guid_with_another_body_is_another_delivery() {
    let mut server = TestServer::start().await;
    let mut closed = pull_request();
    closed.close("2026-03-02T10:00:00Z");
    let closed = payloads::pull_request_event(&closed, "closed", &mira(), json!({})).to_string();
    assert_eq!(
        server.post("pull_request", GUID, &opened()).await.1["status"],
        "accepted"
    );
    assert_eq!(
        server.post("pull_request", GUID, closed.as_bytes()).await.1["status"],
        "accepted"
    );
    server.drained().await;
    let (_, both) = server.get(&format!("/api/deliveries/{GUID}")).await;
    let actions: Vec<_> = both["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["action"].clone())
        .collect();
    assert_eq!(actions, ["opened", "closed"]);
    server.stop().await;
}

#[tokio::test]
async fn delivery_of_another_github_is_refused_with_its_host() {
    let server = TestServer::start().await;
    let body = opened();
    let sent = async |guid: &str, body: &[u8], header: Option<(&str, &str)>| {
        let request = server.signed("pull_request", guid, body);
        let request = match header {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        send(request.body(body.to_vec())).await
    };
    let of_server = String::from_utf8(body.clone())
        .unwrap()
        .replace("https://github.com/", "https://ghe.example/");
    let enterprise = |host| Some(("X-GitHub-Enterprise-Host", host));
    assert_eq!(sent("first", &body, None).await.0, 202);
    for (body, header, word) in [
        (&body[..], enterprise("ghe.example"), "ghe.example"),
        (of_server.as_bytes(), None, "ghe.example"),
        (&body, enterprise("api.acme.ghe.com"), "of acme.ghe.com,"),
        (&body, Some(("X-Gitea-Event", "pull_request")), "of Gitea"),
        (&body, Some(("X-Forgejo-Delivery", "1")), "of Forgejo"),
        (&body, Some(("X-Gogs-Signature", "1")), "of Gogs"),
    ] {
        let refused = sent("other", body, header).await;
        assert_refused(&refused, 400, "other_host");
        let message = refused.1["error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{message}");
    }
    assert_eq!(stored(&server).await.len(), 1);
    for header in [
        None,
        enterprise("GitHub.com"),
        Some(("X-GitHub-Tenant", "acme")),
    ] {
        let (status, answer) = sent("again", &body, header).await;
        assert_eq!(status, 202, "{answer}");
    }

    // The stored host decides after a restart, too, and settings of another GitHub do not start.
    let place = server.stop().await;
    let mut config = testkit::config(&place);
    config.github_host = GithubHost::parse("ghe.example");
    let refused = RunningServer::start(&config, ServerOptions::default()).await;
    let error = refused.err().unwrap().to_string();
    assert!(
        error.contains("ghe.example") && error.contains("github.com"),
        "{error}"
    );
    let server = TestServer::start_in(place, ServerOptions::default()).await;
    let request = server.signed("pull_request", "late", of_server.as_bytes());
    let refused = send(request.body(of_server.clone())).await;
    assert_refused(&refused, 400, "other_host");
    server.stop().await;
}

#[tokio::test]
async fn wrong_github_of_the_settings_is_corrected_as_long_as_there_is_no_fact() {
    let place = TestServer::start().await.stop().await;
    for host in ["ghe-typo.example", "github.com"] {
        let mut config = testkit::config(&place);
        config.github_host = GithubHost::parse(host);
        let server = RunningServer::start(&config, ServerOptions::default()).await;
        server.expect(host).stop().await;
    }
    let server = TestServer::start_in(place, ServerOptions::default()).await;
    let body = opened();
    let request = server.signed("pull_request", "first", &body);
    assert_eq!(send(request.body(body)).await.0, 202);
    server.stop().await;
}

#[tokio::test]
async fn undecodable_used_event_is_a_dead_letter_that_a_redelivery_requeues() {
    let mut server = TestServer::start().await;
    let broken = br#"{"action":"opened"}"#;
    let answer = |status: &str| {
        let why = "cannot be decoded: missing field `pull_request`";
        let answer = json!({"status": status, "delivery": GUID, "dead_letter": why});
        (202, answer)
    };
    assert_eq!(
        server.post("pull_request", GUID, broken).await,
        answer("accepted")
    );
    let dead = stored(&server).await.remove(0);
    assert_eq!(dead["state"], "dead");
    assert!(
        dead["reason"]
            .as_str()
            .unwrap()
            .starts_with("cannot be decoded: missing field"),
        "{dead}"
    );

    let again = server.post("pull_request", GUID, broken).await;
    assert_eq!(again, answer("requeued"));
    server.drained().await;
    let dead = stored(&server).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (&dead[0]["state"], &dead[0]["attempts"]),
        (&json!("dead"), &json!(1))
    );
    server.stop().await;
}

#[tokio::test]
async fn an_event_that_is_not_used_is_answered_and_not_stored() {
    let server = TestServer::start().await;
    let answer = server.post("star", GUID, br#"{"action":"created"}"#).await;
    assert_eq!(
        answer,
        (202, json!({"status": "ignored", "delivery": GUID}))
    );
    assert_eq!(stored(&server).await, Vec::<Value>::new());
    server.stop().await;
}

#[tokio::test]
async fn a_used_event_without_a_pull_request_is_stored_and_ignored() {
    let mut server = TestServer::start().await;
    let comment = Comment {
        id: 1,
        author: Some(mira()),
        body: "+1".into(),
        created_at: "2026-03-02T09:30:00Z".into(),
    };
    let comment = payloads::issue_comment_event(&pull_request(), "created", &comment, &mira());
    let comment = payloads::on_plain_issue(comment).to_string();
    let answer = server.post("issue_comment", GUID, comment.as_bytes()).await;
    assert_eq!(
        answer,
        (202, json!({"status": "ignored", "delivery": GUID}))
    );

    // A push is processed for what it shows of the repository.
    let (before, after) = (payloads::sha("before"), payloads::sha("after"));
    let push = payloads::push_event(
        &World::acme(),
        "main",
        (&before, &after),
        &mira(),
        "2026-03-02T09:40:00Z",
    );
    let answer = server
        .post("push", "a-push", push.to_string().as_bytes())
        .await;
    assert_eq!(
        answer,
        (202, json!({"status": "accepted", "delivery": "a-push"}))
    );
    server.drained().await;

    let found: Vec<_> = stored(&server)
        .await
        .iter()
        .map(|one| (one["event"].clone(), one["state"].clone()))
        .collect();
    assert_eq!(
        found,
        [
            (json!("push"), json!("ignored")),
            (json!("issue_comment"), json!("ignored"))
        ]
    );
    assert_eq!(server.get("/api/prs").await.1["items"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn a_ping_is_answered_and_not_stored() {
    let server = TestServer::start().await;
    let ping = payloads::ping_event(&World::acme(), &mira(), "2026-03-02T08:00:00Z").to_string();
    let answer = server.post("ping", GUID, ping.as_bytes()).await;
    assert_eq!(answer, (200, json!({"status": "pong", "delivery": GUID})));
    assert_eq!(stored(&server).await, Vec::<Value>::new());
    server.stop().await;
}

#[tokio::test]
async fn signed_requests_without_usable_headers_or_json_are_bad_requests() {
    let server = TestServer::start().await;
    let body = opened();
    let request = |headers: &[(&str, &str)]| {
        let mut request = server.http.post(format!("{}/webhooks/github", server.url));
        request = request
            .header("Content-Type", "application/json")
            .header("X-Hub-Signature-256", sign(&body));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body.clone())
    };
    let long = "g".repeat(101);
    for headers in [
        &[("X-GitHub-Delivery", GUID)][..],
        &[("X-GitHub-Event", "pull_request")],
        &[("X-GitHub-Event", ""), ("X-GitHub-Delivery", GUID)],
        &[
            ("X-GitHub-Event", "pull_request"),
            ("X-GitHub-Delivery", " "),
        ],
        &[
            ("X-GitHub-Event", "pull_request"),
            ("X-GitHub-Delivery", &long),
        ],
        &[
            ("X-GitHub-Event", "pull request"),
            ("X-GitHub-Delivery", GUID),
        ],
        &[],
    ] {
        assert_refused(&send(request(headers)).await, 400, "bad_header");
    }
    for (event, body) in [
        ("pull_request", &b"not json"[..]),
        ("pull_request", b""),
        ("pull_request", b"{\"action\":\"opened\""),
        ("star", b"not json"),
        ("ping", b"not json"),
        ("pull_request", b"\xff\xfe"),
    ] {
        assert_refused(&server.post(event, GUID, body).await, 400, "not_json");
    }
    let without_payload = b"other=%7B%7D";
    assert_refused(
        &send(form_request(
            &server,
            GUID,
            without_payload,
            sign(without_payload),
        ))
        .await,
        400,
        "not_json",
    );
    assert_eq!(stored(&server).await, Vec::<Value>::new());
    server.stop().await;
}

#[tokio::test]
async fn unsigned_requests_get_401_and_store_nothing() {
    let server = TestServer::start().await;
    let body = opened();
    let of_another_secret = Secrets::single("another secret")
        .unwrap()
        .sign(&body)
        .to_header();
    let good = sign(&body);
    let unsigned = || {
        let request = server.http.post(format!("{}/webhooks/github", server.url));
        let request = request
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", "pull_request");
        request.header("X-GitHub-Delivery", GUID)
    };
    let sha1 = "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6";
    for signatures in [
        &[][..],
        &[("X-Hub-Signature", sha1)],
        &[("X-Hub-Signature", &*good)],
        &[("X-Hub-Signature-256", sha1)],
        &[("X-Hub-Signature-256", "")],
        &[("X-Hub-Signature-256", "sha256=")],
        &[("X-Hub-Signature-256", &good[7..])],
        &[("X-Hub-Signature-256", &good[..good.len() - 2])],
        &[("X-Hub-Signature-256", &of_another_secret)],
        &[("X-Hub-Signature-256", &sign(b"another body"))],
        &[("X-Hub-Signature-256", &sign(b""))],
        &[
            ("X-Hub-Signature-256", &good),
            ("X-Hub-Signature-256", &good),
        ],
        &[
            ("X-Hub-Signature-256", &of_another_secret),
            ("X-Hub-Signature-256", &good),
        ],
    ] {
        let mut request = unsigned();
        for (name, value) in signatures {
            request = request.header(*name, *value);
        }
        assert_refused(
            &send(request.body(body.clone())).await,
            401,
            "bad_signature",
        );
    }
    // Neither the other headers nor the body are looked at before the signature holds.
    let wrong = server
        .http
        .post(format!("{}/webhooks/github", server.url))
        .header("Content-Type", "application/json");
    let wrong = wrong
        .header("X-Hub-Signature-256", of_another_secret)
        .body("not json");
    assert_refused(&send(wrong).await, 401, "bad_signature");
    assert_eq!(stored(&server).await, Vec::<Value>::new());
    server.stop().await;
}

#[tokio::test]
async fn three_hundred_mutations_of_a_signed_request_are_all_refused() {
    let server = TestServer::start().await;
    let (body, signature) = (opened(), sign(&opened()));
    let mut random = StdRng::seed_from_u64(1);
    for round in 0..300 {
        let (mut mutant, mut header) = (body.clone(), signature.clone().into_bytes());
        match round % 5 {
            0 => mutant[random.random_range(0..body.len())] ^= random.random_range(1..=255_u8),
            1 => mutant.truncate(random.random_range(0..body.len())),
            2 => mutant.insert(random.random_range(0..=body.len()), random.random()),
            3 => {
                let place = random.random_range(0..header.len());
                let others: Vec<_> = (b'!'..=b'~')
                    .filter(|byte| !byte.eq_ignore_ascii_case(&header[place]))
                    .collect();
                header[place] = others[random.random_range(0..others.len())];
            }
            _ => drop(header.remove(random.random_range(0..header.len()))),
        }
        let request = server.http.post(format!("{}/webhooks/github", server.url));
        let request = request
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", "pull_request");
        let request = request.header("X-GitHub-Delivery", GUID);
        let request = request.header("X-Hub-Signature-256", header).body(mutant);
        assert_refused(&send(request).await, 401, "bad_signature");
    }
    assert_eq!(stored(&server).await, Vec::<Value>::new());
    assert_eq!(
        server.post("pull_request", GUID, &body).await.1["status"],
        "accepted"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_body_over_the_cap_is_too_large_and_one_of_just_the_cap_is_not() {
    let server = TestServer::start_with(with_limits(IngestLimits {
        json_bytes: 1000,
        form_bytes: 1200,
        ..IngestLimits::default()
    }))
    .await;
    let of_size = |size: usize| format!("{{\"zen\":\"{}\"}}", "z".repeat(size - 10)).into_bytes();
    assert_eq!(server.post("ping", GUID, &of_size(1000)).await.0, 200);
    assert_refused(
        &server.post("ping", GUID, &of_size(1001)).await,
        413,
        "too_large",
    );
    let form_of_size =
        |size: usize| format!("payload=%7B%7D&padding={}", "p".repeat(size - 23)).into_bytes();
    for (size, expected) in [(1200, 202), (1201, 413)] {
        let form = form_of_size(size);
        assert_eq!(form.len(), size);
        assert_eq!(
            send(form_request(&server, GUID, &form, sign(&form)))
                .await
                .0,
            expected
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn the_cap_is_twenty_five_mebibytes() {
    let server = TestServer::start().await;
    let mut body = vec![b' '; 25 * 1024 * 1024];
    // A well-formed signature of something else: what fits is read to its end and found to be unsigned.
    let request = |body: Vec<u8>| {
        send(
            server
                .signed("pull_request", GUID, b"something else")
                .body(body),
        )
    };
    assert_refused(&request(body.clone()).await, 401, "bad_signature");
    body.push(b' ');
    assert_refused(&request(body).await, 413, "too_large");
    assert_eq!(stored(&server).await, Vec::<Value>::new());
    server.stop().await;
}

#[tokio::test]
async fn only_plain_json_and_forms_are_media_types_of_webhooks() {
    let server = TestServer::start().await;
    let body = opened();
    let request = |headers: &[(&str, &str)]| {
        let mut request = server.http.post(format!("{}/webhooks/github", server.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .header("X-GitHub-Event", "pull_request")
            .header("X-GitHub-Delivery", GUID);
        request
            .header("X-Hub-Signature-256", sign(&body))
            .body(body.clone())
    };
    for headers in [
        &[][..],
        &[("Content-Type", "")],
        &[("Content-Type", "text/plain")],
        &[("Content-Type", "application/xml")],
        &[("Content-Type", "application/jsonx")],
        &[("Content-Type", "multipart/form-data; boundary=x")],
        &[
            ("Content-Type", "application/json"),
            ("Content-Encoding", "gzip"),
        ],
        &[
            ("Content-Type", "application/json"),
            ("Content-Encoding", "identity"),
        ],
        &[
            ("Content-Type", "application/json"),
            ("Content-Encoding", ""),
        ],
    ] {
        assert_refused(&send(request(headers)).await, 415, "unsupported_media_type");
    }
    assert_eq!(stored(&server).await, Vec::<Value>::new());
    let answer = send(request(&[(
        "Content-Type",
        "Application/JSON; charset=utf-8",
    )]))
    .await;
    assert_eq!((answer.0, &answer.1["status"]), (202, &json!("accepted")));
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_given_up() {
    let limits = IngestLimits {
        body_time: Duration::from_millis(50),
        ..IngestLimits::default()
    };
    let server = TestServer::start_with(with_limits(limits)).await;
    let address = server.running.address;
    let body = opened();
    // Half of the body, then silence with the connection open.
    let answer = tokio::task::spawn_blocking(move || {
        let mut connection = TcpStream::connect(address).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let head = format!(
            "POST /webhooks/github HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nX-GitHub-Event: pull_request\r\n\
             X-GitHub-Delivery: {GUID}\r\nX-Hub-Signature-256: {}\r\nContent-Length: {}\r\n\r\n",
            sign(&body),
            body.len()
        );
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(&body[..body.len() / 2]).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    let (head, json) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_refused(&(408, serde_json::from_str(json).unwrap()), 408, "too_slow");
    assert_eq!(stored(&server).await, Vec::<Value>::new());
    server.stop().await;
}

async fn assert_unavailable(request: RequestBuilder) {
    let response = request.send().await.unwrap();
    let retry_after = response.headers()["Retry-After"]
        .to_str()
        .unwrap()
        .parse::<u32>()
        .unwrap();
    assert!(retry_after > 0);
    let status = response.status().as_u16();
    assert_refused(
        &(status, response.json().await.unwrap()),
        503,
        "unavailable",
    );
}

#[tokio::test]
async fn bodies_beyond_the_budget_get_503_and_the_budget_is_released() {
    let body = opened();
    let limits = IngestLimits {
        in_flight_bytes: body.len(),
        small_reserve_bytes: 0,
        ..IngestLimits::default()
    };
    let server = TestServer::start_with(with_limits(limits)).await;
    let larger = [&body[..], b" "].concat();
    for _ in 0..3 {
        assert_unavailable(
            server
                .signed("pull_request", GUID, &larger)
                .body(larger.clone()),
        )
        .await;
    }
    assert_eq!(stored(&server).await, Vec::<Value>::new());
    // All of the budget is free again, every time.
    for guid in ["one", "two", "three"] {
        assert_eq!(
            server.post("pull_request", guid, &body).await.1["status"],
            "accepted"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn delivery_that_cannot_be_stored_gets_503() {
    let server = TestServer::start().await;
    server.running.store.close().await;
    let body = opened();
    assert_unavailable(
        server
            .signed("pull_request", GUID, &body)
            .body(body.clone()),
    )
    .await;
    // The signature is checked all the same, and a wrong one is answered as ever.
    let wrong = server
        .signed("pull_request", GUID, b"another body")
        .body(body);
    assert_refused(&send(wrong).await, 401, "bad_signature");
    server.stop().await;
}

#[tokio::test]
async fn a_form_is_signed_as_it_was_sent_and_stored_as_its_json() {
    let mut server = TestServer::start().await;
    let (json_body, form) = (opened(), form(&opened()));
    assert_refused(
        &send(form_request(&server, GUID, &form, sign(&json_body))).await,
        401,
        "bad_signature",
    );
    let answer = send(form_request(&server, GUID, &form, sign(&form))).await;
    assert_eq!(
        answer,
        (202, json!({"status": "accepted", "delivery": GUID}))
    );
    // The same payload as JSON is the same delivery.
    assert_eq!(
        server.post("pull_request", GUID, &json_body).await.1["status"],
        "duplicate"
    );
    server.drained().await;
    let (_, shown) = server.get(&format!("/api/deliveries/{GUID}")).await;
    assert_eq!(
        shown["items"][0]["payload"],
        serde_json::from_slice::<Value>(&json_body).unwrap()
    );
    assert_eq!(shown["items"][0]["state"], "applied");
    server.stop().await;
}

#[tokio::test]
async fn during_a_rotation_the_old_and_the_new_secret_are_valid() {
    let place = Place::new().await;
    let mut config = testkit::config(&place);
    config.webhook_secrets = Secrets::parse(" the old one \n\nthe-new-one\n");
    let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    let body = opened();
    for (secret, expected) in [
        ("the old one", 202),
        ("the-new-one", 202),
        ("old", 401),
        ("the old one\nthe-new-one", 401),
        ("retired", 401),
        (SECRET, 401),
    ] {
        let request = server.http.post(format!("{}/webhooks/github", server.url));
        let request = request
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", "pull_request");
        let request = request.header("X-GitHub-Delivery", secret.replace([' ', '\n'], "-"));
        let signature = Secrets::single(secret).unwrap().sign(&body).to_header();
        let (status, answer) = send(
            request
                .header("X-Hub-Signature-256", signature)
                .body(body.clone()),
        )
        .await;
        assert_eq!(status, expected, "{secret}: {answer}");
    }
    assert_eq!(stored(&server).await.len(), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_thirty_two_posts_of_one_delivery_at_once_exactly_one_is_accepted() {
    let mut server = TestServer::start().await;
    let body = opened();
    let posts = (0..32).map(|_| server.post("pull_request", GUID, &body));
    let answers = futures_util::future::join_all(posts).await;
    let number = |status: &str| {
        answers
            .iter()
            .filter(|(code, one)| *code == 202 && one["status"] == status)
            .count()
    };
    assert_eq!((number("accepted"), number("duplicate")), (1, 31));
    server.drained().await;
    let stored = stored(&server).await;
    assert_eq!(stored.len(), 1);
    assert_eq!(
        (&stored[0]["state"], &stored[0]["attempts"]),
        (&json!("applied"), &json!(1))
    );
    let (_, found) = server.get("/api/prs/7").await;
    let opened = found["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["type"] == "opened")
        .count();
    assert_eq!(opened, 1);
    server.stop().await;
}
