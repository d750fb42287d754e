//! Entries of one catalog: finding, adding, changing and removing rows.
//!
//! Owns the mapping between entries and columns. Source: format.md 4.3 to 4.7.

use nearfs_format::bundle::BUNDLE_PREFIX;
use nearfs_format::chunk::Chunk;
use nearfs_format::dirent::{Entry, EntryFlags, FileType, Hardlinks};
use nearfs_format::hash::ContentHash;
use nearfs_format::path::{PathHash, RepoPath};
use nearfs_format::xattr::XattrList;
use rusqlite::types::Value;

use super::schema::ROW_COLUMNS;
use super::writer::CatalogWriter;
use crate::database::Text;
use crate::error::{Error, ErrorKind, Result};

/// One entry with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Last name of the path, empty for the repository's root.
    pub name: Vec<u8>,
    /// The entry.
    pub entry: Entry,
}

/// A regular file that is stored in one object of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallFile {
    /// Its name.
    pub name: Vec<u8>,
    /// Its object.
    pub hash: ContentHash,
    /// Size of its content in bytes.
    pub size: u64,
}

impl SmallFile {
    /// Returns what `row` is about, if that is a file with at most `limit_bytes` of content that is stored in one object
    /// of the repository; an empty one is not.
    pub fn of(Row { name, entry }: Row, limit_bytes: u64) -> Option<Self> {
        let is_elsewhere = entry.flags.0 & (EntryFlags::CHUNKED | EntryFlags::EXTERNAL) != 0;
        let is_small = entry.file_type() == Some(FileType::Regular) && (1..=limit_bytes).contains(&entry.size);
        let hash = entry.hash.filter(|_| is_small && !is_elsewhere)?;
        Some(Self { name, hash, size: entry.size })
    }
}

/// What of a directory packs are made of, each in the order of names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SmallFiles {
    /// The files with little content that are stored in one object of the repository.
    pub files: Vec<SmallFile>,
    /// Names of the directories whose entries are in the same catalog.
    pub directories: Vec<Vec<u8>>,
    /// Names of the triggers of bundles.
    pub triggers: Vec<Vec<u8>>,
}

/// One row of `nested_catalogs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NestedRow {
    /// Mountpoint.
    pub path: RepoPath,
    /// Hash of the nested catalog, `None` while it is not stored yet.
    pub hash: Option<ContentHash>,
    /// Uncompressed size in bytes, 0 where an old schema does not say.
    pub size_bytes: u64,
}

/// Returns the hash that keys the parent's rows: the null hash for the root (4.4).
fn parent_hash(path: &RepoPath) -> PathHash {
    path.parent().map_or(PathHash::NULL, |parent| parent.hash())
}

impl CatalogWriter {
    /// Returns the entry at `path`, if this catalog has a row for it.
    pub fn find(&self, path: &RepoPath) -> Result<Option<Row>> {
        let PathHash { first, second } = path.hash();
        let sql = const_sql("WHERE md5path_1 = ?1 AND md5path_2 = ?2");
        let row = self.database.row(&sql, &[&first, &second], |row| self.read_row(row))?;
        // The root of the repository has no name in its row.
        match row {
            Some(row) if row.name != path.name() => Err(self.database.corrupt(format!("{path} has another name"))),
            row => Ok(row),
        }
    }

    /// Returns the entries of a directory, in the order of their names. For a mountpoint these are only found in the
    /// nested catalog.
    pub fn children(&self, directory: &RepoPath) -> Result<Vec<Row>> {
        let PathHash { first, second } = directory.hash();
        let sql = const_sql("WHERE parent_1 = ?1 AND parent_2 = ?2");
        let mut rows = self.database.rows(&sql, &[&first, &second], |row| self.read_row(row))?;
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        for row in &rows {
            nearfs_format::path::check_name(&row.name)
                .map_err(|e| self.database.corrupt(format!("below {directory}: {e}")))?;
        }
        Ok(rows)
    }

    /// Returns name, whether it is a directory, and flags of the entries of a directory, in the order of their rows.
    pub fn listing(&self, directory: &RepoPath) -> Result<Vec<(Vec<u8>, bool, EntryFlags)>> {
        let PathHash { first, second } = directory.hash();
        let sql = "SELECT name, mode & 61440 = 16384, flags FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2 \
                   AND NOT (md5path_1 = ?1 AND md5path_2 = ?2) ORDER BY rowid";
        let database = &self.database;
        database.rows(sql, &[&first, &second], |row| {
            let is_directory = database.integer(row, 1)? != 0;
            Ok((database.bytes(row, 0)?, is_directory, EntryFlags(database.unsigned(row, 2)?)))
        })
    }

    /// Returns what of a directory packs are made of; `limit_bytes` is the most content of a file.
    pub fn small_files(&self, directory: &RepoPath, limit_bytes: u64) -> Result<SmallFiles> {
        let PathHash { first, second } = directory.hash();
        let sql = "SELECT name, mode & 61440, flags, size, hash FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2 \
                   AND NOT (md5path_1 = ?1 AND md5path_2 = ?2) ORDER BY name";
        let (database, mut found) = (&self.database, SmallFiles::default());
        database.rows(sql, &[&first, &second], |row| {
            let (name, flags) = (database.bytes(row, 0)?, EntryFlags(database.unsigned(row, 2)?));
            let is_elsewhere = |mask| flags.0 & mask != 0;
            match FileType::from_mode(database.unsigned(row, 1)?) {
                Some(FileType::Directory)
                    if !is_elsewhere(EntryFlags::NESTED_MOUNTPOINT | EntryFlags::BIND_MOUNTPOINT) =>
                {
                    found.directories.push(name);
                }
                Some(FileType::Regular) => {
                    if flags.has(EntryFlags::BUNDLE_TRIGGER) {
                        found.triggers.push(name.clone());
                    }
                    let (size, digest) = (database.unsigned(row, 3)?, database.bytes(row, 4)?);
                    if !is_elsewhere(EntryFlags::CHUNKED | EntryFlags::EXTERNAL)
                        && (1..=limit_bytes).contains(&size)
                        && !digest.is_empty()
                    {
                        let algorithm = flags.hash_algorithm().map_err(|e| database.corrupt(e))?;
                        let hash = ContentHash::from_digest(algorithm, &digest).map_err(|e| database.corrupt(e))?;
                        found.files.push(SmallFile { name, hash, size });
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Returns the names in a directory that carry the flag of a bundle's trigger or are such that a specification has;
    /// and whether they carry the flag.
    pub fn bundle_names(&self, directory: &RepoPath) -> Result<Vec<(Vec<u8>, bool)>> {
        let PathHash { first, second } = directory.hash();
        let sql = "SELECT name, flags FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2 \
                   AND NOT (md5path_1 = ?1 AND md5path_2 = ?2) \
                   AND (flags & ?3 != 0 OR substr(CAST(name AS BLOB), 1, length(?4)) = ?4)";
        self.database.rows(sql, &[&first, &second, &EntryFlags::BUNDLE_TRIGGER, &BUNDLE_PREFIX], |row| {
            let flags = EntryFlags(self.database.unsigned(row, 1)?);
            Ok((self.database.bytes(row, 0)?, flags.has(EntryFlags::BUNDLE_TRIGGER)))
        })
    }

    fn read_row(&self, row: &rusqlite::Row<'_>) -> Result<Row> {
        let database = &self.database;
        let flags = EntryFlags(database.unsigned(row, 10)?);
        let digest = database.bytes(row, 5)?;
        let hash = if digest.is_empty() {
            None
        } else {
            let algorithm = flags.hash_algorithm().map_err(|e| database.corrupt(e))?;
            Some(ContentHash::from_digest(algorithm, &digest).map_err(|e| database.corrupt(e))?)
        };
        let xattr = database.bytes(row, 15)?;
        let mtime_ns = match row.get_ref(9) {
            Ok(rusqlite::types::ValueRef::Integer(value)) => u32::try_from(value).ok(),
            _ => None,
        };
        let entry = Entry {
            mode: database.unsigned(row, 7)?,
            size: database.unsigned(row, 6)?,
            mtime: database.integer(row, 8)?,
            mtime_ns,
            uid: database.unsigned(row, 13)?,
            gid: database.unsigned(row, 14)?,
            hardlinks: Hardlinks::from_column(database.integer(row, 4)?),
            flags,
            hash,
            symlink: database.bytes(row, 12)?,
            // As the reference reads it: a blob that is damaged means no attributes (4.10).
            xattrs: XattrList::parse(&xattr).unwrap_or_default(),
        };
        Ok(Row { name: database.bytes(row, 11)?, entry })
    }

    /// Adds an entry with its chunks. `Corrupt` if the catalog has one at `path`.
    pub fn insert(&self, path: &RepoPath, entry: &Entry, chunks: &[Chunk]) -> Result<()> {
        let (PathHash { first, second }, parent) = (path.hash(), parent_hash(path));
        let digest = entry.hash.as_ref().map(|hash| hash.digest().as_slice());
        let size = self.column(path, "size", entry.size)?;
        let sql = "INSERT INTO catalog (md5path_1, md5path_2, parent_1, parent_2, hardlinks, hash, size, mode, mtime, \
                   mtimens, flags, name, symlink, uid, gid, xattr) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
        self.database.execute(
            sql,
            &[
                &first,
                &second,
                &parent.first,
                &parent.second,
                &entry.hardlinks.to_column(),
                &digest,
                &size,
                &entry.mode,
                &entry.mtime,
                &entry.mtime_ns,
                &entry.flags.0,
                &Text(path.name()),
                &Text(&entry.symlink),
                &entry.uid,
                &entry.gid,
                &entry.xattrs.encode(),
            ],
        )?;
        for chunk in chunks {
            let sql = "INSERT INTO chunks (md5path_1, md5path_2, offset, size, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
            let offset = self.column(path, "chunk offset", chunk.offset)?;
            let size = self.column(path, "chunk size", chunk.size)?;
            self.database.execute(sql, &[&first, &second, &offset, &size, &chunk.hash.digest().as_slice()])?;
        }
        Ok(())
    }

    fn column(&self, path: &RepoPath, what: &str, value: u64) -> Result<i64> {
        i64::try_from(value).map_err(|_| {
            let subject = format!("{path} to {}: {what} {value} is out of range", self.database.subject());
            Error::new(ErrorKind::InvalidInput, "add", subject)
        })
    }

    /// Returns the chunks of the file at `path`, in order.
    pub fn chunks(&self, path: &RepoPath, flags: EntryFlags) -> Result<Vec<Chunk>> {
        let PathHash { first, second } = path.hash();
        let algorithm = flags.hash_algorithm().map_err(|e| self.database.corrupt(e))?;
        let sql = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ?1 AND md5path_2 = ?2 ORDER BY offset";
        self.database.rows(sql, &[&first, &second], |row| {
            let digest = self.database.bytes(row, 2)?;
            Ok(Chunk {
                offset: self.database.unsigned(row, 0)?,
                size: self.database.unsigned(row, 1)?,
                hash: ContentHash::from_digest(algorithm, &digest).map_err(|e| self.database.corrupt(e))?,
            })
        })
    }

    /// Gives the entry at `path` the mode, times, owner, size and attributes of `entry`; link count, flags, hash and
    /// target stay.
    pub fn touch(&self, path: &RepoPath, entry: &Entry) -> Result<()> {
        let PathHash { first, second } = path.hash();
        let size = self.column(path, "size", entry.size)?;
        let changed = self.database.execute(
            "UPDATE catalog SET mode = ?3, mtime = ?4, mtimens = ?5, uid = ?6, gid = ?7, size = ?8, xattr = ?9 \
             WHERE md5path_1 = ?1 AND md5path_2 = ?2",
            &[
                &first,
                &second,
                &entry.mode,
                &entry.mtime,
                &entry.mtime_ns,
                &entry.uid,
                &entry.gid,
                &size,
                &entry.xattrs.encode(),
            ],
        )?;
        self.expect_one(path, changed)
    }

    /// Sets the flags of the entry at `path`.
    pub fn set_flags(&self, path: &RepoPath, flags: EntryFlags) -> Result<()> {
        let PathHash { first, second } = path.hash();
        let sql = "UPDATE catalog SET flags = ?3 WHERE md5path_1 = ?1 AND md5path_2 = ?2";
        let changed = self.database.execute(sql, &[&first, &second, &flags.0])?;
        self.expect_one(path, changed)
    }

    /// Sets hardlink group and link count of the entry at `path`.
    pub fn set_hardlinks(&self, path: &RepoPath, hardlinks: Hardlinks) -> Result<()> {
        let PathHash { first, second } = path.hash();
        let sql = "UPDATE catalog SET hardlinks = ?3 WHERE md5path_1 = ?1 AND md5path_2 = ?2";
        let changed = self.database.execute(sql, &[&first, &second, &hardlinks.to_column()])?;
        self.expect_one(path, changed)
    }

    fn expect_one(&self, path: &RepoPath, changed: usize) -> Result<()> {
        if changed == 1 { Ok(()) } else { Err(self.database.corrupt(format!("it lacks the entry {path}"))) }
    }

    /// Removes the entry at `path` and its chunks, nothing below it.
    pub fn remove(&self, path: &RepoPath) -> Result<()> {
        let PathHash { first, second } = path.hash();
        let sql = "DELETE FROM chunks WHERE md5path_1 = ?1 AND md5path_2 = ?2";
        self.database.execute(sql, &[&first, &second])?;
        let sql = "DELETE FROM catalog WHERE md5path_1 = ?1 AND md5path_2 = ?2";
        let changed = self.database.execute(sql, &[&first, &second])?;
        self.expect_one(path, changed)
    }

    /// Returns the number of directories directly in `directory`.
    pub fn subdirectories(&self, directory: &RepoPath) -> Result<u32> {
        let PathHash { first, second } = directory.hash();
        let sql = "SELECT count(*) FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2 AND mode & 61440 = 16384";
        let count = self.database.row(sql, &[&first, &second], |row| self.database.unsigned(row, 0))?;
        Ok(count.unwrap_or(0))
    }

    /// Returns the names in `directory` whose entries belong to the hardlink group.
    pub fn hardlink_members(&self, directory: &RepoPath, group: u32) -> Result<Vec<Vec<u8>>> {
        let PathHash { first, second } = directory.hash();
        let sql = "SELECT name FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2 \
                   AND (hardlinks >> 32) & 4294967295 = ?3";
        self.database.rows(sql, &[&first, &second, &group], |row| self.database.bytes(row, 0))
    }

    /// Returns the nested catalogs that are registered here.
    pub fn nested(&self) -> Result<Vec<NestedRow>> {
        let database = &self.database;
        database.rows("SELECT path, sha1, size FROM nested_catalogs", &[], |row| {
            let path = RepoPath::parse(&database.bytes(row, 0)?).map_err(|e| database.corrupt(e))?;
            if path == self.mountpoint || !path.starts_with(&self.mountpoint) {
                return Err(database.corrupt(format!("it registers the nested catalog {path} outside of itself")));
            }
            let text = database.text(row, 1)?;
            let hash = if text.is_empty() { None } else { Some(text.parse().map_err(|e| database.corrupt(e))?) };
            Ok(NestedRow { path, hash, size_bytes: database.unsigned(row, 2)? })
        })
    }

    /// Registers a nested catalog, or changes the row of one.
    pub fn set_nested(&self, nested: &NestedRow) -> Result<()> {
        let hash = nested.hash.map_or(String::new(), |hash| hash.to_string());
        let size = self.column(&nested.path, "catalog size", nested.size_bytes)?;
        let sql = "INSERT OR REPLACE INTO nested_catalogs (path, sha1, size) VALUES (?1, ?2, ?3)";
        self.database.execute(sql, &[&Text(nested.path.as_bytes()), &hash, &size]).map(drop)
    }

    /// Removes the row of a nested catalog.
    pub fn remove_nested(&self, path: &RepoPath) -> Result<()> {
        let sql = "DELETE FROM nested_catalogs WHERE path = ?1";
        self.database.execute(sql, &[&Text(path.as_bytes())]).map(drop)
    }

    /// Returns the highest hardlink group id.
    pub fn highest_group(&self) -> Result<u32> {
        let sql = "SELECT coalesce(max((hardlinks >> 32) & 4294967295), 0) FROM catalog";
        let value = self.database.number(sql)?;
        u32::try_from(value).map_err(|_| self.database.corrupt(format!("hardlink group {value}")))
    }
}

fn const_sql(condition: &str) -> String {
    format!("SELECT {ROW_COLUMNS} FROM catalog {condition}")
}

/// Adds `shift` to the hardlink group of a raw `hardlinks` column, unless it is in no group.
pub(super) fn shift_group(value: &mut crate::database::RawValue, shift: u32) {
    if let crate::database::RawValue::Other(Value::Integer(column)) = value {
        let links = Hardlinks::from_column(*column);
        if links.group != 0 {
            let group = links.group.saturating_add(shift);
            *column = Hardlinks { group, ..links }.to_column();
        }
    }
}
