//! A catalog's rows as the planners see them: which are small files, which are small catalogs.
//!
//! Pure views; owns the sizes up to which something is guessed.

use std::ops::Range;

use nearfs_format::dirent::{EntryFlags, FileType};

use super::neighbours::{Rows, SMALL_BYTES};
use crate::cache::{Place, Want};
use crate::catalog::content::Content;
use crate::catalog::index::{CatalogIndex, RowId};
use crate::catalog::tree::View;

/// Larger catalogs are not guessed.
pub(super) const SMALL_CATALOG_BYTES: u64 = 1 << 20;

/// Returns what tells a catalog from all others, also from those of earlier revisions.
pub(super) fn catalog_key(view: &View) -> u64 {
    u64::from(view.catalog.since) << 32 | u64::from(view.catalog.id.0)
}

/// Returns the want of a file that may be guessed: one object of the repository.
pub(super) fn guessable(content: Content) -> Option<Want> {
    match content {
        Content::Whole(want) if want.place == Place::Data => Some(want),
        _ => None,
    }
}

/// A catalog's files, for the planners.
pub(super) struct Files<'a>(pub(super) &'a CatalogIndex);

impl Rows for Files<'_> {
    fn parent(&self, row: u32) -> u32 {
        self.0.parent(RowId(row)).0
    }

    fn children(&self, row: u32) -> Range<u32> {
        self.0.children(RowId(row))
    }

    fn child(&self, row: u32, name: &[u8]) -> Option<u32> {
        self.0.child(RowId(row), name).map(|row| row.0)
    }

    fn name(&self, row: u32) -> &[u8] {
        self.0.name(RowId(row))
    }

    fn size(&self, row: u32) -> u64 {
        self.0.row(RowId(row)).size
    }

    fn is_small_file(&self, row: u32) -> bool {
        let entry = self.0.row(RowId(row));
        let is_plain = entry.file_type == FileType::Regular && !entry.flags.has(EntryFlags::CHUNKED);
        is_plain && (1..=SMALL_BYTES).contains(&entry.size)
    }
}

/// The directories of a catalog where small nested catalogs start: of one kind, whatever they are called.
pub(super) struct Mountpoints<'a>(pub(super) &'a CatalogIndex);

impl Rows for Mountpoints<'_> {
    fn parent(&self, row: u32) -> u32 {
        self.0.parent(RowId(row)).0
    }

    fn children(&self, row: u32) -> Range<u32> {
        self.0.children(RowId(row))
    }

    fn child(&self, row: u32, name: &[u8]) -> Option<u32> {
        self.0.child(RowId(row), name).map(|row| row.0)
    }

    fn name(&self, _row: u32) -> &[u8] {
        b""
    }

    fn size(&self, row: u32) -> u64 {
        self.0.nested(RowId(row)).map_or(0, |nested| nested.size_bytes)
    }

    fn is_small_file(&self, row: u32) -> bool {
        self.0.nested(RowId(row)).is_some_and(|nested| (1..=SMALL_CATALOG_BYTES).contains(&nested.size_bytes))
    }
}
