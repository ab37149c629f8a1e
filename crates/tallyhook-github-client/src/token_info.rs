//! The state of a token or an App at GitHub, for diagnosis.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use reqwest::header::HeaderMap;
use serde::Deserialize;
use tallyhook_core::github::types::InstallationId;

use super::Result;
use super::client::Client;
use super::error::GithubError;
use super::http::server_time;
use super::rate_limit;
use super::response::parse_json;

/// The two formats of a token's expiry, in UTC and with an offset.
const EXPIRY: [&str; 2] = ["%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S %z"];

/// The properties of a token that GitHub sends in the headers of every response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// The offset of this machine's clock from GitHub's, which has whole seconds; negative where it
    /// is behind.
    pub clock_ahead: Option<TimeDelta>,
    /// The scopes of a classic token; `None` for a fine-grained one.
    pub scopes: Option<Vec<String>>,
    pub expires_at: Option<DateTime<Utc>>,
    /// The rest of the hour's requests and their limit; `None` where there is no limit.
    pub allowance: Option<(u64, u64)>,
}

/// A GitHub App.
#[derive(Clone, Debug, Deserialize)]
pub struct AppInfo {
    pub name: String,
    #[serde(default)]
    pub events: Vec<String>,
    /// By name, such as `pull_requests`: `read`.
    #[serde(default)]
    pub permissions: BTreeMap<String, String>,
}

/// An installation of an App.
#[derive(Clone, Debug, Deserialize)]
pub struct AppInstallation {
    pub id: InstallationId,
    pub account: Option<InstallationAccount>,
    #[serde(default)]
    pub suspended_at: Option<DateTime<Utc>>,
}

/// The account that an App is installed on.
#[derive(Clone, Debug, Deserialize)]
pub struct InstallationAccount {
    /// `None` of an enterprise.
    pub login: Option<String>,
}

impl Client {
    /// Fetches the properties of the token. Costs nothing of its allowance.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn token_info(&self) -> Result<TokenInfo> {
        match self
            .get_with_token_info::<serde::de::IgnoredAny>("/rate_limit")
            .await
        {
            // An Enterprise Server without limits has no such endpoint.
            Err(GithubError::NotFound { .. }) => Ok(self
                .get_with_token_info::<serde::de::IgnoredAny>("/meta")
                .await?
                .1),
            answer => Ok(answer?.1),
        }
    }

    /// Fetches the client's own App, and the properties of its token.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn app(&self) -> Result<(AppInfo, TokenInfo)> {
        self.get_with_token_info("/app").await
    }

    /// Fetches the installations of the client's own App.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn installations(&self) -> Result<Vec<AppInstallation>> {
        let mut pages = self.pages("/app/installations?per_page=100")?;
        let mut installations = Vec::new();
        while let Some(page) = pages.next::<AppInstallation>().await? {
            installations.extend(page);
        }
        Ok(installations)
    }

    pub(crate) async fn get_with_token_info<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<(T, TokenInfo)> {
        let transport = self.transport();
        let asked_at = transport.clock.now();
        let response = self
            .execute(self.get_request(path), transport.url(path)?)
            .await?;
        let midway = asked_at + (transport.clock.now() - asked_at) / 2;
        Ok((
            parse_json(path, &response.body)?,
            TokenInfo::from_headers(&response.headers, midway),
        ))
    }
}

impl TokenInfo {
    /// Reads the headers of a response that GitHub wrote at about `now` by this machine's clock.
    fn from_headers(headers: &HeaderMap, now: DateTime<Utc>) -> Self {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let words = |text: &str| {
            text.split([',', ' '])
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Self {
            clock_ahead: server_time(headers).map(|date| now - date),
            scopes: text("x-oauth-scopes").map(words),
            expires_at: text("github-authentication-token-expiration").and_then(expiry),
            allowance: rate_limit::remaining(headers).zip(rate_limit::limit(headers)),
        }
    }
}

fn expiry(text: &str) -> Option<DateTime<Utc>> {
    let [utc, with_offset] = EXPIRY;
    let in_utc = NaiveDateTime::parse_from_str(text, utc).map(|time| time.and_utc());
    in_utc
        .or_else(|_| DateTime::parse_from_str(text, with_offset).map(|time| time.to_utc()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> TokenInfo {
        let headers = headers.iter().map(|(name, value)| {
            (
                reqwest::header::HeaderName::from_static(name),
                reqwest::header::HeaderValue::from_static(value),
            )
        });
        TokenInfo::from_headers(
            &headers.collect(),
            DateTime::from_timestamp(1_772_445_600, 0).unwrap(),
        )
    }

    #[test]
    fn token_info_is_read_from_the_headers_of_a_response() {
        let info = read(&[
            ("date", "Mon, 02 Mar 2026 09:59:50 GMT"),
            ("x-oauth-scopes", "admin:repo_hook, repo"),
            (
                "github-authentication-token-expiration",
                "2026-03-05 10:31:26 UTC",
            ),
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-remaining", "4321"),
        ]);
        assert_eq!(info.clock_ahead, Some(TimeDelta::seconds(10)));
        assert_eq!(info.scopes.unwrap(), ["admin:repo_hook", "repo"]);
        assert_eq!(
            info.expires_at.unwrap().to_rfc3339(),
            "2026-03-05T10:31:26+00:00"
        );
        assert_eq!(info.allowance, Some((4321, 5000)));
        let offset = read(&[(
            "github-authentication-token-expiration",
            "2026-03-05 02:31:26 -0800",
        )]);
        assert_eq!(offset.expires_at, info.expires_at);
        assert_eq!(read(&[("x-oauth-scopes", "")]).scopes, Some(vec![]));
        let none = TokenInfo {
            clock_ahead: None,
            scopes: None,
            expires_at: None,
            allowance: None,
        };
        assert_eq!(
            read(&[("github-authentication-token-expiration", "soon")]),
            none
        );
    }
}
