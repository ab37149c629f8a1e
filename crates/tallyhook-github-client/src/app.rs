//! Who asks: a token, or a GitHub App, which signs who it is and is given a token for each of its installations.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::HeaderMap;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

use super::{GithubError, Token, limits};

/// GitHub refuses what was signed in its future, be it by a second.
const BEFORE: TimeDelta = TimeDelta::seconds(60);
/// GitHub allows ten minutes.
const VALID: TimeDelta = TimeDelta::minutes(9);

/// What GitHub is asked with.
#[derive(Clone)]
pub enum Credentials {
    Token(Token),
    App(App),
}

/// A GitHub App with its private key. Is shown by nothing.
#[derive(Clone)]
pub struct App {
    id: String,
    key: Arc<RsaKeyPair>,
}

/// What of an App is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoApp {
    Id,
    Key,
}

impl App {
    /// From its number or client id, and its private key, an RSA key of 2048 bits or more as PEM.
    ///
    /// # Errors
    /// Which of them is none.
    pub fn new(id: &str, private_key: &str) -> Result<Self, NoApp> {
        if id.is_empty()
            || !id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
        {
            return Err(NoApp::Id);
        }
        let key = match PrivateKeyDer::from_pem_slice(private_key.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(NoApp::Key),
        };
        Ok(Self {
            id: id.to_owned(),
            key: Arc::new(key.map_err(|_| NoApp::Key)?),
        })
    }

    /// A JSON Web Token that lets the App in as itself for some minutes; `None` if the key cannot sign.
    pub(super) fn sign(&self, now: DateTime<Utc>) -> Option<Token> {
        let head = json!({"alg": "RS256", "typ": "JWT"});
        let claims = json!({"iat": (now - BEFORE).timestamp(), "exp": (now + VALID).timestamp(), "iss": self.id});
        let encoded = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        let signed = format!(
            "{}.{}",
            encoded(head.to_string().as_bytes()),
            encoded(claims.to_string().as_bytes())
        );
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .ok()?;
        Token::parse(&format!("{signed}.{}", encoded(&signature)))
    }
}

/// Why GitHub does not accept what an App signed at `now`, and what to do about it.
pub(super) fn refused(message: String, headers: &HeaderMap, now: DateTime<Utc>) -> GithubError {
    let is_about_time = ["('exp')", "('iat')"]
        .into_iter()
        .any(|claim| message.contains(claim));
    let advice = match limits::date(headers).map(|date| (now - date).num_seconds()) {
        Some(ahead) if is_about_time => {
            let side = if ahead < 0 { "behind" } else { "ahead of" };
            format!(
                "check this machine's clock, which is {} s {side} GitHub's",
                ahead.abs()
            )
        }
        None if is_about_time => "check this machine's clock".to_owned(),
        _ => "check that GITHUB_APP_PRIVATE_KEY is the key of the App that GITHUB_APP_ID names"
            .to_owned(),
    };
    GithubError::AppRefused { message, advice }
}
