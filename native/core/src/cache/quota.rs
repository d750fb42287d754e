//! The limit of a cache directory: admission, order of use, pins, clean-ups. Shared by any number of processes.
//!
//! Nobody owns the limit. Each process knows the total from the [`super::ledger`]; whoever finds it close to the limit
//! wakes its own `nearfs-quota` thread, which settles and removes objects down to half of the limit if no other
//! process is at it. An object that would exceed the limit is not kept: its reader has it, and the next one finds
//! room. So no read waits for a clean-up, and the limit holds whatever the processes do. See docs/decisions/0005.
//!
//! Pins are shared locks on the objects' files, so they end with their process. Threads: shared by all; the thread
//! sleeps until it is woken; no lock is held across a system call.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use nearfs_format::object::ObjectId;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use super::cachedb::{CacheDb, ListedObject};
use super::disk::{Sharing, TXN, create_dir};
use super::ledger::{LEDGER, Ledger, Place, Record};
use super::settling::{Evicted, Settling, lock};
use crate::error::{Error, ErrorKind, Result};

/// Uses that are recorded together.
const TOUCHES: usize = 128;
/// A ledger of that size is settled even while there is room.
const LEDGER_LIMIT_BYTES: u64 = 1 << 20;
/// A clean-up begins this part of the limit before it is reached, so that it is done when the limit is.
const MARGIN_DIVISOR: u64 = 16;
/// After a clean-up that could not remove enough, or a settling that failed.
const FRUITLESS_PAUSE: Duration = Duration::from_secs(1);
/// How long a person's command waits for a settling of another process.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the loading of a catalog waits for one.
const PIN_PATIENCE: Duration = Duration::from_millis(250);
/// At most so often room is made because the disk, and not the cache, is full.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(30);
/// Each pin holds a file open: the catalogs of a large repository must not use up what the process may open.
const MAX_PINS: usize = 1024;

/// What the quota did and holds; bytes are those of all processes, counts those of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaCounters {
    /// The limit.
    pub limit_bytes: u64,
    /// All objects of the directory.
    pub cached_bytes: u64,
    /// Of them, those that are pinned.
    pub pinned_bytes: u64,
    /// Clean-ups by this process.
    pub cleanups: u64,
    /// Objects that they removed.
    pub evicted_objects: u64,
    /// Bytes of these objects.
    pub evicted_bytes: u64,
    /// Objects that were not kept, because the limit was reached.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counts {
    cleanups: AtomicU64,
    evicted_objects: AtomicU64,
    evicted_bytes: AtomicU64,
    refused: AtomicU64,
}

/// The limit of a directory, as one process keeps it.
#[derive(Debug)]
pub struct Quota {
    shared: Arc<Shared>,
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    ledger: Ledger,
    limit_bytes: AtomicU64,
    /// What the next clean-up has to make room for.
    wanted_bytes: AtomicU64,
    is_ending: AtomicBool,
    touches: Mutex<Vec<Record>>,
    pins: Mutex<HashMap<ObjectId, File>>,
    disk_was_full: Mutex<Option<Instant>>,
    counts: Counts,
}

/// Room that was promised to an object.
#[derive(Debug)]
pub(super) struct Admission {
    id: ObjectId,
    size_bytes: u64,
    recorded: Place,
}

impl Quota {
    /// Keeps the directory below `limit_bytes`, together with all other processes that use it.
    ///
    /// Returns at once; a directory that was never counted, or not since the machine's start, is counted behind it.
    pub fn start(dir: &Path, limit_bytes: u64) -> Result<Self> {
        let ledger = open_or_create(dir)?;
        ledger.catch_up()?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            ledger,
            limit_bytes: AtomicU64::new(limit_bytes),
            wanted_bytes: AtomicU64::new(0),
            is_ending: AtomicBool::new(false),
            touches: Mutex::default(),
            pins: Mutex::default(),
            disk_was_full: Mutex::default(),
            counts: Counts::default(),
        });
        let (wake, woken) = bounded(1);
        let working = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("nearfs-quota".to_owned())
            .spawn(move || working.work(&woken))
            .map_err(|e| Error::io("start", "the quota thread", e))?;
        let quota = Self { shared, wake: Some(wake), thread: Some(thread) };
        quota.wake_if_due();
        Ok(quota)
    }

    /// Asks for room for an object that is about to get its name; nothing if there is none.
    /// `label` says to people what it is for.
    pub(super) fn admit(&self, id: &ObjectId, size_bytes: u64, label: &str) -> Option<Admission> {
        let shared = &self.shared;
        let limit = shared.limit_bytes.load(Ordering::Relaxed);
        let mut records = std::mem::take(&mut *shared.touches.lock());
        records.push(Record::Insert(*id, size_bytes));
        records.extend(Record::labels(label));
        let recorded = shared.ledger.append(&records);
        let recorded = recorded.and_then(|recorded| shared.ledger.catch_up().map(|()| recorded));
        match recorded {
            Ok(recorded) if shared.ledger.totals().0 <= limit => {
                self.wake_if_due();
                return Some(Admission { id: *id, size_bytes, recorded });
            }
            Ok(_) => self.not_added(id, size_bytes),
            Err(error) => tracing::warn!(%error, "cannot record an object: it is not kept"),
        }
        shared.counts.refused.fetch_add(1, Ordering::Relaxed);
        shared.wanted_bytes.fetch_max(size_bytes, Ordering::Relaxed);
        self.wake();
        None
    }

    /// The object has its name. Should a settling have begun since it was admitted, it is recorded again.
    pub(super) fn landed(&self, admission: &Admission) {
        let ledger = &self.shared.ledger;
        let again = ledger.is_current(&admission.recorded).and_then(|is_current| {
            if is_current {
                return Ok(());
            }
            ledger.append(&[Record::Insert(admission.id, admission.size_bytes)]).map(drop)
        });
        if let Err(error) = again {
            tracing::warn!(%error, "cannot record an object");
        }
    }

    /// The object gets no name.
    pub(super) fn take_back(&self, admission: &Admission) {
        self.not_added(&admission.id, admission.size_bytes);
    }

    fn not_added(&self, id: &ObjectId, size_bytes: u64) {
        // What is not recorded here is the first to go when it comes to it.
        if let Err(error) = self.shared.ledger.append(&[Record::Remove(*id, size_bytes)]) {
            tracing::debug!(%error, "cannot record that an object was not added");
        }
    }

    /// Records that an object was used; mostly only remembers it.
    pub(super) fn touch(&self, id: &ObjectId) {
        let full = {
            let mut touches = self.shared.touches.lock();
            if touches.last() != Some(&Record::Touch(*id)) {
                touches.push(Record::Touch(*id));
            }
            if touches.len() < TOUCHES {
                return;
            }
            std::mem::replace(&mut *touches, Vec::with_capacity(TOUCHES))
        };
        // An order of use that is slightly wrong is no reason to fail.
        if self.shared.ledger.append(&full).is_ok() {
            self.wake_if_due();
        }
    }

    /// Makes room because the disk is full.
    pub(super) fn disk_is_full(&self) {
        let now = Instant::now();
        let mut last = self.shared.disk_was_full.lock();
        if last.is_none_or(|last| now.duration_since(last) > FULL_DISK_PAUSE) {
            *last = Some(now);
            let (total, _) = self.shared.ledger.totals();
            let limit = self.shared.limit_bytes.load(Ordering::Relaxed);
            // Half of what there is; `wanted` counts from the limit down.
            self.shared.wanted_bytes.fetch_max(limit.saturating_sub(total / 2), Ordering::Relaxed);
            self.wake();
        }
    }

    /// Keeps an object while this process lives, or until [`Quota::unpin`]. Says whether it does: the object may be
    /// gone already, and pinned objects take at most half of the limit.
    pub fn pin(&self, id: &ObjectId) -> Result<bool> {
        let shared = &self.shared;
        {
            let pins = shared.pins.lock();
            if pins.contains_key(id) {
                return Ok(true);
            }
            if pins.len() >= MAX_PINS {
                return Ok(false);
            }
        }
        // A descriptor of its own: the lock ends with it, and readers may keep theirs.
        let Ok(file) = File::open(shared.dir.join(id.cache_key())) else { return Ok(false) };
        if flock(&file, FlockOperation::NonBlockingLockShared).is_err() {
            return Ok(false);
        }
        let metadata = file.metadata().map_err(|e| Error::io("pin", id.to_string(), e))?;
        let half = shared.limit_bytes.load(Ordering::Relaxed) / 2;
        let fits = |shared: &Shared| shared.ledger.totals().1.saturating_add(metadata.len()) <= half;
        shared.ledger.catch_up()?;
        if !fits(shared) {
            // What was pinned by processes that ended, or by several, counts too much until it is settled.
            self.settled(PIN_PATIENCE)?;
        }
        if metadata.nlink() == 0 || !fits(shared) {
            return Ok(false);
        }
        shared.ledger.append(&[Record::Pin(*id, metadata.len())]).map(drop)?;
        shared.pins.lock().insert(*id, file);
        Ok(true)
    }

    /// Ends a pin of this process.
    pub fn unpin(&self, id: &ObjectId) {
        let pin = self.shared.pins.lock().remove(id);
        drop(pin);
    }

    /// Removes objects in the order of their use until all take at most `goal_bytes`. Says whether that was reached:
    /// pinned objects stay.
    pub fn cleanup(&self, goal_bytes: u64) -> Result<bool> {
        let settling = self.patient()?;
        let evicted = settling.evict(goal_bytes, &|| self.shared.goes_on())?;
        self.shared.count(evicted);
        Ok(settling.db().totals()?.0 <= i64::try_from(goal_bytes).unwrap_or(i64::MAX))
    }

    /// Removes one object unless it is pinned; says whether it was there and is gone now.
    pub(super) fn evict(&self, id: &ObjectId) -> Result<bool> {
        self.patient()?.evict_one(id)
    }

    /// Feeds all objects to `sink`, the one used last first.
    pub fn list(&self, sink: &mut dyn FnMut(&ListedObject)) -> Result<()> {
        self.patient()?.db().list(sink)
    }

    /// Returns how many clean-ups all processes made within `period`, a week at most.
    pub fn cleanups_within(&self, period: Duration) -> Result<u64> {
        self.patient()?.db().cleanups(period)
    }

    /// Returns the exact bytes of all objects, and of the pinned ones.
    pub fn size(&self) -> Result<(u64, u64)> {
        let (total, pinned) = self.patient()?.db().totals()?;
        Ok((total.max(0) as u64, pinned.max(0) as u64))
    }

    /// Changes the limit for this process.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.shared.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        self.wake_if_due();
    }

    /// Reads the counters; totals as far as this process read the ledger.
    pub fn counters(&self) -> QuotaCounters {
        let shared = &self.shared;
        // A ledger that cannot be read costs the newest numbers only.
        let _ = shared.ledger.catch_up();
        let (cached_bytes, pinned_bytes) = shared.ledger.totals();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        QuotaCounters {
            limit_bytes: read(&shared.limit_bytes),
            cached_bytes,
            pinned_bytes,
            cleanups: read(&shared.counts.cleanups),
            evicted_objects: read(&shared.counts.evicted_objects),
            evicted_bytes: read(&shared.counts.evicted_bytes),
            refused: read(&shared.counts.refused),
        }
    }

    fn patient(&self) -> Result<Settling<'_>> {
        self.settled(PATIENCE)?.ok_or_else(|| {
            Error::new(ErrorKind::Busy, "settle", format!("{}: another process is at it", self.shared.dir.display()))
        })
    }

    fn settled(&self, patience: Duration) -> Result<Option<Settling<'_>>> {
        self.shared.flush_touches();
        Settling::begin(&self.shared.dir, &self.shared.ledger, patience, &|| self.shared.goes_on())
    }

    fn wake_if_due(&self) {
        if self.shared.is_due() {
            self.wake();
        }
    }

    /// Wakes the thread; it is awake already where this fails.
    fn wake(&self) {
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        self.shared.flush_touches();
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so; nothing depends on it any more.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.is_ending.load(Ordering::Relaxed)
    }

    fn is_due(&self) -> bool {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        self.ledger.totals().0 > limit - limit / MARGIN_DIVISOR
            || self.ledger.length_bytes() > LEDGER_LIMIT_BYTES
            || !self.ledger.is_counted()
    }

    fn flush_touches(&self) {
        let touches = std::mem::take(&mut *self.touches.lock());
        if !touches.is_empty() {
            let _ = self.ledger.append(&touches);
        }
    }

    fn count(&self, evicted: Evicted) {
        if evicted.objects > 0 {
            self.counts.cleanups.fetch_add(1, Ordering::Relaxed);
            self.counts.evicted_objects.fetch_add(evicted.objects, Ordering::Relaxed);
            self.counts.evicted_bytes.fetch_add(evicted.bytes, Ordering::Relaxed);
        }
    }

    /// The thread: sleeps until woken, ends when the quota does.
    fn work(&self, woken: &Receiver<()>) {
        let mut resting_until: Option<Instant> = None;
        while woken.recv().is_ok() && self.goes_on() {
            if resting_until.is_some_and(|until| Instant::now() < until) {
                continue;
            }
            resting_until = match self.tidy() {
                Ok(true) => None,
                Ok(false) => Some(Instant::now() + FRUITLESS_PAUSE),
                Err(error) => {
                    tracing::warn!(%error, "cannot keep the cache within its limit");
                    Some(Instant::now() + FRUITLESS_PAUSE)
                }
            };
        }
    }

    /// Settles, and cleans up if the limit is close. Says whether there is room now, or somebody else makes it.
    fn tidy(&self) -> Result<bool> {
        if !self.dir.join(LEDGER).exists() {
            // Somebody emptied the directory: count again. The next object creates what else is missing.
            create_dir(&self.dir.join(TXN), Sharing::Shared)?;
            open_or_create(&self.dir)?;
        }
        self.flush_touches();
        let Some(settling) = Settling::begin(&self.dir, &self.ledger, Duration::ZERO, &|| self.goes_on())? else {
            return Ok(true);
        };
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        let wanted = self.wanted_bytes.swap(0, Ordering::Relaxed);
        let total = settling.db().totals()?.0.max(0) as u64;
        let margin = limit - limit / MARGIN_DIVISOR;
        if total <= margin && total.saturating_add(wanted) <= limit {
            return Ok(true);
        }
        // An object as large as the whole cache will never fit: nothing is removed for it.
        let goal = if wanted < limit { (limit / 2).min(limit - wanted) } else { limit / 2 };
        let evicted = settling.evict(goal, &|| self.goes_on())?;
        self.count(evicted);
        let left = settling.db().totals()?.0.max(0) as u64;
        tracing::info!(objects = evicted.objects, bytes = evicted.bytes, left, goal, "cleaned up the cache");
        Ok(left <= margin)
    }
}

/// Opens the ledger, or begins one: under the lock, so that of several that start at once, one does.
fn open_or_create(dir: &Path) -> Result<Ledger> {
    if let Some(ledger) = Ledger::open(dir)? {
        return Ok(ledger);
    }
    let lock = lock(dir, PATIENCE)?;
    if let Some(ledger) = Ledger::open(dir)? {
        return Ok(ledger);
    }
    if lock.is_none() {
        return Err(Error::new(ErrorKind::Busy, "open cache", format!("{}: it is being settled", dir.display())));
    }
    let guess = CacheDb::open(dir).and_then(|db| db.totals()).map_or(0, |(total, _)| total.max(0));
    Ledger::create(dir, guess)
}

/// Forgets who used a directory that is not limited from now on: a later limit counts it anew.
pub fn disown(dir: &Path) {
    let _ = std::fs::remove_file(dir.join(LEDGER));
}
