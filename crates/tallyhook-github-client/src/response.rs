//! One response of GitHub's, as plain data.

use reqwest::header::{ETAG, HeaderMap, LINK};
use reqwest::{StatusCode, Url};
use serde::de::DeserializeOwned;
use tallyhook_core::text::one_line;

use super::error::GithubError;
use super::route::shown_path;

/// The characters of a foreign text that are shown.
const EXCERPT: usize = 200;

/// A response as it was received.
pub(crate) struct RawResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// A response that a caller gets: it is neither an error nor a redirect.
#[derive(Debug)]
pub(crate) struct FinalResponse {
    /// The address after redirects.
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The generation of the token that it was received with.
    pub(crate) generation: u64,
    /// A 304: the response that the sent `ETag` names is still valid.
    pub(crate) unchanged: bool,
}

/// Parses a body as JSON. The error has the place of the mistake, and nothing of the body.
pub(crate) fn parse_json<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, GithubError> {
    serde_json::from_slice(body).map_err(|error| {
        let problem = if error.is_data() {
            "JSON of another shape"
        } else {
            "no JSON"
        };
        let reason = format!(
            "{problem} at line {} column {}",
            error.line(),
            error.column()
        );
        GithubError::Unexpected {
            path: path.split('?').next().unwrap_or_default().to_owned(),
            reason,
        }
    })
}

/// Returns a foreign text on one line, cut to a length that fits into a message.
pub(crate) fn excerpt(text: &str) -> String {
    one_line(text, EXCERPT)
}

pub(crate) fn unexpected(url: &Url, reason: &str) -> GithubError {
    GithubError::Unexpected {
        path: shown_path(url),
        reason: reason.to_owned(),
    }
}

pub(crate) fn etag(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(ETAG)?.to_str().ok()?.to_owned())
}

/// Returns the address of the next page, from the `Link` headers.
pub(crate) fn next_page(headers: &HeaderMap) -> Option<&str> {
    let links = headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok());
    links.flat_map(split_links).find_map(|link| {
        let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters
            .split(';')
            .filter_map(|parameter| parameter.trim().split_once('='))
            .any(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value
                        .trim()
                        .trim_matches('"')
                        .split(' ')
                        .any(|rel| rel.eq_ignore_ascii_case("next"))
            });
        is_next.then_some(address)
    })
}

/// Splits at the commas between links. An address may have commas of its own.
fn split_links(value: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    value.split(move |letter| {
        match letter {
            '<' => inside = true,
            '>' => inside = false,
            _ => {}
        }
        letter == ',' && !inside
    })
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn next_page_is_found_among_other_links() {
        let next = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(LINK, HeaderValue::from_str(value).unwrap());
            }
            next_page(&headers).map(str::to_owned)
        };
        let first = r#"<https://h/a?page=1>; rel="first""#;
        assert_eq!(
            next(&[&format!(
                r#"{first}, <https://h/a?b=1,2&page=3>; rel="next""#
            )])
            .unwrap(),
            "https://h/a?b=1,2&page=3"
        );
        assert_eq!(
            next(&[first, r#"<https://h/b>;title="x"; Rel=next"#]).unwrap(),
            "https://h/b"
        );
        for none in [
            first,
            "",
            "nonsense",
            "<https://h/a>",
            r#"<https://h/a; rel="next""#,
        ] {
            assert_eq!(next(&[none]), None, "{none}");
        }
    }
}
