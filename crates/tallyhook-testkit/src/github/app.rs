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
    /// GitHub's own clock, if it is not ours.
    time: Option<VirtualTime>,
    pub(super) installations: Vec<Installation>,
    tokens: Vec<InstallationToken>,
    permissions: Value,
}

/// An installation of an App on an account.
pub(super) struct Installation {
    pub(super) account: String,
    pub(super) id: i64,
    /// Of another App than ours in a few tests.
    pub(super) app_id: i64,
    pub(super) is_suspended: bool,
    /// The selected repositories; `None` of all.
    pub(super) repositories: Option<Vec<i64>>,
}

struct InstallationToken {
    installation: i64,
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
        state.app = Some(FakeApp::new(Some(time.clone())));
        state.access.give(ALLOWANCE, Rights::Admin);
    }

    /// Installs the App on `account` as `installation`, in place of an earlier installation.
    pub fn install(&self, account: &str, installation: i64) {
        self.install_app(4711, account, installation);
    }

    /// Installs the App with this id, which may be another than ours.
    pub fn install_app(&self, app_id: i64, account: &str, installation: i64) {
        self.with_app(|app| {
            let is_same = |known: &Installation| known.account == account && known.app_id == app_id;
            app.installations.retain(|known| !is_same(known));
            app.installations.push(Installation {
                account: account.to_owned(),
                id: installation,
                app_id,
                is_suspended: false,
                repositories: None,
            });
        });
    }

    /// Limits an installation to these repositories.
    pub fn select_repositories(&self, installation: i64, repositories: &[i64]) {
        self.with_app(|app| {
            app.installed(installation).repositories = Some(repositories.to_vec());
        });
    }

    /// Suspends an installation, or ends its suspension.
    pub fn suspend(&self, installation: i64, is_suspended: bool) {
        self.with_app(|app| app.installed(installation).is_suspended = is_suspended);
    }

    /// Removes an installation with its tokens.
    pub fn uninstall(&self, installation: i64) {
        self.with_app(|app| {
            app.installations.retain(|known| known.id != installation);
            app.tokens
                .retain(|token| token.installation != installation);
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
        return app.refusal(authorization);
    }
    if let Err(problem) = app.check(authorization) {
        return Some(app.dated(plain(RestAnswer::problem(
            StatusCode::UNAUTHORIZED,
            problem,
        ))));
    }
    let number = |id: &str| {
        let mut known = app.installations.iter();
        known
            .find(|known| known.id.to_string() == id)
            .map(|known| (known.id, known.is_suspended))
    };
    let answer = match parts[..] {
        ["repos" | "orgs", account, .., "installation"] => {
            let found = app
                .installations
                .iter()
                .find(|known| known.account == account);
            found.map(|known| HttpResponse::Ok().json(app.installation(known)))
        }
        ["app", "installations", id, "access_tokens"] => match number(id) {
            Some((_, true)) => Some(suspended()),
            Some((id, false)) => Some(app.give(id)),
            None => None,
        },
        ["app", "hook", ..] => return None,
        ["app"] => Some(HttpResponse::Ok().json(app.to_json())),
        ["app", "installations"] => {
            let installations = app
                .installations
                .iter()
                .map(|installation| app.installation(installation));
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
    let now = app.now();
    app.check(authorization).is_ok()
        || app
            .tokens
            .iter()
            .any(|given| given.token == token && given.expires_at > now)
}

fn suspended() -> HttpResponse {
    let message = "This installation has been suspended";
    plain(RestAnswer::problem(StatusCode::FORBIDDEN, message))
}

impl FakeApp {
    pub(super) fn new(time: Option<VirtualTime>) -> Self {
        Self {
            time,
            installations: Vec::new(),
            tokens: Vec::new(),
            permissions: json!({"metadata": "read", "pull_requests": "read"}),
        }
    }

    fn now(&self) -> DateTime<Utc> {
        self.time.as_ref().map_or_else(Utc::now, VirtualTime::now)
    }

    /// # Panics
    /// If there is no such installation.
    fn installed(&mut self, id: i64) -> &mut Installation {
        let mut known = self.installations.iter_mut();
        known.find(|known| known.id == id).unwrap()
    }

    /// Returns the answer to a token of an installation that is suspended.
    fn refusal(&self, authorization: Option<&str>) -> Option<HttpResponse> {
        let token = authorization?.strip_prefix("Bearer ")?;
        let given = self.tokens.iter().find(|given| given.token == token)?;
        let mut installations = self.installations.iter();
        let is_suspended =
            installations.any(|known| known.id == given.installation && known.is_suspended);
        is_suspended.then(suspended)
    }

    fn give(&mut self, installation: i64) -> HttpResponse {
        let expires_at = self.now() + TimeDelta::hours(1);
        let token = format!("ghs_token_of_an_installation_{}", self.tokens.len());
        self.tokens.push(InstallationToken {
            installation,
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

    pub(super) fn installation(&self, installation: &Installation) -> Value {
        let Installation { account, id, .. } = installation;
        let is_suspended = installation.is_suspended;
        let api = format!("https://api.github.com/app/installations/{id}");
        json!({
            "id": id,
            "account": objects::account(Some(&Account::organization(900, account))),
            "repository_selection": match installation.repositories {
                Some(_) => "selected",
                None => "all",
            },
            "access_tokens_url": format!("{api}/access_tokens"),
            "repositories_url": "https://api.github.com/installation/repositories",
            "html_url": format!("https://github.com/organizations/{account}/settings/installations/{id}"),
            "app_id": installation.app_id,
            "app_slug": "tally",
            "target_id": 900,
            "target_type": "Organization",
            "permissions": self.permissions,
            "events": EVENTS,
            "created_at": CREATED_AT,
            "updated_at": CREATED_AT,
            "single_file_name": null,
            "suspended_by": is_suspended
                .then(|| objects::account(Some(&Account::organization(900, account)))),
            "suspended_at": is_suspended.then_some(CREATED_AT),
        })
    }

    /// Checks the signature and the claims of the App.
    fn check(&self, authorization: Option<&str>) -> Result<(), &'static str> {
        let claims = authorization
            .and_then(claims)
            .ok_or("A JSON web token could not be decoded")?;
        let now = self.now().timestamp();
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
        let date = self.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
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
