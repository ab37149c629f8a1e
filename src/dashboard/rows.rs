//! Links to lists of pull requests that have exactly as many rows as a number says.

use maud::{Markup, html};

use super::links::{Links, query_string};
use super::words;

/// The query of a list, which the page of the list and the call of the API both read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RowsQuery(Vec<(&'static str, String)>);

impl RowsQuery {
    /// Adds a parameter; one without a value is left out.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((name, value));
        }
        self
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Returns the query string of the call.
    pub(super) fn call(&self) -> String {
        query_string(self.pairs())
    }

    /// Returns the address of the list.
    pub(super) fn list(&self, links: &Links) -> String {
        self.address(links, "/prs")
    }

    /// Returns the address of another page with this query.
    pub(super) fn address(&self, links: &Links, path: &str) -> String {
        links.to(path, self.pairs())
    }

    /// Returns a number as a link to the list that has as many rows.
    pub(super) fn count(&self, links: &Links, number: u64) -> Markup {
        html! { a href=(self.list(links)) data-count { (words::grouped(number)) } }
    }
}
