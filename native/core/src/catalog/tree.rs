//! Which nested catalog answers: the catalogs of one revision, entered when a directory is.
//!
//! Owns which catalogs were entered, where each starts, and the numbers of their rows; the decoded rows lie on the
//! shelf ([`super::decoded`]) and come back when they are asked for. A catalog that was entered stays known for the life
//! of the tree, so that every number that was given out leads to its entry. The next revision's tree is made by
//! [`super::succession`].
//!
//! Threading: shared by all workers. The list is under a read-write lock that is never held while a catalog is
//! fetched or decoded.

use std::collections::HashMap;
use std::sync::Arc;

use nearfs_format::hash::ContentHash;
use nearfs_format::path::RepoPath;
use parking_lot::RwLock;

pub use super::decoded::CatalogSource;
use super::decoded::{Shelf, Slot};
use super::index::{CatalogIndex, RowId};
use super::numbers::{NumberSource, Numbers};
use super::reader::NestedRow;
use crate::error::{Error, ErrorKind, Result};

/// Position of a catalog in its tree; the root catalog is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CatalogId(pub u32);

impl CatalogId {
    /// The root catalog.
    pub const ROOT: Self = Self(0);

    pub(super) const fn at(self) -> usize {
        self.0 as usize
    }
}

/// Where a nested catalog starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mountpoint {
    /// The catalog that has the directory, and its row there.
    pub(super) catalog: CatalogId,
    pub(super) row: RowId,
    /// Number of the directory.
    pub(super) number: u64,
    /// Number of the directory that it lies in; `None` for the root directory.
    pub(super) parent_number: Option<u64>,
}

/// One catalog that was entered, and its place in the tree.
#[derive(Debug)]
pub struct Catalog {
    /// Its position.
    pub id: CatalogId,
    /// Hash of the catalog object.
    pub hash: ContentHash,
    /// Counts the revisions of this mount: the one that brought this catalog.
    pub since: u32,
    pub(super) slot: Arc<Slot>,
    pub(super) mountpoint: Option<Mountpoint>,
    pub(super) numbers: Arc<Numbers>,
    /// What to put before its paths: where the root catalog that it belongs to is bound.
    pub(super) bound_at: RepoPath,
    /// Its rows, where they must not be let go.
    pub(super) held: Option<Arc<CatalogIndex>>,
}

impl Catalog {
    /// Says whether it is the root catalog.
    pub fn is_root(&self) -> bool {
        self.mountpoint.is_none()
    }

    pub(super) fn index(&self) -> Result<Arc<CatalogIndex>> {
        self.held.as_ref().map_or_else(|| self.slot.index(), |index| Ok(Arc::clone(index)))
    }
}

/// A catalog with its rows at hand.
#[derive(Debug, Clone)]
pub struct View {
    /// Where it lies.
    pub catalog: Arc<Catalog>,
    /// Its rows.
    pub index: Arc<CatalogIndex>,
}

impl View {
    pub(super) fn of(catalog: Arc<Catalog>) -> Result<Self> {
        let index = catalog.index()?;
        Ok(Self { catalog, index })
    }

    /// Returns an entry's path as the user sees it.
    pub fn path(&self, row: RowId) -> RepoPath {
        shown_path(&self.index, &self.catalog.bound_at, row)
    }

    /// Returns an entry's number: all names of a hardlink group have one, and so has a directory where a nested catalog
    /// starts. `None` for the root directory.
    pub fn number(&self, row: RowId) -> Option<u64> {
        match (row, &self.catalog.mountpoint) {
            (RowId::ROOT, mountpoint) => mountpoint.map(|at| at.number),
            _ => Some(self.catalog.numbers.of(self.index.canonical(row).0)),
        }
    }

    /// Returns the number of the directory that holds an entry; `None` for the root directory.
    pub fn parent_number(&self, row: RowId) -> Option<u64> {
        match (row, &self.catalog.mountpoint) {
            (RowId::ROOT, mountpoint) => mountpoint.and_then(|at| at.parent_number),
            _ => self.number(self.index.parent(row)),
        }
    }

    /// Says whether an entry is the root directory of the repository.
    pub fn is_root(&self, row: RowId) -> bool {
        row == RowId::ROOT && self.catalog.is_root()
    }
}

/// Numbers side by side that lead to one catalog.
#[derive(Debug, Clone, Copy)]
struct Range {
    number: u64,
    len: u64,
    catalog: CatalogId,
}

#[derive(Debug, Default)]
pub(super) struct Entered {
    pub(super) catalogs: Vec<Arc<Catalog>>,
    by_mountpoint: HashMap<(CatalogId, RowId), CatalogId>,
    /// Sorted by number.
    ranges: Vec<Range>,
    rows: u64,
}

impl Entered {
    /// Adds a catalog without putting its numbers in order.
    fn add(&mut self, catalog: Arc<Catalog>) {
        if let Some(at) = &catalog.mountpoint {
            self.by_mountpoint.insert((at.catalog, at.row), catalog.id);
        }
        for run in catalog.numbers.runs() {
            self.rows += u64::from(run.len);
            self.ranges.push(Range { number: run.number, len: u64::from(run.len), catalog: catalog.id });
        }
        self.catalogs.push(catalog);
    }

    pub(super) fn of(catalogs: impl IntoIterator<Item = Arc<Catalog>>) -> Self {
        let mut entered = Self::default();
        for catalog in catalogs {
            entered.add(catalog);
        }
        entered.ranges.sort_unstable_by_key(|range| range.number);
        entered
    }

    fn below(&self, catalog: CatalogId, row: RowId) -> Option<Arc<Catalog>> {
        self.by_mountpoint.get(&(catalog, row)).map(|id| Arc::clone(&self.catalogs[id.at()]))
    }
}

/// The catalogs of one revision.
#[derive(Debug)]
pub struct CatalogTree {
    pub(super) shelf: Arc<Shelf>,
    pub(super) source: Arc<NumberSource>,
    pub(super) generation: u32,
    pub(super) entered: RwLock<Entered>,
    pub(super) root: View,
}

impl CatalogTree {
    /// Loads the root catalog. Numbers are given out from `first_number` on; decoded nested catalogs take about
    /// `budget_bytes`.
    pub fn open(
        source: Arc<dyn CatalogSource>,
        root_hash: ContentHash,
        size_bytes: u64,
        first_number: u64,
        budget_bytes: u64,
    ) -> Result<Self> {
        let shelf = Shelf::new(source, budget_bytes);
        let nested = NestedRow { path: RepoPath::root(), hash: root_hash, size_bytes };
        let (slot, index) = shelf.load_root(&nested)?;
        let source = Arc::new(NumberSource::from(first_number));
        let rows = index.len() as u32;
        let root = Arc::new(Catalog {
            id: CatalogId::ROOT,
            hash: root_hash,
            since: 0,
            slot,
            mountpoint: None,
            numbers: Arc::new(Numbers::straight(rows, source.take(u64::from(rows)))),
            bound_at: RepoPath::root(),
            held: Some(Arc::clone(&index)),
        });
        let entered = RwLock::new(Entered::of([Arc::clone(&root)]));
        Ok(Self { shelf, source, generation: 0, entered, root: View { catalog: root, index } })
    }

    /// Returns the root catalog.
    pub fn root(&self) -> &View {
        &self.root
    }

    /// Counts the revisions before this one that the mount has shown.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns how many catalogs were entered.
    pub fn entered_count(&self) -> usize {
        self.entered.read().catalogs.len()
    }

    /// Returns how many catalogs are decoded in memory.
    pub fn loaded_count(&self) -> usize {
        self.shelf.decoded_count() + 1
    }

    /// Returns how many rows the catalogs have that were entered.
    pub fn loaded_rows(&self) -> u64 {
        self.entered.read().rows
    }

    /// Returns the number that is given out next.
    pub fn next_number(&self) -> u64 {
        self.source.next()
    }

    /// Returns where every catalog starts that was entered, parents first, with its depth below the root catalog.
    pub fn mountpoints(&self) -> Result<Vec<(usize, RepoPath)>> {
        let catalogs = self.entered.read().catalogs.clone();
        let mut depths: Vec<usize> = Vec::with_capacity(catalogs.len());
        let mut listed = Vec::with_capacity(catalogs.len());
        for catalog in catalogs {
            let depth = catalog.mountpoint.map_or(0, |at| depths[at.catalog.at()] + 1);
            depths.push(depth);
            listed.push((depth, View::of(catalog)?.path(RowId::ROOT)));
        }
        Ok(listed)
    }

    /// Lets go of all rows but the root catalog's.
    pub fn release_nested(&self) {
        self.shelf.release_all();
    }

    /// Returns the entry with that number, if this tree gave it out or took it over.
    pub fn row_number(&self, number: u64) -> Result<Option<(View, RowId)>> {
        let catalog = {
            let entered = self.entered.read();
            let at = entered.ranges.partition_point(|range| range.number <= number).checked_sub(1);
            let range = at.map(|at| entered.ranges[at]).filter(|range| number - range.number < range.len);
            range.map(|range| Arc::clone(&entered.catalogs[range.catalog.at()]))
        };
        let Some(catalog) = catalog else { return Ok(None) };
        let row = catalog.numbers.row(number);
        let view = View::of(catalog)?;
        Ok(row.map(|row| (view, RowId(row))))
    }

    /// Returns the catalog that holds a directory's entries: the one that starts there, loaded now if need be, or
    /// `None` where the entries lie in the catalog itself.
    pub fn below(&self, view: &View, row: RowId) -> Result<Option<View>> {
        if !starts_catalog(view, row) {
            return Ok(None);
        }
        let entered = self.entered.read().below(view.catalog.id, row);
        if let Some(catalog) = entered {
            return View::of(catalog).map(Some);
        }
        let Some(start) = Start::at(view, row) else { return Ok(None) };
        let (slot, index) = start.load(&self.shelf)?;
        let catalog = self.enter(view, row, &start, slot, &index);
        Ok(Some(View { catalog, index }))
    }

    /// Returns the catalog that holds a directory's entries, `None` where they lie in a catalog that was not entered.
    pub(super) fn below_entered(&self, view: &View, row: RowId) -> Result<Option<(View, RowId)>> {
        if !starts_catalog(view, row) {
            return Ok(Some((view.clone(), row)));
        }
        let entered = self.entered.read().below(view.catalog.id, row);
        entered.map(|catalog| View::of(catalog).map(|view| (view, RowId::ROOT))).transpose()
    }

    /// Says whether [`Self::below`] answers without loading anything.
    pub fn is_below_loaded(&self, view: &View, row: RowId) -> bool {
        let is_decoded = |catalog: Arc<Catalog>| catalog.slot.is_decoded();
        !starts_catalog(view, row) || self.entered.read().below(view.catalog.id, row).is_some_and(is_decoded)
    }

    fn enter(&self, view: &View, row: RowId, start: &Start, slot: Arc<Slot>, index: &CatalogIndex) -> Arc<Catalog> {
        let mut entered = self.entered.write();
        if let Some(catalog) = entered.below(view.catalog.id, row) {
            return catalog;
        }
        let id = CatalogId(entered.catalogs.len() as u32);
        let rows = index.len() as u32;
        // Taken under the lock: numbers that are added grow, and stay in order.
        let numbers = Arc::new(Numbers::straight(rows, self.source.take(u64::from(rows))));
        let mountpoint = Mountpoint {
            catalog: view.catalog.id,
            row,
            number: view.number(row).unwrap_or_default(),
            parent_number: view.parent_number(row),
        };
        let catalog = Arc::new(Catalog {
            id,
            hash: slot.hash(),
            since: self.generation,
            slot,
            mountpoint: Some(mountpoint),
            numbers,
            bound_at: start.bound_at.clone(),
            held: None,
        });
        entered.add(Arc::clone(&catalog));
        catalog
    }
}

fn shown_path(index: &CatalogIndex, bound_at: &RepoPath, row: RowId) -> RepoPath {
    index.path(row).names().fold(bound_at.clone(), |path, name| path.join(name).unwrap_or(path))
}

fn starts_catalog(view: &View, row: RowId) -> bool {
    view.index.nested(row).is_some() || view.index.bind(row).is_some()
}

/// A catalog that starts at a directory, nested or bound.
pub(super) struct Start {
    pub(super) nested: NestedRow,
    /// What it has to say of where it belongs.
    root_prefix: RepoPath,
    pub(super) bound_at: RepoPath,
}

impl Start {
    fn at(view: &View, row: RowId) -> Option<Self> {
        Self::of(&view.index, &view.catalog.bound_at, row)
    }

    pub(super) fn of(index: &CatalogIndex, bound_at: &RepoPath, row: RowId) -> Option<Self> {
        if let Some(nested) = index.nested(row) {
            let (root_prefix, bound_at) = (nested.path.clone(), bound_at.clone());
            return Some(Self { nested: nested.clone(), root_prefix, bound_at });
        }
        let bind = index.bind(row)?;
        Some(Self { nested: bind.clone(), root_prefix: RepoPath::root(), bound_at: shown_path(index, bound_at, row) })
    }

    pub(super) fn load(&self, shelf: &Arc<Shelf>) -> Result<(Arc<Slot>, Arc<CatalogIndex>)> {
        shelf.load(&self.nested, &self.root_prefix).map_err(|error| match error.kind() {
            // The parent catalog says that it exists: a broken repository must not look like an empty directory.
            ErrorKind::NotFound => {
                Error::new(ErrorKind::Unreachable, "enter", self.nested.path.to_string()).with_source(error)
            }
            _ => error,
        })
    }
}
