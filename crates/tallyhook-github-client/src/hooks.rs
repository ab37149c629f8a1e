//! Webhooks: their settings, and the deliveries that GitHub keeps for some days.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tallyhook_core::github::signature::Secrets;
use tallyhook_core::github::types::RepoId;

use super::Result;
use super::client::Client;
use super::error::GithubError;
use super::pages::PagedList;

/// The limit of a delivery's details: a payload of up to 25 MB, and the receiver's response.
const MAX_DETAIL_BYTES: usize = 64 * 1024 * 1024;

/// The owner of webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookOwner {
    Repository(GithubName, GithubName),
    Organization(GithubName),
    /// The client's own App, which has one webhook only, without an id.
    App,
}

/// A name of an account or a repository, without characters that have a meaning in an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GithubName(String);

/// A text that GitHub would not accept as a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidName;

impl FromStr for GithubName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_name = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let is_path = text.is_empty() || text == "." || text == "..";
        (is_name && !is_path && text.len() <= 100)
            .then(|| Self(text.to_owned()))
            .ok_or(InvalidName)
    }
}

impl fmt::Display for GithubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HookOwner {
    /// Parses `owner/name`.
    ///
    /// # Errors
    /// [`InvalidName`] if it is not two names with a slash between them.
    pub fn repository(full_name: &str) -> Result<Self, InvalidName> {
        let (owner, name) = full_name.split_once('/').ok_or(InvalidName)?;
        Ok(Self::Repository(owner.parse()?, name.parse()?))
    }

    pub(crate) fn path(&self) -> String {
        match self {
            Self::Repository(owner, name) => format!("/repos/{}/{}", owner.0, name.0),
            Self::Organization(name) => format!("/orgs/{}", name.0),
            Self::App => "/app".to_owned(),
        }
    }

    fn hooks(&self) -> String {
        let hooks = if *self == Self::App { "hook" } else { "hooks" };
        format!("{}/{hooks}", self.path())
    }

    /// Returns the path of the deliveries of `hook`, which is `None` for an App's.
    fn deliveries(&self, hook: Option<i64>) -> String {
        let hook = hook.map(|id| format!("/{id}")).unwrap_or_default();
        format!("{}{hook}/deliveries", self.hooks())
    }
}

impl fmt::Display for HookOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(owner, name) => write!(f, "{}/{}", owner.0, name.0),
            Self::Organization(name) => f.write_str(&name.0),
            Self::App => f.write_str("the App"),
        }
    }
}

/// The fields of a webhook that are used here.
#[derive(Clone, Debug, Deserialize)]
pub struct WebhookInfo {
    pub id: i64,
    #[serde(default)]
    pub config: WebhookConfig,
    #[serde(default)]
    pub active: bool,
    /// The subscribed events; `*` is every event.
    #[serde(default)]
    pub events: Vec<String>,
    /// The response to the last delivery. GitHub does not show that of an App's.
    #[serde(default)]
    pub last_response: WebhookResponse,
}

/// The receiver's response to a delivery; `None` before the first.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct WebhookResponse {
    pub code: Option<i64>,
    pub message: Option<String>,
}

/// The settings of a webhook.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct WebhookConfig {
    /// The address of the receiver.
    pub url: Option<String>,
    /// `json` or `form`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// `"1"`, or the number, if certificates are not checked.
    #[serde(default)]
    insecure_ssl: Value,
}

impl WebhookConfig {
    /// Returns whether GitHub verifies the receiver's certificate.
    pub fn checks_certificates(&self) -> bool {
        self.insecure_ssl != "1" && self.insecure_ssl != 1
    }
}

/// The secret that GitHub signs deliveries with. Nothing prints it.
#[derive(Clone)]
pub struct HookSecret(String);

impl HookSecret {
    /// Returns the first of several secrets, one a line.
    pub fn first_of(secrets: &str) -> Option<Self> {
        Secrets::split(secrets)
            .next()
            .map(|secret| Self(secret.to_owned()))
    }
}

/// The result of the registration of a webhook.
#[derive(Clone, Debug)]
pub enum WebhookRegistration {
    /// There was none that posts to the address.
    Created(WebhookInfo),
    /// There was one, which has the wanted events and secret now.
    Updated(WebhookInfo),
}

/// The fields of a repository that are used here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RepositoryInfo {
    pub id: RepoId,
    /// The present name, even if an old one was asked for.
    pub full_name: String,
    pub private: bool,
    pub default_branch: String,
    /// The repository is read-only.
    #[serde(default)]
    pub archived: bool,
    /// The permissions of the token; `None` where GitHub does not send them.
    #[serde(default)]
    pub permissions: Option<RepositoryPermissions>,
}

/// The permissions of a token in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct RepositoryPermissions {
    /// Webhooks can be read and created.
    #[serde(default)]
    pub admin: bool,
}

/// One attempt at a delivery, without its payload.
#[derive(Clone, Debug, Deserialize)]
pub struct DeliveryAttempt {
    pub id: i64,
    /// The same for all attempts at one delivery.
    pub guid: String,
    pub delivered_at: DateTime<Utc>,
    /// The status of the receiver's response; 0 without one.
    pub status_code: i64,
    pub event: String,
}

impl DeliveryAttempt {
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.status_code)
    }
}

/// The details of an attempt.
#[derive(Debug, Deserialize)]
pub struct DeliveryDetails {
    #[serde(default)]
    request: Option<DeliveryRequest>,
}

#[derive(Debug, Deserialize)]
struct DeliveryRequest {
    #[serde(default)]
    payload: Option<Box<RawValue>>,
}

impl DeliveryDetails {
    /// Returns the JSON of the payload; `None` where GitHub no longer has it.
    pub fn payload(self) -> Option<Box<RawValue>> {
        self.request?.payload
    }
}

impl Client {
    /// Fetches every webhook of `owner`, which is no App.
    ///
    /// # Errors
    /// As of [`Client::get`]; without the rights it is [`NotFound`](super::GithubError::NotFound)
    /// or [`Forbidden`](super::GithubError::Forbidden).
    pub async fn hooks(&self, owner: &HookOwner) -> Result<Vec<WebhookInfo>> {
        let mut pages = self.pages(&format!("{}?per_page=100", owner.hooks()))?;
        let mut hooks = Vec::new();
        while let Some(page) = pages.next::<WebhookInfo>().await? {
            hooks.extend(page);
        }
        Ok(hooks)
    }

    /// Fetches the webhook settings of the client's own App.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn app_hook(&self) -> Result<WebhookConfig> {
        self.get("/app/hook/config").await
    }

    /// Registers an active webhook of the repository `full_name` that posts `events` to `url` as
    /// JSON, signed with `secret`. One that posts to `url` already is updated.
    ///
    /// # Errors
    /// As of [`Client::hooks`] and [`Client::post`].
    pub async fn register_webhook(
        &self,
        full_name: &str,
        url: &str,
        secret: &HookSecret,
        events: &[&str],
    ) -> Result<WebhookRegistration> {
        let owner = repository(full_name)?;
        let hooks = self.hooks(&owner).await?;
        // GitHub does not show secrets: one that may be right already is set again.
        let config =
            json!({"url": url, "content_type": "json", "secret": secret.0, "insecure_ssl": "0"});
        let mut hook = json!({"active": true, "events": events, "config": config});
        let is_same = |hook: &&WebhookInfo| hook.config.url.as_deref() == Some(url);
        if let Some(known) = hooks.iter().find(is_same) {
            let updated = self
                .patch(&format!("{}/{}", owner.hooks(), known.id), &hook)
                .await?;
            return Ok(WebhookRegistration::Updated(updated));
        }
        hook["name"] = "web".into();
        Ok(WebhookRegistration::Created(
            self.post(&owner.hooks(), &hook).await?,
        ))
    }

    /// Fetches the repository `full_name`.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn repository(&self, full_name: &str) -> Result<RepositoryInfo> {
        self.get(&repository(full_name)?.path()).await
    }

    /// Fetches a repository by its id, which stays the same when it is renamed.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn repository_by_id(&self, id: RepoId) -> Result<RepositoryInfo> {
        self.get(&format!("/repositories/{id}")).await
    }

    /// Returns the attempts of a webhook in pages of [`DeliveryAttempt`], the latest first. An
    /// App's webhook has no id.
    ///
    /// # Errors
    /// If the path leads away from the API.
    pub fn delivery_attempts(&self, owner: &HookOwner, hook: Option<i64>) -> Result<PagedList<'_>> {
        self.pages(&format!("{}?per_page=100", owner.deliveries(hook)))
    }

    /// Fetches the details of an attempt.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn delivery_details(
        &self,
        owner: &HookOwner,
        hook: Option<i64>,
        attempt: i64,
    ) -> Result<DeliveryDetails> {
        self.get_up_to(
            &format!("{}/{attempt}", owner.deliveries(hook)),
            MAX_DETAIL_BYTES,
        )
        .await
    }
}

pub(crate) fn repository(full_name: &str) -> Result<HookOwner> {
    let not_found = |_| GithubError::NotFound {
        path: full_name.to_owned(),
    };
    HookOwner::repository(full_name).map_err(not_found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_characters_of_an_address_is_invalid() {
        assert_eq!(
            HookOwner::repository("acme-corp/api.server_2")
                .unwrap()
                .hooks(),
            "/repos/acme-corp/api.server_2/hooks"
        );
        for wrong in [
            "", "acme", "acme/", "/x", "acme/..", "a/b/c", "a/b?c", "a/b%2f", "a b/c", "é/x",
        ] {
            assert_eq!(HookOwner::repository(wrong), Err(InvalidName), "{wrong}");
        }
    }

    #[test]
    fn payload_is_kept_to_the_byte() {
        let details: DeliveryDetails =
            serde_json::from_str(r#"{"id":1,"request":{"payload":{"b":1, "a":2}}}"#).unwrap();
        assert_eq!(details.payload().unwrap().get(), r#"{"b":1, "a":2}"#);
        for without in [
            r#"{"request":{"payload":null}}"#,
            r#"{"request":{}}"#,
            r#"{"request":null}"#,
            "{}",
        ] {
            assert!(
                serde_json::from_str::<DeliveryDetails>(without)
                    .unwrap()
                    .payload()
                    .is_none(),
                "{without}"
            );
        }
    }
}
