//! The facts: pull requests, reviews and repositories as they are known.

mod commits;
mod postgres;
mod row;
mod sql;
mod sqlite;
