//! Reads of very many rows, which sqlx would copy one by one and hand to another thread each.

use std::path::PathBuf;
use std::time::Instant;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use sqlx::SqlStr;

use super::database::{BUSY_TIMEOUT, INSTRUCTIONS, READ_LIMIT};
use crate::Result;
use crate::database::{ManyRow, Statement, Value};

/// A connection for scans, which is opened at the first one and used by one at a time.
pub(crate) struct Scanner {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl Scanner {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            connection: Mutex::default(),
        }
    }

    /// Passes each row of a statement to `add`, in this thread. It ends after [`READ_LIMIT`].
    ///
    /// # Errors
    /// Those of SQLite, after which the next scan opens the file again.
    pub(crate) fn each_row<R: ManyRow>(
        &self,
        statement: Statement<'_>,
        add: impl FnMut(R),
    ) -> Result<()> {
        let mut slot = self.connection.lock();
        let connection = match slot.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        let (sql, values) = statement.into_parts();
        scan(&connection, &sql, &values, add)?;
        *slot = Some(connection);
        Ok(())
    }

    fn open(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        Ok(connection)
    }

    /// Closes the connection, once a scan that runs has ended.
    pub(super) fn close(&self) {
        self.connection.lock().take();
    }
}

fn scan<R: ManyRow>(
    connection: &Connection,
    sql: &SqlStr,
    values: &[Value<'_>],
    mut add: impl FnMut(R),
) -> Result<()> {
    let end = Instant::now() + READ_LIMIT;
    connection.progress_handler(INSTRUCTIONS, Some(move || Instant::now() >= end))?;
    let mut statement = connection.prepare(sql.as_str())?;
    for (place, value) in values.iter().enumerate() {
        // SQLite numbers `$1` by its place in the text, not by its name.
        let name = format!("${}", place + 1);
        if let Some(index) = statement.parameter_index(&name)? {
            statement.raw_bind_parameter(index, value)?;
        }
    }
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        add(R::try_from(row)?);
    }
    Ok(())
}
