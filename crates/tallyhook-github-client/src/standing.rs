//! How a token or an App stands with GitHub, for whoever looks after it.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::installations::Access;
use super::sending::Call;
use super::{Client, GithubError, Result, limits, parse};

/// GitHub writes when a token ends so, or with an offset.
const EXPIRY: [&str; 2] = ["%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S %z"];

/// What GitHub tells of who asks, beside every answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How far this machine's clock is ahead of GitHub's, which tells whole seconds; negative where it is behind.
    pub clock_ahead: Option<TimeDelta>,
    /// Of a classic token; `None` for one of single permissions.
    pub scopes: Option<Vec<String>>,
    pub expires_at: Option<DateTime<Utc>>,
    /// What is left of the hour's requests, and of how many; `None` where there is no limit.
    pub allowance: Option<(u64, u64)>,
}

/// An App, as GitHub knows it.
#[derive(Clone, Debug, Deserialize)]
pub struct AppInfo {
    pub name: String,
    #[serde(default)]
    pub events: Vec<String>,
    /// As in `pull_requests`: `read`.
    #[serde(default)]
    pub permissions: BTreeMap<String, String>,
}

/// Where an App is installed.
#[derive(Clone, Debug, Deserialize)]
pub struct InstalledOn {
    pub account: Option<InstalledAccount>,
    #[serde(default)]
    pub suspended_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct InstalledAccount {
    /// An enterprise has none.
    pub login: Option<String>,
}

impl Client {
    /// How the token stands. Costs nothing of its allowance.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn standing(&self) -> Result<Standing> {
        match self
            .get_with_standing::<serde::de::IgnoredAny>("/rate_limit")
            .await
        {
            // An Enterprise Server without limits has nothing to tell of them.
            Err(GithubError::NotFound { .. }) => Ok(self
                .get_with_standing::<serde::de::IgnoredAny>("/meta")
                .await?
                .1),
            answer => Ok(answer?.1),
        }
    }

    /// What the App that asks is, and how it stands.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn app(&self) -> Result<(AppInfo, Standing)> {
        self.get_with_standing("/app").await
    }

    /// Where the App that asks is installed.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn installations(&self) -> Result<Vec<InstalledOn>> {
        let mut pages = self.pages("/app/installations?per_page=100")?;
        let mut installations = Vec::new();
        while let Some(page) = pages.next::<InstalledOn>().await? {
            installations.extend(page);
        }
        Ok(installations)
    }

    async fn get_with_standing<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<(T, Standing)> {
        let asked_at = self.shared.clock.now();
        let answer = self
            .execute(Call::get(Access::to(path)), self.url(path)?)
            .await?;
        let between = asked_at + (self.shared.clock.now() - asked_at) / 2;
        Ok((
            parse(path, &answer.body)?,
            Standing::told(&answer.headers, between),
        ))
    }
}

impl Standing {
    /// As `headers` tell it, which were written about `now` by this machine's clock.
    fn told(headers: &HeaderMap, now: DateTime<Utc>) -> Self {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let words = |text: &str| {
            text.split([',', ' '])
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Self {
            clock_ahead: limits::date(headers).map(|date| now - date),
            scopes: text("x-oauth-scopes").map(words),
            expires_at: text("github-authentication-token-expiration").and_then(expiry),
            allowance: limits::remaining(headers).zip(limits::allowed(headers)),
        }
    }
}

fn expiry(text: &str) -> Option<DateTime<Utc>> {
    let [utc, with_offset] = EXPIRY;
    let in_utc = NaiveDateTime::parse_from_str(text, utc).map(|moment| moment.and_utc());
    in_utc
        .or_else(|_| DateTime::parse_from_str(text, with_offset).map(|moment| moment.to_utc()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(headers: &[(&'static str, &'static str)]) -> Standing {
        let headers = headers.iter().map(|(name, value)| {
            (
                reqwest::header::HeaderName::from_static(name),
                reqwest::header::HeaderValue::from_static(value),
            )
        });
        Standing::told(
            &headers.collect(),
            DateTime::from_timestamp(1_772_445_600, 0).unwrap(),
        )
    }

    #[test]
    fn what_stands_beside_an_answer_is_read() {
        let standing = told(&[
            ("date", "Mon, 02 Mar 2026 09:59:50 GMT"),
            ("x-oauth-scopes", "admin:repo_hook, repo"),
            (
                "github-authentication-token-expiration",
                "2026-03-05 10:31:26 UTC",
            ),
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-remaining", "4321"),
        ]);
        assert_eq!(standing.clock_ahead, Some(TimeDelta::seconds(10)));
        assert_eq!(standing.scopes.unwrap(), ["admin:repo_hook", "repo"]);
        assert_eq!(
            standing.expires_at.unwrap().to_rfc3339(),
            "2026-03-05T10:31:26+00:00"
        );
        assert_eq!(standing.allowance, Some((4321, 5000)));
        let offset = told(&[(
            "github-authentication-token-expiration",
            "2026-03-05 02:31:26 -0800",
        )]);
        assert_eq!(offset.expires_at, standing.expires_at);
        assert_eq!(told(&[("x-oauth-scopes", "")]).scopes, Some(vec![]));
        let nothing = Standing {
            clock_ahead: None,
            scopes: None,
            expires_at: None,
            allowance: None,
        };
        assert_eq!(
            told(&[("github-authentication-token-expiration", "soon")]),
            nothing
        );
    }
}
