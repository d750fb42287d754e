//! One catalog while it is written: created or opened, changed, finished to an object's bytes.
//!
//! Owns the private working copy, its properties and its statistics; `rows` and `transfer` own what happens to the
//! entries. Knows one catalog only: whoever keeps several in step (counters, nested rows, link counts of mountpoints)
//! is `publish::tree`. Belongs to one thread at a time and may move between them. Source: format.md 4.1, 4.8, 4.9.

use std::path::Path;

use nearfs_format::counters::{CatalogCounters, Counters};
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::path::RepoPath;

use super::schema::{self, CREATE, PAGE_BYTES, SCHEMA, SCHEMA_REVISION};
use crate::database::Database;
use crate::error::Result;

/// A catalog that is compacted when more of its pages than this are free (format.md 4.1).
const FREE_PAGES_LIMIT: f64 = 0.20;
/// A catalog that is compacted when more of its row ids than this are unused.
const UNUSED_ROWIDS_LIMIT: f64 = 0.25;
/// Smaller files are not compacted: there is nothing to gain.
const COMPACT_FROM_PAGES: i64 = 32;

/// What `previous_revision` of a finished catalog says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Previous {
    /// Nothing: the property is absent, as in the first root catalog.
    Absent,
    /// The null hash: a nested catalog that is new.
    Null,
    /// The catalog before.
    Catalog(ContentHash),
}

/// The properties that a commit sets.
#[derive(Debug, Clone, Copy)]
pub struct Seal {
    /// The version before this one.
    pub previous: Previous,
    /// Revision of this version.
    pub revision: u64,
    /// Now, Unix seconds.
    pub last_modified: i64,
    /// Time to live in seconds; only the root catalog has one.
    pub ttl_s: Option<u64>,
    /// Sets the property `volatile`.
    pub is_volatile: bool,
}

/// A finished catalog.
#[derive(Debug)]
pub struct Finished {
    /// The uncompressed SQLite file.
    pub bytes: Vec<u8>,
    /// Its counters.
    pub counters: CatalogCounters,
}

/// A catalog being written.
#[derive(Debug)]
pub struct CatalogWriter {
    pub(super) database: Database,
    pub(super) mountpoint: RepoPath,
    pub(super) stored_counters: CatalogCounters,
}

fn subject_of(mountpoint: &RepoPath) -> String {
    format!("catalog {mountpoint}")
}

impl CatalogWriter {
    /// Creates an empty catalog for `mountpoint` (the root path for a root catalog) at revision 0. Its temporary file
    /// lies in `scratch`.
    pub fn create(scratch: &Path, mountpoint: &RepoPath) -> Result<Self> {
        let database = Database::create(scratch, subject_of(mountpoint), PAGE_BYTES, &CREATE)?;
        database.set_property("schema", SCHEMA)?;
        database.set_property("schema_revision", &SCHEMA_REVISION.to_string())?;
        database.set_property("revision", "0")?;
        let writer = Self { database, mountpoint: mountpoint.clone(), stored_counters: CatalogCounters::default() };
        if !mountpoint.is_root() {
            writer.write_root_prefix()?;
        }
        writer.write_counters(&CatalogCounters::default())?;
        Ok(writer)
    }

    /// Opens the uncompressed bytes of a catalog that is mounted at `mountpoint`; older revisions of schema 2.5 are
    /// brought up to date. `Corrupt` if it is no sound catalog of that place, `Unsupported` for other schemas.
    pub fn open(scratch: &Path, mountpoint: &RepoPath, bytes: &[u8]) -> Result<Self> {
        let (writer, counters) = Self::open_uncounted(scratch, mountpoint, bytes)?;
        Ok(Self { stored_counters: counters?, ..writer })
    }

    /// Does what [`Self::open`] does for a catalog whose counters may be missing; they come apart, and are zero in the
    /// catalog.
    pub fn open_uncounted(
        scratch: &Path,
        mountpoint: &RepoPath,
        bytes: &[u8],
    ) -> Result<(Self, Result<CatalogCounters>)> {
        let database = Database::from_bytes(scratch, subject_of(mountpoint), bytes)?;
        let written_for_revision: i64 = database.number_property("schema_revision")?.unwrap_or(0);
        schema::prepare_for_writing(&database)?;
        // Absent in a root catalog, whose path is the empty string.
        let prefix = database.property_bytes("root_prefix")?.unwrap_or_default();
        if prefix != mountpoint.as_bytes() {
            return Err(database.corrupt(format!("it says that it is mounted at `{}`", prefix.escape_ascii())));
        }
        let rows = database.rows("SELECT counter, value FROM statistics", &[], |row| {
            Ok((database.text(row, 0)?, database.integer(row, 1)?))
        });
        let counters = rows
            .and_then(|rows| CatalogCounters::from_rows(rows, written_for_revision).map_err(|e| database.corrupt(e)));
        let stored_counters = CatalogCounters::default();
        Ok((Self { database, mountpoint: mountpoint.clone(), stored_counters }, counters))
    }

    /// Returns where the catalog is mounted.
    pub fn mountpoint(&self) -> &RepoPath {
        &self.mountpoint
    }

    /// Returns the counters that the catalog had when it was opened: all zero for a new one.
    pub fn stored_counters(&self) -> CatalogCounters {
        self.stored_counters
    }

    /// Returns the revision that the catalog has.
    pub fn revision(&self) -> Result<u64> {
        Ok(self.database.number_property("revision")?.unwrap_or(0))
    }

    /// Returns a property.
    pub fn property(&self, key: &str) -> Result<Option<String>> {
        self.database.property(key)
    }

    /// Sets a property.
    pub fn set_property(&self, key: &str, value: &str) -> Result<()> {
        self.database.set_property(key, value)
    }

    /// Says who may read the repository; an empty text means everybody. Only for root catalogs.
    pub fn set_membership(&self, requirement: &str) -> Result<()> {
        if requirement.is_empty() {
            return self.database.execute("DELETE FROM properties WHERE key = 'voms_authz'", &[]).map(drop);
        }
        self.set_property("voms_authz", requirement)
    }

    fn write_root_prefix(&self) -> Result<()> {
        let path = crate::database::Text(self.mountpoint.as_bytes());
        let sql = "INSERT OR REPLACE INTO properties (key, value) VALUES ('root_prefix', ?1)";
        self.database.execute(sql, &[&path]).map(drop)
    }

    fn write_counters(&self, counters: &CatalogCounters) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO statistics (counter, value) VALUES (?1, ?2)";
        counters.rows().try_for_each(|(name, value)| self.database.execute(sql, &[&name, &value]).map(drop))
    }

    /// Finishes the catalog: properties, own counters recounted, `subtree` as the tree keeps it, compacted if sparse.
    pub fn finish(self, seal: &Seal, subtree: Counters) -> Result<Finished> {
        self.set_property("revision", &seal.revision.to_string())?;
        self.set_property("last_modified", &seal.last_modified.to_string())?;
        // 40 zeros without a tag, whatever the algorithm: that is how the reference prints the null hash (4.8).
        let previous = match seal.previous {
            Previous::Absent => None,
            Previous::Null => Some(ContentHash::null(HashAlgorithm::Sha1)),
            Previous::Catalog(hash) => Some(hash),
        };
        if let Some(hash) = previous {
            self.set_property("previous_revision", &hash.to_string())?;
        }
        if let Some(ttl_s) = seal.ttl_s {
            self.set_property("TTL", &ttl_s.to_string())?;
        }
        if seal.is_volatile {
            self.set_property("volatile", "1")?;
        }
        let counters = CatalogCounters { own: self.count_rows()?, subtree };
        self.write_counters(&counters)?;
        self.database.commit()?;
        self.compact_if_sparse()?;
        Ok(Finished { bytes: self.database.into_bytes()?, counters })
    }

    fn compact_if_sparse(&self) -> Result<()> {
        let number = |sql| self.database.number(sql).map(|value| value as f64);
        let pages = number("PRAGMA page_count")?;
        if pages < COMPACT_FROM_PAGES as f64 {
            return Ok(());
        }
        let free = number("PRAGMA freelist_count")? / pages;
        let last_rowid = number("SELECT coalesce(max(rowid), 0) FROM catalog")?.max(1.0);
        let unused = 1.0 - number("SELECT count(*) FROM catalog")? / last_rowid;
        if free <= FREE_PAGES_LIMIT && unused <= UNUSED_ROWIDS_LIMIT {
            return Ok(());
        }
        // Chunk rows refer to catalog rows, which are gone for a moment.
        self.database.run(
            "PRAGMA foreign_keys=OFF; BEGIN; \
             CREATE TEMPORARY TABLE dense AS SELECT * FROM catalog ORDER BY rowid; \
             DELETE FROM catalog; INSERT INTO catalog SELECT * FROM dense ORDER BY rowid; DROP TABLE dense; \
             COMMIT; VACUUM;",
        )
    }
}
