//! The upper directory of an overlay: what it says about the lower one.
//!
//! Owns the signs that a union file system leaves: whiteouts, opaque directories, and those that mean that the upper
//! directory is not the whole truth (redirected directories, files without their content), which are refused rather
//! than published wrong. Source: format.md 10.3.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use nearfs_format::dirent::{Entry, FileType};
use nearfs_format::path::RepoPath;

use super::plan::{Action, Found};
use super::scan::{Listed, Scan, XattrNames, refused, xattr};
use super::types::Warning;
use crate::error::{Error, ErrorKind, Result};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Own files of aufs and fuse-overlayfs begin so; the first means an opaque directory.
const OPAQUE_FILE: &[u8] = b".wh..wh..opq";
const UNION_FILE_PREFIX: &[u8] = b".wh..wh.";
const WHITEOUT_TARGET: &[u8] = b"(overlay-whiteout)";
const OPAQUE: [&str; 3] = ["trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"];
const WHITEOUT: [&str; 2] = ["trusted.overlay.whiteout", "user.overlay.whiteout"];
/// Attributes of entries whose content or children lie elsewhere.
const ELSEWHERE: [&str; 5] = [
    "trusted.overlay.redirect",
    "user.overlay.redirect",
    "user.fuseoverlayfs.redirect",
    "trusted.overlay.metacopy",
    "user.overlay.metacopy",
];

/// A directory that is to be walked.
struct Walk {
    path: RepoPath,
    /// The base revision has a directory here that shows through.
    in_base: bool,
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
        let mut pending = vec![Walk { path: RepoPath::root(), in_base: true }];
        let mut buffer = Vec::new();
        while let Some(walk) = pending.pop() {
            for listed in self.list(&walk.path)? {
                self.overlay_entry(&walk, &listed, &mut pending, &mut buffer)?;
            }
        }
        Ok(())
    }

    fn overlay_entry(
        &mut self,
        walk: &Walk,
        listed: &Listed,
        pending: &mut Vec<Walk>,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let path = walk.path.join(&listed.name).map_err(|e| refused(&walk.path, e))?;
        let host = self.host(&path);
        let xattrs = XattrNames::of(&host, buffer)?;
        match sign(listed, &host, &xattrs)? {
            Sign::Own => return Ok(()),
            Sign::Whiteout(name) => {
                let path = walk.path.join(&name).map_err(|e| refused(&walk.path, e))?;
                return self.whiteout(walk, &path);
            }
            Sign::Entry => {}
        }
        if let Some(name) = xattrs.first_of(&ELSEWHERE) {
            let subject = format!(
                "{path}: the overlay keeps part of it elsewhere ({name}); mount with redirect_dir=off,metacopy=off"
            );
            return Err(Error::new(ErrorKind::Unsupported, "publish", subject));
        }
        let base = if walk.in_base { self.tree.find(&path)? } else { None };
        let base = base.map(|row| row.entry);
        match self.look(&path, &listed.stat, &xattrs)? {
            Some(found) if found.file_type == FileType::Directory => {
                let shows_through = base.as_ref().is_some_and(Entry::is_directory) && !is_opaque(&host, &xattrs)?;
                self.overlay_directory(&path, found, base, shows_through);
                pending.push(Walk { path, in_base: shows_through });
            }
            Some(found) => self.overlay_file(&path, found, base.as_ref()),
            // Left out, but it hides what was there.
            None if base.is_some() => self.push(&path, Action::Remove),
            None => {}
        }
        Ok(())
    }

    fn overlay_directory(&mut self, path: &RepoPath, found: Found, base: Option<Entry>, shows_through: bool) {
        match base {
            Some(entry) if shows_through => {
                if !self.is_same_directory(&found, &entry) {
                    self.push(path, Action::Touch(found));
                }
            }
            Some(_) => {
                self.push(path, Action::Remove);
                self.push(path, Action::Add(found));
            }
            None => self.push(path, Action::Add(found)),
        }
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
        if walk.in_base && self.tree.find(path)?.is_some() {
            if path.as_bytes() == b"/.cvmfs" {
                return Err(refused(path, "this directory is reserved and cannot be removed"));
            }
            self.push(path, Action::Remove);
        }
        Ok(())
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
    let is_whiteout = if kind.is_char_device() {
        stat.rdev() == 0
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
