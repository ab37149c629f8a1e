//! The rows that aggregates are worked out from, as SQL that both kinds of database understand: in
//! the order of an index that has all of their columns.

use tallyhook_core::domain::metrics::AuthorFilter;
use tallyhook_core::domain::timings::PullRequestState;
use tallyhook_core::github::types::{RepoId, Timestamp};

use super::AggregateFilter;
use super::row::{keyed_columns, merged_columns};
use crate::columns::Seconds;
use crate::database::StatementBuilder;
use crate::team_store::TeamScope;

/// Merged pull requests of the filter, in the order of their merges.
pub(super) fn merged_in(filter: &AggregateFilter, scope: TeamScope) -> StatementBuilder<'static> {
    ordered_merged(merged_columns(filter.clock), filter, scope)
}

/// The same with their keys.
pub(super) fn keyed_in(filter: &AggregateFilter, scope: TeamScope) -> StatementBuilder<'static> {
    ordered_merged(&keyed_columns(filter.clock), filter, scope)
}

fn ordered_merged(
    columns: &str,
    filter: &AggregateFilter,
    scope: TeamScope,
) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new(format!("SELECT {columns} FROM pull_requests"));
    push_index(&mut query, merged_index(filter.repo, scope), scope);
    query.push(" WHERE state = 'merged' AND merged_at IS NOT NULL");
    push_scope(&mut query, filter.repo, scope);
    push_range(&mut query, "merged_at", filter);
    query.push(" ORDER BY merged_at");
    query
}

/// Returns the index that has the merged pull requests, by repository or of all, by the merge.
pub(super) const fn merged_index(repo: Option<RepoId>, scope: TeamScope) -> &'static str {
    match repo.is_some() || scope.is_by_repository() {
        true => "pull_requests_merged_by_repository",
        false => "pull_requests_merged",
    }
}

/// Adds the condition that a merged or open pull request is of the scope. With a repository that one
/// is checked; else rows are looked up by repository where [`merged_index`] says so.
pub(super) fn push_scope(
    query: &mut StatementBuilder<'static>,
    repo: Option<RepoId>,
    scope: TeamScope,
) {
    match repo {
        Some(repo) => scope.push_repository(query, repo),
        None if scope.is_by_repository() => scope.push_lookup(query, "repo_id"),
        None => scope.push(query, "repo_id"),
    }
}

/// Counts pull requests of the filter's authors that were closed without a merge in its range.
pub(super) fn closed_in(filter: &AggregateFilter, scope: TeamScope) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new("SELECT count(*) FROM pull_requests");
    push_index(&mut query, "pull_requests_closed", scope);
    query.push(" WHERE state = 'closed'");
    scope.push(&mut query, "repo_id");
    query.push(by_authors(filter.authors));
    push_range(&mut query, "closed_at", filter);
    query
}

/// Counts merged pull requests of the filter's authors that have no time of their merge, since no
/// payload had one that can be; in the range by their last update.
pub(super) fn undated_in(filter: &AggregateFilter, scope: TeamScope) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new("SELECT count(*) FROM pull_requests");
    push_index(&mut query, "pull_requests_undated_merges", scope);
    query.push(" WHERE state = 'merged' AND merged_at IS NULL");
    scope.push(&mut query, "repo_id");
    query.push(by_authors(filter.authors));
    push_range(&mut query, "updated_at", filter);
    query
}

/// Pull requests in that state that were created in the range of the filter.
///
/// None ends before it was created, so that the indices by the end lead to all of them, and no
/// write has to keep another.
pub(super) fn cohort_of(
    filter: &AggregateFilter,
    state: PullRequestState,
    scope: TeamScope,
) -> StatementBuilder<'static> {
    let is_sqlite = scope.is_sqlite();
    let (created_at, ended_at, first_review_at, index) = match (state, is_sqlite) {
        // The index has what both are computed from.
        (PullRequestState::Merged, true) => (
            "merged_at - cycle_time_s",
            "merged_at",
            "merged_at - cycle_time_s + review_time_s",
            merged_index(filter.repo, scope),
        ),
        (PullRequestState::Merged, false) => (
            "merged_at - cycle_time_s * interval '1 second'",
            "merged_at",
            "merged_at - (cycle_time_s - review_time_s) * interval '1 second'",
            merged_index(filter.repo, scope),
        ),
        (PullRequestState::Closed, _) => (
            "pr_created_at",
            "closed_at",
            "first_review_at",
            "pull_requests_closed",
        ),
        (PullRequestState::Open, _) => (
            "pr_created_at",
            "NULL",
            "first_review_at",
            match filter.repo.is_some() || scope.is_by_repository() {
                true => "pull_requests_by_repository",
                false => "pull_requests_by_state",
            },
        ),
    };
    let ended_column = match state {
        PullRequestState::Open => "updated_at",
        _ => ended_at,
    };
    let ended_at = match (state, is_sqlite) {
        (PullRequestState::Open, true) => "CAST(NULL AS INTEGER)",
        (PullRequestState::Open, false) => "NULL::timestamptz",
        _ => ended_at,
    };
    let mut query = StatementBuilder::new(format!(
        "SELECT {created_at} AS pr_created_at, {ended_at} AS ended_at, \
         {first_review_at} AS first_review_at, author_is_bot, origin, flags FROM pull_requests"
    ));
    push_index(&mut query, index, scope);
    query
        .push(" WHERE state = '")
        .push(state.as_str())
        .push("'");
    match state {
        PullRequestState::Closed => scope.push(&mut query, "repo_id"),
        PullRequestState::Merged | PullRequestState::Open => {
            push_scope(&mut query, filter.repo, scope);
        }
    }
    if state == PullRequestState::Merged {
        query.push(" AND cycle_time_s >= 0");
    }
    if let Some(from) = filter.from {
        push_bound(&mut query, ended_column, ">=", from);
    }
    push_range(&mut query, created_at, filter);
    query
}

/// Returns the condition that [`AuthorFilter::admits`] is.
pub(super) const fn by_authors(authors: AuthorFilter) -> &'static str {
    match authors {
        AuthorFilter::Human => " AND NOT author_is_bot AND coalesce(origin, '') <> 'agent'",
        AuthorFilter::Agent => " AND origin = 'agent'",
        AuthorFilter::Automation => " AND author_is_bot AND coalesce(origin, '') <> 'agent'",
        AuthorFilter::Bot => " AND (author_is_bot OR coalesce(origin, '') = 'agent')",
        AuthorFilter::All => "",
    }
}

/// Names the index to SQLite, which knows nothing of how much is in its tables and would take
/// another.
pub(super) fn push_index(query: &mut StatementBuilder<'static>, index: &str, scope: TeamScope) {
    if scope.is_sqlite() {
        query.push(" INDEXED BY ").push(index);
    }
}

fn push_range(query: &mut StatementBuilder<'static>, column: &str, filter: &AggregateFilter) {
    if let Some(repo) = filter.repo {
        query.push(" AND repo_id = ").push_bind(repo.0);
    }
    if let Some(from) = filter.from {
        push_bound(query, column, ">=", from);
    }
    if let Some(to) = filter.to {
        push_bound(query, column, "<", to);
    }
}

fn push_bound(
    query: &mut StatementBuilder<'static>,
    column: &str,
    comparison: &str,
    at: Timestamp,
) {
    query
        .push(" AND ")
        .push(column)
        .push(" ")
        .push(comparison)
        .push(" ")
        .push_bind(Seconds(at));
}
