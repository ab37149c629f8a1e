//! Where aggregates are worked out: beside everything else, one at a time, from rows that both
//! kinds of database give.
//!
//! Neither has the numbers worked out by SQL: PostgreSQL would sort every duration of every bucket,
//! which takes longer than handing the rows over in the order of an index, and there would be two
//! definitions of one number.

use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use tallyhook_core::domain::metrics::{Aggregates, Aggregation, AuthorFilter};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::AggregateFilter;
use super::row::{MergedRow, merged, merged_columns};
use crate::columns::Seconds;
use crate::database::StatementBuilder;
use crate::{Result, StoreError};

/// Works out one set of aggregates at a time: over a million pull requests each takes a second of a
/// processor, and tens of megabytes.
#[derive(Clone)]
pub(crate) struct AggregationLimit(Arc<Semaphore>);

impl Default for AggregationLimit {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl AggregationLimit {
    /// Runs `gather` in a thread of its own, so that no webhook waits for it, and computes the
    /// numbers there. It returns the result of [`gather`] for the merged, and the number closed
    /// without a merge.
    pub(super) async fn run<G: Future<Output = Result<(Aggregation, i64)>>>(
        &self,
        gather: impl FnOnce() -> G + Send + 'static,
    ) -> Result<Aggregates> {
        let turn = self
            .0
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Closed)?;
        let runtime = Handle::current();
        let work = move || {
            // The permit ends with the work, also if the caller has stopped waiting.
            let _turn = turn;
            let (aggregation, closed_unmerged) = runtime.block_on(gather())?;
            let mut aggregates = aggregation.finish();
            aggregates.all.closed_unmerged = Some(closed_unmerged.unsigned_abs());
            Ok(aggregates)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| StoreError::Closed)?
    }
}

/// Takes in the rows of [`merged_in`].
pub(super) async fn gather(
    rows: impl Stream<Item = sqlx::Result<MergedRow>>,
    filter: &AggregateFilter,
) -> sqlx::Result<Aggregation> {
    let mut aggregation = Aggregation::new(filter.authors, filter.bucket);
    if let Some(zone) = &filter.zone {
        aggregation = aggregation.in_zone(zone.clone());
    }
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await? {
        aggregation.add(&merged(row));
    }
    Ok(aggregation)
}

/// Merged pull requests of the filter, in the order of their merges.
pub(super) fn merged_in(filter: &AggregateFilter, is_sqlite: bool) -> StatementBuilder<'static> {
    let index = if filter.repo.is_some() {
        "pull_requests_merged_by_repository"
    } else {
        "pull_requests_merged"
    };
    let columns = merged_columns(filter.clock);
    let mut query = StatementBuilder::new(format!("SELECT {columns} FROM pull_requests"));
    push_index(&mut query, index, is_sqlite);
    query.push(" WHERE state = 'merged' AND merged_at IS NOT NULL");
    push_range(&mut query, "merged_at", filter);
    query.push(" ORDER BY merged_at");
    query
}

/// Counts pull requests of the filter's authors that were closed without a merge in its range.
pub(super) fn closed_in(filter: &AggregateFilter, is_sqlite: bool) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new("SELECT count(*) FROM pull_requests");
    push_index(&mut query, "pull_requests_closed", is_sqlite);
    query
        .push(" WHERE state = 'closed' AND author_is_bot = ")
        .push_bind(filter.authors == AuthorFilter::Bot);
    push_range(&mut query, "closed_at", filter);
    query
}

/// Counts merged pull requests of the filter's authors that have no time of their merge, since no
/// payload had one that can be; in the range by their last update.
pub(super) fn undated_in(filter: &AggregateFilter, is_sqlite: bool) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new("SELECT count(*) FROM pull_requests");
    push_index(&mut query, "pull_requests_undated_merges", is_sqlite);
    query
        .push(" WHERE state = 'merged' AND merged_at IS NULL AND author_is_bot = ")
        .push_bind(filter.authors == AuthorFilter::Bot);
    push_range(&mut query, "updated_at", filter);
    query
}

/// Names the index to SQLite, which knows nothing of how much is in its tables and would take
/// another.
pub(super) fn push_index(query: &mut StatementBuilder<'static>, index: &str, is_sqlite: bool) {
    if is_sqlite {
        query.push(" INDEXED BY ").push(index);
    }
}

fn push_range(query: &mut StatementBuilder<'static>, column: &str, filter: &AggregateFilter) {
    if let Some(repo) = filter.repo {
        query.push(" AND repo_id = ").push_bind(repo.0);
    }
    if let Some(from) = filter.from {
        query
            .push(" AND ")
            .push(column)
            .push(" >= ")
            .push_bind(Seconds(from));
    }
    if let Some(to) = filter.to {
        query
            .push(" AND ")
            .push(column)
            .push(" < ")
            .push_bind(Seconds(to));
    }
}
