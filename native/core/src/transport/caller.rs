//! For whom a thread works, and whether they still want the answer.
//!
//! The kernel lets a process that was killed go only once its request is answered. A thread that waits for the network
//! on behalf of one therefore has it watched: when the caller is being killed, the wait ends. Nobody is watched
//! while nothing is waited for, and the watching thread ends soon after the last wait.
//!
//! Threads: each works for one caller at a time; the table of waits is locked to add, remove or copy it.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use parking_lot::Mutex;

use super::interrupt::Interrupt;

/// How often callers are looked at: a killed one is gone in about this time.
const LOOK: Duration = Duration::from_millis(200);
/// Looks without any wait before the watching thread ends.
const IDLE_LOOKS: u32 = 10;
/// SIGKILL in the masks of `/proc/<thread>/status`. Every fatal signal without a handler becomes one.
const KILL_MASK: u64 = 1 << 8;

thread_local! {
    static CALLER: Cell<u32> = const { Cell::new(0) };
}

/// Does `work` for the thread with this number, as the kernel's request names it; 0 for nobody.
pub fn working_for<T>(caller: u32, work: impl FnOnce() -> T) -> T {
    struct Before(u32);
    impl Drop for Before {
        fn drop(&mut self) {
            CALLER.set(self.0);
        }
    }
    let _before = Before(CALLER.replace(caller));
    work()
}

/// Returns the thread for which this one works, nothing where it works for nobody.
pub(crate) fn current() -> Option<u32> {
    Some(CALLER.get()).filter(|caller| *caller != 0)
}

/// A wait on behalf of the thread's caller; the caller is watched as long as it lives.
#[derive(Debug)]
pub(crate) struct Wait {
    interrupt: Interrupt,
    number: Option<u64>,
}

impl Wait {
    /// Begins a wait. Without a caller, nothing ever ends it early.
    pub(crate) fn begin() -> Self {
        let interrupt = Interrupt::new();
        let number = match CALLER.get() {
            0 => None,
            caller => Some(WATCH.add(caller, &interrupt)),
        };
        Self { interrupt, number }
    }

    /// Returns what is cancelled when the caller is killed.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            WATCH.waits.lock().by_number.remove(&number);
        }
    }
}

static WATCH: LazyLock<Watch> = LazyLock::new(Watch::default);

#[derive(Debug, Default)]
struct Watch {
    waits: Mutex<Waits>,
}

#[derive(Debug, Default)]
struct Waits {
    by_number: HashMap<u64, (u32, Interrupt)>,
    next: u64,
    is_watched: bool,
}

impl Watch {
    fn add(&self, caller: u32, interrupt: &Interrupt) -> u64 {
        let mut waits = self.waits.lock();
        waits.next += 1;
        let number = waits.next;
        waits.by_number.insert(number, (caller, interrupt.clone()));
        if !waits.is_watched {
            // Without a thread to watch, waits end as late as the network's time-outs.
            waits.is_watched = std::thread::Builder::new().name("nearfs-callers".to_owned()).spawn(watch).is_ok();
        }
        number
    }
}

fn watch() {
    let mut idle = 0;
    loop {
        std::thread::sleep(LOOK);
        let waits: Vec<(u32, Interrupt)> = {
            let mut waits = WATCH.waits.lock();
            idle = if waits.by_number.is_empty() { idle + 1 } else { 0 };
            if idle >= IDLE_LOOKS {
                waits.is_watched = false;
                return;
            }
            waits.by_number.values().cloned().collect()
        };
        for (caller, interrupt) in waits {
            // A caller that cannot be seen, in another process namespace say, waits as long as it takes.
            let status = std::fs::read_to_string(format!("/proc/{caller}/status"));
            if status.is_ok_and(|status| is_being_killed(&status)) {
                interrupt.cancel();
            }
        }
    }
}

fn is_being_killed(status: &str) -> bool {
    let masks = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
    masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask & KILL_MASK != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_shows_in_either_mask() {
        let status =
            |own: &str, shared: &str| format!("Name:\tcat\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t0100\n");
        assert!(!is_being_killed(&status("0000000000000000", "0000000000004002")));
        assert!(is_being_killed(&status("0000000000000100", "0000000000000000")));
        assert!(is_being_killed(&status("0000000000000000", "0000000000004100")));
        assert!(!is_being_killed("SigPnd:\tnonsense\nSigCgt:\t0000000000000100"));
        assert!(!is_being_killed(""));
    }

    #[test]
    fn a_thread_works_for_one_caller_at_a_time_also_after_a_panic() {
        working_for(7, || {
            let within = std::panic::catch_unwind(|| working_for(8, || panic!("{}", CALLER.get())));
            assert_eq!(within.unwrap_err().downcast_ref::<String>().map(String::as_str), Some("8"));
            assert_eq!(CALLER.get(), 7);
        });
        assert_eq!(CALLER.get(), 0);
    }

    #[test]
    fn waits_are_watched_while_they_last_only() {
        working_for(std::process::id(), || {
            let wait = Wait::begin();
            let number = wait.number.unwrap();
            assert!(WATCH.waits.lock().by_number.contains_key(&number));
            std::thread::sleep(LOOK * 2);
            assert!(!wait.interrupt().is_cancelled(), "nobody kills this process");
            drop(wait);
            assert!(!WATCH.waits.lock().by_number.contains_key(&number));
        });
        assert_eq!(Wait::begin().number, None);
    }
}
