//! A set of hashes that outgrows memory gracefully: the newest in memory, the others in sorted files.
//!
//! Owns the files, which have no name and vanish with the set, however the process ends. Belongs to one thread.
//!
//! Memory: at most `in_memory_max` keys and half a megabyte for each of at most [`RUNS_MAX`] files, whatever the number
//! of hashes. A look-up in a file reads a few keys: hashes are spread evenly, so their first two bytes lead to a
//! stretch of a 65536th of the file.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nearfs_format::hash::{ContentHash, DIGEST_BYTES};

use crate::error::{Error, Result};

const KEY_BYTES: usize = DIGEST_BYTES + 2;
type Key = [u8; KEY_BYTES];
const PREFIXES: usize = 1 << 16;
/// So many files are merged into one: a look-up that finds nothing asks them all.
const RUNS_MAX: usize = 8;

/// A set of hashes, each with a byte that the caller may use to tell kinds apart.
#[derive(Debug)]
pub(super) struct SpilledSet {
    scratch: PathBuf,
    in_memory_max: usize,
    fresh: HashSet<Key>,
    runs: Vec<Run>,
}

fn key(hash: &ContentHash, kind: u8) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..DIGEST_BYTES].copy_from_slice(hash.digest());
    key[DIGEST_BYTES] = hash.algorithm().flag_id() as u8;
    key[DIGEST_BYTES + 1] = kind;
    key
}

fn prefix(key: &Key) -> usize {
    usize::from(key[0]) << 8 | usize::from(key[1])
}

impl SpilledSet {
    /// Returns an empty set whose files lie in `scratch`.
    pub(super) fn new(scratch: &Path, in_memory_max: usize) -> Self {
        Self { scratch: scratch.to_owned(), in_memory_max, fresh: HashSet::new(), runs: Vec::new() }
    }

    /// Adds a hash; adding it again is harmless.
    pub(super) fn insert(&mut self, hash: &ContentHash, kind: u8) -> Result<()> {
        self.fresh.insert(key(hash, kind));
        if self.fresh.len() > self.in_memory_max {
            self.spill().map_err(|e| Error::io("write scratch file in", self.scratch.display().to_string(), e))?;
        }
        Ok(())
    }

    /// Says whether a hash is in the set.
    pub(super) fn contains(&self, hash: &ContentHash, kind: u8) -> Result<bool> {
        let key = key(hash, kind);
        if self.fresh.contains(&key) {
            return Ok(true);
        }
        for run in &self.runs {
            let found = run.contains(&key);
            if found.map_err(|e| Error::io("read scratch file in", self.scratch.display().to_string(), e))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut keys: Vec<Key> = self.fresh.drain().collect();
        keys.sort_unstable();
        let mut run = RunWriter::new(&self.scratch)?;
        keys.iter().try_for_each(|key| run.push(key))?;
        self.runs.push(run.finish()?);
        if self.runs.len() > RUNS_MAX {
            let merged = self.merged()?;
            self.runs = vec![merged];
        }
        Ok(())
    }

    fn merged(&self) -> io::Result<Run> {
        let mut sources = self.runs.iter().map(Run::keys).collect::<io::Result<Vec<_>>>()?;
        let mut heads = sources.iter_mut().map(next_key).collect::<io::Result<Vec<_>>>()?;
        let mut merged = RunWriter::new(&self.scratch)?;
        while let Some(least) = heads.iter().flatten().min().copied() {
            merged.push(&least)?;
            for (head, source) in heads.iter_mut().zip(&mut sources) {
                if *head == Some(least) {
                    *head = next_key(source)?;
                }
            }
        }
        merged.finish()
    }
}

fn next_key(source: &mut BufReader<File>) -> io::Result<Option<Key>> {
    let mut key = [0; KEY_BYTES];
    match source.read_exact(&mut key) {
        Ok(()) => Ok(Some(key)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sorted keys in a file, each once.
#[derive(Debug)]
struct Run {
    file: File,
    /// Number of keys with a smaller prefix, for every prefix and the end.
    starts: Box<[u64]>,
}

impl Run {
    fn contains(&self, key: &Key) -> io::Result<bool> {
        let (mut low, mut high) = (self.starts[prefix(key)], self.starts[prefix(key) + 1]);
        while low < high {
            let middle = low.midpoint(high);
            let mut found = [0; KEY_BYTES];
            self.file.read_exact_at(&mut found, middle * KEY_BYTES as u64)?;
            match found.cmp(key) {
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(false)
    }

    fn keys(&self) -> io::Result<BufReader<File>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(BufReader::with_capacity(1 << 16, file))
    }
}

struct RunWriter {
    out: BufWriter<File>,
    starts: Vec<u64>,
    count: u64,
}

impl RunWriter {
    fn new(scratch: &Path) -> io::Result<Self> {
        let out = BufWriter::with_capacity(1 << 16, tempfile::tempfile_in(scratch)?);
        Ok(Self { out, starts: Vec::with_capacity(PREFIXES + 1), count: 0 })
    }

    fn push(&mut self, key: &Key) -> io::Result<()> {
        self.starts.resize(prefix(key) + 1, self.count);
        self.count += 1;
        self.out.write_all(key)
    }

    fn finish(mut self) -> io::Result<Run> {
        self.starts.resize(PREFIXES + 1, self.count);
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Run { file, starts: self.starts.into_boxed_slice() })
    }
}

#[cfg(test)]
mod tests {
    use nearfs_format::hash::HashAlgorithm;

    use super::*;

    #[test]
    fn a_set_beyond_memory_knows_what_was_put_into_it() {
        let scratch = tempfile::tempdir().unwrap();
        let hash = |number: u32| HashAlgorithm::Sha1.hash(&number.to_le_bytes());
        let mut set = SpilledSet::new(scratch.path(), 7);
        for number in 0..500 {
            // Repeated and out of order, over several merges.
            set.insert(&hash(number * 2 % 1000), 1).unwrap();
            set.insert(&hash(number / 3 * 2), 1).unwrap();
        }
        assert!(set.fresh.len() <= 7 && set.runs.len() <= RUNS_MAX);
        for number in 0..1000 {
            assert_eq!(set.contains(&hash(number), 1).unwrap(), number % 2 == 0, "{number}");
        }
        assert!(!set.contains(&hash(2), 0).unwrap(), "kinds are told apart");
        let other = ContentHash::new(HashAlgorithm::Shake128, *hash(2).digest());
        assert!(!set.contains(&other, 1).unwrap(), "algorithms are told apart");
    }

    #[test]
    fn prefixes_at_both_ends_are_found() {
        let scratch = tempfile::tempdir().unwrap();
        let mut set = SpilledSet::new(scratch.path(), 0);
        for byte in [0, 0xff] {
            set.insert(&ContentHash::new(HashAlgorithm::Sha1, [byte; DIGEST_BYTES]), 0).unwrap();
        }
        for (byte, expected) in [(0, true), (0xff, true), (1, false), (0xfe, false)] {
            let hash = ContentHash::new(HashAlgorithm::Sha1, [byte; DIGEST_BYTES]);
            assert_eq!(set.contains(&hash, 0).unwrap(), expected);
        }
    }
}
