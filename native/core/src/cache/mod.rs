//! Objects on the local disk of a client: the reference cache layout, filled at most once per object.
//!
//! [`disk`] owns the directory (layout, commit, quarantine, lock), [`cached`] the reading of an object and its
//! checksums, [`breadcrumb`] the note of the last known root, [`quota`] the limit that all processes keep together (on
//! a ledger and, in the reference's form, a database), [`fill`] the way of a missing object from an
//! [`crate::transport::Origin`] into the directory, [`audit`] the check of a file against its name. Contents lie
//! decompressed; what they mean is none of this layer's business.
//!
//! Threads: everything is shared between threads, and the directory between processes where it is a shared cache. No
//! lock is held across I/O.

pub mod audit;
pub mod breadcrumb;
pub mod cached;
mod cachedb;
mod checks;
pub mod disk;
pub mod fill;
mod flight;
mod ledger;
mod pending;
pub mod quota;
mod settling;
mod sink;
mod spill;
mod temporary;
mod throttle;
mod unpacking;
mod want;

pub use breadcrumb::Breadcrumb;
pub use cached::CachedObject;
pub use cachedb::ListedObject;
pub use disk::{DiskCache, Sharing, WorkspaceLock};
pub use fill::{Came, FillCounters, ObjectCache};
pub use pending::PendingObject;
pub use quota::{Quota, QuotaCounters};
pub use unpacking::Unpacked;
pub use want::{Place, Want};
