//! The cookies that are secrets: that of a session, and that of a browser on its way to GitHub.
//!
//! Their names begin with `__Host-`, which browsers accept over HTTPS alone, for this host alone. Below
//! a path of a host that others share it is sent to that path alone, which that prefix forbids: then
//! it is `__Secure-`. Over plain HTTP there are sessions on loopback only, by a name without one.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::{COOKIE, HOST, HeaderName, ORIGIN};
use actix_web::http::uri::Authority;
use sha2::{Digest, Sha256};

use super::auth::CSRF_FIELD;
use super::base_path;

pub(super) const NAME: &str = "__Host-tallyhook";

/// The names of one cookie.
pub(super) struct CookieNames {
    secure: &'static str,
    below_a_path: &'static str,
    plain: &'static str,
}

/// The cookie of a session.
pub(super) const SESSION: CookieNames = CookieNames {
    secure: NAME,
    below_a_path: "__Secure-tallyhook",
    plain: "tallyhook",
};

/// The cookie of a browser that began to sign in with GitHub.
pub(super) const FLOW: CookieNames = CookieNames {
    secure: "__Host-tallyhook-flow",
    below_a_path: "__Secure-tallyhook-flow",
    plain: "tallyhook-flow",
};

impl CookieNames {
    /// Returns the value that a request carries.
    pub(super) fn read(&self, request: &HttpRequest) -> Option<String> {
        // Elsewhere another host of the same domain could have set the plain one.
        let plain = is_loopback(request).then_some(self.plain);
        let secure = self.secure_name(request);
        let mut names = [Some(secure), plain].into_iter().flatten();
        names.find_map(|name| value(request, name))
    }

    fn secure_name(&self, request: &HttpRequest) -> &'static str {
        match base_path(request) {
            "" => self.secure,
            _ => self.below_a_path,
        }
    }

    /// Returns the `Set-Cookie` that lasts for `seconds`, for plain HTTP on this machine or for
    /// HTTPS.
    pub(super) fn set(
        &self,
        request: &HttpRequest,
        value: &str,
        seconds: i64,
        is_plain: bool,
    ) -> String {
        let (name, secure) = match is_plain {
            true => (self.plain, ""),
            false => (self.secure_name(request), "; Secure"),
        };
        let path = Some(base_path(request)).filter(|path| !path.is_empty());
        let path = path.unwrap_or("/");
        format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
    }
}

/// Returns the value of the session's cookie that a request carries.
pub(super) fn read(request: &HttpRequest) -> Option<String> {
    SESSION.read(request)
}

fn value(request: &HttpRequest, name: &str) -> Option<String> {
    let headers = request.headers().get_all(COOKIE);
    let mut pairs = headers.filter_map(|header| header.to_str().ok());
    pairs.find_map(|pairs| {
        let mut pairs = pairs.split(';').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(known, _)| known.trim() == name)?;
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    })
}

/// Returns the `Set-Cookie` of a new session, which lasts for `seconds`; with 0 and no value of one
/// that has ended.
pub(super) fn set(request: &HttpRequest, value: &str, seconds: i64) -> String {
    SESSION.set(request, value, seconds, is_plain(request))
}

/// Returns the token that a page of a session puts into its forms. It is made of the cookie's value
/// and not stored; the value cannot be computed from it.
pub(super) fn csrf_token(value: &str) -> String {
    hex::encode(Sha256::digest(format!("csrf {value}")))
}

/// Returns name and value of the field that a form needs in a browser that has a session.
pub(crate) fn form_token(request: &HttpRequest) -> Option<(&'static str, String)> {
    read(request).map(|cookie| (CSRF_FIELD, csrf_token(&cookie)))
}

/// Returns true if a page that was loaded over plain HTTP sent the request, or one on this machine.
fn is_plain(request: &HttpRequest) -> bool {
    let by_proxy = header(request, &HeaderName::from_static("x-forwarded-proto"));
    let is_https = by_proxy.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
        || header(request, &ORIGIN).is_some_and(|origin| origin.starts_with("https://"));
    is_loopback(request) && !is_https
}

/// Returns true if the client reaches this server by a name of its own machine. A page elsewhere
/// cannot choose that name for a browser.
pub(super) fn is_loopback(request: &HttpRequest) -> bool {
    let host = header(request, &HOST).and_then(|host| host.parse::<Authority>().ok());
    host.is_some_and(|host| {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        let address = name.parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    })
}

/// Returns a header as text; an unreadable one is empty.
pub(super) fn header<'r>(request: &'r HttpRequest, name: &HeaderName) -> Option<&'r str> {
    let value = request.headers().get(name)?;
    Some(value.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn plain_cookie_counts_on_loopback_only() {
        for (host, cookies, expected) in [
            ("localhost:8080", "tallyhook=a", Some("a")),
            ("127.0.0.1", "theme=dark; tallyhook=a", Some("a")),
            ("[::1]:8080", "tallyhook=a; __Host-tallyhook=b", Some("b")),
            ("tallyhook.example.com", "tallyhook=a", None),
            ("localhost.example.com", "tallyhook=a", None),
            ("127.0.0.1.example.com", "tallyhook=a", None),
            (
                "tallyhook.example.com",
                "tallyhook=a;__Host-tallyhook=b",
                Some("b"),
            ),
            ("localhost", "xtallyhook=a; tallyhook=; tallyhook2=c", None),
        ] {
            let request = TestRequest::default()
                .insert_header((HOST, host))
                .insert_header((COOKIE, cookies))
                .to_http_request();
            assert_eq!(read(&request).as_deref(), expected, "{host} {cookies}");
        }
    }

    #[test]
    fn cookie_is_secure_unless_the_page_is_plain_on_loopback() {
        let secure = "__Host-tallyhook=v; Path=/; Max-Age=9; HttpOnly; SameSite=Lax; Secure";
        let plain = "tallyhook=v; Path=/; Max-Age=9; HttpOnly; SameSite=Lax";
        for (host, header, expected) in [
            ("localhost:8080", None, plain),
            ("[::1]:8080", Some(("Origin", "http://[::1]:8080")), plain),
            ("localhost", Some(("Origin", "https://localhost")), secure),
            ("localhost", Some(("X-Forwarded-Proto", "https")), secure),
            ("tallyhook.example.com", None, secure),
            ("10.0.0.7:8080", None, secure),
        ] {
            let request = TestRequest::default().insert_header((HOST, host));
            let request = match header {
                Some(header) => request.insert_header(header),
                None => request,
            };
            assert_eq!(set(&request.to_http_request(), "v", 9), expected, "{host}");
        }
    }
}
