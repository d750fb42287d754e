//! Runs: what one program, or one process group, opens from its first file until it has opened nothing for a while.
//!
//! A program that is executed from the repository begins a run of its own, with the processes that it forks; everything
//! else belongs to the run of its process group. So two programs that a script starts side by side are not mixed up, and
//! a program on the local disk that reads the repository has a run as well. The first file of a run is its trigger.
//!
//! Pure: time and callers are passed in, and what ended waits to be taken. Under the lock of whoever owns it, since it is
//! asked at every open: it hashes a few numbers, and nothing else.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use nearfs_format::trace::ITEMS_MAX;

use super::callers::Caller;
use super::sheet::{Found, Key, Rows, Sheet};

/// A run is over when nothing was opened for this time.
pub(super) const QUIET: Duration = Duration::from_secs(5);
/// Nothing is noted of a run after this time: a program that still opens files has started long ago.
pub(super) const LONGEST: Duration = Duration::from_secs(60);
/// Runs at a time; more end the one that was quiet for longest.
const RUNS_MAX: usize = 256;
/// Files of all runs, of those that ended and were not taken too, in memory; more forget the oldest ones.
const FILES_MAX: usize = 1 << 16;
/// So many files may be waited for in a run that goes as it was learned, beyond those that were brought; where it is more,
/// its list is not there in time, or not at all.
const UNHELPED_MAX: u32 = 16;
/// Processes that are remembered.
const PROCESSES_MAX: usize = 4096;

/// Whose run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Home {
    /// A process that was executed from the repository.
    Process(u32),
    /// A process group.
    Group(u32),
}

/// Tells a run from all others, also from later ones of the same home.
pub(super) type RunId = (Home, u64);

/// What came of noting an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) run: RunId,
    /// The run is followed, and this file is new to it.
    pub(super) is_step: bool,
    /// The run goes as it was learned.
    pub(super) is_as_learned: bool,
}

#[derive(Debug)]
struct Run<R> {
    number: u64,
    /// None once it took too long.
    sheet: Option<Sheet<R>>,
    begun: Instant,
    last: Instant,
    /// The thread that executes something, until it opens a file by itself: a script, its interpreter and the loader of
    /// that are opened by one execution.
    executing: Option<u32>,
    is_followed: bool,
    is_as_learned: bool,
    /// How many more were waited for than were brought.
    unhelped: u32,
    /// So many files were looked at by whoever follows.
    walked: usize,
}

impl<R> Run<R> {
    /// Says whether what it opens is known, and comes.
    const fn goes_by_list(&self) -> bool {
        self.is_as_learned && self.unhelped <= UNHELPED_MAX
    }
}

/// The runs that are under way, and those that ended.
#[derive(Debug)]
pub(super) struct Recorder<R> {
    runs: HashMap<Home, Run<R>>,
    /// Process -> where its opens belong, and its group.
    homes: HashMap<u32, (Home, u32)>,
    ended: VecDeque<Sheet<R>>,
    files: usize,
    next: u64,
}

impl<R> Default for Recorder<R> {
    fn default() -> Self {
        Self { runs: HashMap::new(), homes: HashMap::new(), ended: VecDeque::new(), files: 0, next: 0 }
    }
}

impl<R: Rows> Recorder<R> {
    /// Takes note of an open; nothing comes of it where the run takes too long already.
    pub(super) fn opened(
        &mut self,
        now: Instant,
        caller: &Caller,
        file: (&R, u32),
        is_exec: bool,
        is_chunked: bool,
    ) -> Option<Noted> {
        let home = self.home(caller, is_exec);
        let is_over = self.runs.get(&home).is_some_and(|run| {
            let begins_anew = is_exec && run.executing != Some(caller.thread);
            begins_anew || now.saturating_duration_since(run.last) > QUIET
        });
        if is_over {
            self.end(home);
        }
        if self.runs.len() >= RUNS_MAX && !self.runs.contains_key(&home) {
            self.end_quietest();
        }
        let run = self.runs.entry(home).or_insert_with(|| {
            self.next += 1;
            let sheet = Some(Sheet::new(ITEMS_MAX + 1));
            Run {
                number: self.next,
                sheet,
                begun: now,
                last: now,
                executing: None,
                is_followed: false,
                is_as_learned: false,
                unhelped: 0,
                walked: 0,
            }
        });
        run.last = now;
        if now.saturating_duration_since(run.begun) > LONGEST {
            self.ended.extend(run.sheet.take());
        }
        let is_new = run.sheet.as_mut()?.note(file.0, file.1, is_chunked);
        if is_exec {
            run.executing = Some(caller.thread);
        } else if is_new {
            run.executing = None;
        }
        let (run, is_step, is_as_learned) = ((home, run.number), is_new && run.is_followed, run.goes_by_list());
        self.files += usize::from(is_new);
        while self.files > FILES_MAX {
            self.forget_oldest();
        }
        Some(Noted { run, is_step, is_as_learned })
    }

    /// Takes note of a chunk that is read, by whoever opened the file in that run.
    pub(super) fn chunk(&mut self, run: RunId, key: Key, offset: u64) {
        if let Some(sheet) = self.run(run).and_then(|run| run.sheet.as_mut()) {
            sheet.note_chunk(key, offset);
        }
    }

    /// Somebody waits for an object in this run: it is followed from now on. Says whether it was not before.
    pub(super) fn follow(&mut self, run: RunId) -> bool {
        self.run(run).is_some_and(|run| run.sheet.is_some() && !std::mem::replace(&mut run.is_followed, true))
    }

    /// Says whether a run goes as it was learned, as whoever follows it said last.
    pub(super) fn is_as_learned(&mut self, run: RunId) -> bool {
        self.run(run).is_some_and(|run| run.goes_by_list())
    }

    /// Takes note of whether a file was brought to a run that goes as it was learned.
    pub(super) fn helped(&mut self, run: RunId, is_helped: bool) {
        if let Some(run) = self.run(run) {
            run.unhelped = if is_helped { run.unhelped.saturating_sub(1) } else { run.unhelped.saturating_add(1) };
        }
    }

    /// Takes note of whether a run goes as it was learned.
    pub(super) fn goes_as_learned(&mut self, run: RunId, is_as_learned: bool) {
        if let Some(run) = self.run(run) {
            run.is_as_learned = is_as_learned;
        }
    }

    /// Returns what was opened in a run since this was asked last; nothing where it is over.
    pub(super) fn steps(&mut self, run: RunId) -> Option<Vec<Found<R>>> {
        let run = self.run(run)?;
        let sheet = run.sheet.as_ref()?;
        let steps = sheet.since(run.walked);
        run.walked = sheet.len();
        Some(steps)
    }

    /// Ends what is over by now; returns when to look again, nothing where there is no run.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let is_quiet = |run: &Run<R>| now.saturating_duration_since(run.last) > QUIET;
        let over: Vec<Home> = self.runs.iter().filter(|(_, run)| is_quiet(run)).map(|(home, _)| *home).collect();
        for home in over {
            self.end(home);
        }
        self.runs.values().map(|run| run.last + QUIET).min()
    }

    /// Ends all runs.
    pub(super) fn end_all(&mut self) {
        let homes: Vec<Home> = self.runs.keys().copied().collect();
        for home in homes {
            self.end(home);
        }
    }

    /// Takes the files of a run that ended, the trigger first.
    pub(super) fn take_ended(&mut self) -> Option<Sheet<R>> {
        let sheet = self.ended.pop_front()?;
        self.files -= sheet.len();
        Some(sheet)
    }

    fn run(&mut self, (home, number): RunId) -> Option<&mut Run<R>> {
        self.runs.get_mut(&home).filter(|run| run.number == number)
    }

    fn home(&mut self, caller: &Caller, is_exec: bool) -> Home {
        if self.homes.len() >= PROCESSES_MAX {
            let Self { homes, runs, .. } = self;
            homes.retain(|_, (home, _)| runs.contains_key(home));
            if homes.len() >= PROCESSES_MAX {
                homes.clear();
            }
        }
        let own = Home::Process(caller.process);
        if is_exec {
            self.homes.insert(caller.process, (own, caller.group));
            return own;
        }
        let is_same_group = |(_, group): &&(Home, u32)| *group == caller.group;
        let known = self.homes.get(&caller.process).filter(|(home, group)| *home == own || *group == caller.group);
        let home = known.or_else(|| self.homes.get(&caller.parent).filter(is_same_group)).map(|(home, _)| *home);
        let home = home.unwrap_or(Home::Group(caller.group));
        self.homes.insert(caller.process, (home, caller.group));
        home
    }

    fn end(&mut self, home: Home) {
        self.ended.extend(self.runs.remove(&home).and_then(|run| run.sheet));
    }

    fn end_quietest(&mut self) {
        let quietest = self.runs.iter().min_by_key(|(_, run)| run.last).map(|(home, _)| *home);
        if let Some(home) = quietest {
            self.end(home);
        }
    }

    fn forget_oldest(&mut self) {
        if self.ended.is_empty() {
            self.end_quietest();
        }
        // Where neither is left, there is nothing to be counted.
        if self.take_ended().is_none() {
            self.files = 0;
        }
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
