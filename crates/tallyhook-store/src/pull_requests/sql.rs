//! Statements of the read side.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use tallyhook_core::domain::metrics::Aggregates;
use tallyhook_core::github::types::{AccountId, PrKey, PrNumber, RepoId};

use super::row::ListedRow;
use super::{AggregateFilter, CalendarUse, PullRequestFilter, PullRequestRow, aggregates, list};
use crate::database::{Database, StatementBuilder};
use crate::postgres::within;
use crate::{Result, Store};

impl Store {
    /// Returns pull requests of `filter`, newest update first, at most `limit`.
    pub async fn pull_requests(
        &self,
        filter: &PullRequestFilter,
        limit: u32,
    ) -> Result<Vec<PullRequestRow>> {
        let (account, logins) = match &filter.author {
            Some(login) => match self.account_of(login).await? {
                Some((account, logins)) => (Some(account), logins),
                None => (None, vec![login.clone()]),
            },
            None => return self.listed(filter, None, limit).await,
        };
        let mut found = Vec::new();
        for login in logins {
            let filter = PullRequestFilter {
                author: Some(login),
                ..filter.clone()
            };
            found.extend(self.listed(&filter, account, limit).await?);
        }
        found.sort_by_key(|row| Reverse((row.updated_at, row.key)));
        found.truncate(limit as usize);
        Ok(found)
    }

    async fn listed(
        &self,
        filter: &PullRequestFilter,
        account: Option<AccountId>,
        limit: u32,
    ) -> Result<Vec<PullRequestRow>> {
        let query = list::list(filter, account, limit, self.database.is_sqlite()).build();
        let rows: Vec<ListedRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(PullRequestRow::from).collect())
    }

    /// Returns one pull request, if it is known.
    pub async fn pull_request(&self, key: PrKey) -> Result<Option<PullRequestRow>> {
        Ok(self.pull_requests_by_key(&[key]).await?.pop())
    }

    /// Returns those of `keys` that are known, in any order.
    pub async fn pull_requests_by_key(&self, keys: &[PrKey]) -> Result<Vec<PullRequestRow>> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(list::KEYS) {
            let rows: Vec<ListedRow> = self.database.rows(list::by_key(keys).build()).await?;
            found.extend(rows.into_iter().map(PullRequestRow::from));
        }
        Ok(found)
    }

    /// Returns those of `keys` that were fetched from GitHub.
    pub async fn fetched(&self, keys: &[PrKey]) -> Result<BTreeSet<PrKey>> {
        let mut fetched = BTreeSet::new();
        for keys in keys.chunks(list::KEYS) {
            let query = list::fetched(keys).build().persistent(false);
            let rows: Vec<(i64, i64)> = self.database.rows(query).await?;
            fetched.extend(rows.into_iter().map(|(repo, number)| PrKey {
                repo: RepoId(repo),
                number: PrNumber(number),
            }));
        }
        Ok(fetched)
    }

    /// Returns the numbers of merged pull requests of each repository, by the hash of the calendar
    /// that their business time follows.
    pub async fn calendars_in_use(&self) -> Result<Vec<CalendarUse>> {
        let mut query = StatementBuilder::new(
            "SELECT r.name, used.calendar_hash, used.pull_requests FROM (\
             SELECT repo_id, calendar_hash, count(*) AS pull_requests FROM pull_requests",
        );
        aggregates::push_index(
            &mut query,
            "pull_requests_merged_by_repository",
            self.database.is_sqlite(),
        );
        query.push(
            " WHERE state = 'merged' GROUP BY repo_id, calendar_hash) AS used \
             JOIN repositories r ON r.id = used.repo_id ORDER BY r.name, used.calendar_hash",
        );
        let rows: Vec<(String, Option<String>, i64)> = self.database.rows(query.build()).await?;
        let uses = rows
            .into_iter()
            .map(|(repo, hash, pull_requests)| CalendarUse {
                repo,
                hash,
                pull_requests,
            });
        Ok(uses.collect())
    }

    /// Summarises merged pull requests by the time of the merge, and counts those closed without
    /// one.
    pub async fn aggregates(&self, filter: &AggregateFilter) -> Result<Aggregates> {
        let (database, filter) = (self.database.clone(), filter.clone());
        let gather = move || async move {
            let is_sqlite = database.is_sqlite();
            let merged = aggregates::merged_in(&filter, is_sqlite).build();
            let closed = aggregates::closed_in(&filter, is_sqlite).build();
            let undated = aggregates::undated_in(&filter, is_sqlite).build();
            let mut aggregation = match &database {
                Database::Sqlite(database) => {
                    let query = merged.for_sqlite_rows()?;
                    aggregates::gather(query.fetch(&database.readers), &filter).await?
                }
                Database::Postgres(database) => {
                    let mut session = database.session().await?;
                    let query = merged.for_postgres_rows()?;
                    let rows = query.fetch(session.connection());
                    let aggregation = within(aggregates::gather(rows, &filter)).await?;
                    session.keep();
                    aggregation
                }
            };
            let undated: Option<(i64,)> = database.row(undated).await?;
            aggregation.exclude_undated(undated.map_or(0, |(merged,)| merged.unsigned_abs()));
            let closed: Option<(i64,)> = database.row(closed).await?;
            Ok((aggregation, closed.map_or(0, |(closed,)| closed)))
        };
        self.aggregation.run(gather).await
    }
}
