//! Whole subtrees of one catalog: taking them out, putting them in, dropping them.
//!
//! Owns which rows belong to a subtree: those that the parent columns lead to, so rows of a damaged catalog that form
//! a circle end the walk instead of prolonging it. Rows move as they are, columns by name.

use nearfs_format::dirent::{Entry, FileType};
use nearfs_format::path::{PathHash, RepoPath};

use super::rows::shift_group;
use super::schema::{ROW_COLUMN_COUNT, ROW_COLUMNS};
use super::writer::CatalogWriter;
use crate::database::{RawValue, Text};
use crate::error::Result;

/// Rows on their way from one catalog to another.
#[derive(Debug, Default)]
pub struct Moved {
    rows: Vec<Vec<RawValue>>,
    chunks: Vec<Vec<RawValue>>,
    binds: Vec<Vec<RawValue>>,
}

/// How much a set of entries is: removed, or copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowCounts {
    /// Non-directories.
    pub files: u64,
    /// Symlinks among them.
    pub symlinks: u64,
    /// Bytes of the regular files among them.
    pub bytes: u64,
    /// Directories; a mountpoint counts once here and once in its own catalog.
    pub directories: u64,
}

impl RowCounts {
    /// Counts one entry.
    pub fn of(entry: &Entry) -> Self {
        let file_type = entry.file_type();
        let is = |wanted| u64::from(file_type == Some(wanted));
        Self {
            files: 1 - is(FileType::Directory),
            symlinks: is(FileType::Symlink),
            bytes: is(FileType::Regular) * entry.size,
            directories: is(FileType::Directory),
        }
    }
}

impl std::ops::AddAssign for RowCounts {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.symlinks += other.symlinks;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.directories += other.directories;
    }
}

/// Everything below the path that is bound to ?1 and ?2; that path itself is not part of it. `UNION` drops what was
/// seen before, so a circle ends.
const BELOW: &str = "WITH RECURSIVE below (first, second) AS ( \
    SELECT md5path_1, md5path_2 FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2 \
    UNION SELECT c.md5path_1, c.md5path_2 FROM catalog c JOIN below b \
    ON c.parent_1 = b.first AND c.parent_2 = b.second)";
const HARDLINKS_COLUMN: usize = 4;

impl CatalogWriter {
    /// Removes everything below `directory`, not the entry itself and not the rows of nested catalogs.
    pub fn remove_below(&self, directory: &RepoPath) -> Result<RowCounts> {
        let PathHash { first, second } = directory.hash();
        let sql = format!(
            "{BELOW} SELECT coalesce(sum(mode & 61440 != 16384), 0), coalesce(sum(mode & 61440 = 16384), 0), \
             coalesce(sum(mode & 61440 = 40960), 0), \
             total(CASE mode & 61440 WHEN 32768 THEN max(size, 0) ELSE 0 END) \
             FROM catalog WHERE (md5path_1, md5path_2) IN below"
        );
        let removed = self.database.row(&sql, &[&first, &second], |row| {
            Ok(RowCounts {
                files: self.database.unsigned(row, 0)?,
                directories: self.database.unsigned(row, 1)?,
                symlinks: self.database.unsigned(row, 2)?,
                // A sum in floating point: sizes of a damaged catalog cannot overflow it.
                bytes: row.get::<_, f64>(3).unwrap_or(0.0) as u64,
            })
        })?;
        self.delete_below(directory)?;
        Ok(removed.unwrap_or_default())
    }

    fn delete_below(&self, directory: &RepoPath) -> Result<()> {
        let PathHash { first, second } = directory.hash();
        // Chunks first: they refer to catalog rows.
        for table in ["chunks", "catalog"] {
            let sql = format!("{BELOW} DELETE FROM {table} WHERE (md5path_1, md5path_2) IN below");
            self.database.execute(&sql, &[&first, &second])?;
        }
        Ok(())
    }

    /// Takes out everything below `directory`: entries, chunks and bind mountpoints. The entry itself stays, and so do
    /// the rows of nested catalogs, which the caller knows.
    pub fn take_below(&self, directory: &RepoPath) -> Result<Moved> {
        let PathHash { first, second } = directory.hash();
        let sql =
            format!("{BELOW} SELECT {ROW_COLUMNS} FROM catalog WHERE (md5path_1, md5path_2) IN below ORDER BY rowid");
        let rows = self.database.rows(&sql, &[&first, &second], |row| self.database.values(row, ROW_COLUMN_COUNT))?;
        let sql = format!(
            "{BELOW} SELECT md5path_1, md5path_2, offset, size, hash FROM chunks \
             WHERE (md5path_1, md5path_2) IN below"
        );
        let chunks = self.database.rows(&sql, &[&first, &second], |row| self.database.values(row, 5))?;
        let mut prefix = directory.as_bytes().to_vec();
        prefix.push(b'/');
        let condition = "substr(CAST(path AS BLOB), 1, length(?1)) = ?1";
        let sql = format!("SELECT path, sha1, size FROM bind_mountpoints WHERE {condition}");
        let binds = self.database.rows(&sql, &[&prefix], |row| self.database.values(row, 3))?;
        self.database.execute(&format!("DELETE FROM bind_mountpoints WHERE {condition}"), &[&prefix])?;
        self.delete_below(directory)?;
        Ok(Moved { rows, chunks, binds })
    }

    /// Puts in what was taken out of another catalog. Hardlink groups are shifted past those that are here.
    pub fn put_moved(&self, moved: Moved) -> Result<()> {
        let shift = self.highest_group()?;
        let insert = |table: &str, columns: &str, values: &[RawValue]| {
            let marks: Vec<String> = (1..=values.len()).map(|n| format!("?{n}")).collect();
            let sql = format!("INSERT INTO {table} ({columns}) VALUES ({})", marks.join(", "));
            let parameters: Vec<&dyn rusqlite::ToSql> = values.iter().map(|value| value as _).collect();
            self.database.execute(&sql, &parameters).map(drop)
        };
        for mut row in moved.rows {
            if let Some(hardlinks) = row.get_mut(HARDLINKS_COLUMN) {
                shift_group(hardlinks, shift);
            }
            insert("catalog", ROW_COLUMNS, &row)?;
        }
        for chunk in &moved.chunks {
            insert("chunks", "md5path_1, md5path_2, offset, size, hash", chunk)?;
        }
        for bind in &moved.binds {
            insert("bind_mountpoints", "path, sha1, size", bind)?;
        }
        Ok(())
    }

    /// Removes the bind mountpoints at and below `path`.
    pub fn remove_binds(&self, path: &RepoPath) -> Result<()> {
        let mut prefix = path.as_bytes().to_vec();
        self.database.execute("DELETE FROM bind_mountpoints WHERE path = ?1", &[&Text(&prefix)])?;
        prefix.push(b'/');
        let sql = "DELETE FROM bind_mountpoints WHERE substr(CAST(path AS BLOB), 1, length(?1)) = ?1";
        self.database.execute(sql, &[&prefix]).map(drop)
    }
}
