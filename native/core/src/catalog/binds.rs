//! Bind mountpoints: directories that lead to other root catalogs (format.md 4.3, 8.6).
//!
//! Owns the rows of one table; the directory entries beside them are ordinary rows.

use nearfs_format::path::RepoPath;

use super::rows::NestedRow;
use super::writer::CatalogWriter;
use crate::database::Text;
use crate::error::Result;

impl CatalogWriter {
    /// Returns the bind mountpoints of this catalog.
    pub fn binds(&self) -> Result<Vec<NestedRow>> {
        let database = &self.database;
        database.rows("SELECT path, sha1, size FROM bind_mountpoints", &[], |row| {
            let path = RepoPath::parse(&database.bytes(row, 0)?).map_err(|e| database.corrupt(e))?;
            let hash = database.text(row, 1)?.parse().map_err(|e| database.corrupt(e))?;
            Ok(NestedRow { path, hash: Some(hash), size_bytes: database.unsigned(row, 2)? })
        })
    }

    /// Adds a bind mountpoint.
    pub fn add_bind(&self, bind: &NestedRow) -> Result<()> {
        let hash = bind.hash.map_or(String::new(), |hash| hash.to_string());
        let size = i64::try_from(bind.size_bytes).unwrap_or(0);
        let sql = "INSERT OR REPLACE INTO bind_mountpoints (path, sha1, size) VALUES (?1, ?2, ?3)";
        self.database.execute(sql, &[&Text(bind.path.as_bytes()), &hash, &size]).map(drop)
    }
}
