//! The facts in SQLite: one row holds one pull request, its timeline among it; its reviews have rows of their own.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};

use super::{CHUNKS, SqliteStore, chunks, from_json, from_name, ids_json, millis, to_json};
use crate::domain::join::Dated;
use crate::domain::pull_request::{Author, Observed, PullRequest};
use crate::domain::repository::{Access, Repository};
use crate::domain::review::Review;
use crate::domain::timings::{DEFINITION, Timings};
use crate::event::{Branches, CommitDates, Conversation, Diff, Fact};
use crate::github::types::{Account, AccountId, InstallationId, PrKey, PrNumber, RepoId, ReviewId, Timestamp};
use crate::store::{Conflict, Facts, Finished, Known, Moment, PullRequestRecord, Recording, Result};

#[async_trait::async_trait]
impl Facts for SqliteStore {
    async fn load(&self, keys: &[PrKey]) -> Result<Vec<Known>> {
        let json = to_json(&keys.iter().map(|key| (key.repo, key.number)).collect::<Vec<_>>())?;
        // One snapshot for both queries, so that reviews and row belong together.
        let mut transaction = self.readers.begin().await?;
        let rows = sqlx::query(
            "SELECT * FROM pull_requests WHERE (repo_id, number) IN \
             (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        )
        .bind(&json)
        .fetch_all(&mut *transaction)
        .await?;
        let reviews = sqlx::query(
            "SELECT * FROM reviews WHERE (repo_id, number) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        )
        .bind(&json)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;

        let mut known: HashMap<PrKey, Known> = HashMap::with_capacity(keys.len());
        for row in &rows {
            let pull_request = pull_request(row)?;
            known.insert(pull_request.key, Known { version: row.try_get("version")?, pull_request });
        }
        for row in &reviews {
            let (key, review) = (key(row)?, review(row)?);
            if let Some(known) = known.get_mut(&key) {
                known.pull_request.reviews.insert(review.id, review);
            }
        }
        let unknown = |key: &PrKey| Known { pull_request: PullRequest::unknown(*key), version: 0 };
        Ok(keys.iter().map(|key| known.remove(key).unwrap_or_else(|| unknown(key))).collect())
    }

    async fn record(&self, recording: &Recording, now: Moment) -> Result<Result<(), Conflict>> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin().await?;
        for repository in &recording.repositories {
            write_repository(&mut transaction, repository, now).await?;
        }
        for (installation, access) in &recording.installations {
            write_installation(&mut transaction, *installation, access).await?;
        }
        if !write_pull_requests(&mut transaction, &recording.pull_requests).await?
            || !finish(&mut transaction, &recording.finished, now).await?
        {
            transaction.rollback().await?;
            return Ok(Err(Conflict));
        }
        write_reviews(&mut transaction, &recording.pull_requests).await?;
        crate::crash_point!("record.before_commit");
        transaction.commit().await?;
        crate::crash_point!("record.committed");
        Ok(Ok(()))
    }

    async fn keys_after(&self, after: Option<PrKey>, limit: u32) -> Result<Vec<PrKey>> {
        let after = after.map_or((i64::MIN, i64::MIN), |key| (key.repo.0, key.number.0));
        let rows = sqlx::query(
            "SELECT repo_id, number FROM pull_requests WHERE (repo_id, number) > ($1, $2) \
             ORDER BY repo_id, number LIMIT $3",
        )
        .bind(after.0)
        .bind(after.1)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(key).collect()
    }
}

/// Marks the deliveries; `false` if one of them is not ours to finish any more.
async fn finish(transaction: &mut Transaction<'_, Sqlite>, finished: &[Finished], now: Moment) -> Result<bool> {
    let mut groups: BTreeMap<(&str, Option<&str>), Vec<i64>> = BTreeMap::new();
    for finished in finished {
        let (group, id) = match finished {
            Finished::Applied(id) => (("applied", None), id),
            Finished::Ignored(id, reason) => (("ignored", Some(reason.as_str())), id),
        };
        groups.entry(group).or_default().push(id.0);
    }
    for ((state, reason), ids) in groups {
        let marked = sqlx::query(
            "UPDATE deliveries SET state = $1, reason = $2, finished_ms = $3, leased_until_ms = 0 \
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

/// Joins with the row, as the domain does. The first sight makes the repository a tracked one of the default team.
async fn write_repository(
    transaction: &mut Transaction<'_, Sqlite>,
    repository: &Repository,
    now: Moment,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO repositories (id, name, private, seen_at, installation_id, access, access_at, tracked_since_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET \
         name = CASE WHEN (excluded.seen_at, excluded.name, coalesce(excluded.private, -1)) \
             > (seen_at, name, coalesce(private, -1)) THEN excluded.name ELSE name END, \
         private = CASE WHEN (excluded.seen_at, excluded.name, coalesce(excluded.private, -1)) \
             > (seen_at, name, coalesce(private, -1)) THEN excluded.private ELSE private END, \
         seen_at = max(seen_at, excluded.seen_at), \
         installation_id = max(coalesce(installation_id, excluded.installation_id), \
             coalesce(excluded.installation_id, installation_id)), \
         access = CASE WHEN (excluded.access_at, instr('granted revoked deleted', excluded.access)) \
             > (access_at, instr('granted revoked deleted', access)) THEN excluded.access ELSE access END, \
         access_at = max(access_at, excluded.access_at)",
    )
    .bind(repository.id.0)
    .bind(&repository.seen.value.name)
    .bind(repository.seen.value.private)
    .bind(repository.seen.at.epoch())
    .bind(repository.installation.map(|id| id.0))
    .bind(repository.access.value.as_str())
    .bind(repository.access.at.epoch())
    .bind(millis(now))
    .execute(&mut **transaction)
    .await?;
    sqlx::query("INSERT INTO team_repositories (team_id, repo_id) VALUES (1, $1) ON CONFLICT DO NOTHING")
        .bind(repository.id.0)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Joins access to all repositories of an installation with what is known of it: the newer counts, and at one second
/// the loss.
async fn write_installation(
    transaction: &mut Transaction<'_, Sqlite>,
    installation: InstallationId,
    access: &Dated<Access>,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO installations (id, access, access_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET \
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

/// Every column that a write sets, in the order in which they are bound.
const COLUMNS: [&str; 52] = [
    "repo_id",
    "number",
    "version",
    "pr_id",
    "github_pr_id",
    "pr_created_at",
    "author_id",
    "author_login",
    "author_type",
    "author_at",
    "updated_at",
    "title",
    "body",
    "html_url",
    "labels",
    "is_open",
    "closed_at",
    "branches_updated_at",
    "draft",
    "base_ref",
    "head_ref",
    "head_sha",
    "head_repo_id",
    "full_updated_at",
    "additions",
    "deletions",
    "changed_files",
    "commits",
    "merged_at",
    "commit_first_at",
    "commit_last_at",
    "commit_prehistoric",
    "timeline",
    "observed",
    "source",
    "definition",
    "state",
    "author_is_bot",
    "ready_at",
    "first_commit_at",
    "first_response_at",
    "first_review_at",
    "final_approval_at",
    "cycle_time_s",
    "review_time_s",
    "coding_s",
    "pickup_s",
    "review_s",
    "merge_wait_s",
    "redraft_s",
    "closed_s",
    "flags",
];

/// The version must be the one that was read, and what is written no older than what is there: the rule of the
/// domain once more, where no other process can get between.
static UPSERT: LazyLock<[String; CHUNKS.len()]> = LazyLock::new(|| {
    let row = format!("({})", vec!["?"; COLUMNS.len()].join(", "));
    let updates: Vec<_> = COLUMNS[2..].iter().map(|column| format!("{column} = excluded.{column}")).collect();
    CHUNKS.map(|rows| {
        format!(
            "INSERT INTO pull_requests ({}) VALUES {} ON CONFLICT (repo_id, number) DO UPDATE SET {} \
             WHERE pull_requests.version = excluded.version - 1 \
             AND coalesce(pull_requests.updated_at <= excluded.updated_at, pull_requests.updated_at IS NULL) \
             AND (pull_requests.merged_at IS NULL OR excluded.merged_at <= pull_requests.merged_at)",
            COLUMNS.join(", "),
            vec![row.as_str(); rows].join(", "),
            updates.join(", ")
        )
    })
});

/// Whether all rows were written, which one was not if somebody else wrote it since it was read.
async fn write_pull_requests(transaction: &mut Transaction<'_, Sqlite>, records: &[PullRequestRecord]) -> Result<bool> {
    for (place, chunk) in chunks(records) {
        let mut query = sqlx::query(AssertSqlSafe(UPSERT[place].as_str()));
        for record in chunk {
            query = bind_pull_request(query, record)?;
        }
        if query.execute(&mut **transaction).await?.rows_affected() != chunk.len() as u64 {
            return Ok(false);
        }
    }
    Ok(true)
}

type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Binds one row, in the order of [`COLUMNS`].
fn bind_pull_request<'q>(query: Statement<'q>, record: &'q PullRequestRecord) -> Result<Statement<'q>> {
    let PullRequest {
        key,
        github_id,
        created_at,
        author,
        conversation,
        branches,
        diff,
        merged_at,
        commits,
        timeline,
        observed,
        reviews: _,
        source,
    } = &record.known.pull_request;
    let epoch = |at: Option<Timestamp>| at.map(Timestamp::epoch);
    let (talk, code, counts) = (
        conversation.as_ref().map(|dated| &dated.value),
        branches.as_ref().map(|dated| &dated.value),
        diff.as_ref().map(|dated| &dated.value),
    );
    let account = author.as_ref().map(|dated| &dated.value.0);
    let timings = record.timings.as_ref();
    let stages = timings.map(|timings| timings.stages).unwrap_or_default();
    let moment = |of: fn(&Timings) -> Option<Timestamp>| epoch(timings.and_then(of));
    let facts: Vec<Fact> = timeline.iter().collect();
    let seen: BTreeMap<i64, Observed> = observed.iter().map(|(at, seen)| (at.epoch(), *seen)).collect();

    Ok(query
        .bind(key.repo.0)
        .bind(key.number.0)
        .bind(record.known.version + 1)
        .bind(PullRequest::id(*key).to_string())
        .bind(github_id)
        .bind(epoch(*created_at))
        .bind(account.map(|account| account.id.0))
        .bind(account.map(|account| &account.login))
        .bind(account.map(|account| account.kind.as_str()))
        .bind(epoch(author.as_ref().map(|dated| dated.at)))
        .bind(epoch(conversation.as_ref().map(|dated| dated.at)))
        .bind(talk.and_then(|talk| talk.title.as_ref()))
        .bind(talk.and_then(|talk| talk.body.as_ref()))
        .bind(talk.and_then(|talk| talk.html_url.as_ref()))
        .bind(talk.map(|talk| to_json(&talk.labels)).transpose()?)
        .bind(talk.map(|talk| talk.open))
        .bind(epoch(talk.and_then(|talk| talk.closed_at)))
        .bind(epoch(branches.as_ref().map(|dated| dated.at)))
        .bind(code.and_then(|code| code.draft))
        .bind(code.map(|code| &code.base_ref))
        .bind(code.map(|code| &code.head_ref))
        .bind(code.map(|code| &code.head_sha))
        .bind(code.and_then(|code| code.head_repo).map(|repo| repo.0))
        .bind(epoch(diff.as_ref().map(|dated| dated.at)))
        .bind(counts.and_then(|counts| counts.additions))
        .bind(counts.and_then(|counts| counts.deletions))
        .bind(counts.and_then(|counts| counts.changed_files))
        .bind(counts.and_then(|counts| counts.commits))
        .bind(epoch(*merged_at))
        .bind(epoch(commits.and_then(|dates| dates.first)))
        .bind(epoch(commits.and_then(|dates| dates.last)))
        .bind(commits.map(|dates| dates.prehistoric))
        .bind(to_json(&facts)?)
        .bind(to_json(&seen)?)
        .bind(source.map(|source| source.as_str()))
        .bind(timings.map(|_| DEFINITION))
        .bind(timings.map(|timings| timings.state.as_str()))
        .bind(timings.map(|timings| timings.author_is_bot))
        .bind(moment(|timings| timings.ready_at))
        .bind(moment(|timings| timings.first_commit_at))
        .bind(moment(|timings| timings.first_response_at))
        .bind(moment(|timings| timings.first_review_at))
        .bind(moment(|timings| timings.final_approval_at))
        .bind(timings.and_then(|timings| timings.cycle_time))
        .bind(timings.and_then(|timings| timings.review_time))
        .bind(stages.coding)
        .bind(stages.pickup)
        .bind(stages.review)
        .bind(stages.merge_wait)
        .bind(stages.redraft)
        .bind(stages.closed)
        .bind(timings.map(|timings| to_json(&timings.flags)).transpose()?))
}

static UPSERT_REVIEW: LazyLock<[String; CHUNKS.len()]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        format!(
            "INSERT INTO reviews (github_review_id, repo_id, number, reviewer_id, reviewer_login, reviewer_type, \
             original_state, submitted_at, commit_id, dismissed, dismissed_at) \
             VALUES {} ON CONFLICT (github_review_id) DO UPDATE SET \
             reviewer_id = excluded.reviewer_id, reviewer_login = excluded.reviewer_login, \
             reviewer_type = excluded.reviewer_type, submitted_at = min(submitted_at, excluded.submitted_at), \
             original_state = coalesce(excluded.original_state, original_state), \
             commit_id = coalesce(excluded.commit_id, commit_id), dismissed = max(dismissed, excluded.dismissed), \
             dismissed_at = coalesce(excluded.dismissed_at, dismissed_at)",
            vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; rows].join(", ")
        )
    })
});

/// Writes those reviews that changed.
async fn write_reviews(transaction: &mut Transaction<'_, Sqlite>, records: &[PullRequestRecord]) -> Result<()> {
    let changed = records.iter().flat_map(|record| {
        let PullRequest { key, reviews, .. } = &record.known.pull_request;
        record.reviews.iter().filter_map(move |id| Some((*key, reviews.get(id)?)))
    });
    for (place, chunk) in chunks(&changed.collect::<Vec<_>>()) {
        let mut query = sqlx::query(AssertSqlSafe(UPSERT_REVIEW[place].as_str()));
        for (key, review) in chunk {
            query = query
                .bind(review.id.0)
                .bind(key.repo.0)
                .bind(key.number.0)
                .bind(review.author.id.0)
                .bind(&review.author.login)
                .bind(review.author.kind.as_str())
                .bind(review.original_state.map(|state| state.as_str()))
                .bind(review.submitted_at.epoch())
                .bind(&review.commit_id)
                .bind(review.dismissed)
                .bind(review.dismissed_at.map(Timestamp::epoch));
        }
        query.execute(&mut **transaction).await?;
    }
    Ok(())
}

fn key(row: &SqliteRow) -> Result<PrKey> {
    Ok(PrKey { repo: RepoId(row.try_get("repo_id")?), number: PrNumber(row.try_get("number")?) })
}

/// A moment column.
pub(super) fn timestamp(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::clamped))
}

fn pull_request(row: &SqliteRow) -> Result<PullRequest> {
    let observed: BTreeMap<i64, Observed> = from_json("observed", row.try_get("observed")?)?;
    let facts: Vec<Fact> = from_json("timeline", row.try_get("timeline")?)?;
    let source: Option<&str> = row.try_get("source")?;
    Ok(PullRequest {
        key: key(row)?,
        github_id: row.try_get("github_pr_id")?,
        created_at: timestamp(row, "pr_created_at")?,
        author: dated(row, "author_at", author)?,
        conversation: dated(row, "updated_at", conversation)?,
        branches: dated(row, "branches_updated_at", branches)?,
        diff: dated(row, "full_updated_at", diff)?,
        merged_at: timestamp(row, "merged_at")?,
        commits: commit_dates(row)?,
        timeline: facts.into_iter().collect(),
        observed: observed.into_iter().map(|(at, seen)| (Timestamp::clamped(at), seen)).collect(),
        reviews: BTreeMap::new(),
        source: source.map(|source| from_name("source", source)).transpose()?,
    })
}

/// A group of columns with its guard; not there while the guard is null.
fn dated<T>(row: &SqliteRow, guard: &str, read: fn(&SqliteRow) -> Result<T>) -> Result<Option<Dated<T>>> {
    timestamp(row, guard)?.map(|at| Ok(Dated { at, value: read(row)? })).transpose()
}

fn author(row: &SqliteRow) -> Result<Author> {
    Ok(Author(Account {
        id: AccountId(row.try_get("author_id")?),
        login: row.try_get("author_login")?,
        kind: from_name("author_type", row.try_get("author_type")?)?,
    }))
}

fn conversation(row: &SqliteRow) -> Result<Conversation> {
    Ok(Conversation {
        title: row.try_get("title")?,
        body: row.try_get("body")?,
        html_url: row.try_get("html_url")?,
        labels: from_json("labels", row.try_get("labels")?)?,
        open: row.try_get("is_open")?,
        closed_at: timestamp(row, "closed_at")?,
    })
}

fn branches(row: &SqliteRow) -> Result<Branches> {
    Ok(Branches {
        draft: row.try_get("draft")?,
        base_ref: row.try_get("base_ref")?,
        head_ref: row.try_get("head_ref")?,
        head_sha: row.try_get("head_sha")?,
        head_repo: row.try_get::<Option<i64>, _>("head_repo_id")?.map(RepoId),
    })
}

fn diff(row: &SqliteRow) -> Result<Diff> {
    Ok(Diff {
        additions: row.try_get("additions")?,
        deletions: row.try_get("deletions")?,
        changed_files: row.try_get("changed_files")?,
        commits: row.try_get("commits")?,
    })
}

fn commit_dates(row: &SqliteRow) -> Result<Option<CommitDates>> {
    let Some(prehistoric) = row.try_get("commit_prehistoric")? else {
        return Ok(None);
    };
    Ok(Some(CommitDates {
        first: timestamp(row, "commit_first_at")?,
        last: timestamp(row, "commit_last_at")?,
        prehistoric,
    }))
}

fn review(row: &SqliteRow) -> Result<Review> {
    let original_state: Option<&str> = row.try_get("original_state")?;
    Ok(Review {
        id: ReviewId(row.try_get("github_review_id")?),
        author: Account {
            id: AccountId(row.try_get("reviewer_id")?),
            login: row.try_get("reviewer_login")?,
            kind: from_name("reviewer_type", row.try_get("reviewer_type")?)?,
        },
        original_state: original_state.map(|state| from_name("original_state", state)).transpose()?,
        submitted_at: Timestamp::clamped(row.try_get("submitted_at")?),
        commit_id: row.try_get("commit_id")?,
        dismissed: row.try_get("dismissed")?,
        dismissed_at: timestamp(row, "dismissed_at")?,
    })
}
