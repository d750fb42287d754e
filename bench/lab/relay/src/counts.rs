//! What crossed one direction so far.
//!
//! Relaxed atomics: exact sums, no order between them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sums over one direction; sizes are those of IP packets.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) packets: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) overflowed: AtomicU64,
    pub(crate) lost: AtomicU64,
}

impl Counts {
    pub(crate) fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            out,
            "{{\"packets\": {}, \"bytes\": {}, \"overflowed\": {}, \"lost\": {}}}",
            get(&self.packets),
            get(&self.bytes),
            get(&self.overflowed),
            get(&self.lost)
        )
    }
}
