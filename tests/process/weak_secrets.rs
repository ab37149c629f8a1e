//! `serve` with secrets that could be guessed, or that an earlier version read otherwise.

use serde_json::{Value, json};
use tallyhook_core::github::signature::Secrets;
use testkit::Place;
use testkit::process::{SECRET, Serve, TOKEN, run, tallyhook};

fn serve_with(place: &Place, name: &str, value: &str) -> std::process::Command {
    let mut command = tallyhook(place.path(), &["serve", "--log-format", "json"]);
    command.env(name, value).env("RUST_LOG", "info");
    command
}

/// Starts and stops a server and returns the messages of its log, with their levels.
fn messages(mut command: std::process::Command) -> Vec<(String, String)> {
    let (_, log) = Serve::start_command(&mut command).terminate();
    let lines = log
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            (text("level"), text("message"))
        })
        .collect()
}

#[tokio::test]
async fn serve_refuses_a_secret_or_an_admin_token_under_eight_characters() {
    let place = Place::new().await;
    for (name, value) in [
        ("GITHUB_WEBHOOK_SECRET", "a"),
        ("GITHUB_WEBHOOK_SECRET", "1234567"),
        ("GITHUB_WEBHOOK_SECRET", &format!("{SECRET}\nshort\n")),
        ("GITHUB_WEBHOOK_SECRET", "äöüäöüä"),
        ("TALLYHOOK_ADMIN_TOKEN", "x"),
        ("TALLYHOOK_ADMIN_TOKEN", "1234567"),
    ] {
        let ended = run(&mut serve_with(&place, name, value));
        ended.failed(
            2,
            &[name, "fewer than 8 characters", "openssl rand -hex 32"],
        );
        assert!(!ended.stderr.contains("short"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn serve_warns_of_short_secrets_and_of_those_that_were_several_before() {
    let place = Place::new().await;
    let warned = |name, value| {
        let messages = messages(serve_with(&place, name, value));
        let warnings = messages.into_iter().filter(|(level, _)| level == "WARN");
        warnings.map(|(_, message)| message).collect::<Vec<_>>()
    };
    for (name, value, words) in [
        ("GITHUB_WEBHOOK_SECRET", "12345678", "fewer than 16"),
        ("TALLYHOOK_ADMIN_TOKEN", "12345678", "fewer than 16"),
        (
            "GITHUB_WEBHOOK_SECRET",
            "correct horse battery staple a",
            "earlier versions read each word",
        ),
    ] {
        let warned = warned(name, value);
        assert!(
            matches!(&warned[..], [one] if one.contains(name) && one.contains(words)),
            "{value}: {warned:?}"
        );
    }
    assert_eq!(
        warned("GITHUB_WEBHOOK_SECRET", SECRET),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn serve_logs_the_number_of_secrets_in_force() {
    let place = Place::new().await;
    for (value, expected) in [
        (format!("{SECRET}\n{TOKEN}"), "2 secrets in force"),
        (SECRET.to_owned(), "1 secret in force"),
    ] {
        let messages = messages(serve_with(&place, "GITHUB_WEBHOOK_SECRET", &value));
        let found = messages
            .iter()
            .any(|(_, message)| message.starts_with(expected));
        assert!(found, "{messages:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_a_secret_are_no_secrets() {
    let place = Place::new().await;
    let phrase = "correct horse battery staple a";
    let serve = Serve::start_command(&mut serve_with(&place, "GITHUB_WEBHOOK_SECRET", phrase));
    let http = reqwest::Client::new();
    for (secret, expected) in [(phrase, 202), ("a", 401), ("horse", 401), ("staple", 401)] {
        let body = format!("{{\"zen\":\"{secret}\"}}").into_bytes();
        let signature = Secrets::single(secret).unwrap().sign(&body).to_header();
        let request = http
            .post(format!("{}/webhooks/github", serve.url))
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", "star")
            .header("X-GitHub-Delivery", "one")
            .header("X-Hub-Signature-256", signature);
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_wrong_tokens_are_counted_logged_once_and_do_not_lock_out_the_right_one() {
    let place = Place::new().await;
    let serve = Serve::start_command(&mut serve_with(&place, "TALLYHOOK_ADMIN_TOKEN", TOKEN));
    let http = reqwest::Client::new();
    let request = |token: String| {
        let request = http.get(format!("{}/api/prs", serve.url));
        request.bearer_auth(token).send()
    };
    let mut statuses = std::collections::BTreeMap::<_, usize>::new();
    let mut pauses = Vec::new();
    for number in 0..1000 {
        let answer = request(format!("wrong-{number}")).await.unwrap();
        *statuses.entry(answer.status().as_u16()).or_default() += 1;
        if let Some(pause) = answer.headers().get("Retry-After") {
            pauses.push(pause.to_str().unwrap().parse::<u64>().unwrap());
        }
    }
    assert_eq!(statuses, [(401, 20), (429, 980)].into());
    assert!(pauses.len() == 980 && pauses.iter().all(|pause| (1..=60).contains(pause)));
    assert_eq!(request(TOKEN.to_owned()).await.unwrap().status(), 200);

    let metrics = http
        .get(format!("{}/metrics", serve.url))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(
        metrics.contains("\ntallyhook_api_unauthorized_total 1000\n"),
        "{metrics}"
    );
    let (status, log) = serve.terminate();
    assert!(status.success());
    let logged = log
        .iter()
        .filter(|line| line.contains("valid token"))
        .count();
    assert_eq!(logged, 1, "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_signatures_are_logged_once_a_minute_for_each_reason_with_the_likely_cause() {
    let place = Place::new().await;
    let serve = Serve::start(place.path());
    let http = reqwest::Client::new();
    let body = "canary-of-a-body";
    let wrong = |header: Option<&str>, value: &str, from_proxy: bool| {
        let mut post = http
            .post(format!("{}/webhooks/github", serve.url))
            .header("Content-Type", "application/json")
            .header("X-GitHub-Hook-ID", "42")
            .header("X-GitHub-Event", "canary-of-a-header");
        if let Some(header) = header {
            post = post.header(header, value);
        }
        if from_proxy {
            post = post.header("X-Forwarded-For", "203.0.113.7");
        }
        post.body(body).send()
    };
    let (sha256, sha1) = (
        format!("sha256={}", "0".repeat(64)),
        format!("sha1={}", "0".repeat(40)),
    );
    let header = "X-Hub-Signature-256";
    for _ in 0..50 {
        for answer in [
            wrong(None, "", false).await,
            wrong(Some("X-Hub-Signature"), &sha1, false).await,
            wrong(Some(header), "canary-of-a-signature", false).await,
            wrong(Some(header), &sha256, true).await,
        ] {
            assert_eq!(answer.unwrap().status(), 401);
        }
    }
    let (status, log) = serve.terminate();
    assert!(status.success());
    let lines: Vec<Value> = log
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["signature.reason"].is_string())
        .collect();
    assert_eq!(lines.len(), 4, "{log:#?}");
    for (line, (reason, cause)) in lines.iter().zip([
        (
            "missing",
            "enter the secret of GITHUB_WEBHOOK_SECRET in the webhook",
        ),
        ("sha1_only", "signed with SHA-1 only"),
        ("malformed", "is not one `sha256=`"),
        (
            "wrong",
            "another secret than GITHUB_WEBHOOK_SECRET, or the proxy",
        ),
    ]) {
        assert_eq!(
            (&line["level"], &line["signature.reason"], &line["hook.id"]),
            (&json!("WARN"), &json!(reason), &json!(42))
        );
        let message = line["message"].as_str().unwrap();
        assert!(
            message.contains(cause) && message.contains("webhook 42"),
            "{message}"
        );
    }
    let log = log.join("\n");
    assert!(
        !log.contains("canary-of"),
        "a text of a stranger is in the log: {log}"
    );
}
