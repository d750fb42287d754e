//! How much may be on its way ahead of its readers: as much as the line carries, and little that queues in front of it.
//!
//! Pure. A line has no sign that says how fast it is, but small answers tell: one that takes much longer than the fastest
//! one did has waited in a queue, and so does whatever somebody asks for now. So what may be in the air doubles with each
//! round trip while small answers come about as fast as they can, and shrinks when they do not. The line of whoever waits
//! stays nearly empty, on a slow one as well; a fast one is filled within a few round trips.

use std::time::{Duration, Instant};

/// In the air at first, and at least: about what 100 Mbit/s carry in 20 ms, 20 Mbit/s in 50 ms.
const START_BYTES: u64 = 256 << 10;
const MIN_BYTES: u64 = 48 << 10;
/// And at most: what 500 Mbit/s carry in 100 ms.
const MAX_BYTES: u64 = 6 << 20;
/// A large object weighs no more: its transport keeps that much of it under way.
const LARGE_BYTES: u64 = 512 << 10;
/// Larger answers take longer of themselves, and tell nothing.
const SMALL_BYTES: u64 = 24 << 10;
/// What a server and two schedulers may take without a queue.
const JITTER: Duration = Duration::from_millis(8);

/// The bytes in the air, and how many may be.
#[derive(Debug)]
pub(super) struct Air {
    limit_bytes: u64,
    bytes: u64,
    flying: usize,
    /// The shortest time that a small answer took.
    fastest: Option<Duration>,
    /// What left before was sent into another queue than there is now.
    shrunk_at: Option<Instant>,
    /// It was full since the limit changed: a larger one would be used.
    was_full: bool,
}

impl Default for Air {
    fn default() -> Self {
        Self { limit_bytes: START_BYTES, bytes: 0, flying: 0, fastest: None, shrunk_at: None, was_full: false }
    }
}

impl Air {
    /// Says whether something of this weight may take off; one thing always may.
    pub(super) fn takes(&mut self, bytes: u64) -> bool {
        let fits = self.flying == 0 || self.bytes + bytes.min(LARGE_BYTES) <= self.limit_bytes;
        self.was_full |= !fits;
        fits
    }

    pub(super) fn take_off(&mut self, bytes: u64) {
        self.bytes += bytes.min(LARGE_BYTES);
        self.flying += 1;
    }

    /// Something is there, or failed, that took off with `bytes`; `came_bytes` are 0 where nothing came.
    pub(super) fn land(&mut self, bytes: u64, came_bytes: u64, took_off: Instant, now: Instant) {
        self.bytes = self.bytes.saturating_sub(bytes.min(LARGE_BYTES));
        self.flying = self.flying.saturating_sub(1);
        let took = now.saturating_duration_since(took_off);
        if came_bytes == 0 {
            return;
        }
        if came_bytes > SMALL_BYTES {
            return self.grow(came_bytes / 4);
        }
        let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
        self.fastest = Some(fastest);
        if took <= fastest + fastest / 2 + JITTER {
            self.grow(came_bytes.max(1 << 10) * 2);
        } else if self.shrunk_at.is_none_or(|at| at < took_off) {
            self.limit_bytes = (self.limit_bytes / 4 * 3).max(MIN_BYTES);
            (self.shrunk_at, self.was_full) = (Some(now), false);
        }
    }

    #[cfg(test)]
    pub(super) fn flying(&self) -> usize {
        self.flying
    }

    fn grow(&mut self, bytes: u64) {
        if self.was_full {
            self.limit_bytes = (self.limit_bytes + bytes).min(MAX_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends small answers over a line for `rounds` round trips of 50 ms; returns what may be in the air, and the longest
    /// time that an answer waited in the queue of the last round.
    fn over_a_line(bytes_per_ms: u64, rounds: u32) -> (u64, Duration) {
        const BYTES: u64 = 8 << 10;
        let (mut air, mut now, mut waited) = (Air::default(), Instant::now(), Duration::ZERO);
        for _ in 0..rounds {
            let sent_at = now;
            let mut sent = 0;
            while air.takes(BYTES) {
                air.take_off(BYTES);
                sent += 1;
            }
            for number in 1..=sent {
                waited = Duration::from_micros(number * BYTES * 1000 / bytes_per_ms);
                now = sent_at + Duration::from_millis(50) + waited;
                air.land(BYTES, BYTES, sent_at, now);
            }
        }
        (air.limit_bytes, waited)
    }

    #[test]
    fn a_fast_line_is_filled_and_a_slow_one_kept_free() {
        let (fast, waited) = over_a_line(12_500, 10);
        assert!(fast >= 600 << 10 && waited <= Duration::from_millis(80), "{fast} {waited:?}");
        let (slow, waited) = over_a_line(1_250, 30);
        assert!((MIN_BYTES..160 << 10).contains(&slow) && waited <= Duration::from_millis(60), "{slow} {waited:?}");
    }

    #[test]
    fn large_things_fly_beside_small_ones_and_one_always_may() {
        let mut air = Air::default();
        assert!(air.takes(100 << 20));
        air.take_off(100 << 20);
        assert!(!air.takes(1));
        let now = Instant::now();
        air.land(100 << 20, 30 << 20, now, now);
        assert_eq!((air.bytes, air.flying(), air.limit_bytes), (0, 0, MAX_BYTES));
        assert!(air.takes(1));
    }
}
