//! Counting the rows of a catalog.
//!
//! Owns one query; reads whole tables, so it runs once for each commit. Source: format.md 4.9 and 12, rule 13.

use nearfs_format::counters::Counters;

use super::writer::CatalogWriter;
use crate::error::Result;

/// 61440 is the mask of file types in `mode`, 32768 a regular file, 40960 a symlink, 16384 a directory; 64 and 128 are
/// the flags of chunked and external files.
const COUNT_ROWS: &str = "\
    SELECT coalesce(sum(kind = 32768), 0), coalesce(sum(kind = 40960), 0), coalesce(sum(kind = 16384), 0), count(*), \
           coalesce(sum(CASE WHEN kind = 32768 THEN size ELSE 0 END), 0), \
           coalesce(sum(kind = 32768 AND flags & 64 != 0), 0), \
           coalesce(sum(CASE WHEN kind = 32768 AND flags & 64 != 0 THEN size ELSE 0 END), 0), \
           coalesce(sum(kind = 32768 AND flags & 128 != 0), 0), \
           coalesce(sum(CASE WHEN kind = 32768 AND flags & 128 != 0 THEN size ELSE 0 END), 0), \
           count(xattr) \
    FROM (SELECT mode & 61440 AS kind, size, flags, xattr FROM catalog)";

impl CatalogWriter {
    /// Returns this catalog's own counters, counted from its rows.
    pub fn count_rows(&self) -> Result<Counters> {
        let chunks = self.database.number("SELECT count(*) FROM chunks")?;
        let nested = self.database.number("SELECT count(*) FROM nested_catalogs")?;
        let counted = self.database.row(COUNT_ROWS, &[], |row| {
            let column = |index| self.database.integer(row, index);
            let (regular, symlink, dir, rows) = (column(0)?, column(1)?, column(2)?, column(3)?);
            Ok(Counters {
                regular,
                symlink,
                dir,
                special: rows - regular - symlink - dir,
                nested,
                file_size: column(4)?,
                chunked: column(5)?,
                chunked_size: column(6)?,
                chunks,
                external: column(7)?,
                external_file_size: column(8)?,
                xattr: column(9)?,
            })
        })?;
        counted.ok_or_else(|| self.database.corrupt("its rows cannot be counted"))
    }

    /// Returns the number of entries, the catalog's own root among them.
    pub fn entries(&self) -> Result<u64> {
        Ok(self.database.number("SELECT count(*) FROM catalog")?.try_into().unwrap_or(0))
    }

    /// Returns a number that the number of entries does not exceed, without looking at them all.
    pub fn entries_at_most(&self) -> Result<u64> {
        Ok(self.database.number("SELECT coalesce(max(rowid), 0) FROM catalog")?.try_into().unwrap_or(0))
    }
}
