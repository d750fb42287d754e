//! Changes on their way from a scan to the commit: few at a time, applied in the order in which they came.
//!
//! Owns the bound and the order. The scan has a thread of its own and waits while [`IN_FLIGHT`] changes are under way;
//! workers store contents in any order; the caller's thread applies change after change as contents arrive. Memory
//! depends on the bound, not on the tree. The first failure of anybody stops all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use nearfs_format::dirent::FileType;
use nearfs_format::path::RepoPath;
use parking_lot::{Condvar, Mutex};

use super::pipeline::{Content, Shared, Worker};
use super::plan::{Action, Change, Changes, Found};
use super::types::Warning;
use crate::error::{Error, ErrorKind, Result};

/// Changes between the scan and the commit. Enough for the others to go on while one large file is stored.
pub(super) const IN_FLIGHT: usize = 512;

/// The first failure, and the sign for everybody to stop.
#[derive(Debug, Default)]
pub(super) struct Stop {
    is_set: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Stop {
    pub(super) fn set(&self, error: Error) {
        self.failure.lock().get_or_insert(error);
        self.is_set.store(true, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
enum State {
    Waiting,
    Done(Option<Content>),
    Failed,
}

/// One change under way.
#[derive(Debug)]
pub(super) struct Job {
    change: Change,
    state: Mutex<State>,
    ready: Condvar,
}

impl Job {
    pub(super) fn path(&self) -> &RepoPath {
        &self.change.path
    }

    /// Returns what is to be stored; `None` for a change without content.
    pub(super) fn found(&self) -> Option<&Found> {
        content_of(&self.change)
    }

    fn complete(&self, state: State) {
        *self.state.lock() = state;
        self.ready.notify_one();
    }

    /// Waits until the content is there or will not come, and takes it. The wait ends, since a ticket that is dropped
    /// is a failure.
    fn wait(&self) -> State {
        let mut state = self.state.lock();
        loop {
            match std::mem::replace(&mut *state, State::Failed) {
                State::Waiting => {
                    *state = State::Waiting;
                    self.ready.wait(&mut state);
                }
                ended => return ended,
            }
        }
    }
}

fn content_of(change: &Change) -> Option<&Found> {
    match &change.action {
        Action::Add(found) | Action::Replace(found)
            if found.file_type == FileType::Regular && found.given.is_none() =>
        {
            Some(found)
        }
        _ => None,
    }
}

/// The duty to complete a change; dropping it undone is a failure.
#[derive(Debug)]
pub(super) struct Ticket(Arc<Job>, bool);

impl Ticket {
    pub(super) fn job(&self) -> &Arc<Job> {
        &self.0
    }

    pub(super) fn done(mut self, content: Option<Content>) {
        self.1 = true;
        self.0.complete(State::Done(content));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.1 {
            self.0.complete(State::Failed);
        }
    }
}

/// The scan's end of the conveyor.
struct Feed<'s, 'p> {
    shared: &'s Shared<'p>,
    order: Sender<Arc<Job>>,
    jobs: Sender<Ticket>,
    warnings: Vec<Warning>,
}

impl Changes for Feed<'_, '_> {
    fn change(&mut self, change: Change) -> Result<()> {
        let found = content_of(&change);
        if let Some(found) = found {
            self.shared.progress.expect(1, found.size);
        }
        let has_content = found.is_some();
        let job = Arc::new(Job { change, state: Mutex::new(State::Waiting), ready: Condvar::new() });
        let ticket = Ticket(Arc::clone(&job), false);
        self.shared.tally.enter();
        self.order.send(job).map_err(|_| stopped())?;
        if has_content {
            self.jobs.send(ticket).map_err(|_| stopped())?;
        } else {
            ticket.done(None);
        }
        Ok(())
    }

    fn warn(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }

    fn check(&self) -> Result<()> {
        if self.shared.stop.is_set() { Err(stopped()) } else { self.shared.progress.check("scan") }
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "scan", "the publish has failed elsewhere")
}

/// Runs `scan` in a thread of its own, stores contents on all cores, and calls `apply` with every change in the order
/// of the scan. Returns the scan's warnings.
pub(super) fn convey(
    shared: &Shared<'_>,
    scan: impl FnOnce(&mut dyn Changes) -> Result<()> + Send,
    apply: impl FnMut(&Change, Option<Content>) -> Result<()>,
) -> Result<Vec<Warning>> {
    let workers = shared.settings.worker_count().max(1);
    let (order, arriving) = bounded(IN_FLIGHT);
    // The order is the bound: this one never fills.
    let (jobs, taken) = bounded::<Ticket>(IN_FLIGHT + 2);
    let (pieces, given) = bounded(workers);
    let warnings = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..workers {
            let (taken, pieces, given) = (taken.clone(), pieces.clone(), given.clone());
            threads.push(scope.spawn(move || Worker::new(shared).run(&taken, pieces, &given)));
        }
        drop((taken, pieces, given));
        let scanning = scope.spawn(move || {
            let mut feed = Feed { shared, order, jobs, warnings: Vec::new() };
            if let Err(error) = scan(&mut feed) {
                shared.stop.set(error);
            }
            feed.warnings
        });
        apply_all(shared, arriving, apply);
        if threads.into_iter().map(std::thread::ScopedJoinHandle::join).any(|joined| joined.is_err()) {
            shared.stop.set(died());
        }
        scanning.join().unwrap_or_else(|_| {
            shared.stop.set(died());
            Vec::new()
        })
    });
    match shared.stop.failure.lock().take() {
        Some(failure) => Err(failure),
        None => Ok(warnings),
    }
}

fn died() -> Error {
    Error::new(ErrorKind::Internal, "publish", "files: a thread died")
}

/// Owns the receiving end: when it returns early, the scan notices at its next change.
fn apply_all(
    shared: &Shared<'_>,
    arriving: Receiver<Arc<Job>>,
    mut apply: impl FnMut(&Change, Option<Content>) -> Result<()>,
) {
    for job in &arriving {
        if shared.stop.is_set() {
            return;
        }
        let State::Done(content) = job.wait() else { return };
        let applied = shared.progress.check("commit").and_then(|()| apply(&job.change, content));
        shared.tally.leave();
        if let Err(error) = applied {
            return shared.stop.set(error);
        }
    }
}

#[cfg(test)]
#[path = "conveyor_tests.rs"]
mod tests;
