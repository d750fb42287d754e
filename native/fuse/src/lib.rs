//! The FUSE face of the engine: the only crate that knows the kernel.
//!
//! Owns the protocol's adapter, the error numbers, mounting and unmounting. Knows the engine as
//! [`nearfs_core::client::FileSystem`] only, so that tests mount a tree of their own.

mod adapter;
mod attr;
mod errno;
mod fusermount;
pub mod mount_table;
mod mounting;
pub mod notify;
mod questions;
pub mod session;
mod settings;
pub mod stale;
mod unserved;
pub mod upcalls;

pub use mount_table::{is_mounted, mounted_at};
pub use mounting::Unmounted;
pub use notify::Notifier;
pub use questions::Questions;
pub use session::Session;
pub use settings::MountSettings;
pub use stale::clear_stale_mount;
pub use unserved::UnservedMount;
pub use upcalls::{Operation, Upcalls};
