//! The base URL of GitHub's web site: its pages, and the endpoints of OAuth.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;

use super::base_url::{ApiUrl, InvalidApiUrl};

/// The base URL of a GitHub's web site: `https://github.com`, `https://SUB.ghe.com`, or that of an
/// Enterprise Server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl(Url);

impl FromStr for WebUrl {
    type Err = InvalidApiUrl;

    fn from_str(text: &str) -> Result<Self, InvalidApiUrl> {
        // The rules for the address of an API hold for that of the web site.
        text.parse::<ApiUrl>().map(|url| Self(url.into_url()))
    }
}

impl WebUrl {
    /// Derives the web site from the address of its API: `api.github.com` belongs to `github.com`,
    /// `api.SUB.ghe.com` to `SUB.ghe.com`, and an Enterprise Server has its API below `/api/v3`.
    /// `None` of any other address, which may be a proxy's; one on this machine is both.
    pub(crate) fn of_api(api: &Url) -> Option<Self> {
        let mut web = api.clone();
        let host = api.host_str()?;
        if let Some(site) = host
            .strip_prefix("api.")
            .filter(|site| *site == "github.com" || site.ends_with(".ghe.com"))
        {
            web.set_host(Some(site)).ok()?;
            web.set_path("/");
            return Some(Self(web));
        }
        let path = api.path().trim_end_matches('/');
        if let Some(prefix) = path.strip_suffix("/api/v3") {
            web.set_path(&format!("{prefix}/"));
            return Some(Self(web));
        }
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let is_this_machine =
            host == "localhost" || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        is_this_machine.then_some(Self(web))
    }

    /// Returns the address of `path`, which begins with a slash.
    pub(crate) fn at(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
        url
    }

    /// Returns the origin, such as `https://github.com`, for a policy that admits its forms.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Returns `link` if it is a page of this web site, so that it is safe to show as a link.
    pub fn page(&self, link: &str) -> Option<Url> {
        let url = Url::parse(link).ok()?;
        let is_page = url.origin() == self.0.origin()
            && ["http", "https"].contains(&url.scheme())
            && url.username().is_empty()
            && url.password().is_none();
        is_page.then_some(url)
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_site_is_derived_from_the_address_of_its_api() {
        for (api, web) in [
            ("https://api.github.com", Some("https://github.com")),
            ("https://api.acme.ghe.com/", Some("https://acme.ghe.com")),
            (
                "https://ghe.example.com/api/v3",
                Some("https://ghe.example.com"),
            ),
            (
                "https://ghe.example.com:8443/api/v3/",
                Some("https://ghe.example.com:8443"),
            ),
            (
                "https://example.com/git/api/v3",
                Some("https://example.com/git"),
            ),
            ("http://127.0.0.1:4001", Some("http://127.0.0.1:4001")),
            ("http://localhost:4001", Some("http://localhost:4001")),
            ("http://[::1]:4001/api/v3", Some("http://[::1]:4001")),
            ("https://api.github.com.evil.example", None),
            ("https://cache.example.com/github", None),
            ("https://api.ghe.example.com", None),
        ] {
            let api: ApiUrl = api.parse().unwrap();
            assert_eq!(api.web().map(WebUrl::to_string).as_deref(), web, "{api}");
        }
    }

    #[test]
    fn configured_web_site_takes_precedence_over_the_derived_one() {
        let web: WebUrl = "https://git.example.com/".parse().unwrap();
        let api: ApiUrl = "https://cache.example.com/github".parse().unwrap();
        let api = api.with_web(web);
        assert_eq!(api.web().unwrap().to_string(), "https://git.example.com");
        assert_eq!(
            api.web().unwrap().at("/login/oauth/authorize").as_str(),
            "https://git.example.com/login/oauth/authorize"
        );
        for wrong in ["git.example.com", "https://me:secret@host", "ftp://host"] {
            assert!(wrong.parse::<WebUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn page_is_of_the_web_site_itself() {
        let web: WebUrl = "https://github.com".parse().unwrap();
        let link = "https://github.com/orgs/acme/sso?authorization_request=A";
        assert_eq!(web.page(link).unwrap().as_str(), link);
        for elsewhere in [
            "https://api.github.com/sso",
            "http://github.com/sso",
            "https://github.com:8443/sso",
            "https://github.com@evil.example.com/sso",
            "https://me@github.com/sso",
            "https://github.com.evil.example/sso",
            "javascript:alert(1)",
            "/sso",
        ] {
            assert_eq!(web.page(elsewhere), None, "{elsewhere}");
        }
    }
}
