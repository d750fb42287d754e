//! Objects that the cache directory cannot take: a full disk, a read-only cache. They live in memory while in use.
//!
//! Owns the budget: what all such objects of a process may take together. Threads: the budget is one atomic.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::error::{Error, ErrorKind, Result};

/// All objects in memory together. Large enough for several chunks at once, small enough for every machine.
const BUDGET_BYTES: u64 = 256 << 20;

/// What objects in memory take.
#[derive(Debug, Default, Clone)]
pub(super) struct SpillBudget(Arc<AtomicU64>);

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Spilled {
    budget: SpillBudget,
    bytes: u64,
}

impl SpillBudget {
    /// Creates an empty file in memory and what accounts for it.
    pub(super) fn create_file(&self) -> Result<(File, Spilled)> {
        let file = memfd_create("nearfs-object", MemfdFlags::CLOEXEC)
            .map_err(|e| Error::io("create", "a file in memory", e.into()))?;
        Ok((file.into(), Spilled { budget: self.clone(), bytes: 0 }))
    }

    /// Returns the bytes in use.
    pub(super) fn used_bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Spilled {
    /// Takes `bytes` more; [`ErrorKind::NoSpace`] once the budget is used up.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<()> {
        let used = self.budget.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.bytes += bytes;
        if used > BUDGET_BYTES {
            let subject = format!("{used} bytes of objects in memory, because the cache directory takes none");
            return Err(Error::new(ErrorKind::NoSpace, "hold", subject));
        }
        Ok(())
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_never_exceeded_and_comes_back() {
        let budget = SpillBudget::default();
        let (_file, mut first) = budget.create_file().unwrap();
        first.grow(BUDGET_BYTES).unwrap();
        let (_other, mut second) = budget.create_file().unwrap();
        assert_eq!(second.grow(1).unwrap_err().kind(), ErrorKind::NoSpace);
        drop((first, second));
        assert_eq!(budget.used_bytes(), 0);
    }
}
