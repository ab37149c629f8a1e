//! A database of its own for one test, on each kind of database there is.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// An empty database, gone at the end of the test.
pub(crate) struct Database {
    pub(crate) backend: Backend,
    /// As `DATABASE_URL` has it.
    pub(crate) url: String,
    folder: Option<TempDir>,
    /// Its name on the server, and the server's own URL.
    on_server: Option<(String, String)>,
}

/// Makes one. PostgreSQL's are on the server that `TEST_DATABASE_URL` names.
pub(crate) fn database(backend: Backend) -> Database {
    match backend {
        Backend::Sqlite => {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", folder.path().join("test.db").display());
            Database {
                backend,
                url,
                folder: Some(folder),
                on_server: None,
            }
        }
        Backend::Postgres => {
            static MADE: AtomicU32 = AtomicU32::new(0);
            let server = server();
            let name = format!(
                "tallyhook_test_{}_{}",
                std::process::id(),
                MADE.fetch_add(1, Ordering::Relaxed)
            );
            on_server(
                &server,
                &format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"),
            );
            let url = on_same_server(&server, &name);
            Database {
                backend,
                url,
                folder: None,
                on_server: Some((name, server)),
            }
        }
    }
}

impl Database {
    /// What a query with one whole number for an answer says; of PostgreSQL.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let number = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        number
    }

    /// Runs statements on it; of PostgreSQL.
    pub(crate) async fn run(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }

    /// Ends every connection to it, as a stopped server does; of PostgreSQL.
    pub(crate) async fn end_connections(&self) -> i64 {
        let others =
            "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.number(&format!(
            "SELECT count(pg_terminate_backend(pid, 5000)) {others}"
        ))
        .await
    }

    /// Gives the server's sessions a time zone of their own. Where there is no server nothing has one.
    pub(crate) fn set_time_zone(&self, zone: &str) {
        if let Some((name, server)) = &self.on_server {
            on_server(
                server,
                &format!("ALTER DATABASE {name} SET TimeZone = '{zone}'"),
            );
        }
    }

    /// Runs a statement on its server, in another database.
    pub(crate) fn on_server(&self, sql: &str) {
        let (_, server) = self.on_server.as_ref().unwrap();
        on_server(server, sql);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some((name, server)) = &self.on_server {
            on_server(server, &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

/// The server on which tests may create databases.
fn server() -> String {
    let advice = "TEST_DATABASE_URL names no PostgreSQL server: scripts/services up && eval \"$(scripts/services env)\"";
    std::env::var("TEST_DATABASE_URL").expect(advice)
}

/// The URL of another database of the server.
fn on_same_server(server: &str, name: &str) -> String {
    let (place, parameters) = server.split_once('?').unwrap_or((server, ""));
    let (host, _) = place.rsplit_once('/').unwrap();
    format!("{host}/{name}?{parameters}")
        .trim_end_matches('?')
        .to_owned()
}

/// Runs one statement on the server. In a thread of its own, since it is called in the midst of a test's runtime, and
/// when a test ends.
fn on_server(server: &str, sql: &str) {
    let work = async {
        let mut connection = PgConnection::connect(server).await?;
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
        connection.close().await
    };
    let run = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work)
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap()
        .unwrap();
}

/// One test per kind of database of each function named, which is given an empty database.
#[macro_export]
macro_rules! on_every_database {
    ($($test:ident,)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::database::database($crate::database::Backend::Sqlite)).await;
            })*
        }

        #[cfg(feature = "services")]
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::database::database($crate::database::Backend::Postgres)).await;
            })*
        }
    };
}
