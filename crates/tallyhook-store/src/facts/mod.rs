//! The facts: pull requests, reviews and repositories as they are known.

mod commits;
mod derived;
mod parties;
mod postgres;
mod repository_row;
mod review_row;
mod row;
mod sql;
mod sqlite;
mod table_columns;
