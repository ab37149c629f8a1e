//! A repository's webhook at GitHub: created, updated, or described so that a person can create it.

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

/// Returns true for a web address with the endpoint as its path.
pub fn is_endpoint(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.strip_suffix(ENDPOINT));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['@', '?', '#', ' ', '\\']))
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
        for good in [
            "https://hooks.example.com/webhooks/github",
            "http://10.0.0.7:8080/tallyhook/webhooks/github",
        ] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in [
            "https://hooks.example.com",
            "https:///webhooks/github",
            "ftp://host/webhooks/github",
            "https://me:secret@host/webhooks/github",
            "https://host/?a=/webhooks/github",
            "/webhooks/github",
        ] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }
}
