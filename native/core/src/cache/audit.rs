//! Whether a file has the content that its name says: hashed as it is, and as the publisher stored it.
//!
//! Objects lie decompressed in the cache, named by the hash of what was stored, which is mostly zlib and sometimes the
//! content itself. Streams; holds one block. Any thread.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nearfs_format::codec::Deflater;
use nearfs_format::hash::{ContentHash, HashAlgorithm, Hasher};

use crate::error::{Error, Result};

/// Bytes that are hashed at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// The hashes that an object of some content may be named by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// Of the content itself.
    pub plain: ContentHash,
    /// Of the content as a zlib stream.
    pub deflated: ContentHash,
}

/// Hashes what `read_at` returns for growing offsets, until it returns nothing.
pub fn names_of(algorithm: HashAlgorithm, mut read_at: impl FnMut(&mut [u8], u64) -> Result<usize>) -> Result<Names> {
    let (mut plain, mut packed) = (Hasher::new(algorithm), Hasher::new(algorithm));
    let (mut deflater, mut stored) = (Deflater::new(), Vec::new());
    let (mut block, mut offset) = (vec![0; BLOCK_BYTES], 0);
    loop {
        let count = read_at(&mut block, offset)?;
        if count == 0 {
            deflater.finish(&mut stored);
            packed.update(&stored);
            return Ok(Names { plain: plain.finish(), deflated: packed.finish() });
        }
        offset += count as u64;
        plain.update(&block[..count]);
        deflater.push(&block[..count], &mut stored);
        packed.update(&stored);
        stored.clear();
    }
}

/// Hashes a file.
pub fn names_of_file(path: &Path, algorithm: HashAlgorithm) -> Result<Names> {
    let failed = |e| Error::io("hash", path.display().to_string(), e);
    let file = File::open(path).map_err(failed)?;
    names_of(algorithm, |block, offset| file.read_at(block, offset).map_err(failed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use nearfs_format::codec;

    use super::*;

    #[test]
    fn a_file_has_the_names_of_its_content() {
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 20) as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        for content in [&content[..], b"", b"short"] {
            std::fs::write(file.path(), content).unwrap();
            for algorithm in HashAlgorithm::ALL {
                let names = names_of_file(file.path(), algorithm).unwrap();
                assert_eq!(names.plain, algorithm.hash(content));
                assert_eq!(names.deflated, algorithm.hash(&codec::deflate(content)));
            }
        }
    }
}
