//! One fetch per object however many threads ask: the first one flies, the others wait for it.
//!
//! Owns no I/O. The lock of the table is held for a look-up, that of a flight for a state change; a pilot that
//! panics or leaves early frees its passengers by dropping its [`Pilot`].

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// How often a passenger looks whether its own caller gave up.
const LOOK_UP: Duration = Duration::from_millis(50);

/// The fetches that are under way.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    table: Mutex<HashMap<K, Arc<Flight<V>>>>,
}

#[derive(Debug)]
struct Flight<V> {
    state: Mutex<State<V>>,
    landed: Condvar,
}

#[derive(Debug, Clone)]
enum State<V> {
    Flying,
    Landed(V),
    Abandoned,
}

/// What a thread finds that asks for `K`.
#[derive(Debug)]
pub(super) enum Boarding<'a, K: Eq + Hash + Clone, V: Clone> {
    /// Nobody fetches it: do it, and say how it went.
    Pilot(Pilot<'a, K, V>),
    /// Somebody else fetched it meanwhile.
    Landed(V),
    /// Somebody else began and gave up: ask again.
    Abandoned,
    /// Somebody else still fetches it, and the wait is over.
    StillFlying,
}

/// The right and the duty to fetch.
#[derive(Debug)]
pub(super) struct Pilot<'a, K: Eq + Hash + Clone, V: Clone> {
    flights: &'a Flights<K, V>,
    key: K,
    flight: Arc<Flight<V>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Default for Flights<K, V> {
    fn default() -> Self {
        Self { table: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// Says whether there is a pilot of `key`.
    pub(super) fn is_flying(&self, key: &K) -> bool {
        self.table.lock().contains_key(key)
    }

    /// Becomes the pilot of `key`, or waits for the one there is: at most `limit`, and while `is_wanted`.
    pub(super) fn board(&self, key: &K, limit: Duration, is_wanted: impl Fn() -> bool) -> Boarding<'_, K, V> {
        let flight = {
            let mut table = self.table.lock();
            if let Some(flight) = table.get(key) {
                flight.clone()
            } else {
                let flight = Arc::new(Flight { state: Mutex::new(State::Flying), landed: Condvar::new() });
                table.insert(key.clone(), flight.clone());
                return Boarding::Pilot(Pilot { flights: self, key: key.clone(), flight });
            }
        };
        flight.wait(limit, is_wanted)
    }
}

impl<V: Clone> Flight<V> {
    fn wait<'a, K: Eq + Hash + Clone>(&self, limit: Duration, is_wanted: impl Fn() -> bool) -> Boarding<'a, K, V> {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        loop {
            match &*state {
                State::Landed(value) => return Boarding::Landed(value.clone()),
                State::Abandoned => return Boarding::Abandoned,
                State::Flying => {}
            }
            let now = Instant::now();
            if now >= deadline || !is_wanted() {
                return Boarding::StillFlying;
            }
            self.landed.wait_until(&mut state, deadline.min(now + LOOK_UP));
        }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Pilot<'_, K, V> {
    /// Ends the flight: everybody who waits gets `value`, whoever comes later begins anew.
    pub(super) fn land(self, value: V) {
        *self.flight.state.lock() = State::Landed(value);
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Drop for Pilot<'_, K, V> {
    fn drop(&mut self) {
        self.flights.table.lock().remove(&self.key);
        {
            let mut state = self.flight.state.lock();
            if matches!(*state, State::Flying) {
                *state = State::Abandoned;
            }
        }
        self.flight.landed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_pilot_that_panics_frees_its_passengers() {
        let flights = Flights::<u8, u8>::default();
        std::thread::scope(|scope| {
            let Boarding::Pilot(pilot) = flights.board(&1, LONG, || true) else { panic!("somebody else flies") };
            let passenger = scope.spawn(|| matches!(flights.board(&1, LONG, || true), Boarding::Abandoned));
            std::thread::sleep(Duration::from_millis(20));
            let crash = scope.spawn(move || {
                let _pilot = pilot;
                std::panic::resume_unwind(Box::new("crash"));
            });
            assert!(crash.join().is_err());
            assert!(passenger.join().unwrap());
        });
        assert!(matches!(flights.board(&1, LONG, || true), Boarding::Pilot(_)));
    }

    #[test]
    fn a_wait_ends_at_its_limit_and_when_nobody_wants_it() {
        let flights = Flights::<u8, u8>::default();
        let _pilot = flights.board(&1, LONG, || true);
        assert!(matches!(flights.board(&1, Duration::from_millis(5), || true), Boarding::StillFlying));
        assert!(matches!(flights.board(&1, LONG, || false), Boarding::StillFlying));
        assert!(matches!(flights.board(&2, LONG, || true), Boarding::Pilot(_)));
    }

    #[test]
    fn every_passenger_gets_what_the_pilot_brought() {
        const THREADS: usize = 16;
        let (flights, flown) = (Flights::<u8, usize>::default(), AtomicUsize::new(0));
        let ask = || match flights.board(&1, LONG, || true) {
            Boarding::Pilot(pilot) => {
                // The table, the pilot and every passenger hold the flight.
                while Arc::strong_count(&pilot.flight) < 1 + THREADS {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let value = flown.fetch_add(1, Ordering::SeqCst);
                pilot.land(value);
                value
            }
            Boarding::Landed(value) => value,
            other => panic!("{other:?}"),
        };
        let values: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(values, [0; THREADS]);
    }
}
