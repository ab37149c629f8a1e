//! Secrets that authorize a request. Nothing prints them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use tallyhook_core::secret::Secret;
use zeroize::Zeroizing;

use super::error::CredentialOwner;

/// An access token, stored as the `Authorization` header that carries it.
#[derive(Clone, PartialEq)]
pub struct Token {
    header: HeaderValue,
    owner: CredentialOwner,
}

impl Token {
    /// Returns a token of the settings, or `None` if `text` has characters that no token has.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        Some(Self {
            header: secret_header(&Zeroizing::new(format!("Bearer {text}")))?,
            owner: CredentialOwner::Setting,
        })
    }

    /// Returns a token that was just entered and belongs to no connection yet, or `None` if it has
    /// characters that no token has.
    pub fn entered(secret: &Secret) -> Option<Self> {
        let owner = CredentialOwner::Entered;
        Some(Self {
            owner,
            ..Self::parse(secret.expose())?
        })
    }

    /// The same token as that of the connection `name`: errors name the connection instead of a
    /// setting.
    #[must_use]
    pub fn of_connection(self, name: &str) -> Self {
        let owner = CredentialOwner::Connection(name.to_owned());
        Self { owner, ..self }
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    pub(crate) fn owner(&self) -> &CredentialOwner {
        &self.owner
    }
}

/// The client id and client secret of an App, for the endpoints below `/applications`.
#[derive(Clone)]
pub struct ClientSecret(HeaderValue);

impl ClientSecret {
    /// Returns the credentials, or `None` if one of them has characters that GitHub never uses
    /// there.
    pub fn new(client_id: &str, client_secret: &str) -> Option<Self> {
        let is_word =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        // A colon ends the user name of Basic authentication.
        if !is_word(client_id) || !is_word(client_secret) || client_id.contains(':') {
            return None;
        }
        let pair = Zeroizing::new(format!("{client_id}:{client_secret}"));
        let pair = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        secret_header(&Zeroizing::new(format!("Basic {}", *pair))).map(Self)
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// A header value that `Debug` does not print.
fn secret_header(value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(value).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_one_word_and_is_not_printed() {
        assert!(Token::parse("ghp_0123456789abcdef").is_some());
        for invalid in ["", "two words", "line\nbreak", "é"] {
            assert!(Token::parse(invalid).is_none(), "{invalid}");
        }
        assert!(!format!("{:?}", Token::parse("ghp_x").unwrap().header()).contains("ghp_x"));
    }

    #[test]
    fn client_secret_is_sent_as_basic_authentication() {
        let secret = ClientSecret::new("Iv1.a", "s3cret").unwrap();
        assert_eq!(secret.header(), "Basic SXYxLmE6czNjcmV0");
        for (id, secret) in [("", "s"), ("a", ""), ("a:b", "s"), ("a", "s s")] {
            assert!(ClientSecret::new(id, secret).is_none(), "{id} {secret}");
        }
    }
}
