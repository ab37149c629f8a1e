//! The list of pull requests as SQL that both kinds of database understand, bounded for every
//! filter.

use std::collections::BTreeSet;

use tallyhook_core::domain::timings::PullRequestState;
use tallyhook_core::github::types::{AccountId, PrKey, Timestamp};

use super::conditions::{push_details, push_ranges, push_waiting, push_wanted};
use super::filter::duration_column;
use super::{DetailFilter, ListOrder, ListPlace, PullRequestFilter, SortKey, StateFilter};
use crate::columns::Seconds;
use crate::database::StatementBuilder;
use crate::team_store::TeamScope;

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
    coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s, flags, source, definition, \
    business_cycle_time_s, business_review_time_s, business_coding_s, business_pickup_s, \
    business_review_s, business_merge_wait_s, business_redraft_s, business_closed_s, \
    calendar, calendar_zone, calendar_hash, \
    waiting, turn, turn_since, time_by, turns_inferred, \
    CASE WHEN p.waiting_rule IN (11, 12) THEN (\
        SELECT min(b.number) FROM pull_requests b WHERE b.state = 'open' \
        AND b.repo_id = p.repo_id AND b.head_ref = p.base_ref AND b.head_repo_id = p.repo_id \
        AND b.number <> p.number) END AS held_by, \
    origin, origin_certainty, opened_by, reviewed_by_requester, first_bot_response_at, \
    first_ai_review_at, \
    r.last_sync_at, c.checked_at";

const JOINED: &str = "JOIN repositories r ON r.id = p.repo_id LEFT JOIN installations i \
    ON i.id = r.installation_id \
    LEFT JOIN checks c ON c.repo_id = p.repo_id AND c.number = p.number";

/// Pull requests that are looked up at once.
pub(super) const KEYS: usize = 100;

/// The pull requests that a condition may look at before a page ends.
pub const LOOKED_AT: u32 = 20_000;
/// The most that are counted.
pub(super) const COUNTED: u32 = 10_000;

/// The account of a filter's author, and the logins of the person that is waited for.
#[derive(Clone, Copy, Default)]
pub(super) struct KnownPeople<'a> {
    pub(super) author: Option<AccountId>,
    pub(super) waited_for: &'a [String],
}

/// Pull requests of `filter` in its order, at most `limit`.
///
/// Each state is looked up apart, by an index that has the wanted ones next to each other in this
/// order, and the first of all are taken: no page takes longer than another, wherever in the list
/// it is. `None` if no state can have any.
pub(super) fn list(
    filter: &PullRequestFilter,
    people: KnownPeople<'_>,
    limit: u32,
    scope: TeamScope,
) -> Option<StatementBuilder<'static>> {
    let mut query = StatementBuilder::new("WITH page AS (");
    push_page(&mut query, filter, people, (limit, 0), scope)?;
    query.push(") ").push(LISTED).push(
        " FROM page JOIN pull_requests p ON p.repo_id = page.repo_id \
         AND p.number = page.number ",
    );
    let [value, repo, number] = ["page.value", "page.repo_id", "page.number"]
        .map(|column| format!("{column} {}", direction(filter.order)));
    query
        .push(JOINED)
        .push(&format!(" ORDER BY {value}, {repo}, {number}"));
    Some(query)
}

/// The place of the pull request in the list without its detail conditions that is the last of the
/// first `looked_at`: its value as the database has it, repository and number.
pub(super) fn end_of_look(
    filter: &PullRequestFilter,
    people: KnownPeople<'_>,
    looked_at: u32,
    scope: TeamScope,
) -> Option<StatementBuilder<'static>> {
    let plain = PullRequestFilter {
        details: DetailFilter::default(),
        ..filter.clone()
    };
    let mut query = StatementBuilder::new(format!(
        "SELECT {} FROM (",
        match (filter.order.key, scope.is_sqlite()) {
            (SortKey::Duration(..), _) | (_, true) => "value, repo_id, number",
            (_, false) => "CAST(extract(epoch FROM value) AS bigint), repo_id, number",
        }
    ));
    let place = (looked_at, looked_at.saturating_sub(1));
    push_page(&mut query, &plain, people, place, scope)?;
    query.push(") AS place");
    Some(query)
}

/// Counts the pull requests of `filter`, at most [`COUNTED`] and one.
pub(super) fn count(
    filter: &PullRequestFilter,
    people: KnownPeople<'_>,
    scope: TeamScope,
) -> Option<StatementBuilder<'static>> {
    let mut query = StatementBuilder::new("SELECT count(*) FROM (");
    for (place, state) in states_of(filter).into_iter().enumerate() {
        query.push(if place == 0 { "" } else { " UNION ALL " });
        query.push("SELECT * FROM (SELECT number FROM pull_requests");
        push_state(&mut query, filter, people, state, scope);
        query
            .push(" LIMIT ")
            .push_bind(i64::from(COUNTED) + 1)
            .push(") AS ")
            .push(state.as_str());
    }
    query
        .push(" LIMIT ")
        .push_bind(i64::from(COUNTED) + 1)
        .push(") AS counted");
    (!states_of(filter).is_empty()).then_some(query)
}

/// Adds the value, repository and number of a page, in its order.
fn push_page(
    query: &mut StatementBuilder<'static>,
    filter: &PullRequestFilter,
    people: KnownPeople<'_>,
    (limit, offset): (u32, u32),
    scope: TeamScope,
) -> Option<()> {
    let states = states_of(filter);
    let (column, direction) = (sort_column(filter.order.key), direction(filter.order));
    for (place, state) in states.iter().enumerate() {
        query.push(if place == 0 { "" } else { " UNION ALL " });
        let by_repository = is_by_repository(filter, *state, scope) && !scope.is_sqlite();
        query.push("SELECT * FROM (");
        if by_repository {
            query.push("SELECT value, repo_id, number FROM ");
            scope.push_repositories(query);
            query.push(" CROSS JOIN LATERAL (");
        }
        query.push(&format!(
            "SELECT {column} AS value, repo_id, number FROM pull_requests"
        ));
        push_state(query, filter, people, *state, scope);
        if by_repository {
            // In the columns of the index over one repository.
            query.push(&format!(
                " AND repo_id = seen_repo ORDER BY {column} {direction}, number {direction} LIMIT "
            ));
            query.push_bind(i64::from(limit)).push(") AS found");
        }
        let value = if by_repository { "value" } else { column };
        let order = format!(
            " ORDER BY {value} {direction}, repo_id {direction}, number {direction} LIMIT "
        );
        query.push(&order).push_bind(i64::from(limit));
        query.push(") AS ").push(state.as_str());
    }
    let order =
        format!(" ORDER BY value {direction}, repo_id {direction}, number {direction} LIMIT ");
    query
        .push(&order)
        .push_bind(i64::from(limit - offset))
        .push(" OFFSET ")
        .push_bind(i64::from(offset));
    (!states.is_empty()).then_some(())
}

/// Adds the conditions of one state.
fn push_state(
    query: &mut StatementBuilder<'static>,
    filter: &PullRequestFilter,
    people: KnownPeople<'_>,
    state: PullRequestState,
    scope: TeamScope,
) {
    let is_sqlite = scope.is_sqlite();
    let by_repository = is_by_repository(filter, state, scope);
    if let Some(index) = index(filter, state, by_repository).filter(|_| is_sqlite) {
        query.push(" INDEXED BY ").push(index);
    }
    query
        .push(" WHERE state = '")
        .push(state.as_str())
        .push("'");
    match filter.repo {
        Some(repo) => scope.push_repository(query, repo),
        None if by_repository => scope.push_lookup(query, "repo_id"),
        None => scope.push(query, "repo_id"),
    }
    push_wanted(query, filter, is_sqlite);
    push_ranges(query, filter);
    push_waiting(query, filter, people.waited_for);
    push_details(query, &filter.details, is_sqlite);
    if let Some(account) = people.author {
        query.push(" AND author_id = ").push_bind(account.0);
    }
    if filter.order.key != SortKey::Updated {
        let column = sort_column(filter.order.key);
        query.push(" AND ").push(column).push(" IS NOT NULL");
    }
    for (place, is_end) in [(filter.after, false), (filter.until, true)] {
        if let Some(place) = place {
            push_place(query, filter, place, is_end);
        }
    }
}

/// Returns true if a page is looked up in one repository of the team after the other, by an index
/// that has their pull requests in the order of the list.
fn is_by_repository(filter: &PullRequestFilter, state: PullRequestState, scope: TeamScope) -> bool {
    let is_in_order = match filter.order.key {
        SortKey::Updated => filter.waiting_on.is_none() && !filter.is_closed_unmerged(),
        SortKey::Merged => state == PullRequestState::Merged,
        SortKey::Created | SortKey::Waiting | SortKey::Closed | SortKey::Duration(..) => false,
    };
    let is_of_some = filter.repo.is_none() && filter.author.is_none();
    scope.is_by_repository() && is_in_order && is_of_some
}

/// Returns the index that SQLite is to take, which knows nothing of how much is in its tables.
fn index(
    filter: &PullRequestFilter,
    state: PullRequestState,
    by_repository: bool,
) -> Option<&'static str> {
    match (state, filter.order.key) {
        _ if filter.author.is_some() => None,
        (_, SortKey::Updated) if by_repository => Some("pull_requests_by_repository"),
        (PullRequestState::Merged, _) if by_repository => {
            Some("pull_requests_merged_by_repository")
        }
        (PullRequestState::Open, SortKey::Waiting) if filter.waiting_on.is_none() => {
            Some("pull_requests_waiting")
        }
        (PullRequestState::Closed, _) if filter.is_closed_unmerged() => {
            Some("pull_requests_closed")
        }
        (PullRequestState::Merged, SortKey::Updated) | (PullRequestState::Closed, _) => None,
        (PullRequestState::Merged, _) if filter.repo.is_some() => {
            Some("pull_requests_merged_by_repository")
        }
        (PullRequestState::Merged, _) => Some("pull_requests_merged"),
        (PullRequestState::Open, _) => None,
    }
}

/// The column of the value that a list is sorted by.
const fn sort_column(key: SortKey) -> &'static str {
    match key {
        SortKey::Updated => "updated_at",
        SortKey::Created => "pr_created_at",
        SortKey::Merged => "merged_at",
        SortKey::Waiting => "waiting_since",
        SortKey::Closed => "closed_at",
        SortKey::Duration(name, clock) => duration_column(name, clock),
    }
}

/// The direction of a list. The longest wait is the one that began first.
fn direction(order: ListOrder) -> &'static str {
    match order.ascending != (order.key == SortKey::Waiting) {
        true => "ASC",
        false => "DESC",
    }
}

/// Pull requests, one at least, as they are listed.
pub(super) fn by_key(keys: &[PrKey], scope: TeamScope) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new(LISTED);
    push_keys(&mut query, keys);
    query
        .push(JOINED)
        .push(WANTED)
        .push(" AND p.state IS NOT NULL");
    scope.push_each(&mut query, "p.repo_id");
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

/// Returns the states that pull requests of `filter` can have.
fn states_of(filter: &PullRequestFilter) -> BTreeSet<PullRequestState> {
    let of = |filter: &StateFilter| match filter {
        StateFilter::Open => &[PullRequestState::Open][..],
        StateFilter::Closed => &[PullRequestState::Closed, PullRequestState::Merged],
        StateFilter::ClosedUnmerged => &[PullRequestState::Closed],
        StateFilter::Merged => &[PullRequestState::Merged],
    };
    let mut states: BTreeSet<_> = match &filter.states[..] {
        [] => BTreeSet::from([
            PullRequestState::Open,
            PullRequestState::Closed,
            PullRequestState::Merged,
        ]),
        filters => filters.iter().flat_map(of).copied().collect(),
    };
    for (is_meant, only) in [
        (filter.waits(), PullRequestState::Open),
        (filter.is_merged(), PullRequestState::Merged),
        (filter.is_closed_unmerged(), PullRequestState::Closed),
    ] {
        states.retain(|state| !is_meant || *state == only);
    }
    states
}

/// Adds the condition that a pull request comes after a place of the list, or not after it if that
/// `is_end`.
fn push_place(
    query: &mut StatementBuilder<'static>,
    filter: &PullRequestFilter,
    place: ListPlace,
    is_end: bool,
) {
    let key = filter.order.key;
    // In the columns of the index over one repository.
    let is_of_repository = filter.repo == Some(place.key.repo);
    let repo = if is_of_repository { "" } else { "repo_id, " };
    let sign = match (direction(filter.order), is_end) {
        ("DESC", false) => "<",
        ("DESC", true) => ">=",
        (_, false) => ">",
        (_, true) => "<=",
    };
    query.push(&format!(
        " AND ({}, {repo}number) {sign} (",
        sort_column(key)
    ));
    match key {
        SortKey::Duration(..) => query.push_bind(place.value),
        _ => query.push_bind(Seconds(Timestamp::clamped(place.value))),
    };
    if !is_of_repository {
        query.push(", ").push_bind(place.key.repo.0);
    }
    query.push(", ").push_bind(place.key.number.0).push(")");
}

impl PullRequestFilter {
    /// Returns true if it asks for what only open ones have.
    pub fn waits(&self) -> bool {
        self.order.key == SortKey::Waiting
            || self.waiting_for.is_some()
            || self.reason.is_some()
            || self.waiting_on.is_some()
            || self.waiting_since_until.is_some()
            || self.waiting_since_after.is_some()
    }

    /// Returns true if it asks for what only merged ones have.
    pub fn is_merged(&self) -> bool {
        matches!(self.order.key, SortKey::Merged | SortKey::Duration(..))
            || self.merged_from.is_some()
            || self.merged_to.is_some()
            || self.details.duration.is_some()
            || self.details.missing.is_some()
            || self.details.counted
            || self.details.excluded.is_some()
    }

    /// Returns true if it asks for what only those closed without a merge have.
    pub fn is_closed_unmerged(&self) -> bool {
        self.order.key == SortKey::Closed || self.closed_from.is_some() || self.closed_to.is_some()
    }
}
