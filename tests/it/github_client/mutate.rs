//! GraphQL mutations: sent once, paced as other writes, and with GitHub's own reasons for a
//! refusal.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use tallyhook_github_client::{
    Client, Clock, Credentials, GithubError, GraphqlResponse, Token, VirtualTime,
};

use super::{again, fake, seconds};
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN};

const MUTATION: &str = "mutation($id: ID!) { convertPullRequestToDraft(input: {pullRequestId: $id}) { clientMutationId } }";
const SUBJECT: &str = "acme-corp/api-server";

async fn mutate(client: &Client) -> Result<GraphqlResponse<Value>, GithubError> {
    client
        .mutate(MUTATION, &json!({"id": "PR_1"}), SUBJECT)
        .await
}

fn response(body: &Value) -> Fault {
    Fault::answer(200, &[], &body.to_string())
}

fn success() -> Fault {
    response(&json!({"data": {"convertPullRequestToDraft": {"clientMutationId": null}}}))
}

fn refusal(kind: &str, message: &str) -> Fault {
    response(&json!({
        "data": {"convertPullRequestToDraft": null},
        "errors": [{"type": kind, "path": ["convertPullRequestToDraft"], "message": message}],
    }))
}

#[tokio::test]
async fn mutations_and_rest_writes_keep_one_distance() {
    let (github, client, time) = fake().await;
    github.next(again(&success(), 2));
    mutate(&client).await.unwrap();
    mutate(&client).await.unwrap();
    client.post::<Value>("/echo", &json!(1)).await.unwrap();
    assert_eq!(seconds(&time), [1, 1]);
    let sent: Value = serde_json::from_str(&github.requests()[0].body).unwrap();
    assert_eq!(
        sent,
        json!({"query": MUTATION, "variables": {"id": "PR_1"}})
    );
    github.stop().await;
}

#[tokio::test]
async fn mutation_without_a_usable_response_may_have_happened_and_is_not_repeated() {
    let out_of_time =
        "Something went wrong while executing your query. This may be the result of a timeout";
    let (github, client, _) = fake().await;
    for fault in [
        Fault::status(500),
        Fault::status(502),
        Fault::status(503),
        Fault::status(504),
        Fault::Truncated,
        Fault::answer(200, &[], "<html>"),
        response(&json!({})),
        response(&json!({"data": null, "errors": [{"message": out_of_time}]})),
        refusal(
            "RESOURCE_LIMITS_EXCEEDED",
            "Resource limits for this query exceeded.",
        ),
    ] {
        github.next([fault.clone()]);
        let error = mutate(&client).await.unwrap_err();
        assert!(
            matches!(&error, GithubError::Unknown { path, .. } if path == SUBJECT),
            "{fault:?}: {error}"
        );
        assert_eq!(github.asked().len(), 1, "{fault:?}");
    }
    github.stop().await;
}

#[tokio::test]
async fn mutation_that_times_out_may_have_happened() {
    let github = FakeGithub::start().await;
    let clock = Clock::Virtual(VirtualTime::starting_at(Utc::now()));
    let token = Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap());
    let client = Client::with(github.api(), token, clock, Duration::from_millis(200)).unwrap();
    github.next([Fault::Slow(Duration::from_secs(20))]);
    let error = mutate(&client).await.unwrap_err();
    assert!(
        matches!(&error, GithubError::Unknown { reason, .. } if reason.contains("in time")),
        "{error}"
    );
    assert_eq!(github.asked().len(), 1);
    github.stop().await;
}

#[tokio::test]
async fn mutation_that_certainly_did_not_happen_is_repeated() {
    let (github, client, time) = fake().await;
    let limited =
        json!({"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]});
    github.next([
        Fault::answer(200, &[("Retry-After", "9")], &limited.to_string()),
        Fault::message(429, &[("Retry-After", "8")], ""),
        success(),
    ]);
    mutate(&client).await.unwrap();
    assert_eq!((seconds(&time), github.asked().len()), (vec![9, 8], 3));
    github.stop().await;

    let unused = "http://127.0.0.1:1".parse().unwrap();
    let clock = Clock::Virtual(VirtualTime::starting_at(Utc::now()));
    let token = Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap());
    let client = Client::with(unused, token, clock, Duration::from_secs(5)).unwrap();
    let error = mutate(&client).await.unwrap_err();
    assert!(matches!(error, GithubError::Unreachable { .. }), "{error}");
    assert_eq!(client.requests(), 4);
}

#[tokio::test]
async fn refused_mutation_keeps_the_type_message_and_path() {
    let (github, client, _) = fake().await;
    for kind in [
        "STALE_DATA",
        "UNPROCESSABLE",
        "BRANCH_PROTECTION_RULE_VIOLATION",
        "NOT_FOUND",
    ] {
        github.next([refusal(kind, "Expected\nanother")]);
        let error = mutate(&client).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(kind) && text.contains("Expected another") && !text.contains('\n'),
            "{text}"
        );
        let GithubError::GraphqlRefused { subject, errors } = error else {
            panic!("{error}");
        };
        assert_eq!(subject, SUBJECT);
        assert_eq!(errors[0].kind.as_deref(), Some(kind));
        assert_eq!(errors[0].message, "Expected\nanother");
        assert_eq!(errors[0].path, ["convertPullRequestToDraft"]);
    }
    github.next([refusal(
        "FORBIDDEN",
        "Resource not accessible by integration",
    )]);
    let error = mutate(&client).await.unwrap_err();
    assert!(matches!(error, GithubError::Forbidden { .. }), "{error}");
    github.stop().await;
}

#[tokio::test]
async fn mutation_that_happened_is_no_error_though_a_part_of_its_response_is() {
    let (github, client, _) = fake().await;
    let limited =
        json!({"type": "RATE_LIMITED", "path": ["b"], "message": "API rate limit exceeded"});
    github.next([response(
        &json!({"data": {"a": {"clientMutationId": "1"}, "b": null}, "errors": [limited]}),
    )]);
    let GraphqlResponse { data, errors, .. } = mutate(&client).await.unwrap();
    assert_eq!(data.unwrap()["a"]["clientMutationId"], "1");
    assert_eq!(errors[0].path, ["b"]);
    assert_eq!(github.asked().len(), 1);
    github.stop().await;
}
