//! No secret, token or body is shown: the tests plant canaries, and search all output and all
//! answers for them.

use chrono::Utc;
use serde_json::json;

use testkit::Place;
use testkit::payloads::{Account, Pr, World, pull_request_event, rfc3339};
use testkit::process::{PATIENCE, SECRET, Serve, TOKEN, get, run, signed, tallyhook};
use testkit::receiver::{Receiver, Reply};

/// The last part of a channel's URL, and its signing secret.
const HOOK: &str = "canary-of-a-hook";
const HOOK_SECRET: &str = "canary-of-a-channel";
/// A part of a payload, which belongs into the database, but into no log.
const IN_BODY: &str = "canary-of-a-payload";

#[tokio::test(flavor = "multi_thread")]
async fn planted_canaries_are_found_in_no_log_metric_answer_or_file() {
    let place = Place::new().await;
    let made = run(&mut tallyhook(place.path(), &["migrate"]));
    assert_eq!(made.code, Some(0));
    let made = run(&mut tallyhook(place.path(), &["token", "create", "ci"])).ok();
    let created = made.trim();

    let receiver = Receiver::start().await;
    // Enough replies for the notifications and the test message, with all their retries.
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
    for fixture in testkit::fixtures() {
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
    // A delivery that cannot be decoded, and one without a signature: both are logged.
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

    // A change that is notified to a receiver that echoes the URL of the request.
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
    assert!(log.contains("is a dead letter"), "nothing was logged");
    assert!(
        answers.contains("acme-corp/api-server")
            && answers.contains("tallyhook_signature_failures_total")
    );

    // The URLs of a database and a broker on services have passwords. A dump of the database is
    // searched in place of its files.
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
    // The log has the beginning of an invalid input only.
    let longest = log.lines().map(str::len).max().unwrap_or_default();
    assert!(longest < 2000, "a line of {longest} bytes is in the log");
    assert!(log.matches(IN_BODY).count() < 15, "a body is in the log");
}
