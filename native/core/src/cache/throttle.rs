//! The brake after failed fetches: a program that retries in a loop must not turn into a storm of requests.
//!
//! client.md 3.5 item 7: the first failure is free; while failures follow within 10 s of each other, each costs a
//! pause, random up to 32 ms first, then doubling up to 2 s. Shared by all threads; nobody sleeps under its lock.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const FORGET_AFTER: Duration = Duration::from_secs(10);
const FIRST_PAUSE_MS: u64 = 32;
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Counts failures and says how long to pause.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    pause: Duration,
}

impl Throttle {
    /// Counts a failure at `now` and returns the pause that it costs. `die(n)` returns a number in `1..=n`.
    pub(super) fn after_failure(&self, now: Instant, die: impl FnOnce(u64) -> u64) -> Duration {
        let mut state = self.0.lock();
        let is_repeated = state.last.is_some_and(|last| now.saturating_duration_since(last) < FORGET_AFTER);
        state.last = Some(now);
        state.pause = match (is_repeated, state.pause.is_zero()) {
            (false, _) => Duration::ZERO,
            (true, true) => Duration::from_millis(die(FIRST_PAUSE_MS)),
            (true, false) => (state.pause * 2).min(LONGEST_PAUSE),
        };
        state.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_cost_more_and_more() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let pauses: Vec<_> = (0..10)
            .map(|n| throttle.after_failure(start + Duration::from_secs(n), |sides| sides).as_millis())
            .collect();
        assert_eq!(pauses, [0, 32, 64, 128, 256, 512, 1024, 2000, 2000, 2000]);
    }

    #[test]
    fn ten_quiet_seconds_forgive_everything() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        throttle.after_failure(start, |sides| sides);
        assert_eq!(throttle.after_failure(start + Duration::from_secs(1), |_| 7), Duration::from_millis(7));
        assert_eq!(throttle.after_failure(start + Duration::from_secs(11), |_| 7), Duration::ZERO);
    }
}
