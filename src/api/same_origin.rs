//! Refusal of requests that pages of other sites make, to which a browser lends its cookies.

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN};

use super::auth::hash;
use super::caller::{CallerKind, KnownCaller};
use super::error::ApiError;
use super::public_url;
use super::session_cookie::{self, header, is_loopback};

/// The header in which a form without a field for it sends [`session_cookie::csrf_token`].
const CSRF_HEADER: &str = "x-csrf-token";

/// The site whose page made a request, as the browser states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestSite {
    Own,
    Foreign,
    /// Programs that are no browsers state none.
    Unstated,
}

impl RequestSite {
    fn of(request: &HttpRequest) -> Self {
        if let Some(origin) = header(request, &ORIGIN) {
            let (scheme, authority) = origin.split_once("://").unwrap_or_default();
            let is_public = public_url(request).is_some_and(|url| url.origin() == origin);
            let is_own = header(request, &HOST)
                .is_some_and(|host| !host.is_empty() && authority.eq_ignore_ascii_case(host))
                // Behind a proxy that puts another host into the request.
                || is_public;
            // Over plain HTTP anyone on the way could be the page.
            let is_safe = scheme == "https" || (scheme == "http" && is_loopback(request));
            return match (is_own, is_safe || !carries_session(request)) {
                (true, true) => Self::Own,
                _ => Self::Foreign,
            };
        }
        match header(request, &HeaderName::from_static("sec-fetch-site")) {
            Some("same-origin") => Self::Own,
            // The address was typed.
            None | Some("none") => Self::Unstated,
            Some(_) => Self::Foreign,
        }
    }
}

fn carries_session(request: &HttpRequest) -> bool {
    session_cookie::read(request).is_some()
}

/// Refuses pages of other sites.
///
/// # Errors
/// [`ApiError::Forbidden`].
pub(super) fn refuse_foreign(request: &HttpRequest) -> Result<(), ApiError> {
    match RequestSite::of(request) {
        RequestSite::Foreign => Err(foreign()),
        RequestSite::Own | RequestSite::Unstated => Ok(()),
    }
}

/// Refuses a request with a cookie unless a page of this server made it.
///
/// # Errors
/// [`ApiError::Forbidden`].
pub(super) fn refuse_unstated(request: &HttpRequest) -> Result<(), ApiError> {
    match RequestSite::of(request) {
        RequestSite::Own => Ok(()),
        RequestSite::Foreign => Err(foreign()),
        RequestSite::Unstated if carries_session(request) => Err(foreign()),
        RequestSite::Unstated => Ok(()),
    }
}

/// Refuses a request of a session that changes something, unless a page of this server made it, and
/// with the token of that page if it is a form.
///
/// # Errors
/// [`ApiError::Forbidden`].
pub(super) fn refuse_forged(request: &HttpRequest, caller: &KnownCaller) -> Result<(), ApiError> {
    if caller.kind != CallerKind::Session || request.method().is_safe() {
        return Ok(());
    }
    if RequestSite::of(request) != RequestSite::Own {
        return Err(foreign());
    }
    check_form(request, None)
}

/// Refuses a form of a session without the token of its page, in the field `field` or the header.
///
/// # Errors
/// [`ApiError::Forbidden`].
pub(super) fn check_form(request: &HttpRequest, field: Option<&str>) -> Result<(), ApiError> {
    let Some(cookie) = session_cookie::read(request).filter(|_| is_form(request)) else {
        return Ok(());
    };
    let sent = field.or_else(|| header(request, &HeaderName::from_static(CSRF_HEADER)));
    let expected = session_cookie::csrf_token(&cookie);
    // Of digests, so that the time to compare reveals nothing.
    if sent.is_some_and(|sent| hash(sent) == hash(&expected)) {
        return Ok(());
    }
    Err(ApiError::Forbidden(
        "the form lacks the token of its page: load the page again",
    ))
}

/// Returns true for the media types that a form of any site can send.
pub(super) fn is_form(request: &HttpRequest) -> bool {
    let media_type = header(request, &CONTENT_TYPE).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/plain",
    ]
    .iter()
    .any(|form| form.eq_ignore_ascii_case(media_type))
}

fn foreign() -> ApiError {
    ApiError::Forbidden(
        "the request does not state this host as its `Origin`: it may be of a page of another site",
    )
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::COOKIE;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn site_is_the_one_that_a_browser_states() {
        use RequestSite::{Foreign, Own, Unstated};
        let (own, plain) = ("https://t.example.com", "http://t.example.com");
        for (headers, with_cookie, without) in [
            (&[("Origin", own)][..], Own, Own),
            (&[("Origin", "https://T.example.COM")], Own, Own),
            (&[("Origin", plain)], Foreign, Own),
            (
                &[("Origin", "https://t.example.com:8443")],
                Foreign,
                Foreign,
            ),
            (
                &[("Origin", "https://t.example.com.evil.net")],
                Foreign,
                Foreign,
            ),
            (&[("Origin", "https://example.com")], Foreign, Foreign),
            (&[("Origin", "null")], Foreign, Foreign),
            (&[("Origin", "")], Foreign, Foreign),
            (
                &[
                    ("Origin", "https://evil.net"),
                    ("Sec-Fetch-Site", "same-origin"),
                ],
                Foreign,
                Foreign,
            ),
            (&[("Sec-Fetch-Site", "same-origin")], Own, Own),
            (&[("Sec-Fetch-Site", "same-site")], Foreign, Foreign),
            (&[("Sec-Fetch-Site", "cross-site")], Foreign, Foreign),
            (&[("Sec-Fetch-Site", "none")], Unstated, Unstated),
            (&[], Unstated, Unstated),
        ] {
            for (cookie, expected) in [(true, with_cookie), (false, without)] {
                let mut request = TestRequest::default().insert_header((HOST, "t.example.com"));
                for header in headers {
                    request = request.append_header(*header);
                }
                if cookie {
                    request = request.insert_header((COOKIE, "__Host-tallyhook=a"));
                }
                let found = RequestSite::of(&request.to_http_request());
                assert_eq!(found, expected, "{headers:?}, cookie: {cookie}");
            }
        }
    }

    #[test]
    fn only_pages_of_this_host_are_not_foreign() {
        for (origin, host, is_ours) in [
            (None, Some("t.example.com"), true),
            (Some("https://t.example.com"), Some("t.example.com"), true),
            (Some("http://LOCALHOST:8080"), Some("localhost:8080"), true),
            (Some("http://localhost:8081"), Some("localhost:8080"), false),
            (
                Some("https://t.example.com.evil.example"),
                Some("t.example.com"),
                false,
            ),
            (Some("https://evil.example"), Some("t.example.com"), false),
            (Some("t.example.com"), Some("t.example.com"), false),
            (Some("null"), Some("t.example.com"), false),
            (Some("https://t.example.com"), None, false),
        ] {
            let headers = [
                origin.map(|origin| (ORIGIN, origin)),
                host.map(|host| (HOST, host)),
            ];
            let request = headers
                .into_iter()
                .flatten()
                .fold(TestRequest::default(), |request, header| {
                    request.insert_header(header)
                });
            assert_eq!(
                refuse_foreign(&request.to_http_request()).is_ok(),
                is_ours,
                "{origin:?} at {host:?}"
            );
        }
    }
}
