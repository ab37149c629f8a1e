//! The facts in SQLite: one row holds one pull request, with the recent part of its timeline; its
//! reviews, and the segments of a long timeline, have rows of their own.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, FromRow};
use tallyhook_core::domain::join::Dated;
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::domain::review::Review;
use tallyhook_core::github::types::{InstallationId, PrKey, RepoId};

use super::commits::write_commits;
use super::derived::DerivedColumns;
use super::parties::{ChangedParties, PairColumns, PartyColumns};
use super::row::{
    FORMER_NAMES, KnownColumns, RepositoryColumns, RepositorySeen, ReviewColumns, SegmentColumns,
    VersionRow, columns_of, known_columns, pull_request_update,
};
use super::sql::DROP_REPLACED;
use crate::account_logins::write_logins;
use crate::changes::note_batch;
use crate::columns::{to_json, whole};
use crate::database::Transaction;
use crate::outbox::{append_events, notified_changes};
use crate::sqlite::{
    CHUNKS, SqliteDatabase, SqliteTransaction, chunk_sizes, chunks, ids_json, millis,
};
use crate::tasks::TaskWriter;
use crate::{
    BatchWrite, FinishedDelivery, Moment, PullRequestRecord, RepositoryObservation, Result,
    StoredPullRequest, VersionConflict,
};

/// A pull request as it is loaded, without its reviews and segments.
#[derive(FromRow)]
struct LoadedRow {
    #[sqlx(flatten)]
    row: KnownColumns,
    #[sqlx(flatten)]
    repository: RepositorySeen,
}

static LOAD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {}, {} FROM pull_requests p LEFT JOIN repositories r ON r.id = p.repo_id \
         WHERE (p.repo_id, p.number) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        known_columns(),
        RepositorySeen::COLUMNS
    )
});

static VERSIONS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM pull_requests p LEFT JOIN repositories r ON r.id = p.repo_id \
         WHERE (p.repo_id, p.number) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        VersionRow::columns()
    )
});

/// Returns keys as the JSON that statements take apart.
fn keys_json<'a>(keys: impl IntoIterator<Item = &'a PrKey>) -> Result<String> {
    let pairs = keys.into_iter().map(|key| (key.repo, key.number));
    to_json(&pairs.collect::<Vec<_>>())
}

impl SqliteDatabase {
    pub(crate) async fn versions(&self, keys: &[PrKey]) -> Result<Vec<VersionRow>> {
        let query = sqlx::query_as(AssertSqlSafe(VERSIONS.as_str())).bind(keys_json(keys)?);
        self.fetch_all(query).await
    }

    pub(crate) async fn load(&self, keys: &[PrKey]) -> Result<Vec<StoredPullRequest>> {
        let json = keys_json(keys)?;
        // One snapshot for all queries, so that reviews, segments and row belong together.
        let mut snapshot = self.snapshot().await?;
        let rows: Vec<LoadedRow> = sqlx::query_as(AssertSqlSafe(LOAD.as_str()))
            .bind(&json)
            .fetch_all(&mut *snapshot)
            .await?;
        let reviews: Vec<ReviewColumns> = sqlx::query_as(
            "SELECT * FROM reviews WHERE (repo_id, number) IN (SELECT value ->> 0, value ->> 1 \
             FROM json_each($1))",
        )
        .bind(&json)
        .fetch_all(&mut *snapshot)
        .await?;
        let rows_of_segments: Vec<SegmentColumns> = sqlx::query_as(
            "SELECT * FROM timeline_segments WHERE (repo_id, number) IN \
             (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        )
        .bind(&json)
        .fetch_all(&mut *snapshot)
        .await?;
        snapshot.end().await?;

        let mut segments: HashMap<PrKey, Vec<SegmentColumns>> = HashMap::new();
        for segment in rows_of_segments {
            segments.entry(segment.key()).or_default().push(segment);
        }
        let mut known: HashMap<PrKey, StoredPullRequest> = HashMap::with_capacity(rows.len());
        for row in rows {
            let LoadedRow { row, repository } = row;
            let segments = segments.remove(&row.key()).unwrap_or_default();
            known.insert(row.key(), row.joined(repository, segments));
        }
        for review in reviews {
            if let Some(known) = known.get_mut(&review.key()) {
                let review = Review::from(review);
                known.pull_request.reviews.insert(review.id, review);
            }
        }
        Ok(keys
            .iter()
            .map(|key| {
                let known = known.remove(key);
                known.unwrap_or_else(|| StoredPullRequest::unknown(*key))
            })
            .collect())
    }

    pub(crate) async fn record(
        &self,
        recording: &BatchWrite,
        now: Moment,
    ) -> Result<Result<(), VersionConflict>> {
        let mut writer = self.writer().await?;
        let mut transaction = writer.begin().await?;
        drop_replaced(&mut transaction, recording).await?;
        write_repositories(&mut transaction, &recording.repositories, now).await?;
        count_missed(&mut transaction, &recording.missed).await?;
        for (installation, access) in &recording.installations {
            write_installation(&mut transaction, *installation, access).await?;
        }
        if !write_pull_requests(&mut transaction, &recording.pull_requests).await?
            || !finish(&mut transaction, &recording.finished, now).await?
        {
            transaction.rollback().await?;
            return Ok(Err(VersionConflict));
        }
        write_reviews(&mut transaction, &recording.pull_requests).await?;
        write_segments(&mut transaction, &recording.pull_requests).await?;
        write_parties(&mut transaction, ChangedParties::of(recording)).await?;
        let mut transaction = Transaction::Sqlite(transaction);
        write_commits(&mut transaction, &recording.commits).await?;
        write_logins(&mut transaction, &recording.logins).await?;
        let marked = TaskWriter(&mut transaction).mark(recording).await?;
        let events = notified_changes(&mut transaction, recording).await?;
        let appended = append_events(&mut transaction, &events, now).await?;
        note_batch(&mut transaction, recording, now).await?;
        tallyhook_core::crash_point::reached("record.before_commit");
        transaction.commit().await?;
        tallyhook_core::crash_point::reached("record.committed");
        drop(writer);
        if appended + marked > 0 {
            self.notify_listeners();
        }
        Ok(Ok(()))
    }
}

/// Drops the guards and reviews of pull requests that are replaced, and the dates of their
/// repositories; another repository that claims the same name at a later date yields it.
async fn drop_replaced(
    transaction: &mut SqliteTransaction<'_>,
    recording: &BatchWrite,
) -> Result<()> {
    for key in &recording.replaced {
        for statement in DROP_REPLACED {
            let query = sqlx::query(statement).bind(key.repo.0).bind(key.number.0);
            query.execute(&mut **transaction).await?;
        }
    }
    let is_replaced = |id| recording.replaced.iter().any(|key| key.repo == id);
    let repositories = recording.repositories.iter().map(|seen| &seen.repository);
    for repository in repositories.filter(|repository| is_replaced(repository.id)) {
        sqlx::query(
            "UPDATE repositories SET seen_at = 0, access_at = 0, installation_id = NULL \
             WHERE id = $1",
        )
        .bind(repository.id.0)
        .execute(&mut **transaction)
        .await?;
        sqlx::query(
            "UPDATE repositories SET seen_at = $1 - 1 \
             WHERE name = $2 COLLATE NOCASE AND id <> $3 AND seen_at >= $1",
        )
        .bind(repository.seen.at.epoch())
        .bind(&repository.seen.value.name)
        .bind(repository.id.0)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

/// Marks the deliveries; `false` if one of them is not ours to finish any more.
async fn finish(
    transaction: &mut SqliteTransaction<'_>,
    finished: &[FinishedDelivery],
    now: Moment,
) -> Result<bool> {
    let mut groups: BTreeMap<(&str, Option<&str>), Vec<i64>> = BTreeMap::new();
    for finished in finished {
        let (group, id) = match finished {
            FinishedDelivery::Applied(id) => (("applied", None), id),
            FinishedDelivery::Ignored(id, reason) => (("ignored", Some(reason.as_str())), id),
        };
        groups.entry(group).or_default().push(id.0);
    }
    for ((state, reason), ids) in groups {
        let marked = sqlx::query(
            "UPDATE deliveries SET state = $1, reason = $2, finished_at = $3, leased_until = NULL \
             WHERE id IN (SELECT value FROM json_each($4)) AND +state = 'accepted'",
        )
        .bind(state)
        .bind(reason)
        .bind(millis(now))
        .bind(ids_json(ids.iter().copied()))
        .execute(&mut **transaction)
        .await?;
        if marked.rows_affected() != ids.len() as u64 {
            return Ok(false);
        }
    }
    Ok(true)
}

static UPSERT_REPOSITORY: LazyLock<[String; CHUNKS.len()]> = LazyLock::new(|| {
    let row = format!(
        "({})",
        vec!["?"; RepositoryColumns::COLUMNS.len()].join(", ")
    );
    let newer = "(excluded.seen_at, excluded.name, coalesce(excluded.private, -1)) \
         > (seen_at, name, coalesce(private, -1))";
    CHUNKS.map(|rows| {
        format!(
            "INSERT INTO repositories ({}) VALUES {} ON CONFLICT (id) DO UPDATE SET \
             name = CASE WHEN {newer} THEN excluded.name ELSE name END, \
             private = CASE WHEN {newer} THEN excluded.private ELSE private END, \
             seen_at = max(seen_at, excluded.seen_at), \
             installation_id = max(coalesce(installation_id, excluded.installation_id), \
                 coalesce(excluded.installation_id, installation_id)), \
             access = CASE WHEN (excluded.access_at, \
             instr('granted revoked deleted', excluded.access)) \
                 > (access_at, instr('granted revoked deleted', access)) THEN excluded.access \
                 ELSE access END, \
             access_at = max(access_at, excluded.access_at), \
             last_delivery_at = max(coalesce(last_delivery_at, excluded.last_delivery_at), \
                 coalesce(excluded.last_delivery_at, last_delivery_at)), \
             former_names = CASE WHEN excluded.former_names = '{{}}' \
                 AND lower(excluded.name) = lower(name) THEN former_names \
                 ELSE (SELECT json_group_object(former, at) FROM (\
                     SELECT former, max(at) AS at FROM (\
                         SELECT key AS former, value AS at \
                         FROM json_each(repositories.former_names) \
                         UNION ALL SELECT key, value FROM json_each(excluded.former_names) \
                         UNION ALL SELECT \
                             CASE WHEN {newer} THEN lower(name) ELSE lower(excluded.name) END, \
                             min(seen_at, excluded.seen_at) \
                         WHERE lower(excluded.name) <> lower(name)) \
                     GROUP BY former ORDER BY max(at) DESC, former LIMIT {FORMER_NAMES})) END",
            RepositoryColumns::COLUMNS.join(", "),
            vec![row.as_str(); rows].join(", ")
        )
    })
});

/// Joins with the rows, as the domain does. A trigger of the database gives a repository that is
/// seen for the first time to its teams.
async fn write_repositories(
    transaction: &mut SqliteTransaction<'_>,
    sightings: &[RepositoryObservation],
    now: Moment,
) -> Result<()> {
    if sightings.is_empty() {
        return Ok(());
    }
    for (place, chunk) in chunks(sightings) {
        let mut query = sqlx::query(AssertSqlSafe(UPSERT_REPOSITORY[place].as_str()));
        for sighting in chunk {
            query = RepositoryColumns::of(sighting, now).bind(query);
        }
        query.execute(&mut **transaction).await?;
    }
    let ids = ids_json(sightings.iter().map(|sighting| sighting.repository.id.0));
    // A later sight of a repository proves that its installation was not lost, or is back.
    sqlx::query(
        "UPDATE installations SET access = 'granted', access_at = seen.access_at FROM \
         (SELECT installation_id, max(access_at) AS access_at FROM repositories \
          WHERE id IN (SELECT value FROM json_each($1)) AND access = 'granted' \
          AND installation_id IS NOT NULL GROUP BY installation_id) AS seen \
         WHERE installations.id = seen.installation_id AND installations.access = 'revoked' \
         AND installations.access_at < seen.access_at",
    )
    .bind(&ids)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Counts changes that webhooks had missed.
async fn count_missed(
    transaction: &mut SqliteTransaction<'_>,
    missed: &[(RepoId, u64)],
) -> Result<()> {
    for (repo, changes) in missed {
        sqlx::query(
            "UPDATE repositories SET missed_by_webhook = missed_by_webhook + $1 WHERE id = $2",
        )
        .bind(whole(*changes))
        .bind(repo.0)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

/// Joins access to all repositories of an installation with what is known of it: the newer counts,
/// and at one second the loss. A loss from before the last sight of one of its repositories is none.
async fn write_installation(
    transaction: &mut SqliteTransaction<'_>,
    installation: InstallationId,
    access: &Dated<RepositoryAccess>,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO installations (id, access, access_at) SELECT $1, $2, $3 \
         WHERE $2 <> 'revoked' OR NOT EXISTS (SELECT 1 FROM repositories \
             WHERE installation_id = $1 AND access = 'granted' AND access_at > $3) \
         ON CONFLICT (id) DO UPDATE SET \
         access = excluded.access, access_at = excluded.access_at \
         WHERE (excluded.access_at, excluded.access) > (access_at, access)",
    )
    .bind(installation.0)
    .bind(access.value.as_str())
    .bind(access.at.epoch())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

static UPSERT: LazyLock<[String; CHUNKS.len()]> = LazyLock::new(|| {
    let columns = [KnownColumns::COLUMNS, DerivedColumns::COLUMNS].concat();
    let row = format!("({})", vec!["?"; columns.len()].join(", "));
    CHUNKS.map(|rows| {
        let (columns, values) = (columns.join(", "), vec![row.as_str(); rows].join(", "));
        format!(
            "INSERT INTO pull_requests AS known ({columns}) VALUES {values} {}",
            pull_request_update()
        )
    })
});

/// Reports whether all rows were written: a row is not if another writer changed it since it was
/// read.
async fn write_pull_requests(
    transaction: &mut SqliteTransaction<'_>,
    records: &[PullRequestRecord],
) -> Result<bool> {
    for (place, chunk) in chunks(records) {
        let mut query = sqlx::query(AssertSqlSafe(UPSERT[place].as_str()));
        for record in chunk {
            let (known, derived) = columns_of(record);
            query = derived.bind(known.bind(query));
        }
        if query.execute(&mut **transaction).await?.rows_affected() != chunk.len() as u64 {
            return Ok(false);
        }
    }
    Ok(true)
}

static UPSERT_REVIEW: LazyLock<[String; CHUNKS.len()]> = LazyLock::new(|| {
    let row = format!("({})", vec!["?"; ReviewColumns::COLUMNS.len()].join(", "));
    CHUNKS.map(|rows| {
        format!(
            "INSERT INTO reviews ({}) VALUES {} \
             ON CONFLICT (repo_id, number, github_review_id) DO UPDATE SET \
             reviewer_id = excluded.reviewer_id, reviewer_login = excluded.reviewer_login, \
             reviewer_type = excluded.reviewer_type, \
             submitted_at = min(submitted_at, excluded.submitted_at), \
             original_state = coalesce(excluded.original_state, original_state), \
             commit_id = coalesce(excluded.commit_id, commit_id), \
             dismissed = max(dismissed, excluded.dismissed), \
             dismissed_at = coalesce(excluded.dismissed_at, dismissed_at)",
            ReviewColumns::COLUMNS.join(", "),
            vec![row.as_str(); rows].join(", ")
        )
    })
});

/// Writes those reviews that changed.
async fn write_reviews(
    transaction: &mut SqliteTransaction<'_>,
    records: &[PullRequestRecord],
) -> Result<()> {
    let mut reviews = ReviewColumns::changed(records).into_iter();
    for (place, size) in chunk_sizes(reviews.len()) {
        let query = sqlx::query(AssertSqlSafe(UPSERT_REVIEW[place].as_str()));
        let query = reviews
            .by_ref()
            .take(size)
            .fold(query, |query, review| review.bind(query));
        query.execute(&mut **transaction).await?;
    }
    Ok(())
}

static INSERT_SEGMENT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO timeline_segments ({}) VALUES ({})",
        SegmentColumns::COLUMNS.join(", "),
        vec!["?"; SegmentColumns::COLUMNS.len()].join(", ")
    )
});

/// Writes the segments of long timelines, and deletes those that are of no use any more.
async fn write_segments(
    transaction: &mut SqliteTransaction<'_>,
    records: &[PullRequestRecord],
) -> Result<()> {
    for key in SegmentColumns::replaced(records) {
        sqlx::query("DELETE FROM timeline_segments WHERE repo_id = $1 AND number = $2")
            .bind(key.repo.0)
            .bind(key.number.0)
            .execute(&mut **transaction)
            .await?;
    }
    for segment in SegmentColumns::added(records) {
        let query = sqlx::query(AssertSqlSafe(INSERT_SEGMENT.as_str()));
        segment.bind(query).execute(&mut **transaction).await?;
    }
    Ok(())
}

/// Makes the insertions of rows into `table`, one for each size of a chunk.
fn insertions(table: &str, columns: &[&str]) -> [String; CHUNKS.len()] {
    let row = format!("({})", vec!["?"; columns.len()].join(", "));
    CHUNKS.map(|rows| {
        let values = vec![row.as_str(); rows].join(", ");
        format!(
            "INSERT INTO {table} ({}) VALUES {values}",
            columns.join(", ")
        )
    })
}

static INSERT_PARTIES: LazyLock<[String; CHUNKS.len()]> =
    LazyLock::new(|| insertions("waiting_parties", PartyColumns::COLUMNS));
static INSERT_PAIRS: LazyLock<[String; CHUNKS.len()]> =
    LazyLock::new(|| insertions("review_pairs", PairColumns::COLUMNS));

/// Replaces those that are waited for, and the review requests, of pull requests where they changed.
async fn write_parties(
    transaction: &mut SqliteTransaction<'_>,
    changed: ChangedParties,
) -> Result<()> {
    if changed.keys.is_empty() {
        return Ok(());
    }
    let keys = keys_json(&changed.keys)?;
    for delete in [
        "DELETE FROM waiting_parties WHERE (repo_id, number) IN \
         (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        "DELETE FROM review_pairs WHERE (repo_id, number) IN \
         (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
    ] {
        let query = sqlx::query(delete).bind(&keys);
        query.execute(&mut **transaction).await?;
    }
    let (mut parties, mut pairs) = (changed.parties.into_iter(), changed.pairs.into_iter());
    for (place, size) in chunk_sizes(parties.len()) {
        let query = sqlx::query(AssertSqlSafe(INSERT_PARTIES[place].as_str()));
        let rows = parties.by_ref().take(size);
        let query = rows.fold(query, |query, row| row.bind(query));
        query.execute(&mut **transaction).await?;
    }
    for (place, size) in chunk_sizes(pairs.len()) {
        let query = sqlx::query(AssertSqlSafe(INSERT_PAIRS[place].as_str()));
        let rows = pairs.by_ref().take(size);
        let query = rows.fold(query, |query, row| row.bind(query));
        query.execute(&mut **transaction).await?;
    }
    Ok(())
}
