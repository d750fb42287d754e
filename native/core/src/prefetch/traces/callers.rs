//! Who opens files: the process, its parent, its group and its session, as the kernel's table of processes says.
//!
//! Asking the table takes some ten microseconds, so an answer is believed for a second. Where nothing is to be seen, in
//! another namespace or because the site hides other users' processes, a thread stands for itself.
//!
//! Threading: shared by all workers; the lock is never held while the table is asked.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long an answer is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// Answers that are kept; more forget all.
const KEPT_MAX: usize = 4096;

/// A thread that opens a file, and where it belongs. All numbers are the client's own view of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) thread: u32,
    pub(super) process: u32,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
}

impl Caller {
    /// A thread of which nothing else is known.
    pub(super) const fn alone(thread: u32) -> Self {
        Self { thread, process: thread, parent: 0, group: thread, session: thread }
    }

    /// Reads `/proc/<thread>/status`.
    fn from_status(thread: u32, status: &str) -> Option<Self> {
        // Where namespaces lie in each other, there is a number for each; ours is the first one.
        let number = |name: &str| -> Option<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let (process, parent) = (number("Tgid")?, number("PPid")?);
        Some(Self { thread, process, parent, group: number("NSpgid")?, session: number("NSsid")? })
    }
}

/// The answers of the last second.
#[derive(Debug, Default)]
pub(super) struct Callers(Mutex<HashMap<u32, (Caller, Instant)>>);

impl Callers {
    /// Returns where a thread belongs; `is_fresh` asks for what is true now, not a moment ago.
    pub(super) fn of(&self, thread: u32, now: Instant, is_fresh: bool) -> Caller {
        if !is_fresh
            && let Some((caller, asked)) = self.0.lock().get(&thread)
            && now.saturating_duration_since(*asked) < BELIEVED
        {
            return *caller;
        }
        let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok();
        let caller = status.and_then(|status| Caller::from_status(thread, &status)).unwrap_or(Caller::alone(thread));
        let mut kept = self.0.lock();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(thread, (caller, now));
        caller
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_where_a_thread_belongs_also_in_a_container() {
        let status = "Name:\tmodule: avail\nTgid:\t71\nNgid:\t0\nPid:\t72\nPPid:\t70\nTracerPid:\t0\n\
            NStgid:\t71\t5\nNSpid:\t72\t6\nNSpgid:\t60\t3\nNSsid:\t50\t1\n";
        let caller = Caller { thread: 72, process: 71, parent: 70, group: 60, session: 50 };
        assert_eq!(Caller::from_status(72, status), Some(caller));
        for torn in ["", "Tgid:\t1\n", "Tgid:\nPPid:\t1\nNSpgid:\t1\nNSsid:\t1\n"] {
            assert_eq!(Caller::from_status(72, torn), None);
        }
    }

    #[test]
    fn this_thread_is_found_and_remembered_and_nobody_is_alone() {
        let callers = Callers::default();
        let (me, now) = (std::process::id(), Instant::now());
        let caller = callers.of(me, now, false);
        assert_eq!((caller.process, caller.thread), (me, me));
        assert_eq!(caller.group, rustix::process::getpgrp().as_raw_nonzero().get() as u32);
        callers.0.lock().get_mut(&me).unwrap().0.group = 99;
        assert_eq!(callers.of(me, now, false).group, 99);
        assert_ne!(callers.of(me, now, true).group, 99);
        assert_eq!(callers.of(u32::MAX, now, false), Caller::alone(u32::MAX));
    }
}
