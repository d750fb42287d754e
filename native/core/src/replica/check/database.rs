//! Read-only access to the history and reflog databases of a repository under check.
//!
//! Owns the distrust of a file that somebody else wrote. One database is used by one thread.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};

use super::load::Problem;

/// No value of a legitimate history or reflog is longer.
const VALUE_MAX_BYTES: i32 = 1 << 20;

/// An open database file, private to the check.
#[derive(Debug)]
pub(super) struct Database(Connection);

impl Database {
    /// Opens a file; views, triggers and virtual tables could run arbitrary queries and are refused.
    pub(super) fn open(file: &Path) -> Result<Self, Problem> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> rusqlite::Result<(Connection, i64)> {
            let connection = Connection::open_with_flags(file, flags)?;
            connection.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, VALUE_MAX_BYTES)?;
            connection.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA query_only=ON;")?;
            let sql = "SELECT count(*) FROM sqlite_master \
                       WHERE type NOT IN ('table', 'index') OR sql LIKE 'create virtual%'";
            let foreign = connection.query_row(sql, [], |row| row.get(0))?;
            Ok((connection, foreign))
        };
        match open().map_err(|e| e.to_string())? {
            (connection, 0) => Ok(Self(connection)),
            (_, foreign) => Err(format!("{foreign} views, triggers or virtual tables")),
        }
    }

    /// Returns a property's text.
    pub(super) fn property(&self, key: &str) -> Result<Option<String>, Problem> {
        let sql = "SELECT CAST(value AS TEXT) FROM properties WHERE key = ?1";
        let found = self.0.query_row(sql, [key], |row| row.get::<_, Option<String>>(0)).optional();
        found.map(Option::flatten).map_err(|e| e.to_string())
    }

    /// Says whether there is a table, and in it a column.
    pub(super) fn has_column(&self, table: &str, column: &str) -> Result<bool, Problem> {
        let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
        self.0.query_row(sql, [table, column], |row| row.get::<_, i64>(0)).map(|n| n > 0).map_err(|e| e.to_string())
    }

    /// Passes each row of a query to `sink`.
    pub(super) fn each(&self, sql: &str, mut sink: impl FnMut(&Row<'_>)) -> Result<(), Problem> {
        let mut run = || -> rusqlite::Result<()> {
            let mut statement = self.0.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                sink(row);
            }
            Ok(())
        };
        run().map_err(|e| e.to_string())
    }
}

/// Returns a column as text, whatever it holds; empty for NULL.
pub(super) fn text(row: &Row<'_>, index: usize) -> String {
    match row.get_ref(index) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Ok(ValueRef::Integer(value)) => value.to_string(),
        Ok(ValueRef::Real(value)) => value.to_string(),
        Ok(ValueRef::Null) | Err(_) => String::new(),
    }
}

/// Returns a column that holds an integer.
pub(super) fn integer(row: &Row<'_>, index: usize) -> Option<i64> {
    match row.get_ref(index) {
        Ok(ValueRef::Integer(value)) => Some(value),
        _ => None,
    }
}
