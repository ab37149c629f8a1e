//! PostgreSQL, which many processes share.
//!
//! Rows that several processes write are locked in one order by all of them (by key within a table;
//! pull requests, deliveries, reviews, repositories, installations, tasks, the outbox among the
//! tables; of backfills, the repository before the run), so that none waits for another in a
//! circle.

mod connections;
mod database;
mod group_commit;
mod leader;
mod listen;

pub(crate) use self::connections::{
    INSTANCES, OUTBOX_CHANNEL, PooledSession, PostgresTransaction, options, within,
};
pub(crate) use self::database::{PostgresDatabase, ids};
