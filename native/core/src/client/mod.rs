//! The read-only file system as plain methods, with no kernel in the loop.
//!
//! [`ops::Client`] answers what a FUSE face, a test or a portable loop asks; [`namespace`] gives inode numbers.

pub mod types;

pub use types::{Attr, Fh, Ino, ListedEntry, Opened, Statfs};
