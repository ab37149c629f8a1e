//! What is asked of GitHub, in SQL that both kinds of database understand.

use sqlx::{AssertSqlSafe, Database, Encode, FromRow, Sqlite, Type};
use tallyhook_core::domain::repository::Repository;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};

use super::facts::Facts;
use super::rows::{
    Millis, PollerRow, Seconds, TrackedRow, WatchCountsRow, WatchedRow, text, whole,
};
use super::runs_sql::UNFINISHED;
use super::sessions::Sessions;
use super::{
    BatchWrite, Moment, PollerStats, RepositoryObservation, Result, SyncState, Syncing,
    TrackedRepository, WatchCounts, Watched,
};

const TRACKED: &str = "SELECT r.id, r.name, r.private, \
    CASE WHEN r.access = 'granted' AND i.access = 'revoked' THEN 'revoked' ELSE r.access END AS access, \
    r.tracked_since, r.sync_status, r.last_sync_at, r.last_error, r.last_delivery_at, r.watermark, r.reconciled_at, \
    r.complete_since, r.missed_by_webhook \
    FROM repositories r LEFT JOIN installations i ON i.id = r.installation_id WHERE r.tracked";

#[async_trait::async_trait]
impl<S> Syncing for S
where
    S: Sessions + Facts,
    for<'q> i64: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> String: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Millis: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Seconds: Type<S::Kind>,
    for<'q> Option<Seconds>: Encode<'q, S::Kind>,
    for<'q> Option<String>: Encode<'q, S::Kind>,
    for<'r> (i64,): FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> TrackedRow: FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> WatchedRow: FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> WatchCountsRow: FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> PollerRow: FromRow<'r, <S::Kind as Database>::Row>,
{
    async fn track(&self, repository: &Repository, now: Moment) -> Result<bool> {
        let sighting = RepositoryObservation {
            repository: repository.clone(),
            last_delivery: None,
            tracks: None,
        };
        let seen = BatchWrite {
            repositories: vec![sighting],
            ..BatchWrite::default()
        };
        while self.record(&seen, now).await?.is_err() {}
        // What was compared before it was left alone vouches for nothing of the time between.
        let update = "UPDATE repositories SET tracked = true, tracked_since = $1, complete_since = NULL, \
                      watermark = NULL, reconciled_at = NULL, last_error = NULL WHERE id = $2 AND NOT tracked";
        Ok(self
            .write(sqlx::query(update).bind(Millis(now)).bind(repository.id.0))
            .await?
            == 1)
    }

    async fn untrack(&self, repo: RepoId, now: Moment) -> Result<bool> {
        let mut writer = self.writer().await?;
        let mut session = writer.begin().await?;
        let update = "UPDATE repositories SET tracked = false, sync_status = 'pending' WHERE id = $1 AND tracked";
        if session.execute(sqlx::query(update).bind(repo.0)).await? == 0 {
            session.rollback().await?;
            return Ok(false);
        }
        let cancel = format!(
            "UPDATE sync_runs SET state = 'cancelled', finished_at = $2 WHERE repo_id = $1 AND {UNFINISHED}"
        );
        session
            .execute(
                sqlx::query(AssertSqlSafe(cancel))
                    .bind(repo.0)
                    .bind(Millis(now)),
            )
            .await?;
        session.commit().await?;
        Ok(true)
    }

    async fn tracked(&self) -> Result<Vec<TrackedRepository>> {
        let rows = self
            .read(sqlx::query(AssertSqlSafe(format!(
                "{TRACKED} ORDER BY r.name, r.id"
            ))))
            .await?;
        rows.iter()
            .map(|row| Ok(TrackedRow::from_row(row)?.into()))
            .collect()
    }

    async fn tracked_repository(&self, repo: RepoId) -> Result<Option<TrackedRepository>> {
        let rows = self
            .read(sqlx::query(AssertSqlSafe(format!("{TRACKED} AND r.id = $1"))).bind(repo.0))
            .await?;
        rows.first()
            .map(|row| Ok(TrackedRow::from_row(row)?.into()))
            .transpose()
    }

    async fn sync_state(&self, repo: RepoId, state: &SyncState, now: Moment) -> Result<()> {
        let update = match state {
            SyncState::Polled { watermark, reconciled } => sqlx::query(AssertSqlSafe(format!(
                "UPDATE repositories SET last_sync_at = $2, last_error = NULL, \
                 sync_status = CASE WHEN EXISTS (SELECT 1 FROM sync_runs WHERE repo_id = $1 AND {UNFINISHED}) \
                     THEN 'syncing' ELSE 'synced' END, \
                 watermark = CASE WHEN watermark IS NULL OR watermark < $3 THEN $3 ELSE watermark END, \
                 reconciled_at = CASE WHEN $4 = 1 THEN $2 ELSE reconciled_at END WHERE id = $1"
            )))
            .bind(repo.0)
            .bind(Millis(now))
            .bind(watermark.map(Seconds))
            .bind(i64::from(*reconciled)),
            SyncState::Failed(error) => {
                sqlx::query("UPDATE repositories SET sync_status = 'error', last_error = $2 WHERE id = $1")
                    .bind(repo.0)
                    .bind(text(error))
            }
        };
        self.write(update).await.map(|_| ())
    }

    async fn unfetched(
        &self,
        repo: RepoId,
        checked_before: Moment,
        limit: u32,
    ) -> Result<Vec<PrNumber>> {
        // SQLite knows nothing of how few they are.
        let index = if S::Kind::NAME == Sqlite::NAME {
            "INDEXED BY pull_requests_unfetched"
        } else {
            ""
        };
        let query = format!(
            "SELECT p.number FROM pull_requests AS p {index} \
             LEFT JOIN checks c ON c.repo_id = p.repo_id AND c.number = p.number \
             WHERE p.repo_id = $1 AND p.full_updated_at IS NULL AND (c.checked_at IS NULL OR c.checked_at < $2) \
             AND EXISTS (SELECT 1 FROM repositories WHERE id = $1 AND tracked) \
             ORDER BY c.checked_at NULLS FIRST, p.number DESC LIMIT $3"
        );
        let query = sqlx::query(AssertSqlSafe(query))
            .bind(repo.0)
            .bind(Millis(checked_before))
            .bind(i64::from(limit));
        numbers::<S>(&self.read(query).await?)
    }

    async fn checked(&self, keys: &[PrKey], at: Moment) -> Result<()> {
        // In one order, so that nobody waits for another in a circle.
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        let mut writer = self.writer().await?;
        let mut session = writer.begin().await?;
        for key in keys {
            let upsert = "INSERT INTO checks AS known (repo_id, number, checked_at) VALUES ($1, $2, $3) \
                          ON CONFLICT (repo_id, number) DO UPDATE SET checked_at = excluded.checked_at \
                          WHERE known.checked_at < excluded.checked_at";
            session
                .execute(
                    sqlx::query(upsert)
                        .bind(key.repo.0)
                        .bind(key.number.0)
                        .bind(Millis(at)),
                )
                .await?;
        }
        session.commit().await
    }

    async fn watch(&self, repo_name: &str, number: PrNumber, now: Moment) -> Result<bool> {
        let insert = "INSERT INTO monitors (repo_key, repo_name, number, since) VALUES ($1, $2, $3, $4) \
                      ON CONFLICT (repo_key, number) DO NOTHING";
        let insert = sqlx::query(insert)
            .bind(name_key(repo_name))
            .bind(text(repo_name));
        Ok(self.write(insert.bind(number.0).bind(Millis(now))).await? == 1)
    }

    async fn unwatch(&self, repo_name: &str, number: PrNumber) -> Result<bool> {
        let delete = sqlx::query("DELETE FROM monitors WHERE repo_key = $1 AND number = $2");
        Ok(self
            .write(delete.bind(name_key(repo_name)).bind(number.0))
            .await?
            == 1)
    }

    async fn watched(&self, due_before: Moment, limit: u32) -> Result<Vec<Watched>> {
        let query = sqlx::query(
            "SELECT repo_name, number, since, checked_at, failures, error FROM monitors \
             WHERE checked_at IS NULL OR checked_at < $1 ORDER BY checked_at NULLS FIRST, repo_key, number LIMIT $2",
        );
        let rows = self
            .read(query.bind(Millis(due_before)).bind(i64::from(limit)))
            .await?;
        rows.iter()
            .map(|row| Ok(WatchedRow::from_row(row)?.into()))
            .collect()
    }

    async fn failing_watches(&self, limit: u32) -> Result<Vec<Watched>> {
        let query = sqlx::query(
            "SELECT repo_name, number, since, checked_at, failures, error FROM monitors \
             WHERE error IS NOT NULL ORDER BY checked_at DESC, repo_key, number LIMIT $1",
        );
        let rows = self.read(query.bind(i64::from(limit))).await?;
        rows.iter()
            .map(|row| Ok(WatchedRow::from_row(row)?.into()))
            .collect()
    }

    async fn watch_counts(&self, due_before: Moment) -> Result<WatchCounts> {
        let query = "SELECT count(*) AS watched, count(error) AS failing, \
                     count(CASE WHEN checked_at IS NULL OR checked_at < $1 THEN 1 END) AS due FROM monitors";
        let rows = self
            .read(sqlx::query(query).bind(Millis(due_before)))
            .await?;
        rows.first().map_or(Ok(WatchCounts::default()), |row| {
            Ok(WatchCountsRow::from_row(row)?.into())
        })
    }

    async fn watch_checked(
        &self,
        repo_name: &str,
        number: PrNumber,
        now: Moment,
        outcome: std::result::Result<(), &str>,
    ) -> Result<()> {
        let update = sqlx::query(
            "UPDATE monitors SET checked_at = $3, error = $4, failures = CASE WHEN $4 IS NULL THEN 0 ELSE failures + 1 END \
             WHERE repo_key = $1 AND number = $2",
        );
        let update = update
            .bind(name_key(repo_name))
            .bind(number.0)
            .bind(Millis(now))
            .bind(outcome.err().map(text));
        self.write(update).await.map(|_| ())
    }

    async fn poller_stats(&self) -> Result<PollerStats> {
        let query = "SELECT running_since, last_sync_at, sync_count, error_count, asked_at, statistics FROM poller WHERE id = 1";
        let rows = self.read(sqlx::query(query)).await?;
        rows.first().map_or(Ok(PollerStats::default()), |row| {
            PollerRow::from_row(row)?.try_into()
        })
    }

    async fn ask_for_poll(&self, now: Moment) -> Result<()> {
        let update = sqlx::query("UPDATE poller SET asked_at = $1 WHERE id = 1");
        self.write(update.bind(Millis(now))).await.map(|_| ())
    }

    async fn poll_began(&self, now: Moment) -> Result<()> {
        let update =
            sqlx::query("UPDATE poller SET running_since = $1, asked_at = NULL WHERE id = 1");
        self.write(update.bind(Millis(now))).await.map(|_| ())
    }

    async fn poll_ended(
        &self,
        now: Moment,
        errors: u64,
        statistics: &serde_json::Value,
    ) -> Result<()> {
        let update = sqlx::query(
            "UPDATE poller SET running_since = NULL, last_sync_at = $1, sync_count = sync_count + 1, \
             error_count = error_count + $2, statistics = $3 WHERE id = 1",
        );
        self.write(
            update
                .bind(Millis(now))
                .bind(whole(errors))
                .bind(statistics.to_string()),
        )
        .await
        .map(|_| ())
    }
}

fn numbers<S: Sessions>(rows: &[<S::Kind as Database>::Row]) -> Result<Vec<PrNumber>>
where
    for<'r> (i64,): FromRow<'r, <S::Kind as Database>::Row>,
{
    rows.iter()
        .map(|row| Ok(PrNumber(<(i64,)>::from_row(row)?.0)))
        .collect()
}

/// A name to compare by. Names on GitHub are ASCII.
fn name_key(name: &str) -> String {
    text(name).to_ascii_lowercase()
}
