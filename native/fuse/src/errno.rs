//! The table from what the engine answers to the error numbers that programs see, and the log of I/O errors.
//!
//! Owns the mapping (one exhaustive match a type, so that a new kind fails to compile) and the log's rate. Source:
//! client.md 5.3: whatever is wrong with catalogs or downloads is EIO.
//!
//! Threading: [`FailureLog`] is shared by all workers; it takes a lock only when something failed.

use std::time::{Duration, Instant};

use fuser::Errno;
use nearfs_core::ErrorKind;
use nearfs_core::client::{FsError, Ino, Refusal};
use parking_lot::Mutex;

/// Returns the error number for an answer of the engine.
pub(crate) fn errno(error: &FsError) -> Errno {
    match error {
        FsError::Engine(error) => kind_errno(error.kind()),
        FsError::Refused(refusal) => refusal_errno(*refusal),
    }
}

fn kind_errno(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::Busy => Errno::EBUSY,
        ErrorKind::ReadOnly => Errno::EROFS,
        ErrorKind::InvalidInput => Errno::EINVAL,
        ErrorKind::NoSpace => Errno::ENOSPC,
        ErrorKind::Cancelled => Errno::EINTR,
        // A program can do nothing about who is to blame; the log says which of them it was. A permission that lacks
        // is ours, at a host or in the cache: the kernel checks the program's own before it asks.
        ErrorKind::Corrupt
        | ErrorKind::Unreachable
        | ErrorKind::Untrusted
        | ErrorKind::LocalIo
        | ErrorKind::PermissionDenied
        | ErrorKind::Unsupported
        | ErrorKind::Internal => Errno::EIO,
    }
}

fn refusal_errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::NoEntry => Errno::ENOENT,
        // The kernel then walks the path again, asking for every name, and its caller sees nothing of it.
        Refusal::Stale => Errno::ESTALE,
        Refusal::NotADirectory => Errno::ENOTDIR,
        Refusal::IsADirectory => Errno::EISDIR,
        // The reference's answer for a target of something that is no symlink; opening a special file never gets here
        // on Linux, the kernel opens those itself.
        Refusal::NotAFile | Refusal::NotASymlink => Errno::EINVAL,
        Refusal::NoAttribute => Errno::ENODATA,
        Refusal::NoSuchAttributes => Errno::EOPNOTSUPP,
        Refusal::BadHandle => Errno::EBADF,
        Refusal::AlreadyExists => Errno::EEXIST,
        Refusal::TooManyOpenFiles => Errno::EMFILE,
    }
}

/// Says whether a failure is worth an operator's attention, rather than the caller's own doing.
fn deserves_log(error: &FsError) -> bool {
    match error {
        FsError::Refused(_) => false,
        FsError::Engine(error) => !matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::ReadOnly | ErrorKind::InvalidInput | ErrorKind::Cancelled
        ),
    }
}

/// Lines a window, and its length: an unplugged cable must not fill a disk.
const LINES_A_WINDOW: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Budget {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Budget {
    /// Spends one line: `None` to stay silent, else how many were left out since the last line.
    fn spend(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            self.since = Some(now);
            self.written = 0;
        }
        if self.written >= LINES_A_WINDOW {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// The log of failed operations, at a bounded rate.
#[derive(Debug, Default)]
pub(crate) struct FailureLog(Mutex<Budget>);

impl FailureLog {
    /// Writes a line about a failure of the engine, or leaves it out when there were too many.
    pub(crate) fn write(&self, operation: &'static str, ino: Ino, error: &FsError) {
        if !deserves_log(error) {
            return;
        }
        let Some(left_out) = self.0.lock().spend(Instant::now()) else { return };
        let code = errno(error).code();
        tracing::error!(operation, ino = ino.0, errno = code, left_out, "{error}");
    }
}

/// Writes a line about a panic below an operation; always, because each is a bug.
pub(crate) fn log_panic(operation: &'static str, ino: Ino) {
    tracing::error!(operation, ino = ino.0, "the engine panicked; answered EIO. This is a bug in nearfs");
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfs_core::Error;

    #[test]
    fn trouble_with_catalogs_and_downloads_is_eio() {
        for kind in [
            ErrorKind::Corrupt,
            ErrorKind::Unreachable,
            ErrorKind::Untrusted,
            ErrorKind::LocalIo,
            ErrorKind::PermissionDenied,
            ErrorKind::Unsupported,
        ] {
            let error = FsError::from(Error::new(kind, "open", "/x"));
            assert_eq!(errno(&error).code(), Errno::EIO.code(), "{kind:?}");
            assert!(deserves_log(&error));
        }
    }

    #[test]
    fn every_kind_but_the_io_errors_has_its_own_number() {
        let others = ErrorKind::ALL.map(kind_errno).map(Errno::code).into_iter().filter(|c| *c != Errno::EIO.code());
        let others: Vec<i32> = others.collect();
        let distinct: std::collections::HashSet<_> = others.iter().collect();
        assert_eq!((others.len(), distinct.len()), (6, 6));
    }

    #[test]
    fn missing_entries_are_no_news() {
        assert!(!deserves_log(&Refusal::NoEntry.into()));
        assert!(!deserves_log(&Error::new(ErrorKind::NotFound, "find", "/x").into()));
    }

    #[test]
    fn log_counts_what_it_leaves_out() {
        let start = Instant::now();
        let mut budget = Budget::default();
        for _ in 0..LINES_A_WINDOW {
            assert_eq!(budget.spend(start), Some(0));
        }
        assert_eq!(budget.spend(start), None);
        assert_eq!(budget.spend(start), None);
        assert_eq!(budget.spend(start + WINDOW), Some(2));
    }
}
