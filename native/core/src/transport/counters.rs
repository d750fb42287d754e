//! Counters of a transport: what it asked for and what came.
//!
//! Any thread may count and read; a reading is not a consistent cut, each number is right on its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters that a transport keeps up to date.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    time_us: AtomicU64,
    connections: AtomicU64,
}

/// What the counters showed at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CountersReading {
    /// Attempts that were made, repeated ones included.
    pub requests: u64,
    /// Bytes of answers' bodies that were passed on.
    pub bytes: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// Time that the attempts took, added up over parallel ones, in microseconds.
    pub time_us: u64,
    /// Connections that were opened.
    pub connections: u64,
}

impl Counters {
    /// Counts one attempt.
    pub fn count_request(&self, took: Duration, failed: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        self.time_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts bytes of a body.
    pub fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a connection that was opened.
    pub fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads all counters.
    pub fn read(&self) -> CountersReading {
        CountersReading {
            requests: self.requests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            time_us: self.time_us.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }
}
