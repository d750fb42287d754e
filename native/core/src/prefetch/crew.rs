//! The threads that run errands ahead of readers: few, begun when there is work, ended when there is none.
//!
//! Owns the queue and the threads. Not what is worth fetching, nor what an errand does. A guess in the air takes bandwidth
//! from whoever waits; [`super::air`] says how much that may be.
//!
//! Threading: [`Crew`] is shared; its lock is held to look at the queue, never while an errand is run. The work of
//! [`Crew::stop`] is bounded: fetches end when their interrupt is cancelled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::air::Air;
use super::ledger::Mechanism;
use super::queue::{Lane, Queue};
use crate::cache::Came;
use crate::transport::Interrupt;

/// Errands begin so long after they were made: the request of whoever made them waits for bytes that nobody asked for
/// unless it is sent first.
const HEAD_START: Duration = Duration::from_millis(1);
/// Threads beside those for requests: what only plans may wait for room, and must not hold up what makes it.
const PLANNING_THREADS: usize = 8;
/// Threads end after this time without work.
const IDLE: Duration = Duration::from_secs(5);
/// Errands that wait for their turn.
const QUEUE_MAX: usize = 4096;
/// After a failure, nothing is guessed for this time: whoever waits has the line, and the hosts, for themselves.
const REST: Duration = Duration::from_secs(10);
/// A failure is held against those that come so long after it.
const MEMORY: Duration = Duration::from_secs(600);
/// How long the end of the threads is waited for. They only have to notice.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// What a crew runs.
pub(super) trait Errand: Send + 'static {
    /// About how many bytes it brings over the line; 0 for what is no request of its own.
    fn bytes(&self) -> u64;
}

/// How an errand went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Well; this came over the line.
    Came(Came),
    /// A request failed, as others would.
    Failed,
}

impl Done {
    /// It went well, and nothing came over the line for it.
    pub(super) const WELL: Self = Self::Came(Came { bytes: 0, has_connected: false, was_nearby: false });
}

/// Runs one errand, or forgets it where the interrupt is cancelled already.
pub(super) type Run<E> = dyn Fn(E, &Interrupt) -> Done + Send + Sync;

/// The threads and their queue.
pub(super) struct Crew<E: Errand> {
    limit: usize,
    /// Requests of bundles at a time.
    bundles_max: usize,
    run: Box<Run<E>>,
    state: Mutex<State<E>>,
    woken: Condvar,
    ended: Condvar,
}

struct State<E> {
    queue: Queue<E>,
    /// Requests of bundles that are under way.
    bundles: usize,
    threads: usize,
    idle: usize,
    air: Air,
    interrupt: Interrupt,
    resting_until: Option<Instant>,
    failed_at: Option<Instant>,
    is_over: bool,
}

/// An errand on its way to be run.
struct Taken<E> {
    errand: E,
    /// Whose it is and what it weighs in the air; nothing of what is no request of its own.
    request: Option<(Mechanism, u64)>,
    interrupt: Interrupt,
}

impl<E> State<E> {
    fn new(limit: usize) -> Self {
        Self {
            queue: Queue::default(),
            bundles: 0,
            threads: 0,
            idle: 0,
            air: Air::new(limit),
            interrupt: Interrupt::default(),
            resting_until: None,
            failed_at: None,
            is_over: false,
        }
    }
}

impl<E: Errand> std::fmt::Debug for Crew<E> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Crew({} threads at most)", self.limit)
    }
}

impl<E: Errand> Crew<E> {
    /// Prepares; the first errand begins the first thread.
    pub(super) fn new(limit: usize, bundles_max: usize, run: Box<Run<E>>) -> Arc<Self> {
        let (state, woken, ended) = (Mutex::new(State::new(limit)), Condvar::new(), Condvar::new());
        Arc::new(Self { limit, bundles_max, run, state, woken, ended })
    }

    /// Says whether errands are taken now.
    pub(super) fn is_ready(&self) -> bool {
        let mut state = self.state.lock();
        if state.resting_until.is_some_and(|until| until <= Instant::now()) {
            state.resting_until = None;
        }
        !state.is_over && state.resting_until.is_none() && state.queue.len() < QUEUE_MAX
    }

    /// Has an errand run; gives it back where it is not taken.
    pub(super) fn push(self: &Arc<Self>, lane: Lane, errand: E) -> Result<(), E> {
        let mut state = self.state.lock();
        if state.is_over || state.resting_until.is_some() || state.queue.len() >= QUEUE_MAX {
            return Err(errand);
        }
        if state.idle <= state.queue.len() && state.threads < self.limit + PLANNING_THREADS {
            let this = Arc::clone(self);
            let thread = std::thread::Builder::new().name("nearfs-ahead".to_owned());
            // Without a thread more, those that there are have more to do; without any, it is as if it was not guessed.
            if thread.spawn(move || this.work()).is_ok() {
                state.threads += 1;
            } else if state.threads == 0 {
                return Err(errand);
            }
        }
        state.queue.push(lane, errand, Instant::now() + HEAD_START);
        drop(state);
        self.woken.notify_one();
        Ok(())
    }

    /// The line to the host, or to the proxy before it, is about so long.
    pub(super) fn expect(&self, round_trip: Option<Duration>, is_direct: bool) {
        self.state.lock().air.expect(round_trip, is_direct);
    }

    /// Returns how many bytes may be on their way now.
    pub(super) fn air_bytes(&self) -> u64 {
        self.state.lock().air.limit_bytes()
    }

    /// Gives up what waits and what is in the air, and takes nothing more. Waits until the threads have noticed.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        state.queue = Queue::default();
        state.interrupt.cancel();
        self.woken.notify_all();
        let until = Instant::now() + STOP_LIMIT;
        while state.threads > 0 && !self.ended.wait_until(&mut state, until).timed_out() {}
    }

    fn work(&self) {
        /// Also after a panic, nobody waits for this thread.
        struct Ends<'a, E: Errand>(&'a Crew<E>);
        impl<E: Errand> Drop for Ends<'_, E> {
            fn drop(&mut self) {
                self.0.state.lock().threads -= 1;
                self.0.ended.notify_all();
            }
        }
        let _ends = Ends(self);
        while let Some(Taken { errand, request, interrupt }) = self.next() {
            let took_off = Instant::now();
            let done = (self.run)(errand, &interrupt);
            let came = if let Done::Came(came) = done { came } else { Came::default() };
            let mut state = self.state.lock();
            if let Some((mechanism, weight)) = request {
                state.air.land(weight, came, took_off.elapsed());
                state.bundles -= usize::from(mechanism == Mechanism::Bundles);
            }
            let given_up = if done == Done::Failed { rest(&mut state) } else { Queue::default() };
            drop(state);
            self.woken.notify_one();
            self.forget(given_up);
        }
    }

    /// Has errands forgotten that will not be run.
    fn forget(&self, mut errands: Queue<E>) {
        let interrupt = Interrupt::new();
        interrupt.cancel();
        while let Some((_, errand)) = errands.pop(|_| true) {
            (self.run)(errand, &interrupt);
        }
    }

    /// Returns the next errand that may be run; nothing when there was none for a while, and at the end.
    fn next(&self) -> Option<Taken<E>> {
        let mut state = self.state.lock();
        loop {
            if state.is_over {
                return None;
            }
            let now = Instant::now();
            let State { queue, air, bundles, .. } = &mut *state;
            let has_enough = *bundles >= self.bundles_max;
            let may = |mechanism| mechanism != Mechanism::Bundles || !has_enough;
            let wake_at =
                match queue.front(may) {
                    Some((errand, begins_at)) if errand.bytes() == 0 || air.takes(errand.bytes()) => {
                        if begins_at <= now { None } else { Some(begins_at) }
                    }
                    _ => Some(now + IDLE),
                };
            let Some(wake_at) = wake_at else {
                let (mechanism, errand) = state.queue.pop(may)?;
                let request = (errand.bytes() > 0).then(|| (mechanism, state.air.take_off(errand.bytes())));
                state.bundles += usize::from(request.is_some_and(|(mechanism, _)| mechanism == Mechanism::Bundles));
                // Whoever waits for the moment when an errand may begin heard of several: it passes that on.
                self.woken.notify_one();
                return Some(Taken { errand, request, interrupt: state.interrupt.clone() });
            };
            state.idle += 1;
            let is_late = self.woken.wait_until(&mut state, wake_at).timed_out();
            state.idle -= 1;
            if is_late && state.queue.len() == 0 {
                return None;
            }
        }
    }
}

/// One request failed, so the others will: they end at once, and whoever waits for one of them asks by themselves. Returns
/// those that had not begun.
fn rest<E>(state: &mut State<E>) -> Queue<E> {
    std::mem::take(&mut state.interrupt).cancel();
    let now = Instant::now();
    // Those that end with the first one are no failures of their own.
    if state.resting_until.is_none_or(|until| until <= now) {
        let is_one_of_many = state.failed_at.is_some_and(|before| now - before < MEMORY);
        state.air.crash(is_one_of_many);
        state.failed_at = Some(now);
    }
    state.resting_until = Some(now + REST);
    std::mem::take(&mut state.queue)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::prefetch::ledger::Mechanism;

    const LANE: Lane = (Mechanism::Neighbours, 1, 1);

    /// An errand of so many bytes.
    struct Bytes(u64);

    impl Errand for Bytes {
        fn bytes(&self) -> u64 {
            self.0
        }
    }

    fn wait_for(what: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !what() {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A crew whose errands last until they are cancelled, and how many are in the air.
    fn patient(limit: usize) -> (Arc<Crew<Bytes>>, Arc<AtomicUsize>) {
        let flying = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&flying);
        let run = move |_: Bytes, interrupt: &Interrupt| {
            count.fetch_add(1, Ordering::SeqCst);
            wait_for(|| interrupt.is_cancelled());
            count.fetch_sub(1, Ordering::SeqCst);
            Done::Failed
        };
        (Crew::new(limit, 2, Box::new(run)), flying)
    }

    #[test]
    fn so_many_fly_at_a_time_and_all_end_with_the_crew() {
        let (crew, flying) = patient(3);
        assert!((0..10).all(|_| crew.push(LANE, Bytes(10)).is_ok()));
        wait_for(|| flying.load(Ordering::SeqCst) == 3);
        assert_eq!(crew.state.lock().queue.len(), 7);
        crew.stop();
        assert_eq!((crew.state.lock().threads, flying.load(Ordering::SeqCst)), (0, 0));
        assert!(crew.push(LANE, Bytes(10)).is_err() && !crew.is_ready());
    }

    #[test]
    fn bundles_have_a_bound_of_their_own() {
        let (crew, flying) = patient(5);
        let bundles = (Mechanism::Bundles, 1, 1);
        assert!((0..4).all(|_| crew.push(bundles, Bytes(10)).is_ok()));
        wait_for(|| flying.load(Ordering::SeqCst) == 2);
        assert!(crew.push(LANE, Bytes(10)).is_ok());
        wait_for(|| flying.load(Ordering::SeqCst) == 3);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!((flying.load(Ordering::SeqCst), crew.state.lock().queue.len()), (3, 2));
        crew.stop();
    }

    #[test]
    fn what_only_plans_holds_up_no_request() {
        let (crew, flying) = patient(1);
        let bundles = (Mechanism::Bundles, 1, 1);
        assert!((0..3).all(|_| crew.push(bundles, Bytes(0)).is_ok()));
        wait_for(|| flying.load(Ordering::SeqCst) == 3);
        assert!((0..2).all(|_| crew.push(bundles, Bytes(10)).is_ok()));
        wait_for(|| flying.load(Ordering::SeqCst) == 4);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!((flying.load(Ordering::SeqCst), crew.state.lock().air.flying()), (4, 1));
        crew.stop();
    }

    #[test]
    fn what_fills_the_air_waits_for_its_turn() {
        let (crew, flying) = patient(4);
        assert!((0..4).all(|_| crew.push(LANE, Bytes(10 << 20)).is_ok()));
        wait_for(|| flying.load(Ordering::SeqCst) == 2);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(flying.load(Ordering::SeqCst), 2);
        crew.stop();
    }

    #[test]
    fn a_failure_ends_all_errands_for_a_while() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let run = move |errand: Bytes, interrupt: &Interrupt| {
            count.fetch_add(1, Ordering::SeqCst);
            if errand.0 != 1 {
                wait_for(|| interrupt.is_cancelled());
            }
            Done::Failed
        };
        let crew = Crew::new(2, 2, Box::new(run));
        assert!(crew.push(LANE, Bytes(2)).is_ok());
        wait_for(|| asked.load(Ordering::SeqCst) == 1);
        assert!(crew.push(LANE, Bytes(1)).is_ok());
        wait_for(|| crew.state.lock().air.flying() == 0 && asked.load(Ordering::SeqCst) == 2);
        assert!(!crew.is_ready() && crew.push(LANE, Bytes(2)).is_err());
        crew.stop();
    }
}
