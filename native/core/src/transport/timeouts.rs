//! The two time-outs of requests, which an operator may change while they are in use.
//!
//! Any thread; each value is right on its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::proxy::Proxy;

/// How long a host or a proxy may be silent.
#[derive(Debug)]
pub struct Timeouts {
    direct_ms: AtomicU64,
    by_proxy_ms: AtomicU64,
}

impl Timeouts {
    /// Builds them from `CVMFS_TIMEOUT_DIRECT` and `CVMFS_TIMEOUT`.
    pub fn new(direct: Duration, by_proxy: Duration) -> Self {
        let timeouts = Self { direct_ms: AtomicU64::default(), by_proxy_ms: AtomicU64::default() };
        timeouts.set(direct, by_proxy);
        timeouts
    }

    /// Changes both, for attempts that begin from now on.
    pub fn set(&self, direct: Duration, by_proxy: Duration) {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        self.direct_ms.store(milliseconds(direct), Ordering::Relaxed);
        self.by_proxy_ms.store(milliseconds(by_proxy), Ordering::Relaxed);
    }

    /// Returns the time-out without a proxy.
    pub fn direct(&self) -> Duration {
        Duration::from_millis(self.direct_ms.load(Ordering::Relaxed))
    }

    /// Returns the time-out by a proxy.
    pub fn by_proxy(&self) -> Duration {
        Duration::from_millis(self.by_proxy_ms.load(Ordering::Relaxed))
    }

    /// Returns the time-out that holds by `proxy`.
    pub fn of(&self, proxy: &Proxy) -> Duration {
        if *proxy == Proxy::Direct { self.direct() } else { self.by_proxy() }
    }
}
