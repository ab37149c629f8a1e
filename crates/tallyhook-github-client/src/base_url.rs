//! The base URL of GitHub's API, and the addresses that belong to it.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use tallyhook_core::github::host::GithubHost;

use super::web_url::WebUrl;

/// The base URL of GitHub's REST API: `https://api.github.com`, or `https://HOST/api/v3` of an
/// Enterprise Server. With it goes the web site that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiUrl {
    api: Url,
    web: Option<WebUrl>,
}

/// An address that is no `http://` or `https://` URL, or has more than host, port and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidApiUrl;

impl FromStr for ApiUrl {
    type Err = InvalidApiUrl;

    fn from_str(text: &str) -> Result<Self, InvalidApiUrl> {
        let url = Url::parse(text.trim_end_matches('/')).map_err(|_| InvalidApiUrl)?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.has_host();
        if !["http", "https"].contains(&url.scheme()) || !is_plain {
            return Err(InvalidApiUrl);
        }
        let web = WebUrl::of_api(&url);
        Ok(Self { api: url, web })
    }
}

impl ApiUrl {
    /// Returns the address of `path`, which begins with a slash and may have a query.
    pub(crate) fn at(&self, path: &str) -> Option<Url> {
        let base = self.api.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}{path}"))
            .ok()
            .filter(|url| self.contains(url))
    }

    /// Returns the address of GraphQL: beside REST, which has a version in its path on an
    /// Enterprise Server.
    pub(crate) fn graphql(&self) -> Url {
        let mut url = self.api.clone();
        let path = url.path().trim_end_matches('/');
        url.set_path(&format!(
            "{}/graphql",
            path.strip_suffix("/v3").unwrap_or(path)
        ));
        url
    }

    /// Resolves `link`, relative to `from`. Returns `None` if scheme, host or port differ: the
    /// token is sent nowhere else.
    pub(crate) fn follow(&self, from: &Url, link: &str) -> Option<Url> {
        from.join(link).ok().filter(|url| self.contains(url))
    }

    /// Returns the GitHub that this is the API of, where the address says so: that of github.com, of
    /// a tenant of GHE.com, or `/api/v3` of an Enterprise Server. Any other may be a proxy's.
    pub fn github(&self) -> Option<GithubHost> {
        let name = self.api.domain()?;
        let is_cloud =
            name == "api.github.com" || (name.starts_with("api.") && name.ends_with(".ghe.com"));
        let is_server = self.api.path().trim_end_matches('/') == "/api/v3" && name != "localhost";
        (is_cloud || is_server).then(|| GithubHost::parse(name))?
    }

    /// Returns the web site that belongs to this API; `None` where its address does not say which,
    /// and none is configured.
    pub fn web(&self) -> Option<&WebUrl> {
        self.web.as_ref()
    }

    /// Returns the same API with a configured web site.
    #[must_use]
    pub fn with_web(self, web: WebUrl) -> Self {
        Self {
            web: Some(web),
            ..self
        }
    }

    /// Returns `link` if it is a page of the web site that belongs to this API, so that it is safe
    /// to show as a link.
    pub(crate) fn web_page(&self, link: &str) -> Option<Url> {
        self.web.as_ref()?.page(link)
    }

    pub(crate) fn into_url(self) -> Url {
        self.api
    }

    fn contains(&self, url: &Url) -> bool {
        url.origin() == self.api.origin() && url.username().is_empty() && url.password().is_none()
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.api.origin().ascii_serialization())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_url_is_http_with_host_and_path_only() {
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
            assert_eq!(url.parse::<ApiUrl>(), Err(InvalidApiUrl), "{url}");
        }
    }

    #[test]
    fn graphql_url_is_beside_rest() {
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
    fn address_says_which_github_it_is_of() {
        for (api, host) in [
            ("https://api.github.com", Some("github.com")),
            ("https://api.acme.ghe.com/", Some("acme.ghe.com")),
            ("https://GHE.example.com/api/v3/", Some("ghe.example.com")),
            ("https://cache.example.com/github", None),
            ("http://127.0.0.1:4001/api/v3", None),
            ("http://localhost/api/v3", None),
        ] {
            let github = api.parse::<ApiUrl>().unwrap().github();
            assert_eq!(github.as_ref().map(GithubHost::as_str), host, "{api}");
        }
    }

    #[test]
    fn paths_stay_below_the_base_url_and_links_at_its_origin() {
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
    fn web_page_is_of_the_site_that_belongs_to_the_api() {
        for (api, link) in [
            (
                "https://api.github.com",
                "https://github.com/orgs/acme/sso?authorization_request=A",
            ),
            (
                "https://api.acme.ghe.com",
                "https://acme.ghe.com/orgs/acme/sso",
            ),
            (
                "https://ghe.example.com/api/v3",
                "https://ghe.example.com/orgs/acme/sso",
            ),
        ] {
            let api: ApiUrl = api.parse().unwrap();
            assert_eq!(api.web_page(link).unwrap().as_str(), link);
        }
        let api: ApiUrl = "https://api.github.com".parse().unwrap();
        for elsewhere in [
            "https://api.github.com/sso",
            "http://github.com/sso",
            "https://github.com:8443/sso",
            "https://github.com@evil.example.com/sso",
            "https://me@github.com/sso",
            "https://evil.example.com/sso",
            "javascript:alert(1)",
            "/sso",
        ] {
            assert_eq!(api.web_page(elsewhere), None, "{elsewhere}");
        }
    }
}
