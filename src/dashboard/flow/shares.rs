//! The shares of merged pull requests that skipped a step, and those that do not count.

use maud::{Markup, html};

use super::super::page::PageRequest;
use super::super::words;
use super::FlowFilter;
use crate::api::Summary;

/// The flags that are shown as shares.
const SHARES: [(&str, &str); 5] = [
    ("merged_without_review", "without a review"),
    ("merged_without_approval", "without an approval"),
    (
        "merged_with_changes_requested",
        "against a request for changes",
    ),
    ("pushed_after_approval", "pushed to after the approval"),
    ("reviewed_in_draft", "reviewed only as a draft"),
];

pub(super) fn section(page: &PageRequest, filter: &FlowFilter, now: &Summary) -> Markup {
    let closed = now.closed_unmerged.unwrap_or_default();
    let counted = now.counted as u64;
    html! {
        div .columns {
            section #shares {
                h2 { "How they were merged" }
                table {
                    caption .quiet { "Shares of the merged pull requests that count" }
                    thead {
                        tr {
                            th scope="col" { "Merged" }
                            th scope="col" .num { "Pull requests" }
                            th scope="col" .num { "Share" }
                        }
                    }
                    tbody {
                        @for (flag, words) in SHARES {
                            @let count = now.flags.get(flag).copied().unwrap_or_default();
                            tr {
                                th scope="row" { (words) }
                                td .num { (filter.count(page, count, &[("counted", "true"), ("flag", flag)])) }
                                td .num data-n="a share" { (words::share(count, counted)) }
                            }
                        }
                        tr {
                            th scope="row" { "not at all: closed without a merge, of all that ended" }
                            td .num {
                                a href=(filter.closed_unmerged(page)) data-count { (words::grouped(closed)) }
                            }
                            td .num data-n="a share" { (words::share(closed, closed + counted)) }
                        }
                    }
                }
            }
            (excluded(page, filter, now.excluded.iter().map(|(reason, count)| (reason.as_str(), *count))))
        }
    }
}

/// Returns the merged pull requests that do not count, by reason.
pub(in crate::dashboard) fn excluded<'a>(
    page: &PageRequest,
    filter: &FlowFilter,
    reasons: impl Iterator<Item = (&'a str, u64)>,
) -> Markup {
    let reasons: Vec<_> = reasons.collect();
    html! {
        section #excluded {
            h2 { "Merged, and not counted" }
            @if reasons.is_empty() { p { "None: every merged pull request of the period counts." } }
            @else {
                table {
                    caption .quiet { "Merged pull requests that are left out, by the first reason" }
                    thead {
                        tr {
                            th scope="col" { "Because" }
                            th scope="col" .num { "Pull requests" }
                        }
                    }
                    tbody {
                        @for (reason, count) in reasons {
                            tr {
                                th scope="row" { (exclusion_words(reason)) }
                                td .num { (filter.count(page, count, &[("excluded", reason)])) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn exclusion_words(reason: &str) -> &str {
    match reason {
        "agent_author" => "an AI agent made it",
        "bot_author" => "a bot is its author",
        "clock_skew" => "its times cannot be right",
        "merged_as_draft" => "it was merged as a draft",
        "no_calendar" => "its repository has no calendar",
        "stub" => "only parts of it were ever seen",
        other => other,
    }
}
