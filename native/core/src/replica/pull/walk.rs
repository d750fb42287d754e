//! From a root catalog to everything that it needs, bottom-up.
//!
//! Owns the order: **a catalog that is in the store has everything below it**, on disk. Catalogs wait in scratch files
//! until all objects asked for before are stored; then the storage is flushed, and only then they get their names, each
//! after those that it nests. A kill at any moment leaves objects that the next pull finds. Belongs to one thread.

use std::io::Read as _;

use nearfs_format::hash::ContentHash;
use nearfs_format::object::{ObjectId, ObjectKind};
use tempfile::TempPath;

use super::super::load::{self, Opened};
use super::super::paths::PathRules;
use super::super::spill::SpilledSet;
use super::fetching::Fetcher;
use super::present::Present;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::store::Store;

/// Hashes in memory before the set of what was seen goes to disk: some 20 MB.
const IN_MEMORY_MAX: usize = 300_000;
/// Catalogs on their way at a time.
const CATALOGS_IN_FLIGHT: usize = 32;
/// So many catalogs share one flush of the storage.
const GROUP: usize = 512;
/// Largest stored catalog: what is inflated is bounded separately.
const STORED_CATALOG_LIMIT_BYTES: u64 = 4 << 30;

/// A catalog as it is stored, in a scratch file; `None` where the store has it.
pub(super) type Scratch = Option<TempPath>;

/// A catalog between its arrival and its name in the store.
struct Node {
    hash: ContentHash,
    parent: Option<usize>,
    scratch: Scratch,
    /// Nested catalogs that are not complete.
    waiting: usize,
}

/// What was found while walking.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Walked {
    pub(super) catalogs_new: u64,
    pub(super) objects_seen: u64,
}

/// Walks trees, one after the other.
pub(super) struct Walker<'p> {
    pub(super) store: &'p dyn Store,
    pub(super) fetcher: Fetcher,
    pub(super) progress: &'p Progress,
    /// What is in the store already, believed or not.
    pub(super) present: Present<'p>,
    /// Below a catalog that is there, something may be missing.
    pub(super) rewalks: bool,
    pub(super) paths: &'p PathRules,
    /// Objects that are in the store or were asked for.
    pub(super) seen: SpilledSet,
    pub(super) walked: Walked,
}

/// One tree under way.
#[derive(Default)]
struct Tree {
    nodes: Vec<Option<Node>>,
    /// Places in `nodes` that are free.
    free: Vec<usize>,
    /// Catalogs to be fetched, the next one last: depth first keeps few of them open.
    to_fetch: Vec<usize>,
    in_flight: usize,
    /// Complete but for objects under way, nested ones first.
    ready: Vec<(ContentHash, Scratch)>,
}

impl Tree {
    fn add(&mut self, hash: ContentHash, parent: Option<usize>) -> usize {
        let node = Some(Node { hash, parent, scratch: None, waiting: 0 });
        if let Some(place) = self.free.pop() {
            self.nodes[place] = node;
            return place;
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn node(&mut self, place: usize) -> Result<&mut Node> {
        let gone = || Error::new(ErrorKind::Internal, "replicate", "a catalog came twice");
        self.nodes.get_mut(place).and_then(Option::as_mut).ok_or_else(gone)
    }

    /// Moves a catalog whose nested ones are complete to the ready ones, and then the one around it.
    fn complete(&mut self, place: usize) -> Result<()> {
        let mut next = Some(place);
        while let Some(place) = next {
            if self.node(place)?.waiting > 0 {
                return Ok(());
            }
            let Some(node) = self.nodes.get_mut(place).and_then(Option::take) else { return Ok(()) };
            self.free.push(place);
            self.ready.push((node.hash, node.scratch));
            next = node.parent;
            if let Some(parent) = next {
                self.node(parent)?.waiting -= 1;
            }
        }
        Ok(())
    }
}

/// Returns the set of a walker that has seen nothing.
pub(super) fn nothing_seen(store: &dyn Store) -> SpilledSet {
    SpilledSet::new(&store.scratch_dir(), IN_MEMORY_MAX)
}

impl Walker<'_> {
    /// Forgets a tree that failed: what it asked for may never have come.
    pub(super) fn start_over(&mut self) {
        self.fetcher = self.fetcher.anew();
        self.seen = nothing_seen(self.store);
    }

    /// Says whether the store has a catalog, and so all that is below it.
    pub(super) fn has_tree(&self, root: ContentHash) -> Result<bool> {
        Ok(!self.present.verifies && !self.rewalks && self.has_named(root)?)
    }

    /// Says whether the store has a catalog of that name.
    pub(super) fn has_named(&self, hash: ContentHash) -> Result<bool> {
        Ok(self.store.size(&ObjectId::new(hash, ObjectKind::Catalog))?.is_some())
    }

    /// Brings everything that a root catalog needs into the store, then the catalog. `scratch` may have it already.
    pub(super) fn tree(&mut self, root: ContentHash, scratch: Scratch) -> Result<()> {
        if self.has_tree(root)? {
            return Ok(());
        }
        let mut tree = Tree::default();
        let place = tree.add(root, None);
        match scratch {
            Some(scratch) => self.enter(&mut tree, place, Some(scratch))?,
            None => tree.to_fetch.push(place),
        }
        loop {
            while tree.in_flight < CATALOGS_IN_FLIGHT
                && let Some(place) = tree.to_fetch.pop()
            {
                let hash = tree.node(place)?.hash;
                if self.has_sound(hash)? {
                    self.enter(&mut tree, place, None)?;
                } else {
                    tree.in_flight += 1;
                    self.fetcher.catalog(place, hash);
                }
            }
            if tree.in_flight == 0 {
                if tree.to_fetch.is_empty() {
                    break;
                }
                continue;
            }
            let arrived = self.fetcher.arrived()?;
            tree.in_flight -= 1;
            self.enter(&mut tree, arrived.node, Some(arrived.file?.into_temp_path()))?;
            if tree.ready.len() >= GROUP {
                self.commit(&mut tree.ready)?;
            }
        }
        self.commit(&mut tree.ready)
    }

    /// Says whether the store's own copy of a catalog can be walked; where names are not believed, it is read first.
    fn has_sound(&self, hash: ContentHash) -> Result<bool> {
        let is_walked = self.present.verifies || self.rewalks;
        Ok(is_walked && self.present.has(&ObjectId::new(hash, ObjectKind::Catalog))?)
    }

    /// Asks for what a catalog needs.
    fn enter(&mut self, tree: &mut Tree, place: usize, scratch: Scratch) -> Result<()> {
        let hash = tree.node(place)?.hash;
        let catalog = self.open(hash, scratch.as_ref())?;
        let (present, fetcher) = (self.present, &self.fetcher);
        let (seen, walked) = (&mut self.seen, &mut self.walked);
        catalog.reader.references(|id| {
            let kind = u8::from(id.kind == ObjectKind::Chunk);
            if seen.contains(&id.hash, kind)? {
                return Ok(());
            }
            walked.objects_seen += 1;
            seen.insert(&id.hash, kind)?;
            if present.has(&id)? { Ok(()) } else { fetcher.object(id) }
        })?;
        let mut waiting = 0;
        for nested in catalog.reader.nested()? {
            if self.paths.wants(&nested.path) && !self.has_tree(nested.hash)? {
                let child = tree.add(nested.hash, Some(place));
                tree.to_fetch.push(child);
                waiting += 1;
            }
        }
        let node = tree.node(place)?;
        (node.scratch, node.waiting) = (scratch, waiting);
        tree.complete(place)
    }

    /// Opens a catalog from its scratch file, or from the store.
    pub(super) fn open(&self, hash: ContentHash, scratch: Option<&TempPath>) -> Result<Opened> {
        let Some(path) = scratch else {
            let missing = || Error::new(ErrorKind::NotFound, "open", format!("catalog {hash}"));
            return load::open(self.store, hash, self.progress)?.ok_or_else(missing);
        };
        let file = std::fs::File::open(path).map_err(|e| Error::io("read", path.display().to_string(), e))?;
        load::inflate(file, hash, &self.store.scratch_dir(), self.progress)
    }

    /// Gives catalogs their names, once everything that they need is on disk.
    fn commit(&mut self, ready: &mut Vec<(ContentHash, Scratch)>) -> Result<()> {
        self.fetcher.drain()?;
        let fresh: Vec<_> = ready.drain(..).filter_map(|(hash, scratch)| Some((hash, scratch?))).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.store.sync()?;
        for (hash, scratch) in fresh {
            let failed = |e| Error::io("read", scratch.display().to_string(), e);
            let file = std::fs::File::open(&scratch).map_err(failed)?;
            let mut stored = Vec::new();
            file.take(STORED_CATALOG_LIMIT_BYTES).read_to_end(&mut stored).map_err(failed)?;
            let id = ObjectId::new(hash, ObjectKind::Catalog);
            // Root catalogs come unasked: the store's own copy may be damaged, and would be kept.
            self.present.clear(&id)?;
            self.store.put(&id, &stored)?;
            self.walked.catalogs_new += 1;
        }
        Ok(())
    }
}
