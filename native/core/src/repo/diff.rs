//! What is different between two revisions, entry by entry in the order of paths.
//!
//! Nested catalogs that both revisions have are not looked into. Memory is bounded by the catalogs on the way to one
//! entry, whatever the size of the repository or of the difference: results come one at a time.
//!
//! Owns the comparison. Does not own how a difference is printed. Belongs to one thread at a time. Source: server.md
//! 3.12.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use nearfs_format::dirent::{EntryFlags, FileType};
use nearfs_format::hash::ContentHash;
use nearfs_format::path::RepoPath;

use super::stored::StoredCatalogs;
use crate::catalog::index::{CatalogIndex, IndexRow, RowId};
use crate::error::{Error, Result};
use crate::store::ObjectRead;

/// What happened to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another one; the letters say in what (server.md 3.12, and `O` for its owner).
    Modified(String),
}

/// One entry that is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub path: RepoPath,
    /// What happened.
    pub change: Change,
    /// What it is now; what it was, if it is gone.
    pub file_type: FileType,
    /// Size in bytes now, or as it was.
    pub size: u64,
}

/// The directory's entries in one revision.
#[derive(Debug, Clone)]
struct Place {
    index: Arc<CatalogIndex>,
    rows: Range<u32>,
}

impl Place {
    fn next(&self) -> Option<RowId> {
        (!self.rows.is_empty()).then_some(RowId(self.rows.start))
    }
}

/// A directory that is being compared.
#[derive(Debug)]
struct Level {
    path: RepoPath,
    old: Option<Place>,
    new: Option<Place>,
}

/// The differences between two revisions, an iterator.
#[derive(Debug)]
pub struct Diff<S> {
    catalogs: StoredCatalogs<S>,
    levels: Vec<Level>,
    /// The second half of an entry that was exchanged for one of another type, and its directory.
    waiting: Option<(Difference, Option<Level>)>,
    entries: [[i64; 4]; 2],
}

/// Counters of a root catalog that a difference sums up: regular files, symlinks, directories, nested catalogs.
const COUNTERS: [&str; 4] = ["regular", "symlink", "dir", "nested"];

impl<S: ObjectRead> Diff<S> {
    /// Compares the revision with root catalog `from` with that of `to`.
    pub fn new(store: S, from: ContentHash, to: ContentHash) -> Result<Self> {
        let catalogs = StoredCatalogs::new(store);
        let (old, new) = (catalogs.root(from)?, catalogs.root(to)?);
        let counted = |index: &CatalogIndex| {
            COUNTERS.map(|name| index.counter(&format!("self_{name}")) + index.counter(&format!("subtree_{name}")))
        };
        let entries = [counted(&old), counted(&new)];
        let place = |index: Arc<CatalogIndex>| Place { rows: index.children(RowId::ROOT), index };
        let root = Level { path: RepoPath::root(), old: Some(place(old)), new: Some(place(new)) };
        Ok(Self { catalogs, levels: vec![root], waiting: None, entries })
    }

    /// Returns how many more regular files, symlinks, directories and nested catalogs there are.
    pub fn growth(&self) -> [i64; 4] {
        let [old, new] = self.entries;
        std::array::from_fn(|at| new[at] - old[at])
    }

    fn step(&mut self) -> Result<Option<Difference>> {
        if let Some((difference, level)) = self.waiting.take() {
            self.levels.extend(level);
            return Ok(Some(difference));
        }
        while let Some(level) = self.levels.last_mut() {
            let (left, right) = (level.old.as_ref().and_then(Place::next), level.new.as_ref().and_then(Place::next));
            let order = match (left.zip(level.old.as_ref()), right.zip(level.new.as_ref())) {
                (None, None) => {
                    self.levels.pop();
                    continue;
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((left, old)), Some((right, new))) => old.index.name(left).cmp(new.index.name(right)),
            };
            let old = left.filter(|_| order.is_le()).and_then(|row| taken(level.old.as_mut(), row));
            let new = right.filter(|_| order.is_ge()).and_then(|row| taken(level.new.as_mut(), row));
            let name = old.as_ref().or(new.as_ref()).map(|(index, row)| index.name(*row).to_vec()).unwrap_or_default();
            let path = level.path.join(&name).map_err(|e| Error::format("compare", level.path.to_string(), e))?;
            if let Some(difference) = self.compare(path, old, new)? {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    fn compare(&mut self, path: RepoPath, old: Option<Found>, new: Option<Found>) -> Result<Option<Difference>> {
        let told = |found: &Found, change| {
            let row = found.0.row(found.1);
            Difference { path: path.clone(), change, file_type: row.file_type, size: row.size }
        };
        match (old, new) {
            (Some(old), Some(new)) if kind(&old) == kind(&new) => {
                let letters = letters(&old, &new);
                let is_same_catalog = nested_hash(&old).is_some_and(|hash| nested_hash(&new) == Some(hash));
                if !is_same_catalog {
                    let level = self.level(&path, Some(&old), Some(&new))?;
                    self.levels.extend(level);
                }
                Ok((!letters.is_empty()).then(|| told(&new, Change::Modified(letters))))
            }
            (Some(old), Some(new)) => {
                let added = told(&new, Change::Added);
                self.waiting = Some((added, self.level(&path, None, Some(&new))?));
                let level = self.level(&path, Some(&old), None)?;
                self.levels.extend(level);
                Ok(Some(told(&old, Change::Removed)))
            }
            (Some(old), None) => {
                let level = self.level(&path, Some(&old), None)?;
                self.levels.extend(level);
                Ok(Some(told(&old, Change::Removed)))
            }
            (None, Some(new)) => {
                let level = self.level(&path, None, Some(&new))?;
                self.levels.extend(level);
                Ok(Some(told(&new, Change::Added)))
            }
            (None, None) => Ok(None),
        }
    }

    /// Returns the directory's entries, `None` for what is no directory.
    fn level(&self, path: &RepoPath, old: Option<&Found>, new: Option<&Found>) -> Result<Option<Level>> {
        let is_directory = |found: &&Found| kind(found) == FileType::Directory;
        let old = old.filter(is_directory).map(|found| self.enter(found)).transpose()?;
        let new = new.filter(is_directory).map(|found| self.enter(found)).transpose()?;
        Ok((old.is_some() || new.is_some()).then(|| Level { path: path.clone(), old, new }))
    }

    fn enter(&self, (index, row): &Found) -> Result<Place> {
        let Some(nested) = index.nested(*row) else {
            return Ok(Place { index: Arc::clone(index), rows: index.children(*row) });
        };
        let index = self.catalogs.load(nested)?;
        Ok(Place { rows: index.children(RowId::ROOT), index })
    }
}

impl<S: ObjectRead> Iterator for Diff<S> {
    type Item = Result<Difference>;

    /// Returns the next difference; after an error there is nothing more to come.
    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().transpose();
        if let Some(Err(_)) = step {
            self.levels.clear();
        }
        step
    }
}

type Found = (Arc<CatalogIndex>, RowId);

/// Moves on behind `row`, and returns it with its catalog.
fn taken(place: Option<&mut Place>, row: RowId) -> Option<Found> {
    let place = place?;
    place.rows.start += 1;
    Some((Arc::clone(&place.index), row))
}

fn kind((index, row): &Found) -> FileType {
    index.row(*row).file_type
}

fn nested_hash((index, row): &Found) -> Option<ContentHash> {
    index.nested(*row).map(|nested| nested.hash)
}

/// Returns the letters of what is different, in the order of server.md 3.12; directories have no size of their own.
fn letters(old: &Found, new: &Found) -> String {
    let ((old_index, old_row), (new_index, new_row)) = (old, new);
    let (before, after) = (old_index.row(*old_row), new_index.row(*new_row));
    let is_directory = after.file_type == FileType::Directory;
    let flag = |mask| before.flags.has(mask) != after.flags.has(mask);
    let chunks = |index: &CatalogIndex, row| index.chunks(row).ok().flatten();
    let has_other_content =
        !is_directory && (before.hash != after.hash || chunks(old_index, *old_row) != chunks(new_index, *new_row));
    let told: [(char, bool); 14] = [
        ('I', before.hardlinks.linkcount != after.hardlinks.linkcount),
        ('S', !is_directory && before.size != after.size),
        ('M', before.mode != after.mode),
        ('T', time(before) != time(after)),
        ('L', old_index.symlink(*old_row) != new_index.symlink(*new_row)),
        ('C', has_other_content),
        ('G', before.hardlinks.group != after.hardlinks.group),
        ('N', nested_hash(old).is_some() != nested_hash(new).is_some()),
        ('P', flag(EntryFlags::CHUNKED)),
        ('X', old_index.xattrs(*old_row) != new_index.xattrs(*new_row)),
        ('E', flag(EntryFlags::EXTERNAL)),
        ('B', flag(EntryFlags::BIND_MOUNTPOINT)),
        ('H', flag(EntryFlags::HIDDEN)),
        ('D', flag(EntryFlags::DIRECT_IO)),
    ];
    let owner = (before.owner != after.owner).then_some('O');
    told.into_iter().filter_map(|(letter, is_told)| is_told.then_some(letter)).chain(owner).collect()
}

fn time(row: &IndexRow) -> (i64, u32) {
    (row.mtime, row.mtime_ns)
}
