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
use super::hardlinks::LinkedFiles;
use super::plan::{Action, CATALOG_MARKER, Found};
use super::scan::{Listed, Scan, refused};
use super::types::Warning;
use super::xattrs::XattrNames;
use crate::error::Result;

/// What a directory gets that nobody described (format.md 10.4).
const IMPLIED_MODE: u32 = 0o40_755;
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// A directory that is being compared.
struct Compared {
    path: RepoPath,
    /// What the base revision has in it that was not met yet.
    base: BTreeMap<Vec<u8>, Entry>,
}

impl Scan<'_, '_> {
    /// Compares with the target's directory, and makes what is missing on the way to it.
    pub(super) fn subtree(&mut self, stat: &fs::Metadata, mirrors: bool) -> Result<()> {
        let target = self.target.clone();
        if target.names().next() == Some(b".cvmfs") {
            return Err(refused(&target, "the directory /.cvmfs is reserved"));
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
        self.walk(vec![(target, before.is_some_and(|entry| entry.is_directory()))], mirrors)
    }

    fn base_entry(&mut self, path: &RepoPath, in_base: bool) -> Result<Option<Entry>> {
        if in_base { Ok(self.tree.find(path)?.map(|row| row.entry)) } else { Ok(None) }
    }

    /// Walks the directory, which stands for the whole repository.
    pub(super) fn directory(&mut self, mirrors: bool) -> Result<()> {
        self.walk(vec![(RepoPath::root(), true)], mirrors)
    }

    /// Walks directories; the flag of each says whether the base revision has it.
    fn walk(&mut self, mut pending: Vec<(RepoPath, bool)>, mirrors: bool) -> Result<()> {
        let (mut buffer, mut linked) = (Vec::new(), LinkedFiles::default());
        while let Some((path, in_base)) = pending.pop() {
            let base = if in_base { self.base_entries(&path)? } else { BTreeMap::new() };
            let mut directory = Compared { path, base };
            let mut listed = self.list(&directory.path)?;
            let mut grafts = self.take_grafts(&directory.path, &mut listed)?;
            for entry in &listed {
                let graft = grafts.remove(&entry.name);
                pending.extend(self.directory_entry(&mut directory, entry, graft, &mut buffer, &mut linked)?);
            }
            for (name, graft) in grafts {
                let path = directory.path.join(&name).map_err(|e| refused(&directory.path, e))?;
                let before = directory.base.remove(&name);
                self.compare(&path, graft.alone(None), before.as_ref(), 1);
            }
            if self.settings.autocatalogs.is_some() && directory.base.contains_key(AUTOMATIC_MARKER) {
                // Made by an earlier publish: the directory on disk knows nothing of them.
                directory.base.remove(AUTOMATIC_MARKER);
                directory.base.remove(CATALOG_MARKER);
            }
            for name in directory.base.keys().filter(|_| mirrors) {
                let path = directory.path.join(name).map_err(|e| refused(&directory.path, e))?;
                self.push(&path, Action::Remove);
            }
        }
        self.linked(linked)
    }

    /// Compares one name; returns the directory that is to be walked next.
    fn directory_entry(
        &mut self,
        directory: &mut Compared,
        listed: &Listed,
        graft: Option<Graft>,
        buffer: &mut Vec<u8>,
        linked: &mut LinkedFiles,
    ) -> Result<Option<(RepoPath, bool)>> {
        let path = directory.path.join(&listed.name).map_err(|e| refused(&directory.path, e))?;
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
        let before = directory.base.remove(&listed.name);
        let is_directory = found.file_type == FileType::Directory;
        if let Some(graft) = graft {
            graft.apply(&path, &mut found)?;
        } else if !is_directory && listed.stat.nlink() > 1 && listed.name != CATALOG_MARKER {
            linked.note(&path, &listed.stat, found, before);
            return Ok(None);
        }
        self.compare(&path, found, before.as_ref(), 1);
        Ok(is_directory.then(|| (path, before.as_ref().is_some_and(Entry::is_directory))))
    }

    fn base_entries(&mut self, directory: &RepoPath) -> Result<BTreeMap<Vec<u8>, Entry>> {
        let rows = self.tree.children(directory)?.into_iter();
        // The virtual directory is the publisher's own.
        let kept = rows.filter(|row| !(directory.is_root() && row.name == b".cvmfs"));
        Ok(kept.map(|row| (row.name, row.entry)).collect())
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
