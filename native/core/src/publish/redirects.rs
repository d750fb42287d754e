//! What an overlay keeps elsewhere: renamed directories, and files of which only the attributes changed.
//!
//! Owns how redirects and metadata-only copies lead back into the base revision, which is the overlay's lower layer.
//! What leads nowhere is refused: the scratch area then belongs to another revision, and a guess would lose data.
//! Source: format.md 10.3; the attributes are those of the kernel's overlayfs and of fuse-overlayfs.

use std::path::Path;

use nearfs_format::dirent::{EntryFlags, FileType};
use nearfs_format::path::{RepoPath, check_name};

use super::plan::{Found, GivenContent};
use super::scan::{Scan, refused};
use super::xattrs::{XattrNames, xattr};
use crate::error::{Error, ErrorKind, Result};

/// Where the lower content of a renamed entry is: an absolute path, or another name in the same lower directory.
const REDIRECT: [&str; 3] = ["trusted.overlay.redirect", "user.overlay.redirect", "user.fuseoverlayfs.redirect"];
/// The upper file has attributes only.
const METACOPY: [&str; 2] = ["trusted.overlay.metacopy", "user.overlay.metacopy"];
/// Owner, mode and type of an entry are not those that `lstat` tells.
const OVERRIDE: [&str; 3] =
    ["user.fuseoverlayfs.override_stat", "security.fuseoverlayfs.override_stat", "user.containers.override_stat"];

/// Refuses entries whose attributes the overlay keeps in a form that is not read here.
pub(super) fn check_attributes(path: &RepoPath, xattrs: &XattrNames) -> Result<()> {
    match xattrs.first_of(&OVERRIDE) {
        None => Ok(()),
        Some(name) => {
            let reason = format!("{path}: the overlay keeps owner and mode in {name}; mount without xattr_permissions");
            Err(Error::new(ErrorKind::Unsupported, "publish", reason))
        }
    }
}

/// Returns where the base revision has what lies at `path` without a redirect; `lower` is where it has the directory
/// around it.
pub(super) fn natural(lower: Option<&RepoPath>, path: &RepoPath) -> Result<Option<RepoPath>> {
    lower.map(|lower| lower.join(path.name()).map_err(|e| refused(path, e))).transpose()
}

/// Returns where the base revision has the lower part of an entry of the upper directory.
pub(super) fn lower_of(
    path: &RepoPath,
    lower: Option<&RepoPath>,
    host: &Path,
    xattrs: &XattrNames,
) -> Result<Option<RepoPath>> {
    let Some(name) = xattrs.first_of(&REDIRECT) else { return natural(lower, path) };
    let value = xattr(host, name.as_bytes())?.unwrap_or_default();
    let wrong = || lost(path, &format!("{name} says `{}`, which is no path", value.escape_ascii()));
    if value.starts_with(b"/") {
        return RepoPath::parse(&value).map(Some).map_err(|_| wrong());
    }
    check_name(&value).map_err(|_| wrong())?;
    lower.map(|lower| lower.join(&value).map_err(|_| wrong())).transpose()
}

impl Scan<'_, '_> {
    /// Says whether a directory was renamed; `natural` is what the base revision has under its new name's place.
    pub(super) fn renamed_from(
        &mut self,
        path: &RepoPath,
        natural: Option<&RepoPath>,
        target: Option<&RepoPath>,
    ) -> Result<Option<RepoPath>> {
        let Some(target) = target.filter(|target| Some(*target) != natural) else { return Ok(None) };
        match self.tree.find(target)? {
            Some(row) if row.entry.is_directory() => Ok(Some(target.clone())),
            _ => Err(lost(path, &format!("it was renamed from {target}, which is no directory of the base revision"))),
        }
    }

    /// Gives a file of which the upper directory has the attributes only the content that the base revision has;
    /// `lower` is where that has the directory around it.
    pub(super) fn fill_metacopy(
        &mut self,
        path: &RepoPath,
        lower: Option<&RepoPath>,
        found: &mut Found,
        xattrs: &XattrNames,
    ) -> Result<()> {
        let Some(name) = xattrs.first_of(&METACOPY).filter(|_| found.file_type == FileType::Regular) else {
            return Ok(());
        };
        let without = || lost(path, &format!("{name} says that its content is in the base revision, which has none"));
        let source = &lower_of(path, lower, &self.host(path), xattrs)?.ok_or_else(without)?;
        let entry = self.tree.find(source)?.map(|row| row.entry).ok_or_else(without)?;
        if entry.file_type() != Some(FileType::Regular) {
            return Err(without());
        }
        let corrupt = |e| Error::format("read", format!("flags of {source} in the base revision"), e);
        let chunks = self.tree.chunks(source, &entry)?;
        found.size = entry.size;
        found.given = Some(Box::new(GivenContent {
            hash: entry.hash,
            chunks,
            hash_algorithm: entry.flags.hash_algorithm().map_err(corrupt)?,
            compression: entry.flags.compression().map_err(corrupt)?,
            is_external: Some(entry.flags.has(EntryFlags::EXTERNAL)),
        }));
        Ok(())
    }
}

fn lost(path: &RepoPath, reason: &str) -> Error {
    refused(path, format!("{reason}; nothing was published, and the scratch area is as it was"))
}
