//! Messages to the kernel about what it must forget.
//!
//! Owns the messages, which go through the device file whoever serves it. Threading: may be called from any thread but
//! a worker that answers a request for the same inode or directory: the kernel takes their locks, which that request may
//! hold.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nearfs_core::client::Ino;
use nearfs_core::client::updates::Kept;
use nearfs_core::{Error, Result};
use rustix::io::Errno;

/// Protocol constants. `FUSE_NOTIFY_INC_EPOCH` came with protocol 7.44 (Linux 6.16).
const INVALIDATE_INODE: i32 = 2;
const INVALIDATE_ENTRY: i32 = 3;
const INC_EPOCH: i32 = 8;
/// Length and code of a message, and 0 for "no request".
const HEADER_BYTES: usize = 16;

/// A mount's way to tell the kernel what is no longer true. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Notifier {
    pub(crate) device_file: Arc<OwnedFd>,
}

impl Notifier {
    /// Drops what the kernel keeps of an inode: attributes, pages, a directory's listing, a symlink's target. An inode
    /// that the kernel does not know is no error.
    pub fn invalidate_inode(&self, ino: Ino) -> Result<()> {
        // From offset 0 to the end, which is what a length of 0 says.
        let (offset, length) = (0_i64, 0_i64);
        let body = [ino.0.to_ne_bytes(), offset.to_ne_bytes(), length.to_ne_bytes()].concat();
        self.send(INVALIDATE_INODE, &body, || format!("inode {}", ino.0)).map(drop)
    }

    /// Drops what the kernel keeps of a name, also that it does not exist.
    pub fn invalidate_entry(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let mut body = Vec::with_capacity(16 + name.len() + 1);
        body.extend_from_slice(&parent.0.to_ne_bytes());
        body.extend_from_slice(&(name.len() as u32).to_ne_bytes());
        body.extend_from_slice(&0_u32.to_ne_bytes());
        body.extend_from_slice(name);
        body.push(0);
        self.send(INVALIDATE_ENTRY, &body, || format!("`{}` in inode {}", name.escape_ascii(), parent.0)).map(drop)
    }

    /// Makes the kernel ask again for every name that it keeps, at once and whatever their number; listings, attributes
    /// and pages stay. Says whether the kernel understands: before Linux 6.16 it does not, and nothing was done.
    pub fn expire_all_names(&self) -> Result<bool> {
        self.send(INC_EPOCH, &[], || "all names".to_owned())
    }

    /// Returns whether the kernel understood; that it knows no such inode or name is fine.
    fn send(&self, code: i32, body: &[u8], subject: impl Fn() -> String) -> Result<bool> {
        let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
        message.extend_from_slice(&((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&code.to_ne_bytes());
        message.extend_from_slice(&0_u64.to_ne_bytes());
        message.extend_from_slice(body);
        match rustix::io::retry_on_intr(|| rustix::io::write(&*self.device_file, &message)) {
            Ok(_) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::INVAL) if body.is_empty() => Ok(false),
            Err(errno) => Err(Error::io("invalidate in the kernel", subject(), errno.into())),
        }
    }
}

/// The kernel's caches of a mount, told by the engine what is no longer true.
pub(crate) struct KernelCaches<F> {
    pub(crate) notifier: Notifier,
    pub(crate) give_up: F,
}

impl<F> fmt::Debug for KernelCaches<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelCaches").field("notifier", &self.notifier).finish_non_exhaustive()
    }
}

impl<F: Fn() + Send + Sync> Kept for KernelCaches<F> {
    fn forget_inode(&self, ino: Ino) {
        tell_failure(self.notifier.invalidate_inode(ino));
    }

    fn forget_name(&self, directory: Ino, name: &[u8]) {
        tell_failure(self.notifier.invalidate_entry(directory, name));
    }

    fn give_up(&self) {
        (self.give_up)();
    }
}

fn tell_failure(outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "the kernel keeps it until its time is over");
    }
}
