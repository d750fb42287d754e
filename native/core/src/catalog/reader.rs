//! Reads the SQLite form of a catalog: every schema that the reference client reads.
//!
//! Owns the differences between schema versions and the distrust of a database that somebody else wrote. The rows go
//! to [`super::index`], once; nothing here runs on the hot path. One reader is used by one thread.
//! Source: format.md 4.2, 4.3, 4.8 and 4.11.

use std::collections::HashMap;
use std::path::Path;

use nearfs_format::hash::ContentHash;
use nearfs_format::path::{PathHash, RepoPath};
use rusqlite::{Connection, OpenFlags, Row, types::ValueRef};

use crate::error::{Error, ErrorKind, Result};

const OPERATION: &str = "read catalog";
/// Schema numbers are decimals in text; the reference compares them with this tolerance.
const SCHEMA_TOLERANCE: f64 = 0.0005;
/// No value of a legitimate catalog is longer: an xattr blob has at most 255 entries of 512 bytes.
const VALUE_MAX_BYTES: i32 = 1 << 20;
/// Links longer than `PATH_MAX` cannot be followed.
const SYMLINK_MAX_BYTES: usize = 4095;

/// Which columns and tables a catalog has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schema {
    /// The `schema` property; 1.0 where it is missing.
    pub version: f64,
    /// The `schema_revision` property; 0 where it is missing.
    pub revision: u32,
}

impl Schema {
    fn is_version(self, version: f64) -> bool {
        (self.version - version).abs() < SCHEMA_TOLERANCE
    }

    pub(super) fn is_legacy(self) -> bool {
        self.version < 2.0 - SCHEMA_TOLERANCE
    }

    /// Says whether a publisher may write to such a catalog, after bringing it to the newest revision.
    pub fn is_writable(self) -> bool {
        self.is_version(2.5)
    }

    fn check(self, subject: &str) -> Result<Self> {
        if self.is_legacy() || self.is_version(2.4) || self.is_version(2.5) {
            return Ok(self);
        }
        Err(Error::new(ErrorKind::Unsupported, OPERATION, format!("{subject}: schema {}", self.version)))
    }
}

/// One row of table `catalog`, values as they lie there but checked for range.
#[derive(Debug)]
pub struct CatalogRow<'a> {
    /// Hash of the full path.
    pub path_hash: PathHash,
    /// Hash of the parent's path.
    pub parent_hash: PathHash,
    /// The `hardlinks` column.
    pub hardlinks: i64,
    /// Raw digest, if there is one.
    pub digest: Option<&'a [u8]>,
    /// Size in bytes, or the device number.
    pub size: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Unix seconds.
    pub mtime: i64,
    /// Nanoseconds below one second, 0 where unknown.
    pub mtime_ns: u32,
    /// The `flags` column.
    pub flags: u32,
    /// Last path component.
    pub name: &'a [u8],
    /// Link target or empty.
    pub symlink: &'a [u8],
    /// Owner, `None` in catalogs that record none.
    pub owner: Option<(u32, u32)>,
    /// The `xattr` column.
    pub xattr: &'a [u8],
}

/// One row of table `chunks`.
#[derive(Debug, Clone, Copy)]
pub struct ChunkRow {
    /// Path hash of the file.
    pub path_hash: PathHash,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// Uncompressed size, bytes.
    pub size: u64,
    /// Raw digest; its algorithm is the file row's.
    pub digest: [u8; 20],
}

/// One row of table `nested_catalogs` or `bind_mountpoints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NestedRow {
    /// Where it is mounted, absolute.
    pub path: RepoPath,
    /// Hash of the catalog object.
    pub hash: ContentHash,
    /// Size of the uncompressed catalog in bytes; 0 where unknown.
    pub size_bytes: u64,
}

/// An open catalog database.
#[derive(Debug)]
pub struct CatalogReader {
    pub(super) connection: Connection,
    pub(super) subject: String,
    schema: Schema,
    /// Values as bytes: `root_prefix` is a path, and paths need not be UTF-8.
    properties: HashMap<String, Vec<u8>>,
}

impl CatalogReader {
    /// Opens an uncompressed catalog file; `subject` names it in errors.
    pub fn open(file: &Path, subject: impl Into<String>) -> Result<Self> {
        let subject = subject.into();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(immutable_uri(file), flags).map_err(|e| broken(&subject, e))?;
        Self::check_database(&connection, &subject)?;
        let properties = read_properties(&connection).map_err(|e| broken(&subject, e))?;
        let number = |key: &str| properties.get(key).map(|v| std::str::from_utf8(v).unwrap_or_default().trim());
        let schema = Schema {
            version: number("schema").map_or(Some(1.0), |v| v.parse().ok()).unwrap_or(-1.0),
            revision: number("schema_revision").and_then(|v| v.parse().ok()).unwrap_or(0),
        }
        .check(&subject)?;
        Ok(Self { connection, subject, schema, properties })
    }

    /// Refuses what no publisher writes: views and triggers could make a plain SELECT run arbitrary queries.
    fn check_database(connection: &Connection, subject: &str) -> Result<()> {
        let check = || -> rusqlite::Result<i64> {
            connection.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, VALUE_MAX_BYTES)?;
            connection.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA query_only=ON;")?;
            connection.query_row(
                "SELECT count(*) FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'create virtual%'",
                [],
                |row| row.get(0),
            )
        };
        match check().map_err(|e| broken(subject, e))? {
            0 => Ok(()),
            n => Err(corrupt(subject, format!("{n} views, triggers or virtual tables"))),
        }
    }

    /// Returns the schema.
    pub fn schema(&self) -> Schema {
        self.schema
    }

    /// Returns a property's text; absent, or not UTF-8, is `None`.
    pub fn property(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.properties.get(key)?).ok()
    }

    /// Returns a property that holds a non-negative integer; absent, or not one, is `None`.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.property(key)?.trim().parse().ok()
    }

    /// Returns the path at which this catalog is mounted; the root for a root catalog.
    pub fn root_prefix(&self) -> Result<RepoPath> {
        RepoPath::parse(self.properties.get("root_prefix").map(Vec::as_slice).unwrap_or_default())
            .map_err(|e| Error::format(OPERATION, &self.subject, e))
    }

    /// Passes every row of table `catalog` to `sink`.
    pub fn rows(&self, mut sink: impl FnMut(CatalogRow<'_>) -> Result<()>) -> Result<()> {
        let legacy = self.schema.is_legacy();
        let (links, owner) = if legacy { ("1", "NULL, NULL") } else { ("hardlinks", "uid, gid") };
        let current = self.schema.is_version(2.5);
        let xattr = if current && self.schema.revision >= 2 { "xattr" } else { "NULL" };
        let mtime_ns = if current && self.schema.revision >= 7 { "mtimens" } else { "NULL" };
        let sql = format!(
            "SELECT md5path_1, md5path_2, parent_1, parent_2, {links}, hash, size, mode, mtime, {mtime_ns}, flags, \
             name, symlink, {owner}, {xattr} FROM catalog"
        );
        let mut statement = self.connection.prepare(&sql).map_err(|e| broken(&self.subject, e))?;
        let mut rows = statement.query([]).map_err(|e| broken(&self.subject, e))?;
        while let Some(row) = rows.next().map_err(|e| broken(&self.subject, e))? {
            sink(self.catalog_row(row)?)?;
        }
        Ok(())
    }

    fn catalog_row<'a>(&self, row: &'a Row<'_>) -> Result<CatalogRow<'a>> {
        let column = |index| row.get_ref(index).map_err(|e| broken(&self.subject, e));
        let integer = |index| match column(index)? {
            ValueRef::Integer(value) => Ok(value),
            ValueRef::Null => Ok(0),
            other => Err(corrupt(&self.subject, format!("column {index} holds {}", other.data_type()))),
        };
        let bytes = |index| match column(index)? {
            ValueRef::Text(value) | ValueRef::Blob(value) => Ok(value),
            ValueRef::Null => Ok(&[][..]),
            other => Err(corrupt(&self.subject, format!("column {index} holds {}", other.data_type()))),
        };
        let narrow = |index, what: &str| {
            let value = integer(index)?;
            u32::try_from(value).map_err(|_| corrupt(&self.subject, format!("{what} {value}")))
        };
        let digest = bytes(5)?;
        let (name, symlink) = (bytes(11)?, bytes(12)?);
        if symlink.len() > SYMLINK_MAX_BYTES || symlink.contains(&0) {
            return Err(corrupt(&self.subject, format!("symlink target of `{}`", name.escape_ascii())));
        }
        let size = integer(6)?;
        let mtime_ns = narrow(9, "mtimens")?;
        if mtime_ns > 999_999_999 {
            return Err(corrupt(&self.subject, format!("mtimens {mtime_ns} of `{}`", name.escape_ascii())));
        }
        let owner = match column(13)? {
            ValueRef::Null => None,
            _ => Some((narrow(13, "uid")?, narrow(14, "gid")?)),
        };
        Ok(CatalogRow {
            path_hash: PathHash { first: integer(0)?, second: integer(1)? },
            parent_hash: PathHash { first: integer(2)?, second: integer(3)? },
            hardlinks: integer(4)?,
            digest: (!digest.is_empty()).then_some(digest),
            size: u64::try_from(size)
                .map_err(|_| corrupt(&self.subject, format!("size {size} of `{}`", name.escape_ascii())))?,
            mode: narrow(7, "mode")?,
            mtime: integer(8)?,
            mtime_ns,
            flags: narrow(10, "flags")?,
            name,
            symlink,
            owner,
            xattr: bytes(15)?,
        })
    }

    /// Passes every row of table `chunks` to `sink`, by file and offset.
    pub fn chunks(&self, mut sink: impl FnMut(ChunkRow) -> Result<()>) -> Result<()> {
        if self.schema.is_legacy() {
            return Ok(());
        }
        let sql = "SELECT md5path_1, md5path_2, offset, size, hash FROM chunks ORDER BY md5path_1, md5path_2, offset";
        let mut statement = self.connection.prepare(sql).map_err(|e| broken(&self.subject, e))?;
        let mut rows = statement.query([]).map_err(|e| broken(&self.subject, e))?;
        while let Some(row) = rows.next().map_err(|e| broken(&self.subject, e))? {
            let read = || -> rusqlite::Result<_> {
                let hash = PathHash { first: row.get(0)?, second: row.get(1)? };
                Ok((hash, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?, row.get::<_, [u8; 20]>(4)?))
            };
            let (path_hash, offset, size, digest) = read().map_err(|e| broken(&self.subject, e))?;
            let (Ok(offset), Ok(size)) = (u64::try_from(offset), u64::try_from(size)) else {
                return Err(corrupt(&self.subject, format!("chunk at {offset} of size {size}")));
            };
            sink(ChunkRow { path_hash, offset, size, digest })?;
        }
        Ok(())
    }

    /// Returns the nested catalogs; those that were never uploaded (empty hash) are left out.
    pub fn nested(&self) -> Result<Vec<NestedRow>> {
        if self.schema.is_legacy() && !self.has_column("nested_catalogs", "sha1")? {
            return Ok(Vec::new());
        }
        let has_size = self.schema.is_version(2.5) && self.schema.revision >= 1;
        self.mountpoints("nested_catalogs", has_size)
    }

    /// Returns the bind mountpoints.
    pub fn bind_mountpoints(&self) -> Result<Vec<NestedRow>> {
        if !(self.schema.is_version(2.5) && self.schema.revision >= 4) {
            return Ok(Vec::new());
        }
        self.mountpoints("bind_mountpoints", true)
    }

    fn has_column(&self, table: &str, column: &str) -> Result<bool> {
        self.connection
            .query_row("SELECT count(*) FROM pragma_table_info(?) WHERE name = ?", [table, column], |row| {
                row.get::<_, i64>(0)
            })
            .map(|n| n > 0)
            .map_err(|e| broken(&self.subject, e))
    }

    fn mountpoints(&self, table: &str, has_size: bool) -> Result<Vec<NestedRow>> {
        let size = if has_size { "size" } else { "0" };
        let sql = format!("SELECT path, sha1, {size} FROM {table}");
        let mut statement = self.connection.prepare(&sql).map_err(|e| broken(&self.subject, e))?;
        let mut rows = statement.query([]).map_err(|e| broken(&self.subject, e))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(|e| broken(&self.subject, e))? {
            let text = |index| match row.get_ref(index).map_err(|e| broken(&self.subject, e))? {
                ValueRef::Text(value) | ValueRef::Blob(value) => Ok(value),
                ValueRef::Null => Ok(&[][..]),
                other => Err(corrupt(&self.subject, format!("{table} holds {}", other.data_type()))),
            };
            let hash = String::from_utf8_lossy(text(1)?);
            if hash.is_empty() {
                continue;
            }
            let wrong = |e| Error::format(OPERATION, format!("{} ({table})", self.subject), e);
            found.push(NestedRow {
                path: RepoPath::parse(text(0)?).map_err(wrong)?,
                hash: hash.parse().map_err(wrong)?,
                size_bytes: row
                    .get::<_, Option<i64>>(2)
                    .map_err(|e| broken(&self.subject, e))?
                    .and_then(|size| u64::try_from(size).ok())
                    .unwrap_or(0),
            });
        }
        Ok(found)
    }

    /// Returns the rows of table `statistics`; none in catalogs older than 2.5.
    pub fn counters(&self) -> Result<HashMap<String, i64>> {
        if !self.schema.is_version(2.5) {
            return Ok(HashMap::new());
        }
        let read = || {
            self.connection
                .prepare("SELECT counter, value FROM statistics")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(|e| broken(&self.subject, e))
    }
}

fn read_properties(connection: &Connection) -> rusqlite::Result<HashMap<String, Vec<u8>>> {
    connection
        .prepare("SELECT key, CAST(value AS BLOB) FROM properties")?
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default())))?
        .collect()
}

/// Returns the URI under which SQLite opens `file` without locks and without looking for journals.
fn immutable_uri(file: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::from("file:");
    for byte in file.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(*byte as char),
            _ => {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri.push_str("?immutable=1");
    uri
}

pub(super) fn corrupt(subject: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, OPERATION, format!("{subject}: {reason}"))
}

pub(super) fn broken(subject: &str, source: rusqlite::Error) -> Error {
    use rusqlite::ffi::ErrorCode;
    let kind = match source.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => ErrorKind::LocalIo,
        Some(ErrorCode::OutOfMemory) => ErrorKind::NoSpace,
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, OPERATION, subject).with_source(source)
}
