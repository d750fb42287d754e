//! Checksums of cached content: what tells a file that the disk damaged from the one that was written.
//!
//! Objects lie decompressed, so their names cannot be checked without compressing them again, which costs more than
//! fetching. Instead the writer, which has just verified the content, keeps a CRC-32 of each block in an extended
//! attribute of the file, and readers check each block that they touch, once per open file. Where a file system keeps
//! no attributes, or another program wrote the object, only sizes are checked.
//!
//! Threads: a [`Checks`] is shared by all readers of an open object; which blocks were found good is a set of atomics.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};

use libdeflater::Crc;

/// Name of the attribute. Its value: version, log2 of the block size, size (u64), CRC-32 per block; little endian.
const ATTRIBUTE: &str = "user.nearfs.crc32";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 10;
/// What the kernel reads at once, so that most checks need no bytes that were not wanted anyway.
const SMALLEST_BLOCK_LOG2: u8 = 17;
const LARGEST_BLOCK_LOG2: u8 = 30;
/// Keeps the attribute within what every file system takes (4 KiB on ext4).
const MAX_BLOCKS: u64 = 512;

/// Computes checksums while content is written.
#[derive(Debug)]
pub(super) struct Summing {
    block_log2: u8,
    size_bytes: u64,
    crc: Crc32,
    sums: Vec<u32>,
}

/// A running CRC-32 that can be printed.
struct Crc32(Crc);

impl std::fmt::Debug for Crc32 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crc32({:08x})", self.0.sum())
    }
}

impl Summing {
    /// Begins the checksums of content of at most `limit_bytes`.
    pub(super) fn new(limit_bytes: u64) -> Self {
        let fits = |log2: &u8| limit_bytes >> log2 < MAX_BLOCKS;
        let block_log2 = (SMALLEST_BLOCK_LOG2..LARGEST_BLOCK_LOG2).find(fits).unwrap_or(LARGEST_BLOCK_LOG2);
        Self { block_log2, size_bytes: 0, crc: Crc32(Crc::new()), sums: Vec::new() }
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        let block = 1u64 << self.block_log2;
        while !bytes.is_empty() {
            let room = (block - (self.size_bytes & (block - 1))) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.crc.0.update(now);
            self.size_bytes += now.len() as u64;
            if now.len() == room {
                self.close_block();
            }
            bytes = later;
        }
    }

    fn close_block(&mut self) {
        self.sums.push(self.crc.0.sum());
        self.crc = Crc32(Crc::new());
    }

    /// Ends the content and returns its checksums.
    pub(super) fn finish(mut self) -> Checks {
        if self.size_bytes & ((1 << self.block_log2) - 1) != 0 {
            self.close_block();
        }
        Checks::new(self.block_log2, self.size_bytes, self.sums)
    }
}

/// The checksums of an open object.
#[derive(Debug)]
pub(super) struct Checks {
    block_log2: u8,
    size_bytes: u64,
    sums: Vec<u32>,
    good: Vec<AtomicU64>,
}

impl Checks {
    /// Reads the checksums that were kept with a file; nothing where there are none.
    pub(super) fn of(file: &File) -> Option<Self> {
        let mut value = [0; HEADER_BYTES + 4 * MAX_BLOCKS as usize];
        let length = rustix::fs::fgetxattr(file, ATTRIBUTE, &mut value).ok()?;
        Self::parse(&value[..length])
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (header, sums) = value.split_first_chunk::<HEADER_BYTES>()?;
        let [VERSION, block_log2, size @ ..] = *header else { return None };
        if !(SMALLEST_BLOCK_LOG2..=LARGEST_BLOCK_LOG2).contains(&block_log2) {
            return None;
        }
        let size_bytes = u64::from_le_bytes(size);
        let sums: Vec<u32> =
            sums.chunks_exact(4).map(|sum| u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]])).collect();
        let is_whole = sums.len() as u64 == size_bytes.div_ceil(1 << block_log2);
        is_whole.then(|| Self::new(block_log2, size_bytes, sums))
    }

    fn new(block_log2: u8, size_bytes: u64, sums: Vec<u32>) -> Self {
        let good = (0..sums.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { block_log2, size_bytes, sums, good }
    }

    /// Keeps the checksums with the file. What cannot be kept is not checked later: no reason to fail.
    pub(super) fn keep_with(&self, file: &File) {
        let mut value = vec![VERSION, self.block_log2];
        value.extend_from_slice(&self.size_bytes.to_le_bytes());
        self.sums.iter().for_each(|sum| value.extend_from_slice(&sum.to_le_bytes()));
        let _ = rustix::fs::fsetxattr(file, ATTRIBUTE, &value, rustix::fs::XattrFlags::empty());
    }

    /// Returns the size of the content when it was written.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Says whether `bytes`, read at `offset`, are what was written. Reads on where they cover a block in part.
    pub(super) fn are_good(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<bool> {
        if bytes.is_empty() {
            return Ok(true);
        }
        let end = offset + bytes.len() as u64;
        for block in offset >> self.block_log2..=(end - 1) >> self.block_log2 {
            if self.is_known_good(block) {
                continue;
            }
            let from = block << self.block_log2;
            let until = (from + (1 << self.block_log2)).min(self.size_bytes);
            let sum = if offset <= from && until <= end {
                libdeflater::crc32(&bytes[(from - offset) as usize..(until - offset) as usize])
            } else {
                let mut whole = vec![0; until.saturating_sub(from) as usize];
                match file.read_exact_at(&mut whole, from) {
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                    other => other?,
                }
                libdeflater::crc32(&whole)
            };
            if self.sums.get(block as usize) != Some(&sum) {
                return Ok(false);
            }
            self.good[block as usize / 64].fetch_or(1 << (block % 64), Ordering::Relaxed);
        }
        Ok(true)
    }

    fn is_known_good(&self, block: u64) -> bool {
        self.good.get(block as usize / 64).is_some_and(|bits| bits.load(Ordering::Relaxed) >> (block % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn summed(content: &[u8], pieces: usize, limit: u64) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let mut summing = Summing::new(limit);
        content.chunks(pieces.max(1)).for_each(|piece| summing.update(piece));
        summing.finish().keep_with(&file);
        let mut value = vec![0; 4096];
        let length = rustix::fs::fgetxattr(&file, ATTRIBUTE, &mut value).unwrap();
        value.truncate(length);
        value
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn a_changed_byte_is_found_by_whoever_touches_its_block_and_by_nobody_else(
            size in 1usize..600_000, at in any::<prop::sample::Index>(), from in any::<prop::sample::Index>(),
            length in 1usize..200_000, pieces in 1usize..300_000,
        ) {
            let content: Vec<u8> = (0..size).map(|n| (n * 7 / 3) as u8).collect();
            let value = summed(&content, pieces, size as u64);
            let (mut damaged, at, from) = (content.clone(), at.index(size), from.index(size));
            damaged[at] ^= 1;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&damaged).unwrap();
            let checks = Checks::parse(&value).unwrap();
            let until = (from + length).min(size);
            let touches = from >> SMALLEST_BLOCK_LOG2 <= at >> SMALLEST_BLOCK_LOG2
                && at >> SMALLEST_BLOCK_LOG2 <= (until - 1) >> SMALLEST_BLOCK_LOG2;
            for _ in 0..2 {
                prop_assert_eq!(checks.are_good(&file, &damaged[from..until], from as u64).unwrap(), !touches);
            }
        }

        #[test]
        fn any_attribute_is_understood_or_refused(value in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Checks::parse(&value);
        }
    }

    #[test]
    fn large_content_has_larger_blocks_and_not_more_of_them() {
        assert_eq!(Summing::new(1000).block_log2, SMALLEST_BLOCK_LOG2);
        assert_eq!(Summing::new(32 << 20).block_log2, SMALLEST_BLOCK_LOG2);
        assert_eq!(Summing::new(1 << 30).block_log2, 22);
        assert_eq!(Summing::new(u64::MAX).block_log2, LARGEST_BLOCK_LOG2);
    }
}
