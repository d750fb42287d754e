//! Who reads a file from one end to the other, and how far ahead of them it pays to be.
//!
//! Pure. One [`Sequence`] belongs to one open file. Reads that follow each other make it longer, and what is kept ahead
//! grows with it; a jump ends it. The kernel may hand out neighbouring reads in another order, so a small step back or
//! forth is none.

/// Fewer bytes in a row say nothing: headers and indexes are read like that, too.
const BEGINS_AT_BYTES: u64 = 512 << 10;
/// A step of this size is still in a row: the kernel reads ahead, by several threads.
const STEP_BYTES: u64 = 1 << 20;
/// No more is kept ahead of a reader: it takes a fast line three round trips of 50 ms.
const AHEAD_MAX_BYTES: u64 = 16 << 20;

/// The reads of one open file.
#[derive(Debug, Default)]
pub struct Sequence {
    next: u64,
    row_bytes: u64,
}

impl Sequence {
    /// Takes note of a read; returns how many bytes after it are worth having.
    pub fn note(&mut self, offset: u64, size: u64) -> u64 {
        let end = offset.saturating_add(size);
        if offset.abs_diff(self.next) <= STEP_BYTES && (self.row_bytes > 0 || offset == self.next) {
            self.row_bytes = self.row_bytes.saturating_add(size);
            self.next = self.next.max(end);
        } else {
            (self.row_bytes, self.next) = (size, end);
        }
        if self.row_bytes < BEGINS_AT_BYTES { 0 } else { self.row_bytes.saturating_mul(2).min(AHEAD_MAX_BYTES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: u64 = 128 << 10;

    #[test]
    fn reading_in_order_is_seen_also_out_of_turn() {
        let mut sequence = Sequence::default();
        let ahead: Vec<u64> = [0, 1, 3, 2, 4, 5].map(|n| sequence.note(n * READ, READ)).into();
        assert_eq!(ahead, [0, 0, 0, 8 * READ, 10 * READ, 12 * READ]);
        assert_eq!((6..1000).map(|n| sequence.note(n * READ, READ)).max(), Some(AHEAD_MAX_BYTES));
    }

    #[test]
    fn jumping_about_never_asks_for_anything() {
        let mut sequence = Sequence::default();
        assert!((1..500_u64).all(|n| sequence.note(n * 7_919 % 97 * (8 << 20), READ) == 0));
    }
}
