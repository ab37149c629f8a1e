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

/// Returns the normal form of a web address with the endpoint as its path; `None` for any other
/// address. The server answers the normal form alone: no slash twice, and none at the end.
pub fn endpoint(text: &str) -> Option<String> {
    let mut url = Url::parse(text).ok()?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && !text.contains([' ', '\\']);
    // The first step of the path in `https:///path` would pass for the host.
    let (_, rest) = text.split_once("//")?;
    if !["http", "https"].contains(&url.scheme()) || !is_plain || rest.starts_with('/') {
        return None;
    }
    let steps = url.path().split('/').filter(|step| !step.is_empty());
    let path: String = steps.flat_map(|step| ["/", step]).collect();
    url.set_path(&path);
    path.ends_with(ENDPOINT).then(|| url.into())
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
    fn endpoint_has_one_normal_form() {
        for (text, expected) in [
            (
                "https://hooks.example.com/webhooks/github",
                "https://hooks.example.com/webhooks/github",
            ),
            (
                "http://10.0.0.7:8080/tallyhook/webhooks/github",
                "http://10.0.0.7:8080/tallyhook/webhooks/github",
            ),
            (
                "https://host//webhooks/github",
                "https://host/webhooks/github",
            ),
            (
                "https://host/webhooks//github",
                "https://host/webhooks/github",
            ),
            (
                "https://host/tallyhook//webhooks/github/",
                "https://host/tallyhook/webhooks/github",
            ),
            (
                "https://host/a/../webhooks/github//",
                "https://host/webhooks/github",
            ),
            (
                "HTTPS://Host:443/webhooks/github",
                "https://host/webhooks/github",
            ),
        ] {
            assert_eq!(endpoint(text).as_deref(), Some(expected), "{text}");
        }
        for bad in [
            "https://host",
            "https:///webhooks/github",
            "https:////webhooks/github",
            "ftp://host/webhooks/github",
            "https://me:secret@host/webhooks/github",
            "https://host/?a=/webhooks/github",
            "https://host/webhooks/github?a=b",
            "https://host/webhooks/github#a",
            "https://host/hooks",
            "https://host/webhooks/GitHub",
            "https://host/xwebhooks%2Fgithub",
            "/webhooks/github",
            "host/webhooks/github",
            "",
        ] {
            assert_eq!(endpoint(bad), None, "{bad}");
        }
    }
}
