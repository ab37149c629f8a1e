//! Tokens that GitHub is to revoke.

use sqlx::FromRow;

use super::{CredentialKind, TokenOwner};
use crate::columns::{Millis, Name, storable_text};
use crate::database::{Transaction, statement};
use crate::{Moment, Result, Store};

/// A token that is to be revoked.
#[derive(Clone, Copy, Debug)]
pub struct NewRevocation<'a> {
    pub id: &'a str,
    pub owner: TokenOwner,
    pub kind: CredentialKind,
    pub login: &'a str,
    /// Sealed for the row of this id.
    pub token: &'a [u8],
}

/// A token that GitHub has not revoked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub id: String,
    pub owner: TokenOwner,
    pub kind: CredentialKind,
    pub login: String,
    /// Sealed.
    pub token: Vec<u8>,
    pub attempts: u32,
    pub next_attempt_at: Moment,
    pub last_error: Option<String>,
    pub created_at: Moment,
}

/// The revocations that are not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevocationCounts {
    pub open: u64,
    pub oldest: Option<Moment>,
}

#[derive(FromRow)]
struct RevocationRow {
    id: String,
    owner_kind: String,
    owner_id: i64,
    kind: Name<CredentialKind>,
    login: String,
    token: Vec<u8>,
    attempts: i64,
    next_attempt_at: Millis,
    last_error: Option<String>,
    created_at: Millis,
}

impl From<RevocationRow> for Revocation {
    fn from(row: RevocationRow) -> Self {
        Self {
            id: row.id,
            owner: TokenOwner::new(&row.owner_kind, row.owner_id),
            kind: row.kind.0,
            login: row.login,
            token: row.token,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            next_attempt_at: row.next_attempt_at.0,
            last_error: row.last_error,
            created_at: row.created_at.0,
        }
    }
}

/// Adds a revocation, due at once.
pub(crate) async fn insert_revocation(
    transaction: &mut Transaction<'_>,
    new: &NewRevocation<'_>,
    now: Moment,
) -> Result<()> {
    let insert = statement(
        "INSERT INTO revocations (id, owner_kind, owner_id, kind, login, token, next_attempt_at, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
    )
    .bind(new.id)
    .bind(new.owner.kind())
    .bind(new.owner.id())
    .bind(new.kind.as_str())
    .bind(storable_text(new.login))
    .bind(new.token)
    .bind(Millis(now));
    transaction.execute(insert).await.map(|_| ())
}

impl Store {
    /// Adds the revocation of a token that was never stored as a credential.
    pub async fn add_revocation(&self, new: &NewRevocation<'_>, now: Moment) -> Result<()> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        insert_revocation(&mut transaction, new, now).await?;
        transaction.commit().await
    }

    /// Returns revocations that are due, at most `limit`, the oldest first.
    pub async fn due_revocations(&self, now: Moment, limit: u32) -> Result<Vec<Revocation>> {
        let query = statement(
            "SELECT id, owner_kind, owner_id, kind, login, token, attempts, next_attempt_at, \
             last_error, created_at FROM revocations WHERE done_at IS NULL AND token IS NOT NULL \
             AND next_attempt_at <= $1 ORDER BY next_attempt_at, id LIMIT $2",
        )
        .bind(Millis(now))
        .bind(i64::from(limit));
        let rows: Vec<RevocationRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(Revocation::from).collect())
    }

    /// Notes an attempt that failed, and the time of the next.
    pub async fn defer_revocation(&self, id: &str, error: &str, next: Moment) -> Result<()> {
        let update = statement(
            "UPDATE revocations SET attempts = attempts + 1, last_error = $2, \
             next_attempt_at = $3 WHERE id = $1 AND done_at IS NULL",
        )
        .bind(id.to_owned())
        .bind(storable_text(error))
        .bind(Millis(next));
        self.database.execute(update).await.map(|_| ())
    }

    /// Ends a revocation and drops its token. `error` is the reason why it was given up.
    pub async fn finish_revocation(
        &self,
        id: &str,
        error: Option<&str>,
        now: Moment,
    ) -> Result<bool> {
        let update = statement(
            "UPDATE revocations SET token = NULL, done_at = $2, last_error = $3, \
             attempts = attempts + 1 WHERE id = $1 AND done_at IS NULL",
        )
        .bind(id.to_owned())
        .bind(Millis(now))
        .bind(error.map(storable_text));
        Ok(self.database.execute(update).await? == 1)
    }

    /// Counts the revocations that are not done.
    pub async fn revocation_counts(&self) -> Result<RevocationCounts> {
        let query =
            statement("SELECT count(*), min(created_at) FROM revocations WHERE done_at IS NULL");
        let row: Option<(i64, Option<Millis>)> = self.database.row(query).await?;
        let (open, oldest) = row.unwrap_or_default();
        Ok(RevocationCounts {
            open: open.unsigned_abs(),
            oldest: oldest.map(|Millis(at)| at),
        })
    }
}
