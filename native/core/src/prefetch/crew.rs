//! The threads that fetch guesses: few, begun when there is work, ended when there is none.
//!
//! Owns the queue and the number of bytes in the air. Not what is worth guessing. A guess in the air takes bandwidth
//! from whoever waits, so only [`AIR_BYTES`] are, about what a line carries in one round trip; one guess may always fly.
//!
//! Threading: [`Crew`] is shared; its lock is held to look at the queue, never while something is fetched. The work of
//! [`Crew::stop`] is bounded: fetches end when their interrupt is cancelled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::queue::{Lane, Queue};
use crate::cache::Want;
use crate::transport::Interrupt;

/// Bytes of content in the air.
const AIR_BYTES: u64 = 768 << 10;
/// Guesses begin so long after they were made: the request of whoever made them waits for bytes that nobody asked for
/// unless it is sent first.
const HEAD_START: Duration = Duration::from_millis(1);
/// Threads end after this time without work.
const IDLE: Duration = Duration::from_secs(5);
/// Guesses that wait for their turn.
const QUEUE_MAX: usize = 2048;
/// After a failure, nothing is guessed for this time: whoever waits has the line, and the hosts, for themselves.
const REST: Duration = Duration::from_secs(10);
/// How long the end of the threads is waited for. They only have to notice.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Fetches one guess, or forgets it where the interrupt is cancelled already; says whether it went well.
pub(super) type Fetch = dyn Fn(&Want, &Interrupt) -> bool + Send + Sync;

/// The threads and their queue.
pub(super) struct Crew {
    limit: usize,
    fetch: Box<Fetch>,
    state: Mutex<State>,
    woken: Condvar,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    queue: Queue,
    threads: usize,
    idle: usize,
    air_bytes: u64,
    flying: usize,
    interrupt: Interrupt,
    resting_until: Option<Instant>,
    is_over: bool,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Crew({} threads at most)", self.limit)
    }
}

impl Crew {
    /// Prepares; the first guess begins the first thread.
    pub(super) fn new(limit: usize, fetch: Box<Fetch>) -> Arc<Self> {
        let (state, woken, ended) = (Mutex::default(), Condvar::new(), Condvar::new());
        Arc::new(Self { limit, fetch, state, woken, ended })
    }

    /// Says whether guesses are taken now.
    pub(super) fn is_ready(&self) -> bool {
        let mut state = self.state.lock();
        if state.resting_until.is_some_and(|until| until <= Instant::now()) {
            state.resting_until = None;
        }
        !state.is_over && state.resting_until.is_none() && state.queue.len() < QUEUE_MAX
    }

    /// Has a guess fetched; says whether it was taken.
    pub(super) fn push(self: &Arc<Self>, lane: Lane, want: Want) -> bool {
        let mut state = self.state.lock();
        if state.is_over || state.resting_until.is_some() || state.queue.len() >= QUEUE_MAX {
            return false;
        }
        if state.idle <= state.queue.len() && state.threads < self.limit {
            let this = Arc::clone(self);
            let thread = std::thread::Builder::new().name("nearfs-ahead".to_owned());
            // Without a thread more, those that there are have more to do; without any, it is as if it was not guessed.
            if thread.spawn(move || this.work()).is_ok() {
                state.threads += 1;
            } else if state.threads == 0 {
                return false;
            }
        }
        state.queue.push(lane, want, Instant::now() + HEAD_START);
        drop(state);
        self.woken.notify_one();
        true
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
        struct Ends<'a>(&'a Crew);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.state.lock().threads -= 1;
                self.0.ended.notify_all();
            }
        }
        let _ends = Ends(self);
        while let Some((want, interrupt)) = self.next() {
            let went_well = (self.fetch)(&want, &interrupt);
            let mut state = self.state.lock();
            state.air_bytes -= weight(&want);
            state.flying -= 1;
            let given_up = if went_well || interrupt.is_cancelled() { Queue::default() } else { rest(&mut state) };
            drop(state);
            self.woken.notify_one();
            self.give_up(given_up);
        }
    }

    /// Has the owner forget guesses that will not be fetched.
    fn give_up(&self, mut wants: Queue) {
        let interrupt = Interrupt::new();
        interrupt.cancel();
        while let Some(want) = wants.pop() {
            (self.fetch)(&want, &interrupt);
        }
    }

    /// Returns the next guess that may fly; nothing when there was none for a while, and at the end.
    fn next(&self) -> Option<(Want, Interrupt)> {
        let mut state = self.state.lock();
        loop {
            if state.is_over {
                return None;
            }
            let now = Instant::now();
            let fits = |want: &Want| state.flying == 0 || state.air_bytes + weight(want) <= AIR_BYTES;
            let wake_at = match state.queue.front() {
                Some((want, begins_at)) if fits(want) && begins_at <= now => None,
                Some((want, begins_at)) if fits(want) => Some(begins_at),
                _ => Some(now + IDLE),
            };
            let Some(wake_at) = wake_at else {
                let want = state.queue.pop()?;
                state.air_bytes += weight(&want);
                state.flying += 1;
                // Whoever waits for the moment when a guess may begin heard of several: it passes that on.
                self.woken.notify_one();
                return Some((want, state.interrupt.clone()));
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

/// One guess failed, so the others will: they end at once, and whoever waits for one of them asks by themselves. Returns
/// those that had not begun.
fn rest(state: &mut State) -> Queue {
    std::mem::take(&mut state.interrupt).cancel();
    state.resting_until = Some(Instant::now() + REST);
    std::mem::take(&mut state.queue)
}

fn weight(want: &Want) -> u64 {
    want.size_bytes.unwrap_or(want.limit_bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use nearfs_format::hash::HashAlgorithm;
    use nearfs_format::object::{ObjectId, ObjectKind};

    use super::*;
    use crate::prefetch::ledger::Mechanism;

    const LANE: Lane = (Mechanism::Neighbours, 1, 1);

    fn want(number: u32, bytes: u64) -> Want {
        let hash = HashAlgorithm::Sha1.hash(&number.to_le_bytes());
        Want::sized(ObjectId::new(hash, ObjectKind::File), nearfs_format::dirent::Compression::Zlib, bytes)
    }

    fn wait_for(what: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !what() {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A crew whose guesses last until they are cancelled, and how many are in the air.
    fn patient(limit: usize) -> (Arc<Crew>, Arc<AtomicUsize>) {
        let flying = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&flying);
        let fetch = move |_: &Want, interrupt: &Interrupt| {
            count.fetch_add(1, Ordering::SeqCst);
            wait_for(|| interrupt.is_cancelled());
            count.fetch_sub(1, Ordering::SeqCst);
            false
        };
        (Crew::new(limit, Box::new(fetch)), flying)
    }

    #[test]
    fn so_many_fly_at_a_time_and_all_end_with_the_crew() {
        let (crew, flying) = patient(3);
        assert!((0..10).all(|number| crew.push(LANE, want(number, 10))));
        wait_for(|| flying.load(Ordering::SeqCst) == 3);
        assert_eq!(crew.state.lock().queue.len(), 7);
        crew.stop();
        assert_eq!((crew.state.lock().threads, flying.load(Ordering::SeqCst)), (0, 0));
        assert!(!crew.push(LANE, want(99, 10)) && !crew.is_ready());
    }

    #[test]
    fn large_guesses_fly_one_by_one() {
        let (crew, flying) = patient(3);
        assert!((0..3).all(|number| crew.push(LANE, want(number, AIR_BYTES * 5))));
        wait_for(|| flying.load(Ordering::SeqCst) == 1);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(flying.load(Ordering::SeqCst), 1);
        crew.stop();
    }

    #[test]
    fn a_failure_ends_all_guesses_for_a_while() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let fetch = move |want: &Want, interrupt: &Interrupt| {
            count.fetch_add(1, Ordering::SeqCst);
            if want.size_bytes != Some(1) {
                wait_for(|| interrupt.is_cancelled());
            }
            false
        };
        let crew = Crew::new(2, Box::new(fetch));
        assert!(crew.push(LANE, want(0, 2)));
        wait_for(|| asked.load(Ordering::SeqCst) == 1);
        assert!(crew.push(LANE, want(1, 1)));
        wait_for(|| crew.state.lock().flying == 0 && asked.load(Ordering::SeqCst) == 2);
        assert!(!crew.is_ready() && !crew.push(LANE, want(2, 1)));
        crew.stop();
    }
}
