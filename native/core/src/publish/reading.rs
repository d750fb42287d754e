//! One file of the source while its content is read.
//!
//! Owns the checks that it is, and stays, what the scan saw. Belongs to one thread.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nearfs_format::path::RepoPath;

use super::plan::Found;
use super::scan::host_path;
use crate::error::{Error, ErrorKind, Result};

/// A file being read, which has to stay what the scan saw.
pub(super) struct SourceFile<'p> {
    file: File,
    pub(super) path: &'p RepoPath,
    found: &'p Found,
    read_bytes: u64,
}

impl<'p> SourceFile<'p> {
    pub(super) fn open(source: &Path, target: &RepoPath, path: &'p RepoPath, found: &'p Found) -> Result<Self> {
        let host = host_path(source, target, path);
        // Not through a symlink, and not waiting for the writer of a fifo, if one took the file's place.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(&host).map_err(|e| {
            if e.kind() == io::ErrorKind::NotFound {
                changed(path, "it vanished")
            } else {
                Error::io("read", host.display().to_string(), e)
            }
        })?;
        let source = Self { file, path, found, read_bytes: 0 };
        source.check_stat()?;
        Ok(source)
    }

    fn check_stat(&self) -> Result<()> {
        let stat = self.file.metadata().map_err(|e| Error::io("read", self.path.to_string(), e))?;
        let mtime = (stat.mtime(), stat.mtime_nsec());
        if !stat.is_file() || stat.len() != self.found.size || mtime != (self.found.mtime, self.found.mtime_ns.into()) {
            return Err(changed(self.path, "it changed"));
        }
        Ok(())
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.file.read(buffer) {
                Ok(count) => {
                    self.read_bytes += count as u64;
                    return Ok(count);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", self.path.to_string(), e)),
            }
        }
    }

    pub(super) fn read_all(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.reserve(self.found.size as usize + 1);
        // One byte more than announced shows that the file grew.
        let count = (&self.file)
            .take(self.found.size + 1)
            .read_to_end(bytes)
            .map_err(|e| Error::io("read", self.path.to_string(), e))?;
        self.read_bytes += count as u64;
        Ok(())
    }

    pub(super) fn check_unchanged(&self) -> Result<()> {
        if self.read_bytes != self.found.size {
            return Err(changed(self.path, "it changed its size"));
        }
        self.check_stat()
    }
}

fn changed(path: &RepoPath, what: &str) -> Error {
    let subject = format!("{path}: {what} while it was being published; nothing was committed, publish again");
    Error::new(ErrorKind::Busy, "publish", subject)
}
