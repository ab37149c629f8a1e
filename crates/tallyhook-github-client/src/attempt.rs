//! One attempt at a request, and its result, as plain data.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Url;
use reqwest::header::HeaderMap;

use super::base_url::ApiUrl;
use super::error::GithubError;
use super::rate_limit::RateLimit;
use super::request::{ApiRequest, RequestAuth};
use super::response::{FinalResponse, excerpt};

/// The header of organizations with single sign-on.
pub(crate) const SSO: &str = "x-github-sso";

/// The result of one attempt.
pub(crate) enum AttemptOutcome {
    /// Another attempt would have the same result.
    Done(Result<FinalResponse, GithubError>),
    Redirected(Url),
    /// GitHub no longer accepts the token of an installation. A new one may be accepted.
    TokenRefused(GithubError),
    RateLimited(RateLimit),
    Failed {
        reason: String,
        /// GitHub certainly did not process the request.
        not_sent: bool,
        /// The delay that the response asks for.
        retry_after: Option<Duration>,
    },
}

/// One attempt, as far as the meaning of its response depends on it.
pub(crate) struct AttemptContext<'a> {
    pub(crate) api: &'a ApiUrl,
    pub(crate) request: &'a ApiRequest,
    pub(crate) url: &'a Url,
    pub(crate) auth: &'a RequestAuth,
    /// The rate limits of unspecified length before it.
    pub(crate) unspecified: u32,
    pub(crate) now: DateTime<Utc>,
}

impl AttemptContext<'_> {
    /// Returns the error of an organization that wants single sign-on, with the link to it where it
    /// is one of GitHub's.
    pub(crate) fn sso_required(
        &self,
        path: String,
        message: String,
        headers: &HeaderMap,
    ) -> GithubError {
        let header = headers.get(SSO).and_then(|value| value.to_str().ok());
        let link = header.and_then(|value| {
            value
                .split(';')
                .find_map(|part| part.trim().strip_prefix("url="))
        });
        GithubError::SsoRequired {
            path,
            message,
            url: link
                .and_then(|link| self.api.web_page(link))
                .map(String::from),
        }
    }
}

/// Returns the scopes or permissions that GitHub names as missing.
pub(crate) fn missing_permission(headers: &HeaderMap) -> Option<String> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .filter(|text| !text.is_empty())
    };
    let permissions = text("x-accepted-github-permissions")
        .map(|text| format!("the permission {}", excerpt(text)));
    permissions.or_else(|| {
        text("x-accepted-oauth-scopes").map(|text| format!("one of the scopes {}", excerpt(text)))
    })
}
