//! How long the shown revision is believed without asking: the root catalog's time to live, and a site's limit to it.
//!
//! Any thread; each value is right on its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ops::Client;

/// Time to live of a root catalog that asks for none, seconds.
const DEFAULT_TTL_S: u64 = 240;
/// A time to live of nothing would have the publisher asked without pause.
const TTL_MIN: Duration = Duration::from_secs(1);

/// When the revision was last found to be the newest one, and the limit to its time to live.
#[derive(Debug)]
pub(super) struct Validity {
    checked_at: Mutex<Instant>,
    /// Seconds; 0 for none.
    max_ttl_s: AtomicU64,
}

impl Validity {
    /// Begins now.
    pub(super) fn from_now() -> Self {
        Self { checked_at: Mutex::new(Instant::now()), max_ttl_s: AtomicU64::new(0) }
    }

    pub(super) fn renew(&self) {
        *self.checked_at.lock() = Instant::now();
    }

    pub(super) fn checked_at(&self) -> Instant {
        *self.checked_at.lock()
    }

    pub(super) fn set_max_ttl(&self, max_ttl: Option<Duration>) {
        self.max_ttl_s.store(max_ttl.map_or(0, |ttl| ttl.as_secs().max(1)), Ordering::Relaxed);
    }

    pub(super) fn max_ttl(&self) -> Option<Duration> {
        Some(self.max_ttl_s.load(Ordering::Relaxed)).filter(|s| *s > 0).map(Duration::from_secs)
    }
}

impl Client {
    /// Returns how long the revision is believed: what its root catalog says, and no longer than the site's limit.
    pub fn ttl(&self) -> Duration {
        let said = self.tree().root().index.ttl_s().filter(|s| *s > 0).unwrap_or(DEFAULT_TTL_S);
        let ttl = Duration::from_secs(said);
        self.validity.max_ttl().map_or(ttl, |limit| ttl.min(limit)).max(TTL_MIN)
    }

    /// Returns the limit to the time to live, if there is one.
    pub fn max_ttl(&self) -> Option<Duration> {
        self.validity.max_ttl()
    }

    /// Returns the minutes until the revision is looked at again, rounded down.
    pub fn minutes_to_expiry(&self) -> u64 {
        self.ttl().saturating_sub(self.validity.checked_at().elapsed()).as_secs() / 60
    }
}
