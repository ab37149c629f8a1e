//! Errors of the store.
//!
//! [`StoreError`] is the failure of a use case of an open store: a caller tries again later, unless
//! [`rejects_data`](StoreError::rejects_data) says that the values themselves were refused.
//! Opening a store fails with an `anyhow::Error` for a person to read, in which
//! [`DatabaseUrlError`] (a setting to correct) and [`DatabaseNotReady`] (a database to migrate
//! first) can be recognised. [`VersionConflict`](crate::VersionConflict) is no failure: the caller
//! reads again and repeats its write.

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

/// All a caller can do about a failing store is to try again later; the text is for the log.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the database failed: {0}")]
    Scan(#[from] rusqlite::Error),
    /// The failure of a commit that several deliveries shared.
    #[error("{0}")]
    Shared(Arc<StoreError>),
    /// Another process brought the database to another version.
    #[error(
        "the database has {applied} migrations, which is not what this version of tallyhook works \
         with"
    )]
    Version { applied: i64 },
    #[error(
        "the database file {} was removed or replaced while this process uses it: put it back, or \
         restart to use the file that is there now", .0.display()
    )]
    Replaced(PathBuf),
    #[error("the database server is a standby, or is set to read only")]
    ReadOnly,
    #[error("the database is closed: this process is stopping")]
    Closed,
    #[error("the database did not answer in time")]
    Unanswered,
}

impl StoreError {
    /// Reports whether a stored value is none that this version knows.
    pub fn is_unreadable(&self) -> bool {
        let decode = |error: &sqlx::Error| {
            matches!(
                error,
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)
            )
        };
        matches!(self, Self::Database(error) if decode(error))
    }

    /// Reports whether the database refused the values themselves, and would refuse them again.
    pub fn rejects_data(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else {
            return matches!(self, Self::Shared(error) if error.rejects_data());
        };
        // PostgreSQL's classes of data, constraints and limits; SQLite's "too big", "constraint"
        // and "mismatch", which its extended codes have in their last byte.
        error.code().is_some_and(|code| match code.parse::<u32>() {
            Ok(number) if code.len() < 5 => matches!(number & 0xff, 18..=20),
            _ => ["22", "23", "54"]
                .iter()
                .any(|class| code.starts_with(class)),
        })
    }
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A `DATABASE_URL` that names no database this version knows; the text says what was expected.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct DatabaseUrlError(pub(crate) String);

/// Why a database that can be reached cannot be used yet; `serve` makes it ready, unless it is of a
/// newer version.
#[derive(Debug, Error)]
pub enum DatabaseNotReady {
    #[error("there is no database at {}: `tallyhook serve` or `tallyhook migrate` makes \
             one", .0.display())]
    Missing(PathBuf),
    #[error("the database has no tables yet: run `tallyhook migrate` first")]
    Empty,
    #[error(
        "the database has {applied} migrations, this version of tallyhook knows {known}: run \
         `tallyhook migrate` with \
         the newer of the two"
    )]
    OtherVersion { applied: i64, known: i64 },
}
