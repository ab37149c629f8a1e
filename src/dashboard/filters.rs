//! The form of a page's filters: plain fields that become the query of its address.

use maud::{Markup, html};

use super::page::PageRequest;
use crate::api::RepositoryItem;

/// Returns a form that asks for this page's path with its fields.
pub(super) fn form(page: &PageRequest, path: &str, fields: &Markup) -> Markup {
    let address = page.links.path(path);
    html! {
        form .filters method="get" action=(address) {
            (fields)
            button { "Show" }
            @if page.has_parameters() { a href=(address) { "Clear" } }
        }
    }
}

/// Returns a choice of one value. Each option is a value and its words; the first is chosen while
/// the address has none, and is best the empty value.
pub(super) fn select(
    page: &PageRequest,
    name: &str,
    label: &str,
    options: &[(&str, &str)],
) -> Markup {
    let chosen = page.parameter(name).unwrap_or_default();
    let is_known = chosen.is_empty() || options.iter().any(|(value, _)| *value == chosen);
    html! {
        label {
            (label)
            select name=(name) {
                @for (value, words) in options {
                    option value=(value) selected[*value == chosen] { (words) }
                }
                // Of a link that was made by hand, or earlier: sent again as it is.
                @if !is_known { option value=(chosen) selected { (chosen) } }
            }
        }
    }
}

/// Returns the choices of [`select`] for one repository or all.
pub(super) fn repositories(found: &[RepositoryItem]) -> Vec<(&str, &str)> {
    let names = found
        .iter()
        .map(|found| (found.repo.as_str(), found.repo.as_str()));
    [("", "All")].into_iter().chain(names).collect()
}

/// Returns a field of this type of HTML, such as `search`, `text`, `date` or `number`.
pub(super) fn input(page: &PageRequest, name: &str, label: &str, kind: &str) -> Markup {
    let value = page.parameter(name);
    let is_number = kind == "number";
    html! {
        label {
            (label)
            input type=(kind) name=(name) value=[value] min=[is_number.then_some("0")]
                step=[is_number.then_some("any")] size=[(!is_number).then_some("14")];
        }
    }
}

/// Returns a box whose parameter is `true` or left out.
pub(super) fn check(page: &PageRequest, name: &str, label: &str) -> Markup {
    let is_checked = page.parameter(name) == Some("true");
    html! {
        label .check {
            input type="checkbox" name=(name) value="true" checked[is_checked];
            (label)
        }
    }
}

/// Returns a choice of several values, which are read with [`PageRequest::values`].
pub(super) fn multi(
    page: &PageRequest,
    name: &str,
    label: &str,
    options: &[(&str, &str)],
) -> Markup {
    let chosen: Vec<_> = page.values(name).collect();
    html! {
        details {
            summary {
                (label) ": "
                @if chosen.is_empty() { "all" } @else { (chosen.len()) " of " (options.len()) }
            }
            fieldset {
                legend .quiet { (label) }
                @for (value, words) in options {
                    label .check {
                        input type="checkbox" name=(name) value=(value) checked[chosen.contains(value)];
                        bdi { (words) }
                    }
                }
            }
        }
    }
}

/// Returns hidden fields that keep parameters which the form does not show.
pub(super) fn kept(page: &PageRequest, names: &[&str]) -> Markup {
    html! {
        @for name in names {
            @if let Some(value) = page.parameter(name) {
                input type="hidden" name=(name) value=(value);
            }
        }
    }
}
