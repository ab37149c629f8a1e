//! Migrations, as far as both kinds of database share them.

use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};

use super::DatabaseNotReady;

/// The query for the number of applied migrations, of a database that has any.
pub(super) const APPLIED: &str = "SELECT count(*) FROM _sqlx_migrations WHERE success";

/// Returns the number of migrations of this version.
pub(super) fn known(migrations: &Migrator) -> i64 {
    i64::try_from(migrations.iter().count()).unwrap_or(i64::MAX)
}

/// Why a database cannot be brought to this version, in words that say what to do.
pub(super) fn failed(error: MigrateError) -> anyhow::Error {
    match error {
        MigrateError::VersionMissing(version) => anyhow::anyhow!(
            "the database has migration {version}, which this version of tallyhook does not know; \
             use a newer tallyhook"
        ),
        MigrateError::VersionMismatch(version) => {
            anyhow::anyhow!(
                "migration {version} of the database is not the one of this version of tallyhook"
            )
        }
        other => anyhow::Error::new(other).context("cannot bring the database to this version"),
    }
}

/// Refuses a database that is not of exactly this version.
pub(super) fn check(applied: sqlx::Result<i64>, migrations: &Migrator) -> anyhow::Result<()> {
    match (applied, known(migrations)) {
        (Ok(applied), known) if applied == known => Ok(()),
        (Ok(applied), known) => Err(DatabaseNotReady::OtherVersion { applied, known }.into()),
        (Err(sqlx::Error::Database(error)), _) if is_no_table(&*error) => {
            Err(DatabaseNotReady::Empty.into())
        }
        (Err(error), _) => {
            Err(anyhow::Error::new(error).context("cannot read which version the database has"))
        }
    }
}

/// Returns true if the error says that a table is missing. PostgreSQL has a code for that; SQLite
/// has one code for every wrong statement.
fn is_no_table(error: &dyn DatabaseError) -> bool {
    error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
}
