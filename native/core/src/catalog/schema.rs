//! The tables of a catalog, and which versions of them can be written.
//!
//! Owns the statements; whoever runs them owns the connection. Source: format.md 4.2 and 4.3. The order of columns is
//! part of the format: the reference publisher copies whole rows by position.

use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};

/// Version of the catalogs that we write, as it stands in the property.
pub const SCHEMA: &str = "2.5";
/// Revision of the schema that we write.
pub const SCHEMA_REVISION: i64 = 7;
const SCHEMA_NUMBER: f64 = 2.5;
/// Versions are compared with this tolerance.
const SCHEMA_TOLERANCE: f64 = 0.0005;

/// Bytes of a database page in new catalogs, as the reference has it. Measured with 50 catalogs of 612 entries each:
/// against pages of 4096 bytes, stored catalogs are 5 KiB (a tenth) smaller, which every client downloads, and the
/// commit of all of them takes 0.16 s instead of 0.23 s. Readers accept any size.
pub const PAGE_BYTES: u32 = 1024;

const CREATE_PROPERTIES: &str =
    "CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));";
const CREATE_CATALOG: &str = "CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, \
     parent_2 INTEGER, hardlinks INTEGER, hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, \
     flags INTEGER, name TEXT, symlink TEXT, uid INTEGER, gid INTEGER, xattr BLOB, \
     CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));";
const CREATE_INDEX: &str = "CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2);";
const CREATE_CHUNKS: &str = "CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, \
     size INTEGER, hash BLOB, CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size), \
     FOREIGN KEY (md5path_1, md5path_2) REFERENCES catalog (md5path_1, md5path_2));";
const CREATE_NESTED: &str = "CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER, \
     CONSTRAINT pk_nested_catalogs PRIMARY KEY (path));";
const CREATE_BIND: &str = "CREATE TABLE bind_mountpoints (path TEXT, sha1 TEXT, size INTEGER, \
     CONSTRAINT pk_bind_mountpoints PRIMARY KEY (path));";
const CREATE_STATISTICS: &str =
    "CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));";

/// The statements of a new catalog, in the reference's order.
pub const CREATE: [&str; 7] =
    [CREATE_PROPERTIES, CREATE_CATALOG, CREATE_INDEX, CREATE_CHUNKS, CREATE_NESTED, CREATE_BIND, CREATE_STATISTICS];

/// Columns of `catalog` by name, in the order of new databases.
pub const ROW_COLUMNS: &str = "md5path_1, md5path_2, parent_1, parent_2, hardlinks, hash, size, mode, mtime, mtimens, \
                               flags, name, symlink, uid, gid, xattr";
/// Number of columns in [`ROW_COLUMNS`].
pub const ROW_COLUMN_COUNT: usize = 16;

/// One step from a revision to the next: what it adds to a database.
struct Upgrade {
    revision: i64,
    /// Table and column that the step adds, with the column's type.
    column: Option<(&'static str, &'static str, &'static str)>,
    table: Option<(&'static str, &'static str)>,
    counters: &'static [&'static str],
}

const UPGRADES: [Upgrade; 7] = [
    Upgrade { revision: 1, column: Some(("nested_catalogs", "size", "INTEGER")), table: None, counters: &[] },
    Upgrade { revision: 2, column: Some(("catalog", "xattr", "BLOB")), table: None, counters: &["xattr"] },
    Upgrade { revision: 3, column: None, table: None, counters: &["external", "external_file_size"] },
    Upgrade { revision: 4, column: None, table: Some(("bind_mountpoints", CREATE_BIND)), counters: &[] },
    Upgrade { revision: 5, column: None, table: None, counters: &["special"] },
    Upgrade { revision: 6, column: None, table: None, counters: &[] },
    Upgrade { revision: 7, column: Some(("catalog", "mtimens", "INTEGER")), table: None, counters: &[] },
];

/// Checks that a catalog can be written, and brings an older revision of its schema up to date in place.
/// `Unsupported` for schemas other than 2.5: those have to be migrated first.
pub(crate) fn prepare_for_writing(database: &Database) -> Result<()> {
    let schema: f64 = database.number_property("schema")?.unwrap_or(1.0);
    if (schema - SCHEMA_NUMBER).abs() > SCHEMA_TOLERANCE {
        let subject = format!("{}: it has schema {schema}, only {SCHEMA} can be written", database.subject());
        return Err(Error::new(ErrorKind::Unsupported, "open", subject));
    }
    let revision: i64 = database.number_property("schema_revision")?.unwrap_or(0);
    for step in UPGRADES.iter().filter(|step| step.revision > revision) {
        upgrade(database, step)?;
    }
    Ok(())
}

fn upgrade(database: &Database, step: &Upgrade) -> Result<()> {
    if let Some((table, column, kind)) = step.column
        && !database.has_column(table, column)?
    {
        database.run(&format!("ALTER TABLE {table} ADD COLUMN {column} {kind};"))?;
        if column == "size" {
            // Unknown is 0 here; in the other new columns it is NULL.
            database.run("UPDATE nested_catalogs SET size = 0;")?;
        }
    }
    if let Some((table, create)) = step.table
        && !database.has_table(table)?
    {
        database.run(create)?;
    }
    for counter in step.counters {
        for prefix in ["self", "subtree"] {
            let name = format!("{prefix}_{counter}");
            database.execute("INSERT OR IGNORE INTO statistics (counter, value) VALUES (?1, 0)", &[&name])?;
        }
    }
    database.set_property("schema_revision", &step.revision.to_string())
}
