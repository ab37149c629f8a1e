//! Statements about the facts.

use std::collections::HashMap;

use tallyhook_core::domain::timings::DEFINITION;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};

use super::row::VersionRow;
use crate::database::{Database, Statement, statement};
use crate::{BatchWrite, Moment, Result, Store, StoredPullRequest, VersionConflict};

/// The condition of the index `pull_requests_outdated`: numbers of an earlier definition.
const OUTDATED: &str = "definition < 2";
// A new definition needs an index of its own, in a migration.
const _: () = assert!(DEFINITION == 2);

/// Statements that drop the guards and facts of one pull request, by repository and number, before
/// others take their place.
pub(super) const DROP_REPLACED: [&str; 4] = [
    "UPDATE pull_requests SET updated_at = NULL, merged_at = NULL \
     WHERE repo_id = $1 AND number = $2",
    "DELETE FROM commits WHERE repo_id = $1 AND number = $2",
    "DELETE FROM reviews WHERE repo_id = $1 AND number = $2",
    "DELETE FROM timeline_segments WHERE repo_id = $1 AND number = $2",
];

impl Store {
    /// Returns the stored state of each key,
    /// [`PullRequest::unknown`](tallyhook_core::domain::pull_request::PullRequest::unknown) for one
    /// without a row.
    pub async fn load(&self, keys: &[PrKey]) -> Result<Vec<StoredPullRequest>> {
        match &self.database {
            Database::Sqlite(database) => database.load(keys).await,
            Database::Postgres(database) => database.load(keys).await,
        }
    }

    /// Returns those of pull requests in memory, as they were written once, that are not written
    /// since, each with its repository as it is now.
    pub async fn current(&self, kept: Vec<StoredPullRequest>) -> Result<Vec<StoredPullRequest>> {
        if kept.is_empty() {
            return Ok(kept);
        }
        let keys: Vec<_> = kept.iter().map(|known| known.pull_request.key).collect();
        let stored = match &self.database {
            Database::Sqlite(database) => database.versions(&keys).await?,
            Database::Postgres(database) => database.versions(&keys).await?,
        };
        let mut stored: HashMap<PrKey, VersionRow> =
            stored.into_iter().map(|row| (row.key(), row)).collect();
        let is_current = |known: StoredPullRequest| {
            let row = stored.remove(&known.pull_request.key)?;
            row.confirm(known)
        };
        Ok(kept.into_iter().filter_map(is_current).collect())
    }

    /// Writes facts and numbers, and finishes the deliveries they are from, in one transaction. The
    /// one way in which a fact is written.
    pub async fn record(
        &self,
        write: &BatchWrite,
        now: Moment,
    ) -> Result<std::result::Result<(), VersionConflict>> {
        match &self.database {
            Database::Sqlite(database) => database.record(write, now).await,
            Database::Postgres(database) => database.record(write, now).await,
        }
    }

    /// Returns keys after `after` in ascending order, at most `limit`, to page through all pull
    /// requests.
    pub async fn keys_after(&self, after: Option<PrKey>, limit: u32) -> Result<Vec<PrKey>> {
        let query = statement(
            "SELECT repo_id, number FROM pull_requests WHERE (repo_id, number) > ($1, $2) \
             ORDER BY repo_id, number LIMIT $3",
        );
        self.keys(query, after, limit).await
    }

    /// Returns keys after `after` in ascending order, at most `limit`, of pull requests whose
    /// numbers are of an earlier definition.
    pub async fn outdated_after(&self, after: Option<PrKey>, limit: u32) -> Result<Vec<PrKey>> {
        let query = statement(format!(
            "SELECT repo_id, number FROM pull_requests WHERE (repo_id, number) > ($1, $2) \
             AND {OUTDATED} ORDER BY repo_id, number LIMIT $3"
        ));
        self.keys(query, after, limit).await
    }

    async fn keys(
        &self,
        query: Statement<'_>,
        after: Option<PrKey>,
        limit: u32,
    ) -> Result<Vec<PrKey>> {
        let after = after.map_or((i64::MIN, i64::MIN), |key| (key.repo.0, key.number.0));
        let query = query.bind(after.0).bind(after.1).bind(i64::from(limit));
        let rows: Vec<(i64, i64)> = self.database.rows(query).await?;
        let key = |(repo, number)| PrKey {
            repo: RepoId(repo),
            number: PrNumber(number),
        };
        Ok(rows.into_iter().map(key).collect())
    }

    /// Counts the pull requests whose numbers are of an earlier definition.
    pub async fn count_outdated(&self) -> Result<u64> {
        let query = format!("SELECT count(*) FROM pull_requests WHERE {OUTDATED}");
        let row: Option<(i64,)> = self.database.row(statement(query)).await?;
        Ok(row.map_or(0, |(outdated,)| outdated.unsigned_abs()))
    }
}
