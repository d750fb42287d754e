//! Looking at a tree on disk: what is there, and whether it may be published.
//!
//! Owns one entry at a time; `overlay` and `directory` walk. Reads attributes only, never content. Source: format.md
//! 4.7, 8.5, 10.3 to 10.5.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nearfs_format::dirent::FileType;
use nearfs_format::path::{RepoPath, check_name};

use super::plan::{Action, Change, Changes, Found};
use super::tree::CatalogTree;
use super::types::{PublishSettings, Source, Warning};
use super::xattrs::XattrNames;
use super::{limits, names};
use crate::error::{Error, ErrorKind, Result};

/// Compares a source with the base revision; `sink` gets every change as it is found.
pub(super) fn scan(
    tree: &mut CatalogTree<'_>,
    source: &Source,
    settings: &PublishSettings,
    sink: &mut dyn Changes,
) -> Result<()> {
    let directory = source.directory();
    let mut scan = Scan {
        tree,
        settings,
        source: directory.to_owned(),
        target: source.target(),
        owner: None,
        changes: Vec::new(),
        warnings: Vec::new(),
        sink,
    };
    let stat = fs::metadata(directory).map_err(|e| Error::io("scan", directory.display().to_string(), e))?;
    if !stat.is_dir() {
        return Err(refused(&RepoPath::root(), format!("{} is not a directory", directory.display())));
    }
    match source {
        Source::Overlay { .. } => scan.overlay(),
        Source::Directory { .. } => scan.directory(true),
        Source::Subtree { mirrors, owner, .. } => {
            scan.owner = *owner;
            scan.subtree(&stat, *mirrors)
        }
    }
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
    /// What the present entry brought; [`Scan::deliver`] passes it on.
    pub(super) changes: Vec<Change>,
    pub(super) warnings: Vec<Warning>,
    sink: &'t mut dyn Changes,
}

/// One name in a directory on disk.
pub(super) struct Listed {
    pub(super) name: Vec<u8>,
    pub(super) stat: fs::Metadata,
}

impl Listed {
    /// Says whether this is a character device 0/0, which overlays use for what is gone.
    pub(super) fn is_whiteout_device(&self) -> bool {
        self.stat.file_type().is_char_device() && self.stat.rdev() == 0
    }
}

impl Scan<'_, '_> {
    pub(super) fn push(&mut self, path: &RepoPath, action: Action) {
        self.changes.push(Change { path: path.clone(), action });
    }

    /// Passes on what has been found so far. Called after every entry: nothing piles up.
    pub(super) fn deliver(&mut self) -> Result<()> {
        self.sink.check()?;
        self.warnings.drain(..).for_each(|warning| self.sink.warn(warning));
        self.changes.drain(..).try_for_each(|change| self.sink.change(change))
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
        self.warnings.extend(names::check(path, file_type, stat.nlink())?);
        if file_type.is_special() && self.settings.ignore_special {
            self.warnings.push(Warning::SpecialSkipped(path.clone()));
            return Ok(None);
        }
        if file_type == FileType::Regular {
            self.warnings.extend(limits::check_file(&self.settings.limits, path, stat.len())?);
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
            uid: self.owner.map_or_else(|| self.settings.users.of(stat.uid()), |(uid, _)| uid),
            gid: self.owner.map_or_else(|| self.settings.groups.of(stat.gid()), |(_, gid)| gid),
            size,
            mtime: stat.mtime(),
            mtime_ns: stat.mtime_nsec() as u32,
            symlink,
            xattrs,
            given: None,
        }))
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
