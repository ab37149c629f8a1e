//! Apps from a manifest.

use std::time::Duration;

use chrono::TimeDelta;
use reqwest::Url;
use tallyhook_core::secret::Secret;
use tallyhook_github_client::{
    AppAddresses, AppManifest, ConversionError, GithubError, WebUrl, random_secret,
};
use testkit::github::manifest::{
    MANIFEST_CLIENT_ID, MANIFEST_CLIENT_SECRET, MANIFEST_WEBHOOK_SECRET,
};
use testkit::github::{FakeGithub, Fault};

use super::{fake, secret};

/// Posts the form of a manifest as a browser, and returns the code that it returns with.
async fn create(github: &FakeGithub, organization: Option<&str>) -> Secret {
    let addresses = AppAddresses {
        home: "https://tallyhook.example.com",
        webhook: "https://tallyhook.example.com/webhooks/github",
        redirect: "https://tallyhook.example.com/github/app",
        callback: super::CALLBACK,
        setup: "https://tallyhook.example.com/github/setup",
    };
    let manifest = AppManifest::new("Tally", addresses, &["push", "pull_request"]);
    let (api, state) = (github.api(), random_secret());
    let web: &WebUrl = api.web().unwrap();
    let organization = organization.map(|name| name.parse().unwrap());
    let url = AppManifest::form_url(web, organization.as_ref(), &state);
    let mut form = Url::parse("http://form/").unwrap();
    let json = serde_json::to_string(&manifest).unwrap();
    form.query_pairs_mut().append_pair("manifest", &json);
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let post = http.build().unwrap().post(url);
    let response = post
        .body(form.query().unwrap().to_owned())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 302);
    let location = response.headers()["location"].to_str().unwrap();
    let location: Url = location.parse().unwrap();
    assert_eq!(location.path(), "/github/app");
    let pairs: Vec<_> = location.query_pairs().collect();
    let get = |name: &str| {
        pairs
            .iter()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(get("state"), state.expose());
    Secret::new(get("code").into_owned())
}

#[tokio::test]
async fn code_is_converted_once_into_the_secrets_of_the_app() {
    let (github, client, _) = fake().await;
    github.add_organization(900, "acme-corp");
    let code = create(&github, Some("acme-corp")).await;
    github.requests();
    let app = client.convert_manifest(&code).await.ok().unwrap();
    let request = github.requests().remove(0);
    assert_eq!(
        (request.method.as_str(), request.header("authorization")),
        ("POST", "")
    );
    assert_eq!(app.owner.unwrap().login.as_deref(), Some("acme-corp"));
    assert_eq!(
        (app.id, app.slug.as_deref(), app.name.as_str()),
        (4711, Some("tally"), "Tally")
    );
    assert_eq!(app.client_id, MANIFEST_CLIENT_ID);
    assert_eq!(app.client_secret.expose(), MANIFEST_CLIENT_SECRET);
    assert_eq!(
        app.webhook_secret.unwrap().expose(),
        MANIFEST_WEBHOOK_SECRET
    );
    assert!(app.pem.expose().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(app.permissions["contents"], "write");
    assert_eq!(app.events, ["push", "pull_request"]);

    let again = client.convert_manifest(&code).await.err().unwrap();
    assert_eq!(again, ConversionError::CodeExpired);
    assert!(again.to_string().contains("create it again"), "{again}");
    github.asked();
    for no_code in ["", "../../user", "a/b", "a b"] {
        let refused = client
            .convert_manifest(&secret(no_code))
            .await
            .err()
            .unwrap();
        assert_eq!(refused, ConversionError::CodeExpired);
    }
    assert_eq!(github.asked(), [""; 0]);
    github.stop().await;
}

#[tokio::test]
async fn code_is_valid_for_an_hour() {
    let (github, client, time) = fake().await;
    let (first, second) = (create(&github, None).await, create(&github, None).await);
    time.pass(Duration::from_secs(3599));
    assert!(client.convert_manifest(&first).await.is_ok());
    time.pass(Duration::from_secs(1));
    let late = client.convert_manifest(&second).await.err().unwrap();
    assert_eq!(late, ConversionError::CodeExpired);
    github.stop().await;
}

#[tokio::test]
async fn spell_of_refusals_is_outlasted_within_the_hour() {
    let (github, client, time) = fake().await;
    let code = create(&github, None).await;
    let end = time.now() + TimeDelta::hours(1);
    github.refuse_conversions(1);
    let refused = client.convert_manifest(&code).await.err().unwrap();
    let text = refused.to_string();
    assert!(
        text.contains("within the hour") && text.contains("Requires authentication"),
        "{text}"
    );

    github.refuse_conversions(5);
    let app = client.convert_manifest_until(&code, end).await;
    assert_eq!(app.ok().unwrap().client_id, MANIFEST_CLIENT_ID);
    assert!(
        time.now() < end && time.waits().len() >= 5,
        "{:?}",
        time.waits()
    );

    let code = create(&github, None).await;
    github.refuse_conversions(1000);
    let end = time.now() + TimeDelta::hours(1);
    let refused = client
        .convert_manifest_until(&code, end)
        .await
        .err()
        .unwrap();
    let unauthorized = matches!(
        refused,
        ConversionError::TryLater(GithubError::Unauthorized { .. })
    );
    assert!(unauthorized && time.now() < end, "{refused}");
    github.stop().await;
}

#[tokio::test]
async fn lost_answer_of_a_conversion_is_not_repeated() {
    let (github, client, time) = fake().await;
    let code = create(&github, None).await;
    github.asked();
    github.next([Fault::Lost(502)]);
    let end = time.now() + TimeDelta::hours(1);
    let lost = client
        .convert_manifest_until(&code, end)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(lost, ConversionError::OutcomeUnknown { .. }),
        "{lost}"
    );
    assert!(lost.to_string().contains("delete it"), "{lost}");
    assert!(!lost.to_string().contains(code.expose()), "{lost}");
    assert_eq!(github.asked().len(), 1);
    github.stop().await;
}
