//! Who reads the small files of a directory, or of directories side by side, one after the other; and which come next.
//!
//! Pure: no I/O, no clock. Directories with the same parent are a family. What is guessed are files of a kind (an ending
//! like `.lua`) that was asked for, not larger than [`SMALL_BYTES`]:
//!
//! * of the directory itself, once two of its files had to be waited for, or one was read where somebody read two files
//!   of the kind in another directory of the catalog: those after the last one, then those before it; or, where they are
//!   not read in the order of the listing, the smallest first. As many as the directory's
//!   window says may be unused at a time; it doubles with each file that is read there, and stays as it is while many
//!   lie unused and others are asked for;
//! * all of the directory at the first of them that is asked for, where they are few and small: twice in advance,
//!   and again for each of them that was used;
//! * of the next directories, then of those before, once two files of one directory or three of a family had to be waited
//!   for. The family's window grows by each guess that is used, halves when a directory is left of which most was not
//!   read, or something had to be waited for while guesses lie unused; it is four times as large with each directory
//!   that was read as good as whole, since whoever does that reads the next one too, in whatever order.
//!
//! Threading: under the lock of whoever owns it.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use nearfs_format::pack_table::kind_of;

/// Larger files are not guessed: one in vain would cost as much as a hundred others.
pub const SMALL_BYTES: u64 = 256 << 10;
/// Guesses that lie unused, at first: of a family,
const WINDOW_START: usize = 8;
/// of a directory where one file was read of a kind of which others are read by more than one,
const KNOWN_WINDOW_START: usize = 48;
/// and of a directory where two had to be waited for.
const OWN_WINDOW_START: usize = 96;
/// And at most.
const WINDOW_MAX: usize = 1024;
/// Kinds of a catalog that somebody is known to read by more than one.
const READERS_MAX: usize = 64;
/// Content of the guesses in one directory that are made at a time, at first: it doubles with the window.
const OWN_WINDOW_BYTES: u64 = 2 << 20;
/// A directory is brought whole at its first file if its files of the kind have no more content, and are no more.
const BOLD_BYTES: u64 = 640 << 10;
const BOLD_FILES: usize = 128;
/// Directories that are brought whole in advance, and the most that others can earn.
const BOLD_START: u32 = 2;
const BOLD_MAX: u32 = 8;
/// So many files read in the order of the listing are no chance.
const IN_ORDER_AFTER: u32 = 4;
/// A directory's window doubles so often at most.
const DOUBLINGS_MAX: u32 = 4;
/// So many unused guesses in a directory are many.
const MANY_UNUSED: usize = 128;
/// Families that are watched; the one that was idle for longest goes.
const FAMILIES_MAX: usize = 64;
/// Rows that are looked at for one plan.
const LOOKED_AT_MAX: usize = 4096;
/// Rows that a family remembers to have guessed or found.
const SEEN_MAX: usize = 1 << 16;
/// Directories that a family remembers: a program reads one amid another.
const DIRECTORIES_MAX: usize = 8;
/// Endings that a family remembers.
const KINDS_MAX: usize = 8;

/// The rows of a catalog, as far as planning needs them.
pub trait Rows {
    /// Returns the directory of an entry; the root row's is itself.
    fn parent(&self, row: u32) -> u32;
    /// Returns a directory's entries in listing order; empty for everything else.
    fn children(&self, row: u32) -> Range<u32>;
    /// Returns the entry of that name in a directory.
    fn child(&self, row: u32, name: &[u8]) -> Option<u32> {
        self.children(row).find(|child| self.name(*child) == name)
    }
    /// Returns an entry's name.
    fn name(&self, row: u32) -> &[u8];
    /// Returns the size of an entry's content in bytes.
    fn size(&self, row: u32) -> u64;
    /// Says whether an entry is a small regular file, stored whole.
    fn is_small_file(&self, row: u32) -> bool;
}

/// Which family: its catalog, and the row of the directory above.
pub type FamilyKey = (u64, u32);

/// A directory of a family in which something was read.
#[derive(Debug, Default)]
struct Directory {
    row: u32,
    misses: u32,
    reads: u32,
    doublings: u32,
    /// Files of the kind that is read here were read by more than one in another directory.
    has_known_reader: bool,
    /// Guesses that were made here and not used yet.
    unused: usize,
    /// It was brought whole at its first file.
    is_bold: bool,
    /// Its files were read in the order of the listing so far.
    is_in_order: bool,
    last_read: u32,
}

#[derive(Debug)]
struct Family {
    key: FamilyKey,
    /// The one that was read last is last.
    directories: VecDeque<Directory>,
    misses: u32,
    /// Two files of one directory, or three of the family, had to be waited for.
    is_going: bool,
    /// Directories in a row that were read as good as whole.
    whole: u32,
    window: usize,
    /// Guesses that were made and not used yet.
    unused: usize,
    kinds: Vec<Box<[u8]>>,
    seen: HashSet<u32>,
}

/// Everybody who reads files one after the other.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// The one that was active last is last.
    families: VecDeque<Family>,
    /// Kinds, each in a catalog, of which somebody read two files in one directory. The one found last is first.
    readers: VecDeque<(u64, Box<[u8]>)>,
    /// Directories that may be brought whole, less two.
    earned: u32,
    spent: u32,
}

/// What made somebody plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A file had to be waited for.
    Missed,
    /// A guess was of use.
    Used,
}

impl Neighbours {
    /// Takes note of an event at the file in `row`; returns the rows that may be guessed now, best first.
    pub fn plan(&mut self, catalog: u64, rows: &impl Rows, row: u32, event: Event) -> Vec<u32> {
        let directory = rows.parent(row);
        let key = (catalog, rows.parent(directory));
        let kind = kind_of(rows.name(row));
        let has_known_reader = self.readers.iter().any(|(at, known)| *at == catalog && **known == *kind);
        let family = family(&mut self.families, key);
        let reads = family.note(rows, row, event, has_known_reader);
        if reads == 2 && !has_known_reader {
            self.readers.truncate(READERS_MAX - 1);
            self.readers.push_front((catalog, kind.into()));
        }
        let Some(entered) = family.directories.back_mut() else { return Vec::new() };
        if event == Event::Used && entered.is_bold {
            self.earned = (self.earned + 1).min(self.spent + BOLD_MAX);
        }
        let is_first = entered.reads == 1 || (event == Event::Missed && entered.misses == 1);
        if is_first && !entered.is_bold && self.spent < self.earned + BOLD_START {
            let like_it = rows.children(directory).take(BOLD_FILES * 4);
            let like_it: Vec<u32> =
                like_it.filter(|at| rows.is_small_file(*at) && kind_of(rows.name(*at)) == kind).collect();
            let bytes: u64 = like_it.iter().map(|at| rows.size(*at)).sum();
            if (2..=BOLD_FILES).contains(&like_it.len()) && bytes <= BOLD_BYTES {
                entered.is_bold = true;
                self.spent += 1;
                return like_it.into_iter().filter(|at| !family.seen.contains(at)).collect();
            }
        }
        let own = entered.room();
        let mut own_bytes = OWN_WINDOW_BYTES << entered.doublings;
        let others = if family.is_going { family.window.saturating_sub(family.unused) } else { 0 };
        if own + others == 0 {
            return Vec::new();
        }
        let is_in_order = entered.is_in_order;
        let fits = |at: &u32| rows.is_small_file(*at) && family.knows_kind(rows.name(*at)) && !family.seen.contains(at);
        let (mut here, elsewhere): (Vec<u32>, Vec<u32>) =
            around(rows, row).take(LOOKED_AT_MAX).filter(fits).partition(|at| rows.parent(*at) == directory);
        // Each saves a round trip, and the smallest costs least. Whether the listing's order counts shows after a few.
        let in_listing_order = if !is_in_order {
            0
        } else if reads < IN_ORDER_AFTER {
            own / 2
        } else {
            own
        };
        let by_size = in_listing_order.min(here.len());
        here[by_size..].sort_by_key(|at| rows.size(*at));
        here.truncate(own);
        here.retain(|at| {
            let has_room = own_bytes >= rows.size(*at);
            own_bytes = own_bytes.saturating_sub(rows.size(*at));
            has_room
        });
        here.into_iter().chain(elsewhere.into_iter().take(others)).collect()
    }

    /// Takes note of what came of a row that was planned: guessed, or there already.
    pub fn planned(&mut self, catalog: u64, rows: &impl Rows, row: u32, is_guessed: bool) {
        let directory = rows.parent(row);
        let key = (catalog, rows.parent(directory));
        if let Some(family) = self.families.iter_mut().rev().find(|family| family.key == key) {
            family.seen.insert(row);
            family.unused += usize::from(is_guessed);
            if let Some(own) = family.directories.iter_mut().rev().find(|own| own.row == directory) {
                own.unused += usize::from(is_guessed);
            }
        }
    }
}

/// Returns a family, which is the one that was active last from now on.
fn family(families: &mut VecDeque<Family>, key: FamilyKey) -> &mut Family {
    let found = families.iter().rposition(|family| family.key == key);
    let family = found.and_then(|at| families.remove(at)).unwrap_or_else(|| Family::new(key));
    if families.len() >= FAMILIES_MAX {
        families.pop_front();
    }
    families.push_back(family);
    let last = families.len() - 1;
    &mut families[last]
}

impl Directory {
    /// Returns how many guesses of this directory may lie unused.
    fn window(&self) -> usize {
        let start = match self.misses {
            0 | 1 if self.has_known_reader => KNOWN_WINDOW_START,
            0 | 1 => 0,
            _ => OWN_WINDOW_START,
        };
        start << self.doublings
    }

    fn room(&self) -> usize {
        self.window().saturating_sub(self.unused)
    }

    fn note(&mut self, event: Event) {
        self.reads += 1;
        match event {
            Event::Used => self.unused = self.unused.saturating_sub(1),
            Event::Missed => self.misses += 1,
        }
        let is_in_vain = event == Event::Missed && self.unused >= MANY_UNUSED;
        if self.window() > 0 && !is_in_vain {
            self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
        }
    }
}

impl Family {
    fn new(key: FamilyKey) -> Self {
        Self {
            key,
            directories: VecDeque::new(),
            misses: 0,
            is_going: false,
            whole: 0,
            window: WINDOW_START,
            unused: 0,
            kinds: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Takes note of an event; returns how many files were read in the directory.
    fn note(&mut self, rows: &impl Rows, row: u32, event: Event, has_known_reader: bool) -> u32 {
        let (reads, misses) = self.enter(rows, rows.parent(row), row, event, has_known_reader);
        let kind = kind_of(rows.name(row));
        if !self.kinds.iter().any(|known| **known == *kind) {
            self.kinds.truncate(KINDS_MAX - 1);
            self.kinds.insert(0, kind.into());
        }
        if self.seen.len() >= SEEN_MAX {
            self.seen.clear();
        }
        self.seen.insert(row);
        match event {
            Event::Used => {
                self.unused = self.unused.saturating_sub(1);
                self.window = (self.window + 1).min(WINDOW_MAX);
            }
            Event::Missed => {
                if self.is_going && self.whole < 2 && self.unused >= self.window.div_ceil(2) {
                    self.window = (self.window / 2).max(1);
                }
                self.misses += 1;
                self.is_going |= misses >= 2 || self.misses >= 3;
            }
        }
        reads
    }

    /// Takes note of an event in a directory; returns how many of its files were read, and had to be waited for.
    fn enter(&mut self, rows: &impl Rows, row: u32, file: u32, event: Event, has_known_reader: bool) -> (u32, u32) {
        let known = self.directories.iter().rposition(|directory| directory.row == row);
        let known = known.and_then(|at| self.directories.remove(at));
        let mut directory = known.unwrap_or_else(|| {
            self.leave(rows);
            Directory { row, has_known_reader, is_in_order: true, ..Directory::default() }
        });
        directory.is_in_order &= file > directory.last_read;
        directory.last_read = file;
        directory.note(event);
        let counts = (directory.reads, directory.misses);
        if self.directories.len() >= DIRECTORIES_MAX {
            self.directories.pop_front();
        }
        self.directories.push_back(directory);
        counts
    }

    /// Learns from what was read of the last directory, which is left for one that was not read before.
    fn leave(&mut self, rows: &impl Rows) {
        let Some(last) = self.directories.back() else { return };
        let children = rows.children(last.row).take(LOOKED_AT_MAX);
        let files = children.filter(|at| rows.is_small_file(*at) && self.knows_kind(rows.name(*at))).count();
        if last.reads as usize * 4 >= files * 3 {
            self.whole += 1;
            if self.whole >= 2 {
                self.window = (self.window * 4).min(WINDOW_MAX);
            }
        } else {
            self.whole = 0;
            self.window = (self.window / 2).max(1);
        }
    }

    fn knows_kind(&self, name: &[u8]) -> bool {
        let kind = kind_of(name);
        self.kinds.iter().any(|known| **known == *kind)
    }
}

/// Returns the entries of a file's directory after it, before it, then those of the directories after its own, then of
/// those before.
fn around<R: Rows>(rows: &R, row: u32) -> impl Iterator<Item = u32> + '_ {
    let directory = rows.parent(row);
    let own = rows.children(directory);
    let above = rows.children(rows.parent(directory));
    let has_siblings = above.contains(&directory);
    let siblings =
        if has_siblings { (directory + 1..above.end).chain(above.start..directory) } else { (0..0).chain(0..0) };
    (row + 1..own.end).chain(own.start..row).chain(siblings.flat_map(|sibling| rows.children(sibling)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `directories` directories of `files` files below a root; rows breadth first, as in a catalog.
    pub(in crate::prefetch) struct Tree {
        directories: u32,
        files: u32,
        names: Vec<Vec<u8>>,
    }

    impl Tree {
        pub(in crate::prefetch) fn new(directories: u32, files: u32, name: impl Fn(u32) -> String) -> Self {
            let total = 1 + directories * (1 + files);
            Self { directories, files, names: (0..total).map(|row| name(row).into_bytes()).collect() }
        }

        pub(in crate::prefetch) fn file(&self, directory: u32, number: u32) -> u32 {
            1 + self.directories + directory * self.files + number
        }
    }

    impl Rows for Tree {
        fn parent(&self, row: u32) -> u32 {
            if row <= self.directories { 0 } else { 1 + (row - 1 - self.directories) / self.files }
        }
        fn children(&self, row: u32) -> Range<u32> {
            match row {
                0 => 1..1 + self.directories,
                row if row <= self.directories => self.file(row - 1, 0)..self.file(row, 0),
                _ => 0..0,
            }
        }
        fn name(&self, row: u32) -> &[u8] {
            &self.names[row as usize]
        }
        fn size(&self, _row: u32) -> u64 {
            3000
        }
        fn is_small_file(&self, row: u32) -> bool {
            row > self.directories
        }
    }

    /// A tree whose directories have no siblings: each is its own parent.
    struct Packages<'a>(&'a Tree);

    impl Rows for Packages<'_> {
        fn parent(&self, row: u32) -> u32 {
            if row <= self.0.directories { row } else { self.0.parent(row) }
        }
        fn children(&self, row: u32) -> Range<u32> {
            if row == 0 { 0..0 } else { self.0.children(row) }
        }
        fn name(&self, row: u32) -> &[u8] {
            self.0.name(row)
        }
        fn size(&self, row: u32) -> u64 {
            self.0.size(row)
        }
        fn is_small_file(&self, row: u32) -> bool {
            self.0.is_small_file(row)
        }
    }

    /// Reads `order`; returns how many files had to be waited for, and how many guesses were of no use.
    fn read(tree: &Tree, order: impl IntoIterator<Item = u32>) -> (usize, usize) {
        let (mut planner, mut there, mut missed) = (Neighbours::default(), HashSet::new(), 0);
        for row in order {
            let event = if there.remove(&row) { Event::Used } else { Event::Missed };
            missed += usize::from(event == Event::Missed);
            for guess in planner.plan(1, tree, row, event) {
                assert!(tree.is_small_file(guess) && guess != row);
                planner.planned(1, tree, guess, true);
                assert!(there.insert(guess), "guessed twice");
            }
        }
        (missed, there.len())
    }

    /// Returns the numbers below `count` in an order without a pattern.
    fn shuffled(count: u32) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..count).collect();
        numbers.sort_unstable_by_key(|number| (u64::from(*number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
        numbers
    }

    #[test]
    fn directories_read_whole_come_along_in_whatever_order() {
        let tree = Tree::new(260, 4, |row| format!("{row}.lua"));
        let order = shuffled(260).into_iter().flat_map(|directory| (0..4).map(move |n| (directory, n)));
        let (missed, wasted) = read(&tree, order.map(|(directory, n)| tree.file(directory, n)));
        assert!(missed <= 20, "{missed}");
        assert_eq!(wasted, 0);
    }

    #[test]
    fn files_of_one_directory_come_along_in_whatever_order() {
        let tree = Tree::new(1, 200, |row| format!("{row}.pyc"));
        let (missed, wasted) = read(&tree, shuffled(200).into_iter().take(50).map(|n| tree.file(0, n)));
        assert!(missed <= 12, "{missed}");
        assert!(wasted <= 150, "{wasted}");
    }

    #[test]
    fn a_walk_in_listing_order_waits_for_two_or_three_files() {
        let tree = Tree::new(1, 1000, |row| format!("{row}.lua"));
        assert_eq!(read(&tree, (0..1000).map(|n| tree.file(0, n))), (2, 0));
        let tree = Tree::new(260, 4, |row| format!("{row}.lua"));
        let (missed, wasted) = read(&tree, (0..1040).map(|n| tree.file(n / 4, n % 4)));
        assert!((1..=4).contains(&missed) && wasted == 0, "{missed} {wasted}");
        let tree = Tree::new(500, 1, |row| format!("{row}.lua"));
        assert_eq!(read(&tree, (0..500).map(|n| tree.file(n, 0))), (3, 0));
    }

    #[test]
    fn who_reads_small_directories_waits_for_one_file_of_each() {
        let tree = Tree::new(40, 6, |row| format!("{row}.pyc"));
        let far_apart = [3, 11, 30].into_iter().flat_map(|directory| (0..6).map(move |n| (directory, n)));
        let (mut planner, mut there, mut missed) = (Neighbours::default(), HashSet::<u32>::new(), Vec::new());
        for (directory, n) in far_apart {
            // Each directory in a family of its own, as packages are.
            let row = tree.file(directory, n);
            let is_there = there.remove(&row);
            missed.extend((!is_there).then_some((directory, n)));
            let guesses = planner.plan(1, &Packages(&tree), row, if is_there { Event::Used } else { Event::Missed });
            there.extend(guesses.iter().inspect(|guess| planner.planned(1, &Packages(&tree), **guess, true)));
        }
        assert_eq!(missed, [(3, 0), (11, 0), (30, 0)]);
    }

    #[test]
    fn one_file_of_each_large_directory_is_given_up() {
        let tree = Tree::new(300, 50, |row| format!("{row}.lua"));
        let (missed, wasted) = read(&tree, (0..300).map(|n| tree.file(n, 7)));
        assert!(missed >= 290, "{missed}");
        assert!(wasted <= BOLD_START as usize * 49, "{wasted} guesses in vain");
    }

    #[test]
    fn files_of_another_kind_are_left_alone() {
        let tree = Tree::new(1, 200, |row| if row % 2 == 0 { format!("{row}.pyc") } else { format!("{row}.py") });
        let even: Vec<u32> = (0..200).map(|n| tree.file(0, n)).filter(|row| row % 2 == 0).collect();
        assert_eq!(read(&tree, even), (1, 0), "the directory is brought whole, but for the others");
    }

    #[test]
    fn far_apart_files_start_nothing() {
        let tree = Tree::new(2, 1, |row| row.to_string());
        assert_eq!(read(&tree, [tree.file(0, 0), tree.file(1, 0)]), (2, 0));
    }

    #[test]
    fn memory_has_a_bound() {
        let tree = Tree::new(1, 4, |row| row.to_string());
        let mut planner = Neighbours::default();
        for catalog in 0..1000 {
            planner.plan(catalog, &tree, tree.file(0, 0), Event::Missed);
        }
        assert_eq!(planner.families.len(), FAMILIES_MAX);
    }
}
