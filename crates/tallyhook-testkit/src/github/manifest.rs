//! Apps from a manifest: the form, and the conversion of its code into the secrets of the App.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::answers::plain;
use super::app::{self, FakeApp};
use super::hooks::Hook;
use super::oauth::{FakeOauthApp, form, redirect};
use super::rest::{Parameters, RestAnswer};
use super::{FakeGithub, State};
use crate::payloads::{Account, objects};

/// The validity of a code.
const CODE: TimeDelta = TimeDelta::hours(1);
/// The client id and the secrets of the App that a manifest creates.
pub const MANIFEST_CLIENT_ID: &str = "Iv23liManifest0123456";
pub const MANIFEST_CLIENT_SECRET: &str = "client_secret_of_the_manifest_0123456789";
pub const MANIFEST_WEBHOOK_SECRET: &str = "webhook_secret_of_the_manifest_0123456789";

/// Manifests that were accepted, until their codes are converted.
#[derive(Default)]
pub(super) struct Manifests {
    pending: Vec<PendingManifest>,
    /// The number of next conversions that are refused.
    refused: u32,
}

struct PendingManifest {
    code: String,
    manifest: Value,
    owner: Account,
    accepted_at: DateTime<Utc>,
}

impl FakeGithub {
    /// Refuses the next conversions with 401, as GitHub once did for hours.
    pub fn refuse_conversions(&self, times: u32) {
        self.state().manifests.refused = times;
    }
}

/// Answers the form of a manifest and the conversion of its code.
pub(super) fn answer(
    state: &mut State,
    request: &HttpRequest,
    body: &[u8],
) -> Option<HttpResponse> {
    let parts: Vec<_> = request.path().trim_matches('/').split('/').collect();
    match (request.method().as_str(), &parts[..]) {
        ("POST", ["settings", "apps", "new"]) => Some(state.accept(request, None, body)),
        ("POST", ["organizations", name, "settings", "apps", "new"]) => {
            Some(state.accept(request, Some(name), body))
        }
        ("POST", ["app-manifests", code, "conversions"]) => {
            let authorized = request.headers().contains_key("authorization");
            Some(match state.convert(code, authorized) {
                Ok(app) => HttpResponse::Created().json(app),
                Err(answer) => plain(answer),
            })
        }
        _ => None,
    }
}

impl State {
    fn accept(
        &mut self,
        request: &HttpRequest,
        organization: Option<&str>,
        body: &[u8],
    ) -> HttpResponse {
        let fields = form(body);
        let manifest = fields.iter().find(|(name, _)| name == "manifest");
        let manifest = manifest.and_then(|(_, text)| serde_json::from_str::<Value>(text).ok());
        let manifest = manifest.unwrap_or_default();
        let is_text = |field: &str| manifest[field].is_string();
        let is_list = |field: &str| manifest[field].is_array();
        let is_whole = ["name", "url", "redirect_url"].into_iter().all(is_text)
            && ["callback_urls", "default_events"].into_iter().all(is_list)
            && manifest["hook_attributes"]["url"].is_string()
            && manifest["default_permissions"].is_object();
        let owner = match organization {
            Some(name) => self
                .directory
                .organization(name)
                .map(|known| known.account.clone()),
            None => Some(Account::user(1, "octocat")),
        };
        let (true, Some(owner)) = (is_whole, owner) else {
            return HttpResponse::UnprocessableEntity().body("Invalid GitHub App configuration");
        };
        let to = manifest["redirect_url"].as_str().unwrap().to_owned();
        let code = self.directory.make("", 40);
        let accepted_at = self.now();
        self.manifests.pending.push(PendingManifest {
            code: code.clone(),
            manifest,
            owner,
            accepted_at,
        });
        let parameters = Parameters::of(request);
        redirect(&to, &[("code", &code)], parameters.get("state"))
    }

    fn convert(&mut self, code: &str, authorized: bool) -> Result<Value, RestAnswer> {
        if authorized || self.manifests.refused > 0 {
            self.manifests.refused = self.manifests.refused.saturating_sub(1);
            let (status, message) = (StatusCode::UNAUTHORIZED, "Requires authentication");
            return Err(RestAnswer::problem(status, message));
        }
        let now = self.now();
        let pending = &mut self.manifests.pending;
        let is_valid =
            |known: &mut PendingManifest| known.code == code && now < known.accepted_at + CODE;
        let Some(PendingManifest {
            manifest, owner, ..
        }) = pending.extract_if(.., is_valid).next()
        else {
            return Err(RestAnswer::missing());
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        self.oauth.apps.push(FakeOauthApp {
            callbacks: manifest["callback_urls"]
                .as_array()
                .unwrap()
                .iter()
                .map(text)
                .collect(),
            ..FakeOauthApp::github_app(MANIFEST_CLIENT_ID, MANIFEST_CLIENT_SECRET, 4711, "")
        });
        let hook = text(&manifest["hook_attributes"]["url"]);
        let hook = Hook::new(app::HOOK, "app", &hook, MANIFEST_WEBHOOK_SECRET);
        self.world.hooks.push(hook);
        let time = self.time.clone();
        self.app.get_or_insert_with(|| FakeApp::new(time));
        self.access.give(app::ALLOWANCE, super::Rights::Admin);
        let mut converted = json!({
            "id": 4711,
            "slug": "tally",
            "node_id": "A_4711",
            "owner": objects::account(Some(&owner)),
            "name": manifest["name"],
            "description": null,
            "external_url": manifest["url"],
            "html_url": format!("{}/apps/tally", self.world.url),
            "created_at": "2026-01-05T09:00:00Z",
            "updated_at": "2026-01-05T09:00:00Z",
            "permissions": manifest["default_permissions"],
            "events": manifest["default_events"],
        });
        let secrets = json!({
            "client_id": MANIFEST_CLIENT_ID,
            "client_secret": MANIFEST_CLIENT_SECRET,
            "webhook_secret": MANIFEST_WEBHOOK_SECRET,
            "pem": app::private_key(),
        });
        objects::extend(&mut converted, secrets);
        Ok(converted)
    }
}
