//! One text of SQL for both kinds of database: an enum of the two, statements whose arguments are
//! [`Value`]s, and rows that either gives.
//!
//! Where the dialects differ for a reason a use case matches on [`Database`] itself and calls
//! `sqlite` or `postgres`.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::Row;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use sqlx::error::BoxDynError;
use sqlx::query::{Query, QueryAs};
use sqlx::{Arguments, AssertSqlSafe, FromRow, SqlSafeStr, SqlStr};
use sqlx_postgres::{PgArguments, PgRow, Postgres};
use sqlx_sqlite::{Sqlite, SqliteArguments, SqliteRow};
use tallyhook_core::github::types::Timestamp;

use super::columns::{Millis, Seconds};
use super::postgres::{self, PostgresDatabase};
use super::sqlite::{self, SqliteDatabase};
use super::{Moment, Result, audit};

/// The database that holds everything, of one of the two kinds.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(Arc<SqliteDatabase>),
    Postgres(Arc<PostgresDatabase>),
}

impl Database {
    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// Returns the rows of a statement that only reads.
    pub(crate) async fn rows<R: AnyRow>(&self, statement: Statement<'_>) -> Result<Vec<R>> {
        match self {
            Self::Sqlite(database) => database.fetch_all(statement.for_sqlite_rows()?).await,
            Self::Postgres(database) => database.fetch_all(statement.for_postgres_rows()?).await,
        }
    }

    /// Returns the first row of a statement that only reads.
    pub(crate) async fn row<R: AnyRow>(&self, statement: Statement<'_>) -> Result<Option<R>> {
        Ok(self.rows(statement).await?.into_iter().next())
    }

    /// Runs a statement that is a transaction by itself. Returns the number of rows it touched.
    pub(crate) async fn execute(&self, statement: Statement<'_>) -> Result<u64> {
        if audit::is_pending() {
            return self.execute_audited(statement).await;
        }
        match self {
            Self::Sqlite(database) => database.execute(statement.for_sqlite()?).await,
            Self::Postgres(database) => database.execute(statement.for_postgres()?).await,
        }
    }

    /// Runs a statement in one transaction with the event of the act under way.
    async fn execute_audited(&self, statement: Statement<'_>) -> Result<u64> {
        let mut writer = self.writer().await?;
        let mut transaction = writer.begin().await?;
        let touched = transaction.execute(statement).await?;
        transaction.commit().await?;
        Ok(touched)
    }

    /// Takes a connection that may write. SQLite has one, and other writers wait until it is
    /// dropped.
    pub(crate) async fn writer(&self) -> Result<Writer> {
        Ok(match self {
            Self::Sqlite(database) => Writer::Sqlite(database.writer().await?),
            Self::Postgres(database) => Writer::Postgres(database.session().await?),
        })
    }

    /// Notifies every listener of the outbox that there may be something new or due. A process that
    /// misses it looks some seconds later by itself.
    pub(crate) async fn notify_listeners(&self) {
        match self {
            Self::Sqlite(database) => database.notify_listeners(),
            Self::Postgres(database) => database.notify_listeners().await,
        }
    }
}

/// A connection that may write.
pub(crate) enum Writer {
    Sqlite(sqlite::SqliteWriter),
    Postgres(postgres::PooledSession),
}

impl Writer {
    /// Begins a transaction, which may write from its first statement on.
    pub(crate) async fn begin(&mut self) -> Result<Transaction<'_>> {
        audit::begin_change();
        Ok(match self {
            Self::Sqlite(writer) => Transaction::Sqlite(writer.begin().await?),
            Self::Postgres(session) => Transaction::Postgres(session.begin().await?),
        })
    }
}

/// A transaction, undone unless it is committed.
pub(crate) enum Transaction<'a> {
    Sqlite(sqlite::SqliteTransaction<'a>),
    Postgres(postgres::PostgresTransaction<'a>),
}

impl Transaction<'_> {
    /// Returns the rows of a statement.
    pub(crate) async fn rows<R: AnyRow>(&mut self, statement: Statement<'_>) -> Result<Vec<R>> {
        let writes = statement.writes();
        let rows: Vec<R> = match self {
            Self::Sqlite(transaction) => {
                let query = statement.for_sqlite_rows()?;
                query.fetch_all(&mut **transaction).await?
            }
            Self::Postgres(transaction) => {
                transaction
                    .fetch_all(statement.for_postgres_rows()?)
                    .await?
            }
        };
        if writes && !rows.is_empty() {
            audit::note_change();
        }
        Ok(rows)
    }

    /// Returns the first row of a statement.
    pub(crate) async fn row<R: AnyRow>(&mut self, statement: Statement<'_>) -> Result<Option<R>> {
        Ok(self.rows(statement).await?.into_iter().next())
    }

    /// Returns the number of rows that a statement touched.
    pub(crate) async fn execute(&mut self, statement: Statement<'_>) -> Result<u64> {
        let touched = match self {
            Self::Sqlite(transaction) => {
                let query = statement.for_sqlite()?;
                query.execute(&mut **transaction).await?.rows_affected()
            }
            Self::Postgres(transaction) => transaction.execute(statement.for_postgres()?).await?,
        };
        if touched > 0 {
            audit::note_change();
        }
        Ok(touched)
    }

    /// Holds a lock until the end of the transaction; waits for its holder. One database with one
    /// writer needs none.
    pub(crate) async fn lock(&mut self, lock: Lock) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(transaction) => transaction.lock(lock).await,
        }
    }

    /// Commits, with the event of the act under way if something was changed.
    pub(crate) async fn commit(self) -> Result<()> {
        let event = audit::take_due();
        let committed = self.commit_with(event.as_ref()).await;
        if let (Err(_), Some(event)) = (&committed, event) {
            audit::give_back(event);
        }
        committed
    }

    async fn commit_with(mut self, event: Option<&audit::NewAuditEvent>) -> Result<()> {
        if let Some(event) = event {
            audit::insert_event(&mut self, event).await?;
        }
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }

    /// Undoes the transaction. Dropping it does so too, but then its connection is not used again.
    pub(crate) async fn rollback(self) -> Result<()> {
        match self {
            Self::Sqlite(transaction) => transaction.rollback().await,
            Self::Postgres(transaction) => transaction.rollback().await,
        }
    }
}

/// A lock by which writers of several processes take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Writing to the outbox: events get their ids and are committed one transaction after the
    /// other, so that none appears before one that was read already. The last lock that a
    /// transaction takes.
    Outbox,
    /// Changing the members of teams, or making a team: no team loses its last admin.
    Members,
    /// Making a pull request belong to a task, where it did not.
    Tasks,
    /// Looking up the tasks of a pull request. Many may hold it at once, but not together with the
    /// one above.
    TasksOfPullRequests,
}

/// A row that both kinds of database give.
pub(crate) trait AnyRow:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> AnyRow for T where
    T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

/// A row of which there may be very many: a tuple, since its columns are read by their places.
pub(crate) trait ManyRow:
    AnyRow + for<'r> TryFrom<&'r Row<'r>, Error = rusqlite::Error>
{
}

impl<T> ManyRow for T where T: AnyRow + for<'r> TryFrom<&'r Row<'r>, Error = rusqlite::Error> {}

/// A statement with its arguments `$1`, `$2` and so on.
#[must_use = "a statement does nothing until it is run"]
pub(crate) struct Statement<'q> {
    sql: SqlStr,
    values: Vec<Value<'q>>,
    persistent: bool,
}

/// Makes a statement of SQL that both kinds of database understand. Values never enter the text:
/// they are bound.
pub(crate) fn statement<'q>(sql: impl Into<Cow<'static, str>>) -> Statement<'q> {
    let sql = match sql.into() {
        Cow::Borrowed(sql) => sql.into_sql_str(),
        Cow::Owned(sql) => AssertSqlSafe(sql).into_sql_str(),
    };
    Statement {
        sql,
        values: Vec::new(),
        persistent: true,
    }
}

impl<'q> Statement<'q> {
    /// Adds the next argument.
    pub(crate) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Sets whether the statement stays prepared on its connection. Off where there are too many
    /// texts to keep.
    pub(crate) fn persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// Reports whether the statement changes rows.
    fn writes(&self) -> bool {
        let sql = self.sql.as_str();
        ["INSERT", "UPDATE", "DELETE"]
            .iter()
            .any(|verb| sql.starts_with(verb))
    }

    /// Returns the text and the arguments.
    pub(crate) fn into_parts(self) -> (SqlStr, Vec<Value<'q>>) {
        (self.sql, self.values)
    }

    fn for_sqlite(self) -> Result<Query<'static, Sqlite, SqliteArguments>> {
        let arguments = arguments(self.values, |value, arguments| {
            value.add_to_sqlite(arguments)
        })?;
        Ok(sqlx::query_with(self.sql, arguments).persistent(self.persistent))
    }

    fn for_postgres(self) -> Result<Query<'static, Postgres, PgArguments>> {
        let arguments = arguments(self.values, |value, arguments| {
            value.add_to_postgres(arguments)
        })?;
        Ok(sqlx::query_with(self.sql, arguments).persistent(self.persistent))
    }

    pub(crate) fn for_sqlite_rows<R: AnyRow>(
        self,
    ) -> Result<QueryAs<'static, Sqlite, R, SqliteArguments>> {
        let arguments = arguments(self.values, |value, arguments| {
            value.add_to_sqlite(arguments)
        })?;
        Ok(sqlx::query_as_with(self.sql, arguments).persistent(self.persistent))
    }

    pub(crate) fn for_postgres_rows<R: AnyRow>(
        self,
    ) -> Result<QueryAs<'static, Postgres, R, PgArguments>> {
        let arguments = arguments(self.values, |value, arguments| {
            value.add_to_postgres(arguments)
        })?;
        Ok(sqlx::query_as_with(self.sql, arguments).persistent(self.persistent))
    }
}

/// A statement whose text depends on what is asked for.
pub(crate) struct StatementBuilder<'q> {
    sql: String,
    values: Vec<Value<'q>>,
}

impl<'q> StatementBuilder<'q> {
    pub(crate) fn new(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            values: Vec::new(),
        }
    }

    /// Adds text, which is never a value from outside.
    pub(crate) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Adds the place of an argument, and the argument.
    pub(crate) fn push_bind(&mut self, value: impl Into<Value<'q>>) -> &mut Self {
        self.values.push(value.into());
        self.sql.push('$');
        self.sql.push_str(&self.values.len().to_string());
        self
    }

    pub(crate) fn build(self) -> Statement<'q> {
        Statement {
            sql: AssertSqlSafe(self.sql).into_sql_str(),
            values: self.values,
            persistent: true,
        }
    }
}

fn arguments<'q, A: Default>(
    values: Vec<Value<'q>>,
    add: impl Fn(Value<'q>, &mut A) -> Result<(), BoxDynError>,
) -> Result<A> {
    let mut arguments = A::default();
    for value in values {
        add(value, &mut arguments).map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// An argument of a statement. A null has a type too, since PostgreSQL asks for it.
pub(crate) enum Value<'q> {
    Bool(bool),
    Int(Option<i64>),
    Text(Option<Cow<'q, str>>),
    Bytes(Option<&'q [u8]>),
    Millis(Option<Moment>),
    Seconds(Option<Timestamp>),
}

impl Value<'_> {
    fn add_to_sqlite(self, arguments: &mut SqliteArguments) -> Result<(), BoxDynError> {
        match self {
            Self::Bool(value) => arguments.add(value),
            Self::Int(value) => arguments.add(value),
            Self::Text(value) => arguments.add(value.map(Cow::into_owned)),
            Self::Bytes(value) => arguments.add(value),
            Self::Millis(value) => arguments.add(value.map(Millis)),
            Self::Seconds(value) => arguments.add(value.map(Seconds)),
        }
    }

    fn add_to_postgres(self, arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        match self {
            Self::Bool(value) => arguments.add(value),
            Self::Int(value) => arguments.add(value),
            Self::Text(value) => arguments.add(value.as_deref()),
            Self::Bytes(value) => arguments.add(value),
            Self::Millis(value) => arguments.add(value.map(Millis)),
            Self::Seconds(value) => arguments.add(value.map(Seconds)),
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let int = |value: Option<i64>| value.map_or(ValueRef::Null, ValueRef::Integer);
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Bool(value) => ValueRef::Integer(i64::from(*value)),
            Self::Int(value) => int(*value),
            Self::Text(value) => value
                .as_deref()
                .map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes())),
            Self::Bytes(value) => value.map_or(ValueRef::Null, ValueRef::Blob),
            Self::Millis(value) => int(value.map(|at| at.timestamp_millis())),
            Self::Seconds(value) => int(value.map(Timestamp::epoch)),
        }))
    }
}

macro_rules! value_from {
    ($($type:ty => $value:ident => $made:expr;)*) => {
        $(impl<'q> From<$type> for Value<'q> {
            fn from($value: $type) -> Self {
                $made
            }
        })*
    };
}

value_from! {
    bool => value => Self::Bool(value);
    i64 => value => Self::Int(Some(value));
    Option<i64> => value => Self::Int(value);
    &'q str => value => Self::Text(Some(Cow::Borrowed(value)));
    Option<&'q str> => value => Self::Text(value.map(Cow::Borrowed));
    String => value => Self::Text(Some(Cow::Owned(value)));
    Option<String> => value => Self::Text(value.map(Cow::Owned));
    &'q [u8] => value => Self::Bytes(Some(value));
    Option<&'q [u8]> => value => Self::Bytes(value);
    Millis => value => Self::Millis(Some(value.0));
    Option<Millis> => value => Self::Millis(value.map(|Millis(at)| at));
    Seconds => value => Self::Seconds(Some(value.0));
    Option<Seconds> => value => Self::Seconds(value.map(|Seconds(at)| at));
}
