//! A repository's webhook at GitHub: made, or mended where there is one, or told how to be made by hand.

use serde::Serialize;
use tallyhook_core::event;
use tallyhook_github_client::hooks::{HookSecret, Registered};
use tallyhook_github_client::{Client, GithubError};
use utoipa::ToSchema;

/// Where webhooks are taken in, below the address under which GitHub reaches the server.
pub const ENDPOINT: &str = "/webhooks/github";

/// What became of a webhook that was wanted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Webhook {
    pub state: WebhookState,
    /// Its number at GitHub, if it is there now.
    pub id: Option<i64>,
    /// Where it posts to.
    pub url: String,
    pub content_type: &'static str,
    /// What it tells of.
    pub events: Vec<&'static str>,
    /// Why it could not be made, and what to do.
    pub message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookState {
    Made,
    /// It was there; it has these events and the secret of the settings now.
    Mended,
    /// It may not be made with this token: it is to be entered by hand.
    ByHand,
}

/// The events of a repository's webhook. Those about installations are told to Apps alone.
pub fn events() -> Vec<&'static str> {
    event::NAMES
        .into_iter()
        .filter(|name| !name.starts_with("installation"))
        .collect()
}

/// Whether GitHub could post there: an address of the web, with the endpoint as its path.
pub fn is_endpoint(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.strip_suffix(ENDPOINT));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['@', '?', '#', ' ', '\\']))
}

/// Sees to it that `repo` (`owner/name`) has a webhook that posts to `url`, signed with `secret`.
///
/// # Errors
/// If GitHub does not answer. That the token lacks the rights is no error, but told with what to enter by hand.
pub async fn register(
    client: &Client,
    repo: &str,
    url: &str,
    secret: &HookSecret,
) -> Result<Webhook, GithubError> {
    let events = events();
    let (state, id, message) = match client.create_hook(repo, url, secret, &events).await {
        Ok(Registered::Made(hook)) => (WebhookState::Made, Some(hook.id), None),
        Ok(Registered::Mended(hook)) => (WebhookState::Mended, Some(hook.id), None),
        Err(
            error @ (GithubError::NotFound { .. }
            | GithubError::Forbidden { .. }
            | GithubError::Refused { .. }),
        ) => (WebhookState::ByHand, None, Some(by_hand(repo, &error))),
        Err(error) => return Err(error),
    };
    Ok(Webhook {
        state,
        id,
        url: url.to_owned(),
        content_type: "application/json",
        events,
        message,
    })
}

fn by_hand(repo: &str, error: &GithubError) -> String {
    format!(
        "{error}. It takes an administrator of {repo} with the scope `admin:repo_hook`, or a fine-grained token or App that \
         may write webhooks. Or enter it by hand, in the repository's settings under Webhooks: this URL, content type and \
         events, and the secret of GITHUB_WEBHOOK_SECRET"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_of_the_web_with_our_path() {
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
