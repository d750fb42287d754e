//! The packs of one catalog: which files lie in which, and which packs are worth asking for.
//!
//! That of a file that is waited for; the next ones of its kind once half of a pack was read, or a second pack is met by
//! somebody who reads on in what comes, twice as many each time; and many at once for somebody who listed most
//! directories before. No more in advance than what was read is worth. Pure.

use std::collections::{HashMap, HashSet};

use nearfs_format::dirent::{EntryFlags, FileType};
use nearfs_format::pack_table::{PackTable, kind_of};
use parking_lot::Mutex;

use crate::catalog::index::{CatalogIndex, RowId};

/// Bytes of packs of a catalog in advance, and what each file of theirs that was read is worth, in files: who reads one of
/// many is better off with that one.
const IN_ADVANCE_BYTES: u64 = 512 << 10;
const FOR_EACH_READ: u64 = 4;
/// Who meets so many packs, and read so many files for each of them, is not done with a few.
const MET_MIN: u32 = 2;
const READ_OF_EACH: u32 = 2;
/// Who listed so many directories, and half of those that have packed files, looks through the whole tree.
const SWEEP_MIN: usize = 16;
/// Packs that follow one another are asked for up to this number at a time.
const NEXT_MAX: u32 = 16;

/// The packs of one catalog.
#[derive(Debug)]
pub(super) struct Packed {
    table: PackTable,
    /// For each pack, the rows of the files that it is thought to hold.
    rows: Vec<Vec<RowId>>,
    /// The directories that these files are in.
    directories: usize,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    asked: Vec<bool>,
    used: Vec<u32>,
    /// How many packs follow the next one that was half read.
    next: u32,
    /// By kind, packs that somebody had to wait for, and files that were read of packs.
    met: HashMap<Box<[u8]>, (u32, u32)>,
}

impl Packed {
    pub(super) fn new(table: PackTable, index: &CatalogIndex) -> Self {
        let count = table.packs().len();
        let (mut rows, mut directories) = (vec![Vec::new(); count], HashSet::new());
        for row in (0..index.len() as u32).map(RowId) {
            for number in numbers(&table, index, row) {
                rows[number].push(row);
                directories.insert(index.parent(row));
            }
        }
        let progress =
            Mutex::new(Progress { asked: vec![false; count], used: vec![0; count], next: 1, met: HashMap::new() });
        Self { table, rows, directories: directories.len(), progress }
    }

    /// Returns the pack that a file is thought to lie in.
    pub(super) fn number_of(&self, index: &CatalogIndex, row: RowId) -> Option<usize> {
        numbers(&self.table, index, row).next()
    }

    /// Takes note that a file was read that came in a pack; returns the packs that are worth asking for now.
    pub(super) fn used(&self, index: &CatalogIndex, number: usize) -> Vec<usize> {
        let mut progress = self.progress.lock();
        progress.used[number] += 1;
        progress.met.entry(self.kind(index, number)).or_default().1 += 1;
        let used = progress.used[number] as usize;
        if used * 2 < self.rows[number].len() || (used - 1) * 2 >= self.rows[number].len() {
            return Vec::new();
        }
        self.next(index, number, &mut progress)
    }

    /// Says whether enough was read of what packs brought so far.
    pub(super) fn is_worth_more(&self, number: usize) -> bool {
        let progress = self.progress.lock();
        let bytes = |number: usize| u64::from(self.table.packs()[number].size_bytes);
        let numbers = || 0..self.rows.len();
        let brought: u64 = numbers().filter(|number| progress.asked[*number]).map(bytes).sum();
        let a_file = |number: usize| bytes(number) / self.rows[number].len().max(1) as u64;
        let read: u64 = numbers().map(|number| u64::from(progress.used[number]) * a_file(number)).sum();
        brought + bytes(number) <= IN_ADVANCE_BYTES + read * FOR_EACH_READ
    }

    /// Takes note that a file of a pack is waited for, when `listed` directories of its catalog were listed lately; returns
    /// the packs beside it that are worth asking for now.
    pub(super) fn missed(&self, index: &CatalogIndex, number: usize, listed: usize) -> Vec<usize> {
        let mut progress = self.progress.lock();
        let met = progress.met.entry(self.kind(index, number)).or_default();
        met.0 += 1;
        let (packs, files) = *met;
        // Who looked through most directories before the first file is going to read in most of them.
        let is_sweep = listed >= SWEEP_MIN && listed * 2 >= self.directories;
        let reads_most = packs >= MET_MIN && files >= packs * READ_OF_EACH;
        if is_sweep {
            progress.next = NEXT_MAX;
        } else if reads_most {
            // In no order, each further pack is as likely to be next.
            progress.next = progress.next.max(packs * 2);
        } else {
            return Vec::new();
        }
        self.next(index, number, &mut progress)
    }

    /// Returns the packs of the same kind after one, then those before it, that were not asked for: twice as many as the
    /// last time.
    fn next(&self, index: &CatalogIndex, number: usize, progress: &mut Progress) -> Vec<usize> {
        let kind = self.kind(index, number);
        let around = (number + 1..self.rows.len()).chain((0..number).rev());
        let alike = around.filter(|next| self.kind(index, *next) == kind && !progress.asked[*next]);
        let next = alike.take(progress.next as usize).collect();
        progress.next = (progress.next * 2).min(NEXT_MAX);
        next
    }

    pub(super) const fn table(&self) -> &PackTable {
        &self.table
    }

    /// Returns the rows of the files that a pack is thought to hold.
    pub(super) fn rows(&self, number: usize) -> &[RowId] {
        &self.rows[number]
    }

    fn kind(&self, index: &CatalogIndex, number: usize) -> Box<[u8]> {
        self.rows[number].first().map_or(&b""[..], |row| kind_of(index.name(*row))).into()
    }

    pub(super) fn is_asked(&self, number: usize) -> bool {
        self.progress.lock().asked[number]
    }

    pub(super) fn set_asked(&self, number: usize, is_asked: bool) {
        self.progress.lock().asked[number] = is_asked;
    }
}

/// Returns the packs that a row's file is thought to lie in: none but for small files, whole and in the repository.
fn numbers<'t>(table: &'t PackTable, index: &CatalogIndex, row: RowId) -> impl Iterator<Item = usize> + 't {
    let entry = index.row(row);
    let has_own_object = !entry.flags.has(EntryFlags::CHUNKED) && !entry.flags.has(EntryFlags::EXTERNAL);
    let hash = entry.hash.filter(|_| entry.file_type == FileType::Regular && has_own_object && entry.size > 0);
    hash.into_iter().flat_map(|hash| table.of_object(&hash).collect::<Vec<_>>())
}
