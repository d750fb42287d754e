//! Learned traces: what programs opened after their trigger, so that it is fetched at once when they run again.
//!
//! [`recorder`] says which opens belong together, [`learning`] what is kept of them, [`store`] where; [`walk`] says what a
//! run is going to open. [`Traces`] joins them and is what the client tells of every open. Where everything is in the
//! cache, a run is noted and nothing else happens; once somebody has to wait in it, it is followed. What is worth fetching
//! is handed to whoever made this; nothing is fetched here.
//!
//! Threading: shared by all workers. At an open, locks are held for the moment that it takes to note it; files are read
//! and written by one thread, which is there while runs are under way.

mod callers;
mod learning;
mod recorder;
mod recordings;
mod sheet;
mod store;
mod walk;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nearfs_format::path::RepoPath;
use nearfs_format::trace::TraceItem;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::rows::catalog_key;
use crate::catalog::index::RowId;
use crate::catalog::tree::{CatalogTree, View};
use crate::transport::caller;

use callers::Callers;
use recorder::{Recorder, RunId};
use recordings::Recordings;
use sheet::{Found, Key, Rows};
use store::Store;
use walk::Walk;

/// In the flags of an open: the kernel opens it to execute it (`__FMODE_EXEC`).
const EXECUTES: i32 = 0x20;
/// Runs that end are looked for so often at most.
const LOOK: Duration = Duration::from_secs(1);
/// After learning from a run, so many times as long nothing is learned: it is never more than a part of one processor.
const REST_TIMES: u32 = 4;
/// How long the end of the thread is waited for, which has what runs under way showed to write down.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Programs that ran last: the catalogs on the way to them are fetched as soon as there is a mount.
const LAST_PROGRAMS: usize = 4;

/// Fetches what is known to be asked for, and returns at once.
pub trait Ahead: Send + Sync {
    /// Fetches files of a revision.
    fn follow(&self, tree: &Arc<CatalogTree>, items: Vec<TraceItem>);

    /// Fetches what has to be known of a revision in order to find these files.
    fn enter(&self, tree: &Arc<CatalogTree>, paths: Vec<RepoPath>);
}

/// What an open file has to say when its chunks are read, or when somebody waits for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noted {
    run: Option<RunId>,
    key: Option<Key>,
    is_as_learned: bool,
}

impl Noted {
    /// Says whether it is known what is opened with this file, so that nothing has to be guessed.
    pub const fn is_as_learned(&self) -> bool {
        self.is_as_learned
    }
}

/// What was opened while somebody recorded it.
#[derive(Debug)]
pub struct Recorded {
    /// The files, in the order in which they were opened first.
    pub items: Vec<TraceItem>,
    /// There were more than a recording takes.
    pub is_cut: bool,
}

/// Notes, learns and follows for one mount.
#[derive(Debug)]
pub struct Traces(Arc<Shared>);

struct Shared {
    fqrn: String,
    /// Where traces may be kept, the best place first; none where nothing is learned.
    directories: Vec<PathBuf>,
    ahead: Box<dyn Ahead>,
    callers: Callers,
    state: Mutex<State>,
    woken: Condvar,
    ended: Condvar,
    recordings: Mutex<Recordings<View>>,
    is_recording: AtomicBool,
    followed: AtomicU64,
    learned: AtomicU64,
}

/// A run that is followed, and the revision in which somebody began to wait.
type Followed = (Weak<CatalogTree>, Walk);

#[derive(Default)]
struct State {
    recorder: Recorder<View>,
    walks: HashMap<RunId, Followed>,
    has_steps: bool,
    /// The revision that is shown from now on.
    shown: Option<Weak<CatalogTree>>,
    has_thread: bool,
    is_over: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Traces({} in {:?})", self.fqrn, self.directories)
    }
}

impl Rows for View {
    fn catalog(&self) -> u64 {
        catalog_key(self)
    }

    fn path(&self, row: u32) -> RepoPath {
        Self::path(self, RowId(row))
    }
}

impl Traces {
    /// Prepares; nothing is learned where no directory is given.
    pub fn new(fqrn: &str, directories: Vec<PathBuf>, ahead: Box<dyn Ahead>) -> Self {
        // Tokens of an earlier mount are none of this one.
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis());
        Self(Arc::new(Shared {
            fqrn: fqrn.to_owned(),
            directories,
            ahead,
            callers: Callers::default(),
            state: Mutex::default(),
            woken: Condvar::new(),
            ended: Condvar::new(),
            recordings: Mutex::new(Recordings::new(now_ms as u32)),
            is_recording: AtomicBool::new(false),
            followed: AtomicU64::new(0),
            learned: AtomicU64::new(0),
        }))
    }

    /// A revision is shown from now on: has fetched what leads to the programs that ran last. Never waits.
    pub fn shows(&self, tree: &Arc<CatalogTree>) {
        let mut state = self.0.state.lock();
        if !self.0.directories.is_empty() && !state.is_over {
            state.shown = Some(Arc::downgrade(tree));
            self.has_thread(&mut state);
            self.0.woken.notify_one();
        }
    }

    /// A file with content is opened; `flags` are those of `open(2)` as the kernel passes them on. Never waits.
    pub fn opened(&self, view: &View, row: RowId, flags: i32, is_chunked: bool) -> Noted {
        let shared = &*self.0;
        let (is_recording, is_learning) = (shared.is_recording.load(Ordering::Relaxed), !shared.directories.is_empty());
        if !is_recording && !is_learning {
            return Noted::default();
        }
        let (now, is_exec) = (Instant::now(), flags & EXECUTES != 0);
        let caller = caller::current().map(|thread| shared.callers.of(thread, now, is_exec));
        if is_recording {
            shared.recordings.lock().opened(caller.as_ref(), (view, row.0), is_chunked);
        }
        let key = Some((view.catalog(), row.0));
        let nobody = Noted { key, ..Noted::default() };
        let Some(caller) = caller.filter(|_| is_learning) else { return nobody };
        let mut state = shared.state.lock();
        if state.is_over || !self.has_thread(&mut state) {
            return nobody;
        }
        let noted = state.recorder.opened(now, &caller, (view, row.0), is_exec, is_chunked);
        if noted.is_some_and(|noted| noted.is_step) {
            state.has_steps = true;
            shared.woken.notify_one();
        }
        noted.map_or(nobody, |noted| Noted { run: Some(noted.run), key, is_as_learned: noted.is_as_learned })
    }

    /// Somebody has to wait for that file, or for a chunk of it, in this revision. Says whether it is known what is opened
    /// with it.
    pub fn waited(&self, noted: Noted, tree: &Arc<CatalogTree>) -> bool {
        let Some(run) = noted.run else { return false };
        let mut state = self.0.state.lock();
        if state.recorder.follow(run) {
            state.walks.insert(run, (Arc::downgrade(tree), Walk::default()));
            state.has_steps = true;
            self.0.woken.notify_one();
        }
        state.recorder.is_as_learned(run)
    }

    /// Of a run of which it is known what it opens: says whether that file was brought, or had to be waited for.
    pub fn helped(&self, noted: Noted, is_helped: bool) {
        if let Some(run) = noted.run {
            self.0.state.lock().recorder.helped(run, is_helped);
        }
    }

    /// A chunk of that file is read.
    pub fn chunk_read(&self, noted: Noted, offset: u64) {
        let Some(key) = noted.key else { return };
        if let Some(run) = noted.run {
            self.0.state.lock().recorder.chunk(run, key, offset);
        }
        if self.0.is_recording.load(Ordering::Relaxed) {
            self.0.recordings.lock().chunk(key, offset);
        }
    }

    /// Records from now on what a process group opens, with all processes of the session that it leads, or what anybody
    /// does; returns the token that ends it. Also where nothing is learned.
    pub fn begin_recording(&self, group: Option<u32>) -> u32 {
        let mut recordings = self.0.recordings.lock();
        self.0.is_recording.store(true, Ordering::Relaxed);
        recordings.begin(Instant::now(), group)
    }

    /// Ends a recording; nothing where there is none of that token.
    pub fn end_recording(&self, token: u32) -> Option<Recorded> {
        let mut recordings = self.0.recordings.lock();
        let sheet = recordings.end(token)?;
        self.0.is_recording.store(!recordings.is_empty(), Ordering::Relaxed);
        drop(recordings);
        Some(Recorded { is_cut: sheet.is_cut(), items: sheet.into_items() })
    }

    /// Returns what was counted, with names.
    pub fn counters(&self) -> [(String, u64); 2] {
        let count = |name: &str, counter: &AtomicU64| (name.to_owned(), counter.load(Ordering::Relaxed));
        [count("traces_followed", &self.0.followed), count("traces_learned", &self.0.learned)]
    }

    /// Ends all runs and has them written down; notes nothing from now on. Bounded.
    pub fn stop(&self) {
        let mut state = self.0.state.lock();
        state.end();
        self.0.woken.notify_one();
        let until = Instant::now() + STOP_LIMIT;
        while state.has_thread && !self.0.ended.wait_until(&mut state, until).timed_out() {}
    }

    /// Says whether somebody takes what is noted.
    fn has_thread(&self, state: &mut State) -> bool {
        if !state.has_thread {
            let shared = Arc::clone(&self.0);
            let thread = std::thread::Builder::new().name("nearfs-traces".to_owned());
            state.has_thread = thread.spawn(move || shared.work()).is_ok();
        }
        state.has_thread
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    /// Ends all runs, and takes no more.
    fn end(&mut self) {
        self.is_over = true;
        self.walks.clear();
        self.recorder.end_all();
    }

    /// Takes what was opened in the runs that are followed, and lets go of those that are over.
    fn take_steps(&mut self) -> Vec<(RunId, Followed, Vec<Found<View>>)> {
        self.has_steps = false;
        let Self { recorder, walks, .. } = self;
        let followed = walks.drain();
        followed.filter_map(|(run, walk)| Some((run, walk, recorder.steps(run)?))).collect()
    }
}

impl Shared {
    /// Follows, and learns from what ended, until there is no run.
    fn work(&self) {
        /// After a panic, nobody waits for this thread.
        struct Ends<'a>(&'a Shared);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.state.lock().has_thread = false;
                self.0.ended.notify_all();
            }
        }
        let _ends = Ends(self);
        let store = Store::open(&self.directories, &self.fqrn);
        let mut state = self.state.lock();
        let Some(mut store) = store else {
            tracing::info!("{}: no directory for traces can be written: nothing is learned", self.fqrn);
            state.end();
            drop(state);
            return;
        };
        let mut rests_until = Instant::now();
        loop {
            let now = Instant::now();
            let next_end = state.recorder.expire(now);
            if let Some(tree) = state.shown.take() {
                MutexGuard::unlocked(&mut state, || {
                    if let Some(tree) = tree.upgrade() {
                        self.ahead.enter(&tree, store.last_triggers(LAST_PROGRAMS));
                    }
                });
            } else if state.has_steps {
                let steps = state.take_steps();
                let walked = MutexGuard::unlocked(&mut state, || self.walk(steps, &mut store));
                for (run, followed) in walked {
                    state.recorder.goes_as_learned(run, followed.1.is_as_learned());
                    state.walks.insert(run, followed);
                }
            } else if (rests_until <= now || state.is_over)
                && let Some(sheet) = state.recorder.take_ended()
            {
                MutexGuard::unlocked(&mut state, || learning::learn(&mut store, sheet.into_items()));
                self.learned.store(store.written, Ordering::Relaxed);
                rests_until = Instant::now() + now.elapsed() * REST_TIMES;
            } else if state.is_over || (next_end.is_none() && rests_until <= now) {
                // Under the same lock, so that whoever notes an open sees that somebody else has to take it.
                state.has_thread = false;
                return;
            } else {
                let look = if rests_until > now { rests_until } else { next_end.unwrap_or(now).max(now + LOOK) };
                self.woken.wait_until(&mut state, look);
            }
        }
    }

    /// Has fetched what runs are going to open; returns where they are now.
    fn walk(&self, steps: Vec<(RunId, Followed, Vec<Found<View>>)>, store: &mut Store) -> Vec<(RunId, Followed)> {
        let mut walked = Vec::new();
        for (run, (tree, mut walk), found) in steps {
            let step = |found: Found<View>| walk.step(found.path(), store);
            let items: Vec<TraceItem> = found.into_iter().flat_map(step).collect();
            if let Some(tree) = tree.upgrade().filter(|_| !items.is_empty()) {
                self.followed.fetch_add(1, Ordering::Relaxed);
                self.ahead.follow(&tree, items);
            }
            walked.push((run, (tree, walk)));
        }
        walked
    }
}
