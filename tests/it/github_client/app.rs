//! Requests as a GitHub App: signatures, installations, and tokens that last an hour.

use std::time::Duration;

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::RsaKeyPair;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tallyhook_github_client::{Client, GithubError, VirtualTime};

use super::REPO;
use testkit::github::app::{pem, private_key};
use testkit::github::{FakeGithub, Fault};

const LOOKUP: &str = "GET /repos/acme-corp/api-server/installation";
const ISSUED: &str = "POST /app/installations/9/access_tokens";
const GET_REPO: &str = "GET /repos/acme-corp/api-server";

/// Returns a fake GitHub with an App that is installed on the account of the repository.
async fn installed() -> (FakeGithub, Client, VirtualTime) {
    let github = FakeGithub::start().await;
    github.add_repository(7, "acme-corp/api-server");
    let (client, time) = github.app_client(&private_key());
    github.add_app(&time);
    github.install("acme-corp", 9);
    (github, client, time)
}

#[tokio::test]
async fn app_sends_as_its_installation_and_keeps_the_token() {
    let (github, client, time) = installed().await;
    client.get::<Value>(REPO).await.unwrap();
    client.get::<Value>(REPO).await.unwrap();
    let requests = github.requests();
    let asked: Vec<_> = requests
        .iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    assert_eq!(asked, [LOOKUP, ISSUED, GET_REPO, GET_REPO]);
    assert_eq!(
        requests[3].header("authorization"),
        "Bearer ghs_token_of_an_installation_0"
    );

    // Another repository of the account has the same installation and token.
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

    // A redirect keeps the credentials of the request.
    github.rename("acme-corp/api-server", "acme-corp/api");
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(github.asked(), [GET_REPO, "GET /repositories/7"]);
    assert_eq!(time.waits().len(), 0);
    github.stop().await;
}

#[tokio::test]
async fn concurrent_requests_share_one_token() {
    let (github, client, _) = installed().await;
    let got = join_all((0..20).map(|_| client.get::<Value>(REPO))).await;
    assert!(got.iter().all(Result::is_ok), "{got:?}");
    let asked = github.asked();
    assert_eq!(
        (&asked[..2], asked.len()),
        (&[LOOKUP.to_owned(), ISSUED.to_owned()][..], 22)
    );
    github.stop().await;
}

#[tokio::test]
async fn token_is_renewed_before_it_expires() {
    let (github, client, time) = installed().await;
    let first = client.get_conditional::<Value>(REPO).await.unwrap();
    time.pass(Duration::from_mins(54));
    let second = client.get_conditional::<Value>(REPO).await.unwrap();
    assert_eq!((first.unchanged, second.unchanged), (false, true));
    assert_eq!(github.asked(), [LOOKUP, ISSUED, GET_REPO, GET_REPO]);

    time.pass(Duration::from_mins(1));
    let third = client.get_conditional::<Value>(REPO).await.unwrap();
    let fourth = client.get_conditional::<Value>(REPO).await.unwrap();
    // An ETag is valid for one token only.
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
async fn refused_token_is_replaced_once() {
    let (github, client, _) = installed().await;
    client.get::<Value>(REPO).await.unwrap();
    github.asked();
    github.revoke_tokens();
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(github.asked(), [GET_REPO, ISSUED, GET_REPO]);

    let refused = || Fault::message(401, &[], "Bad credentials");
    github.next([refused(), Fault::None, refused()]);
    let error = client.get::<Value>(REPO).await.unwrap_err();
    assert!(matches!(&error, GithubError::AppRefused { .. }), "{error}");
    assert_eq!(github.asked(), [GET_REPO, ISSUED, GET_REPO]);
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(github.asked(), [ISSUED, GET_REPO]);
    github.stop().await;
}

#[tokio::test]
async fn backfill_fetches_a_token_as_live_work() {
    let (github, client, time) = installed().await;
    // The App itself is close to its limit, which backfill would wait for.
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
async fn new_installation_of_an_app_is_found() {
    let (github, client, _) = installed().await;
    client.get::<Value>(REPO).await.unwrap();
    github.install("acme-corp", 10);
    github.revoke_tokens();
    let error = client.get::<Value>(REPO).await.unwrap_err();
    assert_eq!(
        error,
        GithubError::AppNotInstalled {
            account: "acme-corp/api-server".to_owned()
        }
    );
    client.get::<Value>(REPO).await.unwrap();
    github.stop().await;
}

#[tokio::test]
async fn error_of_an_app_names_the_next_step() {
    // The offset of GitHub's clock from the client's.
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
        assert_names(&client.get::<Value>(REPO).await.unwrap_err(), words);
        github.stop().await;
    }

    let (github, ..) = installed().await;
    let another = pem(&RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
    let (client, time) = github.app_client(&another);
    let error = client.get::<Value>(REPO).await.unwrap_err();
    assert_names(
        &error,
        &[
            "could not be decoded",
            "GITHUB_APP_PRIVATE_KEY is the key of the App that GITHUB_APP_ID names",
        ],
    );
    assert!(!error.concerns_one_item() && time.waits().is_empty());

    let (client, time) = github.app_client(&private_key());
    github.add_app(&time);
    for (path, on) in [
        (REPO, "acme-corp/api-server"),
        ("/orgs/acme-corp/hooks", "acme-corp"),
    ] {
        let error = client.get::<Value>(path).await.unwrap_err();
        assert_names(&error, &["is not installed on", on, "install it there"]);
        assert!(error.concerns_one_item());
    }
    github.stop().await;
}

fn assert_names(error: &GithubError, words: &[&str]) {
    let error = error.to_string();
    assert!(
        words.iter().all(|word| error.contains(word)) && !error.contains('\n'),
        "{error}"
    );
}
