//! The read side in PostgreSQL.

use sqlx::{Postgres, QueryBuilder};

use super::{PostgresStore, text};
use crate::github::types::{PrKey, RepoId};
use crate::store::rows::{ListedRow, MergedRow, Seconds};
use crate::store::{DurationFilter, Merged, PullRequestFilter, PullRequestRow, Reading, Result, StateFilter};

/// All columns but the large ones: the description and the timeline.
const LISTED: &str = "SELECT p.repo_id, p.number, r.name AS repo, CASE WHEN r.access = 'granted' AND i.access = 'revoked' THEN 'revoked' ELSE r.access END AS repo_access, github_pr_id, title, author_login, author_is_bot, state, \
    draft, html_url, base_ref, head_ref, head_sha, pr_created_at, updated_at, closed_at, merged_at, labels, additions, \
    deletions, changed_files, commits, first_commit_at, ready_at, first_response_at, first_review_at, final_approval_at, \
    cycle_time_s, review_time_s, coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s, flags, source \
    FROM pull_requests p JOIN repositories r ON r.id = p.repo_id LEFT JOIN installations i ON i.id = r.installation_id WHERE p.state IS NOT NULL";

#[async_trait::async_trait]
impl Reading for PostgresStore {
    async fn pull_requests(&self, filter: &PullRequestFilter, limit: u32) -> Result<Vec<PullRequestRow>> {
        let mut query = QueryBuilder::<Postgres>::new(LISTED);
        push_states(&mut query, &filter.states);
        if let Some(repo) = filter.repo {
            query.push(" AND p.repo_id = ").push_bind(repo.0);
        }
        if let Some(author) = &filter.author {
            query.push(" AND lower(author_login) = lower(").push_bind(text(author)).push(" COLLATE \"C\")");
        }
        if let Some(from) = filter.from {
            query.push(" AND updated_at >= ").push_bind(Seconds(from));
        }
        if let Some(to) = filter.to {
            query.push(" AND updated_at < ").push_bind(Seconds(to));
        }
        if let Some((updated_at, key)) = filter.after {
            query.push(" AND (updated_at, p.repo_id, p.number) < (").push_bind(Seconds(updated_at));
            query.push(", ").push_bind(key.repo.0).push(", ").push_bind(key.number.0).push(")");
        }
        query.push(" ORDER BY updated_at DESC, p.repo_id DESC, p.number DESC LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<ListedRow> = self.connections.fetch_all(query.build_query_as()).await?;
        Ok(rows.into_iter().map(PullRequestRow::from).collect())
    }

    async fn pull_request(&self, key: PrKey) -> Result<Option<PullRequestRow>> {
        let mut query = QueryBuilder::<Postgres>::new(LISTED);
        query.push(" AND p.repo_id = ").push_bind(key.repo.0).push(" AND p.number = ").push_bind(key.number.0);
        let row: Option<ListedRow> = self.connections.fetch_optional(query.build_query_as()).await?;
        Ok(row.map(PullRequestRow::from))
    }

    async fn repository_id(&self, name: &str) -> Result<Option<RepoId>> {
        let query = sqlx::query_as(
            "SELECT id FROM repositories WHERE lower(left(name, 200)) = lower(left($1, 200) COLLATE \"C\") \
             AND lower(name) = lower($1 COLLATE \"C\") ORDER BY access = 'deleted', seen_at DESC, id DESC LIMIT 1",
        );
        let row: Option<(i64,)> = self.connections.fetch_optional(query.bind(text(name))).await?;
        Ok(row.map(|(id,)| RepoId(id)))
    }

    async fn merged(&self, filter: &DurationFilter) -> Result<Vec<Merged>> {
        let mut query = QueryBuilder::<Postgres>::new(
            "SELECT merged_at, author_is_bot, flags, cycle_time_s, review_time_s, coding_s, pickup_s, review_s, \
             merge_wait_s, redraft_s, closed_s FROM pull_requests WHERE state = 'merged' AND merged_at IS NOT NULL",
        );
        push_range(&mut query, "merged_at", filter);
        let rows: Vec<MergedRow> = self.connections.fetch_all(query.build_query_as()).await?;
        Ok(rows.into_iter().map(Merged::from).collect())
    }

    async fn closed_unmerged(&self, filter: &DurationFilter, by_bots: bool) -> Result<u64> {
        let mut query = QueryBuilder::<Postgres>::new("SELECT count(*) FROM pull_requests WHERE state = 'closed'");
        query.push(" AND author_is_bot = ").push_bind(by_bots);
        push_range(&mut query, "closed_at", filter);
        let row: Option<(i64,)> = self.connections.fetch_optional(query.build_query_as()).await?;
        Ok(row.map_or(0, |(number,)| number.unsigned_abs()))
    }
}

fn push_states(query: &mut QueryBuilder<Postgres>, states: &[StateFilter]) {
    if states.is_empty() {
        return;
    }
    query.push(" AND p.state IN (");
    let mut list = query.separated(", ");
    for state in states {
        match state {
            StateFilter::Open => list.push("'open'"),
            StateFilter::Closed => list.push("'closed', 'merged'"),
            StateFilter::ClosedUnmerged => list.push("'closed'"),
            StateFilter::Merged => list.push("'merged'"),
        };
    }
    query.push(")");
}

fn push_range(query: &mut QueryBuilder<Postgres>, column: &str, filter: &DurationFilter) {
    if let Some(repo) = filter.repo {
        query.push(" AND repo_id = ").push_bind(repo.0);
    }
    if let Some(from) = filter.from {
        query.push(" AND ").push(column).push(" >= ").push_bind(Seconds(from));
    }
    if let Some(to) = filter.to {
        query.push(" AND ").push(column).push(" < ").push_bind(Seconds(to));
    }
}
