//! Inode numbers: a running number over the rows of the loaded catalogs.
//!
//! The root directory is 1; row `r` of a catalog before which `n` rows were loaded is `256 + n + r`. A directory where
//! a nested catalog starts keeps its number in the parent catalog, all names of a hardlink group share one, and so a
//! number is computed, never stored: there is nothing to forget. Immutable; shared without locks of its own.

use std::sync::Arc;

use crate::catalog::index::RowId;
use crate::catalog::tree::{Catalog, CatalogTree};

use super::types::Ino;

/// Numbers below are the root directory, as in the reference client.
const FIRST_INO: u64 = 256;

/// Returns the inode number of an entry.
pub(super) fn ino(catalog: &Catalog, row: RowId) -> Ino {
    if row == RowId::ROOT {
        return match &catalog.mountpoint {
            None => Ino::ROOT,
            Some((parent, row)) => ino(parent, *row),
        };
    }
    Ino(FIRST_INO + catalog.rows_before + u64::from(catalog.index.canonical(row).0))
}

/// Returns the entry behind an inode number, if it was ever given out.
pub(super) fn entry(tree: &CatalogTree, ino: Ino) -> Option<(Arc<Catalog>, RowId)> {
    match ino.0.checked_sub(FIRST_INO) {
        None => Some((tree.root(), RowId::ROOT)),
        Some(number) => tree.row_number(number),
    }
}

/// Returns the inode number of the directory that holds an entry.
pub(super) fn parent_ino(catalog: &Catalog, row: RowId) -> Ino {
    match (&catalog.mountpoint, row) {
        (Some((parent, row)), RowId::ROOT) => parent_ino(parent, *row),
        _ => ino(catalog, catalog.index.parent(row)),
    }
}
