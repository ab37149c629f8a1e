//! A GitHub App: its signatures are checked, and it gets tokens for its installations.

use std::sync::OnceLock;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::DATE;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use tallyhook_github_client::{Client, Clock, Credentials, GithubApp, VirtualTime};

use super::access::Rights;
use super::answers::plain;
use super::rest::RestAnswer;
use super::{FakeGithub, State};
use crate::payloads::{Account, objects};

pub const APP_ID: &str = "4711";
const CREATED_AT: &str = "2026-01-05T09:00:00Z";
/// The events that the App subscribes to.
const EVENTS: [&str; 8] = [
    "issue_comment",
    "merge_group",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_review_thread",
    "push",
    "repository",
];
/// The id of the webhook of the App in this fake; at GitHub it has none.
pub const HOOK: i64 = 0;

/// The token whose allowance all requests of the App and its installations count against. It is
/// never issued.
pub(super) const ALLOWANCE: &str = "of the App";

/// The App, as GitHub knows it.
pub(super) struct FakeApp {
    /// GitHub's own clock.
    time: VirtualTime,
    /// The accounts that installed it, with the ids of the installations.
    installations: Vec<(String, i64)>,
    tokens: Vec<InstallationToken>,
    permissions: Value,
}

struct InstallationToken {
    token: String,
    expires_at: DateTime<Utc>,
}

fn key() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
}

/// The private key of the App, as GitHub lets one download it.
pub fn private_key() -> String {
    pem(key())
}

/// Encodes a key as PEM.
pub fn pem(key: &RsaKeyPair) -> String {
    let der = key.as_der().unwrap();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    )
}

impl FakeGithub {
    /// Adds an App, whose clock is `time`.
    pub fn add_app(&self, time: &VirtualTime) {
        let mut state = self.state();
        state.app = Some(FakeApp {
            time: time.clone(),
            installations: Vec::new(),
            tokens: Vec::new(),
            permissions: json!({"metadata": "read", "pull_requests": "read"}),
        });
        state.access.give(ALLOWANCE, Rights::Admin);
    }

    /// Installs the App on `account` as `installation`, in place of an earlier installation.
    pub fn install(&self, account: &str, installation: i64) {
        self.with_app(|app| {
            app.installations.retain(|(known, _)| known != account);
            app.installations.push((account.to_owned(), installation));
        });
    }

    /// Sets the permissions of all installations.
    pub fn let_app(&self, permissions: Value) {
        self.with_app(|app| app.permissions = permissions);
    }

    /// Revokes all installation tokens issued so far.
    pub fn revoke_tokens(&self) {
        self.with_app(|app| {
            app.tokens
                .iter_mut()
                .for_each(|given| given.token = String::new())
        });
    }

    /// Returns a client with the credentials of the App, whose waits pass at once, and its clock.
    pub fn app_client(&self, private_key: &str) -> (Client, VirtualTime) {
        // Whole seconds, as dates in headers have.
        let time =
            VirtualTime::starting_at(DateTime::from_timestamp(Utc::now().timestamp(), 0).unwrap());
        let app = Credentials::App(GithubApp::new(APP_ID, private_key).unwrap());
        let patience = std::time::Duration::from_secs(30);
        (
            Client::with(self.api(), app, Clock::Virtual(time.clone()), patience).unwrap(),
            time,
        )
    }

    fn with_app(&self, with: impl FnOnce(&mut FakeApp)) {
        with(self.state().app.as_mut().unwrap());
    }
}

/// Answers the requests that only the App itself may send.
pub(super) fn answer(
    state: &mut State,
    path: &str,
    authorization: Option<&str>,
) -> Option<HttpResponse> {
    let app = state.app.as_mut()?;
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let is_for_app = parts[0] == "app" || parts.last() == Some(&"installation");
    if !is_for_app {
        return None;
    }
    if let Err(problem) = app.check(authorization) {
        return Some(app.dated(plain(RestAnswer::problem(
            StatusCode::UNAUTHORIZED,
            problem,
        ))));
    }
    let number = |id: &str| {
        app.installations
            .iter()
            .any(|(_, known)| known.to_string() == id)
    };
    let answer = match parts[..] {
        ["repos" | "orgs", account, .., "installation"] => {
            let found = app.installations.iter().find(|(known, _)| known == account);
            found.map(|(_, id)| {
                HttpResponse::Ok().json(json!({"id": id, "target_type": "Organization"}))
            })
        }
        ["app", "installations", id, "access_tokens"] if number(id) => Some(app.give()),
        ["app", "hook", ..] => return None,
        ["app"] => Some(HttpResponse::Ok().json(app.to_json())),
        ["app", "installations"] => {
            let installations = app
                .installations
                .iter()
                .map(|(account, id)| app.installation(account, *id));
            Some(HttpResponse::Ok().json(installations.collect::<Value>()))
        }
        _ => None,
    };
    Some(app.dated(answer.unwrap_or_else(|| plain(RestAnswer::missing()))))
}

/// Returns true for a valid token of an installation, and for the App itself.
pub(super) fn lets_in(state: &State, authorization: Option<&str>) -> bool {
    let Some((app, token)) = state
        .app
        .as_ref()
        .zip(authorization.and_then(|text| text.strip_prefix("Bearer ")))
    else {
        return false;
    };
    let now = app.time.now();
    app.check(authorization).is_ok()
        || app
            .tokens
            .iter()
            .any(|given| given.token == token && given.expires_at > now)
}

impl FakeApp {
    fn give(&mut self) -> HttpResponse {
        let expires_at = self.time.now() + TimeDelta::hours(1);
        let token = format!("ghs_token_of_an_installation_{}", self.tokens.len());
        self.tokens.push(InstallationToken {
            token: token.clone(),
            expires_at,
        });
        let expires_at = expires_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        HttpResponse::Created().json(json!({"token": token, "expires_at": expires_at}))
    }

    fn to_json(&self) -> Value {
        json!({
            "id": 4711,
            "slug": "tally",
            "node_id": "A_4711",
            "owner": objects::account(Some(&Account::organization(900, "acme-corp"))),
            "name": "Tally",
            "description": null,
            "external_url": "https://tallyhook.example.com",
            "html_url": "https://github.com/apps/tally",
            "created_at": CREATED_AT,
            "updated_at": CREATED_AT,
            "permissions": self.permissions,
            "events": EVENTS,
            "installations_count": self.installations.len(),
        })
    }

    fn installation(&self, account: &str, id: i64) -> Value {
        let api = format!("https://api.github.com/app/installations/{id}");
        json!({
            "id": id,
            "account": objects::account(Some(&Account::organization(900, account))),
            "repository_selection": "all",
            "access_tokens_url": format!("{api}/access_tokens"),
            "repositories_url": "https://api.github.com/installation/repositories",
            "html_url": format!("https://github.com/organizations/{account}/settings/installations/{id}"),
            "app_id": 4711,
            "app_slug": "tally",
            "target_id": 900,
            "target_type": "Organization",
            "permissions": self.permissions,
            "events": EVENTS,
            "created_at": CREATED_AT,
            "updated_at": CREATED_AT,
            "single_file_name": null,
            "suspended_by": null,
            "suspended_at": null,
        })
    }

    /// Checks the signature and the claims of the App.
    fn check(&self, authorization: Option<&str>) -> Result<(), &'static str> {
        let claims = authorization
            .and_then(claims)
            .ok_or("A JSON web token could not be decoded")?;
        let now = self.time.now().timestamp();
        let (issued, expires) = (
            claims["iat"].as_i64().unwrap(),
            claims["exp"].as_i64().unwrap(),
        );
        if claims["iss"] != APP_ID {
            Err("Integration not found")
        } else if issued > now {
            Err(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            )
        } else if !(now + 1..=now + 600).contains(&expires) {
            Err(
                "'Expiration time' claim ('exp') must be a numeric value representing a future time",
            )
        } else {
            Ok(())
        }
    }

    fn dated(&self, mut response: HttpResponse) -> HttpResponse {
        let date = self
            .time
            .now()
            .format("%a, %d %b %Y %H:%M:%S GMT")
            .to_string();
        response
            .headers_mut()
            .insert(DATE, date.try_into().unwrap());
        response
    }
}

/// Returns the claims, if the App signed them.
fn claims(authorization: &str) -> Option<Value> {
    let (signed, signature) = authorization.strip_prefix("Bearer ")?.rsplit_once('.')?;
    let (head, claims) = signed.split_once('.')?;
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let head: Value = serde_json::from_slice(&decoded(head)?).ok()?;
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key().public_key());
    key.verify(signed.as_bytes(), &decoded(signature)?)
        .ok()
        .filter(|()| head["alg"] == "RS256")?;
    serde_json::from_slice(&decoded(claims)?).ok()
}
