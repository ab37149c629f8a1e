//! Where GitHub's API is, and which addresses are still there.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, LINK};

/// The address of GitHub's REST API: `https://api.github.com`, or `https://HOST/api/v3` of an Enterprise Server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiUrl(Url);

/// It is no `http://` or `https://` address, or has more in it than host, port and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoApiUrl;

impl FromStr for ApiUrl {
    type Err = NoApiUrl;

    fn from_str(text: &str) -> Result<Self, NoApiUrl> {
        let url = Url::parse(text.trim_end_matches('/')).map_err(|_| NoApiUrl)?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.has_host();
        (["http", "https"].contains(&url.scheme()) && is_plain)
            .then_some(Self(url))
            .ok_or(NoApiUrl)
    }
}

impl ApiUrl {
    /// What `path`, which begins with a slash and may have a query, means below it.
    pub(super) fn at(&self, path: &str) -> Option<Url> {
        let base = self.0.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}{path}"))
            .ok()
            .filter(|url| self.holds(url))
    }

    /// Where GraphQL is: beside REST, which has a version in its path on an Enterprise Server.
    pub(super) fn graphql(&self) -> Url {
        let mut url = self.0.clone();
        let path = url.path().trim_end_matches('/');
        url.set_path(&format!(
            "{}/graphql",
            path.strip_suffix("/v3").unwrap_or(path)
        ));
        url
    }

    /// What `told` means, seen from `from`, if it is still the same scheme, host and port: the token goes nowhere else.
    pub(super) fn follow(&self, from: &Url, told: &str) -> Option<Url> {
        from.join(told).ok().filter(|url| self.holds(url))
    }

    fn holds(&self, url: &Url) -> bool {
        url.origin() == self.0.origin() && url.username().is_empty() && url.password().is_none()
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

/// A token, as the header that carries it. Is shown by nothing.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// `None` if it has characters that no token has.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let mut header = HeaderValue::from_str(&format!("Bearer {text}")).ok()?;
        header.set_sensitive(true);
        Some(Self(header))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// The address of the next page, as `Link` tells it.
pub(super) fn next_page(headers: &HeaderMap) -> Option<&str> {
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

/// At the commas between links; an address may have commas of its own.
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
    use super::*;

    #[test]
    fn an_address_is_http_with_host_and_path_alone() {
        for url in [
            "https://api.github.com",
            "https://ghe.example.com/api/v3/",
            "http://127.0.0.1:4001",
        ] {
            assert!(url.parse::<ApiUrl>().is_ok(), "{url}");
        }
        for url in [
            "api.github.com",
            "ftp://github.com",
            "https://me:secret@host",
            "https://host/?a=b",
            "https://h/#a",
            "",
        ] {
            assert_eq!(url.parse::<ApiUrl>(), Err(NoApiUrl), "{url}");
        }
    }

    #[test]
    fn graphql_is_beside_rest() {
        for (rest, graphql) in [
            ("https://api.github.com", "https://api.github.com/graphql"),
            (
                "https://ghe.example.com/api/v3/",
                "https://ghe.example.com/api/graphql",
            ),
            (
                "http://127.0.0.1:4001/fake",
                "http://127.0.0.1:4001/fake/graphql",
            ),
        ] {
            assert_eq!(rest.parse::<ApiUrl>().unwrap().graphql().as_str(), graphql);
        }
    }

    #[test]
    fn paths_stay_below_the_address_and_links_at_its_origin() {
        let api: ApiUrl = "https://ghe.example.com/api/v3".parse().unwrap();
        let from = api.at("/repos/a/b?page=1").unwrap();
        assert_eq!(
            from.as_str(),
            "https://ghe.example.com/api/v3/repos/a/b?page=1"
        );
        assert_eq!(
            api.follow(&from, "/api/v3/repositories/7").unwrap().path(),
            "/api/v3/repositories/7"
        );
        for elsewhere in [
            "https://evil.example.com/api/v3/repos",
            "http://ghe.example.com/api/v3/repos",
            "https://ghe.example.com:8443/api/v3",
            "https://x@ghe.example.com/api/v3",
            "//evil.example.com/repos",
            "https://[",
        ] {
            assert_eq!(api.follow(&from, elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn the_next_page_is_found_among_other_links() {
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

    #[test]
    fn a_token_is_one_word() {
        assert!(Token::parse("ghp_0123456789abcdef").is_some());
        for none in ["", "two words", "line\nbreak", "é"] {
            assert!(Token::parse(none).is_none(), "{none}");
        }
        assert!(!format!("{:?}", Token::parse("ghp_x").unwrap().header()).contains("ghp_x"));
    }
}
