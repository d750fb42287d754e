//! A plain directory that the repository shall equal.
//!
//! Owns the comparison with the base revision. A file counts as unchanged if everything that `lstat` tells equals the
//! row, as rsync has it: a change within the same second that keeps the size goes unnoticed unless nanoseconds are
//! stored.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nearfs_format::dirent::{Entry, FileType};
use nearfs_format::path::RepoPath;
use nearfs_format::xattr::XattrList;

use super::autocatalogs::AUTOMATIC_MARKER;
use super::grafts::Graft;
use super::hardlinks::{LinkedFiles, SpreadNames};
use super::names;
use super::plan::{Action, CATALOG_MARKER, Found};
use super::scan::{Listed, Scan, refused};
use super::types::Warning;
use super::xattrs::XattrNames;
use crate::error::Result;

/// What a directory gets that nobody described (format.md 10.4).
const IMPLIED_MODE: u32 = 0o40_755;
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// A directory under way: what is on disk and in the base revision, name beside name.
struct Walk {
    path: RepoPath,
    listed: std::iter::Peekable<std::vec::IntoIter<Listed>>,
    /// What the base revision has in it that was not met yet.
    base: BTreeMap<Vec<u8>, Entry>,
    /// Descriptors whose names have not come yet, and what the base revision has in place of those that stand alone.
    grafts: BTreeMap<Vec<u8>, (Graft, Option<Entry>)>,
    /// Markers of an automatic catalog stay although the disk has none.
    keeps_markers: bool,
    linked: LinkedFiles,
}

/// What one name stands for.
enum Beside {
    /// An entry on disk.
    Both(Box<Listed>),
    /// An entry of the base revision that is not on disk.
    Base(Vec<u8>),
}

impl Walk {
    /// Returns the next name. What an entry on disk does not take out of `base` comes after it.
    fn next(&mut self) -> Option<Beside> {
        let gone = match (self.listed.peek(), self.base.first_key_value()) {
            (Some(listed), Some((name, _))) => *name < listed.name,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if gone {
            return self.base.pop_first().map(|(name, _)| Beside::Base(name));
        }
        self.listed.next().map(|listed| Beside::Both(Box::new(listed)))
    }
}

impl Scan<'_, '_> {
    /// Compares with the target's directory, and makes what is missing on the way to it.
    pub(super) fn subtree(&mut self, stat: &fs::Metadata, mirrors: bool) -> Result<()> {
        let target = self.target.clone();
        if names::is_own(&target) {
            return Err(refused(&target, "the directories /.cvmfs and /.nearfs are reserved"));
        }
        if target.is_root() {
            return self.directory(mirrors);
        }
        let xattrs = XattrNames::of(&self.host(&target), &mut Vec::new())?;
        let Some(found) = self.look(&target, stat, &xattrs)? else { return Ok(()) };
        let (mut above, mut parent) = (Vec::new(), target.parent());
        while let Some(path) = parent.filter(|path| !path.is_root()) {
            parent = path.parent();
            above.push(path);
        }
        let mut in_base = true;
        for path in above.into_iter().rev() {
            match self.base_entry(&path, in_base)? {
                Some(entry) if entry.is_directory() => {}
                Some(_) => return Err(refused(&path, format!("it is no directory, {target} cannot be in it"))),
                None => {
                    in_base = false;
                    let (mode, mtime, xattrs) = (IMPLIED_MODE, self.settings.now, XattrList::default());
                    self.push(&path, Action::Add(Found { mode, mtime, mtime_ns: 0, xattrs, ..found.clone() }));
                }
            }
        }
        let before = self.base_entry(&target, in_base)?;
        self.compare(&target, found, before.as_ref(), 1);
        self.walk(target, before.is_some_and(|entry| entry.is_directory()), mirrors)
    }

    fn base_entry(&mut self, path: &RepoPath, in_base: bool) -> Result<Option<Entry>> {
        if in_base { Ok(self.tree.find(path)?.map(|row| row.entry)) } else { Ok(None) }
    }

    /// Walks the directory, which stands for the whole repository.
    pub(super) fn directory(&mut self, mirrors: bool) -> Result<()> {
        self.walk(RepoPath::root(), true, mirrors)
    }

    /// Walks `root`; the flag says whether the base revision has it. Each directory is walked right after its own
    /// change. Memory holds the listings on the way down.
    fn walk(&mut self, root: RepoPath, in_base: bool, mirrors: bool) -> Result<()> {
        let (mut buffer, mut spread) = (Vec::new(), SpreadNames::default());
        self.deliver()?;
        let mut walks = vec![self.enter_compared(root, in_base)?];
        while let Some(walk) = walks.last_mut() {
            let inner = match walk.next() {
                Some(Beside::Both(listed)) => self.directory_entry(walk, &listed, &mut buffer)?,
                Some(Beside::Base(name)) => {
                    if mirrors && !(walk.keeps_markers && [AUTOMATIC_MARKER, CATALOG_MARKER].contains(&name.as_slice()))
                    {
                        self.push(&join(&walk.path, &name)?, Action::Remove);
                    }
                    None
                }
                None => {
                    for (name, (graft, before)) in std::mem::take(&mut walk.grafts) {
                        self.compare(&join(&walk.path, &name)?, graft.alone(None), before.as_ref(), 1);
                    }
                    self.linked(std::mem::take(&mut walk.linked), &mut spread)?;
                    walks.pop();
                    None
                }
            };
            self.deliver()?;
            if let Some((path, in_base)) = inner {
                walks.push(self.enter_compared(path, in_base)?);
            }
        }
        Ok(())
    }

    fn enter_compared(&mut self, path: RepoPath, in_base: bool) -> Result<Walk> {
        self.tree.arrive(&path);
        let mut base = if in_base { self.base_entries(&path)? } else { BTreeMap::new() };
        let mut listed = self.list(&path)?;
        let grafts = self.take_grafts(&path, &mut listed)?;
        let is_listed = |name: &[u8]| listed.binary_search_by(|entry| entry.name.as_slice().cmp(name)).is_ok();
        let grafts = grafts.into_iter().map(|(name, graft)| {
            let before = if is_listed(&name) { None } else { base.remove(&name) };
            (name, (graft, before))
        });
        let grafts = grafts.collect();
        // Made by an earlier publish: the directory on disk knows nothing of them.
        let keeps_markers =
            self.settings.autocatalogs.is_some() && base.contains_key(AUTOMATIC_MARKER) && !is_listed(AUTOMATIC_MARKER);
        let listed = listed.into_iter().peekable();
        Ok(Walk { path, listed, base, grafts, keeps_markers, linked: LinkedFiles::default() })
    }

    /// Compares one name; returns the directory that is to be walked next, and whether the base revision has it.
    fn directory_entry(
        &mut self,
        walk: &mut Walk,
        listed: &Listed,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<(RepoPath, bool)>> {
        let path = join(&walk.path, &listed.name)?;
        let prefix = listed.name.get(..WHITEOUT_PREFIX.len()).unwrap_or_default();
        if listed.is_whiteout_device() || prefix.eq_ignore_ascii_case(WHITEOUT_PREFIX) {
            self.warnings.push(Warning::ReservedName(path));
            return Ok(None);
        }
        let xattrs = if self.settings.include_xattrs {
            XattrNames::of(&self.host(&path), buffer)?
        } else {
            XattrNames::default()
        };
        let Some(mut found) = self.look(&path, &listed.stat, &xattrs)? else { return Ok(None) };
        let before = walk.base.remove(&listed.name);
        let is_directory = found.file_type == FileType::Directory;
        if let Some((graft, _)) = walk.grafts.remove(&listed.name) {
            graft.apply(&path, &mut found)?;
        } else if !is_directory && listed.stat.nlink() > 1 && listed.name != CATALOG_MARKER {
            walk.linked.note(&path, &listed.stat, found, before);
            return Ok(None);
        }
        self.compare(&path, found, before.as_ref(), 1);
        Ok(is_directory.then(|| (path, before.as_ref().is_some_and(Entry::is_directory))))
    }

    fn base_entries(&mut self, directory: &RepoPath) -> Result<BTreeMap<Vec<u8>, Entry>> {
        let rows = self.tree.children(directory)?.into_iter();
        let mut entries: BTreeMap<_, _> = rows.map(|row| (row.name, row.entry)).collect();
        if directory.is_root() {
            entries.retain(|name, _| !names::is_own_name(name));
        }
        Ok(entries)
    }

    /// Notes what changes at a path; `linkcount` is the number of names that a file is to have.
    pub(super) fn compare(&mut self, path: &RepoPath, found: Found, before: Option<&Entry>, linkcount: u32) {
        let is_directory = found.file_type == FileType::Directory;
        match before {
            None => self.push(path, Action::Add(found)),
            Some(entry) if entry.is_directory() != is_directory => {
                self.push(path, Action::Remove);
                self.push(path, Action::Add(found));
            }
            Some(entry) if is_directory => {
                if !self.is_same_directory(&found, entry) {
                    self.push(path, Action::Touch(found));
                }
            }
            Some(entry) => {
                let is_same = self.is_same_file(&found, entry) && entry.hardlinks.linkcount == linkcount;
                if !is_same {
                    self.push(path, Action::Replace(found));
                }
            }
        }
    }
}

fn join(directory: &RepoPath, name: &[u8]) -> Result<RepoPath> {
    directory.join(name).map_err(|e| refused(directory, e))
}
