//! Where a publisher keeps objects: the traits, and the stores that implement them.
//!
//! Owns the layout of a repository's storage and its durability. Does not know what an object means: nothing here
//! parses. Every store may be shared between threads; each method may block on the storage.

pub mod local;
pub mod memory;
pub mod verify;

use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;

use nearfs_format::object::ObjectId;

use crate::error::Result;

pub use local::LocalStore;
pub use memory::MemoryStore;
pub use verify::Verified;

/// The outcome of storing an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The store did not have the object before. Two threads that store the same object at once may both be told so.
    pub was_new: bool,
}

/// Reading objects. Bytes come as they are stored and unchecked; [`Verified`] checks them.
pub trait ObjectRead: Send + Sync {
    /// Returns the stored bytes. `NotFound` if the object is missing, `Corrupt` if it is larger than `limit_bytes`:
    /// memory is never allocated for more than that.
    fn read(&self, id: &ObjectId, limit_bytes: u64) -> Result<Vec<u8>>;

    /// Opens the stored bytes for streaming. `NotFound` if the object is missing.
    fn open(&self, id: &ObjectId) -> Result<Box<dyn Read + Send>>;

    /// Returns the stored size in bytes, `None` if the object is missing.
    fn size(&self, id: &ObjectId) -> Result<Option<u64>>;

    /// Returns a named file of the repository root, such as `.cvmfspublished`; errors as for [`ObjectRead::read`].
    fn read_named(&self, name: &str, limit_bytes: u64) -> Result<Vec<u8>>;
}

/// Writing objects.
///
/// Objects are immutable and named by their content: storing one again is harmless, and nothing that readers see
/// changes until a named file refers to it. A crash leaves complete objects that nobody refers to, and temporary files
/// that [`ObjectWrite::clear_leftovers`] removes. Objects need not be durable before [`ObjectWrite::sync`] returns.
pub trait ObjectWrite: Send + Sync {
    /// Stores `bytes` under `id`. Idempotent; an object of that length that is there already is kept.
    fn put(&self, id: &ObjectId, bytes: &[u8]) -> Result<Stored>;

    /// Begins an object that is too large for memory and whose id is known only at its end.
    fn begin(&self) -> Result<Box<dyn ObjectWriter + '_>>;

    /// Replaces a named file of the repository root: readers see the old bytes or the new ones, never a mixture, and
    /// the new ones are durable when this returns. Call [`ObjectWrite::sync`] before a manifest.
    fn put_named(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Makes every object stored so far durable. Once for a whole publish, not once for an object.
    fn sync(&self) -> Result<()>;

    /// Returns a directory for the caller's own large temporary files. What stays there after a crash is a leftover.
    fn scratch_dir(&self) -> PathBuf;

    /// Removes temporary files of publishers that died. Only for the holder of the repository's publish lock.
    /// Returns how many were removed.
    fn clear_leftovers(&self) -> Result<u64>;
}

/// An object while it is written. Dropping it without [`ObjectWriter::commit`] leaves nothing behind.
pub trait ObjectWriter: Write + Send {
    /// Stores what was written under `id`, as [`ObjectWrite::put`] does.
    fn commit(self: Box<Self>, id: &ObjectId) -> Result<Stored>;
}

/// Removing objects, for the holder of the repository's publish lock: whoever stores an object that is there already
/// relies on it to stay.
pub trait ObjectRemove: Send + Sync {
    /// Removes an object; says whether it was there. Idempotent. Durable after the next [`ObjectWrite::sync`].
    fn remove(&self, id: &ObjectId) -> Result<bool>;
}

/// Enumerating objects.
pub trait ObjectList: Send + Sync {
    /// Calls `visit` with every object and its stored size in bytes, in no particular order. Files that are not named
    /// like an object are passed over. Stops at the first error of `visit`. Objects stored meanwhile may be missed.
    fn list(&self, visit: &mut dyn FnMut(ObjectId, u64) -> Result<()>) -> Result<()>;
}

/// A store that a publisher can work on.
pub trait Store: ObjectRead + ObjectWrite + fmt::Debug {}

impl<S: ObjectRead + ObjectWrite + fmt::Debug> Store for S {}

/// A store that holds a replica: what is damaged there can be removed, to come anew.
pub trait ReplicaStore: Store + ObjectRemove {}

impl<S: Store + ObjectRemove> ReplicaStore for S {}
