//! The client of GitHub against the fake GitHub over HTTP: its accounts, the records of its
//! requests, its OAuth, and what it reads about people and organizations.

mod accounts;
mod calls;
mod manifest;
mod oauth;
mod oauth_tokens;
#[cfg(feature = "recorded")]
mod official;
mod organizations;
mod refusals;
mod user_installations;

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Url;
use tallyhook_core::secret::{Secret, SharedSecret};
use tallyhook_github_client::{
    AuthorizationRequest, Client, Clock, Credentials, OauthApp, OauthCallback, PkceVerifier, Token,
    UserTokens, VirtualTime, WebUrl, random_secret,
};
use testkit::github::{FakeGithub, FakeOauthApp, GITHUB_TOKEN};

pub(crate) const REPO: &str = "/repos/acme-corp/api-server";
pub(crate) const CLIENT_ID: &str = "Iv23liClientOfTheTests";
pub(crate) const CLIENT_SECRET: &str = "client_secret_of_the_tests_0123456789abc";
pub(crate) const CALLBACK: &str = "https://tallyhook.example.com/github/callback";

/// Returns a fake GitHub with a repository and two people, a client of it, and the clock of both.
pub(crate) async fn fake() -> (FakeGithub, Client, VirtualTime) {
    let github = FakeGithub::start().await;
    github.add_repository(7, "acme-corp/api-server");
    github.add_person(42, "octocat");
    github.add_person(43, "hubot");
    // Whole seconds, as dates in headers have.
    let now = DateTime::from_timestamp(Utc::now().timestamp(), 0).unwrap();
    let time = VirtualTime::starting_at(now);
    github.set_clock(&time);
    let client = Client::with(
        github.api(),
        token(GITHUB_TOKEN),
        Clock::Virtual(time.clone()),
        Duration::from_secs(30),
    );
    (github, client.unwrap(), time)
}

pub(crate) fn token(text: &str) -> Credentials {
    Credentials::Token(Token::parse(text).unwrap())
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

pub(crate) fn seconds(time: &VirtualTime) -> Vec<u64> {
    time.waits().iter().map(Duration::as_secs).collect()
}

/// Returns the credentials of the tests' App, with this client secret.
pub(crate) fn oauth_app(client_secret: &str) -> OauthApp {
    OauthApp::new(CLIENT_ID, SharedSecret::new(secret(client_secret))).unwrap()
}

/// Registers the tests' App at the fake as a GitHub App.
pub(crate) fn register(github: &FakeGithub) -> OauthApp {
    let app = FakeOauthApp::github_app(CLIENT_ID, CLIENT_SECRET, 4711, CALLBACK);
    github.add_oauth_app(app);
    oauth_app(CLIENT_SECRET)
}

/// A run through the web flow up to the return of the browser.
pub(crate) struct WebFlow {
    pub(crate) verifier: PkceVerifier,
    pub(crate) state: Secret,
    pub(crate) callback: Option<OauthCallback>,
}

impl WebFlow {
    /// Sends a browser to the page that asks a person, and follows it back.
    pub(crate) async fn begin(
        github: &FakeGithub,
        app: &OauthApp,
        redirect_uri: &str,
        scopes: &[&str],
    ) -> Self {
        let (verifier, state) = (PkceVerifier::random(), random_secret());
        let request = AuthorizationRequest {
            redirect_uri,
            scopes,
            state: &state,
            verifier: &verifier,
            login: None,
            choose_account: false,
        };
        let api = github.api();
        let web: &WebUrl = api.web().unwrap();
        let location = browse(app.authorize_url(web, &request)).await;
        let callback = OauthCallback::parse(location.query().unwrap(), redirect_uri);
        Self {
            verifier,
            state,
            callback,
        }
    }

    /// Returns the code that the browser brought back.
    pub(crate) fn code(&self) -> &Secret {
        match &self.callback {
            Some(OauthCallback::Code { code, state }) => {
                assert_eq!(state.expose(), self.state.expose());
                code
            }
            Some(OauthCallback::Refused { error, .. }) => panic!("{error}"),
            None => panic!("neither a code nor an error"),
        }
    }
}

/// Gets a page as a browser that does not follow, and returns the address that it leads to.
pub(crate) async fn browse(url: Url) -> Url {
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let response = http.get(url).send().await.unwrap();
    assert_eq!(response.status(), 302);
    let location = response.headers()["location"].to_str().unwrap();
    location.parse().unwrap()
}

/// Signs the browser's person in.
pub(crate) async fn sign_in(github: &FakeGithub, client: &Client, app: &OauthApp) -> UserTokens {
    let flow = WebFlow::begin(github, app, CALLBACK, &[]).await;
    let exchanged = client.exchange_code(app, flow.code(), CALLBACK, &flow.verifier);
    exchanged.await.ok().unwrap()
}
