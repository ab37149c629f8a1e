//! Many pull requests in a database, for what measures reading: three years of 200 repositories.

use sqlx::{AssertSqlSafe, Connection};
use sqlx_postgres::PgConnection;
use sqlx_sqlite::SqliteConnection;

const POSTGRES: &str = include_str!("million.sql");
const SQLITE: &str = include_str!("million_sqlite.sql");

/// The rows and the time of a filled database. Everything else follows from the number of a row.
#[derive(Clone, Copy, Debug)]
pub struct Million {
    pub rows: u32,
    /// Seconds of the first pull request; there is one each [`Million::PACE`] seconds.
    pub since: i64,
}

impl Million {
    /// Seconds between two pull requests.
    pub const PACE: i64 = 95;
    /// The longest life of a pull request, in seconds.
    const LONGEST: i64 = 60 + 1_048_576;
    /// A million that begins on 1 March 2023 and ends on 4 March 2026.
    pub const DEFAULT: Self = Self {
        rows: 1_000_000,
        since: 1_677_628_800,
    };

    /// Returns so many rows, the last of which ends at `now`, in seconds.
    pub fn until(rows: u32, now: i64) -> Self {
        let since = now - Self::LONGEST - Self::PACE * i64::from(rows);
        Self { rows, since }
    }

    /// Fills a database that is migrated and empty.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn fill(self, url: &str) -> sqlx::Result<()> {
        let (rows, since) = (self.rows, self.since);
        if url.starts_with("sqlite:") {
            let sql = SQLITE
                .replace("n < 1000000", &format!("n < {rows}"))
                .replace("1677628800", &since.to_string());
            let mut connection = SqliteConnection::connect(url).await?;
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await?;
            return connection.close().await;
        }
        let sql = POSTGRES
            .replace("(1, 1000000)", &format!("(1, {rows})"))
            .replace(
                "timestamptz '2023-03-01Z'",
                &format!("to_timestamp({since})"),
            );
        let mut connection = PgConnection::connect(url).await?;
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
        sqlx::raw_sql("VACUUM (ANALYZE)")
            .execute(&mut connection)
            .await?;
        connection.close().await
    }
}
