//! The list of pull requests as SQL that both kinds of database understand, bounded for every
//! filter.

use std::collections::BTreeSet;

use tallyhook_core::domain::timings::PullRequestState;
use tallyhook_core::github::types::{AccountId, PrKey};

use super::{PullRequestFilter, StateFilter};
use crate::columns::{Seconds, storable_text};
use crate::database::StatementBuilder;

/// All columns but the large ones: the description and the timeline.
const LISTED: &str = "SELECT p.repo_id, p.number, r.name AS repo, \
    CASE WHEN r.access = 'granted' AND i.access = 'revoked' THEN 'revoked' \
    ELSE r.access END AS repo_access, \
    github_pr_id, title, author_login, author_is_bot, state, draft, html_url, base_ref, \
    head_ref, head_sha, \
    pr_created_at, p.updated_at, closed_at, merged_at, labels, additions, deletions, \
    changed_files, commits, \
    first_commit_at, ready_at, first_response_at, first_review_at, final_approval_at, \
    cycle_time_s, review_time_s, \
    coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s, \
    business_cycle_time_s, business_review_time_s, business_coding_s, business_pickup_s, \
    business_review_s, business_merge_wait_s, business_redraft_s, business_closed_s, \
    calendar, calendar_zone, calendar_hash, flags, \
    origin, origin_certainty, opened_by, reviewed_by_requester, first_bot_response_at, \
    first_ai_review_at, source, \
    r.last_sync_at, c.checked_at";

const JOINED: &str = "JOIN repositories r ON r.id = p.repo_id LEFT JOIN installations i \
    ON i.id = r.installation_id \
    LEFT JOIN checks c ON c.repo_id = p.repo_id AND c.number = p.number";

const NEWEST_FIRST: &str = "updated_at DESC, repo_id DESC, number DESC";

/// Pull requests that are looked up at once.
pub(super) const KEYS: usize = 100;

/// Pull requests of `filter`, and of `account` alone among those of its author, newest update
/// first, at most `limit`.
///
/// Each state is looked up apart, by an index that has the wanted ones next to each other in this
/// order, and the first of all are taken: no page takes longer than another, wherever in the list
/// it is.
pub(super) fn list(
    filter: &PullRequestFilter,
    account: Option<AccountId>,
    limit: u32,
    is_sqlite: bool,
) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new("WITH page AS (");
    for (place, state) in states(&filter.states).into_iter().enumerate() {
        query.push(if place == 0 { "" } else { " UNION ALL " });
        query.push(
            "SELECT * FROM (SELECT updated_at, repo_id, number FROM pull_requests WHERE state = '",
        );
        query.push(state.as_str()).push("'");
        push_wanted(&mut query, filter, is_sqlite);
        if let Some(account) = account {
            query.push(" AND author_id = ").push_bind(account.0);
        }
        query
            .push(" ORDER BY ")
            .push(NEWEST_FIRST)
            .push(" LIMIT ")
            .push_bind(i64::from(limit));
        query.push(") AS ").push(state.as_str());
    }
    query
        .push(" ORDER BY ")
        .push(NEWEST_FIRST)
        .push(" LIMIT ")
        .push_bind(i64::from(limit))
        .push(") ")
        .push(LISTED);
    query
        .push(
            " FROM page JOIN pull_requests p ON p.repo_id = page.repo_id \
               AND p.number = page.number ",
        )
        .push(JOINED);
    query.push(" ORDER BY page.updated_at DESC, page.repo_id DESC, page.number DESC");
    query
}

/// Pull requests, one at least, as they are listed.
pub(super) fn by_key(keys: &[PrKey]) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new(LISTED);
    push_keys(&mut query, keys);
    query
        .push(JOINED)
        .push(WANTED)
        .push(" AND p.state IS NOT NULL");
    query
}

/// Those of `keys`, one at least, that were fetched from GitHub.
pub(super) fn fetched(keys: &[PrKey]) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new("SELECT p.repo_id, p.number");
    push_keys(&mut query, keys);
    query
        .push(WANTED)
        .push(" AND (p.whole_until IS NOT NULL OR p.truncated_at IS NOT NULL)");
    query
}

/// The condition of [`push_keys`].
const WANTED: &str = " WHERE p.repo_id = wanted.column1 AND p.number = wanted.column2";

/// Looks each key up by itself, in the order in which tables are named: SQLite would read all keys
/// of the table for several in `(repo_id, number) IN (...)`.
fn push_keys(query: &mut StatementBuilder<'_>, keys: &[PrKey]) {
    query.push(" FROM (VALUES ");
    for (place, key) in keys.iter().enumerate() {
        query.push(if place == 0 { "(" } else { ", (" });
        query
            .push_bind(key.repo.0)
            .push(", ")
            .push_bind(key.number.0);
        query.push(")");
    }
    query.push(") AS wanted CROSS JOIN pull_requests p ");
}

fn states(filters: &[StateFilter]) -> BTreeSet<PullRequestState> {
    let of = |filter: &StateFilter| match filter {
        StateFilter::Open => &[PullRequestState::Open][..],
        StateFilter::Closed => &[PullRequestState::Closed, PullRequestState::Merged],
        StateFilter::ClosedUnmerged => &[PullRequestState::Closed],
        StateFilter::Merged => &[PullRequestState::Merged],
    };
    match filters {
        [] => BTreeSet::from([
            PullRequestState::Open,
            PullRequestState::Closed,
            PullRequestState::Merged,
        ]),
        filters => filters.iter().flat_map(of).copied().collect(),
    }
}

/// Compares a name regardless of case, by an index over the first `length` characters in lower case.
/// Names on GitHub are ASCII; a letter that is not has one case, as in SQLite. As everywhere U+FFFD
/// stands for U+0000.
pub(crate) fn push_name(query: &mut StatementBuilder<'_>, column: &str, name: &str, length: usize) {
    let name = storable_text(name).to_ascii_lowercase();
    let beginning: String = name.chars().take(length).collect();
    // Of a short name the beginning is all; to ask twice would let a planner believe that hardly
    // any row is left.
    let longer = beginning.chars().count() == length;
    query
        .push(" AND lower(substr(")
        .push(column)
        .push(&format!(", 1, {length})) = "))
        .push_bind(beginning);
    if longer {
        query
            .push(" AND lower(")
            .push(column)
            .push(") = ")
            .push_bind(name);
    }
}

fn push_wanted(query: &mut StatementBuilder<'static>, filter: &PullRequestFilter, is_sqlite: bool) {
    if let Some(repo) = filter.repo {
        // SQLite knows nothing of how much is in its tables; the plus keeps it from the
        // repository's index, since one author is sure to have fewer.
        let plus = if is_sqlite && filter.author.is_some() {
            "+"
        } else {
            ""
        };
        query
            .push(" AND ")
            .push(plus)
            .push("repo_id = ")
            .push_bind(repo.0);
    }
    if let Some(author) = &filter.author {
        push_name(query, "author_login", author, 100);
    }
    if let Some(from) = filter.from {
        query.push(" AND updated_at >= ").push_bind(Seconds(from));
    }
    if let Some(to) = filter.to {
        query.push(" AND updated_at < ").push_bind(Seconds(to));
    }
    if let Some((updated_at, key)) = filter.after {
        if filter.repo == Some(key.repo) {
            // In the columns of the index over one repository.
            query
                .push(" AND (updated_at, number) < (")
                .push_bind(Seconds(updated_at));
        } else {
            query
                .push(" AND (updated_at, repo_id, number) < (")
                .push_bind(Seconds(updated_at));
            query.push(", ").push_bind(key.repo.0);
        }
        query.push(", ").push_bind(key.number.0).push(")");
    }
}
