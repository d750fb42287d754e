//! Who reads a file from one end to the other, and how far ahead of them it pays to be.
//!
//! Pure. One [`Sequence`] belongs to one open file. Reads that follow each other make it longer, and what is kept ahead
//! grows with it; a jump ends it. The kernel may hand out neighbouring reads in another order, so a small step back or
//! forth is none; but who leaves holes, as a program that is mapped does, does not read in a row.

/// Fewer bytes in a row say nothing: a program that starts reads its libraries like that, but not what lies behind
/// their code, and a chunk in vain costs as much as a hundred small files.
const BEGINS_AT_BYTES: u64 = 6 << 20;
/// A step of this size is still in a row: the kernel reads ahead, by several threads.
const STEP_BYTES: u64 = 512 << 10;
/// No more is kept ahead of a reader: it takes a fast line three round trips of 50 ms.
const AHEAD_MAX_BYTES: u64 = 16 << 20;

/// The reads of one open file.
#[derive(Debug, Default)]
pub struct Sequence {
    begin: u64,
    end: u64,
    read_bytes: u64,
}

impl Sequence {
    /// Takes note of a read; returns how many bytes after it are worth having.
    pub fn note(&mut self, offset: u64, size: u64) -> u64 {
        let end = offset.saturating_add(size);
        if offset.abs_diff(self.end) <= STEP_BYTES && offset >= self.begin {
            self.read_bytes = self.read_bytes.saturating_add(size);
            self.end = self.end.max(end);
        } else {
            *self = Self { begin: offset, end, read_bytes: size };
        }
        let has_holes = self.read_bytes < (self.end - self.begin) / 8 * 7;
        if self.read_bytes < BEGINS_AT_BYTES || has_holes { 0 } else { (self.read_bytes / 2).min(AHEAD_MAX_BYTES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: u64 = 128 << 10;

    #[test]
    fn reading_in_order_is_seen_also_out_of_turn() {
        let mut sequence = Sequence::default();
        let out_of_turn = |n: u64| if n % 4 < 2 { n } else { n ^ 1 };
        let ahead: Vec<u64> = (0..1000).map(|n| sequence.note(out_of_turn(n) * READ, READ)).collect();
        assert!(ahead[..47].iter().all(|bytes| *bytes == 0));
        assert_eq!((ahead[47], ahead[49]), (24 * READ, 25 * READ));
        assert_eq!(ahead.last(), Some(&AHEAD_MAX_BYTES));
    }

    #[test]
    fn jumping_about_never_asks_for_anything() {
        let mut sequence = Sequence::default();
        assert!((1..500_u64).all(|n| sequence.note(n * 7_919 % 97 * (8 << 20), READ) == 0));
    }

    #[test]
    fn a_mapped_program_is_not_read_in_a_row() {
        let mut sequence = Sequence::default();
        assert!((0..500_u64).filter(|n| n % 4 != 2).all(|n| sequence.note(n * READ, READ) == 0));
    }
}
