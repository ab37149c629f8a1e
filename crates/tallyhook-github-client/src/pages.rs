//! Lists in pages.

use reqwest::Url;
use serde::de::DeserializeOwned;

use super::Result;
use super::client::Client;
use super::error::GithubError;
use super::request::{ApiRequest, RequestAccess};
use super::response::{next_page, parse_json, unexpected};

/// A list in pages, each of which links to the next.
pub struct PagedList<'a> {
    client: &'a Client,
    access: RequestAccess,
    next: Option<Url>,
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
        })
    }
}

impl PagedList<'_> {
    /// Fetches the next page. Returns `None` after the last.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do. The next call fetches the same page again.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>> {
        let Some(url) = self.next.clone() else {
            return Ok(None);
        };
        let request = ApiRequest::get(self.access.clone());
        let response = self.client.execute(request, url).await?;
        let items = parse_json(response.url.path(), &response.body)?;
        self.next = match next_page(&response.headers) {
            Some(link) => Some(self.follow(&response.url, link)?),
            None => None,
        };
        Ok(Some(items))
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
