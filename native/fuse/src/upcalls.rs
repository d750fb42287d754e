//! Counts of the requests that reached us, by operation: what the kernel could not answer from its caches.
//!
//! Owns the counters and the names of the operations. Threading: relaxed atomics, exact sums, no order between them.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! operations {
    ($($variant:ident $name:literal,)*) => {
        /// An operation of the kernel's protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Operation { $($variant,)* }

        impl Operation {
            /// Every operation, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the name that logs and metrics show.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns the operation of a name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

operations! {
    Lookup "lookup",
    Forget "forget",
    Getattr "getattr",
    Readlink "readlink",
    Opendir "opendir",
    Readdir "readdir",
    Readdirplus "readdirplus",
    Releasedir "releasedir",
    Open "open",
    Read "read",
    Release "release",
    Getxattr "getxattr",
    Listxattr "listxattr",
    Statfs "statfs",
    Access "access",
    Write "write",
    Other "other",
}

/// Requests since the mount, by operation.
#[derive(Debug, Default)]
pub struct Upcalls {
    counts: [AtomicU64; Operation::ALL.len()],
}

impl Upcalls {
    pub(crate) fn count(&self, operation: Operation) {
        self.add(operation, 1);
    }

    /// Counts requests that a loop has answered without asking the engine.
    pub fn add(&self, operation: Operation, times: u64) {
        self.counts[operation as usize].fetch_add(times, Ordering::Relaxed);
    }

    /// Returns how often an operation reached us. Every forgotten inode counts; every write operation counts as
    /// [`Operation::Write`].
    pub fn get(&self, operation: Operation) -> u64 {
        self.counts[operation as usize].load(Ordering::Relaxed)
    }

    /// Returns all counts with their names.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        Operation::ALL.iter().map(|operation| (operation.name(), self.get(*operation))).collect()
    }

    /// Returns the sum over all operations but `forget`, which no program waits for.
    pub fn total(&self) -> u64 {
        Operation::ALL.iter().filter(|o| **o != Operation::Forget).map(|o| self.get(*o)).sum()
    }
}
