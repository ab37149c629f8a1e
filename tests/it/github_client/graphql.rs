//! GraphQL queries and mutations, whose result is in the body of the response and not in its
//! status.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use tallyhook_github_client::{
    Client, Clock, Credentials, GithubError, GraphqlResponse, Token, VirtualTime,
};

use super::{again, fake, seconds};
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN};

const QUERY: &str =
    "query($number: Int!) { repository { pullRequest(number: $number) { title } } }";
const OF: &str = "acme-corp/api-server";

async fn ask(client: &Client) -> Result<GraphqlResponse<Value>, GithubError> {
    client.graphql(QUERY, &json!({"number": 3}), OF).await
}

fn answer(body: &Value) -> Fault {
    Fault::answer(200, &[], &body.to_string())
}

/// A response without data and with one error.
fn error(kind: &str, message: &str) -> Fault {
    answer(&json!({
        "data": null,
        "errors": [{"type": kind, "path": ["repository"], "message": message}],
    }))
}

#[tokio::test]
async fn query_is_sent_beside_rest_and_returns_its_data() {
    let recorder = tallyhook::telemetry::prometheus();
    let (github, client, _) = fake().await;
    github.next([answer(
        &json!({"data": {"repository": {"pullRequest": {"title": "A"}}}}),
    )]);
    let response = ask(&client).await.unwrap();
    assert_eq!(
        response.data.unwrap()["repository"]["pullRequest"]["title"],
        "A"
    );
    assert_eq!(response.errors, []);
    let requests = github.requests();
    assert_eq!(
        (requests[0].method.as_str(), requests[0].path.as_str()),
        ("POST", "/graphql")
    );
    let sent: Value = serde_json::from_str(&requests[0].body).unwrap();
    assert_eq!(sent, json!({"query": QUERY, "variables": {"number": 3}}));
    let metrics = recorder.render();
    assert!(
        metrics.contains(r#"tallyhook_github_requests_total{kind="graphql",status="200"} "#),
        "{metrics}"
    );
    github.stop().await;
}

#[tokio::test]
async fn partial_response_has_data_and_errors() {
    let (github, client, _) = fake().await;
    let missing = json!({
        "type": "NOT_FOUND",
        "path": ["repository", "pullRequests", 0],
        "message": "Could not resolve",
    });
    github.next([answer(
        &json!({"data": {"repository": {"pullRequest": null}}, "errors": [missing]}),
    )]);
    let GraphqlResponse { data, errors, .. } = ask(&client).await.unwrap();
    assert_eq!(data, Some(json!({"repository": {"pullRequest": null}})));
    assert_eq!(
        (errors.len(), errors[0].kind.as_deref()),
        (1, Some("NOT_FOUND"))
    );
    assert_eq!(
        (errors[0].path.join("."), errors[0].message.as_str()),
        ("repository.pullRequests.0".into(), "Could not resolve")
    );
    github.stop().await;
}

#[tokio::test]
async fn query_that_costs_too_much_is_not_retried() {
    let (github, client, time) = fake().await;
    let partly = json!({
        "type": "RESOURCE_LIMITS_EXCEEDED",
        "message": "Resource limits for this query exceeded.",
    });
    let timeout =
        "Something went wrong while executing your query. This may be the result of a timeout";
    for fault in [
        Fault::status(502),
        Fault::status(504),
        error(
            "RESOURCE_LIMITS_EXCEEDED",
            "Resource limits for this query exceeded.",
        ),
        // The data is cut off at an arbitrary place.
        answer(&json!({"data": {"repository": {}}, "errors": [partly]})),
        error(
            "MAX_NODE_LIMIT_EXCEEDED",
            "This query requests up to 1,000,000 possible nodes",
        ),
        answer(&json!({"errors": [{"message": timeout}]})),
        answer(&json!({
            "data": {"repository": null, "rateLimit": {"cost": 1}},
            "errors": [{"message": timeout}],
        })),
    ] {
        github.next([fault.clone()]);
        let error = ask(&client).await.unwrap_err();
        assert!(
            matches!(&error, GithubError::TooMuch { path, .. } if path == OF),
            "{fault:?}: {error}"
        );
        assert!(error.concerns_one_item());
    }
    assert_eq!((github.asked().len(), time.waits().len()), (7, 0));
    github.stop().await;
}

#[tokio::test]
async fn query_that_times_out_costs_too_much() {
    let github = FakeGithub::start().await;
    let clock = Clock::Virtual(VirtualTime::starting_at(Utc::now()));
    let token = Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap());
    let client = Client::with(github.api(), token, clock, Duration::from_millis(200)).unwrap();
    github.next([Fault::Slow(Duration::from_secs(20))]);
    let error = ask(&client).await.unwrap_err();
    assert!(
        matches!(&error, GithubError::TooMuch { reason, .. } if reason.contains("in time")),
        "{error}"
    );
    assert_eq!(github.asked().len(), 1);
    github.stop().await;
}

#[tokio::test]
async fn rate_limit_is_waited_for_with_every_status() {
    let data = answer(&json!({"data": {"repository": {}}}));
    let reset = (Utc::now().timestamp() + 600).to_string();
    let used_up = [
        ("X-RateLimit-Remaining", "0"),
        ("X-RateLimit-Reset", reset.as_str()),
    ];
    let limited =
        json!({"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]})
            .to_string();
    let secondary =
        "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
    let secondary = json!({"documentation_url": "", "message": secondary}).to_string();
    let left = [("X-RateLimit-Remaining", "4000")];
    for (faults, expected) in [
        (
            vec![Fault::answer(200, &used_up, &limited)],
            vec![595..=602],
        ),
        (
            vec![Fault::answer(403, &used_up, &limited)],
            vec![595..=602],
        ),
        (
            vec![Fault::answer(200, &[("Retry-After", "9")], &limited)],
            vec![9..=9],
        ),
        (
            again(&Fault::answer(403, &left, &secondary), 2),
            vec![60..=60, 120..=120],
        ),
        (
            again(&Fault::answer(200, &left, &secondary), 2),
            vec![60..=60, 120..=120],
        ),
        (
            vec![Fault::answer(429, &[("Retry-After", "8")], "")],
            vec![8..=8],
        ),
    ] {
        let (github, client, time) = fake().await;
        let times = faults.len();
        github.next(faults.into_iter().chain([data.clone()]));
        ask(&client).await.unwrap();
        let waits = seconds(&time);
        assert_eq!(waits.len(), times, "{waits:?}");
        assert!(
            waits
                .iter()
                .zip(&expected)
                .all(|(wait, range)| range.contains(wait)),
            "{waits:?}: {expected:?}"
        );
        github.stop().await;
    }

    let (github, client, time) = fake().await;
    github.next(again(&Fault::answer(200, &left, &secondary), 4));
    assert!(matches!(
        ask(&client).await.unwrap_err(),
        GithubError::Limited { .. }
    ));
    assert_eq!(seconds(&time), [60, 120, 240]);
    github.stop().await;
}

#[tokio::test]
async fn failed_query_is_retried() {
    let (github, client, time) = fake().await;
    let data = answer(&json!({"data": {"repository": {}}}));
    github.next([
        Fault::status(500),
        Fault::Truncated,
        Fault::status(503),
        data,
    ]);
    ask(&client).await.unwrap();
    assert_eq!((github.asked().len(), time.waits().len()), (4, 3));
    github.stop().await;
}

#[tokio::test]
async fn response_without_data_is_an_error_that_names_the_next_step() {
    let (github, client, time) = fake().await;
    let unresolved = "Could not resolve to a Repository with the name 'acme-corp/api-server'.";
    let scopes = "Your token has not been granted the required scopes to execute this query.";
    let none = json!({"repository": null});
    for (fault, words) in [
        (
            error("NOT_FOUND", unresolved),
            &["GitHub has no acme-corp/api-server", "may not see"][..],
        ),
        (
            answer(&json!({"data": none, "errors": [{"type": "NOT_FOUND"}]})),
            &["GitHub has no acme-corp/api-server"][..],
        ),
        (
            error("FORBIDDEN", "Resource not accessible by integration"),
            &["forbids acme-corp/api-server", "integration"][..],
        ),
        (
            error("INSUFFICIENT_SCOPES", scopes),
            &["forbids", "required scopes"][..],
        ),
        (
            error("undefinedField", "Field 'titel' doesn't\nexist"),
            &["Field 'titel' doesn't exist"][..],
        ),
        (answer(&json!({})), &["neither data nor errors"][..]),
        (
            Fault::answer(200, &[], "<html>"),
            &["neither data nor errors"][..],
        ),
        (
            Fault::message(403, &[], "Resource not accessible by personal access token"),
            &["forbids", "personal access"][..],
        ),
        (
            Fault::message(401, &[], "Bad credentials"),
            &["Bad credentials", "GITHUB_TOKEN"][..],
        ),
    ] {
        github.next([fault]);
        let error = ask(&client).await.unwrap_err().to_string();
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{words:?}: {error}"
        );
        assert!(
            !error.contains('\n') && !error.contains(GITHUB_TOKEN),
            "{error}"
        );
    }
    assert_eq!((github.asked().len(), time.waits().len()), (9, 0));
    github.stop().await;
}
