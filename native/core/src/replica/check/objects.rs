//! Objects that catalogs name: whether they are in the storage and, if asked, whether they hold what they should.
//!
//! Owns the threads: scoped ones, as many as processors, which end with the call. What was looked at once is remembered
//! across catalogs, up to a bound, since a repository's files repeat. Source: format.md 1.4, 12.8 and 12.12.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nearfs_format::FormatError;
use nearfs_format::codec::{Inflater, inflate_exact};
use nearfs_format::hash::Hasher;
use nearfs_format::object::{ObjectId, ObjectKind};

use super::findings::Findings;
use super::load::{Problem, Stop, Storage, each_block};
use super::table::Table;
use super::{OPERATION, check_cancelled};
use crate::error::{Error, ErrorKind, Result};

/// Objects larger than this, stored or inflated, are streamed; smaller ones take the faster way through memory.
const IN_MEMORY_BYTES: u64 = 16 << 20;
/// Sound objects that are remembered: about 100 bytes each. Further ones are looked at again when they repeat.
const REMEMBERED_MAX: usize = 2_000_000;
/// Objects a thread takes at once.
const BATCH: usize = 16;

/// An object that an entry needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct ObjectUse {
    pub(super) id: ObjectId,
    pub(super) is_deflated: bool,
    /// Inflated size.
    pub(super) size_bytes: u64,
    /// Position of the entry.
    pub(super) at: u32,
}

/// What decides whether an object is right: the same hash may be referred to in two ways, and one of them be wrong.
type Key = (ObjectId, bool, u64);

impl ObjectUse {
    fn key(&self) -> Key {
        (self.id, self.is_deflated, self.size_bytes)
    }
}

/// Looks at objects, each once if it can.
#[derive(Debug)]
pub(super) struct ObjectCheck {
    verify_content: bool,
    known: HashMap<Key, Option<Problem>>,
}

impl ObjectCheck {
    /// Looks for presence, or reads everything with `verify_content`.
    pub(super) fn new(verify_content: bool) -> Self {
        Self { verify_content, known: HashMap::new() }
    }

    /// Looks at all objects of a catalog.
    pub(super) fn check(
        &mut self,
        storage: &Storage<'_>,
        table: &Table,
        mut uses: Vec<ObjectUse>,
        cancel: &AtomicBool,
        findings: &mut Findings,
    ) -> Result<()> {
        uses.sort_unstable_by_key(|u| (u.key(), u.at));
        let mut fresh: Vec<Key> = uses.iter().map(ObjectUse::key).filter(|key| !self.known.contains_key(key)).collect();
        fresh.dedup();
        let bad = self.look_at(storage, &fresh, cancel)?;
        for used in &uses {
            let problem = bad.get(&used.key()).or_else(|| self.known.get(&used.key()).and_then(Option::as_ref));
            if let Some(problem) = problem {
                let noun = if used.id.kind == ObjectKind::Chunk { "partial data chunk" } else { "data chunk" };
                findings.at(&table.path(used.at), format_args!("{noun} {}: {problem}", used.id.hash));
            }
        }
        let room = REMEMBERED_MAX.saturating_sub(self.known.len());
        self.known.extend(fresh.into_iter().take(room).map(|key| (key, None)));
        self.known.extend(bad.into_iter().take(REMEMBERED_MAX).map(|(key, problem)| (key, Some(problem))));
        Ok(())
    }

    /// Returns what is wrong with which objects.
    fn look_at(&self, storage: &Storage<'_>, keys: &[Key], cancel: &AtomicBool) -> Result<HashMap<Key, Problem>> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = processors.min(keys.len().div_ceil(BATCH)).max(1);
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(Key, Problem)>> {
            let mut bad = Vec::new();
            loop {
                let from = next.fetch_add(BATCH, Ordering::Relaxed);
                let Some(batch) = keys.get(from..keys.len().min(from.saturating_add(BATCH))) else { return Ok(bad) };
                if batch.is_empty() {
                    return Ok(bad);
                }
                for key in batch {
                    check_cancelled(cancel)?;
                    bad.extend(self.problem_of(storage, *key, cancel)?.map(|problem| (*key, problem)));
                }
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut bad: HashMap<Key, Problem> = work()?.into_iter().collect();
            for other in others {
                let died = |_| Error::new(ErrorKind::Internal, OPERATION, "objects: a thread died");
                bad.extend(other.join().map_err(died)??);
            }
            Ok(bad)
        })
    }

    fn problem_of(&self, storage: &Storage<'_>, key: Key, cancel: &AtomicBool) -> Result<Option<Problem>> {
        let (id, is_deflated, size_bytes) = key;
        if !self.verify_content {
            return Ok(storage.find_stored(&id.key()).err());
        }
        let verified = if is_deflated {
            verify_deflated(storage, id, size_bytes, cancel)
        } else {
            verify_plain(storage, id, size_bytes, cancel)
        };
        verified.err().map(Stop::problem).transpose()
    }
}

fn verify_plain(storage: &Storage<'_>, id: ObjectId, size_bytes: u64, cancel: &AtomicBool) -> Result<(), Stop> {
    let mut actual_bytes = 0;
    stream(storage, id, cancel, |block| actual_bytes += block.len() as u64)?;
    check_size(size_bytes, actual_bytes)
}

fn verify_deflated(storage: &Storage<'_>, id: ObjectId, size_bytes: u64, cancel: &AtomicBool) -> Result<(), Stop> {
    let stored_bytes = storage.find_stored(&id.key())?;
    if stored_bytes <= IN_MEMORY_BYTES && size_bytes <= IN_MEMORY_BYTES {
        let mut stored = Vec::with_capacity(stored_bytes as usize);
        stream(storage, id, cancel, |block| stored.extend_from_slice(block))?;
        return Ok(inflate_exact(&stored, size_bytes).map(drop)?);
    }
    let mut inflater = Inflater::new(size_bytes);
    let mut fault = None;
    stream(storage, id, cancel, |block| {
        // The hash says more about a damaged object than zlib does: it is finished first.
        if fault.is_none() {
            fault = inflater.push(block, &mut |_: &[u8]| Ok::<(), FormatError>(())).err();
        }
    })?;
    match fault {
        Some(e) => Err(e.into()),
        None => check_size(size_bytes, inflater.finish()?),
    }
}

fn check_size(expected: u64, actual: u64) -> Result<(), Stop> {
    if expected == actual {
        return Ok(());
    }
    Err(Stop::Problem(format!("wrong size (expected: {expected} / stored: {actual})")))
}

/// Passes the stored bytes to `sink`, then compares their hash.
fn stream(storage: &Storage<'_>, id: ObjectId, cancel: &AtomicBool, mut sink: impl FnMut(&[u8])) -> Result<(), Stop> {
    let (file, stored_bytes) = storage.open_stored(&id.key())?;
    let mut hasher = Hasher::new(id.hash.algorithm());
    each_block(file, stored_bytes, cancel, |block| {
        hasher.update(block);
        sink(block);
        Ok(())
    })?;
    let actual = hasher.finish();
    if actual == id.hash {
        return Ok(());
    }
    Err(Stop::Problem(format!("damaged: the stored bytes have hash {actual}")))
}
