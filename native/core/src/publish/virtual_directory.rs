//! `/.cvmfs/snapshots`: a directory for every tag, through which clients see old revisions.
//!
//! Owns the rows of the virtual catalog. Works as a commit of its own after tagging: it needs the tags, and the tag of
//! this very publish among them. Only what changed is written. Source: format.md 8.6.

use std::collections::BTreeMap;

use nearfs_format::codec;
use nearfs_format::dirent::{Entry, EntryFlags, FileType, Hardlinks};
use nearfs_format::hash::ContentHash;
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::RepoPath;
use nearfs_format::xattr::XattrList;

use super::commit::{next_revision, values};
use super::finish::finish;
use super::names::VIRTUAL_DIRECTORY;
use super::pipeline::Tally;
use super::plan::CATALOG_MARKER;
use super::tree::CatalogTree;
use super::types::{BaseRevision, ChangeCounts, Committed, PublishSettings};
use crate::catalog::NestedRow;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

const SNAPSHOTS: &[u8] = b"snapshots";
/// Size that the reference gives the directories.
const DIRECTORY_BYTES: u64 = 97;
const DIRECTORY_PERMISSIONS: u32 = 0o555;
const MARKER_PERMISSIONS: u32 = 0o444;

/// A revision that is to be seen below the virtual directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Name of its directory: the tag.
    pub name: String,
    /// Root catalog.
    pub root_hash: ContentHash,
    /// Uncompressed size of the root catalog in bytes, 0 for unknown.
    pub root_size_bytes: u64,
}

/// Makes the virtual directory show just `snapshots`, or removes it for `None`; returns `None` if it does so already.
/// Names that cannot be one of a directory (tags may contain slashes) are left out.
///
/// # Errors
///
/// `NotFound` and `Corrupt` for catalogs that are missing or damaged, those of the snapshots included.
pub fn update_virtual_directory(
    store: &dyn Store,
    base: &BaseRevision,
    snapshots: Option<&[Snapshot]>,
    settings: &PublishSettings,
) -> Result<Option<Committed>> {
    let mut tree = CatalogTree::open(store, base.root_hash)?;
    let tally = Tally::default();
    let path = named(&RepoPath::root(), VIRTUAL_DIRECTORY.strip_prefix(b"/").unwrap_or_default())?;
    let mut virtual_tree = VirtualTree { tree: &mut tree, settings, store, tally: &tally, path };
    let has_changed = match snapshots {
        Some(snapshots) => virtual_tree.show(snapshots)?,
        None => virtual_tree.remove()?,
    };
    if !has_changed {
        return Ok(None);
    }
    let revision = next_revision(&tree, settings)?;
    let done = finish(tree, store, &values(settings, revision), &tally)?;
    store.sync()?;
    Ok(Some(Committed {
        root_hash: done.root.hash,
        root_size_bytes: done.root.size_bytes,
        revision,
        ttl_s: settings.ttl_s,
        stored: tally.counts(),
        catalogs_new: done.catalogs,
        changes: ChangeCounts::default(),
        warnings: Vec::new(),
    }))
}

struct VirtualTree<'t, 's> {
    tree: &'t mut CatalogTree<'s>,
    settings: &'t PublishSettings,
    store: &'t dyn Store,
    tally: &'t Tally,
    path: RepoPath,
}

impl VirtualTree<'_, '_> {
    fn remove(&mut self) -> Result<bool> {
        if self.tree.find(&self.path)?.is_none() {
            return Ok(false);
        }
        self.tree.remove(&self.path)?;
        self.tree.recount_links(&RepoPath::root())?;
        Ok(true)
    }

    fn show(&mut self, snapshots: &[Snapshot]) -> Result<bool> {
        let mut has_changed = self.create()?;
        let directory = named(&self.path, SNAPSHOTS)?;
        let id = self.tree.locate(&self.path)?;
        let binds = self.tree.node(id)?.writer.binds()?.into_iter();
        let mut present: BTreeMap<RepoPath, NestedRow> = binds.map(|row| (row.path.clone(), row)).collect();
        for Snapshot { name, root_hash, root_size_bytes } in snapshots {
            let Ok(path) = directory.join(name.as_bytes()) else { continue };
            if let Some(row) = present.remove(&path) {
                if row.hash == Some(*root_hash) {
                    continue;
                }
                self.tree.remove(&path)?;
            }
            self.bind(&path, *root_hash, *root_size_bytes)?;
            has_changed = true;
        }
        for path in present.keys() {
            self.tree.remove(path)?;
            has_changed = true;
        }
        if has_changed {
            self.tree.recount_links(&directory)?;
            self.tree.recount_links(&self.path)?;
            self.tree.recount_links(&RepoPath::root())?;
        }
        Ok(has_changed)
    }

    /// Makes the catalog of the virtual directory, where there is none.
    fn create(&mut self) -> Result<bool> {
        if self.tree.find(&self.path)?.is_some() {
            if !self.tree.is_mountpoint(&self.path)? {
                let subject = format!("{}: the base revision has an ordinary entry of this name", self.path);
                return Err(Error::new(ErrorKind::Corrupt, "update virtual directory", subject));
            }
            return Ok(false);
        }
        let mut top = self.directory();
        top.flags = top.flags.with(EntryFlags::HIDDEN, true);
        self.tree.add(&self.path, &top, &[])?;
        self.tree.split(&self.path)?;
        let marker = named(&self.path, CATALOG_MARKER)?;
        let mut entry = empty_file(self.store, self.settings, self.tally)?;
        entry.mode |= MARKER_PERMISSIONS;
        self.tree.add(&marker, &entry, &[])?;
        let directory = self.directory();
        self.tree.add(&named(&self.path, SNAPSHOTS)?, &directory, &[])?;
        Ok(true)
    }

    fn directory(&self) -> Entry {
        Entry {
            mode: FileType::Directory.mode_bits() | DIRECTORY_PERMISSIONS,
            size: DIRECTORY_BYTES,
            mtime: self.settings.now,
            mtime_ns: None,
            uid: 0,
            gid: 0,
            hardlinks: Hardlinks { group: 0, linkcount: 2 },
            flags: EntryFlags(EntryFlags::DIRECTORY),
            hash: None,
            symlink: Vec::new(),
            xattrs: XattrList::default(),
        }
    }

    fn bind(&mut self, path: &RepoPath, root_hash: ContentHash, size_bytes: u64) -> Result<()> {
        // The row shows what the root of that revision shows.
        let mut other = CatalogTree::open(self.store, root_hash)?;
        let mut entry =
            other.find(&RepoPath::root())?.map(|row| row.entry).filter(Entry::is_directory).ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "read", format!("catalog {root_hash}: it has no root"))
            })?;
        entry.flags = EntryFlags(EntryFlags::DIRECTORY | EntryFlags::BIND_MOUNTPOINT);
        self.tree.add(path, &entry, &[])?;
        let holder = self.tree.locate(&self.path)?;
        let row = NestedRow { path: path.clone(), hash: Some(root_hash), size_bytes };
        self.tree.node(holder)?.writer.add_bind(&row)
    }
}

/// Stores the content of the empty file; returns a row for it, without permissions.
pub(super) fn empty_file(store: &dyn Store, settings: &PublishSettings, tally: &Tally) -> Result<Entry> {
    // Always the deflated form, whatever the settings say.
    let stored = codec::deflate(b"");
    let hash = settings.hash_algorithm.hash(&stored);
    let outcome = store.put(&ObjectId::new(hash, ObjectKind::File), &stored)?;
    tally.count(outcome, stored.len() as u64);
    Ok(Entry {
        mode: FileType::Regular.mode_bits(),
        size: 0,
        mtime: settings.now,
        mtime_ns: None,
        uid: 0,
        gid: 0,
        hardlinks: Hardlinks::SINGLE,
        flags: EntryFlags(EntryFlags::FILE).with_hash_algorithm(settings.hash_algorithm),
        hash: Some(hash),
        symlink: Vec::new(),
        xattrs: XattrList::default(),
    })
}

/// Returns a path below `directory`.
pub(super) fn named(directory: &RepoPath, name: &[u8]) -> Result<RepoPath> {
    directory.join(name).map_err(|e| Error::format("publish", directory.to_string(), e))
}
