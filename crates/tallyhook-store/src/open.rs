//! Opening the store that a URL names.

use anyhow::{Context, bail};

use crate::postgres::PostgresDatabase;
use crate::sqlite::SqliteDatabase;
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

/// Opens the store that `url` names.
///
/// # Errors
/// In words that say what to do: a file that cannot be opened, another `serve` on the same file;
/// [`DatabaseUrlError`] if it is no URL or its scheme is not known.
pub async fn open(url: &str, opening: OpenMode) -> anyhow::Result<Store> {
    let Some((scheme, _)) = url.split_once(':') else {
        bail!(DatabaseUrlError(
            "DATABASE_URL is not a URL: expected sqlite://FILE or \
             postgres://USER:PASSWORD@HOST/DATABASE"
                .to_owned()
        ));
    };
    match scheme {
        "sqlite" => {
            let database = SqliteDatabase::open(url, opening)
                .await
                .context("cannot use the database of DATABASE_URL")?;
            Ok(database.into())
        }
        "postgres" | "postgresql" => {
            let database = PostgresDatabase::open(url, opening)
                .await
                .context("cannot use the database of DATABASE_URL")?;
            Ok(database.into())
        }
        other => bail!(DatabaseUrlError(format!(
            "DATABASE_URL names the database kind `{other}`: expected sqlite://FILE or \
             postgres://USER:PASSWORD@HOST/DATABASE"
        ))),
    }
}
