//! Repositories' webhooks: made, mended, and what became of their deliveries, which GitHub remembers for some days.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tallyhook_core::github::types::RepoId;

use super::{Client, GithubError, Pages, Result};

/// A payload has up to 25 MB, and its receiver's answer comes with it.
const DETAIL_BYTES: usize = 64 * 1024 * 1024;

/// Whose webhooks are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookOwner {
    Repository(Name, Name),
    Organization(Name),
    /// The App that asks, which has one webhook alone, and that without an id.
    App,
}

/// A name of an account or a repository, which has no sign that means something in an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// It is no name that GitHub would give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoName;

impl FromStr for Name {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let is_name = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let is_path = text.is_empty() || text == "." || text == "..";
        (is_name && !is_path && text.len() <= 100)
            .then(|| Self(text.to_owned()))
            .ok_or(NoName)
    }
}

impl HookOwner {
    /// The repository that `owner/name` names.
    ///
    /// # Errors
    /// [`NoName`] if it is not two names with a slash between.
    pub fn repository(full_name: &str) -> Result<Self, NoName> {
        let (owner, name) = full_name.split_once('/').ok_or(NoName)?;
        Ok(Self::Repository(owner.parse()?, name.parse()?))
    }

    pub(super) fn path(&self) -> String {
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

    /// Where the deliveries of `hook` are, which is `None` for an App's.
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

/// A webhook, as far as it is used here.
#[derive(Clone, Debug, Deserialize)]
pub struct Hook {
    pub id: i64,
    #[serde(default)]
    pub config: HookConfig,
    #[serde(default)]
    pub active: bool,
    /// What it tells of; `*` is everything.
    #[serde(default)]
    pub events: Vec<String>,
    /// What the last delivery was answered with; an App's is not told.
    #[serde(default)]
    pub last_response: LastResponse,
}

/// `None` before the first delivery.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct LastResponse {
    pub code: Option<i64>,
    pub message: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct HookConfig {
    /// Where it posts to.
    pub url: Option<String>,
    /// `json` or `form`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// `"1"`, or the number, where certificates are not checked.
    #[serde(default)]
    insecure_ssl: Value,
}

impl HookConfig {
    /// Whether GitHub makes sure that it talks to the right server.
    pub fn checks_certificates(&self) -> bool {
        self.insecure_ssl != "1" && self.insecure_ssl != 1
    }
}

/// What GitHub is to sign with. Is shown by nothing.
#[derive(Clone)]
pub struct HookSecret(String);

impl HookSecret {
    /// The first of several secrets that are separated by white space.
    pub fn first_of(secrets: &str) -> Option<Self> {
        secrets
            .split_whitespace()
            .next()
            .map(|secret| Self(secret.to_owned()))
    }
}

/// What became of a webhook that should be there.
#[derive(Clone, Debug)]
pub enum Registered {
    /// There was none that posts to this address.
    Made(Hook),
    /// There was one, which has these events and this secret now.
    Mended(Hook),
}

/// A repository, as far as it is used here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RepositoryInfo {
    pub id: RepoId,
    /// As it is called now, whatever name it was asked for by.
    pub full_name: String,
    pub private: bool,
    pub default_branch: String,
    /// Nothing of it can be changed.
    #[serde(default)]
    pub archived: bool,
    /// What the token may do; `None` where GitHub does not tell.
    #[serde(default)]
    pub permissions: Option<Permissions>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Permissions {
    /// Webhooks can be seen and made.
    #[serde(default)]
    pub admin: bool,
}

/// One attempt to deliver something, without what it carried.
#[derive(Clone, Debug, Deserialize)]
pub struct Attempt {
    pub id: i64,
    /// The same for all attempts to deliver one thing.
    pub guid: String,
    pub delivered_at: DateTime<Utc>,
    /// What the receiver answered; 0 where it did not.
    pub status_code: i64,
    pub event: String,
}

impl Attempt {
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.status_code)
    }
}

/// What an attempt carried.
#[derive(Debug, Deserialize)]
pub struct Carried {
    #[serde(default)]
    request: Option<CarriedRequest>,
}

#[derive(Debug, Deserialize)]
struct CarriedRequest {
    #[serde(default)]
    payload: Option<Box<RawValue>>,
}

impl Carried {
    /// The JSON of the payload; `None` where GitHub has it no more.
    pub fn payload(self) -> Option<Box<RawValue>> {
        self.request?.payload
    }
}

impl Client {
    /// Every webhook of `owner`, which is no App.
    ///
    /// # Errors
    /// As of [`Client::get`]; without the rights it is [`NotFound`](super::GithubError::NotFound) or
    /// [`Forbidden`](super::GithubError::Forbidden).
    pub async fn hooks(&self, owner: &HookOwner) -> Result<Vec<Hook>> {
        let mut pages = self.pages(&format!("{}?per_page=100", owner.hooks()))?;
        let mut hooks = Vec::new();
        while let Some(page) = pages.next::<Hook>().await? {
            hooks.extend(page);
        }
        Ok(hooks)
    }

    /// How the webhook of the App that asks is set.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn app_hook(&self) -> Result<HookConfig> {
        self.get("/app/hook/config").await
    }

    /// Sees to it that the repository `full_name` has an active webhook that posts `events` to `url` as JSON, signed
    /// with `secret`.
    ///
    /// # Errors
    /// As of [`Client::hooks`] and [`Client::post`].
    pub async fn create_hook(
        &self,
        full_name: &str,
        url: &str,
        secret: &HookSecret,
        events: &[&str],
    ) -> Result<Registered> {
        let owner = repository(full_name)?;
        let hooks = self.hooks(&owner).await?;
        // GitHub tells no secret, so that one that may be right already is set again.
        let config =
            json!({"url": url, "content_type": "json", "secret": secret.0, "insecure_ssl": "0"});
        let mut hook = json!({"active": true, "events": events, "config": config});
        let is_same = |hook: &&Hook| hook.config.url.as_deref() == Some(url);
        if let Some(known) = hooks.iter().find(is_same) {
            let mended = self
                .patch(&format!("{}/{}", owner.hooks(), known.id), &hook)
                .await?;
            return Ok(Registered::Mended(mended));
        }
        hook["name"] = "web".into();
        Ok(Registered::Made(self.post(&owner.hooks(), &hook).await?))
    }

    /// What GitHub tells of the repository `full_name`.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn repository(&self, full_name: &str) -> Result<RepositoryInfo> {
        self.get(&repository(full_name)?.path()).await
    }

    /// The same by its id, whatever it is called now.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn repository_by_id(&self, id: RepoId) -> Result<RepositoryInfo> {
        self.get(&format!("/repositories/{id}")).await
    }

    /// The attempts of a webhook in pages of [`Attempt`], the latest first. An App's webhook has no id.
    ///
    /// # Errors
    /// None but a wrong address.
    pub fn attempts(&self, owner: &HookOwner, hook: Option<i64>) -> Result<Pages<'_>> {
        self.pages(&format!("{}?per_page=100", owner.deliveries(hook)))
    }

    /// What an attempt carried.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn carried(
        &self,
        owner: &HookOwner,
        hook: Option<i64>,
        attempt: i64,
    ) -> Result<Carried> {
        self.get_up_to(
            &format!("{}/{attempt}", owner.deliveries(hook)),
            DETAIL_BYTES,
        )
        .await
    }
}

pub(super) fn repository(full_name: &str) -> Result<HookOwner> {
    let no_name = |_| GithubError::NotFound {
        path: full_name.to_owned(),
    };
    HookOwner::repository(full_name).map_err(no_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_elsewhere() {
        assert_eq!(
            HookOwner::repository("acme-corp/api.server_2")
                .unwrap()
                .hooks(),
            "/repos/acme-corp/api.server_2/hooks"
        );
        for wrong in [
            "", "acme", "acme/", "/x", "acme/..", "a/b/c", "a/b?c", "a/b%2f", "a b/c", "é/x",
        ] {
            assert_eq!(HookOwner::repository(wrong), Err(NoName), "{wrong}");
        }
    }

    #[test]
    fn what_a_payload_was_is_kept_to_the_byte() {
        let carried: Carried =
            serde_json::from_str(r#"{"id":1,"request":{"payload":{"b":1, "a":2}}}"#).unwrap();
        assert_eq!(carried.payload().unwrap().get(), r#"{"b":1, "a":2}"#);
        for without in [
            r#"{"request":{"payload":null}}"#,
            r#"{"request":{}}"#,
            r#"{"request":null}"#,
            "{}",
        ] {
            assert!(
                serde_json::from_str::<Carried>(without)
                    .unwrap()
                    .payload()
                    .is_none(),
                "{without}"
            );
        }
    }
}
