//! SQLite: one file, one writing connection, several reading ones.

mod database;
mod group_commit;

pub(crate) use self::database::{
    CHUNKS, SqliteDatabase, SqliteWriter, chunk_sizes, chunks, ids_json, millis, moment,
};
