//! The facts in PostgreSQL: one row holds one pull request, with the recent part of its timeline;
//! its reviews, and the segments of a long timeline, have rows of their own.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde::Serialize;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow};
use tallyhook_core::domain::join::{Dated, Join};
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::domain::review::Review;
use tallyhook_core::event::storable_json;
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
use crate::changes::{named_pull_requests, note_batch};
use crate::columns::{Name, Seconds, storable_text, whole};
use crate::database::Transaction;
use crate::outbox::{append_events, notified_changes};
use crate::postgres::{OUTBOX_CHANNEL, PooledSession, PostgresDatabase, PostgresTransaction};
use crate::tasks::TaskWriter;
use crate::{
    BatchWrite, FinishedDelivery, Moment, PullRequestRecord, RepositoryObservation, Result,
    StoreError, StoredPullRequest, VersionConflict,
};

// Rows to be written are bound as one JSON text, which the server takes apart into rows of the
// table's own types.

static LOAD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {}, {}, coalesce((\
             SELECT jsonb_agg(to_jsonb(r)) FROM reviews r WHERE r.repo_id = p.repo_id \
             AND r.number = p.number\
         ), '[]') AS reviews, \
         coalesce((\
             SELECT jsonb_agg(to_jsonb(s)) FROM timeline_segments s \
             WHERE s.repo_id = p.repo_id AND s.number = p.number\
         ), '[]') AS segments \
         FROM pull_requests p LEFT JOIN repositories r ON r.id = p.repo_id \
         WHERE (p.repo_id, p.number) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[]))",
        known_columns(),
        RepositorySeen::COLUMNS
    )
});

static VERSIONS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM pull_requests p LEFT JOIN repositories r ON r.id = p.repo_id \
         WHERE (p.repo_id, p.number) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[]))",
        VersionRow::columns()
    )
});

impl PostgresDatabase {
    pub(crate) async fn versions(&self, keys: &[PrKey]) -> Result<Vec<VersionRow>> {
        let query = sqlx::query_as(AssertSqlSafe(VERSIONS.as_str()));
        let query = query.bind(keys.iter().map(|key| key.repo.0).collect::<Vec<_>>());
        let query = query.bind(keys.iter().map(|key| key.number.0).collect::<Vec<_>>());
        self.connections.fetch_all(query).await
    }

    pub(crate) async fn load(&self, keys: &[PrKey]) -> Result<Vec<StoredPullRequest>> {
        // One statement, so that reviews, segments and row are of one snapshot.
        let query = sqlx::query_as(AssertSqlSafe(LOAD.as_str()));
        let query = query.bind(keys.iter().map(|key| key.repo.0).collect::<Vec<_>>());
        let query = query.bind(keys.iter().map(|key| key.number.0).collect::<Vec<_>>());
        let rows = self.connections.fetch_all::<LoadedRow>(query).await?;
        let mut known: HashMap<PrKey, StoredPullRequest> = HashMap::with_capacity(rows.len());
        for LoadedRow {
            row,
            repository,
            reviews,
            segments,
        } in rows
        {
            let mut row = row.joined(repository, segments.0);
            let reviews = reviews.0.into_iter().map(Review::from);
            row.pull_request.reviews = reviews.map(|review| (review.id, review)).collect();
            known.insert(row.pull_request.key, row);
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
        match self.write(recording, now).await {
            // Two that wait for each other: the server ended one of them, which is to try again.
            Err(StoreError::Database(error)) if is_conflict(&error) => Ok(Err(VersionConflict)),
            written => written,
        }
    }
}

impl PostgresDatabase {
    async fn write(
        &self,
        recording: &BatchWrite,
        now: Moment,
    ) -> Result<Result<(), VersionConflict>> {
        let mut session = self.connections.session().await?;
        session.execute(sqlx::query("BEGIN")).await?;
        drop_replaced(&mut session, recording).await?;
        if !write_pull_requests(&mut session, &recording.pull_requests).await?
            || !finish(&mut session, recording, now).await?
        {
            session.execute(sqlx::query("ROLLBACK")).await?;
            session.keep();
            return Ok(Err(VersionConflict));
        }
        write_reviews(&mut session, &recording.pull_requests).await?;
        write_segments(&mut session, &recording.pull_requests).await?;
        write_parties(&mut session, &ChangedParties::of(recording)).await?;
        if !recording.installations.is_empty() {
            // A loss and what undoes it, written side by side, would not see each other.
            let lock = "LOCK TABLE installations IN SHARE ROW EXCLUSIVE MODE";
            session.execute(sqlx::query(lock)).await?;
        }
        // Last, since every delivery of a repository writes its row and waits for other writers of
        // it.
        write_repositories(&mut session, &recording.repositories, now).await?;
        count_missed(&mut session, &recording.missed).await?;
        write_installations(&mut session, &recording.installations).await?;
        write_outbox(&mut session, recording, now).await?;
        tallyhook_core::crash_point::reached("record.before_commit");
        session.execute(sqlx::query("COMMIT")).await?;
        tallyhook_core::crash_point::reached("record.committed");
        session.keep();
        Ok(Ok(()))
    }
}

/// Drops the guards and reviews of pull requests that are replaced, and the dates of their
/// repositories; another repository that claims the same name at a later date yields it.
async fn drop_replaced(session: &mut PooledSession, recording: &BatchWrite) -> Result<()> {
    for key in &recording.replaced {
        for statement in DROP_REPLACED {
            let query = sqlx::query(statement).bind(key.repo.0).bind(key.number.0);
            session.execute(query).await?;
        }
    }
    let is_replaced = |id| recording.replaced.iter().any(|key| key.repo == id);
    let repositories = recording.repositories.iter().map(|seen| &seen.repository);
    for repository in repositories.filter(|repository| is_replaced(repository.id)) {
        let query = sqlx::query(
            "UPDATE repositories SET seen_at = to_timestamp(0), access_at = to_timestamp(0), \
             installation_id = NULL WHERE id = $1",
        );
        session.execute(query.bind(repository.id.0)).await?;
        let query = sqlx::query(
            "UPDATE repositories SET seen_at = $1::timestamptz - interval '1 second' \
             WHERE lower(name) = lower($2) AND id <> $3 AND seen_at >= $1",
        );
        let query = query
            .bind(repository.seen.at.to_utc())
            .bind(&repository.seen.value.name)
            .bind(repository.id.0);
        session.execute(query).await?;
    }
    Ok(())
}

/// Records commits and logins, marks tasks and appends events to the outbox, which is the last step of a
/// transaction.
async fn write_outbox(
    session: &mut PooledSession,
    recording: &BatchWrite,
    now: Moment,
) -> Result<()> {
    let mut transaction = Transaction::Postgres(PostgresTransaction(session));
    write_commits(&mut transaction, &recording.commits).await?;
    write_logins(&mut transaction, &recording.logins).await?;
    let marked = TaskWriter(&mut transaction).mark(recording).await?;
    let events = notified_changes(&mut transaction, recording).await?;
    let appended = append_events(&mut transaction, &events, now).await?;
    if recording.finished.is_empty() {
        note_batch(&mut transaction, recording, now).await?;
    }
    if appended + marked > 0 {
        // Sent by the commit.
        let notify = sqlx::query("SELECT pg_notify($1, '')").bind(OUTBOX_CHANNEL);
        session.execute(notify).await?;
    }
    Ok(())
}

/// A pull request with its reviews and the segments of its timeline.
#[derive(FromRow)]
struct LoadedRow {
    #[sqlx(flatten)]
    row: KnownColumns,
    #[sqlx(flatten)]
    repository: RepositorySeen,
    reviews: Json<Vec<ReviewColumns>>,
    segments: Json<Vec<SegmentColumns>>,
}

/// Reports whether the server ended a transaction in favour of another.
fn is_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    // Serialization failure; deadlock.
    code.is_some_and(|code| code == "40001" || code == "40P01")
}

/// Rows as JSON, without the U+0000 that PostgreSQL would refuse.
fn json(rows: &[impl Serialize]) -> Result<String> {
    let json = serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(error.into()))?;
    Ok(storable_json(&json).into_owned())
}

/// A pull request as it is written.
#[derive(Serialize)]
struct WrittenRow {
    #[serde(flatten)]
    known: KnownColumns,
    #[serde(flatten)]
    derived: DerivedColumns,
}

/// Inserts the rows of a JSON text into `table`, where it is called `known`.
fn insert(table: &str, columns: &str) -> String {
    format!(
        "INSERT INTO {table} AS known ({columns}) SELECT {columns} \
         FROM json_populate_recordset(NULL::{table}, $1::json)"
    )
}

static UPSERT: LazyLock<String> = LazyLock::new(|| {
    let columns = [KnownColumns::COLUMNS, DerivedColumns::COLUMNS]
        .concat()
        .join(", ");
    format!(
        "{} ORDER BY repo_id, number {}",
        insert("pull_requests", &columns),
        pull_request_update()
    )
});

/// Reports whether all rows were written: a row is not if another writer changed it since it was
/// read.
async fn write_pull_requests(
    session: &mut PooledSession,
    records: &[PullRequestRecord],
) -> Result<bool> {
    if records.is_empty() {
        return Ok(true);
    }
    let rows = records
        .iter()
        .map(columns_of)
        .map(|(known, derived)| WrittenRow { known, derived });
    let query = sqlx::query(AssertSqlSafe(UPSERT.as_str())).bind(json(&rows.collect::<Vec<_>>())?);
    Ok(session.execute(query).await? == records.len() as u64)
}

/// Marks the deliveries, and notes what the batch changed; `false` if one of them is not ours to
/// finish any more.
async fn finish(session: &mut PooledSession, recording: &BatchWrite, now: Moment) -> Result<bool> {
    let finished = &recording.finished;
    if finished.is_empty() {
        return Ok(true);
    }
    let reason = |finished: &FinishedDelivery| match finished {
        FinishedDelivery::Applied(_) => None,
        FinishedDelivery::Ignored(_, reason) => Some(storable_text(reason)),
    };
    // One statement, and so one answer of the server to wait for.
    let query = sqlx::query(
        "WITH noted AS (\
             INSERT INTO changes (at, kind, pull_requests) VALUES ($4, 'batch', $5)), \
         finished AS (\
             SELECT d.id, new.state, new.reason FROM deliveries d \
             JOIN unnest($1::bigint[], $2::text[], $3::text[]) AS new (id, state, reason) \
             ON new.id = d.id \
             WHERE d.state = 'accepted' ORDER BY d.id FOR UPDATE OF d) \
         UPDATE deliveries d SET state = finished.state, reason = finished.reason, \
         finished_at = $4, \
         leased_until = NULL FROM finished WHERE d.id = finished.id",
    )
    .bind(
        finished
            .iter()
            .map(|finished| finished.id().0)
            .collect::<Vec<_>>(),
    )
    .bind(
        finished
            .iter()
            .map(FinishedDelivery::outcome)
            .collect::<Vec<_>>(),
    )
    .bind(finished.iter().map(reason).collect::<Vec<_>>())
    .bind(now)
    .bind(named_pull_requests(recording)?);
    Ok(session.execute(query).await? == finished.len() as u64)
}

static UPSERT_REVIEWS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} ON CONFLICT (repo_id, number, github_review_id) DO UPDATE SET \
         reviewer_id = excluded.reviewer_id, reviewer_login = excluded.reviewer_login, \
         reviewer_type = excluded.reviewer_type, \
         submitted_at = least(known.submitted_at, excluded.submitted_at), \
         original_state = coalesce(excluded.original_state, known.original_state), \
         commit_id = coalesce(excluded.commit_id, known.commit_id), \
         dismissed = known.dismissed OR excluded.dismissed, \
         dismissed_at = coalesce(excluded.dismissed_at, known.dismissed_at)",
        insert("reviews", &ReviewColumns::COLUMNS.join(", "))
    )
});

/// Writes those reviews that changed.
async fn write_reviews(session: &mut PooledSession, records: &[PullRequestRecord]) -> Result<()> {
    let reviews = ReviewColumns::changed(records);
    if reviews.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(AssertSqlSafe(UPSERT_REVIEWS.as_str()));
    session
        .execute(query.bind(json(&reviews)?))
        .await
        .map(|_| ())
}

/// Writes the segments of long timelines, and deletes those that are of no use any more.
async fn write_segments(session: &mut PooledSession, records: &[PullRequestRecord]) -> Result<()> {
    let replaced = SegmentColumns::replaced(records);
    if !replaced.is_empty() {
        let query = sqlx::query(
            "DELETE FROM timeline_segments WHERE (repo_id, number) IN \
             (SELECT * FROM unnest($1::bigint[], $2::bigint[]))",
        )
        .bind(replaced.iter().map(|key| key.repo.0).collect::<Vec<_>>())
        .bind(replaced.iter().map(|key| key.number.0).collect::<Vec<_>>());
        session.execute(query).await?;
    }
    let added = SegmentColumns::added(records);
    if !added.is_empty() {
        let columns = SegmentColumns::COLUMNS.join(", ");
        let query = sqlx::query(AssertSqlSafe(insert("timeline_segments", &columns)));
        session.execute(query.bind(json(&added)?)).await?;
    }
    Ok(())
}

static INSERT_PARTIES: LazyLock<String> = LazyLock::new(|| {
    let (parties, pairs) = (
        PartyColumns::COLUMNS.join(", "),
        PairColumns::COLUMNS.join(", "),
    );
    format!(
        "WITH parties AS (INSERT INTO waiting_parties ({parties}) SELECT {parties} \
             FROM json_populate_recordset(NULL::waiting_parties, $1::json)) \
         INSERT INTO review_pairs ({pairs}) SELECT {pairs} \
         FROM json_populate_recordset(NULL::review_pairs, $2::json)"
    )
});

/// Replaces those that are waited for, and the review requests, of pull requests where they changed.
async fn write_parties(session: &mut PooledSession, changed: &ChangedParties) -> Result<()> {
    if changed.keys.is_empty() {
        return Ok(());
    }
    let keys = &changed.keys;
    let query = sqlx::query(
        "WITH changed AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS c (repo, pr)), \
         parties AS (DELETE FROM waiting_parties USING changed \
             WHERE repo_id = repo AND number = pr) \
         DELETE FROM review_pairs USING changed WHERE repo_id = repo AND number = pr",
    )
    .bind(keys.iter().map(|key| key.repo.0).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.number.0).collect::<Vec<_>>());
    session.execute(query).await?;
    if changed.parties.is_empty() && changed.pairs.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(AssertSqlSafe(INSERT_PARTIES.as_str()))
        .bind(json(&changed.parties)?)
        .bind(json(&changed.pairs)?);
    session.execute(query).await.map(|_| ())
}

static UPSERT_REPOSITORIES: LazyLock<String> = LazyLock::new(|| {
    let (newer, lost) = (
        "(excluded.seen_at, excluded.name, coalesce(excluded.private::int, -1)) \
         > (known.seen_at, known.name, coalesce(known.private::int, -1))",
        "(excluded.access_at, strpos('granted revoked deleted', excluded.access)) \
         > (known.access_at, strpos('granted revoked deleted', known.access))",
    );
    format!(
        "WITH written AS ({} ON CONFLICT (id) DO UPDATE SET \
             name = CASE WHEN {newer} THEN excluded.name ELSE known.name END, \
             private = CASE WHEN {newer} THEN excluded.private ELSE known.private END, \
             seen_at = greatest(known.seen_at, excluded.seen_at), \
             installation_id = greatest(known.installation_id, excluded.installation_id), \
             access = CASE WHEN {lost} THEN excluded.access ELSE known.access END, \
             access_at = greatest(known.access_at, excluded.access_at), \
             last_delivery_at = greatest(known.last_delivery_at, excluded.last_delivery_at), \
             former_names = CASE WHEN excluded.former_names = '{{}}' \
                 AND lower(excluded.name) = lower(known.name) THEN known.former_names \
                 ELSE (SELECT jsonb_object_agg(name, at) FROM (\
                     SELECT name, max(at) AS at FROM (\
                         SELECT key AS name, value::bigint AS at \
                         FROM jsonb_each_text(known.former_names) \
                         UNION ALL SELECT key, value::bigint \
                         FROM jsonb_each_text(excluded.former_names) \
                         UNION ALL SELECT \
                             CASE WHEN {newer} THEN lower(known.name) ELSE lower(excluded.name) END, \
                             extract(epoch FROM least(known.seen_at, excluded.seen_at))::bigint \
                         WHERE lower(excluded.name) <> lower(known.name)) AS seen \
                     GROUP BY name ORDER BY max(at) DESC, name LIMIT {FORMER_NAMES}) AS newest) END \
             RETURNING id, installation_id, access, access_at), \
         proven AS (\
             SELECT installation_id, max(access_at) AS access_at FROM written \
             WHERE access = 'granted' GROUP BY installation_id) \
         UPDATE installations i SET access = 'granted', access_at = proven.access_at \
         FROM proven WHERE i.id = proven.installation_id AND i.access = 'revoked' \
         AND i.access_at < proven.access_at",
        insert("repositories", &RepositoryColumns::COLUMNS.join(", "))
    )
});

/// Joins with the rows, as the domain does. A trigger of the database gives a repository that is
/// seen for the first time to its teams; a later sight proves that its installation was not lost,
/// or is back.
async fn write_repositories(
    session: &mut PooledSession,
    sightings: &[RepositoryObservation],
    now: Moment,
) -> Result<()> {
    // A statement writes a row once.
    let mut joined: BTreeMap<RepoId, RepositoryObservation> = BTreeMap::new();
    for sighting in sightings {
        match joined.get_mut(&sighting.repository.id) {
            Some(known) => drop(known.join(sighting.clone())),
            None => drop(joined.insert(sighting.repository.id, sighting.clone())),
        }
    }
    if joined.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = joined
        .values()
        .map(|sighting| RepositoryColumns::of(sighting, now))
        .collect();
    let query = sqlx::query(AssertSqlSafe(UPSERT_REPOSITORIES.as_str()));
    session.execute(query.bind(json(&rows)?)).await.map(|_| ())
}

/// Counts changes that webhooks had missed; the rows are mostly those that were just written.
async fn count_missed(session: &mut PooledSession, missed: &[(RepoId, u64)]) -> Result<()> {
    for (repo, changes) in missed {
        let query = sqlx::query(
            "UPDATE repositories SET missed_by_webhook = missed_by_webhook + $1 WHERE id = $2",
        );
        session
            .execute(query.bind(whole(*changes)).bind(repo.0))
            .await?;
    }
    Ok(())
}

#[derive(Serialize)]
struct InstallationRow {
    id: i64,
    access: Name<RepositoryAccess>,
    access_at: Seconds,
}

/// Joins access to all repositories of an installation with what is known of it: the newer counts,
/// and at one second the loss. A loss from before the last sight of one of its repositories is none.
async fn write_installations(
    session: &mut PooledSession,
    installations: &[(InstallationId, Dated<RepositoryAccess>)],
) -> Result<()> {
    let mut newest: BTreeMap<InstallationId, &Dated<RepositoryAccess>> = BTreeMap::new();
    for (installation, access) in installations {
        let known = newest.entry(*installation).or_insert(access);
        if (access.at, access.value) > (known.at, known.value) {
            *known = access;
        }
    }
    if newest.is_empty() {
        return Ok(());
    }
    let rows = newest
        .into_iter()
        .map(|(InstallationId(id), access)| InstallationRow {
            id,
            access: Name(access.value),
            access_at: Seconds(access.at),
        });
    let query = sqlx::query(
        "INSERT INTO installations AS known (id, access, access_at) SELECT id, access, access_at \
         FROM json_populate_recordset(NULL::installations, $1::json) AS new \
         WHERE new.access <> 'revoked' OR NOT EXISTS (SELECT 1 FROM repositories r \
             WHERE r.installation_id = new.id AND r.access = 'granted' \
             AND r.access_at > new.access_at) ON CONFLICT (id) \
         DO UPDATE SET access = excluded.access, access_at = excluded.access_at \
         WHERE (excluded.access_at, excluded.access) > (known.access_at, known.access)",
    );
    session
        .execute(query.bind(json(&rows.collect::<Vec<_>>())?))
        .await
        .map(|_| ())
}
