//! Running numbers of rows, from which inode numbers are made: one unlike any other for each entry ever shown.
//!
//! A catalog that is loaded for the first time has one run of numbers. A catalog that replaces an older version keeps
//! the numbers of the entries that stayed what they were, as runs again: rows are sorted, so that a few changes cut a
//! catalog into a few runs, and no number is stored per row.
//!
//! Immutable once built; shared without locks. The counter is shared by all revisions of a mount.

use std::sync::atomic::{AtomicU64, Ordering};

/// Rows that lie side by side and have numbers side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) row: u32,
    pub(super) len: u32,
    pub(super) number: u64,
}

/// The numbers of one catalog's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// By row, without gaps.
    runs: Vec<Run>,
    /// The same by number.
    by_number: Vec<Run>,
}

impl Numbers {
    /// Numbers `len` rows from `first` on.
    pub(super) fn straight(len: u32, first: u64) -> Self {
        let runs = vec![Run { row: 0, len, number: first }];
        Self { by_number: runs.clone(), runs }
    }

    /// Takes the number of every row, in the order of the rows; no number may be there twice.
    pub(super) fn of_rows(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for (row, number) in (0_u32..).zip(numbers) {
            match runs.last_mut() {
                Some(run) if run.number + u64::from(run.len) == number => run.len += 1,
                _ => runs.push(Run { row, len: 1, number }),
            }
        }
        let mut by_number = runs.clone();
        by_number.sort_unstable_by_key(|run| run.number);
        Self { runs, by_number }
    }

    /// Returns a row's number; 0 for a row that the catalog does not have.
    pub(super) fn of(&self, row: u32) -> u64 {
        let at = self.runs.partition_point(|run| run.row <= row);
        at.checked_sub(1).map_or(0, |at| self.runs[at].number + u64::from(row - self.runs[at].row))
    }

    /// Returns the row with a number.
    pub(super) fn row(&self, number: u64) -> Option<u32> {
        let at = self.by_number.partition_point(|run| run.number <= number).checked_sub(1)?;
        let run = self.by_number[at];
        (number - run.number < u64::from(run.len)).then(|| run.row + (number - run.number) as u32)
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }
}

/// Gives out numbers that were never given out before.
#[derive(Debug)]
pub(super) struct NumberSource(AtomicU64);

impl NumberSource {
    pub(super) fn from(first: u64) -> Self {
        Self(AtomicU64::new(first))
    }

    /// Returns the first of `count` numbers side by side.
    pub(super) fn take(&self, count: u64) -> u64 {
        self.0.fetch_add(count, Ordering::Relaxed)
    }

    /// Returns the number that is given out next.
    pub(super) fn next(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_numbers_are_each_others_inverse() {
        let given = [300, 301, 302, 900, 303, 304, 256, 257, 901];
        let numbers = Numbers::of_rows(given);
        assert_eq!(numbers.runs().len(), 5);
        for (row, number) in (0..).zip(given) {
            assert_eq!((numbers.of(row), numbers.row(number)), (number, Some(row)));
        }
        for unknown in [0, 255, 258, 299, 305, 899, 902, u64::MAX] {
            assert_eq!(numbers.row(unknown), None);
        }
    }

    #[test]
    fn a_straight_run_is_what_the_rows_would_give() {
        assert_eq!(Numbers::straight(4, 256), Numbers::of_rows(256..260));
    }
}
