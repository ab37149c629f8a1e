//! Statements of the read side.

use std::collections::BTreeSet;

use tallyhook_core::github::types::{AccountId, PrKey, PrNumber, RepoId};

use super::list::KnownPeople;
use super::row::ListedRow;
use super::{
    CalendarUse, DetailFilter, ListPlace, PartyName, PullRequestFilter, PullRequestRow, SortKey,
    aggregate_rows, list,
};
use crate::account_logins::account_of;
use crate::database::{Database, StatementBuilder};
use crate::team_store::TeamScope;
use crate::{Result, Store, TeamStore};

/// The pull requests that a count with details looks at.
const COUNT_LOOKS_AT: u32 = 100_000;

/// The people of a filter as the store knows them.
struct FilterPeople {
    author: Option<AccountId>,
    /// The logins of the person that is waited for.
    waited_for: Vec<String>,
}

impl FilterPeople {
    fn known(&self) -> KnownPeople<'_> {
        KnownPeople {
            author: self.author,
            waited_for: &self.waited_for,
        }
    }
}

/// Returns the account of a login, and all its logins in lower case; of an unknown one that alone.
pub(super) async fn logins_of(
    database: &Database,
    login: &str,
) -> Result<(Option<AccountId>, Vec<String>)> {
    Ok(match account_of(database, login).await? {
        Some((account, logins)) => (Some(account), logins),
        None => (None, vec![login.to_ascii_lowercase()]),
    })
}

impl TeamStore {
    /// Returns pull requests of `filter` in its order, at most `limit`.
    pub async fn pull_requests(
        &self,
        filter: &PullRequestFilter,
        limit: u32,
    ) -> Result<Vec<PullRequestRow>> {
        let mut found = Vec::new();
        let scope = self.list_scope(filter).await?;
        for (filter, people) in self.filters(filter).await? {
            if let Some(query) = list::list(&filter, people.known(), limit, scope) {
                let rows: Vec<ListedRow> = self.database.rows(query.build()).await?;
                found.extend(rows.into_iter().map(PullRequestRow::from));
            }
        }
        if filter.author.is_some() {
            let is_reversed = filter.order.ascending == (filter.order.key == SortKey::Waiting);
            found.sort_by(|one, two| {
                let [one, two] = [one, two].map(|row| {
                    let place = filter.order.place(row);
                    (place.value, place.key)
                });
                match is_reversed {
                    true => two.cmp(&one),
                    false => one.cmp(&two),
                }
            });
            found.truncate(limit as usize);
        }
        Ok(found)
    }

    /// Returns the place at which a page of `filter` stops to look, if its list may be long and its
    /// details are in no index: the pull request after `looked_at` others, of which any may have
    /// the details. A page up to there may be short, and the next one begins there.
    pub async fn end_of_look(
        &self,
        filter: &PullRequestFilter,
        looked_at: u32,
    ) -> Result<Option<ListPlace>> {
        // An author has few, and so have those that wait; an order without an index sorts all.
        let is_short = filter.author.is_some() || filter.waits();
        let is_sorted = matches!(filter.order.key, SortKey::Duration(..));
        if filter.details == DetailFilter::default() || is_short || is_sorted {
            return Ok(None);
        }
        let scope = self.list_scope(filter).await?;
        let query = list::end_of_look(filter, KnownPeople::default(), looked_at, scope);
        let Some(query) = query else { return Ok(None) };
        let place: Option<(i64, i64, i64)> = self.database.row(query.build()).await?;
        Ok(place.map(|(value, repo, number)| ListPlace {
            value,
            key: PrKey {
                repo: RepoId(repo),
                number: PrNumber(number),
            },
        }))
    }

    /// Counts the pull requests of `filter`. Returns false with the number if there may be more.
    pub async fn count_pull_requests(&self, filter: &PullRequestFilter) -> Result<(u64, bool)> {
        let mut filter = PullRequestFilter {
            after: None,
            ..filter.clone()
        };
        filter.until = self.end_of_look(&filter, COUNT_LOOKS_AT).await?;
        let is_whole = filter.until.is_none();
        let (mut counted, scope) = (0, self.list_scope(&filter).await?);
        for (filter, people) in self.filters(&filter).await? {
            if let Some(query) = list::count(&filter, people.known(), scope) {
                let row: Option<(i64,)> = self.database.row(query.build()).await?;
                counted += row.map_or(0, |(counted,)| counted.unsigned_abs());
            }
        }
        let most = u64::from(list::COUNTED);
        Ok((counted.min(most), is_whole && counted <= most))
    }

    /// Returns the scope of a list, whose shape matters where neither a repository nor an author says
    /// where to look.
    async fn list_scope(&self, filter: &PullRequestFilter) -> Result<TeamScope> {
        match (filter.repo, &filter.author) {
            (None, None) => self.scope().await,
            _ => Ok(self.plain_scope()),
        }
    }

    /// Returns the filters that together have what `filter` asks for: one for each login of its
    /// author, by which pull requests are looked up.
    async fn filters(
        &self,
        filter: &PullRequestFilter,
    ) -> Result<Vec<(PullRequestFilter, FilterPeople)>> {
        let waited_for = match &filter.waiting_on {
            Some(PartyName::Login(login)) => logins_of(&self.database, login).await?.1,
            _ => Vec::new(),
        };
        let Some(author) = &filter.author else {
            let author = None;
            return Ok(vec![(filter.clone(), FilterPeople { author, waited_for })]);
        };
        let (account, logins) = logins_of(&self.database, author).await?;
        let of_login = |login| {
            let filter = PullRequestFilter {
                author: Some(login),
                ..filter.clone()
            };
            let people = FilterPeople {
                author: account,
                waited_for: waited_for.clone(),
            };
            (filter, people)
        };
        Ok(logins.into_iter().map(of_login).collect())
    }

    /// Returns one pull request, if it is known.
    pub async fn pull_request(&self, key: PrKey) -> Result<Option<PullRequestRow>> {
        Ok(self.pull_requests_by_key(&[key]).await?.pop())
    }

    /// Returns those of `keys` that are known, in any order.
    pub async fn pull_requests_by_key(&self, keys: &[PrKey]) -> Result<Vec<PullRequestRow>> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(list::KEYS) {
            let query = list::by_key(keys, self.plain_scope());
            let rows: Vec<ListedRow> = self.database.rows(query.build()).await?;
            found.extend(rows.into_iter().map(PullRequestRow::from));
        }
        Ok(found)
    }
}

impl Store {
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
        let scope = TeamScope::everything(self.database.is_sqlite());
        aggregate_rows::push_index(&mut query, "pull_requests_merged_by_repository", scope);
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
}
