//! The facts: pull requests, reviews and repositories as they are known.

mod parties;
mod postgres;
mod row;
mod sql;
mod sqlite;
mod table_columns;
