//! A plain directory that the repository shall equal.
//!
//! Owns the comparison with the base revision. A file counts as unchanged if everything that `lstat` tells equals the
//! row, as rsync has it: a change within the same second that keeps the size goes unnoticed unless nanoseconds are
//! stored.

use std::collections::BTreeMap;
use std::fs;

use nearfs_format::dirent::{Entry, FileType};
use nearfs_format::path::RepoPath;
use nearfs_format::xattr::XattrList;

use super::plan::{Action, Found};
use super::scan::{Scan, XattrNames, refused};
use super::types::Warning;
use crate::error::Result;

/// What a directory gets that nobody described (format.md 10.4).
const IMPLIED_MODE: u32 = 0o40_755;
const WHITEOUT_PREFIX: &[u8] = b".wh.";

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
        self.compare(&target, found, before.as_ref());
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
        let mut buffer = Vec::new();
        while let Some((directory, in_base)) = pending.pop() {
            let mut base = if in_base { self.base_entries(&directory)? } else { BTreeMap::new() };
            for listed in self.list(&directory)? {
                let path = directory.join(&listed.name).map_err(|e| refused(&directory, e))?;
                let is_whiteout = listed.is_special()
                    && std::os::unix::fs::MetadataExt::rdev(&listed.stat) == 0
                    && std::os::unix::fs::FileTypeExt::is_char_device(&listed.stat.file_type());
                let prefix = listed.name.get(..WHITEOUT_PREFIX.len()).unwrap_or_default();
                if is_whiteout || prefix.eq_ignore_ascii_case(WHITEOUT_PREFIX) {
                    self.warnings.push(Warning::ReservedName(path));
                    continue;
                }
                let xattrs = if self.settings.include_xattrs {
                    XattrNames::of(&self.host(&path), &mut buffer)?
                } else {
                    XattrNames::default()
                };
                let Some(found) = self.look(&path, &listed.stat, &xattrs)? else { continue };
                let before = base.remove(&listed.name);
                if found.file_type == FileType::Directory {
                    pending.push((path.clone(), before.as_ref().is_some_and(Entry::is_directory)));
                }
                self.compare(&path, found, before.as_ref());
            }
            for name in base.keys().filter(|_| mirrors) {
                let path = directory.join(name).map_err(|e| refused(&directory, e))?;
                self.push(&path, Action::Remove);
            }
        }
        Ok(())
    }

    fn base_entries(&mut self, directory: &RepoPath) -> Result<BTreeMap<Vec<u8>, Entry>> {
        let rows = self.tree.children(directory)?.into_iter();
        // The virtual directory is the publisher's own.
        let kept = rows.filter(|row| !(directory.is_root() && row.name == b".cvmfs"));
        Ok(kept.map(|row| (row.name, row.entry)).collect())
    }

    fn compare(&mut self, path: &RepoPath, found: Found, before: Option<&Entry>) {
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
                let is_same =
                    self.is_same_directory(&found, entry) && found.size == entry.size && found.symlink == entry.symlink;
                if !is_same {
                    self.push(path, Action::Replace(found));
                }
            }
        }
    }
}
