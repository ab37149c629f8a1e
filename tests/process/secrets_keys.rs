//! `tallyhook secrets`, and a server whose key is missing, as their users see them.

use std::path::PathBuf;

use chrono::{TimeDelta, Utc};
use serde_json::Value;
use tallyhook::secrets::{CredentialDraft, KeySource, TokenDraft, Vault, new_key};
use tallyhook_store::{CredentialKind, OpenMode, TokenOwner};
use testkit::Place;
use testkit::process::{Ended, Serve, run, tallyhook};

/// The GitHub of commands without a setting.
const HOST: &str = "https://api.github.com";
const PLANTED: &str = "ghu_planted_in_a_credential";

struct Scene {
    place: Place,
    keys: PathBuf,
}

impl Scene {
    /// Returns a database with a sealed credential, and the path of its keys.
    async fn new() -> Self {
        let place = Place::embedded();
        run(&mut tallyhook(place.path(), &["migrate"])).ok();
        let source = KeySource::beside(&place.database_url);
        let keys = source.path().unwrap().to_owned();
        let store = tallyhook_store::open(&place.database_url, OpenMode::Shared).await;
        let store = store.unwrap();
        let vault = Vault::new(store.clone(), source, HOST);
        let draft = CredentialDraft {
            owner: TokenOwner::User(7),
            kind: CredentialKind::Pat,
            github_user: 4_004,
            login: "octocat",
            tokens: TokenDraft {
                access: PLANTED.into(),
                refresh: None,
                access_expires_at: Some(Utc::now() + TimeDelta::days(30)),
                refresh_expires_at: None,
            },
            scopes: &[],
            missing: &[],
        };
        vault.save_credential(&draft, Utc::now()).await.unwrap();
        store.close().await;
        Self { place, keys }
    }

    fn secrets(&self, arguments: &[&str]) -> Ended {
        let arguments = [&["secrets"], arguments].concat();
        run(&mut tallyhook(self.place.path(), &arguments))
    }

    fn status(&self) -> Vec<Value> {
        let ended = self.secrets(&["status", "--json"]);
        let list: Value = serde_json::from_str(&ended.stdout).unwrap();
        list["items"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn key_is_rotated_and_forgotten_beside_a_server() {
    let scene = Scene::new().await;
    let serve = Serve::start(scene.place.path());
    let before = scene.status();
    assert_eq!(before.len(), 1);
    assert_eq!(before[0]["rows"]["github_credentials"], 1);
    let old = before[0]["id"].as_str().unwrap().to_owned();
    scene
        .secrets(&["forget", &old, "--yes"])
        .failed(1, &["first key"]);

    let rotated = scene.secrets(&["rotate", "--new-key"]).ok();
    assert_eq!(rotated.trim(), "sealed 1 values by the first key");
    let after = scene.status();
    assert_eq!(after.len(), 2);
    assert!(after[0]["seals"] == true && after[0]["rows"]["github_credentials"] == 1);
    assert_eq!(
        (&after[1]["id"], &after[1]["rows"]),
        (&before[0]["id"], &serde_json::json!({}))
    );
    let forgotten = scene.secrets(&["forget", &old, "--yes"]).ok();
    assert!(forgotten.contains("no longer in the file"), "{forgotten}");
    assert_eq!(scene.status().len(), 1);
    scene
        .secrets(&["forget", &old, "--yes"])
        .failed(1, &["no such key"]);
    scene.secrets(&["forget", "carrot", "--yes"]).failed(2, &[]);

    let http = reqwest::Client::new();
    let acts = testkit::process::get(&http, &serve.url, "/api/audit").await;
    let acts = acts["items"].as_array().unwrap().iter();
    let acts: Vec<_> = acts
        .map(|act| act["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(acts, ["secrets.forgotten", "secrets.rotated"]);
    let (status, log) = serve.terminate();
    assert!(status.success());
    assert!(!log.join("\n").contains(PLANTED));
}

#[tokio::test]
async fn missing_key_degrades_and_putting_it_back_heals() {
    let scene = Scene::new().await;
    let serve = Serve::start(scene.place.path());
    let http = reqwest::Client::new();
    let ready = async || {
        let answer = http
            .get(format!("{}/readyz", serve.url))
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    let becomes = async |expected: &str| {
        let reached = async { while ready().await.1["secrets"] != expected {} };
        let reached = tokio::time::timeout(testkit::process::PATIENCE, reached).await;
        assert!(reached.is_ok(), "it did not get {expected}");
    };
    becomes("ok").await;
    let aside = scene.keys.with_file_name("aside");
    std::fs::rename(&scene.keys, &aside).unwrap();
    becomes("degraded").await;
    let (status, parts) = ready().await;
    assert_eq!((status, &parts["reason"]), (200, &"key_unavailable".into()));
    let ended = scene.secrets(&["status"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("missing"), "{}", ended.stdout);
    let checked = run(&mut tallyhook(scene.place.path(), &["doctor", "--json"]));
    let found: Vec<Value> = serde_json::from_str(&checked.stdout).unwrap();
    let finding = found
        .iter()
        .find(|finding| finding["check"] == "secrets")
        .unwrap();
    assert_eq!(finding["state"], "wrong");
    assert!(
        finding["found"].as_str().unwrap().contains("1 rows"),
        "{finding}"
    );

    std::fs::rename(&aside, &scene.keys).unwrap();
    becomes("ok").await;
    scene.secrets(&["status"]).ok();
    let (status, log) = serve.terminate();
    assert!(status.success());
    let shown = [log.join("\n"), checked.stdout, ended.stdout, ended.stderr].concat();
    let key = std::fs::read_to_string(&scene.keys).unwrap();
    assert!(!shown.contains(PLANTED) && !shown.contains(key.trim()));
}

#[tokio::test]
async fn lost_key_is_destroyed_on_demand_alone() {
    let scene = Scene::new().await;
    let lost = scene.status()[0]["id"].as_str().unwrap().to_owned();
    let key = new_key().unwrap();
    std::fs::write(&scene.keys, key.expose_text().unwrap()).unwrap();
    scene
        .secrets(&["rotate"])
        .failed_after_output(1, &["key is missing"]);
    scene
        .secrets(&["forget", &lost, "--yes"])
        .failed(1, &["--destroy"]);
    scene
        .secrets(&["forget", &lost, "--destroy"])
        .failed(2, &["--yes"]);
    let destroyed = scene.secrets(&["forget", &lost, "--destroy", "--yes"]).ok();
    assert_eq!(destroyed.trim(), "destroyed 1 rows that it had sealed");
    scene.secrets(&["status"]).ok();
}

#[test]
fn keys_that_cannot_be_used_are_refused_at_the_start_and_not_shown() {
    let place = Place::embedded();
    let mut command = tallyhook(place.path(), &["config", "check"]);
    command.env("TALLYHOOK_ENCRYPTION_KEYS", "carrot");
    let ended = run(&mut command);
    ended.failed(2, &["TALLYHOOK_ENCRYPTION_KEYS", "openssl rand -base64 32"]);
    assert!(!ended.stderr.contains("carrot"));
    let file = place.path().join("keys");
    let key = new_key().unwrap();
    std::fs::write(&file, key.expose_text().unwrap()).unwrap();
    let open = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = tallyhook(place.path(), &["config", "show"]);
        run(command.env("TALLYHOOK_ENCRYPTION_KEYS_FILE", &file))
    };
    open(0o644).failed(2, &["chmod 600"]);
    let shown = open(0o600).ok();
    assert!(shown.contains("TALLYHOOK_ENCRYPTION_KEYS"), "{shown}");
    assert!(!shown.contains(key.expose_text().unwrap()));
}
