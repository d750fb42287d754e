//! Who reads the file of one name in directory after directory, as `__init__` of packages or `.modulerc` of modules.
//!
//! Pure. Two places are looked at: the directories beside that of the file (`a/NAME`, `b/NAME`), and those of the same
//! name one level above (`a/lib/NAME`, `b/lib/NAME`). Once a name had to be waited for in two of them, it is guessed in
//! the others, nearest first; sixteen may lie unused for each that was read.
//!
//! Threading: under the lock of whoever owns it.

use std::collections::{HashSet, VecDeque};

use super::neighbours::{Event, Rows};

/// Names that are watched; the one that was idle for longest goes.
const WATCHED_MAX: usize = 128;
/// Directories that are looked at for one plan.
const LOOKED_AT_MAX: usize = 4096;
/// Guesses that may lie unused for each file that was read, and at most.
const UNUSED_FOR_EACH: usize = 16;
const UNUSED_MAX: usize = 256;

/// One name in the directories of one place.
#[derive(Debug)]
struct Namesake {
    /// Catalog, the row above the directories, and whether they are called alike one level below.
    place: (u64, u32, bool),
    name: Box<[u8]>,
    reads: usize,
    guessed: usize,
    used: usize,
    seen: HashSet<u32>,
}

/// Everybody who reads files of one name.
#[derive(Debug, Default)]
pub struct Namesakes {
    /// The one that was active last is last.
    watched: VecDeque<Namesake>,
}

impl Namesakes {
    /// Takes note of an event at the file in `row`; returns the rows that may be guessed now, best first. What is
    /// returned counts as guessed.
    pub fn plan(&mut self, catalog: u64, rows: &impl Rows, row: u32, event: Event) -> Vec<u32> {
        let directory = rows.parent(row);
        let above = rows.parent(directory);
        let beside = self.note((catalog, above, false), rows.name(row), row, event, |namesake, room| {
            let directories = around(rows.children(above), directory);
            let found = directories.filter_map(|directory| rows.child(directory, rows.name(row)));
            namesake.choose(rows, found, room)
        });
        if above == directory {
            return beside;
        }
        let further = self.note((catalog, rows.parent(above), true), rows.name(row), row, event, |namesake, room| {
            let packages = around(rows.children(rows.parent(above)), above);
            let alike = packages.filter_map(|package| rows.child(package, rows.name(directory)));
            let found = alike.filter_map(|directory| rows.child(directory, rows.name(row)));
            namesake.choose(rows, found, room)
        });
        beside.into_iter().chain(further).collect()
    }

    fn note(
        &mut self,
        place: (u64, u32, bool),
        name: &[u8],
        row: u32,
        event: Event,
        choose: impl FnOnce(&mut Namesake, usize) -> Vec<u32>,
    ) -> Vec<u32> {
        let known = self.watched.iter().rposition(|known| known.place == place && *known.name == *name);
        let known = known.and_then(|at| self.watched.remove(at));
        let mut namesake = known.unwrap_or_else(|| Namesake {
            place,
            name: name.into(),
            reads: 0,
            guessed: 0,
            used: 0,
            seen: HashSet::new(),
        });
        if namesake.seen.insert(row) {
            namesake.reads += 1;
        } else if event == Event::Used {
            namesake.reads += 1;
            namesake.used += 1;
        }
        let room = if namesake.reads < 2 { 0 } else { (namesake.reads * UNUSED_FOR_EACH).min(UNUSED_MAX) };
        let room = room.saturating_sub(namesake.guessed.saturating_sub(namesake.used));
        let planned = if room == 0 { Vec::new() } else { choose(&mut namesake, room) };
        if self.watched.len() >= WATCHED_MAX {
            self.watched.pop_front();
        }
        self.watched.push_back(namesake);
        planned
    }
}

impl Namesake {
    fn choose(&mut self, rows: &impl Rows, found: impl Iterator<Item = u32>, room: usize) -> Vec<u32> {
        let fits = |row: &u32| rows.is_small_file(*row) && !self.seen.contains(row);
        let chosen: Vec<u32> = found.filter(fits).take(room).collect();
        self.seen.extend(&chosen);
        self.guessed += chosen.len();
        chosen
    }
}

/// Returns the numbers after one, then those before it, the nearest first.
fn around(all: std::ops::Range<u32>, one: u32) -> impl Iterator<Item = u32> {
    let is_inside = all.contains(&one);
    let (after, before) = if is_inside { (one + 1..all.end, all.start..one) } else { (0..0, 0..0) };
    after.chain(before.rev()).take(LOOKED_AT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefetch::neighbours::tests::Tree;

    /// Reads one file of each directory; returns how many had to be waited for, and how many guesses were of no use.
    fn read(tree: &Tree, files: impl IntoIterator<Item = u32>) -> (usize, usize) {
        let (mut planner, mut there, mut missed) = (Namesakes::default(), HashSet::new(), 0);
        for row in files {
            let event = if there.remove(&row) { Event::Used } else { Event::Missed };
            missed += usize::from(event == Event::Missed);
            there.extend(planner.plan(1, tree, row, event));
        }
        (missed, there.len())
    }

    #[test]
    fn a_name_that_was_read_twice_is_brought_from_the_other_directories() {
        let tree = Tree::new(100, 10, |row| format!("{}", (row.saturating_sub(101)) % 10));
        assert_eq!(read(&tree, (0..100).map(|n| tree.file(n, 3))), (2, 0));
        let (missed, wasted) = read(&tree, [5, 50, 7].map(|n| tree.file(n, 3)));
        assert!((2..=3).contains(&missed) && wasted <= 48, "{missed} {wasted}");
    }

    #[test]
    fn other_names_are_left_alone() {
        let tree = Tree::new(100, 10, |row| row.to_string());
        assert_eq!(read(&tree, (0..100).map(|n| tree.file(n, 3))), (100, 0));
    }

    #[test]
    fn memory_has_a_bound() {
        let tree = Tree::new(2, 4, |row| row.to_string());
        let mut planner = Namesakes::default();
        for catalog in 0..1000 {
            planner.plan(catalog, &tree, tree.file(0, 0), Event::Missed);
        }
        assert!(planner.watched.len() <= WATCHED_MAX);
    }
}
