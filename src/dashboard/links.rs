//! Addresses of pages, in this one place: people and messages keep them.

use tallyhook_core::github::types::PrNumber;

/// The maker of links: below the public address of this server, and to GitHub.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// The path of the public address, without a slash at its end: empty, or such as `/tallyhook`.
    base: String,
    /// The origin of GitHub's pages, such as `https://github.com`.
    github: String,
}

impl Links {
    pub fn new(base: &str, github_host: &str) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            github: format!("https://{github_host}"),
        }
    }

    /// Returns the address of a path of this server, without a query.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Returns the address of a path with a query; parameters without a value are left out.
    pub(super) fn to<'a>(
        &self,
        path: &str,
        query: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> String {
        let query = query_string(query);
        let separator = if query.is_empty() { "" } else { "?" };
        format!("{}{path}{separator}{query}", self.base)
    }

    /// Returns the page of a pull request of a repository, `owner/name`.
    pub(super) fn pull_request(&self, repo: &str, number: PrNumber) -> String {
        format!("{}/repos/{}/prs/{}", self.base, escaped(repo), number.0)
    }

    /// Returns the page of a repository, `owner/name`.
    pub(super) fn repository(&self, repo: &str) -> String {
        format!("{}/repos/{}", self.base, escaped(repo))
    }

    /// Returns an address below the page of a repository, such as `sync`.
    pub(super) fn of_repository(&self, repo: &str, action: &str) -> String {
        format!("{}/{action}", self.repository(repo))
    }

    /// Returns the page of a backfill.
    pub(super) fn sync_run(&self, id: i64) -> String {
        format!("{}/sync-runs/{id}", self.base)
    }

    /// Returns the page of a task by its key or id.
    pub(super) fn task(&self, id: &str) -> String {
        format!("{}/tasks/{}", self.base, escaped(id))
    }

    /// Returns GitHub's page of a pull request. It is made of the names, never of an address that
    /// a payload has.
    pub(super) fn on_github(&self, repo: &str, number: PrNumber) -> String {
        format!("{}/{}/pull/{}", self.github, escaped(repo), number.0)
    }
}

/// Returns the query string of these parameters; those without a value are left out.
pub(super) fn query_string<'a>(query: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(query.into_iter().filter(|(_, value)| !value.is_empty()));
    text.finish()
}

/// Returns `owner/name` with everything but the slash between them escaped.
fn escaped(repo: &str) -> String {
    let part =
        |part: &str| -> String { form_urlencoded::byte_serialize(part.as_bytes()).collect() };
    match repo.split_once('/') {
        Some((owner, name)) => format!("{}/{}", part(owner), part(name)),
        None => part(repo),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_below_the_public_address_and_escape_what_they_name() {
        let links = Links::new("/tallyhook/", "github.com");
        let query = [("repo", "acme/web"), ("author", ""), ("q", "a&b=c")];
        assert_eq!(
            links.to("/prs", query),
            "/tallyhook/prs?repo=acme%2Fweb&q=a%26b%3Dc"
        );
        assert_eq!(
            links.pull_request("acme/we?b", PrNumber(7)),
            "/tallyhook/repos/acme/we%3Fb/prs/7"
        );
        assert_eq!(Links::new("/", "github.com").to("/prs", []), "/prs");
        assert_eq!(
            Links::new("", "github.example.com").on_github("javascript:alert(1)", PrNumber(1)),
            "https://github.example.com/javascript%3Aalert%281%29/pull/1"
        );
    }
}
