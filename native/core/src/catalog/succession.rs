//! From the tree of one revision to the tree of the next, while the first one is in use.
//!
//! Entries that stayed what they were keep their numbers, so that what a kernel knows of them stays true: directories
//! by their path, everything else by path and content. What has another content gets a new number, and whoever has the
//! old one open keeps reading the old content. Catalogs that did not change are taken over as they are. The catalogs
//! that were entered and did change are loaded before the new tree is used: nobody waits for them afterwards, and if one
//! cannot be loaded, the old revision stays.
//!
//! Owns the comparison and the list of what a kernel must forget. Threading: one succession at a time; the old tree
//! goes on answering meanwhile, and the directories that it enters are counted, so that the caller sees whether the
//! result is complete.

use std::collections::HashMap;
use std::sync::Arc;

use nearfs_format::dirent::{EntryFlags, FileType};
use nearfs_format::hash::ContentHash;
use nearfs_format::path::RepoPath;
use parking_lot::RwLock;

use super::decoded::Slot;
use super::index::{CatalogIndex, IndexRow, RowId};
use super::numbers::Numbers;
use super::reader::NestedRow;
use super::tree::{Catalog, CatalogId, CatalogTree, Entered, Mountpoint, Start, View};
use crate::error::Result;

/// What a kernel may know of the old revision and must forget. Numbers of entries; `None` for the root directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names that lead elsewhere now, or nowhere, or lead somewhere for the first time, with their directories.
    pub names: Vec<(Option<u64>, Vec<u8>)>,
    /// Entries whose attributes or listings changed.
    pub entries: Vec<Option<u64>>,
}

/// The next tree, and what it was made from.
#[derive(Debug)]
pub struct Succession {
    /// The catalogs of the next revision.
    pub tree: CatalogTree,
    /// What changed among that which was entered.
    pub changes: Changes,
    /// How many catalogs of the old tree had been entered when they were compared.
    pub compared: usize,
}

impl CatalogTree {
    /// Makes the tree of another revision. Loads the catalogs that are needed and not there; may take as long as that.
    pub fn succeed(&self, root_hash: ContentHash, size_bytes: u64) -> Result<Succession> {
        let old: Vec<Arc<Catalog>> = self.entered.read().catalogs.clone();
        let nested = NestedRow { path: RepoPath::root(), hash: root_hash, size_bytes };
        let (slot, index) = self.shelf.load_root(&nested)?;
        let mut walk = Walk { old: self, drafts: Vec::new(), taken: HashMap::new(), changes: Changes::default() };
        walk.drafts.push(Draft::new(slot, Arc::clone(&index), None, RepoPath::root()));
        walk.compare_all(&index)?;
        walk.take_over_nested(&old);
        let Walk { drafts, changes, .. } = walk;
        Ok(Succession { tree: self.next(drafts, index), changes, compared: old.len() })
    }

    fn next(&self, drafts: Vec<Draft>, root: Arc<CatalogIndex>) -> Self {
        let generation = self.generation + 1;
        let finished: Vec<_> = (0..).zip(drafts).map(|(at, draft)| Arc::new(self.finish(at, draft))).collect();
        let root = View { catalog: Arc::clone(&finished[0]), index: root };
        let (shelf, source) = (Arc::clone(&self.shelf), Arc::clone(&self.source));
        Self { shelf, source, generation, entered: RwLock::new(Entered::of(finished)), root }
    }

    fn finish(&self, at: u32, draft: Draft) -> Catalog {
        let (numbers, since) = match draft.numbers {
            Plan::Kept(numbers, since) => (numbers, since),
            Plan::New(rows) => (Arc::new(self.numbered(rows)), self.generation + 1),
        };
        Catalog {
            id: CatalogId(at),
            hash: draft.slot.hash(),
            since,
            held: draft.index.filter(|_| draft.mountpoint.is_none()),
            slot: draft.slot,
            mountpoint: draft.mountpoint,
            numbers,
            bound_at: draft.bound_at,
        }
    }

    /// Gives new numbers to the rows that have none.
    fn numbered(&self, rows: Vec<u64>) -> Numbers {
        let without = rows.iter().filter(|number| **number == 0).count() as u64;
        let mut next = self.source.take(without);
        Numbers::of_rows(rows.into_iter().map(|number| {
            let is_new = number == 0;
            next += u64::from(is_new);
            if is_new { next - 1 } else { number }
        }))
    }
}

/// The numbers of a catalog that is to come.
enum Plan {
    /// As they were, because the catalog is the same, which that revision brought.
    Kept(Arc<Numbers>, u32),
    /// By row; 0 for a row that gets a new one.
    New(Vec<u64>),
}

/// A catalog of the next tree. Its position in the list is its position there.
struct Draft {
    slot: Arc<Slot>,
    /// Its rows; `None` where the catalog is the same, and nobody has to compare it.
    index: Option<Arc<CatalogIndex>>,
    mountpoint: Option<Mountpoint>,
    bound_at: RepoPath,
    numbers: Plan,
}

impl Draft {
    fn new(slot: Arc<Slot>, index: Arc<CatalogIndex>, mountpoint: Option<Mountpoint>, bound_at: RepoPath) -> Self {
        let numbers = Plan::New(vec![0; index.len()]);
        Self { slot, index: Some(index), mountpoint, bound_at, numbers }
    }
}

/// A directory in both revisions: where its entries lie in either.
struct Pair {
    old: View,
    old_row: RowId,
    /// Position of the draft.
    new: usize,
    new_index: Arc<CatalogIndex>,
    new_row: RowId,
    /// The directory's number.
    number: Option<u64>,
}

/// A comparison under way.
struct Walk<'t> {
    old: &'t CatalogTree,
    drafts: Vec<Draft>,
    /// Old catalogs that are the same in the new tree: their positions there.
    taken: HashMap<CatalogId, usize>,
    changes: Changes,
}

impl Walk<'_> {
    fn compare_all(&mut self, new: &Arc<CatalogIndex>) -> Result<()> {
        let (old, new_index) = (self.old.root.clone(), Arc::clone(new));
        if has_other_attributes(old.index.row(RowId::ROOT), new_index.row(RowId::ROOT)) {
            self.changes.entries.push(None);
        }
        let root = RowId::ROOT;
        let mut pairs = vec![Pair { old, old_row: root, new: 0, new_index, new_row: root, number: None }];
        while let Some(pair) = pairs.pop() {
            self.compare(&pair, &mut pairs)?;
        }
        Ok(())
    }

    /// Compares the entries of a directory, which are sorted by name in either revision.
    fn compare(&mut self, pair: &Pair, pairs: &mut Vec<Pair>) -> Result<()> {
        let (old, new) = (&pair.old.index, &pair.new_index);
        let (mut olds, mut news) = (old.children(pair.old_row), new.children(pair.new_row));
        let noted = self.changes.names.len();
        loop {
            let (left, right) = (RowId(olds.start), RowId(news.start));
            let order = match (olds.is_empty(), news.is_empty()) {
                (true, true) => break,
                (false, true) => std::cmp::Ordering::Less,
                (true, false) => std::cmp::Ordering::Greater,
                (false, false) => old.name(left).cmp(new.name(right)),
            };
            if order.is_lt() {
                self.changes.names.push((pair.number, old.name(left).to_vec()));
            } else if order.is_gt() {
                self.changes.names.push((pair.number, new.name(right).to_vec()));
            } else if let Some(number) = self.keep_number(pair, left, right) {
                if new.row(right).file_type == FileType::Directory {
                    self.descend(pair, left, right, number, pairs)?;
                }
            } else {
                self.changes.names.push((pair.number, new.name(right).to_vec()));
            }
            olds.start += u32::from(order.is_le());
            news.start += u32::from(order.is_ge());
        }
        if self.changes.names.len() > noted {
            self.changes.entries.push(pair.number);
        }
        Ok(())
    }

    /// Gives a new row the number of the old one if both are the same entry; returns the number that is shown.
    fn keep_number(&mut self, pair: &Pair, left: RowId, right: RowId) -> Option<u64> {
        let new = &pair.new_index;
        if !is_same_entry(&pair.old.index, left, new, right) {
            return None;
        }
        let raw = pair.old.catalog.numbers.of(left.0);
        let shown = pair.old.number(left);
        if let Plan::New(numbers) = &mut self.drafts[pair.new].numbers {
            numbers[right.0 as usize] = raw;
        }
        if has_other_attributes(pair.old.index.row(left), new.row(right)) {
            self.changes.entries.push(shown);
        }
        // The names of a hardlink group share the number of its first one, which may be another one now.
        let is_linked = pair.old.index.row(left).hardlinks.group != 0 || new.row(right).hardlinks.group != 0;
        if is_linked && (shown != Some(raw) || new.canonical(right) != right) {
            self.changes.names.push((pair.number, new.name(right).to_vec()));
            self.changes.entries.push(shown);
        }
        shown
    }

    /// Goes on below a directory of both revisions, as far as the old one was entered.
    fn descend(&mut self, pair: &Pair, left: RowId, right: RowId, number: u64, pairs: &mut Vec<Pair>) -> Result<()> {
        let Some((old, old_row)) = self.old.below_entered(&pair.old, left)? else { return Ok(()) };
        let Some(start) = Start::of(&pair.new_index, &self.drafts[pair.new].bound_at, right) else {
            let new_index = Arc::clone(&pair.new_index);
            pairs.push(Pair { old, old_row, new: pair.new, new_index, new_row: right, number: Some(number) });
            return Ok(());
        };
        let (slot, new_index) = start.load(&self.old.shelf)?;
        let id = CatalogId(pair.new as u32);
        let mountpoint = Some(Mountpoint { catalog: id, row: right, number, parent_number: pair.number });
        if old_row == RowId::ROOT && slot.hash() == old.catalog.hash {
            self.take_over(&old.catalog, mountpoint, start.bound_at);
            return Ok(());
        }
        let new = self.drafts.len();
        self.drafts.push(Draft::new(slot, Arc::clone(&new_index), mountpoint, start.bound_at));
        pairs.push(Pair { old, old_row, new, new_index, new_row: RowId::ROOT, number: Some(number) });
        Ok(())
    }

    fn take_over(&mut self, old: &Arc<Catalog>, mountpoint: Option<Mountpoint>, bound_at: RepoPath) {
        self.taken.insert(old.id, self.drafts.len());
        let numbers = Plan::Kept(Arc::clone(&old.numbers), old.since);
        self.drafts.push(Draft { slot: Arc::clone(&old.slot), index: None, mountpoint, bound_at, numbers });
    }

    /// Takes over what was entered below catalogs that stayed the same.
    fn take_over_nested(&mut self, old: &[Arc<Catalog>]) {
        for catalog in old {
            let Some(at) = catalog.mountpoint else { continue };
            if let Some(&parent) = self.taken.get(&at.catalog) {
                let mountpoint = Some(Mountpoint { catalog: CatalogId(parent as u32), ..at });
                self.take_over(catalog, mountpoint, catalog.bound_at.clone());
            }
        }
    }
}

/// Says whether two rows are the same entry to a kernel: what it may keep of the one is true of the other but for the
/// attributes.
fn is_same_entry(old: &CatalogIndex, left: RowId, new: &CatalogIndex, right: RowId) -> bool {
    let (before, after) = (old.row(left), new.row(right));
    if before.file_type != after.file_type {
        return false;
    }
    match before.file_type {
        FileType::Directory => true,
        FileType::Symlink => old.symlink(left) == new.symlink(right),
        FileType::Regular => {
            // A bundle that came or went changes what is fetched ahead, and nothing that a kernel holds.
            let flags = |row: &IndexRow| row.flags.with(EntryFlags::BUNDLE_TRIGGER, false);
            (before.size, before.hash, flags(before), before.compression)
                == (after.size, after.hash, flags(after), after.compression)
                && old.chunk_rows(left) == new.chunk_rows(right)
        }
        _ => before.size == after.size,
    }
}

fn has_other_attributes(before: &IndexRow, after: &IndexRow) -> bool {
    let seen = |row: &IndexRow| (row.size, row.mtime, row.mtime_ns, row.mode, row.owner, row.hardlinks.linkcount);
    seen(before) != seen(after)
}
