//! The catalogs of a base revision while they are changed together.
//!
//! Owns which catalog answers for a path, and everything that two catalogs have to agree on: the pair of rows at a
//! mountpoint, nested rows, subtree counters. Opens a catalog when a change first needs it and never more than that.
//! Belongs to one thread; `finish` finishes independent catalogs in parallel. Source: format.md 4.9, 4.12, 10.1, 10.6.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use nearfs_format::chunk::Chunk;
use nearfs_format::codec;
use nearfs_format::counters::Counters;
use nearfs_format::dirent::{Entry, EntryFlags, FileType, Hardlinks};
use nearfs_format::hash::ContentHash;
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::pack_table::PACKS_DIRECTORY;
use nearfs_format::path::RepoPath;

use crate::catalog::{CatalogWriter, NestedRow, Row, RowCounts};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;
use crate::store::verify::read_verified;

/// Largest uncompressed catalog that is accepted: a hundred times the reference's limit of entries.
const CATALOG_LIMIT_BYTES: u64 = 4 << 30;

/// Catalogs that stay open although the walk has left them. Beyond it they are finished and closed.
pub(super) const OPEN_CATALOGS: usize = 32;

/// Index of an open catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(pub(super) usize);

/// One open catalog.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) writer: CatalogWriter,
    pub(super) mountpoint: RepoPath,
    pub(super) parent: Option<NodeId>,
    /// The nested catalogs that are registered here, by mountpoint.
    nested: HashMap<Vec<u8>, NestedRow>,
    /// Hash in the base revision, `None` for a new catalog.
    pub(super) base: Option<ContentHash>,
    /// What the parent's subtree counters include for this catalog so far.
    pub(super) accounted: Counters,
    /// Subtree counters as they will be written.
    pub(super) subtree: Counters,
    pub(super) is_dirty: bool,
    /// The highest hardlink group, once somebody asked: it takes a look at every row.
    highest_group: Option<u32>,
}

/// The tree of catalogs.
#[derive(Debug)]
pub(super) struct CatalogTree<'s> {
    store: &'s dyn Store,
    scratch: PathBuf,
    /// `None` for catalogs that were removed or merged.
    pub(super) nodes: Vec<Option<Node>>,
    open: HashMap<Vec<u8>, NodeId>,
    /// The directory located last: changes come directory by directory.
    last: Option<(RepoPath, NodeId)>,
    /// Mountpoints of catalogs that were removed or merged; not those that were below them.
    pub(super) removed: BTreeSet<RepoPath>,
}

impl<'s> CatalogTree<'s> {
    /// Opens the root catalog.
    pub(super) fn open(store: &'s dyn Store, root_hash: ContentHash) -> Result<Self> {
        let (nodes, open, removed) = (Vec::new(), HashMap::new(), BTreeSet::new());
        let mut tree = Self { store, scratch: store.scratch_dir(), nodes, open, last: None, removed };
        tree.load(&NestedRow { path: RepoPath::root(), hash: Some(root_hash), size_bytes: 0 }, None)?;
        Ok(tree)
    }

    /// Returns where the catalogs come from.
    pub(super) fn store(&self) -> &'s dyn Store {
        self.store
    }

    /// Returns the root catalog's id.
    pub(super) const ROOT: NodeId = NodeId(0);

    fn load(&mut self, row: &NestedRow, parent: Option<NodeId>) -> Result<NodeId> {
        let hash = row.hash.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "open", format!("catalog {}: its parent knows no hash", row.path))
        })?;
        let bytes = read_catalog(self.store, row, hash)?;
        let writer = CatalogWriter::open(&self.scratch, &row.path, &bytes)?;
        let stored_counters = writer.stored_counters();
        let nested = writer.nested()?.into_iter().map(|row| (row.path.as_bytes().to_vec(), row)).collect();
        Ok(self.push(Node {
            writer,
            mountpoint: row.path.clone(),
            parent,
            nested,
            base: Some(hash),
            accounted: stored_counters.total(),
            subtree: stored_counters.subtree,
            is_dirty: false,
            highest_group: None,
        }))
    }

    fn push(&mut self, node: Node) -> NodeId {
        // Closed catalogs leave room: a tree of any size passes through few places.
        let free = self.nodes.iter().position(Option::is_none);
        let id = NodeId(free.unwrap_or(self.nodes.len()));
        self.open.insert(node.mountpoint.as_bytes().to_vec(), id);
        match self.nodes.get_mut(id.0) {
            Some(slot) => *slot = Some(node),
            None => self.nodes.push(Some(node)),
        }
        id
    }

    pub(super) fn node(&self, id: NodeId) -> Result<&Node> {
        self.nodes.get(id.0).and_then(Option::as_ref).ok_or_else(|| removed_node(id))
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> Result<&mut Node> {
        self.nodes.get_mut(id.0).and_then(Option::as_mut).ok_or_else(|| removed_node(id))
    }

    fn dirty(&mut self, id: NodeId) -> Result<&mut Node> {
        let node = self.node_mut(id)?;
        node.is_dirty = true;
        Ok(node)
    }

    /// Returns the catalog that holds the entries of `directory`: for a mountpoint the nested one.
    pub(super) fn locate(&mut self, directory: &RepoPath) -> Result<NodeId> {
        if let Some((path, id)) = &self.last
            && path == directory
        {
            return Ok(*id);
        }
        let bytes = directory.as_bytes();
        let mut id = Self::ROOT;
        let ends = bytes.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends.chain((!bytes.is_empty()).then_some(bytes.len())) {
            let prefix = &bytes[..end];
            if self.node(id)?.nested.contains_key(prefix) {
                id = self.child(id, prefix)?;
            }
        }
        self.last = Some((directory.clone(), id));
        Ok(id)
    }

    /// Returns the open catalog that is registered at `mountpoint` in `parent`.
    fn child(&mut self, parent: NodeId, mountpoint: &[u8]) -> Result<NodeId> {
        if let Some(id) = self.open.get(mountpoint) {
            return Ok(*id);
        }
        match self.node(parent)?.nested.get(mountpoint).cloned() {
            Some(row) => self.load(&row, Some(parent)),
            None => Err(removed_node(parent)),
        }
    }

    /// Returns the catalog that has the row of `path` itself: for a mountpoint the parent of the nested one.
    fn holder(&mut self, path: &RepoPath) -> Result<NodeId> {
        match path.parent() {
            Some(parent) => self.locate(&parent),
            None => Ok(Self::ROOT),
        }
    }

    /// Says whether a nested catalog begins at `path`.
    pub(super) fn is_mountpoint(&mut self, path: &RepoPath) -> Result<bool> {
        let holder = self.holder(path)?;
        Ok(self.node(holder)?.nested.contains_key(path.as_bytes()))
    }

    /// Returns the entry at `path`.
    pub(super) fn find(&mut self, path: &RepoPath) -> Result<Option<Row>> {
        let holder = self.holder(path)?;
        self.node(holder)?.writer.find(path)
    }

    /// Returns the entries of a directory by name.
    pub(super) fn children(&mut self, directory: &RepoPath) -> Result<Vec<Row>> {
        let id = self.locate(directory)?;
        self.node(id)?.writer.children(directory)
    }

    /// Returns the chunks of the file at `path`, whose row is `entry`; none for a file that is stored whole.
    pub(super) fn chunks(&mut self, path: &RepoPath, entry: &Entry) -> Result<Vec<Chunk>> {
        if !entry.flags.has(EntryFlags::CHUNKED) {
            return Ok(Vec::new());
        }
        let holder = self.holder(path)?;
        self.node(holder)?.writer.chunks(path, entry.flags)
    }

    /// Returns a hardlink group that the catalog of `path` does not use yet.
    pub(super) fn new_group(&mut self, path: &RepoPath) -> Result<u32> {
        let holder = self.holder(path)?;
        let node = self.node_mut(holder)?;
        let highest = node.highest_group.map_or_else(|| node.writer.highest_group(), Ok)?;
        let group = highest.checked_add(1).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "publish", format!("{path}: its catalog has no free hardlink group"))
        })?;
        node.highest_group = Some(group);
        Ok(group)
    }

    /// Sets hardlink group and link count of an entry that is no directory.
    pub(super) fn set_hardlinks(&mut self, path: &RepoPath, links: Hardlinks) -> Result<()> {
        let holder = self.holder(path)?;
        self.dirty(holder)?.writer.set_hardlinks(path, links)
    }

    /// Sets the flags of an entry that is no mountpoint.
    pub(super) fn set_flags(&mut self, path: &RepoPath, flags: EntryFlags) -> Result<()> {
        let holder = self.holder(path)?;
        self.dirty(holder)?.writer.set_flags(path, flags)
    }

    /// Adds an entry whose parent directory exists.
    pub(super) fn add(&mut self, path: &RepoPath, entry: &Entry, chunks: &[Chunk]) -> Result<()> {
        let holder = self.holder(path)?;
        self.dirty(holder)?.writer.insert(path, entry, chunks)
    }

    /// Gives a directory new attributes, in both rows if it is a mountpoint.
    pub(super) fn touch(&mut self, path: &RepoPath, entry: &Entry) -> Result<()> {
        let holder = self.holder(path)?;
        self.dirty(holder)?.writer.touch(path, entry)?;
        if self.is_mountpoint(path)? {
            let nested = self.locate(path)?;
            self.dirty(nested)?.writer.touch(path, entry)?;
        }
        Ok(())
    }

    /// Counts the sub-directories of `path` again, in both rows if it is a mountpoint.
    pub(super) fn recount_links(&mut self, path: &RepoPath) -> Result<()> {
        let holder = self.holder(path)?;
        let Some(row) = self.node(holder)?.writer.find(path)? else { return Ok(()) };
        let inside = self.locate(path)?;
        let subdirectories = self.node(inside)?.writer.subdirectories(path)?;
        let links = Hardlinks { group: 0, linkcount: subdirectories.saturating_add(2) };
        if row.entry.hardlinks != links {
            self.dirty(holder)?.writer.set_hardlinks(path, links)?;
            if inside != holder {
                self.dirty(inside)?.writer.set_hardlinks(path, links)?;
            }
        }
        Ok(())
    }

    /// Removes an entry with everything below it, nested catalogs included.
    pub(super) fn remove(&mut self, path: &RepoPath) -> Result<RowCounts> {
        let holder = self.holder(path)?;
        let row = self.node(holder)?.writer.find(path)?.ok_or_else(|| {
            // The plan found it: the catalog contradicts itself, or the plan is one of another revision.
            Error::new(ErrorKind::Corrupt, "remove", format!("{path}: the base revision has no such entry"))
        })?;
        if row.entry.file_type() != Some(FileType::Directory) {
            self.leave_hardlink_group(holder, path, &row.entry)?;
            self.dirty(holder)?.writer.remove(path)?;
            return Ok(RowCounts::of(&row.entry));
        }
        let mut removed = RowCounts::of(&row.entry);
        for mountpoint in self.mountpoints_within(holder, path)? {
            let total = self.drop_nested(holder, &mountpoint)?;
            let files = total.regular + total.symlink + total.special;
            // Every mountpoint has a second row in its own catalog.
            let directories = total.dir - 1 - total.nested;
            removed += RowCounts {
                files: u64::try_from(files).unwrap_or(0),
                symlinks: u64::try_from(total.symlink).unwrap_or(0),
                bytes: u64::try_from(total.file_size).unwrap_or(0),
                directories: u64::try_from(directories).unwrap_or(0),
            };
        }
        self.last = None;
        let writer = &self.dirty(holder)?.writer;
        let below = writer.remove_below(path)?;
        writer.remove_binds(path)?;
        writer.remove(path)?;
        removed += below;
        Ok(removed)
    }

    /// The other members of a hardlink group lose one link; a group of one is none.
    fn leave_hardlink_group(&mut self, holder: NodeId, path: &RepoPath, entry: &Entry) -> Result<()> {
        let (group, Some(directory)) = (entry.hardlinks.group, path.parent()) else { return Ok(()) };
        if group == 0 {
            return Ok(());
        }
        let writer = &self.dirty(holder)?.writer;
        let others: Vec<RepoPath> = writer
            .hardlink_members(&directory, group)?
            .iter()
            .filter(|name| name.as_slice() != path.name())
            .map(|name| {
                directory.join(name).map_err(|e| Error::format("read", format!("catalog entry in {directory}"), e))
            })
            .collect::<Result<_>>()?;
        let links = match others.len() {
            1 => Hardlinks::SINGLE,
            count => Hardlinks { group, linkcount: count as u32 },
        };
        others.iter().try_for_each(|other| writer.set_hardlinks(other, links))
    }

    /// Returns the mountpoints at and below `path` that are registered in one catalog.
    fn mountpoints_within(&self, id: NodeId, path: &RepoPath) -> Result<Vec<RepoPath>> {
        let rows = self.node(id)?.nested.values();
        Ok(rows.filter(|row| row.path.starts_with(path)).map(|row| row.path.clone()).collect())
    }

    /// Takes a nested catalog out of its parent with everything below; returns what it counted.
    fn drop_nested(&mut self, parent: NodeId, mountpoint: &RepoPath) -> Result<Counters> {
        let child = self.child(parent, mountpoint.as_bytes())?;
        let accounted = self.node(child)?.accounted;
        self.removed.insert(mountpoint.clone());
        let node = self.dirty(parent)?;
        node.subtree -= accounted;
        node.nested.remove(mountpoint.as_bytes());
        node.writer.remove_nested(mountpoint)?;
        self.close_within(mountpoint);
        Ok(accounted)
    }

    /// Returns how many catalogs are open.
    pub(super) fn open_catalogs(&self) -> usize {
        self.open.len()
    }

    /// Returns the mountpoints that are registered in the catalog at `mountpoint`.
    pub(super) fn nested_of(&mut self, mountpoint: &RepoPath) -> Result<Vec<RepoPath>> {
        let id = self.locate(mountpoint)?;
        Ok(self.node(id)?.nested.values().map(|row| row.path.clone()).collect())
    }

    /// Returns the open catalogs, each before the one around it.
    pub(super) fn open_ids(&self) -> Vec<NodeId> {
        self.ids_of(|_| true)
    }

    /// Returns the open catalogs that `path` is not in, each before the one around it.
    pub(super) fn behind(&self, path: &RepoPath) -> Vec<NodeId> {
        self.ids_of(|mountpoint| !contains(mountpoint, path))
    }

    fn ids_of(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<NodeId> {
        let mut open: Vec<_> = self.open.iter().filter(|(mountpoint, _)| wanted(mountpoint)).collect();
        open.sort_unstable_by(|a, b| b.cmp(a));
        open.into_iter().map(|(_, id)| *id).collect()
    }

    /// Notes that the next questions are about `path`: drops catalogs that it is not in, unless few are open. Only for a
    /// tree that is never changed.
    pub(super) fn arrive(&mut self, path: &RepoPath) {
        while self.open.len() > OPEN_CATALOGS && !self.take_behind(path).is_empty() {}
    }

    /// Takes out the open catalogs that `path` is not in and that have no open catalog below them.
    pub(super) fn take_behind(&mut self, path: &RepoPath) -> Vec<(NodeId, Node)> {
        self.last = None;
        let parents: HashSet<NodeId> = self.open.values().filter_map(|id| self.node(*id).ok()?.parent).collect();
        // The catalog of all packs waits for the last pack, as the root does.
        let waits = |id: &NodeId, mountpoint: &[u8]| *id == Self::ROOT || mountpoint == PACKS_DIRECTORY;
        let is_behind = |id: &NodeId, mountpoint: &[u8]| {
            !waits(id, mountpoint) && !contains(mountpoint, path) && !parents.contains(id)
        };
        let behind: Vec<NodeId> =
            self.open.iter().filter(|(mountpoint, id)| is_behind(id, mountpoint)).map(|(_, id)| *id).collect();
        self.open.retain(|_, id| !behind.contains(id));
        behind.into_iter().filter_map(|id| self.nodes.get_mut(id.0)?.take().map(|node| (id, node))).collect()
    }

    /// Records a nested catalog that was stored, in its parent's rows and sums.
    pub(super) fn record_nested(
        &mut self,
        parent: NodeId,
        row: NestedRow,
        total: Counters,
        accounted: Counters,
    ) -> Result<()> {
        let node = self.dirty(parent)?;
        node.subtree += total - accounted;
        node.writer.set_nested(&row)?;
        node.nested.insert(row.path.as_bytes().to_vec(), row);
        Ok(())
    }

    fn close_within(&mut self, path: &RepoPath) {
        self.last = None;
        for slot in &mut self.nodes {
            if let Some(node) = slot.take_if(|node| node.mountpoint.starts_with(path)) {
                self.open.remove(node.mountpoint.as_bytes());
            }
        }
    }

    /// Makes a directory the mountpoint of a new nested catalog: what is below moves there.
    pub(super) fn split(&mut self, path: &RepoPath) -> Result<()> {
        let outer = self.holder(path)?;
        let row = self.node(outer)?.writer.find(path)?.filter(|row| row.entry.is_directory()).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "make a nested catalog of", format!("{path}: there is no such directory"))
        })?;
        let writer = CatalogWriter::create(&self.scratch, path)?;
        let mut root = row.entry.clone();
        root.flags = row.entry.flags.with(EntryFlags::NESTED_ROOT, true);
        writer.insert(path, &root, &[])?;
        let moving = self.mountpoints_within(outer, path)?;
        let outer_node = self.dirty(outer)?;
        writer.put_moved(outer_node.writer.take_below(path)?)?;
        outer_node.writer.set_flags(path, row.entry.flags.with(EntryFlags::NESTED_MOUNTPOINT, true))?;
        let registered = NestedRow { path: path.clone(), hash: None, size_bytes: 0 };
        outer_node.writer.set_nested(&registered)?;
        outer_node.nested.insert(path.as_bytes().to_vec(), registered);
        self.last = None;
        let inner = self.push(Node {
            writer,
            mountpoint: path.clone(),
            parent: Some(outer),
            nested: HashMap::new(),
            base: None,
            accounted: Counters::default(),
            subtree: Counters::default(),
            is_dirty: true,
            highest_group: None,
        });
        moving.iter().try_for_each(|mountpoint| self.move_nested(mountpoint, outer, inner))
    }

    /// Merges the nested catalog at `path` into its parent.
    pub(super) fn merge(&mut self, path: &RepoPath) -> Result<()> {
        let outer = self.holder(path)?;
        let inner = self.child(outer, path.as_bytes())?;
        for mountpoint in self.mountpoints_within(inner, path)? {
            self.move_nested(&mountpoint, inner, outer)?;
        }
        self.removed.insert(path.clone());
        let inner_node = self.dirty(inner)?;
        let (moved, accounted) = (inner_node.writer.take_below(path)?, inner_node.accounted);
        let outer_node = self.dirty(outer)?;
        outer_node.writer.put_moved(moved)?;
        outer_node.highest_group = None;
        let row = outer_node.writer.find(path)?;
        let flags = row.map_or(EntryFlags(EntryFlags::DIRECTORY), |row| row.entry.flags);
        outer_node.writer.set_flags(path, flags.with(EntryFlags::NESTED_MOUNTPOINT, false))?;
        outer_node.writer.remove_nested(path)?;
        outer_node.nested.remove(path.as_bytes());
        outer_node.subtree -= accounted;
        self.open.remove(path.as_bytes());
        if let Some(slot) = self.nodes.get_mut(inner.0) {
            *slot = None;
        }
        self.last = None;
        Ok(())
    }

    /// Registers a nested catalog with another parent; its counters move along.
    fn move_nested(&mut self, mountpoint: &RepoPath, from: NodeId, to: NodeId) -> Result<()> {
        let child = self.child(from, mountpoint.as_bytes())?;
        let child_node = self.node_mut(child)?;
        child_node.parent = Some(to);
        let accounted = child_node.accounted;
        let from_node = self.dirty(from)?;
        from_node.subtree -= accounted;
        from_node.writer.remove_nested(mountpoint)?;
        let row = from_node.nested.remove(mountpoint.as_bytes()).ok_or_else(|| removed_node(from))?;
        let to_node = self.dirty(to)?;
        to_node.subtree += accounted;
        to_node.writer.set_nested(&row)?;
        to_node.nested.insert(mountpoint.as_bytes().to_vec(), row);
        self.last = None;
        Ok(())
    }
}

/// Returns the uncompressed bytes of the catalog that a parent's row names by `hash`.
pub(super) fn read_catalog(store: &dyn Store, row: &NestedRow, hash: ContentHash) -> Result<Vec<u8>> {
    let id = ObjectId::new(hash, ObjectKind::Catalog);
    let stored = read_verified(store, &id, codec::stored_size_limit(CATALOG_LIMIT_BYTES))?;
    if row.size_bytes > CATALOG_LIMIT_BYTES {
        let subject = format!("{id} of {}: its parent says that it has {} bytes", row.path, row.size_bytes);
        return Err(Error::new(ErrorKind::Corrupt, "open", subject));
    }
    match row.size_bytes {
        0 => codec::inflate_bounded(&stored, CATALOG_LIMIT_BYTES),
        size_bytes => codec::inflate_exact(&stored, size_bytes),
    }
    .map_err(|e| Error::format("inflate", format!("{id} of {}", row.path), e))
}

/// Says whether `path` is the directory `mountpoint` or in it.
fn contains(mountpoint: &[u8], path: &RepoPath) -> bool {
    path.as_bytes().strip_prefix(mountpoint).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn removed_node(id: NodeId) -> Error {
    Error::new(ErrorKind::Internal, "use", format!("catalog number {}, which was removed", id.0))
}
