//! Questions to the engine, and what every loop does with the answers: counts, error numbers, the log of failures.
//!
//! Owns the way from a request to the engine's file system and back, so that two loops over the same engine (the one
//! here, the portable one in Python) cannot differ in it. Knows nothing of the kernel's protocol.
//!
//! Threading: asked by all workers at once; the only shared state are counters and the rate of the log.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fuser::Errno;
use nearfs_core::client::{FileSystem, FsResult, Ino};

use crate::errno::{FailureLog, errno, log_panic};
use crate::upcalls::{Operation, Upcalls};

/// A file system, with what was asked of it.
pub struct Questions {
    fs: Arc<dyn FileSystem>,
    upcalls: Arc<Upcalls>,
    failures: FailureLog,
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions").field("upcalls", &self.upcalls).finish_non_exhaustive()
    }
}

impl Questions {
    /// Begins to count at zero.
    pub fn new(fs: Arc<dyn FileSystem>) -> Self {
        Self { fs, upcalls: Arc::default(), failures: FailureLog::default() }
    }

    /// Returns the file system.
    pub fn file_system(&self) -> &dyn FileSystem {
        &*self.fs
    }

    /// Returns the counts.
    pub fn upcalls(&self) -> &Arc<Upcalls> {
        &self.upcalls
    }

    /// Asks the engine, counts, and turns what is no answer into an error number. A panic below must not take a worker
    /// away from the mount: the next request needs it.
    pub fn ask<T>(
        &self,
        operation: Operation,
        ino: Ino,
        question: impl FnOnce(&dyn FileSystem) -> FsResult<T>,
    ) -> Result<T, Errno> {
        self.upcalls.count(operation);
        self.answer(operation, ino, question)
    }

    /// Like [`Self::ask`], for a question that is a part of a request: counts nothing.
    pub fn answer<T>(
        &self,
        operation: Operation,
        ino: Ino,
        question: impl FnOnce(&dyn FileSystem) -> FsResult<T>,
    ) -> Result<T, Errno> {
        match catch_unwind(AssertUnwindSafe(|| question(&*self.fs))) {
            Ok(answer) => answer.map_err(|error| {
                self.failures.write(operation.name(), ino, &error);
                errno(&error)
            }),
            Err(_panic) => {
                log_panic(operation.name(), ino);
                Err(Errno::EIO)
            }
        }
    }
}
