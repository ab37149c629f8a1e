//! Settings of the HTTP server: addresses, admin token, WebSocket clients.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use actix_web::http::uri::Authority;
use reqwest::Url;

use super::{ConfigError, SettingSources, redacted_url};

pub const TALLYHOOK_ADMIN_TOKEN: &str = "TALLYHOOK_ADMIN_TOKEN";
pub const TALLYHOOK_LISTEN: &str = "TALLYHOOK_LISTEN";
pub const TALLYHOOK_PUBLIC_URL: &str = "TALLYHOOK_PUBLIC_URL";
pub const TALLYHOOK_TOKEN: &str = "TALLYHOOK_TOKEN";
pub(super) const METRICS_TOKEN: &str = "METRICS_TOKEN";
/// Shorter tokens of metrics are refused: they can be guessed by trying.
const MIN_METRICS_TOKEN: usize = 8;

/// The address by which people reach this server, such as `https://tools.example.com/tallyhook`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    path: String,
}

/// An address that is no `http://` or `https://` URL, or has more than host, port and path.
#[derive(Debug, thiserror::Error)]
#[error("not the address of a server")]
pub struct InvalidPublicUrl;

impl FromStr for PublicUrl {
    type Err = InvalidPublicUrl;

    fn from_str(text: &str) -> Result<Self, InvalidPublicUrl> {
        let url = Url::parse(text).map_err(|_| InvalidPublicUrl)?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        // It is part of headers and of patterns of paths.
        let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
        if !is_plain
            || !matches!(url.scheme(), "http" | "https")
            || !url.path().bytes().all(is_path)
        {
            return Err(InvalidPublicUrl);
        }
        Ok(Self {
            origin: url.origin().ascii_serialization(),
            path: url.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl PublicUrl {
    /// Returns scheme, host and port, as a browser states them.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns true if nobody on the way reads what is sent there: over HTTPS, or on this machine.
    pub fn keeps_secrets(&self) -> bool {
        let host = self.origin.strip_prefix("http://");
        let host = host.and_then(|host| host.parse::<Authority>().ok());
        host.is_none_or(|host| {
            let name = host.host().trim_start_matches('[').trim_end_matches(']');
            let address = name.parse::<IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        })
    }

    /// Returns the path without a slash at its end: empty, or such as `/tallyhook`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

pub(super) fn public_url(sources: &SettingSources) -> Result<Option<PublicUrl>, ConfigError> {
    let Some(text) = sources.value(TALLYHOOK_PUBLIC_URL) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        ConfigError::of(
            TALLYHOOK_PUBLIC_URL,
            format!(
                "{TALLYHOOK_PUBLIC_URL} is `{}`, expected the address of this server for people, \
                 such as https://tools.example.com/tallyhook",
                redacted_url(text)
            ),
        )
    })
}

pub(super) fn listen(sources: &SettingSources) -> Result<SocketAddr, ConfigError> {
    let expected = "an address and port such as 127.0.0.1:8080";
    sources.parsed(TALLYHOOK_LISTEN, expected)
}

pub(super) fn admin_token(sources: &SettingSources) -> Option<String> {
    sources.value(TALLYHOOK_ADMIN_TOKEN).map(str::to_owned)
}

pub(super) fn metrics_token(sources: &SettingSources) -> Result<Option<String>, ConfigError> {
    let token = sources.value(METRICS_TOKEN);
    if token.is_some_and(|token| token.chars().count() < MIN_METRICS_TOKEN) {
        return Err(ConfigError::of(
            METRICS_TOKEN,
            format!("{METRICS_TOKEN} has fewer than {MIN_METRICS_TOKEN} characters"),
        ));
    }
    Ok(token.map(str::to_owned))
}

pub(super) fn websocket_clients(sources: &SettingSources) -> Result<u32, ConfigError> {
    sources.within("WEBSOCKET_MAX_CLIENTS", 0..=100_000)
}

#[cfg(test)]
mod tests {
    use super::super::testing::error;
    use super::*;

    #[test]
    fn public_address_has_an_origin_and_a_path() {
        for (text, origin, path) in [
            ("https://t.example.com", "https://t.example.com", ""),
            ("https://T.example.com:443/", "https://t.example.com", ""),
            (
                "http://localhost:8080/a/b/",
                "http://localhost:8080",
                "/a/b",
            ),
        ] {
            let url: PublicUrl = text.parse().unwrap();
            assert_eq!((url.origin(), url.path()), (origin, path), "{text}");
        }
        for text in [
            "t.example.com",
            "ftp://t.example.com",
            "https://t.example.com/?a=b",
            "https://t.example.com/#a",
            "https://me:secret@t.example.com",
            "https://t.example.com/%22",
            "https://t.example.com/a;Path=b",
        ] {
            let error = error(&[(TALLYHOOK_PUBLIC_URL, text)]);
            assert!(
                error.contains("expected the address of this server"),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn address_without_a_host_is_refused() {
        assert!(error(&[(TALLYHOOK_LISTEN, "8080")]).contains("expected an address and port"));
    }
}
