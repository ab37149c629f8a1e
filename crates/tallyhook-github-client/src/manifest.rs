//! Apps from a manifest: GitHub shows a form, and the code that it returns with is converted into
//! the App's secrets, once and within an hour.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};
use tallyhook_core::backoff::Backoff;
use tallyhook_core::secret::Secret;
use thiserror::Error;
use zeroize::Zeroizing;

use super::client::{Client, parse_write_response};
use super::error::GithubError;
use super::hooks::GithubName;
use super::request::{ApiRequest, RequestAccess};
use super::web_url::WebUrl;

/// The delays between attempts at a conversion. GitHub once refused all of them for hours.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(5),
    max: Duration::from_mins(5),
};
/// What the App may do. An installation can grant less.
const PERMISSIONS: [(&str, &str); 6] = [
    ("contents", "write"),
    ("issues", "write"),
    ("members", "read"),
    ("merge_queues", "read"),
    ("metadata", "read"),
    ("pull_requests", "write"),
];

/// The description of an App that a person creates with one click.
#[derive(Clone, Debug, Serialize)]
pub struct AppManifest {
    pub name: String,
    /// The home page of the App.
    pub url: String,
    hook_attributes: HookAttributes,
    redirect_url: String,
    callback_urls: Vec<String>,
    setup_url: String,
    setup_on_update: bool,
    public: bool,
    request_oauth_on_install: bool,
    default_permissions: BTreeMap<&'static str, &'static str>,
    default_events: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct HookAttributes {
    url: String,
    active: bool,
}

/// The addresses of this installation that an App has.
#[derive(Clone, Copy, Debug)]
pub struct AppAddresses<'a> {
    pub home: &'a str,
    /// The receiver of webhooks.
    pub webhook: &'a str,
    /// The page that the manifest's form returns to.
    pub redirect: &'a str,
    /// The page that sign-ins return to.
    pub callback: &'a str,
    /// The page that installations return to.
    pub setup: &'a str,
}

/// An App that was created from a manifest, with its secrets. GitHub shows them once.
#[derive(Deserialize)]
pub struct ConvertedApp {
    pub id: i64,
    pub slug: Option<String>,
    pub name: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub webhook_secret: Option<Secret>,
    pub pem: Secret,
    pub html_url: String,
    /// `None` of an enterprise's.
    #[serde(default)]
    pub owner: Option<AppOwner>,
    #[serde(default)]
    pub permissions: BTreeMap<String, String>,
    #[serde(default)]
    pub events: Vec<String>,
}

/// The account that an App belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AppOwner {
    pub login: Option<String>,
}

/// A conversion without an App. Named by what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConversionError {
    /// Create the App once more.
    #[error(
        "GitHub does not know the code of the App: it was used, or is older than an hour. Look \
         for the App in GitHub's settings, delete it, and create it again"
    )]
    CodeExpired,
    /// The App exists, and its secrets did not arrive.
    #[error(
        "GitHub may have created the App, but its secrets did not arrive ({reason}): delete it in \
         GitHub's settings, and create it again"
    )]
    OutcomeUnknown { reason: String },
    /// Keep the code, and try again within its hour.
    #[error("GitHub does not convert the code of the App yet ({0}): try again within the hour")]
    TryLater(GithubError),
    #[error(transparent)]
    Github(GithubError),
}

impl AppManifest {
    /// Returns the manifest of an App that is called `name`, and subscribes `events`.
    pub fn new(name: &str, addresses: AppAddresses<'_>, events: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            url: addresses.home.to_owned(),
            hook_attributes: HookAttributes {
                url: addresses.webhook.to_owned(),
                active: true,
            },
            redirect_url: addresses.redirect.to_owned(),
            callback_urls: vec![addresses.callback.to_owned()],
            setup_url: addresses.setup.to_owned(),
            setup_on_update: true,
            public: false,
            request_oauth_on_install: false,
            default_permissions: PERMISSIONS.into_iter().collect(),
            default_events: events.iter().map(|event| (*event).to_owned()).collect(),
        }
    }

    /// Returns the address of the page of `web` that a form with the field `manifest` is posted to.
    /// The App belongs to `organization`, or else to the person.
    pub fn form_url(web: &WebUrl, organization: Option<&GithubName>, state: &Secret) -> Url {
        let mut url = match organization {
            Some(name) => web.at(&format!("/organizations/{name}/settings/apps/new")),
            None => web.at("/settings/apps/new"),
        };
        url.query_pairs_mut().append_pair("state", state.expose());
        url
    }
}

impl Client {
    /// Converts the code that the manifest's form returned with. It is sent without credentials,
    /// which GitHub refuses there.
    ///
    /// # Errors
    /// [`ConversionError`], named by what to do.
    pub async fn convert_manifest(&self, code: &Secret) -> Result<ConvertedApp, ConversionError> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if code.expose().is_empty() || !code.expose().bytes().all(is_letter) {
            return Err(ConversionError::CodeExpired);
        }
        let path = "/app-manifests/{code}/conversions";
        let address = Zeroizing::new(format!("/app-manifests/{}/conversions", code.expose()));
        let url = self.transport().url(&address)?;
        let request = ApiRequest {
            method: Method::POST,
            repeatable: false,
            ..ApiRequest::get(RequestAccess::Nobody)
        };
        let response = self.execute_write(request, url).await?;
        let body = Zeroizing::new(response.body);
        Ok(parse_write_response(path, &body)?)
    }

    /// Converts a code, and tries again with growing delays while GitHub is not able to, until the
    /// end of the code's hour.
    ///
    /// # Errors
    /// As of [`Client::convert_manifest`].
    pub async fn convert_manifest_until(
        &self,
        code: &Secret,
        end: DateTime<Utc>,
    ) -> Result<ConvertedApp, ConversionError> {
        let clock = &self.transport().clock;
        let mut attempts = 0;
        loop {
            let converted = self.once().convert_manifest(code).await;
            attempts += 1;
            let delay = BACKOFF.jittered(attempts, rand::random());
            match converted {
                Err(ConversionError::TryLater(error)) if clock.now() + delay < end => {
                    let limited = match error {
                        GithubError::Limited { until } => (until - clock.now()).to_std().ok(),
                        _ => None,
                    };
                    clock.wait(delay.max(limited.unwrap_or_default())).await;
                }
                result => return result,
            }
        }
    }
}

impl From<GithubError> for ConversionError {
    fn from(error: GithubError) -> Self {
        match error {
            GithubError::NotFound { .. }
            | GithubError::Gone { .. }
            | GithubError::Refused { status: 422, .. } => Self::CodeExpired,
            GithubError::Unknown { reason, .. } | GithubError::Unexpected { reason, .. } => {
                Self::OutcomeUnknown { reason }
            }
            GithubError::Unauthorized { .. }
            | GithubError::Limited { .. }
            | GithubError::NotRecorded { .. }
            | GithubError::Unreachable { .. } => Self::TryLater(error),
            error => Self::Github(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_asks_for_what_is_used_and_goes_to_the_chosen_account() {
        let addresses = AppAddresses {
            home: "https://t.example",
            webhook: "https://t.example/webhooks/github",
            redirect: "https://t.example/github/app",
            callback: "https://t.example/github/callback",
            setup: "https://t.example/github/setup",
        };
        let manifest = AppManifest::new("Tally", addresses, &["push", "pull_request"]);
        let manifest = serde_json::to_value(manifest).unwrap();
        assert_eq!(
            manifest["default_permissions"],
            serde_json::json!({
                "contents": "write", "issues": "write", "members": "read",
                "merge_queues": "read", "metadata": "read", "pull_requests": "write",
            })
        );
        assert_eq!(
            manifest["default_events"],
            serde_json::json!(["push", "pull_request"])
        );
        assert_eq!(manifest["public"], false);
        let web: WebUrl = "https://github.com".parse().unwrap();
        let state = Secret::new("a&b".to_owned());
        assert_eq!(
            AppManifest::form_url(&web, None, &state).as_str(),
            "https://github.com/settings/apps/new?state=a%26b"
        );
        let organization = "acme".parse().unwrap();
        assert_eq!(
            AppManifest::form_url(&web, Some(&organization), &state).as_str(),
            "https://github.com/organizations/acme/settings/apps/new?state=a%26b"
        );
    }
}
