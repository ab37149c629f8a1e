//! As a GitHub App: signed, installed, with tokens that last an hour.

use std::time::Duration;

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::RsaKeyPair;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tallyhook_github_client::{Client, GithubError, VirtualTime};

use crate::REPO;
use crate::github::app::{pem, private_key};
use crate::github::{FakeGithub, Fault};

const LOOKED_UP: &str = "GET /repos/acme-corp/api-server/installation";
const GIVEN: &str = "POST /app/installations/9/access_tokens";
const ASKED: &str = "GET /repos/acme-corp/api-server";

/// An App that is installed where the repository is.
async fn installed() -> (FakeGithub, Client, VirtualTime) {
    let github = FakeGithub::start().await;
    github.add_repository(7, "acme-corp/api-server");
    let (client, time) = github.app_client(&private_key());
    github.add_app(&time);
    github.install("acme-corp", 9);
    (github, client, time)
}

#[tokio::test]
async fn an_app_asks_as_its_installation_with_a_token_that_is_kept() {
    let (github, client, time) = installed().await;
    client.get::<Value>(REPO).await.unwrap();
    client.get::<Value>(REPO).await.unwrap();
    let requests = github.requests();
    let asked: Vec<_> = requests
        .iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    assert_eq!(asked, [LOOKED_UP, GIVEN, ASKED, ASKED]);
    assert_eq!(
        requests[3].header("authorization"),
        "Bearer ghs_token_of_an_installation_0"
    );

    // Another repository of the same account has the same installation, and its token.
    client
        .get::<Value>("/repos/acme-corp/none")
        .await
        .unwrap_err();
    assert_eq!(
        github.asked(),
        [
            "GET /repos/acme-corp/none/installation",
            "GET /repos/acme-corp/none"
        ]
    );
    client.get::<Value>("/orgs/acme-corp/hooks").await.unwrap();
    assert_eq!(
        github.asked(),
        [
            "GET /orgs/acme-corp/installation",
            "GET /orgs/acme-corp/hooks"
        ]
    );
    github.next([Fault::answer(200, &[], r#"{"data": {"repository": {}}}"#)]);
    client
        .graphql::<Value>("{ repository { id } }", &json!({}), "acme-corp/api-server")
        .await
        .unwrap();
    let query = github.requests().remove(0);
    assert_eq!(
        (query.path.as_str(), query.header("authorization")),
        ("/graphql", requests[3].header("authorization"))
    );

    // After a redirect it is still the call that it was.
    github.rename("acme-corp/api-server", "acme-corp/api");
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(github.asked(), [ASKED, "GET /repositories/7"]);
    assert_eq!(time.waits().len(), 0);
    github.stop().await;
}

#[tokio::test]
async fn many_who_ask_at_once_get_one_token() {
    let (github, client, _) = installed().await;
    let got = join_all((0..20).map(|_| client.get::<Value>(REPO))).await;
    assert!(got.iter().all(Result::is_ok), "{got:?}");
    let asked = github.asked();
    assert_eq!(
        (&asked[..2], asked.len()),
        (&[LOOKED_UP.to_owned(), GIVEN.to_owned()][..], 22)
    );
    github.stop().await;
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let (github, client, time) = installed().await;
    let first = client.get_conditional::<Value>(REPO).await.unwrap();
    time.pass(Duration::from_mins(54));
    let second = client.get_conditional::<Value>(REPO).await.unwrap();
    assert_eq!((first.unchanged, second.unchanged), (false, true));
    assert_eq!(github.asked(), [LOOKED_UP, GIVEN, ASKED, ASKED]);

    time.pass(Duration::from_mins(1));
    let third = client.get_conditional::<Value>(REPO).await.unwrap();
    let fourth = client.get_conditional::<Value>(REPO).await.unwrap();
    // What was an answer's mark for one token says nothing to another.
    assert_eq!((third.unchanged, fourth.unchanged), (false, true));
    let requests = github.requests();
    let marks: Vec<_> = requests
        .iter()
        .map(|request| request.header("if-none-match").is_empty())
        .collect();
    assert_eq!(marks, [true, true, false]);
    assert_eq!(requests[0].path, "/app/installations/9/access_tokens");
    github.stop().await;
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let (github, client, _) = installed().await;
    client.get::<Value>(REPO).await.unwrap();
    github.asked();
    github.revoke_tokens();
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(github.asked(), [ASKED, GIVEN, ASKED]);

    let refused = || Fault::message(401, &[], "Bad credentials");
    github.next([refused(), Fault::None, refused()]);
    let error = client.get::<Value>(REPO).await.unwrap_err();
    assert!(matches!(&error, GithubError::AppRefused { .. }), "{error}");
    assert_eq!(github.asked(), [ASKED, GIVEN, ASKED]);
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(github.asked(), [GIVEN, ASKED]);
    github.stop().await;
}

#[tokio::test]
async fn backfill_does_not_keep_others_waiting_for_a_token() {
    let (github, client, time) = installed().await;
    // The App itself is close to its limit, of which backfill would wait for the end.
    let reset = (time.now().timestamp() + 600).to_string();
    let left = [
        ("X-RateLimit-Limit", "5000"),
        ("X-RateLimit-Remaining", "9"),
        ("X-RateLimit-Reset", reset.as_str()),
    ];
    github.next([Fault::answer(200, &left, r#"{"id": 9}"#)]);
    client.for_backfill().get::<Value>(REPO).await.unwrap();
    assert_eq!((github.asked().len(), time.waits().len()), (3, 0));
    github.stop().await;
}

#[tokio::test]
async fn an_app_that_moved_house_is_found_again() {
    let (github, client, _) = installed().await;
    client.get::<Value>(REPO).await.unwrap();
    github.install("acme-corp", 10);
    github.revoke_tokens();
    let error = client.get::<Value>(REPO).await.unwrap_err();
    assert_eq!(
        error,
        GithubError::AppNotInstalled {
            on: "acme-corp/api-server".to_owned()
        }
    );
    client.get::<Value>(REPO).await.unwrap();
    github.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_an_app_is_told_with_what_to_do() {
    // GitHub's clock, seen from the client's.
    for (github_is, words) in [
        (
            -754,
            &[
                "'iat'",
                "check this machine's clock, which is 754 s ahead of GitHub's",
            ][..],
        ),
        (
            1200,
            &[
                "'exp'",
                "check this machine's clock, which is 1200 s behind GitHub's",
            ][..],
        ),
    ] {
        let (github, client, time) = installed().await;
        github.add_app(&VirtualTime::starting_at(
            time.now() + chrono::TimeDelta::seconds(github_is),
        ));
        told(&client.get::<Value>(REPO).await.unwrap_err(), words);
        github.stop().await;
    }

    let (github, ..) = installed().await;
    let another = pem(&RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
    let (client, time) = github.app_client(&another);
    let error = client.get::<Value>(REPO).await.unwrap_err();
    told(
        &error,
        &[
            "could not be decoded",
            "GITHUB_APP_PRIVATE_KEY is the key of the App that GITHUB_APP_ID names",
        ],
    );
    assert!(!error.is_about_one() && time.waits().is_empty());

    let (client, time) = github.app_client(&private_key());
    github.add_app(&time);
    for (path, on) in [
        (REPO, "acme-corp/api-server"),
        ("/orgs/acme-corp/hooks", "acme-corp"),
    ] {
        let error = client.get::<Value>(path).await.unwrap_err();
        told(&error, &["is not installed on", on, "install it there"]);
        assert!(error.is_about_one());
    }
    github.stop().await;
}

fn told(error: &GithubError, words: &[&str]) {
    let error = error.to_string();
    assert!(
        words.iter().all(|word| error.contains(word)) && !error.contains('\n'),
        "{error}"
    );
}
