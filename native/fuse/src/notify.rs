//! Messages to the kernel about what it must forget.
//!
//! Owns nothing but the wrapping. Threading: may be called from any thread but a worker that answers a request for the
//! same inode or directory: the kernel takes their locks, which that request may hold.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::INodeNo;
use nearfs_core::client::Ino;
use nearfs_core::{Error, Result};
use rustix::io::Errno;

/// Protocol constant `FUSE_NOTIFY_INC_EPOCH`, since protocol 7.44 (Linux 6.16).
const INC_EPOCH: i32 = 8;
/// Length of a message that is nothing but a header: length, code, and 0 for "no request".
const HEADER_BYTES: u32 = 16;

/// A mount's way to tell the kernel what is no longer true. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Notifier {
    pub(crate) library: fuser::Notifier,
    pub(crate) device_file: Arc<OwnedFd>,
}

impl Notifier {
    /// Drops what the kernel keeps of an inode: attributes, pages, a directory's listing, a symlink's target. An inode
    /// that the kernel does not know is no error.
    pub fn invalidate_inode(&self, ino: Ino) -> Result<()> {
        self.library
            .inval_inode(INodeNo(ino.0), 0, 0)
            .map_err(|source| Error::io("invalidate in the kernel", format!("inode {}", ino.0), source))
    }

    /// Drops what the kernel keeps of a name, also that it does not exist.
    pub fn invalidate_entry(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.library.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name)).map_err(|source| {
            let subject = format!("`{}` in inode {}", name.escape_ascii(), parent.0);
            Error::io("invalidate in the kernel", subject, source)
        })
    }

    /// Makes the kernel ask again for every name that it keeps, at once and whatever their number; listings, attributes
    /// and pages stay. Says whether the kernel understands: before Linux 6.16 it does not, and nothing was done.
    pub fn expire_all_names(&self) -> Result<bool> {
        let mut message = [0; HEADER_BYTES as usize];
        message[..4].copy_from_slice(&HEADER_BYTES.to_ne_bytes());
        message[4..8].copy_from_slice(&INC_EPOCH.to_ne_bytes());
        match rustix::io::retry_on_intr(|| rustix::io::write(&*self.device_file, &message)) {
            Ok(_) => Ok(true),
            Err(Errno::INVAL) => Ok(false),
            Err(errno) => Err(Error::io("expire in the kernel", "all names", errno.into())),
        }
    }
}
