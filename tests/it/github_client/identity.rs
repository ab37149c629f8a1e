//! Requests under other identities than the client's own, and the errors that depend on the
//! identity.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use tallyhook_github_client::{
    Client, ClientSecret, Clock, CredentialOwner, Credentials, GithubError, Token, VirtualTime,
};

use super::{REPO, fake, seconds};
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN};

fn client_with(github: &FakeGithub, token: Token, timeout: Duration) -> Client {
    let clock = Clock::Virtual(VirtualTime::starting_at(Utc::now()));
    Client::with(github.api(), Credentials::Token(token), clock, timeout).unwrap()
}

#[tokio::test]
async fn request_without_credentials_has_no_authorization_header() {
    let (github, client, _) = fake().await;
    github.next([Fault::answer(201, &[], r#"{"id": 1}"#)]);
    client
        .without_credentials()
        .post::<Value>("/app-manifests/CODE/conversions", &json!({}))
        .await
        .unwrap();
    client.get::<Value>(REPO).await.unwrap();
    let headers: Vec<_> = github
        .requests()
        .iter()
        .map(|request| request.header("authorization").to_owned())
        .collect();
    assert_eq!(headers, [String::new(), format!("Bearer {GITHUB_TOKEN}")]);
    github.stop().await;
}

#[tokio::test]
async fn request_with_a_client_secret_uses_basic_authentication() {
    let (github, client, _) = fake().await;
    github.next([Fault::answer(204, &[], "")]);
    let secret = ClientSecret::new("Iv1.a", "s3cret").unwrap();
    client
        .with_client_secret(secret)
        .delete_with(
            "/applications/Iv1.a/token",
            &json!({"access_token": "ghu_1"}),
        )
        .await
        .unwrap();
    let requests = github.requests();
    assert_eq!(
        (
            requests[0].method.as_str(),
            requests[0].header("authorization"),
            requests[0].body.as_str()
        ),
        (
            "DELETE",
            "Basic SXYxLmE6czNjcmV0",
            r#"{"access_token":"ghu_1"}"#
        )
    );
    github.stop().await;
}

#[tokio::test]
async fn rate_limit_of_requests_without_credentials_does_not_block_the_others() {
    let (github, client, time) = fake().await;
    github.next([Fault::message(429, &[("Retry-After", "7200")], "")]);
    let anonymous = client.without_credentials();
    for _ in 0..2 {
        let error = anonymous.get::<Value>("/meta").await.unwrap_err();
        assert!(matches!(error, GithubError::Limited { .. }), "{error}");
    }
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!((seconds(&time), github.asked().len()), (vec![], 2));
    github.stop().await;
}

#[tokio::test]
async fn refused_credentials_are_named_by_their_owner() {
    let (github, client, _) = fake().await;
    let connection = Token::parse("gho_1").unwrap().of_connection("acme");
    let secret = ClientSecret::new("Iv1.a", "s3cret").unwrap();
    for (client, expected, words) in [
        (client.clone(), CredentialOwner::Setting, "set GITHUB_TOKEN"),
        (
            client_with(&github, connection, Duration::from_secs(30)),
            CredentialOwner::Connection("acme".to_owned()),
            "the connection acme",
        ),
        (
            client.with_client_secret(secret),
            CredentialOwner::OauthClient,
            "client id and client secret",
        ),
        (
            client.without_credentials(),
            CredentialOwner::Anonymous,
            "without credentials",
        ),
    ] {
        github.next([Fault::message(401, &[], "Bad credentials")]);
        let error = client.get::<Value>(REPO).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(words) && text.contains("Bad credentials"),
            "{text}"
        );
        assert_eq!(
            error,
            GithubError::Unauthorized {
                message: "Bad credentials".to_owned(),
                owner: expected
            }
        );
    }
    github.stop().await;
}

#[tokio::test]
async fn single_sign_on_is_an_error_of_its_own_with_a_link_of_github_only() {
    let (github, client, _) = fake().await;
    let link = format!("{}/orgs/acme-corp/sso?authorization_request=A", github.url);
    let message = "Resource protected by organization SAML enforcement.";
    let elsewhere = "https://evil.example.com/sso".to_owned();
    for (shown, expected) in [(&link, Some(link.clone())), (&elsewhere, None)] {
        let header = format!("required; url={shown}");
        github.next([Fault::message(403, &[("X-GitHub-SSO", &header)], message)]);
        assert_eq!(
            client.get::<Value>(REPO).await.unwrap_err(),
            GithubError::SsoRequired {
                path: REPO.to_owned(),
                message: message.to_owned(),
                url: expected
            }
        );
    }
    let saml = json!({"data": {"repository": null}, "errors": [{
        "type": "FORBIDDEN", "path": ["repository"], "message": message,
        "extensions": {"saml_failure": true},
    }]});
    github.next([Fault::answer(200, &[], &saml.to_string())]);
    let error = client
        .graphql::<Value>("{ repository { id } }", &json!({}), "acme-corp/api-server")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, GithubError::SsoRequired { path, url: None, .. } if path == "acme-corp/api-server"),
        "{error}"
    );
    github.stop().await;
}

#[tokio::test]
async fn push_protection_is_an_error_of_its_own_with_the_types_of_the_secrets() {
    let (github, client, _) = fake().await;
    let body = json!({
        "message": "Repository rule violations found\n\nSecret detected in content",
        "documentation_url": "",
        "metadata": {"secret_scanning": {"bypass_placeholders": [
            {"placeholder_id": "P1", "token_type": "github_personal_access_token"},
            {"placeholder_id": "P2", "token_type": "aws_access_key_id"},
        ]}},
    })
    .to_string();
    for status in [409, 422] {
        github.next([Fault::answer(status, &[], &body)]);
        let error = client
            .post::<Value>("/repos/acme-corp/api-server/git/blobs", &json!({}))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("aws_access_key_id"), "{error}");
        let GithubError::SecretDetected { secrets, .. } = error else {
            panic!("{error}");
        };
        let types: Vec<_> = secrets.iter().map(|secret| &secret.token_type).collect();
        assert_eq!(types, ["github_personal_access_token", "aws_access_key_id"]);
    }
    github.stop().await;
}

#[tokio::test]
async fn large_body_has_more_time_than_a_small_one() {
    let github = FakeGithub::start().await;
    let token = Token::parse(GITHUB_TOKEN).unwrap();
    let client = client_with(&github, token, Duration::from_millis(200));
    let slow = Fault::Slow(Duration::from_millis(600));
    github.next([slow.clone(), slow]);
    let error = client.post::<Value>("/echo", &json!(1)).await.unwrap_err();
    assert!(matches!(error, GithubError::Unknown { .. }), "{error}");
    // A megabyte has four seconds more.
    let content = "x".repeat(1024 * 1024);
    let echoed: Value = client.post("/echo", &json!(content)).await.unwrap();
    assert_eq!(echoed.as_str().map(str::len), Some(content.len()));
    github.stop().await;
}
