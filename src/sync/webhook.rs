//! A repository's webhook at GitHub: created, updated, or described so that a person can create it.

use reqwest::Url;
use serde::Serialize;
use tallyhook_core::event;
use tallyhook_github_client::hooks::{HookSecret, WebhookRegistration};
use tallyhook_github_client::{Client, GithubError};
use utoipa::ToSchema;

/// The path of the webhook endpoint, below the address under which GitHub reaches the server.
pub const ENDPOINT: &str = "/webhooks/github";

/// A repository's webhook after its registration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub struct RegisteredWebhook {
    pub state: WebhookState,
    /// The webhook's id at GitHub, if it exists now.
    pub id: Option<i64>,
    /// The address that it posts to.
    pub url: String,
    pub content_type: &'static str,
    /// The events that it delivers.
    pub events: Vec<&'static str>,
    /// The reason why it could not be created, and the next step.
    pub message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookState {
    #[serde(rename = "made")]
    Created,
    /// It existed; it has these events and the configured secret now.
    #[serde(rename = "mended")]
    Updated,
    /// The token may not create it: a person has to.
    #[serde(rename = "by_hand")]
    Manual,
}

/// Returns the events of a repository's webhook. Events about installations are delivered to Apps
/// only.
pub fn events() -> Vec<&'static str> {
    event::NAMES
        .iter()
        .copied()
        .filter(|name| !name.starts_with("installation"))
        .collect()
}

/// Returns the one form in which the address of an endpoint is registered: without repeated or
/// trailing slashes, which the server does not answer. `None` if it is no web address with the
/// endpoint as the end of its path.
pub fn endpoint(text: &str) -> Option<String> {
    let mut url = Url::parse(text.trim()).ok()?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.host_str().is_some_and(|host| !host.is_empty());
    if !is_plain || !["http", "https"].contains(&url.scheme()) {
        return None;
    }
    let parts = url.path().split('/').filter(|part| !part.is_empty());
    let path: String = parts.map(|part| format!("/{part}")).collect();
    url.set_path(&path);
    url.path().ends_with(ENDPOINT).then(|| url.to_string())
}

/// Creates or updates the webhook of `repo` (`owner/name`) that posts to `url`, signed with
/// `secret`.
///
/// # Errors
/// If GitHub fails. Missing rights of the token are no error: the result says what to enter by
/// hand.
pub async fn register(
    client: &Client,
    repo: &str,
    url: &str,
    secret: &HookSecret,
) -> Result<RegisteredWebhook, GithubError> {
    let events = events();
    let (state, id, message) = match client.register_webhook(repo, url, secret, &events).await {
        Ok(WebhookRegistration::Created(hook)) => (WebhookState::Created, Some(hook.id), None),
        Ok(WebhookRegistration::Updated(hook)) => (WebhookState::Updated, Some(hook.id), None),
        Err(
            error @ (GithubError::NotFound { .. }
            | GithubError::Forbidden { .. }
            | GithubError::SsoRequired { .. }
            | GithubError::Refused { .. }),
        ) => (WebhookState::Manual, None, Some(manual_steps(repo, &error))),
        Err(error) => return Err(error),
    };
    Ok(RegisteredWebhook {
        state,
        id,
        url: url.to_owned(),
        content_type: "application/json",
        events,
        message,
    })
}

fn manual_steps(repo: &str, error: &GithubError) -> String {
    format!(
        "{error}. It takes an administrator of {repo} with the scope `admin:repo_hook`, or a \
         fine-grained token or App that \
         may write webhooks. Or enter it by hand, in the repository's settings under Webhooks: \
         this URL, content type and \
         events, and the secret of GITHUB_WEBHOOK_SECRET"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_a_web_address_with_our_path() {
        let normal = "https://hooks.example.com/webhooks/github";
        for text in [
            normal,
            "https://hooks.example.com//webhooks/github",
            "https://hooks.example.com/webhooks//github/",
            "https://HOOKS.example.com:443/./webhooks/github",
        ] {
            assert_eq!(endpoint(text).as_deref(), Some(normal), "{text}");
        }
        let below = "http://10.0.0.7:8080/tallyhook/webhooks/github";
        assert_eq!(endpoint(below).as_deref(), Some(below));
        for bad in [
            "https://hooks.example.com",
            "https://hooks.example.com/hooks",
            "https://hooks.example.com/webhooks/github/x",
            "https://",
            "ftp://host/webhooks/github",
            "https://me:secret@host/webhooks/github",
            "https://host/?a=/webhooks/github",
            "/webhooks/github",
        ] {
            assert_eq!(endpoint(bad), None, "{bad}");
        }
    }
}
