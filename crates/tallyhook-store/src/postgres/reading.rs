//! The read side in PostgreSQL.

use sqlx::{Postgres, QueryBuilder};
use tallyhook_core::domain::metrics::Aggregates;
use tallyhook_core::github::types::{PrKey, RepoId};

use super::PostgresStore;
use super::connections::within;
use crate::listing::{self, push_name};
use crate::rows::ListedRow;
use crate::{AggregateFilter, PullRequestFilter, PullRequestRow, Reading, Result, aggregating};

#[async_trait::async_trait]
impl Reading for PostgresStore {
    async fn pull_requests(
        &self,
        filter: &PullRequestFilter,
        limit: u32,
    ) -> Result<Vec<PullRequestRow>> {
        let mut query = listing::list::<Postgres>(filter, limit);
        let rows: Vec<ListedRow> = self.connections.fetch_all(query.build_query_as()).await?;
        Ok(rows.into_iter().map(PullRequestRow::from).collect())
    }

    async fn pull_requests_of(&self, keys: &[PrKey]) -> Result<Vec<PullRequestRow>> {
        let mut rows = Vec::with_capacity(keys.len());
        for keys in keys.chunks(listing::KEYS) {
            let mut query = listing::of::<Postgres>(keys);
            rows.extend(
                self.connections
                    .fetch_all::<ListedRow>(query.build_query_as())
                    .await?,
            );
        }
        Ok(rows.into_iter().map(PullRequestRow::from).collect())
    }

    async fn repository_id(&self, name: &str) -> Result<Option<RepoId>> {
        let mut query = QueryBuilder::<Postgres>::new("SELECT id FROM repositories WHERE true");
        push_name(&mut query, "name", name, 200);
        query.push(" ORDER BY access = 'deleted', seen_at DESC, id DESC LIMIT 1");
        let row: Option<(i64,)> = self
            .connections
            .fetch_optional(query.build_query_as())
            .await?;
        Ok(row.map(|(id,)| RepoId(id)))
    }

    async fn aggregates(&self, filter: &AggregateFilter) -> Result<Aggregates> {
        let (connections, filter) = (self.connections.clone(), *filter);
        let gather = move || async move {
            let mut session = connections.session().await?;
            let mut query = aggregating::merged_in::<Postgres>(&filter);
            let rows = query.build_query_as().fetch(session.connection());
            let aggregation = within(aggregating::gather(rows, &filter)).await?;
            let mut query = aggregating::closed_in::<Postgres>(&filter);
            let closed = session.fetch_all::<(i64,)>(query.build_query_as()).await?;
            session.keep();
            Ok((aggregation, closed.first().map_or(0, |(closed,)| *closed)))
        };
        self.aggregating.run(gather).await
    }
}
