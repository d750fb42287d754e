//! Decoded catalogs in memory: shared by all that need the same one, let go again when they take too much.
//!
//! A catalog is decoded when its rows are asked for and stays until the others push it out, the one used longest ago
//! first; it is decoded again when it is needed again. So memory is bounded by the budget, not by how much of a
//! repository was walked over. The root catalogs in use are held by their trees and do not count.
//!
//! Threading: shared by all workers. No lock is held while a catalog is fetched or decoded; two threads may decode the
//! same one at the same time, and one result is dropped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use nearfs_format::hash::ContentHash;
use nearfs_format::path::RepoPath;
use parking_lot::{Mutex, RwLock};

use super::index::CatalogIndex;
use super::reader::NestedRow;
use crate::error::{Error, ErrorKind, Result};

/// So many catalogs stay, whatever they take: a walk between a few large ones must not decode them in turns.
const ALWAYS_KEPT: usize = 4;

/// Where catalogs come from.
///
/// Idempotent, may block for as long as a fetch may, called by many threads at once. An [`ErrorKind::Unreachable`]
/// failure is temporary: nothing is remembered, the next call tries again.
pub trait CatalogSource: Send + Sync + std::fmt::Debug {
    /// Returns the decoded catalog with that hash; `subject` names it in errors.
    fn load(&self, catalog: &NestedRow, subject: String) -> Result<Arc<CatalogIndex>>;

    /// Says that no tree has the catalog any more.
    fn release(&self, _hash: &ContentHash) {}
}

/// A catalog that a tree has, decoded or not.
#[derive(Debug)]
pub(super) struct Slot {
    nested: NestedRow,
    shelf: Arc<Shelf>,
    index: RwLock<Option<Arc<CatalogIndex>>>,
    used_at: AtomicU64,
}

/// All slots of a mount.
#[derive(Debug)]
pub(super) struct Shelf {
    source: Arc<dyn CatalogSource>,
    budget_bytes: AtomicU64,
    /// Counts decodings: the clock by which catalogs grow old.
    clock: AtomicU64,
    slots: Mutex<HashMap<ContentHash, Weak<Slot>>>,
    decoded: Mutex<Vec<Weak<Slot>>>,
}

impl Shelf {
    pub(super) fn new(source: Arc<dyn CatalogSource>, budget_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            source,
            budget_bytes: AtomicU64::new(budget_bytes),
            clock: AtomicU64::default(),
            slots: Mutex::default(),
            decoded: Mutex::default(),
        })
    }

    /// Returns the slot of a catalog, decoded and checked to belong at `root_prefix`.
    pub(super) fn load(
        self: &Arc<Self>,
        nested: &NestedRow,
        root_prefix: &RepoPath,
    ) -> Result<(Arc<Slot>, Arc<CatalogIndex>)> {
        let slot = self.slot(nested);
        let index = slot.index()?;
        check_place(&index, nested, root_prefix)?;
        Ok((slot, index))
    }

    /// Returns the slot of a root catalog, and the catalog, which its tree holds itself.
    pub(super) fn load_root(self: &Arc<Self>, nested: &NestedRow) -> Result<(Arc<Slot>, Arc<CatalogIndex>)> {
        let slot = self.slot(nested);
        let decoded = slot.index.read().clone();
        let index = match decoded {
            Some(index) => index,
            None => self.source.load(nested, subject(nested))?,
        };
        check_place(&index, nested, &RepoPath::root())?;
        Ok((slot, index))
    }

    fn slot(self: &Arc<Self>, nested: &NestedRow) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(&nested.hash).and_then(Weak::upgrade) {
            return slot;
        }
        let slot = Arc::new(Slot {
            nested: nested.clone(),
            shelf: Arc::clone(self),
            index: RwLock::default(),
            used_at: AtomicU64::default(),
        });
        slots.insert(nested.hash, Arc::downgrade(&slot));
        slot
    }

    /// Lets go of what was used longest ago until the rest fits the budget.
    fn make_room(&self, newest: &Arc<Slot>) {
        let mut decoded = self.decoded.lock();
        decoded.push(Arc::downgrade(newest));
        let mut held: Vec<(u64, u64, Arc<Slot>)> = Vec::with_capacity(decoded.len());
        for slot in decoded.iter().filter_map(Weak::upgrade) {
            let size = slot.index.read().as_ref().map(|index| index.memory_bytes());
            held.extend(size.map(|size| (slot.used_at.load(Ordering::Relaxed), size, slot)));
        }
        held.sort_unstable_by_key(|(used_at, _, slot)| (*used_at, Arc::as_ptr(slot) as usize));
        held.dedup_by(|a, b| Arc::ptr_eq(&a.2, &b.2));
        let mut total: u64 = held.iter().map(|(_, size, _)| size).sum();
        let budget = self.budget_bytes.load(Ordering::Relaxed);
        let optional = held.len().saturating_sub(ALWAYS_KEPT);
        let mut dropped = 0;
        while dropped < optional && total > budget {
            let (_, size, slot) = &held[dropped];
            total -= size;
            *slot.index.write() = None;
            dropped += 1;
        }
        *decoded = held[dropped..].iter().map(|(_, _, slot)| Arc::downgrade(slot)).collect();
        // The last reference to a slot, which may be one of these, takes another lock when it goes.
        drop(decoded);
    }

    /// Lets go of every decoded catalog that can be decoded again.
    pub(super) fn release_all(&self) {
        let slots: Vec<_> = self.decoded.lock().drain(..).filter_map(|slot| slot.upgrade()).collect();
        for slot in slots {
            *slot.index.write() = None;
        }
    }

    /// Returns how many catalogs are decoded.
    pub(super) fn decoded_count(&self) -> usize {
        let slots: Vec<_> = self.decoded.lock().iter().filter_map(Weak::upgrade).collect();
        slots.iter().filter(|slot| slot.index.read().is_some()).count()
    }
}

impl Slot {
    /// Returns the catalog, decoded now if need be.
    pub(super) fn index(self: &Arc<Self>) -> Result<Arc<CatalogIndex>> {
        let now = self.shelf.clock.load(Ordering::Relaxed);
        if self.used_at.load(Ordering::Relaxed) != now {
            self.used_at.store(now, Ordering::Relaxed);
        }
        if let Some(index) = &*self.index.read() {
            return Ok(Arc::clone(index));
        }
        let index = self.shelf.source.load(&self.nested, subject(&self.nested))?;
        let kept = Arc::clone(self.index.write().get_or_insert(index));
        self.used_at.store(self.shelf.clock.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.shelf.make_room(self);
        Ok(kept)
    }

    /// Says whether it answers without being decoded.
    pub(super) fn is_decoded(&self) -> bool {
        self.index.read().is_some()
    }

    pub(super) fn hash(&self) -> ContentHash {
        self.nested.hash
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.shelf.slots.lock();
        // Another slot for the same catalog may have been made since the last reference to this one went.
        if slots.get(&self.nested.hash).is_some_and(|slot| slot.strong_count() == 0) {
            slots.remove(&self.nested.hash);
            drop(slots);
            self.shelf.source.release(&self.nested.hash);
        }
    }
}

fn check_place(index: &CatalogIndex, nested: &NestedRow, root_prefix: &RepoPath) -> Result<()> {
    if index.root_prefix() == root_prefix {
        return Ok(());
    }
    let reason = format!("{}: it says that it belongs at {}", subject(nested), index.root_prefix());
    Err(Error::new(ErrorKind::Corrupt, "mount catalog", reason))
}

fn subject(nested: &NestedRow) -> String {
    format!("{} at {}", nested.hash, nested.path)
}
