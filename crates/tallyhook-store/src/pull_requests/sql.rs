//! Statements of the read side.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use tallyhook_core::github::types::{AccountId, PrKey, PrNumber, RepoId};

use super::row::ListedRow;
use super::{PullRequestFilter, PullRequestRow, list};
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
}
