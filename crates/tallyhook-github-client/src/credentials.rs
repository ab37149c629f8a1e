//! The credentials of a client: a token, or a GitHub App, which signs its own tokens and gets one
//! for each installation.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::GithubError;
use super::request::{Principal, RequestAuth};
use super::token::Token;

/// The age of a new signature: GitHub refuses one of the future by its own clock, even by a second.
const BACKDATED: TimeDelta = TimeDelta::seconds(60);
/// The validity of a signature. GitHub allows ten minutes.
const VALID: TimeDelta = TimeDelta::minutes(9);

/// The credentials of a client.
#[derive(Clone, PartialEq)]
pub enum Credentials {
    Token(Token),
    App(GithubApp),
}

/// A GitHub App with its private key. Nothing prints it.
#[derive(Clone)]
pub struct GithubApp {
    id: String,
    key: EncodingKey,
    /// The digest of the key, which cannot be compared itself.
    digest: [u8; 32],
}

impl PartialEq for GithubApp {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.digest == other.digest
    }
}

/// The part of an App's credentials that is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidApp {
    Id,
    Key,
}

/// The claims of a JSON Web Token that authenticates an App.
#[derive(Serialize)]
struct AppClaims<'a> {
    iat: i64,
    exp: i64,
    iss: &'a str,
}

impl GithubApp {
    /// Returns the App with this number or client id, and this private key: an RSA key of 2048 bits
    /// or more as PEM.
    ///
    /// # Errors
    /// The part that is invalid.
    pub fn new(id: &str, private_key: &str) -> Result<Self, InvalidApp> {
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
        if id.is_empty() || !id.bytes().all(is_id) {
            return Err(InvalidApp::Id);
        }
        let key = EncodingKey::from_rsa_pem(private_key.as_bytes()).map_err(|_| InvalidApp::Key)?;
        let app = Self {
            id: id.to_owned(),
            key,
            digest: Sha256::digest(private_key).into(),
        };
        // The library reads the PEM alone; whether the key is one shows only when it signs.
        app.sign(DateTime::UNIX_EPOCH)
            .is_some()
            .then_some(app)
            .ok_or(InvalidApp::Key)
    }

    /// Returns a JSON Web Token that authenticates the App itself for some minutes; `None` if the
    /// key cannot sign.
    fn sign(&self, now: DateTime<Utc>) -> Option<Token> {
        let claims = AppClaims {
            iat: (now - BACKDATED).timestamp(),
            exp: (now + VALID).timestamp(),
            iss: &self.id,
        };
        Token::parse(&encode(&Header::new(Algorithm::RS256), &claims, &self.key).ok()?)
    }

    /// Returns the credentials of a request as the App itself.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub(crate) fn authorize(&self, now: DateTime<Utc>) -> Result<RequestAuth, GithubError> {
        let token = self.sign(now).ok_or_else(|| GithubError::AppRefused {
            message: "its private key cannot sign".to_owned(),
            advice: "set GITHUB_APP_PRIVATE_KEY to another".to_owned(),
        })?;
        Ok(RequestAuth::token(&token, Principal::App, 0))
    }
}
