//! Looking at a tree on disk: what is there, and whether it may be published.
//!
//! Owns one entry at a time; `overlay` and `directory` walk. Reads attributes only, never content. Source: format.md
//! 4.7, 8.5, 10.3 to 10.5.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nearfs_format::dirent::FileType;
use nearfs_format::path::{RepoPath, check_name};
use nearfs_format::xattr::{MAX_ATTRIBUTES, MAX_FIELD_BYTES, XattrList};

use super::plan::{Action, CATALOG_MARKER, Change, Found, Plan};
use super::tree::CatalogTree;
use super::types::{PublishSettings, Source, Warning};
use crate::error::{Error, ErrorKind, Result};

/// The reserved directory in the root, which only the publisher itself writes (8.6).
const VIRTUAL_DIRECTORY: &[u8] = b"/.cvmfs";
const GRAFT_PREFIX: &[u8] = b".cvmfsgraft-";
const BUNDLES: &[u8] = b".cvmfsbundles";
/// Attributes that a union file system keeps for itself.
pub(super) const UNION_XATTRS: [&[u8]; 4] =
    [b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs.", b"trusted.aufs."];
/// Linux allows lists of attribute names up to 64 KiB (`XATTR_LIST_MAX`), and values as long.
const XATTR_LIST_BYTES: usize = 64 << 10;

/// Compares a source with the base revision.
pub(super) fn scan(tree: &mut CatalogTree<'_>, source: &Source, settings: &PublishSettings) -> Result<Plan> {
    let (Source::Overlay { upper: directory }
    | Source::Directory { path: directory }
    | Source::Subtree { path: directory, .. }) = source;
    let mut scan = Scan {
        tree,
        settings,
        source: directory.clone(),
        target: RepoPath::root(),
        owner: None,
        changes: Vec::new(),
        warnings: Vec::new(),
    };
    let stat = fs::metadata(directory).map_err(|e| Error::io("scan", directory.display().to_string(), e))?;
    if !stat.is_dir() {
        return Err(refused(&RepoPath::root(), format!("{} is not a directory", directory.display())));
    }
    match source {
        Source::Overlay { .. } => scan.overlay()?,
        Source::Directory { .. } => scan.directory(true)?,
        Source::Subtree { target, mirrors, owner, .. } => {
            (scan.target, scan.owner) = (target.clone(), *owner);
            scan.subtree(&stat, *mirrors)?;
        }
    }
    let Scan { source, target, mut changes, mut warnings, .. } = scan;
    // Stable: a removal stays before the addition at the same path.
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    warnings.sort_by(|a, b| warned_path(a).cmp(warned_path(b)));
    Ok(Plan { source, target, changes, warnings })
}

pub(super) fn warned_path(warning: &Warning) -> &RepoPath {
    let (Warning::XattrSkipped(path)
    | Warning::SpecialSkipped(path)
    | Warning::HardlinkBroken(path)
    | Warning::ReservedName(path)
    | Warning::NothingToDelete(path)) = warning;
    path
}

/// A scan under way.
pub(super) struct Scan<'t, 's> {
    pub(super) tree: &'t mut CatalogTree<'s>,
    pub(super) settings: &'t PublishSettings,
    pub(super) source: PathBuf,
    /// The directory of the repository that `source` stands for.
    pub(super) target: RepoPath,
    /// Owner and group of everything, where they are not those of the files.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) changes: Vec<Change>,
    pub(super) warnings: Vec<Warning>,
}

/// One name in a directory on disk.
pub(super) struct Listed {
    pub(super) name: Vec<u8>,
    pub(super) stat: fs::Metadata,
}

impl Listed {
    pub(super) fn is_special(&self) -> bool {
        FileType::from_mode(self.stat.mode()).is_none_or(FileType::is_special)
    }
}

impl Scan<'_, '_> {
    pub(super) fn push(&mut self, path: &RepoPath, action: Action) {
        self.changes.push(Change { path: path.clone(), action });
    }

    /// Returns where a path lies on disk.
    pub(super) fn host(&self, path: &RepoPath) -> PathBuf {
        host_path(&self.source, &self.target, path)
    }

    /// Returns what a directory on disk holds, in the order of names.
    pub(super) fn list(&self, directory: &RepoPath) -> Result<Vec<Listed>> {
        let host = self.host(directory);
        let failed = |e| Error::io("scan", host.display().to_string(), e);
        let mut listed = Vec::new();
        for entry in fs::read_dir(&host).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().into_vec();
            check_name(&name).map_err(|e| refused(directory, e.to_string()))?;
            // Of the entry itself: `metadata` of a directory entry does not follow symlinks.
            listed.push(Listed { name, stat: entry.metadata().map_err(failed)? });
        }
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// Returns what is to be stored of an entry, `None` if it is to be left out.
    pub(super) fn look(&mut self, path: &RepoPath, stat: &fs::Metadata, xattrs: &XattrNames) -> Result<Option<Found>> {
        let Some(file_type) = FileType::from_mode(stat.mode()) else {
            return Err(refused(path, "it has an unknown file type"));
        };
        check_special_names(path, file_type, stat.nlink())?;
        if file_type.is_special() && self.settings.ignore_special {
            self.warnings.push(Warning::SpecialSkipped(path.clone()));
            return Ok(None);
        }
        if file_type != FileType::Directory && stat.nlink() > 1 {
            self.warnings.push(Warning::HardlinkBroken(path.clone()));
        }
        let host = self.host(path);
        let symlink = if file_type == FileType::Symlink {
            let target = fs::read_link(&host).map_err(|e| Error::io("read link", host.display().to_string(), e))?;
            target.into_os_string().into_vec()
        } else {
            Vec::new()
        };
        let size = match file_type {
            FileType::Symlink => symlink.len() as u64,
            FileType::CharDevice | FileType::BlockDevice => stat.rdev(),
            FileType::Fifo | FileType::Socket => 0,
            FileType::Regular | FileType::Directory => stat.len(),
        };
        let xattrs = self.xattrs(path, &host, xattrs)?;
        Ok(Some(Found {
            file_type,
            mode: stat.mode(),
            uid: self.owner.map_or(stat.uid(), |(uid, _)| uid),
            gid: self.owner.map_or(stat.gid(), |(_, gid)| gid),
            size,
            mtime: stat.mtime(),
            mtime_ns: stat.mtime_nsec() as u32,
            symlink,
            xattrs,
        }))
    }

    fn xattrs(&mut self, path: &RepoPath, host: &Path, names: &XattrNames) -> Result<XattrList> {
        if !self.settings.include_xattrs {
            return Ok(XattrList::default());
        }
        let (mut pairs, mut skipped) = (Vec::new(), false);
        for name in names.iter().filter(|name| !UNION_XATTRS.iter().any(|prefix| name.starts_with(prefix))) {
            let Some(value) = xattr(host, name)? else { continue };
            if value.len() > MAX_FIELD_BYTES || name.len() > MAX_FIELD_BYTES || pairs.len() == MAX_ATTRIBUTES {
                skipped = true;
            } else {
                pairs.push((name.to_vec(), value));
            }
        }
        if skipped {
            self.warnings.push(Warning::XattrSkipped(path.clone()));
        }
        XattrList::from_pairs(pairs).map_err(|e| refused(path, e.to_string()))
    }
}

/// Returns where a path of the repository lies below `source`, which stands for its directory `target`.
pub(super) fn host_path(source: &Path, target: &RepoPath, path: &RepoPath) -> PathBuf {
    let below = path.as_bytes().strip_prefix(target.as_bytes()).unwrap_or_default();
    source.join(OsStr::from_bytes(below.strip_prefix(b"/").unwrap_or_default()))
}

/// Builds the error for something that must not be published; nothing has been done by then.
pub(super) fn refused(path: &RepoPath, reason: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, "publish", format!("{path}: {reason}"))
}

/// Refuses names that have a meaning where they do not belong (8.5).
pub(super) fn check_special_names(path: &RepoPath, file_type: FileType, links: u64) -> Result<()> {
    let in_root = path.parent().is_some_and(|parent| parent.is_root());
    if path.as_bytes() == VIRTUAL_DIRECTORY {
        return Err(refused(path, "this directory is reserved; remove it from the transaction"));
    }
    let name = path.name();
    if name == CATALOG_MARKER {
        if in_root {
            return Err(refused(path, "the root directory cannot be a nested catalog; remove the file"));
        }
        if file_type != FileType::Regular {
            return Err(refused(path, "the marker of a nested catalog has to be a regular file"));
        }
    }
    if name == BUNDLES && (!in_root || file_type != FileType::Regular || links > 1) {
        return Err(refused(path, "only a regular file in the root directory may have this name"));
    }
    if name.starts_with(GRAFT_PREFIX) {
        let subject = format!("{path}: this version does not know graft descriptors; remove the file");
        return Err(Error::new(ErrorKind::Unsupported, "publish", subject));
    }
    Ok(())
}

/// Names of the extended attributes of one entry, sorted.
#[derive(Debug, Default)]
pub(super) struct XattrNames(Vec<u8>);

impl XattrNames {
    /// Lists the attributes of `host` itself. File systems without attributes have none.
    pub(super) fn of(host: &Path, buffer: &mut Vec<u8>) -> Result<Self> {
        buffer.resize(XATTR_LIST_BYTES, 0);
        match rustix::fs::llistxattr(host, buffer.as_mut_slice()) {
            Ok(length) => Ok(Self(buffer.get(..length).unwrap_or_default().to_vec())),
            Err(rustix::io::Errno::NOTSUP) => Ok(Self::default()),
            Err(e) => Err(Error::io("list extended attributes of", host.display().to_string(), e.into())),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == 0).filter(|name| !name.is_empty())
    }

    /// Returns the first of `names` that is among the attributes.
    pub(super) fn first_of<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|wanted| self.iter().any(|name| name == wanted.as_bytes()))
    }
}

/// Returns the value of one attribute, `None` if it vanished or must not be read.
pub(super) fn xattr(host: &Path, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; MAX_FIELD_BYTES + 1];
    loop {
        match rustix::fs::lgetxattr(host, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            // Longer than anything that can be stored; the length is all that matters then.
            Err(rustix::io::Errno::RANGE) if value.len() < XATTR_LIST_BYTES => value.resize(XATTR_LIST_BYTES, 0),
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) => return Ok(None),
            Err(e) => return Err(Error::io("read extended attribute of", host.display().to_string(), e.into())),
        }
    }
}
