//! Where aggregates are worked out: beside everything else, one at a time, from rows that both
//! kinds of database give.
//!
//! Neither has the numbers worked out by SQL: PostgreSQL would sort every duration of every bucket,
//! which takes longer than handing the rows over in the order of an index, and there would be two
//! definitions of one number.

use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use tallyhook_core::domain::metrics::{
    Aggregates, Aggregation, CohortAggregation, CohortSummary, ComparedRanges, Comparison,
    DurationName, Measurements,
};
use tallyhook_core::domain::timings::PullRequestState;
use tallyhook_core::github::types::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::AggregateFilter;
use super::aggregate_rows::{closed_in, cohort_of, keyed_in, merged_in, undated_in};
use super::row::{CohortRow, KeyedMergedRow, MergedRow, keyed, member, merged};
use crate::database::{Database, ManyRow, StatementBuilder};
use crate::postgres::within;
use crate::team_store::TeamScope;
use crate::{Result, StoreError, TeamStore};

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
    /// numbers of its result there.
    pub(super) async fn run<T, R: Send + 'static, G: Future<Output = Result<T>>>(
        &self,
        gather: impl FnOnce() -> G + Send + 'static,
        compute: impl FnOnce(T) -> R + Send + 'static,
    ) -> Result<R> {
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
            runtime.block_on(gather()).map(compute)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| StoreError::Closed)?
    }
}

/// The numbers of a page about the durations of pull requests.
pub struct FlowNumbers<R> {
    pub compared: ComparedRanges,
    pub by_time: Aggregates,
    pub measured: R,
}

fn aggregation(filter: &AggregateFilter) -> Aggregation {
    let aggregation = Aggregation::new(filter.authors, filter.bucket);
    let aggregation = match &filter.zone {
        Some(zone) => aggregation.in_zone(zone.clone()),
        None => aggregation,
    };
    match filter.by_origin {
        true => aggregation.by_origin(),
        false => aggregation,
    }
}

/// Returns the filters of the range before a time and of that from it on.
fn halves(filter: AggregateFilter, begins: Timestamp) -> [AggregateFilter; 2] {
    [
        AggregateFilter {
            to: Some(begins),
            ..filter.clone()
        },
        AggregateFilter {
            from: Some(begins),
            ..filter
        },
    ]
}

/// The merged pull requests of a filter and the counts beside them.
struct Gathered<A> {
    merged: A,
    /// Merged at a time that is not known.
    undated: u64,
    closed_unmerged: u64,
}

impl TeamStore {
    /// Summarises merged pull requests by the time of the merge, and counts those closed without
    /// one.
    pub async fn aggregates(&self, filter: &AggregateFilter) -> Result<Aggregates> {
        let (database, filter, scope) =
            (self.database.clone(), filter.clone(), self.scope().await?);
        let gather = move || async move {
            gathered(
                &database,
                (&filter, scope),
                aggregation(&filter),
                |aggregation, row| {
                    aggregation.add(&merged(&row));
                },
            )
            .await
        };
        let compute = |gathered: Gathered<Aggregation>| {
            let mut aggregation = gathered.merged;
            aggregation.exclude_undated(gathered.undated);
            let mut aggregates = aggregation.finish();
            aggregates.all.closed_unmerged = Some(gathered.closed_unmerged);
            aggregates
        };
        self.store.aggregation.run(gather, compute).await
    }

    /// Compares the merged pull requests from `begins` on with those of the filter before it. Both
    /// have the number of those closed without a merge.
    pub async fn compared(
        &self,
        filter: &AggregateFilter,
        begins: Timestamp,
    ) -> Result<ComparedRanges> {
        let (database, filter, scope) =
            (self.database.clone(), filter.clone(), self.scope().await?);
        let gather = move || async move {
            let mut comparison = Comparison::new(filter.authors, begins);
            let rows = merged_in(&filter, scope);
            each_row(&database, rows, |row| comparison.add(&merged(&row))).await?;
            let [before, now] = halves(filter, begins);
            let [before, now] = [
                count(&database, closed_in(&before, scope)).await?,
                count(&database, closed_in(&now, scope)).await?,
            ];
            Ok((comparison, before, now))
        };
        let compute = |(comparison, before, now): (Comparison, u64, u64)| {
            let mut ranges = comparison.finish();
            ranges.before.closed_unmerged = Some(before);
            ranges.now.closed_unmerged = Some(now);
            ranges
        };
        self.store.aggregation.run(gather, compute).await
    }

    /// Reads the merged pull requests of the filter once, for everything that a page shows of those
    /// from `begins` on: [`compared`](Self::compared) with those before, [`aggregates`](Self::aggregates)
    /// by the filter's bucket, and `numbers` of one duration.
    pub async fn flow<R: Send + 'static>(
        &self,
        filter: &AggregateFilter,
        begins: Timestamp,
        measure: DurationName,
        numbers: impl FnOnce(Measurements) -> R + Send + 'static,
    ) -> Result<FlowNumbers<R>> {
        let (database, filter, scope) =
            (self.database.clone(), filter.clone(), self.scope().await?);
        let gather = move || async move {
            let mut comparison = Comparison::new(filter.authors, begins);
            let mut by_time = aggregation(&filter);
            let mut measurements = Measurements::new(measure, filter.authors);
            let rows = keyed_in(&filter, scope);
            each_row(&database, rows, |row: KeyedMergedRow| {
                let (key, merged) = keyed(row);
                comparison.add(&merged);
                if merged.merged_at >= begins {
                    by_time.add(&merged);
                    measurements.add(key, &merged);
                }
            })
            .await?;
            let [before, now] = halves(filter, begins);
            let closed = [
                count(&database, closed_in(&before, scope)).await?,
                count(&database, closed_in(&now, scope)).await?,
            ];
            by_time.exclude_undated(count(&database, undated_in(&now, scope)).await?);
            Ok((comparison, by_time, measurements, closed))
        };
        let compute = |(comparison, by_time, measurements, [before, now]): (
            Comparison,
            Aggregation,
            Measurements,
            [u64; 2],
        )| {
            let (mut compared, mut by_time) = (comparison.finish(), by_time.finish());
            compared.before.closed_unmerged = Some(before);
            compared.now.closed_unmerged = Some(now);
            by_time.all.closed_unmerged = Some(now);
            FlowNumbers {
                compared,
                by_time,
                measured: numbers(measurements),
            }
        };
        self.store.aggregation.run(gather, compute).await
    }

    /// Reads one duration of the merged pull requests, and computes `numbers` from all of them.
    pub async fn measured<R: Send + 'static>(
        &self,
        filter: &AggregateFilter,
        measure: DurationName,
        numbers: impl FnOnce(Measurements) -> R + Send + 'static,
    ) -> Result<R> {
        let (database, filter, scope) =
            (self.database.clone(), filter.clone(), self.scope().await?);
        let gather = move || async move {
            let mut measurements = Measurements::new(measure, filter.authors);
            let rows = keyed_in(&filter, scope);
            each_row(&database, rows, |row: KeyedMergedRow| {
                let (key, merged) = keyed(row);
                measurements.add(key, &merged);
            })
            .await?;
            Ok(measurements)
        };
        self.store.aggregation.run(gather, numbers).await
    }

    /// Summarises the pull requests that were created in the range of the filter, as of `now`.
    pub async fn cohort(&self, filter: &AggregateFilter, now: Timestamp) -> Result<CohortSummary> {
        let (database, filter, scope) =
            (self.database.clone(), filter.clone(), self.scope().await?);
        let gather = move || async move {
            let mut cohort = CohortAggregation::new(filter.authors, now);
            for state in [
                PullRequestState::Merged,
                PullRequestState::Closed,
                PullRequestState::Open,
            ] {
                let rows = cohort_of(&filter, state, scope);
                each_row(&database, rows, |row: CohortRow| {
                    cohort.add(&member(&row, state));
                })
                .await?;
            }
            Ok(cohort)
        };
        self.store
            .aggregation
            .run(gather, CohortAggregation::finish)
            .await
    }
}

async fn gathered<A>(
    database: &Database,
    (filter, scope): (&AggregateFilter, TeamScope),
    mut merged: A,
    add: impl Fn(&mut A, MergedRow),
) -> Result<Gathered<A>> {
    let rows = merged_in(filter, scope);
    each_row(database, rows, |row| add(&mut merged, row)).await?;
    Ok(Gathered {
        merged,
        undated: count(database, undated_in(filter, scope)).await?,
        closed_unmerged: count(database, closed_in(filter, scope)).await?,
    })
}

async fn count(database: &Database, query: StatementBuilder<'static>) -> Result<u64> {
    let row: Option<(i64,)> = database.row(query.build()).await?;
    Ok(row.map_or(0, |(count,)| count.unsigned_abs()))
}

/// Passes each row to `add` as it is read, so that they are never in memory together. Blocks the
/// thread, which is one of [`AggregationLimit::run`].
pub(super) async fn each_row<R: ManyRow>(
    database: &Database,
    query: StatementBuilder<'static>,
    mut add: impl FnMut(R),
) -> Result<()> {
    match database {
        Database::Sqlite(database) => database.scanner.each_row(query.build(), add)?,
        Database::Postgres(database) => {
            let mut session = database.session().await?;
            let query = query.build().for_postgres_rows()?;
            within(pass_on(query.fetch(session.connection()), &mut add)).await?;
            session.keep();
        }
    }
    Ok(())
}

async fn pass_on<R>(
    rows: impl Stream<Item = sqlx::Result<R>>,
    add: &mut impl FnMut(R),
) -> sqlx::Result<()> {
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await? {
        add(row);
    }
    Ok(())
}
