//! What both kinds of database say of migrations.

use anyhow::{Context, bail};
use sqlx::migrate::{MigrateError, Migrator};

/// How many migrations a database has, once it has any.
pub(super) const APPLIED: &str = "SELECT count(*) FROM _sqlx_migrations WHERE success";

/// How many there are in this version.
pub(super) fn known(migrations: &Migrator) -> i64 {
    i64::try_from(migrations.iter().count()).unwrap_or(i64::MAX)
}

/// Why a database cannot be brought to this version, in words that say what to do.
pub(super) fn failed(error: MigrateError) -> anyhow::Error {
    match error {
        MigrateError::VersionMissing(version) => anyhow::anyhow!(
            "the database has migration {version}, which this version of tallyhook does not know; use a newer tallyhook"
        ),
        MigrateError::VersionMismatch(version) => {
            anyhow::anyhow!("migration {version} of the database is not the one of this version of tallyhook")
        }
        other => anyhow::Error::new(other).context("cannot bring the database to this version"),
    }
}

/// Refuses a database that is not of exactly this version.
pub(super) fn check(applied: sqlx::Result<i64>, migrations: &Migrator) -> anyhow::Result<()> {
    let applied = applied.context("the database has no tables yet: run `tallyhook migrate` first")?;
    let known = known(migrations);
    if applied != known {
        bail!(
            "the database has {applied} migrations, this version of tallyhook knows {known}: run `tallyhook migrate` \
             with the newer of the two"
        );
    }
    Ok(())
}
