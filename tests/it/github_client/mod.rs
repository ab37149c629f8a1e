//! The client of GitHub's API, against a fake GitHub and with a virtual clock.

mod app;
mod budget;
mod graphql;
mod hooks;
mod identity;
mod mutate;
mod open_pull_request;
mod optional_parts;
#[cfg(feature = "recorded")]
mod recorded;
mod reviewers;

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tallyhook_github_client::hooks::{DeliveryAttempt, HookOwner};
use tallyhook_github_client::{Client, Clock, Credentials, GithubError, Token, VirtualTime};

use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN, Sending};

pub(crate) const REPO: &str = "/repos/acme-corp/api-server";

pub(crate) async fn fake() -> (FakeGithub, Client, VirtualTime) {
    let github = FakeGithub::start().await;
    github.add_repository(7, "acme-corp/api-server");
    let (client, time) = github.client();
    (github, client, time)
}

pub(crate) fn seconds(time: &VirtualTime) -> Vec<u64> {
    time.waits().iter().map(Duration::as_secs).collect()
}

pub(crate) fn again(fault: &Fault, times: usize) -> Vec<Fault> {
    vec![fault.clone(); times]
}

#[tokio::test]
async fn every_request_has_the_headers_that_github_wants() {
    let (github, client, _) = fake().await;
    let repository: Value = client.get(REPO).await.unwrap();
    assert_eq!(
        (&repository["id"], &repository["full_name"]),
        (&json!(7), &json!("acme-corp/api-server"))
    );
    let echoed: Value = client.post("/echo", &json!({"a": 1})).await.unwrap();
    assert_eq!(echoed, json!({"a": 1}));
    let requests = github.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(request.header("accept"), "application/vnd.github+json");
        assert_eq!(request.header("x-github-api-version"), "2022-11-28");
        assert_eq!(
            request.header("authorization"),
            format!("Bearer {GITHUB_TOKEN}")
        );
        assert!(request.header("user-agent").starts_with("tallyhook/"));
    }
    assert_eq!(
        (
            requests[1].header("content-type"),
            requests[1].body.as_str()
        ),
        ("application/json", r#"{"a":1}"#)
    );
    assert_eq!(client.requests(), 2);
    github.stop().await;
}

#[tokio::test]
async fn metrics_count_requests_and_the_rest_of_the_allowance() {
    let recorder = tallyhook::telemetry::prometheus();
    let (github, client, _) = fake().await;
    // No other test of this process has this answer, since metrics are shared.
    github.next([Fault::message(
        451,
        &[("X-RateLimit-Remaining", "4321")],
        "Unavailable For Legal Reasons",
    )]);
    client.get::<Value>(REPO).await.unwrap_err();
    let metrics = recorder.render();
    assert!(
        metrics.contains(r#"tallyhook_github_requests_total{kind="rest",status="451"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"tallyhook_github_rate_remaining{resource="core"}"#),
        "{metrics}"
    );
    github.stop().await;
}

#[tokio::test]
async fn pages_are_followed_to_the_last_one() {
    let (github, client, _) = fake().await;
    github.add_hook(1, "repos/acme-corp/api-server", "http://127.0.0.1:1", "s");
    let now = Utc::now();
    for number in 0..250 {
        let at = now - TimeDelta::seconds(number);
        github
            .deliver(
                1,
                ("push", &format!("guid-{number}"), &json!({})),
                at,
                Sending::Fails(502),
            )
            .await;
    }
    let owner = HookOwner::repository("acme-corp/api-server").unwrap();
    let mut pages = client.delivery_attempts(&owner, Some(1)).unwrap();
    let mut guids = Vec::new();
    while let Some(page) = pages.next::<DeliveryAttempt>().await.unwrap() {
        guids.extend(page.into_iter().map(|attempt| attempt.guid));
    }
    assert_eq!(
        guids,
        (0..250)
            .map(|number| format!("guid-{number}"))
            .collect::<Vec<_>>()
    );
    let asked = github.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked[1].contains("&cursor=v1_"), "{asked:?}");
    github.stop().await;
}

#[tokio::test]
async fn token_is_not_sent_to_another_origin_by_a_link_or_redirect() {
    let (github, client, _) = fake().await;
    let elsewhere = FakeGithub::start().await;
    let link = format!(
        "<{}/repos/acme-corp/api-server/hooks?page=2>; rel=\"next\"",
        elsewhere.url
    );
    github.next([Fault::answer(200, &[("Link", &link)], "[]")]);
    let mut pages = client.pages(REPO).unwrap();
    let error = pages.next::<Value>().await.unwrap_err();
    assert!(error.to_string().contains("another origin"), "{error}");

    for status in [301, 302, 307, 308] {
        github.next([Fault::message(
            status,
            &[("Location", &format!("{}{REPO}", elsewhere.url))],
            "Moved",
        )]);
        let error = client.get::<Value>(REPO).await.unwrap_err();
        assert!(error.to_string().contains("another origin"), "{error}");
    }
    assert_eq!(elsewhere.requests(), []);
    assert_eq!(github.asked().len(), 5);
    github.stop().await;
    elsewhere.stop().await;
}

#[tokio::test]
async fn renamed_repository_is_found_by_redirect() {
    let (github, client, time) = fake().await;
    github.rename("acme-corp/api-server", "acme/server");
    let repository: Value = client.get(REPO).await.unwrap();
    assert_eq!(repository["full_name"], "acme/server");
    assert_eq!(
        github.asked(),
        [format!("GET {REPO}"), "GET /repositories/7".to_owned()]
    );

    let moved = |status, to: &str| Fault::message(status, &[("Location", to)], "Moved");
    github.next([moved(307, "/echo")]);
    assert_eq!(
        client
            .post::<Value>("/elsewhere", &json!([1]))
            .await
            .unwrap(),
        json!([1])
    );
    github.next([moved(301, "/echo")]);
    let error = client
        .post::<Value>("/elsewhere", &json!([1]))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("301"),
        "a POST must not become a GET: {error}"
    );
    assert_eq!(
        github.asked(),
        ["POST /elsewhere", "POST /echo", "POST /elsewhere"]
    );

    github.next(again(&moved(302, REPO), 6));
    let error = client.get::<Value>(REPO).await.unwrap_err();
    assert!(error.to_string().contains("without end"), "{error}");
    // Between one POST and the next.
    assert_eq!(seconds(&time), [1]);
    github.stop().await;
}

#[tokio::test]
async fn unchanged_response_comes_from_the_cache() {
    let (github, client, _) = fake().await;
    let first = client.get_conditional::<Value>(REPO).await.unwrap();
    let second = client.get_conditional::<Value>(REPO).await.unwrap();
    assert_eq!(
        (first.unchanged, second.unchanged, &first.value),
        (false, true, &second.value)
    );
    github.rename("acme-corp/api-server", "acme/api");
    let third = client.get_conditional::<Value>(REPO).await.unwrap();
    assert_eq!(
        (third.unchanged, &third.value["full_name"]),
        (false, &json!("acme/api"))
    );
    let asked = github.requests();
    assert_eq!(asked[0].header("if-none-match"), "");
    assert!(asked[1].header("if-none-match").starts_with("W/\""));

    // A 304 to a request without an ETag has no meaning.
    github.next([Fault::answer(304, &[], "")]);
    assert!(matches!(
        client.get::<Value>(REPO).await,
        Err(GithubError::Unexpected { .. })
    ));
    github.stop().await;
}

#[tokio::test]
async fn failed_read_is_retried_with_backoff() {
    let (github, client, time) = fake().await;
    github.next([Fault::status(502), Fault::Truncated, Fault::status(500)]);
    client.get::<Value>(REPO).await.unwrap();
    let waits: Vec<_> = time.waits().iter().map(Duration::as_secs_f64).collect();
    assert_eq!(waits.len(), 3);
    for (wait, backoff) in waits.iter().zip([1.0, 2.0, 4.0]) {
        assert!((backoff / 2.0..=backoff).contains(wait), "{waits:?}");
    }

    github.requests();
    github.next(again(&Fault::status(503), 4));
    let error = client.get::<Value>(REPO).await.unwrap_err();
    assert!(
        matches!(&error, GithubError::Unreachable { reason, .. } if reason.contains("503")),
        "{error}"
    );
    assert_eq!(github.asked().len(), 4);

    client.get::<Value>(REPO).await.unwrap();
    let before = time.waits().len();
    github.next([
        Fault::message(503, &[("Retry-After", "20")], ""),
        Fault::message(503, &[("Retry-After", "9999")], ""),
    ]);
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(seconds(&time)[before..], [20, 60]);
    github.stop().await;
}

#[tokio::test]
async fn response_that_exceeds_the_time_out_is_a_failure() {
    let (github, ..) = fake().await;
    let time = VirtualTime::starting_at(Utc::now());
    let token = Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap());
    let patience = Duration::from_millis(200);
    let client = Client::with(
        github.api(),
        token.clone(),
        Clock::Virtual(time.clone()),
        patience,
    )
    .unwrap();
    let slow = Fault::Slow(Duration::from_secs(20));
    github.next(again(&slow, 1));
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(time.waits().len(), 1);
    github.next(again(&slow, 1));
    let error = client.post::<Value>("/echo", &json!(1)).await.unwrap_err();
    assert!(
        matches!(&error, GithubError::Unknown { reason, .. } if reason.contains("in time")),
        "{error}"
    );
    assert_eq!(github.asked().len(), 3);
    github.stop().await;

    let unused = "http://127.0.0.1:1".parse().unwrap();
    let time = VirtualTime::starting_at(Utc::now());
    let client = Client::with(unused, token, Clock::Virtual(time.clone()), patience).unwrap();
    // Without a connection the write did not happen: it may be repeated.
    let error = client.post::<Value>("/echo", &json!(1)).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    assert_eq!((time.waits().len(), client.requests()), (3, 4));
}

#[tokio::test]
async fn write_that_may_have_happened_is_not_repeated() {
    let (github, client, time) = fake().await;
    for fault in [Fault::status(502), Fault::Truncated] {
        github.next([fault]);
        let error = client.post::<Value>("/echo", &json!(1)).await.unwrap_err();
        assert!(
            matches!(&error, GithubError::Unknown { path, .. } if path == "/echo"),
            "{error}"
        );
        assert_eq!(github.asked().len(), 1);
    }
    // Writes are a second apart.
    assert_eq!(seconds(&time), [1]);
    // A write that a rate limit refused did not happen.
    github.next([Fault::message(429, &[("Retry-After", "7")], "")]);
    assert_eq!(
        client.post::<Value>("/echo", &json!(1)).await.unwrap(),
        json!(1)
    );
    assert_eq!((seconds(&time), github.asked().len()), (vec![1, 1, 7], 2));
    github.stop().await;
}

#[tokio::test]
async fn rate_limit_is_waited_for_as_long_as_announced() {
    let secondary = "You have exceeded a secondary rate limit.";
    let in_an_hour = (Utc::now() + TimeDelta::minutes(30)).timestamp();
    let used_up = |reset: i64| {
        Fault::message(
            403,
            &[
                ("X-RateLimit-Remaining", "0"),
                ("X-RateLimit-Reset", &reset.to_string()),
            ],
            "API rate limit",
        )
    };
    for (faults, expected) in [
        (
            vec![Fault::message(403, &[("Retry-After", "5")], "")],
            vec![5..=5],
        ),
        (vec![used_up(in_an_hour)], vec![1795..=1802]),
        // A reset in milliseconds: an hour at most.
        (vec![used_up(in_an_hour * 1000)], vec![3600..=3600]),
        (
            again(&Fault::message(429, &[], ""), 3),
            vec![60..=60, 120..=120, 240..=240],
        ),
        (
            again(
                &Fault::message(403, &[("X-RateLimit-Remaining", "9")], secondary),
                2,
            ),
            vec![60..=60, 120..=120],
        ),
    ] {
        let (github, client, time) = fake().await;
        github.next(faults);
        client.get::<Value>(REPO).await.unwrap();
        let waits = seconds(&time);
        assert_eq!(waits.len(), expected.len(), "{waits:?}");
        assert!(
            waits
                .iter()
                .zip(&expected)
                .all(|(wait, range)| range.contains(wait)),
            "{waits:?}: {expected:?}"
        );
        github.stop().await;
    }
}

#[tokio::test]
async fn rate_limit_that_does_not_end_is_an_error_with_its_end() {
    let (github, client, time) = fake().await;
    github.next(again(
        &Fault::message(403, &[("gh-limited-by", "cpu")], ""),
        4,
    ));
    let error = client.get::<Value>(REPO).await.unwrap_err();
    assert_eq!(
        error,
        GithubError::Limited {
            until: time.now() + TimeDelta::seconds(480)
        }
    );
    assert_eq!(
        (seconds(&time), github.asked().len()),
        (vec![60, 120, 240], 4)
    );

    // The next request waits for it before it is sent.
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(seconds(&time), [60, 120, 240, 480]);
    assert_eq!(github.asked().len(), 1);

    // A limit longer than any of GitHub's is not waited for, and no request is sent before its end.
    github.next([Fault::message(429, &[("Retry-After", "7200")], "")]);
    for _ in 0..2 {
        let error = client.get::<Value>(REPO).await.unwrap_err();
        assert_eq!(
            error,
            GithubError::Limited {
                until: time.now() + TimeDelta::hours(2)
            }
        );
    }
    assert_eq!((time.waits().len(), github.asked().len()), (4, 1));
    github.stop().await;
}

#[tokio::test]
async fn final_error_names_the_next_step() {
    let (github, client, time) = fake().await;
    let admin = [
        ("X-Accepted-OAuth-Scopes", "admin:repo_hook, repo"),
        ("X-RateLimit-Remaining", "4000"),
    ];
    let permission = [("X-Accepted-GitHub-Permissions", "repository_hooks=read")];
    let none: [(&'static str, &str); 0] = [];
    for (status, headers, message, words) in [
        (
            401,
            &none[..],
            "Bad credentials",
            &["Bad credentials", "GITHUB_TOKEN"][..],
        ),
        (
            403,
            &admin[..],
            "Must have admin rights",
            &["Must have admin rights", "admin:repo_hook"][..],
        ),
        (
            403,
            &permission[..],
            "Resource not accessible by personal access token",
            &["repository_hooks=read"][..],
        ),
        (
            404,
            &none[..],
            "Not Found",
            &["/repos/acme-corp/api-server", "may not see"][..],
        ),
        (410, &none[..], "Gone", &["gone"][..]),
        (
            422,
            &none[..],
            "Validation Failed",
            &["422", "Validation Failed"][..],
        ),
    ] {
        github.next([Fault::message(status, headers, message)]);
        let error = client.get::<Value>(REPO).await.unwrap_err().to_string();
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{status}: {error}"
        );
        assert!(!error.contains(GITHUB_TOKEN) && !error.contains('\n'));
    }
    assert_eq!((github.asked().len(), time.waits().len()), (6, 0));
    github.stop().await;
}

#[tokio::test]
async fn response_that_is_not_githubs_is_an_error() {
    let (github, client, _) = fake().await;
    for body in ["<html>a proxy's canary</html>", "{\"id\":", "\"canary\""] {
        github.next([Fault::answer(200, &[], body)]);
        let error = client.get::<Vec<DeliveryAttempt>>(REPO).await.unwrap_err();
        assert!(matches!(error, GithubError::Unexpected { .. }), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    github.next([Fault::answer(
        200,
        &[],
        &format!("\"{}\"", "x".repeat(2 * 1024 * 1024)),
    )]);
    let error = client
        .get_up_to::<Value>(REPO, 1024 * 1024)
        .await
        .unwrap_err();
    assert!(
        matches!(error, GithubError::TooLarge { limit_mib: 1, .. }),
        "{error}"
    );
    github.stop().await;
}

#[tokio::test]
async fn writes_are_sent_a_second_apart() {
    let (github, client, time) = fake().await;
    for _ in 0..3 {
        client.post::<Value>("/echo", &json!(1)).await.unwrap();
    }
    time.pass(Duration::from_millis(400));
    client.get::<Value>("/echo").await.unwrap();
    client.patch::<Value>("/echo", &json!(1)).await.unwrap();
    let waits: Vec<_> = time.waits().iter().map(|wait| wait.as_millis()).collect();
    assert_eq!(waits, [1000, 1000, 600]);
    github.stop().await;
}
