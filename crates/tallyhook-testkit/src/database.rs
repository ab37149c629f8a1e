//! One database per test, on SQLite or PostgreSQL.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Column, Connection, Row, TypeInfo, ValueRef};
use sqlx_postgres::PgConnection;
use sqlx_sqlite::{SqliteConnection, SqliteRow};
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// An empty database, dropped at the end of the test.
pub struct Database {
    pub backend: Backend,
    /// In the form of the setting `DATABASE_URL`.
    pub url: String,
    /// Deletes the folder of a SQLite file with this value.
    _folder: Option<TempDir>,
    /// Its name on the server, and the server's own URL.
    on_server: Option<(String, String)>,
}

/// Creates an empty database. `TEST_DATABASE_URL` names the PostgreSQL server.
pub fn database(backend: Backend) -> Database {
    match backend {
        Backend::Sqlite => {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", folder.path().join("test.db").display());
            Database {
                backend,
                url,
                _folder: Some(folder),
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
                _folder: None,
                on_server: Some((name, server)),
            }
        }
    }
}

impl Database {
    /// Returns the single integer that a query on PostgreSQL selects.
    pub async fn number(&self, sql: &str) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let number = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        number
    }

    /// Returns the single integer that a query on either kind of database selects.
    pub async fn select(&self, sql: &str) -> i64 {
        match self.backend {
            Backend::Postgres => self.number(&format!("SELECT ({sql})::bigint")).await,
            Backend::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
                let number = sqlx::query_scalar(AssertSqlSafe(sql))
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
                connection.close().await.unwrap();
                number
            }
        }
    }

    /// Runs statements on either kind of database.
    pub async fn execute(&self, sql: &str) {
        match self.backend {
            Backend::Postgres => self.run(sql).await,
            Backend::Sqlite => run_on_sqlite(&self.url, sql).await,
        }
    }

    /// Returns the names of its tables, without the database's own.
    pub async fn tables(&self) -> Vec<String> {
        let query = match self.backend {
            Backend::Postgres => {
                "SELECT table_name AS name FROM information_schema.tables \
                 WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
            }
            Backend::Sqlite => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            }
        };
        let rows = report_rows(&self.url, query).await;
        let names = rows.iter().map(|row| row["name"].as_str().unwrap());
        names.map(str::to_owned).collect()
    }

    /// Runs statements on this PostgreSQL database.
    pub async fn run(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }

    /// Terminates every other connection to this PostgreSQL database, as a stopped server does.
    /// Returns their number.
    pub async fn end_connections(&self) -> i64 {
        let others =
            "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.number(&format!(
            "SELECT count(pg_terminate_backend(pid, 5000)) {others}"
        ))
        .await
    }

    /// Sets the time zone of this database's sessions. SQLite has none, and nothing happens.
    pub fn set_time_zone(&self, zone: &str) {
        if let Some((name, server)) = &self.on_server {
            on_server(
                server,
                &format!("ALTER DATABASE {name} SET TimeZone = '{zone}'"),
            );
        }
    }

    /// Runs a statement on the same server, outside this database.
    pub fn on_server(&self, sql: &str) {
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

/// Runs statements on a SQLite database.
pub(crate) async fn run_on_sqlite(url: &str, sql: &str) {
    let mut connection = SqliteConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

/// Returns the rows of a query about the report views, each as an object by column.
///
/// The query is written for PostgreSQL. SQLite has no schemas: there the views' names begin with
/// `report_`.
pub async fn report_rows(url: &str, sql: &str) -> Vec<Value> {
    if url.starts_with("sqlite:") {
        let sql = sql.replace("tallyhook_report.", "report_");
        let mut connection = SqliteConnection::connect(url).await.unwrap();
        let rows = sqlx::query(AssertSqlSafe(sql.as_str()))
            .fetch_all(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
        connection.close().await.unwrap();
        return rows.iter().map(sqlite_object).collect();
    }
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = sql.trim().trim_end_matches(';');
    let objects = format!("SELECT coalesce(json_agg(item), '[]')::text FROM ({sql}\n) AS item");
    let text: String = sqlx::query_scalar(AssertSqlSafe(objects))
        .fetch_one(&mut connection)
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
    connection.close().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

fn sqlite_object(row: &SqliteRow) -> Value {
    let value = |place: usize| {
        let raw = row.try_get_raw(place).unwrap();
        if raw.is_null() {
            return Value::Null;
        }
        match raw.type_info().name() {
            "INTEGER" => row.get::<i64, _>(place).into(),
            "REAL" => row.get::<f64, _>(place).into(),
            _ => row.get::<String, _>(place).into(),
        }
    };
    let columns = row.columns().iter();
    let object: Map<_, _> = columns
        .map(|column| (column.name().to_owned(), value(column.ordinal())))
        .collect();
    object.into()
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

/// Runs one statement on the server, in a thread of its own: callers are inside a test's runtime,
/// or in `drop`.
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

/// Makes a test of each named function per kind of database. The function receives an empty
/// database.
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
