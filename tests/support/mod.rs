//! A whole Tallyhook inside the test, on a free port and a store of its own.

#![allow(dead_code, reason = "every test binary uses a part of it")]

pub(crate) mod payloads;
mod place;
pub(crate) mod socket;

#[cfg(feature = "services")]
pub(crate) mod broker;
#[cfg(feature = "services")]
pub(crate) mod database;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::Value;
use tallyhook::app::{Options, Running};
use tallyhook::config::{Config, Notify, Sources};
use tallyhook_core::domain::join::Dated;
use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::repository::{Access, Repository, Seen};
use tallyhook_core::github::signature::Secrets;
use tallyhook_core::github::types::{RepoId, Timestamp};
use tallyhook_github_client::hooks::HookSecret;

pub(crate) use place::Place;

pub(crate) const SECRET: &str = "a secret of the tests";
pub(crate) const TOKEN: &str = "tallyhook_token_of_the_tests";
/// Nothing that is waited for takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running server with its place, both gone at the end of the test.
pub(crate) struct TestServer {
    pub(crate) running: Running,
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    pub(crate) place: Place,
}

/// The settings of a test's server at `place`.
pub(crate) fn config(place: &Place) -> Config {
    Config {
        webhook_secrets: Secrets::single(SECRET),
        hook_secret: HookSecret::first_of("a-secret-of-the-tests"),
        github_credentials: None,
        github_api_url: "http://127.0.0.1:1".parse().unwrap(),
        default_repository: Some("acme-corp/api-server".to_owned()),
        database_url: place.database_url.clone(),
        listen: "127.0.0.1:0".parse().unwrap(),
        admin_token: Some(TOKEN.to_owned()),
        bots: Bots::default(),
        retention_days: 7,
        websocket_clients: 2000,
        sync: Config::new(&Sources::default()).ok().unwrap().sync,
        tasks: Config::new(&Sources::default()).ok().unwrap().tasks,
        notify: Notify {
            channels: Vec::new(),
            allow_private: true,
            timeout: Duration::from_secs(10),
        },
        amqp_url: place.amqp_url.clone(),
    }
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        Self::start_in(Place::new().await, options).await
    }

    /// Starts on the database that `place` may have from an earlier server.
    pub(crate) async fn start_in(place: Place, options: Options) -> Self {
        let config = config(&place);
        Self::start_as(&config, place, options).await
    }

    /// Starts with settings of the test's own.
    pub(crate) async fn start_as(config: &Config, place: Place, options: Options) -> Self {
        let running = Running::start(config, options).await.unwrap();
        let url = format!("http://{}", running.address);
        Self {
            running,
            url,
            http: reqwest::Client::new(),
            place,
        }
    }

    /// Posts a signed JSON webhook: the status and the answer.
    pub(crate) async fn post(&self, event: &str, guid: &str, body: &[u8]) -> (u16, Value) {
        let response = self
            .signed(event, guid, body)
            .body(body.to_vec())
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    /// A signed request without its body, for tests that change something about it.
    pub(crate) fn signed(&self, event: &str, guid: &str, body: &[u8]) -> reqwest::RequestBuilder {
        self.http
            .post(format!("{}/webhooks/github", self.url))
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", event)
            .header("X-GitHub-Delivery", guid)
            .header("X-Hub-Signature-256", sign(body))
    }

    /// Asks the API with the tests' token: the status and the answer.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let response = self
            .http
            .get(format!("{}{path}", self.url))
            .bearer_auth(TOKEN)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Asks the API to do something: the status and the answer, null if it is empty.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(TOKEN)
            .json(body);
        let response = request.send().await.unwrap();
        let (status, answer) = (response.status().as_u16(), response.bytes().await.unwrap());
        (
            status,
            if answer.is_empty() {
                Value::Null
            } else {
                serde_json::from_slice(&answer).unwrap()
            },
        )
    }

    /// Tracks a repository since `since`.
    pub(crate) async fn track(&self, id: RepoId, name: &str, since: DateTime<Utc>) {
        let at = Timestamp::clamped(0);
        let repository = Repository {
            id,
            seen: Dated {
                at,
                value: Seen {
                    name: name.to_owned(),
                    private: None,
                },
            },
            installation: None,
            access: Dated {
                at,
                value: Access::Granted,
            },
        };
        self.running.store.track(&repository, since).await.unwrap();
    }

    /// Waits until every stored delivery is finished.
    pub(crate) async fn drained(&mut self) {
        self.running.drained().await.unwrap();
    }

    /// Stops the server and gives its place back.
    pub(crate) async fn stop(self) -> Place {
        self.running.stop().await;
        self.place
    }
}

/// Waits until it holds; a test that would hang fails instead.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(
            std::time::Instant::now() < until,
            "{what}: that never was so"
        );
        tokio::task::yield_now().await;
    }
}

/// GitHub's id of the repository of the payloads.
pub(crate) fn repo_id() -> RepoId {
    RepoId(payloads::World::acme().repo_id)
}

/// The `X-Hub-Signature-256` of a body under the tests' secret.
pub(crate) fn sign(body: &[u8]) -> String {
    Secrets::single(SECRET).unwrap().sign(body).to_header()
}

/// The recorded deliveries of one fixture: event, GUID and payload, in the order in which they happened.
pub(crate) struct Fixture {
    pub(crate) event: String,
    pub(crate) guid: String,
    pub(crate) delivered_at: String,
    pub(crate) payload: Vec<u8>,
}

/// Every delivery of the shipped fixtures, in order of time.
pub(crate) fn fixtures() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for path in fixture_files("jsonl") {
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let delivery: Value = serde_json::from_str(line).unwrap();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            fixtures.push(Fixture {
                event: text(&delivery["event"]),
                guid: text(&delivery["guid"]),
                delivered_at: text(&delivery["delivered_at"]),
                payload: delivery["request"]["payload"].to_string().into_bytes(),
            });
        }
    }
    fixtures.sort_by(|one, two| one.delivered_at.cmp(&two.delivered_at));
    fixtures
}

/// The files of the fixtures folder that end so, by name.
pub(crate) fn fixture_files(ending: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.to_str().unwrap().ends_with(&format!(".{ending}")))
        .collect();
    files.sort();
    files
}

/// The folder of recorded GitHub data.
#[cfg(feature = "recorded")]
pub(crate) fn recorded_data() -> PathBuf {
    let told = std::env::var_os("TALLYHOOK_GITHUB_DATA").map(PathBuf::from);
    let folder = told
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/github-data"));
    assert!(
        folder.is_dir(),
        "there is no recorded GitHub data at {}: do without `recorded`",
        folder.display()
    );
    folder
}

/// Asserts that a request is refused with this status and code, in the one shape that errors have.
#[track_caller]
pub(crate) fn assert_refused((status, answer): &(u16, Value), expected: u16, code: &str) {
    assert_eq!(
        (*status, answer["error"]["code"].as_str()),
        (expected, Some(code)),
        "{answer}"
    );
    assert!(!answer["error"]["message"].as_str().unwrap().is_empty());
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    assert_eq!(answer["error"].as_object().unwrap().len(), 2, "{answer}");
}
