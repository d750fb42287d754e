//! What somebody opened, each file once, in the order of first opens; and which chunks of it they read.
//!
//! Opens of a warm cache are frequent and must cost next to nothing, so a file is noted as a row of its catalog; its path
//! is put together when somebody needs it. Catalogs that are noted stay in memory, so there are few: where a sheet meets
//! more, the rows of the oldest one become paths. Pure.

use std::collections::{HashMap, VecDeque};

use nearfs_format::path::RepoPath;
use nearfs_format::trace::{OFFSETS_MAX, TraceItem};

/// Catalogs that a sheet holds on to.
const CATALOGS_MAX: usize = 4;

/// A catalog whose rows are noted.
pub(super) trait Rows: Clone {
    /// Returns what tells it from all others.
    fn catalog(&self) -> u64;

    /// Returns the path of an entry.
    fn path(&self, row: u32) -> RepoPath;
}

/// A file: its catalog, and its row there.
pub(super) type Key = (u64, u32);

/// A file whose path may have to be put together yet: outside of any lock.
#[derive(Debug)]
pub(super) enum Found<R> {
    Row(R, u32),
    Path(RepoPath),
}

impl<R: Rows> Found<R> {
    pub(super) fn path(self) -> RepoPath {
        match self {
            Self::Row(rows, row) => rows.path(row),
            Self::Path(path) => path,
        }
    }
}

#[derive(Debug)]
struct Entry {
    key: Key,
    path: Option<RepoPath>,
    offsets: Option<Vec<u64>>,
}

/// Files in the order of their first opens.
#[derive(Debug)]
pub(super) struct Sheet<R> {
    limit: usize,
    catalogs: VecDeque<R>,
    entries: Vec<Entry>,
    known: HashMap<Key, u32>,
    is_cut: bool,
}

impl<R: Rows> Sheet<R> {
    /// Begins a sheet of at most `limit` files; what is opened after them is not noted.
    pub(super) fn new(limit: usize) -> Self {
        let (catalogs, entries, known) = (VecDeque::new(), Vec::new(), HashMap::new());
        Self { limit, catalogs, entries, known, is_cut: false }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether files were left out.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Takes note of an open; says whether the file is new. `is_chunked` says that its chunks will be noted one by one.
    pub(super) fn note(&mut self, rows: &R, row: u32, is_chunked: bool) -> bool {
        let key = (rows.catalog(), row);
        if self.known.contains_key(&key) {
            return false;
        }
        if self.entries.len() >= self.limit {
            self.is_cut = true;
            return false;
        }
        if !self.catalogs.iter().any(|known| known.catalog() == key.0) {
            self.catalogs.push_back(rows.clone());
            if self.catalogs.len() > CATALOGS_MAX {
                self.let_go_of_oldest();
            }
        }
        self.known.insert(key, self.entries.len() as u32);
        self.entries.push(Entry { key, path: None, offsets: is_chunked.then(Vec::new) });
        true
    }

    /// Takes note of a chunk that is read of a file that was noted.
    pub(super) fn note_chunk(&mut self, key: Key, offset: u64) {
        let Some(entry) = self.known.get(&key).and_then(|at| self.entries.get_mut(*at as usize)) else { return };
        if let Some(offsets) = &mut entry.offsets
            && offsets.len() < OFFSETS_MAX
            && !offsets.contains(&offset)
        {
            offsets.push(offset);
        }
    }

    /// Returns the files from number `from` on.
    pub(super) fn since(&self, from: usize) -> Vec<Found<R>> {
        self.entries.iter().skip(from).filter_map(|entry| self.found(entry)).collect()
    }

    /// Returns all files with their paths. Takes about a microsecond each: not for a moment when others wait.
    pub(super) fn into_items(self) -> Vec<TraceItem> {
        let paths: Vec<Option<RepoPath>> =
            self.entries.iter().map(|entry| self.found(entry).map(Found::path)).collect();
        let entries = self.entries.into_iter().zip(paths);
        entries.filter_map(|(entry, path)| Some(TraceItem { path: path?, offsets: entry.offsets })).collect()
    }

    fn found(&self, entry: &Entry) -> Option<Found<R>> {
        if let Some(path) = &entry.path {
            return Some(Found::Path(path.clone()));
        }
        let rows = self.catalogs.iter().find(|rows| rows.catalog() == entry.key.0)?;
        Some(Found::Row(rows.clone(), entry.key.1))
    }

    fn let_go_of_oldest(&mut self) {
        let Some(rows) = self.catalogs.pop_front() else { return };
        let own = self.entries.iter_mut().filter(|entry| entry.path.is_none() && entry.key.0 == rows.catalog());
        own.for_each(|entry| entry.path = Some(rows.path(entry.key.1)));
    }
}

/// Rows for tests: of a catalog, named by their numbers.
#[cfg(test)]
#[derive(Debug, Clone)]
pub(super) struct Numbered(pub(super) u64);

#[cfg(test)]
impl Rows for Numbered {
    fn catalog(&self) -> u64 {
        self.0
    }

    fn path(&self, row: u32) -> RepoPath {
        RepoPath::parse(format!("/{}/{row}", self.0).as_bytes()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_once_in_their_order_whatever_happened_to_their_catalogs() {
        let mut sheet = Sheet::new(1000);
        let notes: Vec<(u64, u32)> = (0..200).map(|n| (u64::from(n % 23), n / 7)).collect();
        let new = notes.iter().filter(|(catalog, row)| sheet.note(&Numbered(*catalog), *row, false)).count();
        assert_eq!((sheet.len(), sheet.catalogs.len()), (new, CATALOGS_MAX));
        let mut expected: Vec<String> = Vec::new();
        for (catalog, row) in notes {
            let path = format!("/{catalog}/{row}");
            if !expected.contains(&path) {
                expected.push(path);
            }
        }
        let since: Vec<String> = sheet.since(9).into_iter().map(|found| found.path().to_string()).collect();
        assert_eq!(since, expected[9..]);
        assert_eq!(sheet.into_items().iter().map(|item| item.path.to_string()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn chunks_are_noted_of_files_that_have_them() {
        let mut sheet = Sheet::new(2);
        let rows = Numbered(1);
        assert!(sheet.note(&rows, 1, true) && sheet.note(&rows, 2, false) && !sheet.is_cut());
        assert!(!sheet.note(&rows, 3, true) && sheet.is_cut(), "no more than the limit");
        for (row, offset) in [(1, 7), (1, 0), (1, 7), (2, 5), (3, 5)] {
            sheet.note_chunk((1, row), offset);
        }
        (0..2 * OFFSETS_MAX as u64).for_each(|offset| sheet.note_chunk((1, 1), offset));
        let items = sheet.into_items();
        assert_eq!((items.len(), &items[1].offsets), (2, &None));
        let offsets = items[0].offsets.as_ref().unwrap();
        assert_eq!((&offsets[..3], offsets.len()), (&[7, 0, 1][..], OFFSETS_MAX));
    }
}
