//! The account behind a token, and the kind of a token.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tallyhook_core::secret::Secret;
use thiserror::Error;

use super::Result;
use super::client::Client;

/// An account of a person at GitHub. The id stays the same when the login is changed, and a login
/// can be given to another account.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AuthenticatedUser {
    pub id: i64,
    pub login: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub avatar_url: Option<String>,
}

/// The kind of a token that a person can enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersonalTokenKind {
    Classic,
    FineGrained,
}

/// A text that is no token for a connection, with the reason for the person who entered it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RefusedToken {
    #[error(
        "this is a token of an App's installation (ghs_), which is valid for an hour: enter a \
         personal access token, or connect the App"
    )]
    Installation,
    #[error(
        "this is a refresh token (ghr_), which can be used once: enter a personal access token, \
         or connect with GitHub"
    )]
    Refresh,
    #[error(
        "this is a token that GitHub issued to an OAuth App (gho_), perhaps to a command line \
         tool, and it ends with that: enter a personal access token"
    )]
    OauthApp,
    #[error(
        "this is a token that GitHub issued to a GitHub App (ghu_), which is valid for hours: \
         enter a personal access token, or connect with GitHub"
    )]
    AppUser,
    #[error("this is no token of GitHub's: enter one that begins with github_pat_ or ghp_")]
    Unknown,
}

/// The account of a token and the properties that GitHub sends with every response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIdentity {
    pub user: AuthenticatedUser,
    /// The scopes of a classic token. A fine-grained one does not say what it may do.
    pub scopes: Option<Vec<String>>,
    pub expires_at: Option<DateTime<Utc>>,
}

impl PersonalTokenKind {
    /// Returns the kind of a token that a person enters, by its prefix.
    ///
    /// # Errors
    /// [`RefusedToken`], if it is of no use for a connection.
    pub fn of(token: &Secret) -> Result<Self, RefusedToken> {
        /// The length of a classic token before tokens had prefixes.
        const OLD_LENGTH: usize = 40;
        let text = token.expose();
        let is_old = text.len() == OLD_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_word = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match text.split_once('_') {
            None if is_old => Ok(Self::Classic),
            Some(("ghp", rest)) if is_word && !rest.is_empty() => Ok(Self::Classic),
            Some(("github", rest)) if is_word && rest.starts_with("pat_") => Ok(Self::FineGrained),
            Some(("ghs", _)) => Err(RefusedToken::Installation),
            Some(("ghr", _)) => Err(RefusedToken::Refresh),
            Some(("gho", _)) => Err(RefusedToken::OauthApp),
            Some(("ghu", _)) => Err(RefusedToken::AppUser),
            Some(_) | None => Err(RefusedToken::Unknown),
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::FineGrained => "fine_grained",
        }
    }
}

impl Client {
    /// Fetches the account of the client's token. To be asked after every new token: the person may
    /// be another than before.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn user(&self) -> Result<AuthenticatedUser> {
        self.get("/user").await
    }

    /// Fetches the account of the client's token, with the token's properties.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn token_identity(&self) -> Result<TokenIdentity> {
        let (user, info) = self.get_with_token_info("/user").await?;
        Ok(TokenIdentity {
            user,
            scopes: info.scopes,
            expires_at: info.expires_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_of_a_token_is_known_by_its_prefix_and_others_are_refused_in_words() {
        let kind = |text: &str| PersonalTokenKind::of(&Secret::new(text.to_owned()));
        let old = "0123456789abcdef0123456789abcdef01234567";
        for (text, expected) in [
            ("ghp_0123456789", Ok(PersonalTokenKind::Classic)),
            (old, Ok(PersonalTokenKind::Classic)),
            ("github_pat_11A_b", Ok(PersonalTokenKind::FineGrained)),
            ("ghs_1", Err(RefusedToken::Installation)),
            ("ghr_1", Err(RefusedToken::Refresh)),
            ("gho_1", Err(RefusedToken::OauthApp)),
            ("ghu_1", Err(RefusedToken::AppUser)),
            ("ghp_", Err(RefusedToken::Unknown)),
            ("ghp_a b", Err(RefusedToken::Unknown)),
            ("github_token", Err(RefusedToken::Unknown)),
            (&old[1..], Err(RefusedToken::Unknown)),
            ("", Err(RefusedToken::Unknown)),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
        for (refused, words) in [
            (
                RefusedToken::Installation,
                &["ghs_", "personal access token"],
            ),
            (RefusedToken::Refresh, &["ghr_", "personal access token"]),
            (RefusedToken::OauthApp, &["gho_", "personal access token"]),
            (RefusedToken::AppUser, &["ghu_", "personal access token"]),
            (RefusedToken::Unknown, &["no token", "github_pat_ or ghp_"]),
        ] {
            let text = refused.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
}
