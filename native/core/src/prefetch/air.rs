//! How much may be on its way ahead of its readers: as much as the line carries, and little that queues in front of it.
//!
//! Pure. A line has no sign that says how fast it is, but small answers tell: one that takes much longer than the fastest
//! one did has waited in a queue, and so does whatever somebody asks for now. What may be in the air doubles with each
//! round trip while answers come as fast as they can, grows the slower the longer they wait, and shrinks where that is
//! longer than a part of a round trip. So a fast line is filled within a few round trips, and on any line the queue stays
//! short.
//!
//! Small answers do not fill a long line, whatever it carries: of those, as many are asked for at a time as make up for
//! its round trip. Fewer than that after a failure, which may have been a host that has enough of us.

use std::time::Duration;

use crate::cache::Came;

/// In the air at first, about what 100 Mbit/s carry in 30 ms; and at least.
const START_BYTES: u64 = 384 << 10;
const MIN_BYTES: u64 = 8 << 10;
/// And at most: what 500 Mbit/s carry in 100 ms.
const MAX_BYTES: u64 = 6 << 20;
/// A large object weighs no more: its transport keeps about that much of it under way. Nor more than half of what there is
/// room for, so that small ones fly beside it.
const LARGE_BYTES: u64 = 256 << 10;
/// Larger answers take longer of themselves, and tell no more than that the line carries them: up to this many bytes.
const SMALL_BYTES: u64 = 24 << 10;
const UNTOLD_BYTES: u64 = 1 << 20;
/// A large answer takes so many round trips until it is up to speed.
const SLOW_START: u32 = 6;
/// An answer has a head, and a round trip, whatever is in it.
const LEAST_BYTES: u64 = 2 << 10;
/// Once the line was full, what may be in the air changes so much slower: what it does shows a round trip later.
const KNOWN_PACE: f64 = 0.25;
/// So many may be in the air on any line, and so many more for each millisecond that the line is long: a server hardly
/// answers more in that time.
const FLIGHTS: usize = 48;
const FLIGHTS_PER_MS: usize = 4;
/// After failures, no fewer than these.
const FLIGHTS_MIN: usize = 8;
/// An answer may wait for such a part of a round trip, and for what a server and two schedulers take without a queue:
/// whoever asks for something beside guesses hardly notices.
const DIRECT: Patience = Patience { of_round_trip: 20, jitter: Duration::from_millis(2) };
/// A proxy has its own work, and opens connections of its own: how long it takes says less about the line.
const BY_PROXY: Patience = Patience { of_round_trip: 4, jitter: Duration::from_millis(8) };

/// How long an answer may wait.
#[derive(Debug, Clone, Copy)]
struct Patience {
    of_round_trip: u32,
    jitter: Duration,
}

/// The bytes in the air, and how many may be.
#[derive(Debug)]
pub(super) struct Air {
    limit_bytes: u64,
    bytes: u64,
    flying: usize,
    /// No more than this may ever be in the air, and no more are now.
    allowed: usize,
    flights_max: usize,
    /// The shortest time that a small answer took.
    fastest: Option<Duration>,
    /// What connecting took, until answers tell.
    expected: Option<Duration>,
    patience: Patience,
    /// Something had to wait for room lately: more would be used.
    was_full: bool,
    /// The line was full once: how much it takes is about known.
    is_known: bool,
}

impl Air {
    /// An empty one, for so many at a time and no more.
    pub(super) fn new(allowed: usize) -> Self {
        Self {
            limit_bytes: START_BYTES,
            bytes: 0,
            flying: 0,
            allowed,
            flights_max: allowed,
            fastest: None,
            expected: None,
            patience: DIRECT,
            was_full: false,
            is_known: false,
        }
    }

    /// Says whether something of this weight may take off; one thing always may.
    pub(super) fn takes(&mut self, bytes: u64) -> bool {
        if self.flying >= self.flights() {
            return false;
        }
        let fits = self.flying == 0 || self.bytes + self.weight(bytes) <= self.limit_bytes;
        self.was_full |= !fits;
        fits
    }

    /// Something takes off; returns what it weighs, to be said again when it is there.
    pub(super) fn take_off(&mut self, bytes: u64) -> u64 {
        let weight = self.weight(bytes);
        self.bytes += weight;
        self.flying += 1;
        weight
    }

    /// Until answers say how long the line is, it is thought to be so long; and whether it leads to a host or to a proxy.
    pub(super) fn expect(&mut self, round_trip: Option<Duration>, is_direct: bool) {
        self.expected = round_trip;
        self.patience = if is_direct { DIRECT } else { BY_PROXY };
    }

    /// How many may be in the air.
    fn flights(&self) -> usize {
        let long = self.fastest.or(self.expected).map_or(0, |fastest| fastest.as_millis() as usize);
        (long * FLIGHTS_PER_MS).max(FLIGHTS).min(self.flights_max)
    }

    /// Something failed as others would: half as many at a time from now on, or half of that where it is one of many
    /// failures.
    pub(super) fn crash(&mut self, is_one_of_many: bool) {
        if !is_one_of_many {
            self.flights_max = self.allowed;
        }
        self.flights_max = (self.flights() / 2).max(FLIGHTS_MIN.min(self.allowed));
    }

    fn weight(&self, bytes: u64) -> u64 {
        bytes.min(LARGE_BYTES).min(self.limit_bytes / 2)
    }

    /// Returns how many bytes may be in the air.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Something is there, or failed, that took off with this weight; what came has no bytes where nothing did.
    pub(super) fn land(&mut self, weight: u64, came: Came, took: Duration) {
        self.bytes = self.bytes.saturating_sub(weight);
        self.flying = self.flying.saturating_sub(1);
        if came.bytes > SMALL_BYTES {
            let is_swift = self.fastest.is_none_or(|fastest| took <= (fastest + self.patience.jitter) * SLOW_START);
            if self.was_full && is_swift && self.limit_bytes < UNTOLD_BYTES {
                self.limit_bytes += came.bytes.min(LARGE_BYTES) / 2;
            }
            return;
        }
        // What opened a connection took a round trip for that, and what a cache had took none.
        if came.has_connected || came.was_nearby || came.bytes == 0 {
            return;
        }
        let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
        self.fastest = Some(fastest);
        let allowed = fastest / self.patience.of_round_trip + self.patience.jitter;
        let waited = took.saturating_sub(fastest);
        // From a gain of all that came to a loss of as much.
        let gain = (1.0 - waited.as_secs_f64() / allowed.as_secs_f64()).max(-1.0);
        let pace = if self.is_known { KNOWN_PACE } else { 1.0 };
        let change = (came.bytes.max(LEAST_BYTES) as f64 * gain.abs() * pace) as u64;
        if gain < 0.0 {
            self.is_known = true;
            self.limit_bytes = self.limit_bytes.saturating_sub(change).max(MIN_BYTES);
        } else if self.was_full {
            self.limit_bytes = (self.limit_bytes + change).min(MAX_BYTES);
        }
        if self.bytes + came.bytes < self.limit_bytes / 2 {
            self.was_full = false;
        }
    }

    #[cfg(test)]
    pub(super) fn flying(&self) -> usize {
        self.flying
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Instant;

    use super::*;

    fn answer(bytes: u64) -> Came {
        Came { bytes, has_connected: false, was_nearby: false }
    }

    /// Sends small answers over a line of 50 ms for `seconds`; returns the share of the line that was used in the last
    /// second, and the longest time that an answer waited then.
    fn over_a_line(bytes_per_ms: u64, seconds: u64) -> (f64, Duration) {
        const BYTES: u64 = 8 << 10;
        const HALF: Duration = Duration::from_millis(25);
        let begun = Instant::now();
        let last = begun + Duration::from_secs(seconds - 1);
        let (mut air, mut now, mut free_at) = (Air::new(1000), begun, begun);
        let mut flying: VecDeque<(Instant, Instant)> = VecDeque::new();
        let (mut came, mut waited) = (0, Duration::ZERO);
        while now < begun + Duration::from_secs(seconds) {
            while air.takes(BYTES) {
                assert_eq!(air.take_off(BYTES), BYTES);
                free_at = free_at.max(now + HALF) + Duration::from_micros(BYTES * 1000 / bytes_per_ms);
                flying.push_back((now, free_at + HALF));
            }
            let (sent_at, lands_at) = flying.pop_front().unwrap();
            now = lands_at;
            air.land(BYTES, answer(BYTES), now - sent_at);
            if now > last {
                came += BYTES;
                waited = waited.max((now - sent_at).saturating_sub(HALF * 2));
            }
        }
        (came as f64 / (bytes_per_ms * 1000) as f64, waited)
    }

    #[test]
    fn lines_are_filled_and_queues_stay_short() {
        for bytes_per_ms in [1_250, 2_500, 12_500, 40_000] {
            let (used, waited) = over_a_line(bytes_per_ms, 4);
            assert!(used > 0.8 && waited <= Duration::from_millis(80), "{bytes_per_ms}: {used} {waited:?}");
        }
    }

    #[test]
    fn a_long_line_takes_more_at_a_time_until_something_fails() {
        let mut air = Air::new(150);
        let fill = |air: &mut Air| {
            let before = air.flying();
            while air.takes(10) {
                air.take_off(10);
            }
            air.flying() - before
        };
        assert_eq!(fill(&mut air), FLIGHTS);
        // What a cache nearby had does not make the line short.
        air.land(10, Came { was_nearby: true, ..answer(10) }, Duration::from_millis(1));
        air.land(10, answer(10), Duration::from_millis(30));
        assert_eq!(fill(&mut air), 2 + 30 * FLIGHTS_PER_MS - FLIGHTS);
        air.land(10, answer(10), Duration::from_millis(10));
        assert_eq!(fill(&mut air), 0, "it is shorter than it seemed");
        let mut air = Air::new(150);
        air.expect(Some(Duration::from_millis(25)), true);
        assert_eq!(fill(&mut air), 25 * FLIGHTS_PER_MS);
        air.land(0, answer(10), Duration::from_millis(100));
        assert_eq!(fill(&mut air), 51);
        for fewer in [75, 37, 18, 9, FLIGHTS_MIN, FLIGHTS_MIN] {
            air.crash(true);
            assert_eq!(air.flights(), fewer);
        }
        air.crash(false);
        assert_eq!(air.flights(), 75);
    }

    #[test]
    fn large_things_fly_beside_small_ones_and_one_always_may() {
        let mut air = Air::new(1000);
        assert!(air.takes(100 << 20));
        let weight = air.take_off(100 << 20);
        assert!(air.takes(START_BYTES / 4) && air.takes(100 << 20), "half of the air is left");
        let second = air.take_off(100 << 20);
        assert!(!air.takes(100 << 20), "two are in the air");
        air.land(weight, answer(30 << 20), Duration::ZERO);
        air.land(second, answer(1 << 20), Duration::ZERO);
        assert_eq!((air.bytes, air.flying()), (0, 0));
        assert!((START_BYTES..=UNTOLD_BYTES + LARGE_BYTES).contains(&air.limit_bytes));
        assert!(air.takes(1));
    }
}
