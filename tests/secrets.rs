//! No secret, no token and no body is shown: planted ones are looked for wherever something is written or answered.

#[path = "support/process.rs"]
mod process;
#[path = "support/receiver.rs"]
mod receiver;
mod support;

use chrono::Utc;
use serde_json::json;

use process::{PATIENCE, SECRET, Serve, TOKEN, get, run, signed, tallyhook};
use receiver::{Receiver, Reply};
use support::Place;
use support::payloads::{Account, Pr, World, pull_request_event, rfc3339};

/// The end of a channel's address, and the secret that it signs with.
const HOOK: &str = "canary-of-a-hook";
const HOOK_SECRET: &str = "canary-of-a-channel";
/// Part of a payload, which belongs into the database and into no log.
const IN_BODY: &str = "canary-of-a-payload";

#[tokio::test(flavor = "multi_thread")]
async fn planted_canaries_are_found_in_no_log_metric_answer_or_file() {
    let place = Place::new().await;
    let made = run(&mut tallyhook(place.path(), &["migrate"]));
    assert_eq!(made.code, Some(0));
    let made = run(&mut tallyhook(place.path(), &["token", "create", "ci"])).ok();
    let created = made.trim();

    let receiver = Receiver::start().await;
    // Each notification, and the message that tries the channel out, as often as they may be sent.
    receiver.replies((0..10).map(|_| Reply::Echo));
    let mut command = tallyhook(place.path(), &["serve", "--log-format", "json"]);
    command.env(
        "NOTIFY_WEBHOOK_URL",
        format!("{}/{HOOK}?token={HOOK}", receiver.url),
    );
    command
        .env("NOTIFY_WEBHOOK_SECRET", HOOK_SECRET)
        .env("NOTIFY_ALLOW_PRIVATE", "true");
    let serve = Serve::start_command(command.env("RUST_LOG", "debug"));
    let http = reqwest::Client::new();
    for fixture in support::fixtures() {
        let answer = signed(
            &http,
            &serve.url,
            &fixture.event,
            &fixture.guid,
            &fixture.payload,
        )
        .send()
        .await
        .unwrap();
        assert!(answer.status().is_success());
    }
    // One that cannot be decoded, and one that is not signed: both leave a trace.
    let broken = format!(
        r#"{{"action":"opened","pull_request":"{}"}}"#,
        IN_BODY.repeat(1000)
    );
    let answer = signed(
        &http,
        &serve.url,
        "pull_request",
        "broken",
        broken.as_bytes(),
    )
    .send()
    .await
    .unwrap();
    assert_eq!(answer.status(), 202);
    let unsigned = http
        .post(format!("{}/webhooks/github", serve.url))
        .header("Content-Type", "application/json");
    assert_eq!(unsigned.body(IN_BODY).send().await.unwrap().status(), 401);
    assert_eq!(
        http.get(format!("{}/api/prs", serve.url))
            .bearer_auth(IN_BODY)
            .send()
            .await
            .unwrap()
            .status(),
        401
    );

    // One that is told, to who repeats where it was sent to.
    let mira = Account::user(900_000_101, "mira");
    let pr = Pr::new(
        &World::acme(),
        700,
        Some(&mira),
        "New",
        "new",
        &rfc3339(Utc::now().timestamp()),
    );
    let opened = pull_request_event(&pr, "opened", &mira, json!({})).to_string();
    let answer = signed(&http, &serve.url, "pull_request", "new", opened.as_bytes())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    let refused = async {
        let refusal = "404 Not Found: Cannot POST";
        while !get(&http, &serve.url, "/api/notifications")
            .await
            .to_string()
            .contains(refusal)
        {}
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();

    let mut answers = String::new();
    for path in [
        "/api/prs?per_page=100",
        "/api/metrics/cycle-time",
        "/api/deliveries?per_page=100",
        "/api/dead-letters",
        "/api/channels",
        "/api/notifications",
    ] {
        answers += &get(&http, &serve.url, path).await.to_string();
    }
    let tried = http
        .post(format!("{}/api/channels/webhook/test", serve.url))
        .bearer_auth(TOKEN)
        .send()
        .await
        .unwrap();
    let tried = tried.text().await.unwrap();
    assert!(tried.contains("Cannot POST"), "{tried}");
    answers += &tried;
    for path in ["/metrics", "/readyz", "/healthz"] {
        answers += &http
            .get(format!("{}{path}", serve.url))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
    }
    let (status, log) = serve.terminate();
    assert!(status.success());
    let log = log.join("\n");
    assert!(
        log.contains("a delivery is a dead letter"),
        "nothing was logged"
    );
    assert!(
        answers.contains("acme-corp/api-server")
            && answers.contains("tallyhook_signature_failures_total")
    );

    // The passwords of a database and a broker elsewhere are in URLs, and their dump is what is kept of everything.
    for url in [Some(&place.database_url), place.amqp_url.as_ref()]
        .into_iter()
        .flatten()
    {
        if let Some((user, _)) = url.split_once('@') {
            let password = user.rsplit_once(':').unwrap().1;
            assert!(password.len() > 8 && !log.contains(password) && !answers.contains(password));
        }
    }
    if place.amqp_url.is_some() {
        let mut dump = std::process::Command::new("pg_dump");
        let dump = dump
            .args(["--format=plain", "--inserts", &place.database_url])
            .output()
            .unwrap();
        assert!(dump.status.success() && dump.stdout.len() > 10_000);
        std::fs::write(place.path().join("dump"), dump.stdout).unwrap();
    }
    for canary in [SECRET, TOKEN, created, HOOK, HOOK_SECRET] {
        assert!(!log.contains(canary), "{canary} is in the log");
        assert!(!answers.contains(canary), "{canary} is in an answer");
        for entry in std::fs::read_dir(place.path()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let shown = bytes
                .windows(canary.len())
                .any(|window| window == canary.as_bytes());
            assert!(!shown, "{canary} is in {}", path.display());
        }
    }
    // The first few words of what was wrong are told, and no more of it.
    let longest = log.lines().map(str::len).max().unwrap_or_default();
    assert!(longest < 2000, "a line of {longest} bytes is in the log");
    assert!(log.matches(IN_BODY).count() < 15, "a body is in the log");
}
