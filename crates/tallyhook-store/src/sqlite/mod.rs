//! SQLite: one file, one writing connection, several reading ones.

mod database;
#[cfg(test)]
mod faults;
mod file;
mod group_commit;
mod scanner;
mod url;
mod writer;

pub(crate) use self::database::{
    CHUNKS, SqliteDatabase, chunk_sizes, chunks, ids_json, millis, moment,
};
pub use self::file::{FileUse, file_use};
pub(crate) use self::url::parse;
pub use self::url::sqlite_file;
pub(crate) use self::writer::{SqliteTransaction, SqliteWriter};
