//! Lists in pages.

use std::collections::BTreeSet;

use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;

use super::Result;
use super::attempt::SSO;
use super::client::Client;
use super::error::GithubError;
use super::request::{ApiRequest, RequestAccess};
use super::response::{next_page, parse_json, unexpected};

/// A list in pages, each of which links to the next.
pub struct PagedList<'a> {
    client: &'a Client,
    access: RequestAccess,
    next: Option<Url>,
    missing_sso: BTreeSet<i64>,
    names_scopes: bool,
}

impl Client {
    /// Returns the list at `path`, of which nothing is fetched yet.
    ///
    /// # Errors
    /// If `path` leads away from the API.
    pub fn pages(&self, path: &str) -> Result<PagedList<'_>> {
        Ok(PagedList {
            client: self,
            access: self.access(path),
            next: Some(self.transport().url(path)?),
            missing_sso: BTreeSet::new(),
            names_scopes: false,
        })
    }
}

impl PagedList<'_> {
    /// Fetches the next page. Returns `None` after the last.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do. The next call fetches the same page again.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>> {
        self.next_page().await
    }

    /// Returns the ids of the organizations that the pages so far left out, since they want single
    /// sign-on first.
    pub fn missing_sso(&self) -> &BTreeSet<i64> {
        &self.missing_sso
    }

    /// Returns whether GitHub names the scopes of the token, as it does not of a fine-grained one.
    pub(crate) fn names_scopes(&self) -> bool {
        self.names_scopes
    }

    /// Fetches the next page, of which the list may be a part only. Returns `None` after the last.
    ///
    /// # Errors
    /// As of [`PagedList::next`].
    pub(crate) async fn next_page<P: DeserializeOwned>(&mut self) -> Result<Option<P>> {
        let Some(url) = self.next.clone() else {
            return Ok(None);
        };
        let request = ApiRequest::get(self.access.clone());
        let response = self.client.execute(request, url).await?;
        let page = parse_json(response.url.path(), &response.body)?;
        self.missing_sso.extend(missing_sso(&response.headers));
        self.names_scopes |= response.headers.contains_key("x-oauth-scopes");
        self.next = match next_page(&response.headers) {
            Some(link) => Some(self.follow(&response.url, link)?),
            None => None,
        };
        Ok(Some(page))
    }

    fn follow(&self, from: &Url, link: &str) -> Result<Url, GithubError> {
        let api = &self.client.transport().api;
        let next = api
            .follow(from, link)
            .ok_or_else(|| unexpected(from, "its next page is at another origin"))?;
        if next == *from {
            Err(unexpected(from, "its next page is itself"))
        } else {
            Ok(next)
        }
    }
}

/// Returns the ids of organizations that a page lacks, from a header such as
/// `partial-results; organizations=21955855,20582480`.
fn missing_sso(headers: &HeaderMap) -> Vec<i64> {
    let header = headers.get(SSO).and_then(|value| value.to_str().ok());
    let Some((kind, rest)) = header.and_then(|header| header.split_once(';')) else {
        return Vec::new();
    };
    let ids = rest
        .split(';')
        .find_map(|part| part.trim().strip_prefix("organizations="));
    match ids.filter(|_| kind.trim() == "partial-results") {
        Some(ids) => ids.split(',').flat_map(|id| id.trim().parse()).collect(),
        None => Vec::new(),
    }
}
