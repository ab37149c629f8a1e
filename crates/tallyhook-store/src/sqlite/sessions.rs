//! SQL of both kinds of database, run on SQLite.

use sqlx::Sqlite;
use sqlx::sqlite::SqliteRow;

use super::{SqliteStore, Writer};
use crate::Result;
use crate::sessions::{self, Lock, Session, Sessions, Statement};

#[async_trait::async_trait]
impl Sessions for SqliteStore {
    type Kind = Sqlite;

    async fn read(&self, statement: Statement<'_, Sqlite>) -> Result<Vec<SqliteRow>> {
        Ok(statement.fetch_all(&self.readers).await?)
    }

    async fn write(&self, statement: Statement<'_, Sqlite>) -> Result<u64> {
        let mut writer = SqliteStore::writer(self).await;
        Ok(statement
            .execute(writer.connection()?)
            .await?
            .rows_affected())
    }

    async fn wake(&self) {
        self.told.send_replace(());
    }

    async fn writer(&self) -> Result<Box<dyn sessions::Writer<Sqlite> + '_>> {
        Ok(Box::new(SqliteStore::writer(self).await))
    }
}

#[async_trait::async_trait]
impl sessions::Writer<Sqlite> for Writer<'_> {
    async fn begin(&mut self) -> Result<Box<dyn Session<Sqlite> + '_>> {
        Ok(Box::new(Writer::begin(self).await?))
    }
}

#[async_trait::async_trait]
impl Session<Sqlite> for sqlx::Transaction<'_, Sqlite> {
    async fn rows(&mut self, statement: Statement<'_, Sqlite>) -> Result<Vec<SqliteRow>> {
        Ok(statement.fetch_all(&mut **self).await?)
    }

    async fn execute(&mut self, statement: Statement<'_, Sqlite>) -> Result<u64> {
        Ok(statement.execute(&mut **self).await?.rows_affected())
    }

    async fn lock(&mut self, _lock: Lock) -> Result<()> {
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        Ok(sqlx::Transaction::commit(*self).await?)
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        Ok(sqlx::Transaction::rollback(*self).await?)
    }
}
