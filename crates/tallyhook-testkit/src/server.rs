//! A complete server inside the test's process, on a free port and a store of its own.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::Value;
use tallyhook::api::{AccessRole, DEFAULT_TEAM, TokenOrder};
use tallyhook::app::{RunningServer as Running, ServerOptions};
use tallyhook::config::{
    Config, NotifyConfig as Notify, SettingOrigins, SettingSources as Sources, SignInMode,
};
use tallyhook::secrets::KeySource;
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::repository::Repository;
use tallyhook_core::github::signature::Secrets;
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::hooks::HookSecret;

use crate::conformity::assert_documented;
use crate::{PATIENCE, Place, SECRET, TOKEN, sign};

/// A running server and its place, both gone at the end of the test.
pub struct TestServer {
    pub running: Running,
    pub url: String,
    pub http: reqwest::Client,
    pub place: Place,
}

/// Returns the settings of a test's server at `place`.
pub fn config(place: &Place) -> Config {
    Config {
        webhook_secrets: Secrets::single(SECRET),
        hook_secret: HookSecret::first_of("a-secret-of-the-tests"),
        github_credentials: None,
        github_api_url: "http://127.0.0.1:1".parse().unwrap(),
        oauth_app: None,
        sign_in: SignInMode::Off,
        github_host: None,
        default_repository: Some("acme-corp/api-server".to_owned()),
        default_repository_team: None,
        calendar_teams: std::collections::BTreeMap::new(),
        metrics_token: None,
        database_url: place.database_url.clone(),
        listen: "127.0.0.1:0".parse().unwrap(),
        public_url: None,
        admin_token: Some(TOKEN.to_owned()),
        token: None,
        numbers: NumberRules::default(),
        show_people: false,
        retention_days: 7,
        audit_days: 365,
        github_calls_days: 30,
        key_source: KeySource::beside(&place.database_url),
        websocket_clients: 2000,
        sync: Config::new(&Sources::default()).ok().unwrap().sync,
        tasks: Config::new(&Sources::default()).ok().unwrap().tasks,
        notify: Notify {
            channels: Vec::new(),
            allow_private: true,
            timeout: Duration::from_secs(10),
        },
        amqp_url: place.amqp_url.clone(),
        origins: SettingOrigins::default(),
    }
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(ServerOptions::default()).await
    }

    pub async fn start_with(options: ServerOptions) -> Self {
        Self::start_in(Place::new().await, options).await
    }

    /// Starts on the database that an earlier server may have left in `place`.
    pub async fn start_in(place: Place, options: ServerOptions) -> Self {
        let config = config(&place);
        Self::start_as(&config, place, options).await
    }

    /// Starts with these settings.
    pub async fn start_as(config: &Config, place: Place, options: ServerOptions) -> Self {
        let running = Running::start(config, options).await.unwrap();
        let url = format!("http://{}", running.address);
        Self {
            running,
            url,
            http: reqwest::Client::new(),
            place,
        }
    }

    /// Posts a signed JSON webhook and returns the status and the body of the answer.
    pub async fn post(&self, event: &str, guid: &str, body: &[u8]) -> (u16, Value) {
        let response = self
            .signed(event, guid, body)
            .body(body.to_vec())
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    /// Returns a signed request without its body, for tests that change a part of it.
    pub fn signed(&self, event: &str, guid: &str, body: &[u8]) -> reqwest::RequestBuilder {
        self.http
            .post(format!("{}/webhooks/github", self.url))
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", event)
            .header("X-GitHub-Delivery", guid)
            .header("X-Hub-Signature-256", sign(body))
    }

    /// Gets a path of the API with the tests' token and returns the status and the body of the
    /// answer, which is documented.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self
            .http
            .get(format!("{}{path}", self.url))
            .bearer_auth(TOKEN)
            .send()
            .await
            .unwrap();
        let (status, answer) = (response.status().as_u16(), response.json().await.unwrap());
        assert_documented("GET", path, status, &answer);
        (status, answer)
    }

    /// Sends a request with a body to the API and returns the status and the body of the answer,
    /// null if it is empty. The answer is documented.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self
            .http
            .request(method.clone(), format!("{}{path}", self.url))
            .bearer_auth(TOKEN)
            .json(body);
        let response = request.send().await.unwrap();
        let (status, answer) = (response.status().as_u16(), response.bytes().await.unwrap());
        let answer = if answer.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&answer).unwrap()
        };
        assert_documented(method.as_str(), path, status, &answer);
        (status, answer)
    }

    /// Creates a token without an end, and returns it.
    pub async fn create_token(&self, name: &str, role: AccessRole) -> String {
        self.create_token_of(name, role, None).await
    }

    /// Creates a token of a person, without an end, and returns it.
    pub async fn create_token_of(
        &self,
        name: &str,
        role: AccessRole,
        login: Option<&str>,
    ) -> String {
        let store = &self.running.store;
        let order = TokenOrder {
            name,
            role,
            login,
            created_by: None,
            expires_at: None,
        };
        let created = tallyhook::api::create_token(store, DEFAULT_TEAM, order).await;
        created.unwrap().unwrap().token
    }

    /// Tracks a repository since `since`.
    pub async fn track(&self, id: RepoId, name: &str, since: DateTime<Utc>) {
        let repository = Repository::named(id, name);
        self.running.store.track(&repository, since).await.unwrap();
    }

    /// Waits until every stored delivery is applied, ignored or dead.
    pub async fn drained(&mut self) {
        self.running.drained().await.unwrap();
    }

    /// Stops the server and returns its place.
    pub async fn stop(self) -> Place {
        self.running.stop().await;
        self.place
    }
}

/// Waits until the condition holds; a test that would hang fails instead.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(
            std::time::Instant::now() < until,
            "{what}: not so within {PATIENCE:?}"
        );
        tokio::task::yield_now().await;
    }
}

/// Asserts that a request is refused with this status and code, in the shape that all errors share.
#[track_caller]
pub fn assert_refused((status, answer): &(u16, Value), expected: u16, code: &str) {
    assert_eq!(
        (*status, answer["error"]["code"].as_str()),
        (expected, Some(code)),
        "{answer}"
    );
    assert!(!answer["error"]["message"].as_str().unwrap().is_empty());
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    assert_eq!(answer["error"].as_object().unwrap().len(), 2, "{answer}");
}
