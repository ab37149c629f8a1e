//! SQL of both kinds of database, run on PostgreSQL.

use sqlx::Postgres;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::connections::{self, OUTBOX, OUTBOX_CHANNEL, TASKS, within};
use crate::Result;
use crate::sessions::{Lock, Session, Sessions, Statement, Writer};

#[async_trait::async_trait]
impl Sessions for PostgresStore {
    type Kind = Postgres;

    async fn read(&self, statement: Statement<'_, Postgres>) -> Result<Vec<PgRow>> {
        let mut session = self.connections.session().await?;
        let rows = within(statement.fetch_all(session.connection())).await?;
        session.keep();
        Ok(rows)
    }

    async fn write(&self, statement: Statement<'_, Postgres>) -> Result<u64> {
        self.connections.execute(statement).await
    }

    async fn wake(&self) {
        let notify = sqlx::query("SELECT pg_notify($1, '')").bind(OUTBOX_CHANNEL);
        if let Err(error) = self.connections.execute(notify).await {
            // What was committed stands.
            tracing::debug!(%error, "nobody was told at once that something is new or due");
        }
    }

    async fn writer(&self) -> Result<Box<dyn Writer<Postgres> + '_>> {
        Ok(Box::new(self.connections.session().await?))
    }
}

#[async_trait::async_trait]
impl Writer<Postgres> for connections::Session {
    async fn begin(&mut self) -> Result<Box<dyn Session<Postgres> + '_>> {
        connections::Session::execute(self, sqlx::query("BEGIN")).await?;
        Ok(Box::new(Transaction(self)))
    }
}

pub(super) struct Transaction<'a>(pub(super) &'a mut connections::Session);

#[async_trait::async_trait]
impl Session<Postgres> for Transaction<'_> {
    async fn rows(&mut self, statement: Statement<'_, Postgres>) -> Result<Vec<PgRow>> {
        within(statement.fetch_all(self.0.connection())).await
    }

    async fn execute(&mut self, statement: Statement<'_, Postgres>) -> Result<u64> {
        self.0.execute(statement).await
    }

    async fn lock(&mut self, lock: Lock) -> Result<()> {
        let (query, of) = match lock {
            Lock::Outbox => ("SELECT pg_advisory_xact_lock($1, 0)", OUTBOX),
            Lock::Tasks => ("SELECT pg_advisory_xact_lock($1, 0)", TASKS),
            Lock::TasksOfPullRequests => ("SELECT pg_advisory_xact_lock_shared($1, 0)", TASKS),
        };
        self.0
            .execute(sqlx::query(query).bind(of))
            .await
            .map(|_| ())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.0.execute(sqlx::query("COMMIT")).await?;
        self.0.is_done();
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        self.0.execute(sqlx::query("ROLLBACK")).await?;
        self.0.is_done();
        Ok(())
    }
}
