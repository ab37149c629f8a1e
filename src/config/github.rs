//! Settings of GitHub: webhook secret, credentials, API, default repository, bots.

use std::sync::Arc;

use tallyhook_core::domain::people::Bots;
use tallyhook_core::github::signature::Secrets;
use tallyhook_github_client::hooks::HookSecret;
use tallyhook_github_client::{ApiUrl, Credentials, GithubApp, InvalidApp, Token};

use super::{Config, ConfigError, SettingSources};

pub const GITHUB_WEBHOOK_SECRET: &str = "GITHUB_WEBHOOK_SECRET";
pub const GITHUB_TOKEN: &str = "GITHUB_TOKEN";
pub const GITHUB_APP_ID: &str = "GITHUB_APP_ID";
pub const GITHUB_APP_PRIVATE_KEY: &str = "GITHUB_APP_PRIVATE_KEY";
const GITHUB_API_URL: &str = "GITHUB_API_URL";
const GITHUB_REPO_OWNER: &str = "GITHUB_REPO_OWNER";
const GITHUB_REPO_NAME: &str = "GITHUB_REPO_NAME";

/// The webhook secrets of a server, which can be replaced while it runs.
#[derive(Clone)]
pub struct WebhookSecrets {
    /// Each of them is valid; `None` accepts nothing.
    pub accepted: Option<Arc<Secrets>>,
    /// The first of them, for GitHub to sign with.
    pub first: Option<HookSecret>,
}

impl Config {
    pub fn secrets_in_force(&self) -> WebhookSecrets {
        WebhookSecrets {
            accepted: self.webhook_secrets.clone().map(Arc::new),
            first: self.hook_secret.clone(),
        }
    }
}

pub(super) fn webhook_secrets(sources: &SettingSources) -> Option<Secrets> {
    sources
        .value(GITHUB_WEBHOOK_SECRET)
        .and_then(Secrets::parse)
}

pub(super) fn hook_secret(sources: &SettingSources) -> Option<HookSecret> {
    sources
        .value(GITHUB_WEBHOOK_SECRET)
        .and_then(HookSecret::first_of)
}

pub(super) fn default_repository(sources: &SettingSources) -> Result<Option<String>, ConfigError> {
    let owner = sources.value(GITHUB_REPO_OWNER);
    let name = sources.value(GITHUB_REPO_NAME);
    match (owner, name) {
        (Some(owner), Some(name)) => {
            check_name(GITHUB_REPO_OWNER, owner, "acme-corp")?;
            check_name(GITHUB_REPO_NAME, name, "api-server")?;
            Ok(Some(format!("{owner}/{name}")))
        }
        (None, None) => Ok(None),
        _ => Err(ConfigError::new(
            "GITHUB_REPO_OWNER and GITHUB_REPO_NAME name the default repository together: set both \
             or none",
        )),
    }
}

/// Checks one part of a repository's name.
fn check_name(setting: &'static str, text: &str, example: &str) -> Result<(), ConfigError> {
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if text.chars().all(is_good) {
        return Ok(());
    }
    Err(ConfigError::of(
        setting,
        format!("{setting} is `{text}`, expected one word such as {example}"),
    ))
}

pub(super) fn bots(sources: &SettingSources) -> Bots {
    let logins = sources.value("BOT_LOGINS").unwrap_or_default();
    Bots::new(
        logins
            .split([' ', ',', '\t', '\n'])
            .filter(|login| !login.is_empty()),
    )
}

pub(super) fn credentials(sources: &SettingSources) -> Result<Option<Credentials>, ConfigError> {
    let app = (
        sources.value(GITHUB_APP_ID),
        sources.value(GITHUB_APP_PRIVATE_KEY),
    );
    match (sources.value(GITHUB_TOKEN), app) {
        (None, (None, None)) => Ok(None),
        (Some(token), (None, None)) => Ok(Some(Credentials::Token(parse_token(token)?))),
        (None, (Some(id), Some(key))) => Ok(Some(Credentials::App(parse_app(id, key)?))),
        (None, _) => Err(ConfigError::new(format!(
            "a GitHub App needs {GITHUB_APP_ID} and {GITHUB_APP_PRIVATE_KEY}: set both"
        ))),
        (Some(_), _) => {
            let message = format!(
                "requests to GitHub are made with a token or as an App: unset {GITHUB_TOKEN}, or \
                 {GITHUB_APP_ID} and {GITHUB_APP_PRIVATE_KEY}"
            );
            Err(ConfigError::new(message))
        }
    }
}

/// Parses the credentials of a GitHub App. An error shows neither the key nor its path, since the
/// path may be a key that was pasted badly.
fn parse_app(id: &str, key: &str) -> Result<GithubApp, ConfigError> {
    let pem = if key.contains("-----BEGIN") {
        key.replace("\\n", "\n")
    } else {
        std::fs::read_to_string(key).map_err(|error| {
            let kind = error.kind();
            ConfigError::of(GITHUB_APP_PRIVATE_KEY, format!(
                "{GITHUB_APP_PRIVATE_KEY} is neither PEM nor the path of a readable file: {kind}"
            ))
        })?
    };
    GithubApp::new(id, &pem).map_err(|wrong| match wrong {
        InvalidApp::Id => ConfigError::of(
            GITHUB_APP_ID,
            format!("{GITHUB_APP_ID} is not an App: expected its number or client id"),
        ),
        InvalidApp::Key => {
            let expected = "expected an RSA key as PEM, as downloaded from GitHub";
            ConfigError::of(
                GITHUB_APP_PRIVATE_KEY,
                format!("{GITHUB_APP_PRIVATE_KEY} is not a key of an App: {expected}"),
            )
        }
    })
}

/// Parses a token. The error does not contain it.
fn parse_token(text: &str) -> Result<Token, ConfigError> {
    let wrong = || {
        ConfigError::of(
            GITHUB_TOKEN,
            format!("{GITHUB_TOKEN} is not a token: expected one word, as GitHub shows it once"),
        )
    };
    Token::parse(text).ok_or_else(wrong)
}

/// Parses the API's base URL. The error does not contain it, since it may have a password in it.
pub(super) fn api_url(sources: &SettingSources) -> Result<ApiUrl, ConfigError> {
    let wrong = |_| {
        let expected = "expected an address such as https://api.github.com or https://HOST/api/v3, \
                        without user and query";
        ConfigError::of(
            GITHUB_API_URL,
            format!("{GITHUB_API_URL} is wrong: {expected}"),
        )
    };
    sources
        .value(GITHUB_API_URL)
        .unwrap_or_default()
        .parse()
        .map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::testing::error;
    use super::*;

    #[test]
    fn half_a_default_repository_is_refused() {
        assert!(error(&[("GITHUB_REPO_OWNER", "acme")]).contains("set both or none"));
    }

    #[test]
    fn errors_of_credentials_are_one_line_without_the_credentials() {
        for wrong in ["two words", "caf\u{e9}"] {
            let error = error(&[(GITHUB_TOKEN, wrong)]);
            assert!(
                error.contains(GITHUB_TOKEN) && !error.contains(wrong),
                "{error}"
            );
        }
        let pem = "-----BEGIN RSA PRIVATE KEY-----\\nY2FycmV0\\n-----END RSA PRIVATE KEY-----";
        for (settings, words) in [
            (
                &[(GITHUB_TOKEN, "ghp_carrot"), (GITHUB_APP_ID, "7")][..],
                "a token or as an App",
            ),
            (&[(GITHUB_APP_ID, "7")][..], "set both"),
            (&[(GITHUB_APP_PRIVATE_KEY, pem)][..], "set both"),
            (
                &[(GITHUB_APP_ID, "seven!"), (GITHUB_APP_PRIVATE_KEY, pem)][..],
                "its number or client id",
            ),
            (
                &[(GITHUB_APP_ID, "7"), (GITHUB_APP_PRIVATE_KEY, pem)][..],
                "is not a key of an App",
            ),
            (
                &[(GITHUB_APP_ID, "7"), (GITHUB_APP_PRIVATE_KEY, "carrot")][..],
                "neither PEM nor the path",
            ),
        ] {
            let error = error(settings);
            assert!(error.contains(words), "{error}");
            assert!(
                !["carrot", "Y2Fy", "\n"]
                    .iter()
                    .any(|hidden| error.contains(hidden)),
                "{error}"
            );
        }
        let with_password =
            error(&[("GITHUB_API_URL", "https://me:carrot@ghe.example.com/api/v3")]);
        assert!(
            with_password.contains("GITHUB_API_URL") && !with_password.contains("carrot"),
            "{with_password}"
        );
    }
}
