//! The contract between the engine and a face: a read-only file system as plain methods, with no kernel in the loop.
//!
//! Owns the trait and what an operation may answer instead of a value; no behaviour. A face (FUSE, the portable loop,
//! a test) maps [`FsError`] to its own protocol in one table.
//!
//! Threading: every method may be called by any number of workers at once and for any inode. A method may wait for the
//! network, but only as long as the transport's bounds say: a worker that never returns is lost to the mount.

use std::ops::ControlFlow;
use std::time::Duration;

use thiserror::Error as ThisError;

use crate::error::Error;

use super::types::{Attr, Fh, Ino, ListedEntry, Opened, Statfs};

/// An answer that is nobody's failure: the caller asked for what this entry cannot give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ThisError)]
pub enum Refusal {
    /// The catalog has no such name, or the inode was never given out. Allocates nothing: look-ups that miss are the
    /// most frequent operation of many programs.
    #[error("no such entry")]
    NoEntry,
    /// The entry was of a revision that is not shown any more; looking it up again by its path helps.
    #[error("of an earlier revision")]
    Stale,
    /// A name was looked up in, or a listing asked of, something else than a directory.
    #[error("not a directory")]
    NotADirectory,
    /// A directory was opened as a file.
    #[error("is a directory")]
    IsADirectory,
    /// Something that has no content of its own (symlink, fifo, socket, device) was opened as a file.
    #[error("not a regular file")]
    NotAFile,
    /// A target was asked of something else than a symlink.
    #[error("not a symlink")]
    NotASymlink,
    /// The entry has no extended attribute of that name.
    #[error("no such attribute")]
    NoAttribute,
    /// The file system has attributes of that kind nowhere, so there is no point in asking for other entries.
    #[error("attributes of that kind are not supported")]
    NoSuchAttributes,
    /// The handle was never given out, or is released already.
    #[error("no such handle")]
    BadHandle,
    /// Exclusive creation of something that exists.
    #[error("already exists")]
    AlreadyExists,
    /// The limit of open files is reached; closing one helps.
    #[error("too many open files")]
    TooManyOpenFiles,
}

/// Why an operation gave no value.
#[derive(Debug, ThisError)]
pub enum FsError {
    /// The engine failed. [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) means the same as [`Refusal::NoEntry`]:
    /// an object that a catalog names and nobody has is another kind, or programs would take a broken repository for
    /// an empty one.
    #[error(transparent)]
    Engine(#[from] Error),
    /// The entry cannot give what was asked.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Shorthand for results of file system operations.
pub type FsResult<T> = std::result::Result<T, FsError>;

/// A repository (or a test's tree) as a read-only file system.
///
/// Inodes are stateless: there is no `forget`, an inode number is never given out twice, and it stays valid as long as
/// its entry stays what it is. [`FileSystem::generation`] says when another revision took over. Every operation is idempotent except `open` and `release`, which pair up.
pub trait FileSystem: Send + Sync {
    /// Returns the attributes of `name` in a directory. `.` and `..` are understood.
    fn lookup(&self, parent: Ino, name: &[u8]) -> FsResult<Attr>;

    /// Returns the attributes of an inode.
    fn getattr(&self, ino: Ino) -> FsResult<Attr>;

    /// Returns a symlink's target, expanded.
    fn readlink(&self, ino: Ino) -> FsResult<Vec<u8>>;

    /// Opens a regular file; `flags` are those of `open(2)`. May fetch the whole object.
    fn open(&self, ino: Ino, flags: i32) -> FsResult<Opened>;

    /// Appends up to `size` bytes from `offset` to `into`; fewer only at the end of the file.
    fn read(&self, fh: Fh, offset: u64, size: u32, into: &mut Vec<u8>) -> FsResult<()>;

    /// Closes a handle; an unknown one is ignored.
    fn release(&self, fh: Fh);

    /// Feeds a directory's entries to `sink`, `.` and `..` included, until it breaks or the listing ends.
    ///
    /// Stateless: `from` is 0, or the `next` of the last entry that a caller kept. Positions are stable for the life
    /// of an inode.
    fn list(
        &self,
        directory: Ino,
        from: u64,
        sink: &mut dyn FnMut(&ListedEntry<'_>) -> ControlFlow<()>,
    ) -> FsResult<()>;

    /// Returns an extended attribute's value, for a caller of this primary group.
    fn getxattr(&self, ino: Ino, name: &[u8], gid: u32) -> FsResult<Vec<u8>>;

    /// Returns the names of the extended attributes, each ended by a NUL.
    fn listxattr(&self, ino: Ino) -> FsResult<Vec<u8>>;

    /// Returns totals of cache and repository.
    fn statfs(&self) -> FsResult<Statfs>;

    /// Counts the changes of what is shown. What was asked before a change and is answered after it must not be kept: the
    /// face cannot know from which side the answer is.
    fn generation(&self) -> u32 {
        0
    }

    /// Returns how long a face may keep that a name leads to an inode.
    fn entry_timeout(&self) -> Duration;

    /// Returns how long a face may keep attributes.
    fn attr_timeout(&self) -> Duration {
        self.entry_timeout()
    }

    /// Returns how long a face may keep that a name does not exist.
    fn negative_timeout(&self) -> Duration {
        self.entry_timeout()
    }
}
