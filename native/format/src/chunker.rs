//! Content-defined chunking: where a file is cut.
//!
//! Owns the cut-mark algorithm, bit by bit that of the reference: other boundaries would be valid, but would share no
//! chunk with what other publishers stored. Source: format.md 5.2 and 5.3.

use crate::error::{FormatError, Result};

/// Bytes that the 32-bit register remembers, and thus the warm-up before the first test.
const WINDOW_BYTES: u64 = 32;
const CENTRE: u32 = 0x7FFF_FFFF;
/// Accepted besides the range around the centre: the reference's distance wraps around here.
const WRAPPED: u32 = u32::MAX;

/// Smallest, average and largest chunk size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkSizes {
    min: u64,
    avg: u64,
    max: u64,
}

impl Default for ChunkSizes {
    /// 4, 8 and 16 MiB, as the reference configures repositories.
    fn default() -> Self {
        Self { min: 4 << 20, avg: 8 << 20, max: 16 << 20 }
    }
}

impl ChunkSizes {
    /// Checks 32 <= min < avg < max.
    pub fn new(min: u64, avg: u64, max: u64) -> Result<Self> {
        if WINDOW_BYTES <= min && min < avg && avg < max {
            return Ok(Self { min, avg, max });
        }
        let reason = format!("min {min}, avg {avg}, max {max} bytes: choose 32 <= min < avg < max");
        Err(FormatError::malformed("chunk sizes", reason))
    }

    /// Returns the smallest size of a chunk that is not the last, in bytes.
    pub const fn min(&self) -> u64 {
        self.min
    }

    /// Returns the intended average size in bytes.
    pub const fn avg(&self) -> u64 {
        self.avg
    }

    /// Returns the largest size in bytes.
    pub const fn max(&self) -> u64 {
        self.max
    }
}

/// Cuts one file that arrives in blocks of any size.
///
/// A publisher hands over a block and, as long as a boundary is found, ends the chunk there and hands over the rest:
///
/// ```
/// # use nearfs_format::chunker::{ChunkSizes, Chunker};
/// # let (blocks, mut chunk_sizes) = ([vec![0u8; 100], vec![0u8; 100]], vec![0usize]);
/// let mut chunker = Chunker::new(ChunkSizes::new(32, 48, 64)?);
/// for block in &blocks {
///     let mut rest = block.as_slice();
///     while let Some(bytes) = chunker.next_cut(rest) {
///         *chunk_sizes.last_mut().unwrap() += bytes;
///         chunk_sizes.push(0);
///         rest = &rest[bytes..];
///     }
///     *chunk_sizes.last_mut().unwrap() += rest.len();
/// }
/// assert_eq!(chunk_sizes, [64, 64, 64, 8]);
/// # Ok::<(), nearfs_format::FormatError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Chunker {
    sizes: ChunkSizes,
    lowest_mark: u32,
    marks: u32,
    chunk_start: u64,
    chunk_bytes: u64,
    register: u32,
}

impl Chunker {
    /// Starts at the beginning of a file.
    pub fn new(sizes: ChunkSizes) -> Self {
        // Marks are the values in centre - t < x < centre + t; with an average beyond 4 GiB there are none.
        let threshold = (u64::from(u32::MAX) / sizes.avg) as u32;
        let marks = (2 * threshold).saturating_sub(1);
        let lowest_mark = CENTRE.wrapping_sub(threshold).wrapping_add(1);
        Self { sizes, lowest_mark, marks, chunk_start: 0, chunk_bytes: 0, register: 0 }
    }

    /// Returns the absolute offset of the current chunk; right after a cut this is the boundary.
    pub const fn chunk_start(&self) -> u64 {
        self.chunk_start
    }

    /// Returns the absolute offset of the next byte.
    pub const fn offset(&self) -> u64 {
        self.chunk_start + self.chunk_bytes
    }

    /// Takes the bytes that follow. `Some(n)`: the current chunk ends after the first `n` of them (0 to
    /// `bytes.len() - 1`), and `bytes[n..]` has to be handed over again. `None`: all of them belong to the current
    /// chunk. A boundary is only reported when a byte behind it is there, so the end of a file makes no empty chunk.
    pub fn next_cut(&mut self, bytes: &[u8]) -> Option<usize> {
        let cut = self.find(bytes);
        let taken = cut.unwrap_or(bytes.len()) as u64;
        self.chunk_bytes += taken;
        if cut.is_some() {
            self.chunk_start += self.chunk_bytes;
            self.chunk_bytes = 0;
            self.register = 0;
        }
        cut
    }

    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        // Indices into `bytes` of the places that are counted from the start of the chunk.
        let index_of = |offset: u64| {
            usize::try_from(offset.saturating_sub(self.chunk_bytes)).unwrap_or(usize::MAX).min(bytes.len())
        };
        let (warm, test, end) =
            (index_of(self.sizes.min - WINDOW_BYTES), index_of(self.sizes.min), index_of(self.sizes.max));
        for byte in &bytes[warm..test] {
            self.register = self.register << 1 ^ u32::from(*byte);
        }
        self.first_mark(&bytes[test..end]).map(|index| test + index).or((end < bytes.len()).then_some(end))
    }

    // The hot loop: everything in locals, one shift, one xor and two compares a byte.
    fn first_mark(&mut self, bytes: &[u8]) -> Option<usize> {
        let (lowest_mark, marks) = (self.lowest_mark, self.marks);
        let mut register = self.register;
        for (index, byte) in bytes.iter().enumerate() {
            register = register << 1 ^ u32::from(*byte);
            if register.wrapping_sub(lowest_mark) < marks || register == WRAPPED {
                return Some(index);
            }
        }
        self.register = register;
        None
    }
}

/// Returns the boundaries inside `bytes` as ascending offsets, without 0 and the end.
pub fn cut_marks(bytes: &[u8], sizes: &ChunkSizes) -> Vec<u64> {
    let mut chunker = Chunker::new(*sizes);
    let (mut rest, mut cuts) = (bytes, Vec::new());
    while let Some(length) = chunker.next_cut(rest) {
        cuts.push(chunker.chunk_start());
        rest = &rest[length..];
    }
    cuts
}

#[cfg(test)]
#[path = "chunker_tests.rs"]
mod tests;
