//! Inode numbers, and the revisions that they lead into: the one that is shown, and those just before it.
//!
//! The root directory is 1; every other entry has the number of its row ([`crate::catalog::tree`]), which is computed,
//! never stored: there is nothing to forget. A switch replaces the tree as a whole. What the kernel had in hand at that
//! moment is answered from the revision before, for a while; after that such a number is stale, and whoever comes by a
//! path looks it up again.
//!
//! Threading: shared by all workers; an operation takes the tree once and stays in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::filesystem::{FsResult, Refusal};
use super::types::Ino;
use crate::catalog::index::RowId;
use crate::catalog::tree::{CatalogTree, View};
use crate::error::Result;

/// Numbers below are the root directory, as in the reference client.
pub(super) const FIRST_INO: u64 = 256;
/// How long a revision answers after its end: longer than a request and what the kernel does with its answer.
const GRACE: Duration = Duration::from_secs(30);
/// So many revisions are kept at most, whatever their age.
const EARLIER_MAX: usize = 8;

/// Returns the inode number of an entry.
pub(super) fn ino(view: &View, row: RowId) -> Ino {
    view.number(row).map_or(Ino::ROOT, Ino)
}

/// Returns the inode number of the directory that holds an entry.
pub(super) fn parent_ino(view: &View, row: RowId) -> Ino {
    view.parent_number(row).map_or(Ino::ROOT, Ino)
}

/// Where an operation arrived: the revision, the catalog, the row.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) tree: Arc<CatalogTree>,
    pub(super) view: View,
    pub(super) row: RowId,
}

impl Place {
    /// Returns where a directory's entries lie: in the nested catalog where one starts there.
    pub(super) fn below(self) -> Result<Self> {
        let Self { tree, view, row } = self;
        Ok(match tree.below(&view, row)? {
            Some(view) => Self { tree, view, row: RowId::ROOT },
            None => Self { tree, view, row },
        })
    }
}

/// Returns the entry behind an inode number in one revision, if it has it.
pub(super) fn entry_in(tree: &Arc<CatalogTree>, ino: Ino) -> Result<Option<Place>> {
    let found = match ino.0 {
        ..FIRST_INO => Some((tree.root().clone(), RowId::ROOT)),
        number => tree.row_number(number)?,
    };
    Ok(found.map(|(view, row)| Place { tree: Arc::clone(tree), view, row }))
}

/// The revision that is shown, and those before it that still answer.
#[derive(Debug)]
pub(super) struct Revisions {
    current: ArcSwap<CatalogTree>,
    earlier: RwLock<VecDeque<(Instant, Arc<CatalogTree>)>>,
    switching: Mutex<()>,
}

impl Revisions {
    pub(super) fn new(tree: CatalogTree) -> Self {
        Self { current: ArcSwap::from_pointee(tree), earlier: RwLock::default(), switching: Mutex::default() }
    }

    pub(super) fn current(&self) -> Arc<CatalogTree> {
        self.current.load_full()
    }

    /// Shows `next`, made from `old` when that had entered `compared` catalogs. Does nothing and says so where `old` is
    /// not shown any more, or has entered more.
    pub(super) fn replace(&self, old: &Arc<CatalogTree>, next: CatalogTree, compared: usize) -> bool {
        let _one_at_a_time = self.switching.lock();
        if !Arc::ptr_eq(old, &self.current()) || old.entered_count() != compared {
            return false;
        }
        let mut earlier = self.earlier.write();
        earlier.push_front((Instant::now(), Arc::clone(old)));
        earlier.truncate(EARLIER_MAX);
        self.current.store(Arc::new(next));
        true
    }

    /// Lets go of revisions that nobody can be in any more.
    pub(super) fn forget_old(&self) {
        self.earlier.write().retain(|(ended, _)| ended.elapsed() < GRACE);
    }

    /// Returns the earlier revisions that still answer, the newest first.
    pub(super) fn earlier(&self) -> Vec<Arc<CatalogTree>> {
        self.earlier.read().iter().map(|(_, tree)| Arc::clone(tree)).collect()
    }

    /// Returns the entry behind an inode number.
    pub(super) fn entry(&self, ino: Ino) -> FsResult<Place> {
        let tree = self.current();
        if let Some(place) = entry_in(&tree, ino)? {
            return Ok(place);
        }
        if ino.0 >= tree.next_number() {
            return Err(Refusal::NoEntry.into());
        }
        for tree in self.earlier() {
            if let Some(place) = entry_in(&tree, ino)? {
                return Ok(place);
            }
        }
        Err(Refusal::Stale.into())
    }
}
