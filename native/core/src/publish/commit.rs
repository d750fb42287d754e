//! From changes and stored contents to a new revision.
//!
//! Owns how each change becomes rows, and when nested catalogs begin and end. Nothing that readers see changes here.
//! Source: format.md 4.5, 4.6, 10.1, 10.3, 10.6, 10.8.

use nearfs_format::dirent::{Entry, EntryFlags, FileType, Hardlinks};
use nearfs_format::path::RepoPath;

use super::behind::Behind;
use super::bundles;
use super::finish::{CommitValues, FinishedTree};
use super::pipeline::{Content, Tally};
use super::plan::{Action, CATALOG_MARKER, Found, GivenContent, marked_directory};
use super::tree::CatalogTree;
use super::types::{ChangeCounts, PublishSettings, Warning};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// A revision in the store.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) tree: FinishedTree,
    pub(super) revision: u64,
    pub(super) changes: ChangeCounts,
    /// What is too large.
    pub(super) warnings: Vec<Warning>,
}

/// Returns what a commit writes into catalogs.
pub(super) fn values(settings: &PublishSettings, revision: u64) -> CommitValues {
    CommitValues {
        hash_algorithm: settings.hash_algorithm,
        now: settings.now,
        revision,
        ttl_s: settings.ttl_s,
        is_volatile: settings.volatile,
        membership: settings.membership.clone(),
        workers: settings.worker_count(),
    }
}

/// Returns the revision after the base, or the one that was asked for.
pub(super) fn next_revision(tree: &CatalogTree<'_>, settings: &PublishSettings) -> Result<u64> {
    let current = tree.node(CatalogTree::ROOT)?.writer.revision()?;
    match settings.manual_revision {
        Some(manual) if manual <= current => {
            let subject = format!("revision {manual}: the current revision {current} is not behind it");
            Err(Error::new(ErrorKind::InvalidInput, "publish", subject))
        }
        Some(manual) => Ok(manual),
        None => current.checked_add(1).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "publish", format!("after revision {current}: there is no larger number"))
        }),
    }
}

/// A directory between its own change and the last change in it.
struct OpenDirectory {
    path: RepoPath,
    /// Its attributes changed: a marker and its catalog find together again.
    is_touched: bool,
    /// The number of sub-directories may have changed.
    recount: bool,
    /// Files in it changed: triggers of bundles may have come or gone.
    has_other_files: bool,
}

/// A base revision while changes are applied to it one by one.
pub(super) struct Commit<'s> {
    tree: CatalogTree<'s>,
    settings: &'s PublishSettings,
    behind: Behind<'s>,
    /// Directories that the present change is in, outermost first.
    open: Vec<OpenDirectory>,
    /// The base revision, opened once more when the first copy is made.
    origin: Option<CatalogTree<'s>>,
    changes: ChangeCounts,
    warnings: Vec<Warning>,
}

impl<'s> Commit<'s> {
    /// Begins a revision on the base that `tree` has.
    pub(super) fn new(
        tree: CatalogTree<'s>,
        store: &'s dyn Store,
        settings: &'s PublishSettings,
        tally: &'s Tally,
    ) -> Result<Self> {
        let behind = Behind::new(store, settings, values(settings, next_revision(&tree, settings)?), tally);
        let (changes, warnings) = (ChangeCounts::default(), Vec::new());
        Ok(Self { tree, settings, behind, open: Vec::new(), origin: None, changes, warnings })
    }

    /// Applies one change. Changes may come in any order that has a directory before what is in it; in the order of
    /// names, few catalogs are open at a time.
    pub(super) fn apply(&mut self, path: &RepoPath, action: &Action, content: Option<Content>) -> Result<()> {
        self.leave_until(path)?;
        self.behind.arrive(&mut self.tree, path)?;
        self.note_files(path, action);
        match action {
            Action::Add(found) => self.add(path, found, content),
            Action::Replace(found) => {
                let replaced = self.tree.remove(path)?;
                self.insert(path, found, content)?;
                self.changes.files_changed += 1;
                self.changes.symlinks_changed += u64::from(found.file_type == FileType::Symlink);
                self.changes.bytes_removed += replaced.bytes;
                Ok(())
            }
            Action::Touch(found) => self.touch(path, found),
            Action::Remove => self.remove(path),
            Action::Copy { from, found } => self.copy(path, from, found),
            Action::Link { first, linkcount, replaces } => self.link(path, first, *linkcount, *replaces),
        }
    }

    /// Stores all catalogs that changed.
    pub(super) fn finish(mut self) -> Result<Done> {
        while let Some(directory) = self.open.pop() {
            self.leave(&directory)?;
        }
        let revision = self.behind.revision();
        let content_bytes = self.content_bytes()?;
        let (tree, mut warnings) = self.behind.finish(self.tree, content_bytes)?;
        self.warnings.sort_by(|a, b| a.path().cmp(b.path()));
        self.warnings.dedup();
        warnings.append(&mut self.warnings);
        Ok(Done { tree, revision, changes: self.changes, warnings })
    }

    /// Returns the size of all regular files, in bytes.
    fn content_bytes(&self) -> Result<u64> {
        // What the root accounted for is its base revision's, until it is stored.
        let before = u64::try_from(self.tree.node(CatalogTree::ROOT)?.accounted.file_size).unwrap_or(0);
        Ok(before.saturating_add(self.changes.bytes_added).saturating_sub(self.changes.bytes_removed))
    }

    /// Leaves the directories that `path` is not in.
    fn leave_until(&mut self, path: &RepoPath) -> Result<()> {
        while self.open.last().is_some_and(|directory| !path.starts_with(&directory.path)) {
            if let Some(directory) = self.open.pop() {
                self.leave(&directory)?;
            }
        }
        Ok(())
    }

    fn leave(&mut self, directory: &OpenDirectory) -> Result<()> {
        if directory.recount {
            self.tree.recount_links(&directory.path)?;
        }
        if directory.has_other_files {
            bundles::settle(&mut self.tree, &directory.path, &mut self.warnings)?;
        }
        if directory.is_touched { self.reconcile(&directory.path) } else { Ok(()) }
    }

    /// Returns the note on a directory that is the present change's path or above it.
    fn note(&mut self, path: &RepoPath) -> Option<&mut OpenDirectory> {
        if self.open.last().is_none_or(|directory| directory.path != *path) {
            self.open.push(OpenDirectory {
                path: path.clone(),
                is_touched: false,
                recount: false,
                has_other_files: false,
            });
        }
        self.open.last_mut()
    }

    fn note_recount(&mut self, path: &RepoPath) {
        if let Some(parent) = path.parent()
            && let Some(directory) = self.note(&parent)
        {
            directory.recount = true;
        }
    }

    fn note_files(&mut self, path: &RepoPath, action: &Action) {
        let has_other_files = match action {
            Action::Add(found) | Action::Replace(found) => found.file_type != FileType::Directory,
            Action::Remove | Action::Link { .. } => true,
            Action::Touch(_) | Action::Copy { .. } => false,
        };
        if has_other_files
            && let Some(parent) = path.parent()
            && let Some(directory) = self.note(&parent)
        {
            directory.has_other_files = true;
        }
    }

    fn insert(&mut self, path: &RepoPath, found: &Found, content: Option<Content>) -> Result<()> {
        let is_regular = found.file_type == FileType::Regular;
        if is_regular {
            self.changes.bytes_added += found.size;
        }
        let mut entry = entry_of(found, self.settings);
        if let Some(given) = &found.given {
            return self.tree.add(path, &with_given(entry, given), &given.chunks);
        }
        let Content { hash, chunks } = match content {
            None if is_regular => {
                return Err(Error::new(ErrorKind::Internal, "commit", format!("{path}: its content was not stored")));
            }
            content => content.unwrap_or_default(),
        };
        entry.hash = hash;
        entry.flags = entry.flags.with(EntryFlags::CHUNKED, !chunks.is_empty());
        self.tree.add(path, &entry, &chunks)
    }

    fn add(&mut self, path: &RepoPath, found: &Found, content: Option<Content>) -> Result<()> {
        self.insert(path, found, content)?;
        if found.file_type == FileType::Directory {
            self.changes.directories_added += 1;
            self.note_recount(path);
            return Ok(());
        }
        self.changes.files_added += 1;
        self.changes.symlinks_added += u64::from(found.file_type == FileType::Symlink);
        match marked_directory(path) {
            Some(directory) if !self.tree.is_mountpoint(&directory)? => self.tree.split(&directory),
            _ => Ok(()),
        }
    }

    fn copy(&mut self, path: &RepoPath, from: &RepoPath, found: &Found) -> Result<()> {
        self.insert(path, found, None)?;
        let mut origin = match self.origin.take() {
            Some(origin) => origin,
            None => self.tree.origin()?,
        };
        let Self { tree, behind, .. } = self;
        let copied = tree.copy_subtree(&mut origin, from, path, &mut |tree, path| behind.arrive(tree, path))?;
        self.origin = Some(origin);
        self.changes.directories_added += copied.directories + 1;
        self.changes.files_added += copied.files;
        self.changes.symlinks_added += copied.symlinks;
        self.changes.bytes_added += copied.bytes;
        self.note_recount(path);
        Ok(())
    }

    fn link(&mut self, path: &RepoPath, first: &RepoPath, linkcount: u32, replaces: bool) -> Result<()> {
        if replaces {
            self.changes.bytes_removed += self.tree.remove(path)?.bytes;
            self.changes.files_changed += 1;
        } else {
            self.changes.files_added += 1;
        }
        self.tree.link(path, first, linkcount)
    }

    fn touch(&mut self, path: &RepoPath, found: &Found) -> Result<()> {
        self.changes.directories_changed += 1;
        // The root's row keeps what it has (10.3).
        if path.is_root() {
            return Ok(());
        }
        let entry = entry_of(found, self.settings);
        self.tree.touch(path, &entry)?;
        if let Some(directory) = self.note(path) {
            directory.is_touched = true;
        }
        Ok(())
    }

    fn reconcile(&mut self, path: &RepoPath) -> Result<()> {
        // A marker and its catalog that fell apart in an earlier revision find together again.
        let marker = path.join(CATALOG_MARKER).map_err(|e| Error::format("commit", path.to_string(), e))?;
        match (self.tree.find(&marker)?.is_some(), self.tree.is_mountpoint(path)?) {
            (true, false) => self.tree.split(path),
            (false, true) => self.tree.merge(path),
            _ => Ok(()),
        }
    }

    fn remove(&mut self, path: &RepoPath) -> Result<()> {
        let removed = self.tree.remove(path)?;
        self.changes.files_removed += removed.files;
        self.changes.symlinks_removed += removed.symlinks;
        self.changes.bytes_removed += removed.bytes;
        self.changes.directories_removed += removed.directories;
        if removed.directories > 0 {
            self.note_recount(path);
        }
        match marked_directory(path) {
            Some(directory) if self.tree.is_mountpoint(&directory)? => self.tree.merge(&directory),
            _ => Ok(()),
        }
    }
}

/// Returns a row whose content somebody else stored.
fn with_given(entry: Entry, given: &GivenContent) -> Entry {
    let flags = entry.flags.with_compression(given.compression).with_hash_algorithm(given.hash_algorithm);
    let is_external = given.is_external.unwrap_or_else(|| flags.has(EntryFlags::EXTERNAL));
    let flags = flags.with(EntryFlags::EXTERNAL, is_external).with(EntryFlags::CHUNKED, !given.chunks.is_empty());
    Entry { hash: given.hash, flags, ..entry }
}

/// Returns the row of what was found, without content.
fn entry_of(found: &Found, settings: &PublishSettings) -> Entry {
    let flags = match found.file_type {
        FileType::Directory => EntryFlags(EntryFlags::DIRECTORY),
        FileType::Symlink => EntryFlags(EntryFlags::FILE | EntryFlags::SYMLINK),
        FileType::Regular => EntryFlags(EntryFlags::FILE)
            .with_compression(settings.compression)
            .with_hash_algorithm(settings.hash_algorithm)
            .with(EntryFlags::EXTERNAL, settings.is_external)
            .with(EntryFlags::DIRECT_IO, settings.direct_io),
        _ => EntryFlags(EntryFlags::FILE | EntryFlags::SPECIAL),
    };
    let hardlinks = match found.file_type {
        FileType::Directory => Hardlinks { group: 0, linkcount: 2 },
        _ => Hardlinks::SINGLE,
    };
    Entry {
        mode: found.mode,
        size: found.size,
        mtime: found.mtime,
        mtime_ns: settings.mtime_ns.then_some(found.mtime_ns),
        uid: found.uid,
        gid: found.gid,
        hardlinks,
        flags,
        hash: None,
        symlink: found.symlink.clone(),
        xattrs: found.xattrs.clone(),
    }
}
