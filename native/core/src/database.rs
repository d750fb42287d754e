//! Private working copies of SQLite files: catalogs, histories and reference logs while they are written.
//!
//! Owns how such a copy is opened, guarded and closed. A copy belongs to one thread at a time and has no other reader,
//! and its original can be fetched again: journals and flushes would only cost time. Any error spoils the copy, which
//! is then dropped, never stored. Files from outside are not trusted: their header is checked first, and databases with
//! triggers or views are refused.

use std::io::Write as _;
use std::path::Path;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, ToSql};
use tempfile::TempPath;

use crate::error::{Error, ErrorKind, Result};
use crate::store::local::temporary_prefix;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Bytes 18 and 19 of the header: 1 is a rollback journal, 2 a write-ahead log, which clients cannot read (4.1).
const JOURNAL_VERSIONS: std::ops::Range<usize> = 18..20;
const HEADER_BYTES: usize = 100;
/// Prepared statements kept by a connection; a catalog writer has about 40 different ones.
const STATEMENTS: usize = 64;
/// Negative numbers are KiB: 64 MiB of pages hold the catalogs that a publish usually touches.
const PREPARE: &str = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; \
                       PRAGMA temp_store=MEMORY; PRAGMA cache_size=-65536; PRAGMA foreign_keys=ON; \
                       PRAGMA trusted_schema=OFF;";

/// One working copy with an open transaction.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    file: TempPath,
    /// What it is, for messages: "catalog /a/b".
    subject: String,
}

impl Database {
    /// Creates an empty database in `scratch` and runs `schema` on it.
    pub(crate) fn create(scratch: &Path, subject: String, page_bytes: u32, schema: &[&str]) -> Result<Self> {
        let file = temporary(scratch)?.into_temp_path();
        let database = Self::connect(file, subject)?;
        // The page size has to be set before the first table.
        database.run(&format!("PRAGMA page_size={page_bytes};"))?;
        database.begin()?;
        schema.iter().try_for_each(|sql| database.run(sql))?;
        Ok(database)
    }

    /// Opens a database whose bytes came from a store.
    pub(crate) fn from_bytes(scratch: &Path, subject: String, bytes: &[u8]) -> Result<Self> {
        check_header(bytes, &subject)?;
        let mut file = temporary(scratch)?;
        file.write_all(bytes).map_err(|e| Error::io("write", file.path().display().to_string(), e))?;
        let database = Self::connect(file.into_temp_path(), subject)?;
        let sql = "SELECT count(*) FROM sqlite_master WHERE type IN ('trigger', 'view')";
        if database.number(sql)? != 0 {
            return Err(database.corrupt("it has triggers or views"));
        }
        database.begin()?;
        Ok(database)
    }

    fn connect(file: TempPath, subject: String) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&file, flags).map_err(|e| sql_error("open", &subject, e))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.execute_batch(PREPARE).map_err(|e| sql_error("open", &subject, e))?;
        Ok(Self { connection, file, subject })
    }

    fn begin(&self) -> Result<()> {
        self.run("BEGIN IMMEDIATE;")
    }

    /// Returns what it is, for messages.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns an error that says that the file is not what it should be.
    pub(crate) fn corrupt(&self, reason: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Corrupt, "use", format!("{}: {reason}", self.subject))
    }

    /// Runs statements that return nothing.
    pub(crate) fn run(&self, sql: &str) -> Result<()> {
        self.connection.execute_batch(sql).map_err(|e| sql_error("change", &self.subject, e))
    }

    /// Runs one statement; returns how many rows it changed.
    pub(crate) fn execute(&self, sql: &str, parameters: &[&dyn ToSql]) -> Result<usize> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|e| sql_error("change", &self.subject, e))?;
        statement.execute(parameters).map_err(|e| sql_error("change", &self.subject, e))
    }

    /// Returns the rows of a query, each read by `read`.
    pub(crate) fn rows<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToSql],
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let failed = |e| sql_error("read", &self.subject, e);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(parameters).map_err(failed)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            found.push(read(row)?);
        }
        Ok(found)
    }

    /// Returns the first row of a query.
    pub(crate) fn row<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToSql],
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let failed = |e| sql_error("read", &self.subject, e);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(parameters).map_err(failed)?;
        rows.next().map_err(failed)?.map(read).transpose()
    }

    /// Returns the one number of a query, 0 for NULL.
    pub(crate) fn number(&self, sql: &str) -> Result<i64> {
        let value = self.row(sql, &[], |row| self.integer(row, 0))?;
        value.ok_or_else(|| self.corrupt(format!("`{sql}` has no result")))
    }

    /// Reads an integer column, 0 for NULL; text of digits counts as a number, as SQLite has it.
    pub(crate) fn integer(&self, row: &Row<'_>, index: usize) -> Result<i64> {
        match row.get_ref(index).map_err(|e| sql_error("read", &self.subject, e))? {
            ValueRef::Null => Ok(0),
            ValueRef::Integer(value) => Ok(value),
            ValueRef::Text(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| self.corrupt(format!("column {index} holds a text instead of a number"))),
            other => Err(self.corrupt(format!("column {index} holds {} instead of a number", other.data_type()))),
        }
    }

    /// Reads an integer column that has to fit a smaller type.
    pub(crate) fn unsigned<T: TryFrom<i64>>(&self, row: &Row<'_>, index: usize) -> Result<T> {
        let value = self.integer(row, index)?;
        T::try_from(value).map_err(|_| self.corrupt(format!("column {index} holds {value}, which is out of range")))
    }

    /// Reads a text or blob column as bytes, empty for NULL.
    pub(crate) fn bytes(&self, row: &Row<'_>, index: usize) -> Result<Vec<u8>> {
        match row.get_ref(index).map_err(|e| sql_error("read", &self.subject, e))? {
            ValueRef::Null => Ok(Vec::new()),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(bytes.to_vec()),
            ValueRef::Integer(value) => Ok(value.to_string().into_bytes()),
            ValueRef::Real(value) => Ok(value.to_string().into_bytes()),
        }
    }

    /// Reads a text column that has to be UTF-8.
    pub(crate) fn text(&self, row: &Row<'_>, index: usize) -> Result<String> {
        String::from_utf8(self.bytes(row, index)?).map_err(|_| self.corrupt(format!("column {index} is not UTF-8")))
    }

    /// Reads all columns as they are.
    pub(crate) fn values(&self, row: &Row<'_>, count: usize) -> Result<Vec<RawValue>> {
        (0..count)
            .map(|index| {
                let value = row.get_ref(index).map_err(|e| sql_error("read", &self.subject, e))?;
                Ok(match value {
                    ValueRef::Text(bytes) => RawValue::Text(bytes.to_vec()),
                    ValueRef::Null => RawValue::Other(Value::Null),
                    ValueRef::Integer(value) => RawValue::Other(Value::Integer(value)),
                    ValueRef::Real(value) => RawValue::Other(Value::Real(value)),
                    ValueRef::Blob(bytes) => RawValue::Other(Value::Blob(bytes.to_vec())),
                })
            })
            .collect()
    }

    /// Returns a property whose bytes need not be UTF-8.
    pub(crate) fn property_bytes(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.row("SELECT value FROM properties WHERE key = ?1", &[&key], |row| self.bytes(row, 0))
    }

    /// Returns a property.
    pub(crate) fn property(&self, key: &str) -> Result<Option<String>> {
        self.row("SELECT value FROM properties WHERE key = ?1", &[&key], |row| self.text(row, 0))
    }

    /// Returns a property that is a whole number.
    pub(crate) fn number_property<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>> {
        let parse =
            |text: String| text.trim().parse().map_err(|_| self.corrupt(format!("property `{key}` is `{text}`")));
        self.property(key)?.map(parse).transpose()
    }

    /// Sets a property. Values are texts whatever they mean (format.md 4.2).
    pub(crate) fn set_property(&self, key: &str, value: &str) -> Result<()> {
        self.execute("INSERT OR REPLACE INTO properties (key, value) VALUES (?1, ?2)", &[&key, &value]).map(drop)
    }

    /// Says whether a table has a column.
    pub(crate) fn has_column(&self, table: &str, column: &str) -> Result<bool> {
        let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
        Ok(self.row(sql, &[&table, &column], |row| self.integer(row, 0))?.unwrap_or(0) > 0)
    }

    /// Says whether there is a table.
    pub(crate) fn has_table(&self, table: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
        let found = self.connection.query_row(sql, [table], |_| Ok(())).optional();
        found.map(|row| row.is_some()).map_err(|e| sql_error("read", &self.subject, e))
    }

    /// Ends the transaction, so that what needs to be outside of one can run (VACUUM).
    pub(crate) fn commit(&self) -> Result<()> {
        self.run("COMMIT;")
    }

    /// Ends the transaction, closes the file and returns its bytes.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>> {
        if !self.connection.is_autocommit() {
            self.commit()?;
        }
        let Self { connection, file, subject } = self;
        connection.close().map_err(|(_, e)| sql_error("close", &subject, e))?;
        let bytes = std::fs::read(&file).map_err(|e| Error::io("read", file.display().to_string(), e))?;
        check_header(&bytes, &subject)?;
        Ok(bytes)
    }
}

fn temporary(scratch: &Path) -> Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(&temporary_prefix())
        .tempfile_in(scratch)
        .map_err(|e| Error::io("create temporary file in", scratch.display().to_string(), e))
}

fn check_header(bytes: &[u8], subject: &str) -> Result<()> {
    let corrupt = |reason| Err(Error::new(ErrorKind::Corrupt, "open", format!("{subject}: {reason}")));
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
        return corrupt("not an SQLite file");
    }
    if bytes[JOURNAL_VERSIONS] != [1, 1] {
        return corrupt("an SQLite file with a write-ahead log");
    }
    Ok(())
}

/// Wraps SQLite's refusal. Whatever is not the disk's fault is the file's: our statements fit every sound database.
pub(crate) fn sql_error(operation: &'static str, subject: &str, error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ErrorKind::NoSpace,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => ErrorKind::LocalIo,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => ErrorKind::PermissionDenied,
        Some(ErrorCode::OutOfMemory | ErrorCode::ApiMisuse | ErrorCode::InternalMalfunction) => ErrorKind::Internal,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Busy,
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, operation, subject).with_source(error)
}

/// Bytes that are stored as TEXT although they may not be UTF-8, as names and symlink targets are.
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// Any value of a row, so that rows can be copied without understanding them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawValue {
    /// Text of any bytes.
    Text(Vec<u8>),
    /// Everything else.
    Other(Value),
}

impl ToSql for RawValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Text(bytes) => Ok(ToSqlOutput::Borrowed(ValueRef::Text(bytes))),
            Self::Other(value) => value.to_sql(),
        }
    }
}
