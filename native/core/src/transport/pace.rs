//! The low-speed rule: an answer that brings too few bytes for too long is given up.
//!
//! One [`Pace`] watches one exchange, from the request on. The time that the sink takes does not count against the
//! host.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// Watches the bytes of one answer in windows of the low-speed period.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_window: u64,
    period: Duration,
    window_end: Instant,
    window_bytes: u64,
    total_bytes: u64,
}

/// The host was too slow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow {
    /// Nothing at all had come.
    pub(super) silent: bool,
}

impl Pace {
    /// Begins watching: fewer than `limit` bytes per second over `period` is too slow; 0 switches the rule off, so
    /// that only silence counts.
    pub(super) fn new(limit: u64, period: Duration) -> Self {
        Self {
            bytes_per_window: limit.saturating_mul(period.as_millis() as u64) / 1000,
            period,
            window_end: Instant::now() + period,
            window_bytes: 0,
            total_bytes: 0,
        }
    }

    /// Waits for `work` as long as the pace allows.
    pub(super) async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T, TooSlow> {
        tokio::pin!(work);
        loop {
            if let Ok(value) = timeout_at(self.window_end, work.as_mut()).await {
                return Ok(value);
            }
            self.next_window()?;
        }
    }

    /// Counts bytes that came, and the time that it took to put them away.
    pub(super) fn count(&mut self, bytes: u64, put_away: Duration) -> Result<(), TooSlow> {
        self.window_bytes += bytes;
        self.total_bytes += bytes;
        self.window_end += put_away;
        if Instant::now() < self.window_end { Ok(()) } else { self.next_window() }
    }

    fn next_window(&mut self) -> Result<(), TooSlow> {
        if self.window_bytes < self.bytes_per_window.max(1) {
            return Err(TooSlow { silent: self.total_bytes == 0 });
        }
        self.window_bytes = 0;
        self.window_end = Instant::now() + self.period;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn silence_is_too_slow_after_one_period() {
        let mut pace = Pace::new(1000, PERIOD);
        assert_eq!(pace.wait(std::future::pending::<()>()).await, Err(TooSlow { silent: true }));
    }

    #[tokio::test]
    async fn a_trickle_is_too_slow_although_bytes_come() {
        let mut pace = Pace::new(1000, PERIOD);
        let mut verdict = Ok(());
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            verdict = pace.count(1, Duration::ZERO);
            if verdict.is_err() {
                break;
            }
        }
        assert_eq!(verdict, Err(TooSlow { silent: false }));
    }

    #[tokio::test]
    async fn enough_bytes_in_each_window_go_on() {
        let mut pace = Pace::new(1000, PERIOD);
        for _ in 0..4 {
            tokio::time::sleep(PERIOD).await;
            assert_eq!(pace.count(1000, Duration::ZERO), Ok(()));
        }
    }

    #[tokio::test]
    async fn time_that_the_sink_takes_is_not_the_hosts() {
        let mut pace = Pace::new(1_000_000, PERIOD);
        std::thread::sleep(PERIOD * 3);
        assert_eq!(pace.count(1, PERIOD * 3), Ok(()));
    }
}
