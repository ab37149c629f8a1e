//! Opening the store that a URL names.

use anyhow::Context;

use crate::postgres::{self, PostgresDatabase};
use crate::sqlite::{self, SqliteDatabase};
use crate::{DatabaseUrlError, Store};

/// The way in which a database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// By `serve` and `demo`: alone, with migrations.
    Exclusive,
    /// By `serve --no-migrate`: alone; refuses a database that is not there or of another version.
    ExclusiveUnmigrated,
    /// By commands, beside a `serve` that may be running; refuses like the one before.
    Shared,
}

/// A kind of database.
#[derive(Clone, Copy)]
enum DatabaseKind {
    Sqlite,
    Postgres,
}

/// Opens the store that `url` names.
///
/// # Errors
/// In words that say what to do: a file that cannot be opened, another `serve` on the same file;
/// [`DatabaseUrlError`] if it is no URL or its scheme is not known.
pub async fn open(url: &str, opening: OpenMode) -> anyhow::Result<Store> {
    match kind(url)? {
        DatabaseKind::Sqlite => SqliteDatabase::open(url, opening).await.map(Store::from),
        DatabaseKind::Postgres => PostgresDatabase::open(url, opening).await.map(Store::from),
    }
    .context("cannot use the database of DATABASE_URL")
}

/// Checks the form of a URL, and opens nothing.
///
/// # Errors
/// The expected form, without a password.
pub fn check_url(url: &str) -> Result<(), DatabaseUrlError> {
    match kind(url)? {
        DatabaseKind::Sqlite => sqlite::parse(url, OpenMode::Exclusive).map(drop),
        DatabaseKind::Postgres => postgres::options(url).map(drop),
    }
}

fn kind(url: &str) -> Result<DatabaseKind, DatabaseUrlError> {
    let found = match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => return Ok(DatabaseKind::Sqlite),
        Some("postgres" | "postgresql") => return Ok(DatabaseKind::Postgres),
        Some(other) => format!("names the database kind `{other}`"),
        None => "is not a URL".to_owned(),
    };
    Err(DatabaseUrlError(format!(
        "DATABASE_URL {found}: expected sqlite://FILE, where FILE is a path, or \
         postgres://USER:PASSWORD@HOST/DATABASE"
    )))
}
