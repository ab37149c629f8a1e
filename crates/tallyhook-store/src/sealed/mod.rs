//! All that is sealed, whatever its table: counted by key, sealed again, destroyed.

use std::collections::BTreeMap;

use sqlx::FromRow;

use crate::columns::Millis;
use crate::database::{Transaction, statement};
use crate::{Moment, Result, Store};

/// Eight bytes that name a key, stored in each sealed value after its first byte.
pub type SealingKeyId = [u8; 8];

/// A column of sealed values, and the texts of SQL that give a value its place.
#[derive(Clone, Copy, Debug)]
struct SealedColumn {
    table: &'static str,
    column: &'static str,
    row: &'static str,
    owner_kind: &'static str,
    owner: &'static str,
    kind: &'static str,
}

const COLUMNS: [SealedColumn; 5] = [
    SealedColumn {
        table: "github_credentials",
        column: "access_token",
        row: "id",
        owner_kind: "owner_kind",
        owner: "CAST(owner_id AS TEXT)",
        kind: "kind",
    },
    SealedColumn {
        table: "github_credentials",
        column: "refresh_token",
        row: "id",
        owner_kind: "owner_kind",
        owner: "CAST(owner_id AS TEXT)",
        kind: "kind",
    },
    SealedColumn {
        table: "github_apps",
        column: "secrets",
        row: "id",
        owner_kind: "'instance'",
        owner: "'app'",
        kind: "'app'",
    },
    SealedColumn {
        table: "github_flows",
        column: "verifier",
        row: "state_hash",
        owner_kind: "'browser'",
        owner: "browser_hash",
        kind: "purpose",
    },
    SealedColumn {
        table: "revocations",
        column: "token",
        row: "id",
        owner_kind: "owner_kind",
        owner: "CAST(owner_id AS TEXT)",
        kind: "kind",
    },
];

/// A sealed value with its place.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct SealedValue {
    pub table: String,
    pub column: String,
    pub row: String,
    pub owner_kind: String,
    pub owner: String,
    pub kind: String,
    pub sealed: Vec<u8>,
}

impl Store {
    /// Counts the rows with values of each key, by table.
    pub async fn sealed_counts(&self) -> Result<BTreeMap<SealingKeyId, BTreeMap<String, u64>>> {
        let values: Vec<_> = COLUMNS
            .iter()
            .map(|of| {
                let SealedColumn {
                    table, column, row, ..
                } = of;
                format!(
                    "SELECT '{table}' AS place, {row} AS place_row, substr({column}, 2, 8) AS key_id \
                     FROM {table} WHERE {column} IS NOT NULL"
                )
            })
            .collect();
        let query = statement(format!(
            "SELECT place, key_id, count(DISTINCT place_row) FROM ({}) AS sealed_values \
             GROUP BY place, key_id",
            values.join(" UNION ALL ")
        ));
        let rows: Vec<(String, Vec<u8>, i64)> = self.database.rows(query).await?;
        let mut counts: BTreeMap<SealingKeyId, BTreeMap<String, u64>> = BTreeMap::new();
        for (table, key, count) in rows {
            // A value that is too short for an id was written by another program.
            let key = key.try_into().unwrap_or_default();
            let tables = counts.entry(key).or_default();
            tables.insert(table, count.unsigned_abs());
        }
        Ok(counts)
    }

    /// Returns values that are sealed by another key than `key`, at most `limit`, of those after
    /// the place of the last one that was returned.
    pub async fn sealed_by_others(
        &self,
        key: &SealingKeyId,
        after: Option<&SealedValue>,
        limit: u32,
    ) -> Result<Vec<SealedValue>> {
        let mut found = Vec::new();
        let reached = |value: &SealedValue| {
            let is_of = |of: &SealedColumn| of.table == value.table && of.column == value.column;
            COLUMNS.iter().position(is_of)
        };
        let first = after.and_then(reached);
        for (place, of) in COLUMNS.iter().enumerate() {
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(limit));
            let row = match first {
                _ if left == 0 => break,
                Some(first) if place < first => continue,
                Some(first) if place == first => after.map(|value| value.row.clone()),
                _ => None,
            };
            let SealedColumn {
                table,
                column,
                row: row_id,
                owner_kind,
                owner,
                kind,
            } = of;
            let query = statement(format!(
                "SELECT '{table}' AS \"table\", '{column}' AS \"column\", {row_id} AS \"row\", \
                 {owner_kind} AS owner_kind, {owner} AS owner, {kind} AS kind, \
                 {column} AS sealed FROM {table} WHERE {column} IS NOT NULL \
                 AND substr({column}, 2, 8) <> $1 AND {row_id} > $2 ORDER BY {row_id} LIMIT $3"
            ))
            .bind(key.as_slice())
            .bind(row.unwrap_or_default())
            .bind(i64::from(left));
            found.extend(self.database.rows::<SealedValue>(query).await?);
        }
        Ok(found)
    }

    /// Replaces sealed values, each if it is still the one that was read, in one transaction.
    /// Returns the number of those that were replaced: another was written by a refresh, under the
    /// key of that.
    pub async fn reseal(&self, values: &[(SealedValue, Vec<u8>)]) -> Result<u64> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let mut replaced = 0;
        for (value, sealed) in values {
            let is_of = |of: &&SealedColumn| of.table == value.table && of.column == value.column;
            let Some(of) = COLUMNS.iter().find(is_of) else {
                continue;
            };
            let update = statement(format!(
                "UPDATE {} SET {} = $1 WHERE {} = $2 AND {} = $3",
                of.table, of.column, of.row, of.column
            ))
            .bind(sealed.as_slice())
            .bind(value.row.clone())
            .bind(value.sealed.as_slice());
            replaced += transaction.execute(update).await?;
        }
        transaction.commit().await?;
        Ok(replaced)
    }

    /// Destroys what a lost key has sealed: credentials need to be connected again, revocations are
    /// given up, the rest is deleted. Returns the number of rows.
    pub async fn destroy_sealed(&self, key: &SealingKeyId, now: Moment) -> Result<u64> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let mut rows = destroy_credentials(&mut transaction, key).await?;
        let revocations = statement(
            "UPDATE revocations SET token = NULL, done_at = $2, last_error = \
             'its key was lost: revoke the token at GitHub' WHERE substr(token, 2, 8) = $1",
        )
        .bind(key.as_slice())
        .bind(Millis(now));
        rows += transaction.execute(revocations).await?;
        for delete in [
            "DELETE FROM github_apps WHERE substr(secrets, 2, 8) = $1",
            "DELETE FROM github_flows WHERE substr(verifier, 2, 8) = $1",
        ] {
            rows += transaction
                .execute(statement(delete).bind(key.as_slice()))
                .await?;
        }
        transaction.commit().await?;
        Ok(rows)
    }
}

async fn destroy_credentials(transaction: &mut Transaction<'_>, key: &SealingKeyId) -> Result<u64> {
    let update = statement(
        "UPDATE github_credentials SET access_token = NULL, refresh_token = NULL, \
         refresh_until = NULL, state = 'reconnect_needed', state_reason = 'key_lost', \
         generation = generation + 1 \
         WHERE substr(access_token, 2, 8) = $1 OR substr(refresh_token, 2, 8) = $1",
    );
    transaction.execute(update.bind(key.as_slice())).await
}
