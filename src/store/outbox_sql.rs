//! The outbox, in SQL that both kinds of database understand.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use sqlx::database::HasStatementCache;
use sqlx::{AssertSqlSafe, Database, Encode, FromRow, Type};

use super::rows::{Millis, OutboxRow, Seconds, TellingRow};
use super::sessions::{Session, Sessions};
use super::{Change, EventId, Moment, Outbox, OutboxEvent, Result};
use crate::domain::notification::notifies;
use crate::github::types::RepoId;

/// Rows of one statement.
const ROWS: usize = 64;
const COLUMNS: usize = 8;

#[async_trait::async_trait]
impl<S> Outbox for S
where
    S: Sessions,
    for<'q> i64: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Millis: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'r> (i64,): FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> OutboxRow: FromRow<'r, <S::Kind as Database>::Row>,
{
    async fn events_after(&self, id: EventId, limit: u32) -> Result<Vec<OutboxEvent>> {
        let query = sqlx::query(
            "SELECT id, repo_id, repo_name, number, old_status, new_status, happened_at, sync_source FROM outbox \
             WHERE id > $1 ORDER BY id LIMIT $2",
        );
        let rows = self.read(query.bind(id.0).bind(i64::from(limit))).await?;
        rows.iter().map(|row| Ok(OutboxRow::from_row(row)?.into())).collect()
    }

    async fn newest_event(&self) -> Result<EventId> {
        let rows = self.read(sqlx::query("SELECT id FROM outbox ORDER BY id DESC LIMIT 1")).await?;
        rows.first().map_or(Ok(EventId::BEGINNING), |row| Ok(EventId(<(i64,)>::from_row(row)?.0)))
    }

    async fn remembers_event(&self, id: EventId) -> Result<bool> {
        Ok(!self.read(sqlx::query("SELECT id FROM outbox WHERE id = $1").bind(id.0)).await?.is_empty())
    }

    async fn purge_events(&self, before: Moment, limit: u32) -> Result<u64> {
        // The last one stays: SQLite would give its id to another, and who has seen it has missed nothing.
        let delete = sqlx::query(
            "DELETE FROM outbox WHERE id IN (\
                 SELECT id FROM (SELECT id, recorded_at FROM outbox ORDER BY id LIMIT $2) AS oldest \
                 WHERE recorded_at < $1 AND id < (SELECT max(id) FROM outbox))",
        );
        self.write(delete.bind(Millis(before)).bind(i64::from(limit))).await
    }
}

/// A change with its repository's name.
pub(super) type Told = (String, Change);

/// Those of `changes` that are worth telling: not what happened before its repository was tracked.
pub(super) async fn worth_telling<DB>(session: &mut dyn Session<DB>, changes: &[Change]) -> Result<Vec<Told>>
where
    DB: Database,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'r> TellingRow: FromRow<'r, DB::Row>,
{
    let mut repositories: BTreeMap<RepoId, Option<TellingRow>> = BTreeMap::new();
    let mut told = Vec::new();
    for change in changes {
        let repository = match repositories.entry(change.key.repo) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let query = sqlx::query("SELECT name, tracked_since FROM repositories WHERE id = $1");
                let rows = session.rows(query.bind(change.key.repo.0)).await?;
                place.insert(rows.first().map(TellingRow::from_row).transpose()?)
            }
        };
        if let Some(TellingRow { name, tracked_since }) = repository
            && notifies(&change.change, tracked_since.0.into())
        {
            told.push((name.clone(), *change));
        }
    }
    Ok(told)
}

/// Enters changes in their order, but none that is there. How many were new.
pub(super) async fn enter<DB>(session: &mut dyn Session<DB>, changes: &[Told], now: Moment) -> Result<u64>
where
    DB: Database + HasStatementCache,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> Option<&'q str>: Encode<'q, DB>,
    for<'q> Seconds: Encode<'q, DB> + Type<DB>,
    for<'q> Millis: Encode<'q, DB> + Type<DB>,
{
    let mut entered = 0;
    for portion in changes.chunks(ROWS) {
        let row = |row: usize| {
            let places: Vec<_> = (1..=COLUMNS).map(|column| format!("${}", row * COLUMNS + column)).collect();
            format!("({})", places.join(", "))
        };
        let rows: Vec<_> = (0..portion.len()).map(row).collect();
        let insert = format!(
            "INSERT INTO outbox (repo_id, repo_name, number, old_status, new_status, happened_at, sync_source, recorded_at) \
             VALUES {} ON CONFLICT (repo_id, number, new_status, happened_at) DO NOTHING",
            rows.join(", ")
        );
        // One change at a time is the rule; of other numbers there are too many to keep each prepared.
        let mut query = sqlx::query(AssertSqlSafe(insert)).persistent(portion.len() == 1);
        for (name, Change { key, change, source }) in portion {
            query = query
                .bind(key.repo.0)
                .bind(name.as_str())
                .bind(key.number.0)
                .bind(change.old.map(|old| old.as_str()))
                .bind(change.new.as_str())
                .bind(Seconds(change.at))
                .bind(source.as_str())
                .bind(Millis(now));
        }
        entered += session.execute(query).await?;
    }
    Ok(entered)
}
