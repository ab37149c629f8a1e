//! The filters of the list, and the lists that are asked for most.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::columns::CHOICES;
use super::{COLUMNS, of_list};
use crate::api::RepositoryItem;
use crate::dashboard::page::PageRequest;
use crate::dashboard::{filters, waits};

/// The lists that are asked for most: words and their parameters.
const PRESETS: [(&str, &[(&str, &str)]); 6] = [
    ("Needs a first review", &[("reason", "first_review")]),
    ("Nobody asked", &[("reason", "nobody_asked")]),
    ("Approved, not merged", &[("reason", "merge")]),
    (
        "Over 3 days with its author",
        &[
            ("waiting_for", "author"),
            ("draft", "false"),
            ("waited_min", "3d"),
        ],
    ),
    ("Mine", &[("waiting_on", "me")]),
    (
        "Merged without review",
        &[
            ("state", "merged"),
            ("flag", "merged_without_review"),
            ("counted", "true"),
        ],
    ),
];

/// The parameters without a field, which the form keeps.
const KEPT: [&str; 6] = [
    "waiting_for",
    "missing",
    "excluded",
    "closed_from",
    "closed_to",
    "clock",
];

pub(super) fn presets(page: &PageRequest) -> Markup {
    let has_login = page.caller.login.is_some();
    let shown = PRESETS
        .iter()
        .filter(|(_, query)| has_login || *query != [("waiting_on", "me")]);
    html! {
        div .actions role="group" aria-label="Lists" {
            @for (words, query) in shown {
                @let is_current = is_exactly(page, query);
                a href=(page.links.to("/prs", query.iter().copied()))
                    aria-current=[is_current.then_some("true")] { (words) }
            }
        }
    }
}

pub(super) fn filters(page: &PageRequest, found: &[RepositoryItem]) -> Markup {
    let repositories = filters::repositories(found);
    let mut reasons = vec![("", "Anything")];
    reasons.extend(waits::REASONS.map(|reason| (reason.as_str(), waits::reason(reason))));
    let fields = html! {
        (filters::input(page, "q", "Search", "search"))
        (filters::select(page, "state", "State", &[
            ("", "All"), ("open", "Open"), ("merged", "Merged"),
            ("closed_unmerged", "Closed without a merge"), ("closed", "Closed or merged"),
        ]))
        (filters::select(page, "reason", "Waits for", &reasons))
        (filters::input(page, "waiting_on", "On login, me or github_team:…", "text"))
        (filters::select(page, "repo", "Repository", &repositories))
        (filters::input(page, "merged_from", "Merged from", "text"))
        (filters::input(page, "merged_to", "Merged before", "text"))
        (filters::select(page, "sort", "Sort", &SORTS))
        (more(page))
        (filters::kept(page, &KEPT))
    };
    filters::form(page, "/prs", &fields)
}

const SORTS: [(&str, &str); 13] = [
    ("", "What fits"),
    ("waiting", "Waiting"),
    ("updated", "Updated"),
    ("created", "Created"),
    ("merged", "Merged"),
    ("closed", "Closed"),
    ("cycle", "Cycle time"),
    ("review_time", "Review time"),
    ("coding", "Coding"),
    ("pickup", "Pickup"),
    ("review", "Review"),
    ("merge_wait", "Merge wait"),
    ("redraft", "Redraft"),
];

const FLAGS: [(&str, &str); 12] = [
    ("", "Any"),
    ("merged_without_review", "Merged without review"),
    ("merged_without_approval", "Merged without approval"),
    (
        "merged_with_changes_requested",
        "Merged with changes requested",
    ),
    ("reviewed_in_draft", "Reviewed in draft"),
    ("pushed_after_approval", "Pushed after approval"),
    ("merged_as_draft", "Merged as draft"),
    ("reopened", "Reopened"),
    ("clock_skew", "Clock skew"),
    ("history_incomplete", "History incomplete"),
    ("truncated", "Truncated"),
    ("stub", "Stub"),
];

/// The parameters of [`more`].
const MORE: [&str; 14] = [
    "stage",
    "min_hours",
    "max_hours",
    "order",
    "flag",
    "authors",
    "draft",
    "waited_min",
    "waited_max",
    "from",
    "to",
    "counted",
    "author",
    "label",
];

/// Returns the fields that few lists need, out of the way unless the address has one of them.
fn more(page: &PageRequest) -> Markup {
    let columns = CHOICES.map(|(name, words, _)| (name, words));
    let is_used = MORE.iter().any(|name| page.parameter(name).is_some());
    html! {
        details open[is_used] {
            summary { "More filters" }
            div .filters {
                (filters::select(page, "stage", "Stage", &STAGES))
                (filters::input(page, "min_hours", "From hours", "number"))
                (filters::input(page, "max_hours", "Below hours", "number"))
                (filters::select(page, "flag", "Flag", &FLAGS))
                (filters::input(page, "author", "Author", "text"))
                (filters::select(page, "authors", "Authors", &AUTHORS))
                (filters::input(page, "label", "Label", "text"))
                (filters::select(page, "draft", "Drafts", &DRAFTS))
                (filters::input(page, "waited_min", "Waiting at least", "text"))
                (filters::input(page, "waited_max", "Waiting less than", "text"))
                (filters::input(page, "from", "Updated from", "text"))
                (filters::input(page, "to", "Updated before", "text"))
                (filters::select(page, "order", "Order", &[("", "Largest, newest"), ("asc", "Smallest, oldest")]))
                (filters::check(page, "counted", "Only those that numbers count"))
                (filters::multi(page, COLUMNS, "Columns", &columns))
            }
        }
    }
}

const STAGES: [(&str, &str); 9] = [
    ("", "Any"),
    ("cycle", "Cycle time"),
    ("review_time", "Review time"),
    ("coding", "Coding"),
    ("pickup", "Pickup"),
    ("review", "Review"),
    ("merge_wait", "Merge wait"),
    ("redraft", "Redraft"),
    ("closed", "Closed"),
];

const AUTHORS: [(&str, &str); 5] = [
    ("", "All"),
    ("human", "People"),
    ("agent", "AI agents"),
    ("automation", "Automation"),
    ("bot", "Both kinds of bots"),
];

const DRAFTS: [(&str, &str); 3] = [
    ("", "With drafts"),
    ("false", "No drafts"),
    ("true", "Only drafts"),
];

/// Returns true if the list has these parameters and no other.
fn is_exactly(page: &PageRequest, query: &[(&str, &str)]) -> bool {
    let given: BTreeSet<_> = of_list(page).collect();
    given == query.iter().copied().collect()
}
