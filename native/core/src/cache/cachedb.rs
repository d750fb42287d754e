//! `cachedb`: which objects the directory holds, in which order they were used, in the reference client's tables.
//!
//! Table `cache_catalog(sha1, size, acseq, path, type, pinned)`, `properties(schema = 1.0)` (client.md 4.2); larger
//! `acseq` is later use. Opened for a settling or a listing and closed again, by the holder of the settling lock. The
//! directory is the truth: a database that is missing or damaged is made again from a count of it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nearfs_format::hash::ContentHash;
use nearfs_format::object::{ObjectId, ObjectKind};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use super::ledger::Record;
use crate::error::{Error, ErrorKind, Result};

const CACHEDB: &str = "cachedb";
/// Nothing here must survive a power failure: the machine's next start counts the directory.
const PREPARE: &str = "PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=OFF; PRAGMA cache_size=-2048; \
                       PRAGMA trusted_schema=OFF;";
const SCHEMA: &str = "CREATE TABLE cache_catalog (sha1 TEXT, size INTEGER, acseq INTEGER, path TEXT, type INTEGER, \
                      pinned INTEGER, CONSTRAINT pk_cache_catalog PRIMARY KEY (sha1)); \
                      CREATE UNIQUE INDEX idx_cache_catalog_acseq ON cache_catalog (acseq); \
                      CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key)); \
                      INSERT INTO properties VALUES ('schema', '1.0'); \
                      CREATE TABLE nearfs_cleanups (at_s INTEGER);";
/// Positions between two seconds, for objects of which only the time of writing is known.
const POSITIONS_A_SECOND_LOG2: u32 = 20;
const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// How long clean-ups are remembered; `user.ncleanup24` asks for a day.
const CLEANUPS_KEPT_S: i64 = 7 * 86_400;

/// One object as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its hash.
    pub hash: ContentHash,
    /// Size of its content in bytes.
    pub size_bytes: u64,
    /// What it was fetched for, where that is known; else its hash.
    pub description: String,
    /// Whether it is a catalog.
    pub is_catalog: bool,
    /// Whether it was pinned at the last settling.
    pub is_pinned: bool,
}

/// An open database.
#[derive(Debug)]
pub(super) struct CacheDb {
    connection: Connection,
    dir: PathBuf,
    next_position: i64,
    /// The object that was added last, and what was read so far of what it was for.
    labelled: Option<(ContentHash, Vec<u8>)>,
}

impl CacheDb {
    /// Opens the database of a directory; [`ErrorKind::Corrupt`] or [`ErrorKind::NotFound`] where a count is needed.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(CACHEDB);
        if !path.exists() {
            return Err(Error::new(ErrorKind::NotFound, "open", path.display().to_string()));
        }
        Self::at(dir, &path)
    }

    fn at(dir: &Path, path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|e| failed("open", dir, e))?;
        let prepare = || -> rusqlite::Result<i64> {
            connection.busy_timeout(BUSY_LIMIT)?;
            connection.execute_batch(PREPARE)?;
            if connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0))? == 0 {
                connection.execute_batch(SCHEMA)?;
            }
            connection
                .query_row("SELECT max(acseq) FROM cache_catalog", [], |row| row.get::<_, Option<i64>>(0))
                .map(|newest| newest.unwrap_or(0).saturating_add(1))
        };
        let next_position = prepare().map_err(|e| failed("open", dir, e))?;
        Ok(Self { connection, dir: dir.to_owned(), next_position, labelled: None })
    }

    /// Counts the directory into a new database, which keeps what the old one knows of each object.
    ///
    /// Removes empty files: what a power failure leaves of objects that were not on the disk yet.
    pub(super) fn count(dir: &Path, may_go_on: impl Fn() -> bool) -> Result<Self> {
        let known = Self::open(dir).ok();
        let path = dir.join(CACHEDB).with_extension("new");
        let _ = fs::remove_file(&path);
        let counted = Self::at(dir, &path)?;
        counted.begin()?;
        let mut unknown = 0;
        for head in 0..=0xffu8 {
            if !may_go_on() {
                return Err(Error::new(ErrorKind::Cancelled, "count", dir.display().to_string()));
            }
            // A directory that is missing holds nothing.
            let Ok(entries) = fs::read_dir(dir.join(format!("{head:02x}"))) else { continue };
            for entry in entries.flatten() {
                let name = format!("{head:02x}{}", entry.file_name().to_string_lossy());
                let Ok(hash) = name.parse::<ContentHash>() else { continue };
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.len() == 0 {
                    let _ = fs::remove_file(entry.path());
                    continue;
                }
                let old = known.as_ref().and_then(|known| known.row(&hash).ok().flatten());
                let (position, path, kind) = old.unwrap_or_else(|| {
                    unknown += 1;
                    (position_of(metadata.mtime(), unknown), name, 0)
                });
                counted.add(&hash, metadata.len(), position, &path, kind)?;
            }
        }
        counted.commit()?;
        drop((counted, known));
        let place = dir.join(CACHEDB);
        let _ = fs::remove_file(dir.join(format!("{CACHEDB}-journal")));
        fs::rename(&path, &place).map_err(|e| Error::io("replace", place.display().to_string(), e))?;
        Self::open(dir)
    }

    fn row(&self, hash: &ContentHash) -> rusqlite::Result<Option<(i64, String, i64)>> {
        self.connection
            .prepare_cached("SELECT acseq, path, type FROM cache_catalog WHERE sha1 = ?")?
            .query_row([hash.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()
    }

    fn add(&self, hash: &ContentHash, size: u64, position: i64, path: &str, kind: i64) -> Result<()> {
        // Two objects at one position, which a damaged database may say, are no reason to lose one.
        let add = |position: Option<i64>| {
            self.connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO cache_catalog VALUES \
                     (?, ?, coalesce(?, (SELECT max(acseq) + 1 FROM cache_catalog)), ?, ?, 0)",
                )?
                .execute(params![hash.to_string(), size as i64, position, path, kind])
        };
        let is_taken = self
            .connection
            .prepare_cached("SELECT 1 FROM cache_catalog WHERE acseq = ?")
            .and_then(|mut taken| taken.exists([position]))
            .map_err(|e| failed("count", &self.dir, e))?;
        add((!is_taken).then_some(position)).map(drop).map_err(|e| failed("count", &self.dir, e))
    }

    /// Begins a transaction.
    pub(super) fn begin(&self) -> Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| failed("change", &self.dir, e))
    }

    /// Ends the transaction.
    pub(super) fn commit(&self) -> Result<()> {
        self.connection.execute_batch("COMMIT").map_err(|e| failed("change", &self.dir, e))
    }

    /// Applies a record of the ledger.
    pub(super) fn apply(&mut self, record: Record) -> Result<()> {
        let position = self.next_position;
        self.labelled = match (record, self.labelled.take()) {
            (Record::Insert(id, _), _) => Some((id.hash, Vec::new())),
            (Record::Label(piece, length), Some((hash, mut text))) => {
                text.extend_from_slice(&piece[..usize::from(length)]);
                Some((hash, text))
            }
            _ => None,
        };
        let is_missing = |id: &ObjectId| !self.dir.join(id.cache_key()).exists();
        let change = || -> rusqlite::Result<usize> {
            match record {
                Record::Insert(id, size) => self
                    .connection
                    .prepare_cached(
                        "INSERT INTO cache_catalog VALUES (?1, ?2, ?3, ?1, ?4, 0) ON CONFLICT (sha1) \
                         DO UPDATE SET size = ?2, acseq = ?3, type = max(type, ?4)",
                    )?
                    .execute(params![id.hash.to_string(), size as i64, position, kind_number(id.kind)]),
                Record::Touch(id) => self
                    .connection
                    .prepare_cached("UPDATE cache_catalog SET acseq = ? WHERE sha1 = ?")?
                    .execute(params![position, id.hash.to_string()]),
                Record::Remove(id, _) | Record::Look(id) if is_missing(&id) => self.delete_row(&id.hash),
                Record::Pin(id, _) => self.mark(&id.hash, true),
                Record::Remove(..)
                | Record::Look(_)
                | Record::Correct(_)
                | Record::CorrectPinned(_)
                | Record::Counted => Ok(0),
                Record::Label(..) => self.label(),
            }
        };
        change().map_err(|e| failed("change", &self.dir, e))?;
        self.next_position += 1;
        Ok(())
    }

    fn label(&self) -> rusqlite::Result<usize> {
        let Some((hash, text)) = &self.labelled else { return Ok(0) };
        self.connection
            .prepare_cached("UPDATE cache_catalog SET path = ? WHERE sha1 = ?")?
            .execute(params![String::from_utf8_lossy(text), hash.to_string()])
    }

    fn delete_row(&self, hash: &ContentHash) -> rusqlite::Result<usize> {
        self.connection.prepare_cached("DELETE FROM cache_catalog WHERE sha1 = ?")?.execute([hash.to_string()])
    }

    fn mark(&self, hash: &ContentHash, is_pinned: bool) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached("UPDATE cache_catalog SET pinned = ? WHERE sha1 = ?")?
            .execute(params![is_pinned, hash.to_string()])
    }

    /// Forgets objects.
    pub(super) fn delete(&self, hashes: &[ContentHash]) -> Result<()> {
        hashes.iter().try_for_each(|hash| self.delete_row(hash).map(drop)).map_err(|e| failed("change", &self.dir, e))
    }

    /// Notes that an object is pinned, or is not any more.
    pub(super) fn set_pinned(&self, hash: &ContentHash, is_pinned: bool) -> Result<()> {
        self.mark(hash, is_pinned).map(drop).map_err(|e| failed("change", &self.dir, e))
    }

    /// Returns the bytes of all objects and of the pinned ones.
    pub(super) fn totals(&self) -> Result<(i64, i64)> {
        let sql = "SELECT coalesce(sum(size), 0), coalesce(sum(size * (pinned <> 0)), 0) FROM cache_catalog";
        self.connection
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|e| failed("read", &self.dir, e))
    }

    /// Returns the objects that were not used for the longest time, pinned ones left out.
    pub(super) fn oldest(&self, limit: usize) -> Result<Vec<(ContentHash, u64)>> {
        self.pairs("SELECT sha1, size FROM cache_catalog WHERE pinned = 0 ORDER BY acseq LIMIT ?", limit)
    }

    /// Returns the pinned objects.
    pub(super) fn pinned(&self) -> Result<Vec<(ContentHash, u64)>> {
        self.pairs("SELECT sha1, size FROM cache_catalog WHERE pinned <> 0 LIMIT ?", usize::MAX)
    }

    fn pairs(&self, sql: &str, limit: usize) -> Result<Vec<(ContentHash, u64)>> {
        let read = || -> rusqlite::Result<Vec<(String, i64)>> {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            self.connection.prepare_cached(sql)?.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let pairs = read().map_err(|e| failed("read", &self.dir, e))?;
        pairs.into_iter().map(|(hash, size)| Ok((self.hash(&hash)?, size.max(0) as u64))).collect()
    }

    fn hash(&self, text: &str) -> Result<ContentHash> {
        text.parse().map_err(|e| Error::format("read", self.dir.join(CACHEDB).display().to_string(), e))
    }

    /// Feeds all objects to `sink`, the one used last first.
    pub(super) fn list(&self, sink: &mut dyn FnMut(&ListedObject)) -> Result<()> {
        let wrong = |e| failed("read", &self.dir, e);
        let sql = "SELECT sha1, size, path, type, pinned FROM cache_catalog ORDER BY acseq DESC";
        let mut statement = self.connection.prepare_cached(sql).map_err(wrong)?;
        let mut rows = statement.query([]).map_err(wrong)?;
        while let Some(row) = rows.next().map_err(wrong)? {
            let text = |at| row.get::<_, String>(at).map_err(wrong);
            let number = |at| row.get::<_, i64>(at).map_err(wrong);
            sink(&ListedObject {
                hash: self.hash(&text(0)?)?,
                size_bytes: number(1)?.max(0) as u64,
                description: text(2)?,
                is_catalog: number(3)? == 1,
                is_pinned: number(4)? != 0,
            });
        }
        Ok(())
    }

    /// Notes that a clean-up was made now.
    pub(super) fn note_cleanup(&self) -> Result<()> {
        let now_s = now_s();
        let note = || {
            self.connection.execute("DELETE FROM nearfs_cleanups WHERE at_s < ?", [now_s - CLEANUPS_KEPT_S])?;
            self.connection.execute("INSERT INTO nearfs_cleanups VALUES (?)", [now_s])
        };
        note().map(drop).map_err(|e| failed("change", &self.dir, e))
    }

    /// Returns how many clean-ups there were within the last `period`.
    pub(super) fn cleanups(&self, period: Duration) -> Result<u64> {
        let since = now_s() - period.as_secs() as i64;
        let sql = "SELECT count(*) FROM nearfs_cleanups WHERE at_s > ?";
        let count = self.connection.query_row(sql, [since], |row| row.get::<_, i64>(0));
        count.map(|count| count.max(0) as u64).map_err(|e| failed("read", &self.dir, e))
    }
}

fn kind_number(kind: ObjectKind) -> i64 {
    i64::from(kind == ObjectKind::Catalog)
}

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Returns a position in the order of use from the time at which an object was written.
fn position_of(written_s: i64, number: i64) -> i64 {
    (written_s.clamp(0, now_s()) << POSITIONS_A_SECOND_LOG2).saturating_add(number)
}

fn failed(operation: &'static str, dir: &Path, source: rusqlite::Error) -> Error {
    let kind = match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ErrorKind::NoSpace,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Busy,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => ErrorKind::PermissionDenied,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => ErrorKind::LocalIo,
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, operation, dir.join(CACHEDB).display().to_string()).with_source(source)
}
