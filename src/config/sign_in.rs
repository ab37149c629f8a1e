//! Signing in with GitHub: its web site, the App's client id and secret.

use std::str::FromStr;

use tallyhook_core::secret::{Secret, SharedSecret};
use tallyhook_github_client::{OauthApp, WebUrl};

use super::{Config, ConfigError, GITHUB_API_URL, SettingSources, TALLYHOOK_PUBLIC_URL};

pub const GITHUB_URL: &str = "GITHUB_URL";
pub const GITHUB_CLIENT_ID: &str = "GITHUB_CLIENT_ID";
pub const GITHUB_CLIENT_SECRET: &str = "GITHUB_CLIENT_SECRET";
pub const SIGN_IN: &str = "SIGN_IN";

/// The ways to sign in besides tokens and links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInMode {
    Off,
    /// With an account at GitHub.
    Github,
}

/// A text that names no way to sign in.
#[derive(Clone, Copy, Debug)]
pub struct InvalidSignInMode;

impl FromStr for SignInMode {
    type Err = InvalidSignInMode;

    fn from_str(text: &str) -> Result<Self, InvalidSignInMode> {
        match text {
            "off" => Ok(Self::Off),
            "github" => Ok(Self::Github),
            _ => Err(InvalidSignInMode),
        }
    }
}

/// Parses the address of GitHub's web site. The error does not contain it, since it may have a
/// password in it.
pub(super) fn web_url(sources: &SettingSources) -> Result<Option<WebUrl>, ConfigError> {
    let wrong = |_| {
        let expected = "expected an address such as https://github.com, without user and query";
        ConfigError::of(GITHUB_URL, format!("{GITHUB_URL} is wrong: {expected}"))
    };
    sources
        .value(GITHUB_URL)
        .map(|text| text.parse().map_err(wrong))
        .transpose()
}

/// Reads the client of OAuth. An error shows neither of its parts.
pub(super) fn oauth_app(sources: &SettingSources) -> Result<Option<OauthApp>, ConfigError> {
    let parts = (
        sources.value(GITHUB_CLIENT_ID),
        sources.value(GITHUB_CLIENT_SECRET),
    );
    match parts {
        (None, None) => Ok(None),
        (Some(id), Some(secret)) => {
            let secret = SharedSecret::new(Secret::new(secret.trim().to_owned()));
            let app = OauthApp::new(id.trim(), secret);
            let wrong = || {
                ConfigError::of(
                    GITHUB_CLIENT_ID,
                    format!(
                        "{GITHUB_CLIENT_ID} and {GITHUB_CLIENT_SECRET} are not those of an App: \
                         expected one word each, as GitHub shows them"
                    ),
                )
            };
            app.map(Some).ok_or_else(wrong)
        }
        _ => Err(ConfigError::new(format!(
            "{GITHUB_CLIENT_ID} and {GITHUB_CLIENT_SECRET} belong together: set both or none"
        ))),
    }
}

pub(super) fn mode(sources: &SettingSources) -> Result<SignInMode, ConfigError> {
    sources.parsed(SIGN_IN, "off or github")
}

impl Config {
    /// Checks that there is what signing in with GitHub needs.
    ///
    /// # Errors
    /// If a part is missing, with its setting.
    pub(super) fn check_sign_in(&self) -> Result<(), ConfigError> {
        if self.sign_in == SignInMode::Off {
            return Ok(());
        }
        let lacks = |what: &str| ConfigError::of(SIGN_IN, format!("{SIGN_IN} is `github`, {what}"));
        if self.oauth_app.is_none() {
            return Err(lacks(&format!(
                "which needs an App at GitHub: set {GITHUB_CLIENT_ID} and {GITHUB_CLIENT_SECRET}"
            )));
        }
        if self.github_api_url.web().is_none() {
            return Err(lacks(&format!(
                "and the address of its web site does not follow from {GITHUB_API_URL}: set \
                 {GITHUB_URL}"
            )));
        }
        match &self.public_url {
            None => Err(lacks(&format!(
                "which needs the address that browsers return to: set {TALLYHOOK_PUBLIC_URL}"
            ))),
            Some(url) if !url.keeps_secrets() => Err(lacks(&format!(
                "which needs {TALLYHOOK_PUBLIC_URL} to begin with https://, unless it is an \
                 address of this machine alone"
            ))),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{error, sources};
    use super::*;

    const ID: (&str, &str) = (GITHUB_CLIENT_ID, "Iv23liCarrot");
    const SECRET: (&str, &str) = (GITHUB_CLIENT_SECRET, "turnip_of_the_tests");
    const ON: (&str, &str) = (SIGN_IN, "github");

    fn public(url: &'static str) -> (&'static str, &'static str) {
        (TALLYHOOK_PUBLIC_URL, url)
    }

    #[test]
    fn sign_in_names_the_setting_that_it_lacks_and_shows_no_secret() {
        let proxied = (GITHUB_API_URL, "https://cache.example.com/github");
        for (settings, words) in [
            (&[ON][..], "set GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET"),
            (&[ID], "set both or none"),
            (&[SECRET], "set both or none"),
            (&[ON, ID, SECRET], "set TALLYHOOK_PUBLIC_URL"),
            (
                &[ON, ID, SECRET, public("http://t.example.com")],
                "begin with https://",
            ),
            (
                &[ON, ID, SECRET, public("https://t.example.com"), proxied],
                "set GITHUB_URL",
            ),
            (&[(SIGN_IN, "gitlab")], "expected off or github"),
            (&[(GITHUB_URL, "github.com")], "GITHUB_URL is wrong"),
            (
                &[ID, (GITHUB_CLIENT_SECRET, "turnip of")],
                "expected one word each",
            ),
        ] {
            let error = error(settings);
            let shown = ["Carrot", "turnip"].iter().any(|part| error.contains(part));
            assert!(error.contains(words) && !shown, "{error}");
        }
    }

    #[test]
    fn sign_in_is_off_by_default_and_on_with_all_of_its_settings() {
        let config = |settings: &[(&str, &str)]| Config::new(&sources(settings, "")).ok().unwrap();
        let off = config(&[]);
        assert!(off.sign_in == SignInMode::Off && off.oauth_app.is_none());
        assert_eq!(config(&[ID, SECRET]).sign_in, SignInMode::Off);
        for url in [
            "https://t.example.com/tools",
            "http://localhost:8080",
            "http://[::1]",
        ] {
            let on = config(&[ON, ID, SECRET, public(url)]);
            assert_eq!(on.sign_in, SignInMode::Github, "{url}");
        }
        let web = (GITHUB_URL, "https://git.example.com");
        let proxied = (GITHUB_API_URL, "https://cache.example.com/github");
        let api = config(&[web, proxied]).github_api_url;
        assert_eq!(api.web().unwrap().to_string(), "https://git.example.com");
    }
}
