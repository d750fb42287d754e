//! Chunks of a chunked file: a list that covers the file without gap or overlap.
//!
//! Owns that proof; where chunks lie is decided by [`crate::chunker`]. Source: format.md 5.1.

use crate::error::{FormatError, Result};
use crate::hash::ContentHash;

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Uncompressed size in bytes.
    pub size: u64,
    /// Hash of the stored bytes.
    pub hash: ContentHash,
}

impl Chunk {
    /// Returns the offset just behind the chunk.
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.size)
    }
}

/// The chunks of one file: contiguous from 0, none empty, together as long as the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkList(Vec<Chunk>);

impl ChunkList {
    /// Checks chunks sorted by offset against the size of the file in bytes.
    pub fn new(chunks: Vec<Chunk>, file_size: u64) -> Result<Self> {
        let mut end = 0u64;
        for (index, chunk) in chunks.iter().enumerate() {
            if chunk.offset != end || chunk.size == 0 {
                let Chunk { offset, size, .. } = chunk;
                let reason = format!("chunk {index} covers {size} bytes at {offset}, expected bytes at {end}");
                return Err(FormatError::malformed("chunk list", reason));
            }
            end = end
                .checked_add(chunk.size)
                .ok_or_else(|| FormatError::malformed("chunk list", format!("chunk {index} ends beyond 2^64 bytes")))?;
        }
        if end != file_size || chunks.is_empty() {
            let reason = format!("{} chunks cover {end} bytes of a file of {file_size} bytes", chunks.len());
            return Err(FormatError::malformed("chunk list", reason));
        }
        Ok(Self(chunks))
    }

    /// Returns the chunk that holds the byte at `offset`, `None` at and behind the end of the file.
    pub fn at(&self, offset: u64) -> Option<&Chunk> {
        self.index_at(offset).and_then(|index| self.0.get(index))
    }

    /// Returns the index of the chunk that holds the byte at `offset`.
    pub fn index_at(&self, offset: u64) -> Option<usize> {
        let behind = self.0.partition_point(|chunk| chunk.offset <= offset);
        let index = behind.checked_sub(1)?;
        (offset < self.0.get(index)?.end()).then_some(index)
    }

    /// Returns the chunks in order.
    pub fn as_slice(&self) -> &[Chunk] {
        &self.0
    }

    /// Returns the chunks in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Chunk> {
        self.0.iter()
    }

    /// Returns the size of the file in bytes.
    pub fn file_size(&self) -> u64 {
        self.0.last().map_or(0, Chunk::end)
    }
}

impl<'a> IntoIterator for &'a ChunkList {
    type Item = &'a Chunk;
    type IntoIter = std::slice::Iter<'a, Chunk>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashAlgorithm;

    fn chunk(offset: u64, size: u64) -> Chunk {
        Chunk { offset, size, hash: HashAlgorithm::Sha1.hash(&offset.to_le_bytes()) }
    }

    #[test]
    fn offsets_find_their_chunk() {
        let list = ChunkList::new(vec![chunk(0, 10), chunk(10, 5), chunk(15, 1)], 16).unwrap();
        for (offset, start) in [(0, Some(0)), (9, Some(0)), (10, Some(10)), (14, Some(10)), (15, Some(15)), (16, None)]
        {
            assert_eq!(list.at(offset).map(|c| c.offset), start, "{offset}");
        }
        assert_eq!(list.at(u64::MAX), None);
        assert_eq!(list.file_size(), 16);
        assert!(ChunkList::new(vec![chunk(0, 7)], 7).is_ok(), "one chunk is accepted");
    }

    #[test]
    fn gaps_overlaps_and_wrong_sums_are_refused() {
        for (chunks, size) in [
            (vec![], 0),
            (vec![chunk(1, 9)], 10),
            (vec![chunk(0, 5), chunk(6, 4)], 10),
            (vec![chunk(0, 5), chunk(4, 6)], 10),
            (vec![chunk(0, 5), chunk(5, 6)], 10),
            (vec![chunk(0, 5), chunk(5, 4)], 10),
            (vec![chunk(0, 5), chunk(5, 0), chunk(5, 5)], 10),
            (vec![chunk(5, 5), chunk(0, 5)], 10),
            (vec![chunk(0, u64::MAX), chunk(u64::MAX, 2)], 1),
        ] {
            assert!(ChunkList::new(chunks.clone(), size).is_err(), "{chunks:?}");
        }
    }
}
