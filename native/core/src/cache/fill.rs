//! Objects for whoever asks: from the cache, or fetched into it once.
//!
//! Joins directory, origin and flights. A fetch runs on the thread that asked first, hashing and inflating included;
//! others that ask for the same object wait for it. A failure reaches all who wait and is not remembered, but
//! repeated failures are slowed down. Nothing unverified ever gets a name in the cache.
//!
//! Threads: shared by all; no lock is held across I/O. Not to be called from tasks of the network runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nearfs_format::codec::{inflate_bounded, inflate_exact};
use nearfs_format::dirent::Compression;
use nearfs_format::object::ObjectId;

use super::cached::CachedObject;
use super::disk::DiskCache;
use super::flight::{Boarding, Flights};
use super::pending::PendingObject;
use super::quota::Quota;
use super::sink::{StoredSink, StreamSink, damaged, wrong_size};
use super::throttle::Throttle;
use super::want::{Place, Want};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::caller::Wait;
use crate::transport::origin::roll;
use crate::transport::{Fetched, Interrupt, Origin, Request};

/// Content up to this size passes through memory: inflating in one call is several times faster.
const MAX_IN_MEMORY_BYTES: u64 = 1 << 20;
/// Nobody waits longer for another thread's fetch.
const WAIT_LIMIT: Duration = Duration::from_secs(900);

/// What the cache did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FillCounters {
    /// Objects that were there.
    pub hits: u64,
    /// Objects that another thread was fetching already.
    pub shared: u64,
    /// Objects that were fetched.
    pub fetches: u64,
    /// Fetches that failed.
    pub failures: u64,
    /// Bytes of content that were fetched.
    pub bytes: u64,
    /// Stored bytes that were fetched because somebody waited for them, and not ahead; with about those that are waited
    /// for now.
    pub demanded_bytes: u64,
    /// Objects of the cache that were found damaged while they were read, and fetched again.
    pub damaged: u64,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    shared: AtomicU64,
    fetches: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
    demanded: AtomicU64,
    damaged: AtomicU64,
}

/// What it took to fetch something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Came {
    /// Stored bytes that came over the line.
    pub bytes: u64,
    /// A connection was opened for it.
    pub has_connected: bool,
    /// A cache on the way had it.
    pub was_nearby: bool,
}

impl From<Fetched> for Came {
    fn from(fetched: Fetched) -> Self {
        Self { bytes: fetched.length, has_connected: fetched.has_connected, was_nearby: fetched.was_nearby }
    }
}

/// Two wants with the same key are served by the same fetch.
pub(super) type Key = (ObjectId, Compression, Option<u64>, Place);
pub(super) type Outcome = Result<CachedObject, Arc<Error>>;

/// The objects of a repository, cached.
#[derive(Debug)]
pub struct ObjectCache {
    pub(super) disk: DiskCache,
    quota: Option<Quota>,
    pub(super) origin: Arc<Origin>,
    /// Where external data comes from.
    external: Option<Arc<Origin>>,
    pub(super) flights: Flights<Key, Outcome>,
    throttle: Throttle,
    counts: Counts,
}

impl ObjectCache {
    /// Joins a directory without a limit and an origin.
    pub fn new(disk: DiskCache, origin: Arc<Origin>) -> Self {
        let (flights, throttle, counts) = (Flights::default(), Throttle::default(), Counts::default());
        Self { disk, quota: None, origin, external: None, flights, throttle, counts }
    }

    /// Fetches external data from this origin.
    #[must_use]
    pub fn with_external(mut self, external: Arc<Origin>) -> Self {
        self.external = Some(external);
        self
    }

    /// Keeps the directory within a limit.
    #[must_use]
    pub fn with_quota(mut self, quota: Quota) -> Self {
        self.quota = Some(quota);
        self
    }

    /// Returns the limit; nothing where the directory grows as it may.
    pub fn quota(&self) -> Option<&Quota> {
        self.quota.as_ref()
    }

    /// Returns the directory.
    pub fn disk(&self) -> &DiskCache {
        &self.disk
    }

    /// Returns where objects come from.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Returns where external data comes from, if anywhere.
    pub fn external(&self) -> Option<&Arc<Origin>> {
        self.external.as_ref()
    }

    /// Reads the counters.
    pub fn counters(&self) -> FillCounters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FillCounters {
            hits: read(&self.counts.hits),
            shared: read(&self.counts.shared),
            fetches: read(&self.counts.fetches),
            failures: read(&self.counts.failures),
            bytes: read(&self.counts.bytes),
            demanded_bytes: read(&self.counts.demanded),
            damaged: read(&self.counts.damaged),
        }
    }

    /// Says whether the object can be had without the network.
    pub fn is_cached(&self, id: &ObjectId) -> bool {
        self.disk.contains(id)
    }

    /// Returns the object, fetching it if need be. Blocks, until the thread's caller is killed at the longest.
    pub fn open(&self, want: &Want) -> Result<CachedObject> {
        want.check_size()?;
        match self.find(want)? {
            Some(object) => Ok(object),
            None => self.fetch_once(want, self.need(want), Wait::begin().interrupt()),
        }
    }

    /// Like [`ObjectCache::open`]; asks only then what the object is for when it has to be fetched.
    pub fn open_for(&self, want: &Want, label: impl FnOnce() -> String) -> Result<CachedObject> {
        want.check_size()?;
        if let Some(object) = self.find(want)? {
            return Ok(object);
        }
        // Whoever plans ahead when it hears of this knows that so much is needed.
        let needed = self.need(want);
        self.fetch_once(&want.clone().labelled(label()), needed, Wait::begin().interrupt())
    }

    /// Returns the object's content, fetching it if need be. Blocks; for certificates, metainfo and the like.
    pub fn read_small(&self, want: &Want) -> Result<Vec<u8>> {
        self.with_intact(want, |object| object.read_all(want.content_limit()))
    }

    /// Opens an object and uses it; should its content turn out to be damaged, once more with a fresh copy.
    ///
    /// `read` has to fail with [`ErrorKind::Corrupt`] where the cache, and not the repository, is to blame.
    pub fn with_intact<T>(&self, want: &Want, read: impl Fn(&CachedObject) -> Result<T>) -> Result<T> {
        match read(&self.open(want)?) {
            Err(error) if error.kind() == ErrorKind::Corrupt => read(&self.reopen_damaged(want, &error)?),
            other => other,
        }
    }

    /// Returns a fresh copy of an object that `error` says is damaged in the cache.
    pub fn reopen_damaged(&self, want: &Want, error: &Error) -> Result<CachedObject> {
        tracing::warn!(id = %want.id, %error, "fetching a damaged object again");
        self.counts.damaged.fetch_add(1, Ordering::Relaxed);
        self.discard(&want.id)?;
        self.open(want)
    }

    /// Moves an object out of the cache whose content turned out to be wrong; the next open fetches it again.
    pub fn discard(&self, id: &ObjectId) -> Result<()> {
        self.disk.quarantine(id)
    }

    /// Removes an object from the cache unless it is pinned; says whether it was there and is gone now. Open files stay
    /// readable.
    pub fn evict(&self, id: &ObjectId) -> Result<bool> {
        self.quota.as_ref().map_or_else(|| self.disk.remove(id), |quota| quota.evict(id))
    }

    /// Keeps a cached object from being cleaned up while this process lives, or until [`ObjectCache::unpin`]. Says
    /// whether it does; without a limit there is nothing to do.
    pub fn pin(&self, id: &ObjectId) -> Result<bool> {
        self.quota.as_ref().map_or(Ok(true), |quota| quota.pin(id))
    }

    /// Ends a pin.
    pub fn unpin(&self, id: &ObjectId) {
        if let Some(quota) = &self.quota {
            quota.unpin(id);
        }
    }

    /// Like [`ObjectCache::open`]; ends with [`ErrorKind::Cancelled`] once `interrupt` is cancelled. Others that wait
    /// for the same object are not affected: one of them fetches it.
    pub fn open_interruptible(&self, want: &Want, interrupt: &Interrupt) -> Result<CachedObject> {
        want.check_size()?;
        match self.find(want)? {
            Some(object) => Ok(object),
            None => self.fetch_once(want, self.need(want), interrupt),
        }
    }

    /// Fetches an object that nobody waits for yet; returns what it took, or `None` where it is there
    /// already or on its way, or is stored in more than it is worth ([`Want::worth_bytes`]).
    ///
    /// Whoever asks for the object meanwhile waits for this fetch; should it fail, or `interrupt` be cancelled, they
    /// fetch it themselves, so that no guess decides what a host is worth.
    pub fn fetch_ahead(&self, want: &Want, interrupt: &Interrupt) -> Result<Option<Came>> {
        want.check_size()?;
        match self.flights.board(&Self::key(want), Duration::ZERO, || false) {
            Boarding::Pilot(pilot) if !self.is_cached(&want.id) => {
                let request = Request { is_guess: true, ..want.request(interrupt) };
                let max_bytes = request.max_bytes.min(want.worth_bytes.unwrap_or(u64::MAX));
                let is_bounded = max_bytes < request.max_bytes;
                match self.fetch(want, &Request { max_bytes, ..request }) {
                    Ok((object, came)) => {
                        pilot.land(Ok(object));
                        Ok(Some(came))
                    }
                    // Larger than that, and no fault of the host's; a fault shows again when somebody asks.
                    Err(error) if is_bounded && error.kind() == ErrorKind::Corrupt => Ok(None),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(None),
        }
    }

    /// Says whether somebody is fetching the object now.
    pub fn is_on_its_way(&self, want: &Want) -> bool {
        self.flights.is_flying(&Self::key(want))
    }

    pub(super) fn key(want: &Want) -> Key {
        (want.id, want.compression, want.size_bytes, want.place.clone())
    }

    /// Counts an object as needed, about, while somebody waits for its fetch.
    fn need(&self, want: &Want) -> Needed<'_> {
        let bytes = want.typical_bytes().unwrap_or(0);
        self.counts.demanded.fetch_add(bytes, Ordering::Relaxed);
        Needed { demanded: &self.counts.demanded, bytes }
    }

    /// Returns an object that is not there, fetched by this thread or by another one.
    fn fetch_once(&self, want: &Want, needed: Needed<'_>, interrupt: &Interrupt) -> Result<CachedObject> {
        let mut needed = Some(needed);
        let key = Self::key(want);
        let begun = Instant::now();
        loop {
            let left = WAIT_LIMIT.saturating_sub(begun.elapsed());
            if self.flights.is_flying(&key) {
                // Whoever fetches it counts it.
                drop(needed.take());
            }
            match self.flights.board(&key, left, || !interrupt.is_cancelled()) {
                Boarding::Pilot(pilot) => {
                    // It may have landed between the look at the disk and the look at the table.
                    if let Some(object) = self.find(want)? {
                        pilot.land(Ok(object.clone()));
                        return Ok(object);
                    }
                    let outcome = self.fetch(want, &want.request(interrupt)).map(|(object, came)| {
                        self.counts.demanded.fetch_add(came.bytes, Ordering::Relaxed);
                        object
                    });
                    drop(needed.take());
                    if matches!(&outcome, Err(error) if error.kind() == ErrorKind::Cancelled) {
                        return outcome;
                    }
                    let outcome = outcome.map_err(Arc::new);
                    pilot.land(outcome.clone());
                    return outcome.map_err(|error| self.failed(&error));
                }
                Boarding::Landed(outcome) => {
                    self.counts.shared.fetch_add(1, Ordering::Relaxed);
                    return outcome.map_err(|error| error.again());
                }
                Boarding::Abandoned if !interrupt.is_cancelled() => {}
                Boarding::Abandoned | Boarding::StillFlying => return Err(gave_up(want, interrupt)),
            }
        }
    }

    /// Returns the object if it is there; never fetches it.
    pub fn find(&self, want: &Want) -> Result<Option<CachedObject>> {
        let object = self.disk.open(&want.id, want.size_bytes)?;
        if object.is_some() {
            self.counts.hits.fetch_add(1, Ordering::Relaxed);
            if let Some(quota) = &self.quota {
                quota.touch(&want.id);
            }
        }
        Ok(object)
    }

    /// Gives a fetched object its name, if there is room for it; its reader has it either way.
    pub(super) fn keep(&self, want: &Want, pending: PendingObject) -> Result<CachedObject> {
        let sync = want.size_bytes.is_none();
        let Some(quota) = &self.quota else { return pending.commit(sync) };
        if pending.is_in_memory() {
            quota.disk_is_full();
            return pending.keep_out();
        }
        let Some(admission) = quota.admit(&want.id, pending.size_bytes(), &want.label) else {
            return pending.keep_out();
        };
        let committed = pending.commit(sync);
        match &committed {
            Ok(_) => quota.landed(&admission),
            Err(_) => quota.take_back(&admission),
        }
        committed
    }

    fn failed(&self, error: &Error) -> Error {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
        // Who waits was freed before; only this thread pays.
        std::thread::sleep(self.throttle.after_failure(Instant::now(), roll));
        error.again()
    }

    /// Returns the object, and what it took.
    fn fetch(&self, want: &Want, request: &Request) -> Result<(CachedObject, Came)> {
        self.counts.fetches.fetch_add(1, Ordering::Relaxed);
        let fetched = if want.content_limit() <= MAX_IN_MEMORY_BYTES {
            self.fetch_at_once(want, request)?
        } else {
            self.fetch_streaming(want, request)?
        };
        self.counts.bytes.fetch_add(fetched.0.size_bytes(), Ordering::Relaxed);
        Ok(fetched)
    }

    fn origin_of(&self, want: &Want) -> Result<&Origin> {
        let Place::External { path, .. } = &want.place else { return Ok(&self.origin) };
        self.external.as_deref().filter(|origin| !origin.hosts().is_empty()).ok_or_else(|| {
            let path = String::from_utf8_lossy(path);
            let reason = format!("/{path}: it is external data, and no host for that is set (CVMFS_EXTERNAL_URL)");
            Error::new(ErrorKind::Unreachable, "fetch", reason)
        })
    }

    fn fetch_at_once(&self, want: &Want, request: &Request) -> Result<(CachedObject, Came)> {
        let mut sink = StoredSink::new(want.id);
        let came = self.origin_of(want)?.fetch(request, &mut sink)?.into();
        // The hash was right, so what is wrong from here on is wrong at every host: no reason to fetch again.
        Ok((self.store(want, sink.into_bytes())?, came))
    }

    /// Puts an object into the cache whose stored bytes have the hash that names it.
    pub(super) fn store(&self, want: &Want, stored: Vec<u8>) -> Result<CachedObject> {
        let content = content(want, stored)?;
        let mut pending = self.disk.begin(&want.id, content.len() as u64)?;
        pending.write(&content)?;
        self.keep(want, pending)
    }

    fn fetch_streaming(&self, want: &Want, request: &Request) -> Result<(CachedObject, Came)> {
        let mut sink = StreamSink::new(&self.disk, want);
        let came = self.origin_of(want)?.fetch(request, &mut sink)?.into();
        Ok((self.keep(want, sink.into_pending()?)?, came))
    }
}

/// What is needed as long as somebody waits for it.
struct Needed<'c> {
    demanded: &'c AtomicU64,
    bytes: u64,
}

impl Drop for Needed<'_> {
    fn drop(&mut self) {
        self.demanded.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Turns the stored bytes of a small object into its content.
fn content(want: &Want, stored: Vec<u8>) -> Result<Vec<u8>> {
    match (want.compression, want.size_bytes) {
        (Compression::Zlib, Some(size)) => inflate_exact(&stored, size).map_err(|e| damaged(&want.id, e)),
        (Compression::Zlib, None) => inflate_bounded(&stored, want.limit_bytes).map_err(|e| damaged(&want.id, e)),
        (Compression::None, Some(size)) if size != stored.len() as u64 => {
            Err(wrong_size(&want.id, stored.len() as u64, size))
        }
        (Compression::None, _) => Ok(stored),
    }
}

fn gave_up(want: &Want, interrupt: &Interrupt) -> Error {
    if interrupt.is_cancelled() {
        return Error::new(ErrorKind::Cancelled, "fetch", format!("{}: the caller gave up", want.id));
    }
    let subject = format!("{}: another thread has not finished it within {} s", want.id, WAIT_LIMIT.as_secs());
    Error::new(ErrorKind::Unreachable, "fetch", subject)
}
