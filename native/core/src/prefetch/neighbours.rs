//! Who reads the small files of a directory, or of directories side by side, one after the other; and which come next.
//!
//! Pure: no I/O, no clock. Directories with the same parent are a family. Once two files of one directory, or three of
//! a family, had to be waited for, the files after the last one are guessed, then those before it, then those of the next
//! directories of the family: files of a kind (an ending like `.lua`) that was asked for, not larger than
//! [`SMALL_BYTES`]. As many as the window says may be unused at a time: it grows with each guess that is used, and
//! halves when something had to be waited for while guesses lay unused.
//!
//! Threading: under the lock of whoever owns it.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

/// Larger files are not guessed: one would cost as much as all others together.
pub const SMALL_BYTES: u64 = 256 << 10;
/// Guesses that lie unused, at first.
const WINDOW_START: usize = 8;
/// And at most.
const WINDOW_MAX: usize = 256;
/// Families that are watched; the one that was idle for longest goes.
const FAMILIES_MAX: usize = 64;
/// Rows that are looked at for one plan.
const LOOKED_AT_MAX: usize = 2048;
/// Rows that a family remembers to have guessed or found.
const SEEN_MAX: usize = 1 << 16;
/// Endings that a family remembers.
const KINDS_MAX: usize = 8;

/// The rows of a catalog, as far as planning needs them.
pub trait Rows {
    /// Returns the directory of an entry; the root row's is itself.
    fn parent(&self, row: u32) -> u32;
    /// Returns a directory's entries in listing order; empty for everything else.
    fn children(&self, row: u32) -> Range<u32>;
    /// Returns an entry's name.
    fn name(&self, row: u32) -> &[u8];
    /// Says whether an entry is a small regular file, stored whole.
    fn is_small_file(&self, row: u32) -> bool;
}

/// Which family: its catalog, and the row of the directory above.
pub type FamilyKey = (u64, u32);

#[derive(Debug)]
struct Family {
    key: FamilyKey,
    last_directory: u32,
    misses_in_directory: u32,
    misses: u32,
    /// Two files of one directory, or three of the family, had to be waited for.
    is_going: bool,
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
    /// Takes note of an event at the file in `row`; returns the rows that may be guessed now, best first, and how many
    /// of them at most.
    pub fn plan(&mut self, catalog: u64, rows: &impl Rows, row: u32, event: Event) -> (Vec<u32>, usize) {
        let directory = rows.parent(row);
        let key = (catalog, rows.parent(directory));
        let family = self.family(key, directory);
        family.note(directory, rows.name(row), row, event);
        let room = family.window.saturating_sub(family.unused);
        if !family.is_going || room == 0 {
            return (Vec::new(), 0);
        }
        let candidates = around(rows, row)
            .take(LOOKED_AT_MAX)
            .filter(|at| rows.is_small_file(*at) && family.knows_kind(rows.name(*at)) && !family.seen.contains(at));
        // Some of them will turn out to be there.
        (candidates.take(room * 2).collect(), room)
    }

    /// Takes note of what came of a row that was planned: guessed, or there already.
    pub fn planned(&mut self, catalog: u64, rows: &impl Rows, row: u32, is_guessed: bool) {
        let key = (catalog, rows.parent(rows.parent(row)));
        if let Some(family) = self.families.iter_mut().rev().find(|family| family.key == key) {
            family.seen.insert(row);
            family.unused += usize::from(is_guessed);
        }
    }

    fn family(&mut self, key: FamilyKey, directory: u32) -> &mut Family {
        let found = self.families.iter().rposition(|family| family.key == key);
        let family = found.and_then(|at| self.families.remove(at)).unwrap_or_else(|| Family::new(key, directory));
        if self.families.len() >= FAMILIES_MAX {
            self.families.pop_front();
        }
        self.families.push_back(family);
        let last = self.families.len() - 1;
        &mut self.families[last]
    }
}

impl Family {
    fn new(key: FamilyKey, directory: u32) -> Self {
        Self {
            key,
            last_directory: directory,
            misses_in_directory: 0,
            misses: 0,
            is_going: false,
            window: WINDOW_START,
            unused: 0,
            kinds: Vec::new(),
            seen: HashSet::new(),
        }
    }

    fn note(&mut self, directory: u32, name: &[u8], row: u32, event: Event) {
        if directory != self.last_directory {
            (self.last_directory, self.misses_in_directory) = (directory, 0);
        }
        let kind = kind(name);
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
                if self.is_going && self.unused >= self.window.div_ceil(2) {
                    self.window = (self.window / 2).max(1);
                }
                self.misses += 1;
                self.misses_in_directory += 1;
                self.is_going |= self.misses_in_directory >= 2 || self.misses >= 3;
            }
        }
    }

    fn knows_kind(&self, name: &[u8]) -> bool {
        let kind = kind(name);
        self.kinds.iter().any(|known| **known == *kind)
    }
}

/// Returns a name's ending with its dot; nothing for a version number and the like.
fn kind(name: &[u8]) -> &[u8] {
    let at = name.iter().rposition(|byte| *byte == b'.');
    match at.map(|at| &name[at..]) {
        Some(ending) if ending.get(1).is_some_and(u8::is_ascii_alphabetic) => ending,
        _ => b"",
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
mod tests {
    use super::*;

    /// `directories` directories of `files` files below a root; rows breadth first, as in a catalog.
    struct Tree {
        directories: u32,
        files: u32,
        names: Vec<Vec<u8>>,
    }

    impl Tree {
        fn new(directories: u32, files: u32, name: impl Fn(u32) -> String) -> Self {
            let total = 1 + directories * (1 + files);
            Self { directories, files, names: (0..total).map(|row| name(row).into_bytes()).collect() }
        }

        fn file(&self, directory: u32, number: u32) -> u32 {
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
        fn is_small_file(&self, row: u32) -> bool {
            row > self.directories
        }
    }

    /// Reads `order`; returns how many files had to be waited for, and how many guesses were of no use.
    fn read(tree: &Tree, order: impl IntoIterator<Item = u32>) -> (usize, usize) {
        let (mut planner, mut there, mut missed) = (Neighbours::default(), HashSet::new(), 0);
        for row in order {
            let event = if there.remove(&row) { Event::Used } else { Event::Missed };
            missed += usize::from(event == Event::Missed);
            let (rows, room) = planner.plan(1, tree, row, event);
            for guess in rows.into_iter().take(room) {
                assert!(tree.is_small_file(guess) && guess != row);
                planner.planned(1, tree, guess, true);
                assert!(there.insert(guess), "guessed twice");
            }
        }
        (missed, there.len())
    }

    #[test]
    fn a_walk_in_listing_order_waits_for_two_or_three_files() {
        let tree = Tree::new(1, 1000, |row| format!("{row}.lua"));
        assert_eq!(read(&tree, (0..1000).map(|n| tree.file(0, n))), (2, 0));
        let tree = Tree::new(260, 4, |row| format!("{row}.lua"));
        assert_eq!(read(&tree, (0..1040).map(|n| tree.file(n / 4, n % 4))), (2, 0));
        let tree = Tree::new(500, 1, |row| format!("{row}.lua"));
        assert_eq!(read(&tree, (0..500).map(|n| tree.file(n, 0))), (3, 0));
    }

    #[test]
    fn one_file_of_each_large_directory_is_given_up() {
        let tree = Tree::new(300, 50, |row| format!("{row}.lua"));
        let (missed, wasted) = read(&tree, (0..300).map(|n| tree.file(n, 7)));
        assert!(missed >= 290, "{missed}");
        assert!(wasted <= 16, "{wasted} guesses in vain");
    }

    #[test]
    fn files_of_another_kind_are_left_alone() {
        let tree = Tree::new(1, 200, |row| if row % 2 == 0 { format!("{row}.pyc") } else { format!("{row}.py") });
        let even: Vec<u32> = (0..200).map(|n| tree.file(0, n)).filter(|row| row % 2 == 0).collect();
        assert_eq!(read(&tree, even), (2, 0));
    }

    #[test]
    fn version_numbers_are_no_kinds() {
        assert_eq!(kind(b"1.2.3"), b"");
        assert_eq!(kind(b"1.2.3.lua"), b".lua");
        assert_eq!(kind(b".modulerc"), b".modulerc");
        assert_eq!(kind(b"README"), b"");
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
