//! The read side in SQLite.

use sqlx::Sqlite;
use tallyhook_core::domain::metrics::Aggregates;
use tallyhook_core::github::types::{PrKey, RepoId};

use super::SqliteStore;
use crate::rows::ListedRow;
use crate::{
    AggregateFilter, PullRequestFilter, PullRequestRow, Reading, Result, aggregating, listing,
};

#[async_trait::async_trait]
impl Reading for SqliteStore {
    async fn pull_requests(
        &self,
        filter: &PullRequestFilter,
        limit: u32,
    ) -> Result<Vec<PullRequestRow>> {
        let mut query = listing::list::<Sqlite>(filter, limit);
        let rows: Vec<ListedRow> = query.build_query_as().fetch_all(&self.readers).await?;
        Ok(rows.into_iter().map(PullRequestRow::from).collect())
    }

    async fn pull_requests_of(&self, keys: &[PrKey]) -> Result<Vec<PullRequestRow>> {
        let mut rows = Vec::with_capacity(keys.len());
        for keys in keys.chunks(listing::KEYS) {
            let mut query = listing::of::<Sqlite>(keys);
            rows.extend(
                query
                    .build_query_as::<ListedRow>()
                    .fetch_all(&self.readers)
                    .await?,
            );
        }
        Ok(rows.into_iter().map(PullRequestRow::from).collect())
    }

    async fn repository_id(&self, name: &str) -> Result<Option<RepoId>> {
        let id: Option<i64> = sqlx::query_scalar(
            "SELECT id FROM repositories WHERE name = $1 COLLATE NOCASE \
             ORDER BY access = 'deleted', seen_at DESC, id DESC LIMIT 1",
        )
        .bind(name)
        .fetch_optional(&self.readers)
        .await?;
        Ok(id.map(RepoId))
    }

    async fn aggregates(&self, filter: &AggregateFilter) -> Result<Aggregates> {
        let (readers, filter) = (self.readers.clone(), *filter);
        let gather = move || async move {
            let mut query = aggregating::merged_in::<Sqlite>(&filter);
            let aggregation =
                aggregating::gather(query.build_query_as().fetch(&readers), &filter).await?;
            let closed = aggregating::closed_in::<Sqlite>(&filter)
                .build_query_scalar()
                .fetch_one(&readers)
                .await?;
            Ok((aggregation, closed))
        };
        self.aggregating.run(gather).await
    }
}
