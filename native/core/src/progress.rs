//! Counters of a long operation that any face may poll, and the flag that stops it.
//!
//! Owns no text and no clock. All counters are atomic and only grow; each is exact, but no two are read together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// Progress of one operation: shared between the operation and whoever watches it.
#[derive(Debug, Default)]
pub struct Progress {
    files_total: AtomicU64,
    files_done: AtomicU64,
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
    cancelled: AtomicBool,
}

/// The counters at one moment. Totals are 0 until they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Files to process.
    pub files_total: u64,
    /// Files processed.
    pub files_done: u64,
    /// Bytes to read.
    pub bytes_total: u64,
    /// Bytes read.
    pub bytes_done: u64,
}

impl Progress {
    /// Returns counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the counters.
    pub fn counted(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            files_total: read(&self.files_total),
            files_done: read(&self.files_done),
            bytes_total: read(&self.bytes_total),
            bytes_done: read(&self.bytes_done),
        }
    }

    /// Asks the operation to stop soon; it then fails with `Cancelled`.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Fails with `Cancelled` once somebody asked to stop.
    pub fn check(&self, operation: &'static str) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, operation, "on request"));
        }
        Ok(())
    }

    pub(crate) fn expect(&self, files: u64, bytes: u64) {
        self.files_total.fetch_add(files, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_file(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
    }
}
