//! Checks and ends of tokens.

use chrono::TimeDelta;
use tallyhook_core::secret::Secret;
use tallyhook_github_client::{GithubError, TokenRevocation};
use testkit::github::{Consent, Fault};

use super::{CLIENT_ID, fake, oauth_app, register, secret, sign_in};

#[tokio::test]
async fn one_token_is_ended_and_the_others_of_the_person_stay() {
    let (github, client, time) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    let first = sign_in(&github, &client, &app).await.access_token;
    let second = sign_in(&github, &client, &app).await.access_token;

    let checked = client.check_token(&app, &first).await.unwrap().unwrap();
    assert_eq!(checked.user.unwrap().id, 42);
    assert_eq!(checked.scopes, Some(vec![]));
    assert_eq!(checked.expires_at, Some(time.now() + TimeDelta::hours(8)));

    github.asked();
    let ended = client.delete_token(&app, &first).await.unwrap();
    assert_eq!(ended, TokenRevocation::Revoked);
    let request = github.requests().remove(0);
    assert_eq!(
        (request.method.as_str(), request.path, request.body),
        (
            "DELETE",
            format!("/applications/{CLIENT_ID}/token"),
            format!(r#"{{"access_token":"{}"}}"#, first.expose())
        )
    );
    assert!(request.headers.contains(&(
        "authorization".to_owned(),
        // CLIENT_ID:CLIENT_SECRET.
        "Basic SXYyM2xpQ2xpZW50T2ZUaGVUZXN0czpjbGllbnRfc2VjcmV0X29mX3RoZV90ZXN0c18wMTIzNDU2Nzg5YWJj"
            .to_owned()
    )));
    assert_eq!(client.check_token(&app, &first).await.unwrap(), None);
    assert_eq!(
        client.delete_token(&app, &first).await.unwrap(),
        TokenRevocation::HadEnded
    );
    assert!(client.check_token(&app, &second).await.unwrap().is_some());
    github.stop().await;
}

#[tokio::test]
async fn grant_ends_every_token_of_the_person_and_none_of_another() {
    let (github, client, _) = fake().await;
    let app = register(&github);
    github.browse_as("hubot", Consent::Allow);
    let others = sign_in(&github, &client, &app).await.access_token;
    github.browse_as("octocat", Consent::Allow);
    let first = sign_in(&github, &client, &app).await.access_token;
    let second = sign_in(&github, &client, &app).await.access_token;
    assert_eq!(
        client.delete_grant(&app, &first).await.unwrap(),
        TokenRevocation::Revoked
    );
    assert_eq!(client.check_token(&app, &second).await.unwrap(), None);
    assert!(client.check_token(&app, &others).await.unwrap().is_some());
    assert_eq!(
        client.delete_grant(&app, &first).await.unwrap(),
        TokenRevocation::HadEnded
    );
    github.stop().await;
}

#[tokio::test]
async fn end_of_a_token_is_repeated_after_a_failure_and_found_done() {
    let (github, client, _) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    let token = sign_in(&github, &client, &app).await.access_token;
    github.next([Fault::Lost(502)]);
    assert_eq!(
        client.delete_token(&app, &token).await.unwrap(),
        TokenRevocation::HadEnded
    );

    let wrong = oauth_app("another_secret");
    let error = client.delete_token(&wrong, &token).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the App's client id and client secret (Bad credentials)"),
        "{error}"
    );
    github.stop().await;
}

#[tokio::test]
async fn leaked_tokens_are_reported_without_credentials_a_thousand_at_a_time() {
    let (github, client, _) = fake().await;
    github.give_to("octocat", "ghp_leaked", Some(&["repo"]));
    let mut tokens: Vec<Secret> = (0..1000)
        .map(|number| secret(&format!("ghp_{number}")))
        .collect();
    tokens.push(secret("ghp_leaked"));
    let tokens: Vec<_> = tokens.iter().collect();
    let revoked = client.revoke_credentials(&tokens).await.unwrap();
    assert_eq!(revoked, TokenRevocation::Revoked);
    let requests = github.requests();
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .iter()
            .all(|request| request.header("authorization").is_empty())
    );
    assert_eq!(requests[1].body, r#"{"credentials":["ghp_leaked"]}"#);
    assert_eq!(github.tokens_of("octocat"), [""; 0]);

    github.without_credential_revocation();
    let revoked = client
        .revoke_credentials(&[&secret("ghp_1")])
        .await
        .unwrap();
    assert_eq!(revoked, TokenRevocation::NotOffered);
    github.stop().await;
}

#[tokio::test]
async fn sixty_first_report_of_an_hour_waits_and_stops_nothing_else() {
    let (github, client, time) = fake().await;
    let leaked = secret("ghp_leaked");
    for _ in 0..60 {
        client.revoke_credentials(&[&leaked]).await.unwrap();
    }
    let before = time.now();
    let error = client
        .once()
        .revoke_credentials(&[&leaked])
        .await
        .unwrap_err();
    assert!(matches!(error, GithubError::Limited { .. }), "{error}");
    client.get::<serde_json::Value>(super::REPO).await.unwrap();
    assert!(time.now() - before <= TimeDelta::seconds(1));
    github.stop().await;
}
