//! Objects on the local disk of a client: the reference cache layout, filled at most once per object.
//!
//! [`disk`] owns the directory (layout, commit, quarantine, lock), [`breadcrumb`] the note of the last known root,
//! [`fill`] the way of a missing object from an [`crate::transport::Origin`] into the directory. Contents lie
//! decompressed; what they mean is none of this layer's business.
//!
//! Threads: everything is shared between threads, and the directory between processes where it is a shared cache. No
//! lock is held across I/O.

pub mod breadcrumb;
pub mod disk;
pub mod fill;
mod flight;
mod pending;
mod sink;
mod throttle;

pub use breadcrumb::Breadcrumb;
pub use disk::{CachedObject, DiskCache, Sharing, WorkspaceLock};
pub use fill::{FillCounters, ObjectCache, Want};
pub use pending::PendingObject;
