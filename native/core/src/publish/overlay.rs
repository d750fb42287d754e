//! The upper directory of an overlay: what it says about the lower one.
//!
//! Owns the signs that a union file system leaves: whiteouts and opaque directories; `redirects` owns those that lead
//! to other places of the lower one. Source: format.md 10.3.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use std::collections::BTreeMap;

use nearfs_format::dirent::{Entry, FileType};
use nearfs_format::path::RepoPath;

use super::grafts::Graft;
use super::hardlinks::UpperNames;
use super::names;
use super::plan::{Action, Found};
use super::redirects::{self, lower_of, natural};
use super::scan::{Listed, Scan, refused};
use super::types::Warning;
use super::xattrs::{XattrNames, xattr};
use crate::error::{Error, Result};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Own files of aufs and fuse-overlayfs begin so; the first means an opaque directory.
const OPAQUE_FILE: &[u8] = b".wh..wh..opq";
const UNION_FILE_PREFIX: &[u8] = b".wh..wh.";
const WHITEOUT_TARGET: &[u8] = b"(overlay-whiteout)";
const OPAQUE: [&str; 3] = ["trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"];
const WHITEOUT: [&str; 2] = ["trusted.overlay.whiteout", "user.overlay.whiteout"];

/// A directory under way.
struct Walk {
    path: RepoPath,
    /// The directory of the base revision that shows through.
    lower: Option<RepoPath>,
    listed: std::vec::IntoIter<Listed>,
    /// Descriptors whose names have not come yet.
    grafts: BTreeMap<Vec<u8>, Graft>,
}

/// What one name of the upper directory says.
enum Sign {
    /// The lower entry of that name is gone.
    Whiteout(Vec<u8>),
    /// A file that the union keeps for itself.
    Own,
    /// An entry.
    Entry,
}

impl Scan<'_, '_> {
    /// Walks the upper directory.
    pub(super) fn overlay(&mut self) -> Result<()> {
        let (mut buffer, mut names) = (Vec::new(), UpperNames::default());
        // Each directory is walked right after its own change. Memory holds the listings on the way down.
        let mut walks = vec![self.enter_upper(RepoPath::root(), Some(RepoPath::root()))?];
        while let Some(walk) = walks.last_mut() {
            let Some(listed) = walk.listed.next() else {
                self.overlay_grafts(walk)?;
                self.deliver()?;
                walks.pop();
                continue;
            };
            let inner = self.overlay_entry(walk, &listed, &mut buffer, &mut names)?;
            self.deliver()?;
            if let Some((path, lower)) = inner {
                walks.push(self.enter_upper(path, lower)?);
            }
        }
        names.check()
    }

    fn enter_upper(&mut self, path: RepoPath, lower: Option<RepoPath>) -> Result<Walk> {
        self.tree.arrive(lower.as_ref().unwrap_or(&path));
        let mut listed = self.list(&path)?;
        let grafts = self.take_grafts(&path, &mut listed)?;
        Ok(Walk { path, lower, listed: listed.into_iter(), grafts })
    }

    /// Publishes one name; returns the directory that is to be walked next, and what shows through there.
    fn overlay_entry(
        &mut self,
        walk: &mut Walk,
        listed: &Listed,
        buffer: &mut Vec<u8>,
        names: &mut UpperNames,
    ) -> Result<Option<(RepoPath, Option<RepoPath>)>> {
        let graft = walk.grafts.remove(&listed.name);
        let path = walk.path.join(&listed.name).map_err(|e| refused(&walk.path, e))?;
        let host = self.host(&path);
        let xattrs = XattrNames::of(&host, buffer)?;
        match sign(listed, &host, &xattrs)? {
            Sign::Own => return Ok(None),
            Sign::Whiteout(name) => {
                let path = walk.path.join(&name).map_err(|e| refused(&walk.path, e))?;
                self.whiteout(walk, &path)?;
                if let Some(graft) = graft {
                    self.push(&path, Action::Add(graft.alone(None)));
                }
                return Ok(None);
            }
            Sign::Entry => redirects::check_attributes(&path, &xattrs)?,
        }
        let natural = natural(walk.lower.as_ref(), &path)?;
        let base = self.base_at(natural.as_ref())?;
        names.note(&path, &listed.stat, base.as_ref());
        let Some(mut found) = self.look(&path, &listed.stat, &xattrs)? else {
            // Left out, but it hides what was there.
            if base.is_some() {
                self.push(&path, Action::Remove);
            }
            return Ok(None);
        };
        if found.file_type == FileType::Directory && graft.is_none() {
            let lower =
                if is_opaque(&host, &xattrs)? { None } else { lower_of(&path, walk.lower.as_ref(), &host, &xattrs)? };
            let lower = self.overlay_directory(&path, found, base, natural, lower)?;
            return Ok(Some((path, lower)));
        }
        self.fill_metacopy(&path, walk.lower.as_ref(), &mut found, &xattrs)?;
        if let Some(graft) = graft {
            graft.apply(&path, &mut found)?;
        } else if listed.stat.nlink() > 1 {
            self.warnings.push(Warning::HardlinkBroken(path.clone()));
        }
        self.overlay_file(&path, found, base.as_ref());
        Ok(None)
    }

    fn base_at(&mut self, path: Option<&RepoPath>) -> Result<Option<Entry>> {
        Ok(path.map(|path| self.tree.find(path)).transpose()?.flatten().map(|row| row.entry))
    }

    /// Publishes descriptors beside which there is nothing in the upper directory.
    fn overlay_grafts(&mut self, walk: &mut Walk) -> Result<()> {
        for (name, graft) in std::mem::take(&mut walk.grafts) {
            let path = walk.path.join(&name).map_err(|e| refused(&walk.path, e))?;
            let natural = natural(walk.lower.as_ref(), &path)?;
            let base = self.base_at(natural.as_ref())?;
            let mut found = graft.clone().alone(base.as_ref().filter(|entry| !entry.is_directory()));
            if let Some(entry) = &base {
                // Whatever is no regular file cannot be grafted.
                found.file_type = entry.file_type().unwrap_or(FileType::Fifo);
                graft.apply(&path, &mut found)?;
            }
            self.overlay_file(&path, found, base.as_ref());
        }
        Ok(())
    }

    /// Publishes a directory; returns the directory of the base revision that shows through.
    fn overlay_directory(
        &mut self,
        path: &RepoPath,
        found: Found,
        base: Option<Entry>,
        natural: Option<RepoPath>,
        lower: Option<RepoPath>,
    ) -> Result<Option<RepoPath>> {
        let from = self.renamed_from(path, natural.as_ref(), lower.as_ref())?;
        match base {
            Some(entry) if entry.is_directory() && from.is_none() && lower.is_some() => {
                if !self.is_same_directory(&found, &entry) {
                    self.push(path, Action::Touch(found));
                }
                return Ok(natural);
            }
            Some(_) => self.push(path, Action::Remove),
            None => {}
        }
        match &from {
            Some(from) => self.push(path, Action::Copy { from: from.clone(), found }),
            None => self.push(path, Action::Add(found)),
        }
        Ok(from)
    }

    fn overlay_file(&mut self, path: &RepoPath, found: Found, base: Option<&Entry>) {
        match base {
            Some(entry) if entry.is_directory() => {
                self.push(path, Action::Remove);
                self.push(path, Action::Add(found));
            }
            Some(entry) => {
                if entry.hardlinks.linkcount > 1 {
                    self.warnings.push(Warning::HardlinkBroken(path.clone()));
                }
                self.push(path, Action::Replace(found));
            }
            None => self.push(path, Action::Add(found)),
        }
    }

    fn whiteout(&mut self, walk: &Walk, path: &RepoPath) -> Result<()> {
        let natural = natural(walk.lower.as_ref(), path)?;
        if self.base_at(natural.as_ref())?.is_some() {
            if names::is_own(path) {
                return Err(names::reserved(path));
            }
            self.push(path, Action::Remove);
        }
        Ok(())
    }

    /// Says whether a file is what its row says, as far as can be told without reading it.
    pub(super) fn is_same_file(&self, found: &Found, entry: &Entry) -> bool {
        self.is_same_directory(found, entry)
            && found.size == entry.size
            && found.symlink == entry.symlink
            && found.given.as_ref().is_none_or(|given| given.hash == entry.hash)
    }

    /// Says whether a directory has the attributes of its row. The size is the file system's own affair: the same
    /// directory has another one on every file system.
    pub(super) fn is_same_directory(&self, found: &Found, entry: &Entry) -> bool {
        let mtime_ns = self.settings.mtime_ns.then_some(found.mtime_ns);
        (found.mode, found.uid, found.gid, found.mtime) == (entry.mode, entry.uid, entry.gid, entry.mtime)
            && mtime_ns == entry.mtime_ns
            && found.xattrs == entry.xattrs
    }
}

fn sign(listed: &Listed, host: &Path, xattrs: &XattrNames) -> Result<Sign> {
    let (name, stat) = (&listed.name, &listed.stat);
    if name.starts_with(UNION_FILE_PREFIX) {
        return Ok(Sign::Own);
    }
    if let Some((prefix, rest)) = name.split_at_checked(WHITEOUT_PREFIX.len())
        && prefix.eq_ignore_ascii_case(WHITEOUT_PREFIX)
        && !rest.is_empty()
    {
        return Ok(Sign::Whiteout(rest.to_vec()));
    }
    let kind = stat.file_type();
    let is_whiteout = if listed.is_whiteout_device() {
        true
    } else if kind.is_symlink() {
        let target = fs::read_link(host).map_err(|e| Error::io("read link", host.display().to_string(), e))?;
        target.as_os_str().as_bytes() == WHITEOUT_TARGET
    } else {
        kind.is_file() && stat.len() == 0 && xattrs.first_of(&WHITEOUT).is_some()
    };
    Ok(if is_whiteout { Sign::Whiteout(name.clone()) } else { Sign::Entry })
}

fn is_opaque(host: &Path, xattrs: &XattrNames) -> Result<bool> {
    // `x` instead of `y` means: whiteouts in here are attributes, the lower directory shows through.
    let value = xattrs.first_of(&OPAQUE).map(|name| xattr(host, name.as_bytes())).transpose()?.flatten();
    let has_file = || {
        let file = host.join(std::ffi::OsStr::from_bytes(OPAQUE_FILE));
        fs::symlink_metadata(file).is_ok()
    };
    Ok(value.as_deref() == Some(b"y") || has_file())
}
