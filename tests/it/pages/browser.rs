//! A client that signs in as a browser does, and a server with something on every page.

use chrono::Utc;
use reqwest::header::{ACCEPT, CONTENT_TYPE, COOKIE, HeaderMap, SET_COOKIE};
use reqwest::{Method, redirect};
use serde_json::{Value, json};
use tallyhook::app::ServerOptions;
use tallyhook_core::github::types::Timestamp;
use tallyhook_github_client::{Credentials, Token};
use testkit::github::{FakeGithub, GITHUB_TOKEN};
use testkit::{Fixture, Place, TestServer, eventually};

const REPO: &str = "acme-corp/api-server";

/// A browser with the cookie of a session, or without one.
pub(super) struct Browser {
    url: String,
    http: reqwest::Client,
    cookie: Option<String>,
    /// The token in the forms of this session's pages.
    pub(super) form_token: String,
}

/// An answer to a browser.
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Seen {
    /// Returns a header, or an empty text without it.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn is_page(&self) -> bool {
        self.header("content-type").starts_with("text/html")
    }
}

impl Browser {
    /// Returns a browser without a session.
    pub(super) fn unknown(server: &TestServer) -> Self {
        let http = reqwest::Client::builder().redirect(redirect::Policy::none());
        Self {
            url: server.url.clone(),
            http: http.build().unwrap(),
            cookie: None,
            form_token: String::new(),
        }
    }

    /// Signs in with a token.
    pub(super) async fn signed_in(server: &TestServer, token: &str) -> Self {
        let mut browser = Self::unknown(server);
        let login = browser.http.post(format!("{}/login", server.url));
        let answer = with_fields(login, &[("token", token)]);
        let answer = answer.send().await.unwrap();
        let set = answer.headers()[SET_COOKIE].to_str().unwrap();
        browser.cookie = set.split(';').next().map(str::to_owned);
        let me: Value = answer.json().await.unwrap();
        browser.form_token = me["csrf_token"].as_str().unwrap().to_owned();
        browser
    }

    /// Returns a browser that has this cookie.
    pub(super) async fn with_cookie(server: &TestServer, cookie: &str) -> Self {
        let mut browser = Self::unknown(server);
        browser.cookie = Some(cookie.to_owned());
        let me = browser.request("GET", "/api/me").send().await.unwrap();
        let me: Value = me.json().await.unwrap();
        browser.form_token = me["csrf_token"].as_str().unwrap().to_owned();
        browser
    }

    /// Returns a request for a page with the session's cookie, and without a form's origin.
    pub(super) fn request(&self, method: &str, address: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("{}{address}", self.url));
        let request = request.header(ACCEPT, "text/html,*/*;q=0.8");
        match &self.cookie {
            Some(cookie) => request.header(COOKIE, cookie),
            None => request,
        }
    }

    /// Gets an address of this server, without following where it sends.
    pub(super) async fn get(&self, address: &str) -> Seen {
        seen(self.request("GET", address)).await
    }

    /// Sends a form as its page does.
    pub(super) async fn submit(&self, address: &str, fields: &[(&str, &str)]) -> Seen {
        let token = ("csrf_token", self.form_token.as_str());
        let form = self.request("POST", address);
        let form = form.header("Origin", &self.url);
        seen(with_fields(form, &[&[token], fields].concat())).await
    }
}

/// Returns a request with the body of a form.
pub(super) fn with_fields(
    request: reqwest::RequestBuilder,
    fields: &[(&str, &str)],
) -> reqwest::RequestBuilder {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    let media_type = "application/x-www-form-urlencoded";
    request.header(CONTENT_TYPE, media_type).body(body.finish())
}

/// Sends a request and returns its answer.
pub(super) async fn seen(request: reqwest::RequestBuilder) -> Seen {
    let answer = request.send().await.unwrap();
    Seen {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        body: String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned(),
    }
}

/// A server with pull requests, dead letters, a task and a backfill, and the GitHub that it asks.
pub(super) struct Furnished {
    pub(super) server: TestServer,
    _github: FakeGithub,
}

impl Furnished {
    /// Starts it over the shipped fixtures, moved so that they end now.
    pub(super) async fn start() -> Self {
        let github = FakeGithub::start().await;
        github.add_repository(testkit::repo_id().0, REPO);
        let place = Place::new().await;
        let mut config = testkit::config(&place);
        config.github_api_url = github.api();
        config.github_credentials = Token::parse(GITHUB_TOKEN).map(Credentials::Token);
        let mut server = TestServer::start_as(&config, place, ServerOptions::default()).await;
        // First, so that the ids are the same each time.
        for (guid, event, body) in DEAD {
            server.post(event, guid, body.as_bytes()).await;
        }
        let shift = Shift::to_now(&testkit::fixtures());
        for fixture in testkit::fixtures() {
            let payload = shift.payload(&fixture.payload);
            let (status, answer) = server.post(&fixture.event, &fixture.guid, &payload).await;
            assert!([200, 202].contains(&status), "{answer}");
        }
        server.drained().await;
        furnish(&server).await;
        Self {
            server,
            _github: github,
        }
    }
}

/// Deliveries that cannot be applied, of two kinds.
const DEAD: [(&str, &str, &str); 3] = [
    ("dead-1", "pull_request", r#"{"action":"opened"}"#),
    ("dead-2", "pull_request", r#"{"action":"closed"}"#),
    ("dead-3", "push", "{}"),
];

/// A repository of which one webhook arrived, and that GitHub does not show.
const HIDDEN: &str = "acme-corp/hidden";

/// Adds what the fixtures lack: a task, a token, a repository that is not complete, and backfills
/// that have ended, one of them with a failure.
async fn furnish(server: &TestServer) {
    let mut known = testkit::fixtures().into_iter();
    let known = known.find(|known| known.event == "pull_request").unwrap();
    let hidden = String::from_utf8_lossy(&known.payload)
        .replace(REPO, HIDDEN)
        .replace(&testkit::repo_id().0.to_string(), "4711");
    let hidden = hidden.as_bytes();
    let (status, answer) = server.post(&known.event, "hidden-1", hidden).await;
    assert_eq!(status, 202, "{answer}");
    eventually("the other repository is known", async || {
        let (_, repositories) = server.get("/api/repos").await;
        repositories["items"].as_array().unwrap().len() == 2
    })
    .await;
    let key = "PROJ-123";
    for (path, body) in [
        ("/api/tasks", json!({"key": key, "title": "Retry uploads"})),
        ("/api/tokens", json!({"name": "wall", "role": "viewer"})),
    ] {
        let (status, answer) = server.ask(Method::POST, path, &body).await;
        assert_eq!(status, 201, "{answer}");
    }
    for (repo, state) in [(REPO, "done"), (HIDDEN, "failed")] {
        let sync = format!("/api/repos/{repo}/sync");
        let (status, answer) = server.ask(Method::POST, &sync, &json!({})).await;
        assert_eq!(status, 202, "{answer}");
        let run = format!("/api/sync-runs/{}", answer["sync_run"]);
        eventually("the backfill ends", async || {
            server.get(&run).await.1["state"] == state
        })
        .await;
    }
}

/// The seconds by which the times of deliveries are moved.
pub(super) struct Shift(i64);

impl Shift {
    /// Returns the one after which the last of these deliveries is of now.
    pub(super) fn to_now(fixtures: &[Fixture]) -> Self {
        let last = fixtures.last().unwrap();
        let last = Timestamp::parse(&last.delivered_at).unwrap();
        Self(Utc::now().timestamp() - last.epoch())
    }

    pub(super) fn payload(&self, payload: &[u8]) -> Vec<u8> {
        let mut payload = serde_json::from_slice(payload).unwrap();
        self.shift(&mut payload);
        payload.to_string().into_bytes()
    }

    fn shift(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(time) = Timestamp::parse(text) {
                    *text = Timestamp::clamped(time.epoch() + self.0).to_string();
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.shift(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.shift(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}
