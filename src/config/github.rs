//! Settings of GitHub: webhook secret, credentials, API, default repository, bots.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tallyhook_core::domain::people::Bots;
use tallyhook_core::github::host::GithubHost;
use tallyhook_core::github::signature::Secrets;
use tallyhook_github_client::hooks::HookSecret;
use tallyhook_github_client::{ApiUrl, Credentials, GithubApp, InvalidApp, Token};

use super::{Config, ConfigError, SettingSources, channels, sign_in};

pub const GITHUB_WEBHOOK_SECRET: &str = "GITHUB_WEBHOOK_SECRET";
pub const GITHUB_API_URL: &str = "GITHUB_API_URL";
pub const GITHUB_TOKEN: &str = "GITHUB_TOKEN";
pub const GITHUB_APP_ID: &str = "GITHUB_APP_ID";
pub const GITHUB_APP_PRIVATE_KEY: &str = "GITHUB_APP_PRIVATE_KEY";
const GITHUB_REPO_OWNER: &str = "GITHUB_REPO_OWNER";
const GITHUB_REPO_NAME: &str = "GITHUB_REPO_NAME";
pub(super) const GITHUB_REPO_TEAM: &str = "GITHUB_REPO_TEAM";

const PEM_BEGIN: &str = "-----BEGIN";

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

/// Returns the team of the default repository.
pub(super) fn default_repository_team(
    sources: &SettingSources,
) -> Result<Option<String>, ConfigError> {
    let team = sources.value(GITHUB_REPO_TEAM).map(channels::parse_team);
    let wrong = |error: ConfigError| error.at(GITHUB_REPO_TEAM);
    team.transpose().map_err(wrong)
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
    let pem = match pem(key) {
        Some(pem) => pem,
        None => std::fs::read_to_string(key).map_err(|error| {
            let kind = error.kind();
            ConfigError::of(
                GITHUB_APP_PRIVATE_KEY,
                format!(
                    "{GITHUB_APP_PRIVATE_KEY} is neither PEM, nor PEM in base64, nor the path of a \
                 readable file: {kind}"
                ),
            )
        })?,
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

/// Returns the PEM in `text` as a key survives an environment: in quotes, with `\n` for its line
/// ends, on one line, or in base64. `None` if there is none.
fn pem(text: &str) -> Option<String> {
    let text = text.trim().trim_matches(['"', '\'']);
    let decoded = if text.contains(PEM_BEGIN) {
        None
    } else {
        let encoded: String = text.split_whitespace().collect();
        Some(String::from_utf8(BASE64.decode(encoded).ok()?).ok()?)
    };
    let text = decoded
        .as_deref()
        .unwrap_or(text)
        .replace("\\r", "")
        .replace("\\n", "\n");
    let (label, rest) = text.split_once(PEM_BEGIN)?.1.split_once("-----")?;
    let content: Vec<_> = rest.split_once("-----END")?.0.split_whitespace().collect();
    let content = content.join("\n");
    Some(format!(
        "{PEM_BEGIN}{label}-----\n{content}\n-----END{label}-----\n"
    ))
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
    let api: ApiUrl = sources
        .value(GITHUB_API_URL)
        .unwrap_or_default()
        .parse()
        .map_err(wrong)?;
    Ok(match sign_in::web_url(sources)? {
        Some(web) => api.with_web(web),
        None => api,
    })
}

/// Returns the GitHub that the settings name. Without its address and without credentials they name
/// none: webhooks alone work with any.
pub(super) fn host(sources: &SettingSources) -> Result<Option<GithubHost>, ConfigError> {
    let named = [GITHUB_API_URL, GITHUB_TOKEN, GITHUB_APP_ID];
    let is_named = named.iter().any(|name| sources.is_set(name));
    let api = api_url(sources)?;
    Ok(api.github().filter(|_| is_named))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{error, sources};
    use super::*;

    #[test]
    fn half_a_default_repository_is_refused() {
        assert!(error(&[("GITHUB_REPO_OWNER", "acme")]).contains("set both or none"));
    }

    #[test]
    fn key_of_an_app_is_read_in_every_form_that_an_environment_leaves_of_it() {
        let key = "-----BEGIN RSA PRIVATE KEY-----\nY2Fy\ncmV0\n-----END RSA PRIVATE KEY-----\n";
        let escaped = key.replace('\n', "\\n");
        let blanks = key.replace('\n', " ");
        for form in [
            key.to_owned(),
            key.replace('\n', "\r\n"),
            escaped.clone(),
            blanks,
            format!("\"{escaped}\""),
            format!("'{key}'"),
            BASE64.encode(key),
            format!("{}\n", BASE64.encode(&escaped)),
        ] {
            assert_eq!(pem(&form).as_deref(), Some(key), "{form}");
        }
        for other in ["app.pem", "Y2FycmV0", "", "-----BEGIN RSA PRIVATE KEY-----"] {
            assert_eq!(pem(other), None, "{other}");
        }
    }

    #[test]
    fn github_is_named_by_its_address_or_by_credentials() {
        let named = |settings: &[(&str, &str)]| {
            let host = host(&sources(settings, "")).ok().unwrap();
            host.map(|host| host.to_string())
        };
        assert_eq!(named(&[]), None);
        let github = Some("github.com".to_owned());
        assert_eq!(named(&[(GITHUB_TOKEN, "ghp_x")]), github);
        assert_eq!(named(&[(GITHUB_API_URL, "https://api.github.com")]), github);
        let server = (GITHUB_API_URL, "https://ghe.example.com/api/v3");
        assert_eq!(named(&[server]), Some("ghe.example.com".to_owned()));
        let fake = (GITHUB_API_URL, "http://127.0.0.1:4001");
        assert_eq!(named(&[fake, (GITHUB_TOKEN, "ghp_x")]), None);
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
                "neither PEM, nor PEM in base64",
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
