//! The table of addresses of pages, which the tests here and those in a browser go through.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::http::Method;
use tallyhook::dashboard::page_calls;

/// The addresses to look at, for each path of a page. Files of pages have none: they are loaded
/// with each page.
const TABLE: &str = include_str!("../../browser/pages.json");
/// The only path that may have no address.
const FILES: &str = "/assets/{digest}/{name}";

/// Returns the paths of pages with their addresses.
pub(super) fn pages() -> BTreeMap<String, Vec<String>> {
    serde_json::from_str(TABLE).unwrap()
}

/// Returns every address of the table.
pub(super) fn addresses() -> Vec<String> {
    pages().into_values().flatten().collect()
}

/// Returns true if an address is one of a path such as `/repos/{owner}/{repo}`.
pub(super) fn fits(path: &str, address: &str) -> bool {
    let address = address.split(['?', '#']).next().unwrap();
    let (parts, found): (Vec<_>, Vec<_>) =
        (path.split('/').collect(), address.split('/').collect());
    let mut pairs = parts.iter().zip(&found);
    parts.len() == found.len()
        && pairs.all(|(part, found)| match part.split_once('{') {
            None => part == found,
            Some((before, rest)) => {
                let (_, after) = rest.split_once('}').unwrap();
                found.len() > before.len() + after.len()
                    && found.starts_with(before)
                    && found.ends_with(after)
            }
        })
}

#[test]
fn every_page_has_addresses_to_look_at() {
    let paths: BTreeSet<_> = page_calls()
        .into_iter()
        .filter(|call| call.method == Method::GET)
        .map(|call| call.path.to_owned())
        .collect();
    let table = pages();
    let known: BTreeSet<_> = table.keys().cloned().collect();
    assert_eq!(
        known, paths,
        "tests/browser/pages.json has other paths than the dashboard"
    );
    for (path, addresses) in table {
        assert_eq!(addresses.is_empty(), path == FILES, "{path}");
        for address in addresses {
            assert!(fits(&path, &address), "{address} is none of {path}");
        }
    }
}
