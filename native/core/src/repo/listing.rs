//! The catalogs of a revision, listed from the root down.
//!
//! Owns the order: a catalog before those below it, those in the order of paths. One catalog is in memory at a time.
//! Source: server.md 3.11.

use nearfs_format::hash::ContentHash;
use nearfs_format::path::RepoPath;

use super::stored::StoredCatalogs;
use crate::catalog::reader::NestedRow;
use crate::error::Result;
use crate::store::ObjectRead;

/// One catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCatalog {
    /// Where it is mounted.
    pub path: RepoPath,
    /// How many catalogs lie above it.
    pub depth: usize,
    /// Its hash.
    pub hash: ContentHash,
    /// Size of the uncompressed catalog in bytes.
    pub size_bytes: u64,
    /// Entries, its own root directory included.
    pub entries: u64,
}

/// Lists the catalogs of the revision with that root catalog.
pub fn list_catalogs<S: ObjectRead>(store: S, root_hash: ContentHash) -> Result<Vec<ListedCatalog>> {
    let catalogs = StoredCatalogs::new(store);
    let mut listed = Vec::new();
    let mut pending = vec![(0, NestedRow { path: RepoPath::root(), hash: root_hash, size_bytes: 0 })];
    while let Some((depth, row)) = pending.pop() {
        let (index, size_bytes) = catalogs.load_sized(&row)?;
        let entries = index.len() as u64;
        let mut nested: Vec<_> = index.all_nested().cloned().collect();
        nested.sort_by(|a, b| b.path.cmp(&a.path));
        pending.extend(nested.into_iter().map(|row| (depth + 1, row)));
        listed.push(ListedCatalog { path: row.path, depth, hash: row.hash, size_bytes, entries });
    }
    Ok(listed)
}
