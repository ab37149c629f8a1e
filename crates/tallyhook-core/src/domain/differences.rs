//! The facts in which two states of a pull request differ.

use super::pull_request::PullRequest;

/// Adds the names of the values that differ: each is computed for both states.
macro_rules! differing {
    ($names:ident, $before:ident, $after:ident, $known:ident: $($name:literal => $value:expr,)*) => {
        $({
            let before = { let $known = $before; $value };
            let after = { let $known = $after; $value };
            if before != after {
                $names.push($name);
            }
        })*
    };
}

impl PullRequest {
    /// Returns the names of the facts in which two states differ, as the API has them where it does.
    pub fn differences(before: &Self, after: &Self) -> Vec<&'static str> {
        let mut names = Vec::new();
        differing! {
            names, before, after, known:
            "github_pr_id" => known.github_id,
            "author" => &known.author,
            "pr_created_at" => known.created_at,
            "updated_at" => known.conversation.as_ref().map(|latest| latest.at),
            "title" => known.conversation.as_ref().map(|latest| &latest.value.title),
            "body" => known.conversation.as_ref().map(|latest| &latest.value.body),
            "html_url" => known.conversation.as_ref().map(|latest| &latest.value.html_url),
            "labels" => known.conversation.as_ref().map(|latest| &latest.value.labels),
            "state" => known.conversation.as_ref().map(|latest| latest.value.open),
            "closed_at" => known.conversation.as_ref().map(|latest| latest.value.closed_at),
            "merged_at" => known.merged_at,
            "draft" => known.branches.as_ref().map(|latest| latest.value.draft),
            "base_ref" => known.branches.as_ref().map(|latest| &latest.value.base_ref),
            "head_ref" => known.branches.as_ref().map(|latest| &latest.value.head_ref),
            "head_sha" => known.branches.as_ref().map(|latest| &latest.value.head_sha),
            "size" => known.diff.as_ref().map(|latest| &latest.value),
            "requested_reviewers" => known.requested.as_ref().map(|latest| &latest.value),
            "details" => known.details.as_ref().map(|latest| &latest.value),
            "merge_state" => known.merge_state.as_ref().map(|latest| &latest.value),
            "commits" => known.commits.as_ref().map(|latest| &latest.value),
            "co_authors" => &known.co_authors,
            "reviews" => &known.reviews,
            "timeline" => &known.timeline,
            "source" => known.source,
        }
        if names.is_empty() && before != after {
            names.push("history");
        }
        names
    }
}
