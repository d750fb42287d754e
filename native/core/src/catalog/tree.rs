//! Which nested catalog answers: the catalogs of one revision, loaded when a directory is entered.
//!
//! Owns the loaded catalogs and their order; where catalogs come from is the [`CatalogSource`]'s business. A loaded
//! catalog stays for the life of the tree, so a [`CatalogId`] and a row stay valid.
//!
//! Threading: shared by all workers. The list is under a read-write lock that is never held while a catalog is
//! fetched or decoded; two threads may decode the same catalog at the same time, and one result is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use nearfs_format::hash::ContentHash;
use nearfs_format::path::RepoPath;
use parking_lot::RwLock;

use super::index::{CatalogIndex, RowId};
use super::reader::NestedRow;
use crate::error::{Error, ErrorKind, Result};

/// Position of a catalog in its tree; the root catalog is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CatalogId(pub u32);

impl CatalogId {
    /// The root catalog.
    pub const ROOT: Self = Self(0);
}

/// Where catalogs come from.
///
/// Idempotent, may block for as long as a fetch may, called by many threads at once. An [`ErrorKind::Unreachable`]
/// failure is temporary: nothing is remembered, the next call tries again.
pub trait CatalogSource: Send + Sync + std::fmt::Debug {
    /// Returns the decoded catalog with that hash; `subject` names it in errors.
    fn load(&self, catalog: &NestedRow, subject: String) -> Result<Arc<CatalogIndex>>;
}

/// One loaded catalog and its place in the tree.
#[derive(Debug)]
pub struct Catalog {
    /// Its position.
    pub id: CatalogId,
    /// Its rows.
    pub index: Arc<CatalogIndex>,
    /// Hash of the catalog object.
    pub hash: ContentHash,
    /// The directory in the parent catalog where it starts; `None` for the root catalog.
    pub mountpoint: Option<(Arc<Catalog>, RowId)>,
    /// How many rows were loaded before it: row `r` is number `rows_before + r` of the tree.
    pub rows_before: u64,
    /// What to put before its paths: where the root catalog that it belongs to is bound.
    bound_at: RepoPath,
}

impl Catalog {
    /// Returns an entry's path as the user sees it.
    pub fn path(&self, row: RowId) -> RepoPath {
        let inner = self.index.path(row);
        inner.names().fold(self.bound_at.clone(), |path, name| path.join(name).unwrap_or(path))
    }
}

#[derive(Debug, Default)]
struct Loaded {
    catalogs: Vec<Arc<Catalog>>,
    by_mountpoint: HashMap<(CatalogId, RowId), CatalogId>,
    rows: u64,
}

/// The catalogs of one revision.
#[derive(Debug)]
pub struct CatalogTree {
    source: Arc<dyn CatalogSource>,
    loaded: RwLock<Loaded>,
}

impl CatalogTree {
    /// Loads the root catalog.
    pub fn open(source: Arc<dyn CatalogSource>, root_hash: ContentHash, size_bytes: u64) -> Result<Self> {
        let root = NestedRow { path: RepoPath::root(), hash: root_hash, size_bytes };
        let index = load(&*source, &root, &RepoPath::root())?;
        let tree = Self { source, loaded: RwLock::default() };
        tree.insert(None, &root, index, RepoPath::root());
        Ok(tree)
    }

    /// Returns the root catalog.
    pub fn root(&self) -> Arc<Catalog> {
        Arc::clone(&self.loaded.read().catalogs[0])
    }

    /// Returns how many catalogs are loaded.
    pub fn loaded_count(&self) -> usize {
        self.loaded.read().catalogs.len()
    }

    /// Returns how many rows the loaded catalogs have.
    pub fn loaded_rows(&self) -> u64 {
        self.loaded.read().rows
    }

    /// Returns the catalog and row with that running number, if it was ever given out.
    pub fn row_number(&self, number: u64) -> Option<(Arc<Catalog>, RowId)> {
        let loaded = self.loaded.read();
        let at = loaded.catalogs.partition_point(|c| c.rows_before <= number).checked_sub(1)?;
        let catalog = &loaded.catalogs[at];
        let row = number - catalog.rows_before;
        (row < catalog.index.len() as u64).then(|| (Arc::clone(catalog), RowId(row as u32)))
    }

    /// Returns the catalog that holds a directory's entries: the one that starts there, loaded now if need be, or
    /// `None` where the entries lie in `catalog` itself.
    pub fn below(&self, catalog: &Arc<Catalog>, row: RowId) -> Result<Option<Arc<Catalog>>> {
        let (nested, bound_at) = match (catalog.index.nested(row), catalog.index.bind(row)) {
            (Some(nested), _) => (nested, catalog.bound_at.clone()),
            (None, Some(bind)) => (bind, catalog.path(row)),
            (None, None) => return Ok(None),
        };
        {
            let loaded = self.loaded.read();
            if let Some(id) = loaded.by_mountpoint.get(&(catalog.id, row)) {
                return Ok(Some(Arc::clone(&loaded.catalogs[id.0 as usize])));
            }
        }
        let root_prefix = if catalog.index.nested(row).is_some() { nested.path.clone() } else { RepoPath::root() };
        let index = load(&*self.source, nested, &root_prefix).map_err(|error| match error.kind() {
            // The parent catalog says that it exists: a broken repository must not look like an empty directory.
            ErrorKind::NotFound => {
                Error::new(ErrorKind::Unreachable, "enter", nested.path.to_string()).with_source(error)
            }
            _ => error,
        })?;
        Ok(Some(self.insert(Some((Arc::clone(catalog), row)), nested, index, bound_at)))
    }

    /// Says whether [`Self::below`] answers without loading anything.
    pub fn is_below_loaded(&self, catalog: &Catalog, row: RowId) -> bool {
        let has_own_entries = catalog.index.nested(row).is_none() && catalog.index.bind(row).is_none();
        has_own_entries || self.loaded.read().by_mountpoint.contains_key(&(catalog.id, row))
    }

    fn insert(
        &self,
        mountpoint: Option<(Arc<Catalog>, RowId)>,
        nested: &NestedRow,
        index: Arc<CatalogIndex>,
        bound_at: RepoPath,
    ) -> Arc<Catalog> {
        let mut loaded = self.loaded.write();
        let key = mountpoint.as_ref().map(|(catalog, row)| (catalog.id, *row));
        if let Some(id) = key.and_then(|key| loaded.by_mountpoint.get(&key)) {
            return Arc::clone(&loaded.catalogs[id.0 as usize]);
        }
        let id = CatalogId(loaded.catalogs.len() as u32);
        let rows_before = loaded.rows;
        loaded.rows += index.len() as u64;
        let catalog = Arc::new(Catalog { id, index, hash: nested.hash, mountpoint, rows_before, bound_at });
        loaded.catalogs.push(Arc::clone(&catalog));
        if let Some(key) = key {
            loaded.by_mountpoint.insert(key, id);
        }
        catalog
    }
}

fn load(source: &dyn CatalogSource, nested: &NestedRow, root_prefix: &RepoPath) -> Result<Arc<CatalogIndex>> {
    let subject = format!("{} at {}", nested.hash, nested.path);
    let index = source.load(nested, subject.clone())?;
    if index.root_prefix() != root_prefix {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "mount catalog",
            format!("{subject}: it says that it belongs at {}", index.root_prefix()),
        ));
    }
    Ok(index)
}
