//! The connections of one process: few, named, and none that is given back in the middle of
//! something.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::query::{Query, QueryAs};
use sqlx::{ConnectOptions, FromRow};
use sqlx_postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions, PgRow, Postgres,
};
use tokio::time::timeout;

use crate::database::Lock;
use crate::{DatabaseUrlError, Result, StoreError};

/// Connections of one process, besides the one that holds its leaderships.
const CONNECTIONS: u32 = 10;
/// The time-out for a free or a new connection. Clients wait for the answer, GitHub for seconds
/// only.
const ACQUIRE: Duration = Duration::from_secs(3);
/// The time after which the server aborts a statement.
const STATEMENT: &str = "30s";
/// After this a statement is given up here. The server was quicker, unless it is not there any
/// more: a machine that lost its power says no goodbye.
const ANSWER: Duration = Duration::from_secs(35);
/// The time that closing may take.
const CLOSING: Duration = Duration::from_secs(3);

/// First halves of the advisory locks that Tallyhook takes: "TAL" and a number. The second half is
/// an instance's id or the number of a role. sqlx's lock for migrations has one whole number
/// instead of two halves, so that they never meet.
pub(crate) const INSTANCES: i32 = 0x5441_4c01;
pub(crate) const ROLES: i32 = 0x5441_4c02;
/// Held by a writer of the outbox, until the commit.
pub(crate) const OUTBOX: i32 = 0x5441_4c03;
/// Held to link a task, and shared by transactions that look up the tasks of the pull requests they
/// write.
pub(crate) const TASKS: i32 = 0x5441_4c04;
/// Held to change the members of teams.
pub(crate) const MEMBERS: i32 = 0x5441_4c05;

/// The channel of notifications that the outbox changed.
pub(crate) const OUTBOX_CHANNEL: &str = "tallyhook_outbox";

/// The connections of one instance of the store.
pub(crate) struct Connections {
    options: PgConnectOptions,
    pool: PgPool,
    /// Marks the leases of this instance, as opposed to those of others. Each of its connections
    /// holds the advisory lock of this number, shared: it is alive as long as one of them is, and
    /// no claim is made without it.
    pub(crate) instance: i32,
}

/// Parses a URL, and adds the options of every connection of ours.
///
/// # Errors
/// In words that do not repeat the URL, since it holds a password.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, DatabaseUrlError> {
    let wrong = |why: String| DatabaseUrlError(format!("DATABASE_URL is wrong: {why}"));
    let options = known_parameters(url)
        .parse::<PgConnectOptions>()
        .map_err(|error| {
            let why = match error {
                sqlx::Error::Configuration(why) => why.to_string(),
                other => other.to_string(),
            };
            wrong(format!(
                "{why}; expected postgres://USER:PASSWORD@HOST:PORT/DATABASE"
            ))
        })?;
    if options
        .get_database()
        .is_some_and(|database| database.contains('@'))
    {
        let advice = "a password with a character such as / must have it written as %2F";
        return Err(wrong(advice.to_owned()));
    }
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("tallyhook"),
    };
    let options = options.options([
        ("statement_timeout", STATEMENT),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "30s"),
        // Each statement sees what is committed when it begins; the rules about who waits for whom
        // build on it.
        ("default_transaction_isolation", "read committed"),
        // Plans are made for the values asked for and for tables as large as they are now. A plan
        // that was made for an empty table would read it from end to end a thousand deliveries
        // later.
        ("plan_cache_mode", "force_custom_plan"),
        ("client_min_messages", "warning"),
        // A client that is gone without a word, with its locks, is noticed within half a minute.
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
    ]);
    Ok(options.disable_statement_logging())
}

/// The URL without the parameters that sqlx does not know, which it would log with their values.
fn known_parameters(url: &str) -> String {
    const KNOWN: [&str; 18] = [
        "application_name",
        "dbname",
        "host",
        "hostaddr",
        "options",
        "password",
        "port",
        "ssl-ca",
        "ssl-cert",
        "ssl-key",
        "ssl-mode",
        "ssl-root-cert",
        "sslcert",
        "sslkey",
        "sslmode",
        "sslrootcert",
        "statement-cache-capacity",
        "user",
    ];
    let Some((place, parameters)) = url.split_once('?') else {
        return url.to_owned();
    };
    let (known, unknown): (Vec<_>, Vec<_>) = form_urlencoded::parse(parameters.as_bytes())
        .partition(|(name, _)| KNOWN.contains(&&**name) || name.starts_with("options["));
    for (name, _) in unknown {
        // A password with a raw question mark looks like one.
        let shown = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || b"_-".contains(&byte));
        let name = if shown { &*name } else { "?" };
        tracing::warn!(
            parameter = %name,
            "DATABASE_URL has a parameter that is not known here and does nothing"
        );
    }
    let known = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(known)
        .finish();
    format!("{place}?{known}")
}

/// One connection beside the pool.
pub(crate) async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    timeout(ACQUIRE, options.connect())
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)?
}

impl Connections {
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        let instance = rand::random_range(1..i32::MAX);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            // More than one, so that the instance stays alive when one of them breaks.
            .min_connections(2)
            .acquire_timeout(ACQUIRE)
            // A connection that broke while it was idle is found before it is used.
            .test_before_acquire(true)
            .idle_timeout(Duration::from_mins(10))
            .max_lifetime(None)
            .after_connect(move |connection, _| Box::pin(introduce(connection, instance)))
            .connect_lazy_with(options.clone());
        Self {
            options,
            pool,
            instance,
        }
    }

    /// A connection beside the pool, which holds the instance's lock like those of the pool.
    pub(crate) async fn extra(&self) -> Result<PgConnection> {
        if self.pool.is_closed() {
            return Err(StoreError::Closed);
        }
        let mut connection = connect(&self.options).await?;
        within(introduce(&mut connection, self.instance)).await?;
        Ok(connection)
    }

    /// A connection of the pool that listens on `channel`, until it is dropped.
    pub(crate) async fn listener(&self, channel: &str) -> Result<PgListener> {
        if self.pool.is_closed() {
            return Err(StoreError::Closed);
        }
        let mut listener = within(PgListener::connect_with(&self.pool)).await?;
        within(listener.listen(channel)).await?;
        Ok(listener)
    }

    /// Takes a connection out of the pool.
    pub(crate) async fn session(&self) -> Result<PooledSession> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(PooledSession {
                connection,
                keep: false,
            }),
            Err(sqlx::Error::PoolClosed) => Err(StoreError::Closed),
            Err(error) => Err(error.into()),
        }
    }

    /// The rows of one statement, which is a transaction by itself.
    pub(crate) async fn fetch_all<O: PgRecord>(
        &self,
        query: QueryAs<'_, Postgres, O, PgArguments>,
    ) -> Result<Vec<O>> {
        let mut session = self.session().await?;
        let rows = session.fetch_all(query).await?;
        session.keep();
        Ok(rows)
    }

    /// The first row of one statement, which is a transaction by itself.
    pub(crate) async fn fetch_optional<O: PgRecord>(
        &self,
        query: QueryAs<'_, Postgres, O, PgArguments>,
    ) -> Result<Option<O>> {
        Ok(self.fetch_all(query).await?.into_iter().next())
    }

    /// Runs one statement, which is a transaction by itself. Returns the number of rows it touched.
    pub(crate) async fn execute(&self, query: Query<'_, Postgres, PgArguments>) -> Result<u64> {
        let mut session = self.session().await?;
        let rows = session.execute(query).await?;
        session.keep();
        Ok(rows)
    }

    /// Closes every connection, those too that a frozen server would hold up.
    pub(crate) async fn close(&self) {
        if timeout(CLOSING, self.pool.close()).await.is_err() {
            tracing::warn!(
                "the database did not answer in time to close its connections; nothing that was \
                 committed is lost"
            );
        }
    }
}

/// Whatever can be read from any row.
pub(crate) trait PgRecord: for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T: for<'r> FromRow<'r, PgRow> + Send + Unpin> PgRecord for T {}

/// Prepares a new connection.
async fn introduce(connection: &mut PgConnection, instance: i32) -> sqlx::Result<()> {
    // An answer of ours says that something is on disk. A server that is set to less is brought
    // back to that, one that waits for its standbys as well is left as it is.
    let query = "SELECT set_config('synchronous_commit', 'on', false) \
                 WHERE current_setting('synchronous_commit') = 'off'";
    sqlx::query(query).execute(&mut *connection).await?;
    sqlx::query("SELECT pg_advisory_lock_shared($1, $2)")
        .bind(INSTANCES)
        .bind(instance)
        .execute(connection)
        .await?;
    Ok(())
}

/// A connection that is ours for a while.
///
/// Callers may be cut off at any point: a client goes away, a time is over. sqlx gives a connection
/// on which `BEGIN` was cut off back to its pool as it is, inside of a transaction, for the next to
/// fall into. So none of ours goes back unless [`keep`](Self::keep) says that all is done: it is
/// closed, and what was not committed is undone.
pub(crate) struct PooledSession {
    connection: PoolConnection<Postgres>,
    keep: bool,
}

impl PooledSession {
    pub(crate) async fn fetch_all<O: PgRecord>(
        &mut self,
        query: QueryAs<'_, Postgres, O, PgArguments>,
    ) -> Result<Vec<O>> {
        within(query.fetch_all(&mut *self.connection)).await
    }

    pub(crate) async fn execute(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<u64> {
        Ok(within(query.execute(&mut *self.connection))
            .await?
            .rows_affected())
    }

    /// Begins a transaction on this connection.
    pub(crate) async fn begin(&mut self) -> Result<PostgresTransaction<'_>> {
        self.execute(sqlx::query("BEGIN")).await?;
        Ok(PostgresTransaction(self))
    }

    /// Returns the connection itself, for rows that are taken one by one.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Gives the connection back to the pool.
    pub(crate) fn keep(mut self) {
        self.is_done();
    }

    /// Lets the connection be given back to the pool in the end.
    pub(crate) fn is_done(&mut self) {
        self.keep = true;
    }
}

impl Drop for PooledSession {
    fn drop(&mut self) {
        if !self.keep {
            self.connection.close_on_drop();
        }
    }
}

/// Waits for an answer of the server, but not for ever.
pub(crate) async fn within<T>(answer: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    match timeout(ANSWER, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(StoreError::Unanswered),
    }
}

/// A transaction. The connection goes back to the pool only after its end was confirmed.
pub(crate) struct PostgresTransaction<'a>(pub(crate) &'a mut PooledSession);

impl PostgresTransaction<'_> {
    pub(crate) async fn fetch_all<R: PgRecord>(
        &mut self,
        query: QueryAs<'_, Postgres, R, PgArguments>,
    ) -> Result<Vec<R>> {
        self.0.fetch_all(query).await
    }

    pub(crate) async fn execute(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<u64> {
        self.0.execute(query).await
    }

    pub(crate) async fn lock(&mut self, lock: Lock) -> Result<()> {
        let (query, class) = match lock {
            Lock::Outbox => ("SELECT pg_advisory_xact_lock($1, 0)", OUTBOX),
            Lock::Members => ("SELECT pg_advisory_xact_lock($1, 0)", MEMBERS),
            Lock::Tasks => ("SELECT pg_advisory_xact_lock($1, 0)", TASKS),
            Lock::TasksOfPullRequests => ("SELECT pg_advisory_xact_lock_shared($1, 0)", TASKS),
        };
        self.0
            .execute(sqlx::query(query).bind(class))
            .await
            .map(|_| ())
    }

    pub(crate) async fn commit(self) -> Result<()> {
        self.0.execute(sqlx::query("COMMIT")).await?;
        self.0.is_done();
        Ok(())
    }

    pub(crate) async fn rollback(self) -> Result<()> {
        self.0.execute(sqlx::query("ROLLBACK")).await?;
        self.0.is_done();
        Ok(())
    }
}
