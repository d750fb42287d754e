//! From changed catalogs to catalog objects, bottom-up.
//!
//! Owns the order: a catalog is finished when all changed catalogs below it are, because it records their hashes and
//! sums; catalogs that do not depend on each other are deflated in parallel. Source: format.md 10.1.

use std::sync::atomic::{AtomicUsize, Ordering};

use nearfs_format::codec;
use nearfs_format::counters::Counters;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::RepoPath;
use parking_lot::Mutex;

use super::pipeline::Tally;
use super::tree::{CatalogTree, Node, NodeId};
use crate::catalog::{NestedRow, Previous, Seal};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// What a commit writes into every catalog, or into the root alone.
#[derive(Debug, Clone)]
pub(super) struct CommitValues {
    pub(super) hash_algorithm: HashAlgorithm,
    pub(super) now: i64,
    /// Revision of the root catalog.
    pub(super) revision: u64,
    pub(super) ttl_s: u64,
    pub(super) is_volatile: bool,
    /// A new membership requirement of the root catalog.
    pub(super) membership: Option<String>,
    pub(super) workers: usize,
}

/// A stored catalog.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredCatalog {
    pub(super) hash: ContentHash,
    pub(super) size_bytes: u64,
    pub(super) total: Counters,
}

/// The root of a finished tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct FinishedTree {
    pub(super) root: StoredCatalog,
    pub(super) catalogs: u64,
}

/// Stores every changed catalog and its ancestors; the root always.
pub(super) fn finish(
    mut tree: CatalogTree<'_>,
    store: &dyn Store,
    values: &CommitValues,
    tally: &Tally,
) -> Result<FinishedTree> {
    let mut waiting = spread_dirt(&mut tree)?;
    let mut catalogs = 0;
    loop {
        let ready: Vec<(NodeId, Node)> = take_ready(&mut tree, &waiting);
        if ready.is_empty() {
            return Err(Error::new(ErrorKind::Internal, "finish", "catalogs: the root waits for ever"));
        }
        catalogs += ready.len() as u64;
        for (place, stored) in store_parallel(ready, store, values, tally)? {
            let Some(parent) = place.parent else {
                return Ok(FinishedTree { root: stored, catalogs });
            };
            record(&mut tree, parent, place, stored)?;
            if let Some(count) = waiting.get_mut(parent.0) {
                *count -= 1;
            }
        }
    }
}

/// Stores the changed catalogs that `path` is not in and closes them, so that few are open whatever the size of a tree.
/// A later change may open one again: then it is stored twice. Returns how many were stored.
pub(super) fn finish_behind(
    tree: &mut CatalogTree<'_>,
    path: &RepoPath,
    store: &dyn Store,
    values: &CommitValues,
    tally: &Tally,
) -> Result<u64> {
    let mut catalogs = 0;
    loop {
        let behind = tree.take_behind(path);
        if behind.is_empty() {
            return Ok(catalogs);
        }
        let changed: Vec<_> = behind.into_iter().filter(|(_, node)| node.is_dirty).collect();
        catalogs += changed.len() as u64;
        for (place, stored) in store_parallel(changed, store, values, tally)? {
            if let Some(parent) = place.parent {
                record(tree, parent, place, stored)?;
            }
        }
    }
}

/// Where a catalog belongs.
struct Place {
    parent: Option<NodeId>,
    mountpoint: RepoPath,
    accounted: Counters,
}

fn record(tree: &mut CatalogTree<'_>, parent: NodeId, place: Place, stored: StoredCatalog) -> Result<()> {
    let row = NestedRow { path: place.mountpoint, hash: Some(stored.hash), size_bytes: stored.size_bytes };
    tree.record_nested(parent, row, stored.total, place.accounted)
}

/// Marks the ancestors of changed catalogs as changed; returns for every catalog how many changed ones lie directly
/// below it.
fn spread_dirt(tree: &mut CatalogTree<'_>) -> Result<Vec<usize>> {
    tree.node_mut(CatalogTree::ROOT)?.is_dirty = true;
    let dirty: Vec<NodeId> =
        (0..tree.nodes.len()).map(NodeId).filter(|id| tree.node(*id).is_ok_and(|node| node.is_dirty)).collect();
    for id in dirty {
        let mut parent = tree.node(id)?.parent;
        while let Some(id) = parent {
            let node = tree.node_mut(id)?;
            node.is_dirty = true;
            parent = node.parent;
        }
    }
    let mut waiting = vec![0; tree.nodes.len()];
    for node in tree.nodes.iter().flatten().filter(|node| node.is_dirty) {
        if let Some(count) = node.parent.and_then(|parent| waiting.get_mut(parent.0)) {
            *count += 1;
        }
    }
    Ok(waiting)
}

fn take_ready(tree: &mut CatalogTree<'_>, waiting: &[usize]) -> Vec<(NodeId, Node)> {
    let slots = tree.nodes.iter_mut().zip(waiting).enumerate();
    slots
        .filter(|(_, (_, waiting))| **waiting == 0)
        .filter_map(|(index, (slot, _))| slot.take_if(|node| node.is_dirty).map(|node| (NodeId(index), node)))
        .collect()
}

/// Finishes and stores catalogs that do not depend on each other; the results come in the same order.
fn store_parallel(
    ready: Vec<(NodeId, Node)>,
    store: &dyn Store,
    values: &CommitValues,
    tally: &Tally,
) -> Result<Vec<(Place, StoredCatalog)>> {
    let place =
        |node: &Node| Place { parent: node.parent, mountpoint: node.mountpoint.clone(), accounted: node.accounted };
    let places: Vec<_> = ready.iter().map(|(_, node)| place(node)).collect();
    let jobs: Vec<Mutex<Option<Node>>> = ready.into_iter().map(|(_, node)| Mutex::new(Some(node))).collect();
    let results: Vec<Mutex<Option<Result<StoredCatalog>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((job, result)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(index).zip(results.get(index))
        } {
            if let Some(node) = job.lock().take() {
                *result.lock() = Some(store_one(node, store, values, tally));
            }
        }
    };
    if jobs.len() <= 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..values.workers.min(jobs.len()) {
                scope.spawn(work);
            }
        });
    }
    let died = || Err(Error::new(ErrorKind::Internal, "finish", "catalogs: a worker thread died"));
    let stored = results.into_iter().map(|result| result.into_inner().unwrap_or_else(died));
    places.into_iter().zip(stored).map(|(place, stored)| Ok((place, stored?))).collect()
}

fn store_one(node: Node, store: &dyn Store, values: &CommitValues, tally: &Tally) -> Result<StoredCatalog> {
    let is_root = node.parent.is_none();
    let revision = if is_root { values.revision } else { node.writer.revision()?.saturating_add(1) };
    let seal = Seal {
        previous: node.base.map_or(Previous::Null, Previous::Catalog),
        revision,
        last_modified: values.now,
        ttl_s: is_root.then_some(values.ttl_s),
        is_volatile: is_root && values.is_volatile,
    };
    if let Some(requirement) = values.membership.as_ref().filter(|_| is_root) {
        node.writer.set_membership(requirement)?;
    }
    let finished = node.writer.finish(&seal, node.subtree)?;
    let (hash, size_bytes) = store_catalog(store, values.hash_algorithm, &finished.bytes, tally)?;
    Ok(StoredCatalog { hash, size_bytes, total: finished.counters.total() })
}

/// Deflates and stores the bytes of a catalog; returns its hash and uncompressed size.
pub(super) fn store_catalog(
    store: &dyn Store,
    algorithm: HashAlgorithm,
    bytes: &[u8],
    tally: &Tally,
) -> Result<(ContentHash, u64)> {
    let stored = codec::deflate(bytes);
    let hash = algorithm.hash(&stored);
    let outcome = store.put(&ObjectId::new(hash, ObjectKind::Catalog), &stored)?;
    tally.count_catalog(outcome, stored.len() as u64);
    Ok((hash, bytes.len() as u64))
}
