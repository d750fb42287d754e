//! Reads stored objects of a local storage: bounded, hashed while they stream.
//!
//! Owns the scratch directory for inflated databases, which vanishes with it, and the difference between "wrong in the
//! storage" and "the check cannot go on" ([`Stop`]). Shared by threads.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nearfs_format::FormatError;
use nearfs_format::codec::Inflater;
use nearfs_format::hash::{ContentHash, Hasher};
use nearfs_format::object::ObjectId;
use tempfile::{NamedTempFile, TempDir, TempPath};

use super::{OPERATION, check_cancelled};
use crate::error::{Error, ErrorKind, Result};

/// Largest catalog or history that is inflated; those of 500,000 entries, the recommended limit, have about 100 MB.
const DATABASE_LIMIT_BYTES: u64 = 4 << 30;
const BLOCK_BYTES: u64 = 256 << 10;
/// Bytes 18 and 19 of an SQLite file: 1 for a rollback journal, 2 for a write-ahead log (format.md 4.1).
const JOURNAL_VERSIONS: std::ops::Range<usize> = 18..20;

/// What is wrong with something stored, in words.
pub(super) type Problem = String;

/// A local storage and a place to inflate databases to.
#[derive(Debug)]
pub(super) struct Storage<'a> {
    root: &'a Path,
    scratch: TempDir,
}

/// An inflated database; the file vanishes with it.
#[derive(Debug)]
pub(super) struct Inflated {
    pub(super) file: TempPath,
    pub(super) size_bytes: u64,
    pub(super) has_write_ahead_log: bool,
}

/// Why reading something stored ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// It is not what it should be; the check goes on.
    Problem(Problem),
    /// The check cannot go on.
    Failed(Error),
}

impl Stop {
    /// Returns the problem, or fails.
    pub(super) fn problem(self) -> Result<Problem> {
        match self {
            Self::Problem(problem) => Ok(problem),
            Self::Failed(error) => Err(error),
        }
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<FormatError> for Stop {
    fn from(error: FormatError) -> Self {
        Self::Problem(error.to_string())
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Storage<'a> {
    /// Opens the storage below `root`, which has to hold `data/`.
    pub(super) fn open(root: &'a Path) -> Result<Self> {
        let objects = root.join("data");
        let metadata =
            std::fs::metadata(&objects).map_err(|e| Error::io(OPERATION, objects.display().to_string(), e))?;
        if !metadata.is_dir() {
            let reason = format!("{}: it is no directory, so this is no repository storage", objects.display());
            return Err(Error::new(ErrorKind::InvalidInput, OPERATION, reason));
        }
        // A directory of our own: nobody can put a journal beside the databases in it.
        let scratch = tempfile::Builder::new()
            .prefix("nearfs-check-")
            .tempdir()
            .map_err(|e| Error::io("create scratch directory in", std::env::temp_dir().display().to_string(), e))?;
        Ok(Self { root, scratch })
    }

    /// Returns where a key of the repository lies.
    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Looks for a stored file; returns its size in bytes.
    pub(super) fn find_stored(&self, key: &str) -> Result<u64, Problem> {
        match std::fs::metadata(self.path(key)) {
            Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
            Ok(_) => Err(format!("{key} is no regular file")),
            Err(e) => Err(worded(key, &e)),
        }
    }

    /// Opens a stored file for reading; returns its size in bytes with it.
    pub(super) fn open_stored(&self, key: &str) -> Result<(File, u64), Problem> {
        // Looked at before it is opened: opening a fifo would wait for its writer.
        let size_bytes = self.find_stored(key)?;
        Ok((File::open(self.path(key)).map_err(|e| worded(key, &e))?, size_bytes))
    }

    /// Inflates a database object to a scratch file and checks that it has the hash that names it.
    pub(super) fn inflate(&self, id: &ObjectId, cancel: &AtomicBool) -> Result<Inflated, Stop> {
        let mut inflater = Inflater::new(DATABASE_LIMIT_BYTES);
        let inflated = self.copy(&id.key(), id.hash, cancel, |block, scratch| {
            inflater.push(block, &mut |piece: &[u8]| scratch.write_all(piece).map_err(|e| self.failed(e)))
        })?;
        inflater.finish()?;
        Ok(inflated)
    }

    /// Copies a file that is stored as it is to a scratch file and checks its hash.
    pub(super) fn copy_plain(&self, key: &str, hash: ContentHash, cancel: &AtomicBool) -> Result<Inflated, Stop> {
        self.copy(key, hash, cancel, |block, scratch| scratch.write_all(block).map_err(|e| self.failed(e)))
    }

    fn copy(
        &self,
        key: &str,
        expected: ContentHash,
        cancel: &AtomicBool,
        mut write: impl FnMut(&[u8], &mut NamedTempFile) -> Result<(), Stop>,
    ) -> Result<Inflated, Stop> {
        let (file, stored_bytes) = self.open_stored(key)?;
        if stored_bytes > DATABASE_LIMIT_BYTES {
            return Err(Stop::Problem(format!("{key} has {stored_bytes} bytes, more than {DATABASE_LIMIT_BYTES}")));
        }
        let mut scratch = NamedTempFile::new_in(self.scratch.path()).map_err(|e| self.failed(e))?;
        let mut hasher = Hasher::new(expected.algorithm());
        each_block(file, stored_bytes, cancel, |block| {
            hasher.update(block);
            write(block, &mut scratch)
        })?;
        let actual = hasher.finish();
        if actual != expected {
            return Err(Stop::Problem(format!("{key} has hash {actual} instead of {expected}")));
        }
        let size_bytes = scratch.as_file().metadata().map_err(|e| self.failed(e))?.len();
        let has_write_ahead_log = has_write_ahead_log(scratch.path());
        Ok(Inflated { file: scratch.into_temp_path(), size_bytes, has_write_ahead_log })
    }

    fn failed(&self, source: io::Error) -> Stop {
        Stop::Failed(Error::io("write scratch file in", self.scratch.path().display().to_string(), source))
    }
}

fn worded(key: &str, error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => format!("missing from the storage ({key})"),
        _ => format!("{key} cannot be read: {error}"),
    }
}

/// Passes a file's bytes to `sink`, at most `size_bytes` of them: what grows while it is read is cut off, and the hash
/// tells.
pub(super) fn each_block(
    file: File,
    size_bytes: u64,
    cancel: &AtomicBool,
    mut sink: impl FnMut(&[u8]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut source = file.take(size_bytes);
    // One byte more than the file has: its end shows at the second read at the latest.
    let mut block = vec![0; size_bytes.saturating_add(1).min(BLOCK_BYTES) as usize];
    loop {
        check_cancelled(cancel)?;
        match source.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(read) => sink(&block[..read])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Stop::Problem(format!("reading stopped: {e}"))),
        }
    }
}

fn has_write_ahead_log(file: &Path) -> bool {
    let mut header = [0; JOURNAL_VERSIONS.end];
    let read = File::open(file).and_then(|mut f| f.read_exact(&mut header));
    read.is_ok() && header[JOURNAL_VERSIONS] != [1, 1]
}
