//! The read-only file system as plain methods, with no kernel in the loop.
//!
//! [`ops::Client`] answers what a FUSE face, a test or a portable loop asks through [`filesystem::FileSystem`]; inode
//! numbers come from the catalogs themselves.

pub mod filesystem;
mod keeping;
mod learned;
mod namespace;
mod nearby;
pub mod ops;
pub mod options;
mod read;
pub mod types;
pub mod updates;
mod validity;
pub mod xattr;

pub use crate::transport::caller::working_for;
pub use filesystem::{FileSystem, FsError, FsResult, Refusal};
pub use ops::Client;
pub use options::ClientOptions;
pub use types::{Attr, Fh, Ino, ListedEntry, Opened, Statfs};
