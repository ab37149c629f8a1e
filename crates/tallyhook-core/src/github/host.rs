//! The host of a GitHub. Ids are unique within one GitHub alone.

use std::fmt;

/// The host of a GitHub's web pages, in lower case and without a port: `github.com`,
/// `SUBDOMAIN.ghe.com`, or that of an Enterprise Server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GithubHost(String);

impl GithubHost {
    /// The longest name of a host.
    const LONGEST: usize = 253;

    /// Reads a host as headers and addresses name it. The one of an API stands for its GitHub's;
    /// `None` if it cannot be a host's name.
    pub fn parse(host: &str) -> Option<Self> {
        let name = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let name = name.split_once(':').map_or(name, |(name, _)| name);
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || name.len() > Self::LONGEST || !name.bytes().all(is_letter) {
            return None;
        }
        Some(Self(match name.strip_prefix("api.") {
            Some(site) if site == "github.com" || site.ends_with(".ghe.com") => site.to_owned(),
            _ => name,
        }))
    }

    /// Reads the host of the address of a page or of an API.
    pub fn of_address(address: &str) -> Option<Self> {
        let (_, rest) = address.split_once("://")?;
        Self::parse(rest.split(['/', '?', '#']).next()?)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GithubHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_that_of_the_pages() {
        for (address, host) in [
            ("https://github.com/acme/api/pull/1", Some("github.com")),
            ("https://api.GitHub.com/repos/acme/api", Some("github.com")),
            ("https://api.acme.ghe.com", Some("acme.ghe.com")),
            ("https://api.ghe.example/x", Some("api.ghe.example")),
            ("http://ghe.example:8443?x", Some("ghe.example")),
            ("https://me@ghe.example./x", Some("ghe.example")),
            ("https:///x", None),
            ("https://gh\u{1b}e.example/", None),
            ("github.com/acme", None),
            ("", None),
        ] {
            let parsed = GithubHost::of_address(address);
            assert_eq!(parsed.as_ref().map(GithubHost::as_str), host, "{address}");
        }
    }
}
