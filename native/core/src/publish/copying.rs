//! Copies of whole subtrees of a revision: what a renamed directory, or a template, is made of.
//!
//! Owns how rows, chunks, hardlink groups and nested catalogs get new paths. Content is not touched: the copies name
//! the same objects. Reads from a tree of catalogs of its own, so that changes under way do not show in the copy.
//! Belongs to one thread.

use std::collections::HashMap;

use nearfs_format::dirent::{Entry, EntryFlags, Hardlinks};
use nearfs_format::path::RepoPath;

use super::tree::CatalogTree;
use crate::catalog::{Row, RowCounts};
use crate::error::{Error, ErrorKind, Result};

/// Flags that say where catalogs begin; a copy gets its own.
const BOUNDARIES: u32 = EntryFlags::NESTED_MOUNTPOINT | EntryFlags::NESTED_ROOT | EntryFlags::BIND_MOUNTPOINT;

impl CatalogTree<'_> {
    /// Opens the base revision once more, as it was before any change.
    pub(super) fn origin(&self) -> Result<Self> {
        match self.node(Self::ROOT)?.base {
            Some(root_hash) => Self::open(self.store(), root_hash),
            None => Err(Error::new(ErrorKind::Internal, "copy", "the new tree has no base revision")),
        }
    }

    /// Copies everything below the directory `from` of `origin` to below `to`, an empty directory of this tree that is
    /// no mountpoint; returns how much that is. `to` keeps its attributes and gets the link count and, if `from` is a
    /// mountpoint, a nested catalog. Nested catalogs are copied as such, hardlink groups stay groups. `arrive` is told
    /// every directory before it is filled, and may close catalogs of this tree that it is not in.
    ///
    /// # Errors
    ///
    /// `NotFound` if `from` is no directory of `origin`.
    pub(super) fn copy_subtree(
        &mut self,
        origin: &mut CatalogTree<'_>,
        from: &RepoPath,
        to: &RepoPath,
        arrive: &mut dyn FnMut(&mut Self, &RepoPath) -> Result<()>,
    ) -> Result<RowCounts> {
        if !origin.find(from)?.is_some_and(|row| row.entry.is_directory()) {
            return Err(Error::new(ErrorKind::NotFound, "copy", format!("{from}: there is no such directory")));
        }
        let mut copied = RowCounts::default();
        let mut pending = vec![(from.clone(), to.clone())];
        while let Some((from, to)) = pending.pop() {
            origin.arrive(&from);
            arrive(self, &to)?;
            if !from.is_root() && origin.is_mountpoint(&from)? {
                self.split(&to)?;
            }
            let mut groups = HashMap::new();
            for Row { name, entry } in origin.children(&from)? {
                if entry.flags.has(EntryFlags::BIND_MOUNTPOINT) || entry.flags.has(EntryFlags::HIDDEN) {
                    continue; // The virtual directory is the publisher's own.
                }
                let source = join(&from, &name)?;
                let target = join(&to, &name)?;
                self.copy_entry(origin, &source, &target, entry.clone(), &mut groups)?;
                copied += RowCounts::of(&entry);
                if entry.is_directory() {
                    pending.push((source, target));
                }
            }
        }
        self.recount_links(to)?;
        Ok(copied)
    }

    /// Makes `path` another name of `first`, in the same directory; the group has `linkcount` names in the end.
    pub(super) fn link(&mut self, path: &RepoPath, first: &RepoPath, linkcount: u32) -> Result<()> {
        let row = self.find(first)?.ok_or_else(|| {
            Error::new(ErrorKind::Internal, "link", format!("{path} to {first}: the first name was not published"))
        })?;
        let mut entry = row.entry;
        let chunks = self.chunks(first, &entry)?;
        if entry.hardlinks.group == 0 {
            entry.hardlinks = Hardlinks { group: self.new_group(first)?, linkcount };
            self.set_hardlinks(first, entry.hardlinks)?;
        }
        self.add(path, &entry, &chunks)
    }

    fn copy_entry(
        &mut self,
        origin: &mut CatalogTree<'_>,
        source: &RepoPath,
        target: &RepoPath,
        mut entry: Entry,
        groups: &mut HashMap<u32, u32>,
    ) -> Result<()> {
        let chunks = origin.chunks(source, &entry)?;
        entry.flags = entry.flags.with(BOUNDARIES, false);
        if entry.hardlinks.group != 0 {
            let group = match groups.get(&entry.hardlinks.group) {
                Some(group) => *group,
                None => self.new_group(target)?,
            };
            groups.insert(entry.hardlinks.group, group);
            entry.hardlinks = Hardlinks { group, ..entry.hardlinks };
        }
        self.add(target, &entry, &chunks)
    }
}

fn join(directory: &RepoPath, name: &[u8]) -> Result<RepoPath> {
    directory.join(name).map_err(|e| Error::format("copy", format!("catalog entry in {directory}"), e))
}
