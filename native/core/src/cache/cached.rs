//! An object of the cache, open for reading, and what is checked while it is read.
//!
//! Stays readable when the object is evicted. Content that is not what was written is [`ErrorKind::Corrupt`]: whoever
//! reads then discards the object and asks for it again.
//!
//! Threads: shared by all readers; reads take no lock.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempPath;

use super::checks::Checks;
use super::spill::Spilled;
use crate::error::{Error, ErrorKind, Result};

const PIECE_BYTES: usize = 1 << 20;

/// An object of the cache, open for reading.
#[derive(Debug, Clone)]
pub struct CachedObject {
    file: Arc<File>,
    size_bytes: u64,
    path: Arc<Path>,
    checks: Option<Arc<Checks>>,
    /// What vanishes with an object that is not in the cache.
    _uncached: Option<Arc<Uncached>>,
}

/// The name and the memory of an object that the cache did not take.
#[derive(Debug)]
pub(super) struct Uncached {
    pub(super) _name: Option<TempPath>,
    pub(super) _memory: Option<Spilled>,
}

impl CachedObject {
    /// Wraps a file of the cache, reading its checksums.
    pub(super) fn opened(file: File, size_bytes: u64, path: PathBuf) -> Self {
        let checks = Checks::of(&file).map(Arc::new);
        Self { file: Arc::new(file), size_bytes, path: path.into(), checks, _uncached: None }
    }

    /// Wraps a file that was just written.
    pub(super) fn written(file: File, checks: Checks, path: PathBuf, uncached: Option<Uncached>) -> Self {
        let size_bytes = checks.size_bytes();
        let (checks, uncached) = (Some(Arc::new(checks)), uncached.map(Arc::new));
        Self { file: Arc::new(file), size_bytes, path: path.into(), checks, _uncached: uncached }
    }

    /// Says whether the size is what the catalog, or else the writer, says.
    pub(super) fn has_size(&self, expected: Option<u64>) -> bool {
        let written = self.checks.as_ref().map(|checks| checks.size_bytes());
        [expected, written].into_iter().flatten().all(|size| size == self.size_bytes)
    }

    /// Returns the content's size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the open file. What is read from it directly is not checked.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Says whether content is checked, and not only its size.
    pub fn has_checksums(&self) -> bool {
        self.checks.is_some()
    }

    /// Reads at `offset` until `buffer` is full or the content ends; returns the number of bytes.
    ///
    /// A file that ends early or holds other bytes than were written is [`ErrorKind::Corrupt`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let left = usize::try_from(self.size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let failed = |e| Error::io("read", self.path.display().to_string(), e);
        let mut filled = 0;
        while filled < wanted {
            match self.file.read_at(&mut buffer[filled..wanted], offset + filled as u64) {
                Ok(0) => return Err(self.damaged(format!("ends after {} bytes", offset + filled as u64))),
                Ok(got) => filled += got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        match &self.checks {
            Some(checks) if !checks.are_good(&self.file, &buffer[..filled], offset).map_err(failed)? => {
                Err(self.damaged(format!("other bytes near {offset} than were written")))
            }
            _ => Ok(filled),
        }
    }

    fn damaged(&self, how: String) -> Error {
        Error::new(ErrorKind::Corrupt, "read", format!("{} in the cache: {how}", self.path.display()))
    }

    /// Reads the whole content, which the caller knows to be at most `limit_bytes`.
    pub fn read_all(&self, limit_bytes: u64) -> Result<Vec<u8>> {
        if self.size_bytes > limit_bytes {
            let reason = format!("{}: {} bytes, more than {limit_bytes}", self.path.display(), self.size_bytes);
            return Err(Error::new(ErrorKind::Corrupt, "read", reason));
        }
        let mut bytes = vec![0; self.size_bytes as usize];
        self.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Checks all content, for readers that go to the file themselves.
    pub fn check(&self) -> Result<()> {
        if self.checks.is_none() {
            return Ok(());
        }
        let mut piece = vec![0; PIECE_BYTES.min(self.size_bytes as usize)];
        (0..self.size_bytes).step_by(PIECE_BYTES).try_for_each(|offset| self.read_at(&mut piece, offset).map(drop))
    }

    /// Returns the path, for SQLite, which opens files by name. The object may be evicted meanwhile.
    pub fn cache_path(&self) -> &Path {
        &self.path
    }
}
